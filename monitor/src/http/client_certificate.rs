//! Which client certificates are taken: by chain, by name, or any.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// A name that a client certificate may carry as subject alternative name, compared exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedName {
    Dns(String),
    Ip(IpAddr),
    Uri(String),
}

impl AllowedName {
    /// # Errors
    /// For e-mail names, which are not compared.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name.parse() {
            Ok(ip) => Ok(Self::Ip(ip)),
            Err(_) if name.contains("://") || name.starts_with("urn:") => Ok(Self::Uri(name.to_owned())),
            Err(_) if name.contains('@') => Err(format!("`{name}`: e-mail names are not supported")),
            Err(_) => Ok(Self::Dns(name.to_owned())),
        }
    }

    fn is_in(&self, certificate: &webpki::EndEntityCert<'_>) -> bool {
        match self {
            Self::Dns(name) => certificate.valid_dns_names().any(|presented| presented.eq_ignore_ascii_case(name)),
            Self::Uri(name) => certificate.valid_uri_names().any(|presented| presented == name),
            Self::Ip(ip) => certificate.verify_is_valid_for_subject_name(&ServerName::IpAddress((*ip).into())).is_ok(),
        }
    }
}

/// Checks the chain if there is one to check against, and the names if any are listed. Possession of the key is
/// always checked.
#[derive(Debug)]
pub struct ClientCertificate {
    chain: Option<Arc<dyn ClientCertVerifier>>,
    mandatory: bool,
    /// Empty: any.
    allowed: Vec<AllowedName>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertificate {
    pub fn new(
        chain: Option<Arc<dyn ClientCertVerifier>>,
        mandatory: bool,
        allowed: Vec<AllowedName>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self { chain, mandatory, allowed, provider }
    }
}

impl ClientCertVerifier for ClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(end_entity, intermediates, now)?;
        }
        if !self.allowed.is_empty() {
            let certificate = webpki::EndEntityCert::try_from(end_entity)
                .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
            if !self.allowed.iter().any(|name| name.is_in(&certificate)) {
                return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        #[track_caller]
        fn check(name: &str, expected: Result<AllowedName, &str>) {
            assert_eq!(AllowedName::parse(name), expected.map_err(str::to_owned));
        }
        check("prometheus.example", Ok(AllowedName::Dns("prometheus.example".into())));
        check("192.0.2.1", Ok(AllowedName::Ip([192, 0, 2, 1].into())));
        check("spiffe://cluster/ns/a", Ok(AllowedName::Uri("spiffe://cluster/ns/a".into())));
        check("a@b.example", Err("`a@b.example`: e-mail names are not supported"));
    }
}
