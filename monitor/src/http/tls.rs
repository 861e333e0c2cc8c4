//! `tls_server_config` as a rustls configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::client_certificate::{AllowedName, ClientCertificate};
use super::web_file::{ClientAuthType, TlsSection, TlsVersion};

impl TlsSection {
    /// The same with its paths taken from `directory`, unless they are absolute.
    pub fn resolved_in(mut self, directory: &Path) -> Self {
        for path in [&mut self.cert_file, &mut self.key_file].into_iter().chain(&mut self.client_ca_file) {
            *path = directory.join(&*path);
        }
        self
    }
}

/// Reads certificates and keys; paths must be resolved.
///
/// # Errors
/// Key and reason, to be put after `tls_server_config.`.
pub fn server_config(section: &TlsSection) -> Result<ServerConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates("cert_file", &section.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&section.key_file)
        .map_err(|error| format!("key_file: cannot read a private key from {}: {error}", section.key_file.display()))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(section.min_version, section.max_version)?)
        .map_err(|error| format!("min_version: {error}"))?;
    let builder = match client_verifier(section, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        format!("key_file: {} does not fit {}: {error}", section.key_file.display(), section.cert_file.display())
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn versions(min: TlsVersion, max: TlsVersion) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    match (min, max) {
        (TlsVersion::Tls12, TlsVersion::Tls12) => Ok(vec![&version::TLS12]),
        (TlsVersion::Tls12, TlsVersion::Tls13) => Ok(vec![&version::TLS13, &version::TLS12]),
        (TlsVersion::Tls13, TlsVersion::Tls13) => Ok(vec![&version::TLS13]),
        (TlsVersion::Tls13, TlsVersion::Tls12) => Err("min_version: is above max_version".to_owned()),
    }
}

/// All certificates of a PEM file: at least one.
fn certificates(key: &str, path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, String> {
    let cannot = |reason: String| format!("{key}: cannot read certificates from {}: {reason}", path.display());
    let read: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| cannot(error.to_string()))?.collect();
    let certificates = read.map_err(|error| cannot(error.to_string()))?;
    if certificates.is_empty() { Err(cannot("it holds none".to_owned())) } else { Ok(certificates) }
}

fn client_verifier(
    section: &TlsSection,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<ClientCertificate>>, String> {
    let auth = section.client_auth_type;
    let names = section.client_allowed_sans.as_deref().unwrap_or_default();
    let chain = match (&section.client_ca_file, auth.verifies()) {
        (Some(path), true) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("client_ca_file", path)? {
                let added = roots.add(certificate);
                added.map_err(|error| format!("client_ca_file: {} holds an unusable one: {error}", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
            Some(verifier.map_err(|error| format!("client_ca_file: {error}"))?)
        }
        (None, true) => return Err(format!("client_ca_file: is missing, and {auth:?} verifies against it")),
        (Some(_), false) => {
            return Err(format!(
                "client_auth_type: {auth:?} does not use client_ca_file (write RequireAndVerifyClientCert)"
            ));
        }
        (None, false) => None,
    };
    if auth == ClientAuthType::NoClientCert {
        return match names {
            [] => Ok(None),
            _ => Err("client_allowed_sans: needs a client_auth_type other than NoClientCert".to_owned()),
        };
    }
    let allowed = names.iter().map(|name| AllowedName::parse(name)).collect::<Result<_, _>>();
    let allowed = allowed.map_err(|error| format!("client_allowed_sans: {error}"))?;
    Ok(Some(Arc::new(ClientCertificate::new(chain, auth.requires(), allowed, provider.clone()))))
}
