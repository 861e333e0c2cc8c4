//! The exporter web configuration as written: YAML with the keys of the Prometheus exporter-toolkit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// The whole file. Unknown keys are errors: a misspelt `basic_auth_users` would leave the door open.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebFile {
    pub tls_server_config: Option<TlsSection>,
    pub http_server_config: Option<HttpSection>,
    /// User to bcrypt hash.
    pub basic_auth_users: Option<BTreeMap<String, String>>,
}

/// Paths are relative to the directory of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    #[serde(default)]
    pub client_auth_type: ClientAuthType,
    pub client_ca_file: Option<PathBuf>,
    pub client_allowed_sans: Option<Vec<String>>,
    #[serde(default = "TlsVersion::default_min")]
    pub min_version: TlsVersion,
    #[serde(default = "TlsVersion::default_max")]
    pub max_version: TlsVersion,
}

/// What a client must show, as Go's crypto/tls names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ClientAuthType {
    #[default]
    NoClientCert,
    RequestClientCert,
    #[serde(alias = "RequireClientCert")]
    RequireAnyClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

impl ClientAuthType {
    /// Needs certificates to verify against.
    pub fn verifies(self) -> bool {
        match self {
            Self::VerifyClientCertIfGiven | Self::RequireAndVerifyClientCert => true,
            Self::NoClientCert | Self::RequestClientCert | Self::RequireAnyClientCert => false,
        }
    }

    /// A client without a certificate is refused.
    pub fn requires(self) -> bool {
        match self {
            Self::RequireAnyClientCert | Self::RequireAndVerifyClientCert => true,
            Self::NoClientCert | Self::RequestClientCert | Self::VerifyClientCertIfGiven => false,
        }
    }
}

/// TLS 1.0 and 1.1 are not offered (RFC 8996).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum TlsVersion {
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

impl TlsVersion {
    fn default_min() -> Self {
        Self::Tls12
    }
    fn default_max() -> Self {
        Self::Tls13
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSection {
    /// Taken for the sake of files that set it: this server speaks HTTP/1.1, which every client also speaks.
    #[serde(rename = "http2")]
    pub _http2: Option<bool>,
    /// Added to every answer.
    pub headers: Option<BTreeMap<String, String>>,
}

/// Reads the text of a file; an empty one is a file without settings.
///
/// # Errors
/// The line, if known, and one line of what is wrong there; never a part of the text, which holds password hashes.
pub fn parse(text: &str) -> Result<WebFile, (Option<u64>, String)> {
    serde_saphyr::from_str::<Option<WebFile>>(text).map(Option::unwrap_or_default).map_err(|error| {
        let error = error.without_snippet();
        (error.location().map(|location| location.line()), describe(error))
    })
}

fn describe(error: &serde_saphyr::Error) -> String {
    match error {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
            format!("unknown key `{field}` (known here: {})", expected.join(", "))
        }
        serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("unknown value `{variant}` (known here: {})", expected.join(", "))
        }
        serde_saphyr::Error::SerdeMissingField { field, .. } => format!("key `{field}` is missing"),
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named_with_their_line() {
        #[track_caller]
        fn check(text: &str, line: u64, expected: &str) {
            let (at, what) = parse(text).unwrap_err();
            assert_eq!((at, what.as_str()), (Some(line), expected));
        }
        check(
            "basic_auth_user:\n  a: b\n",
            1,
            "unknown key `basic_auth_user` (known here: tls_server_config, http_server_config, basic_auth_users)",
        );
        check("# head\nhttp_server_config:\n  header: {}\n", 3, "unknown key `header` (known here: http2, headers)");
        check("tls_server_config:\n  cert_file: a\n", 2, "key `key_file` is missing");
        check(
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  min_version: TLS10\n",
            4,
            "unknown value `TLS10` (known here: TLS12, TLS13)",
        );
    }

    #[test]
    fn no_error_shows_the_text() {
        for text in ["basic_auth_users:\n  a: [$2y$secret\n", "basic_auth_users: $2y$secret\n", "a: b: $2y$secret"] {
            let (_, what) = parse(text).unwrap_err();
            assert!(!what.contains("secret") && !what.contains('\n'), "{what}");
        }
    }

    #[test]
    fn files_without_settings_are_fine() {
        for text in ["", "# nothing\n", "{}", "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n"] {
            let file = parse(text).unwrap();
            assert!(file.tls_server_config.is_none() && file.basic_auth_users.is_none());
        }
    }
}
