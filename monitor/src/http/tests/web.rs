//! The web configuration over real sockets: TLS, client certificates, users, headers, changes of the files.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version};

use super::*;

struct Authority(Issuer<'static, KeyPair>, String);

/// A certificate and its key, PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), certificate)
    }

    fn issue(&self, names: Vec<SanType>) -> Identity {
        let mut params = CertificateParams::new([]).unwrap();
        params.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        Identity { certificate: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }
}

fn dns(name: &str) -> Vec<SanType> {
    vec![SanType::DnsName(name.try_into().unwrap())]
}

/// Everything a TLS test has on disk.
struct Disk {
    directory: Directory,
    authority: Authority,
}

impl Disk {
    /// Writes `web.yml` with certificate, key and what `more` adds to `tls_server_config`.
    fn new(more: &str) -> Self {
        let disk = Self { directory: Directory::new(), authority: Authority::new() };
        disk.renew();
        disk.directory.write("ca.pem", &disk.authority.1);
        disk.configure(more);
        disk
    }

    fn renew(&self) {
        let identity = self.authority.issue(dns("localhost"));
        self.directory.write("key.pem", &identity.key);
        self.directory.write("cert.pem", &identity.certificate);
    }

    fn configure(&self, more: &str) -> PathBuf {
        self.directory
            .write("web.yml", &format!("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n{more}"))
    }

    fn serve(&self) -> Server {
        Server::with(Limits::default(), WebConfig::load(Some(&self.directory.0.join("web.yml"))).unwrap())
    }

    /// Status of a request over TLS and the certificate that the server showed; `None` when it refused.
    fn get(
        &self,
        server: &Server,
        identity: Option<&Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Option<(u16, CertificateDer<'static>)> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.1.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, server.connect());
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok()?;
        let certificate = stream.conn.peer_certificates()?.first()?.clone().into_owned();
        Some((Reply::parse(&bytes)?.status, certificate))
    }
}

const ALL: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

#[test]
fn tls_serves_and_refuses_what_is_no_tls() {
    let disk = Disk::new("");
    let server = disk.serve();
    assert_eq!(disk.get(&server, None, ALL).unwrap().0, 200);
    assert_eq!(disk.get(&server, None, &[&version::TLS12]).unwrap().0, 200);
    let mut plain = server.connect();
    send(&mut plain, "GET", "/metrics", &[]);
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(Reply::parse(&answer).is_none());
    assert_eq!(disk.get(&server, None, ALL).unwrap().0, 200);
}

#[test]
fn versions_are_bounded() {
    let disk = Disk::new("  min_version: TLS13\n");
    let server = disk.serve();
    assert!(disk.get(&server, None, &[&version::TLS12]).is_none());
    assert_eq!(disk.get(&server, None, ALL).unwrap().0, 200);
    let disk = Disk::new("  max_version: TLS12\n");
    let server = disk.serve();
    assert!(disk.get(&server, None, &[&version::TLS13]).is_none());
}

#[test]
fn client_certificates() {
    #[track_caller]
    fn check(auth: &str, with_authority: bool, sans: &str, none: bool, known: bool, foreign: bool) {
        let mut more = format!("  client_auth_type: {auth}\n");
        if with_authority {
            more += "  client_ca_file: ca.pem\n";
        }
        if !sans.is_empty() {
            more += &format!("  client_allowed_sans: [{sans}]\n");
        }
        let disk = Disk::new(&more);
        let server = disk.serve();
        let names = vec![
            SanType::DnsName("scraper.example".try_into().unwrap()),
            SanType::IpAddress([192, 0, 2, 1].into()),
            SanType::URI("spiffe://a/scraper".try_into().unwrap()),
        ];
        let (one, other) = (disk.authority.issue(names.clone()), Authority::new().issue(names));
        for (identity, expected) in [(None, none), (Some(&one), known), (Some(&other), foreign)] {
            for versions in [ALL, &[&version::TLS12]] {
                let status = disk.get(&server, identity, versions).map(|(status, _)| status);
                assert_eq!(status, expected.then_some(200), "{more}");
            }
        }
    }
    // Without a certificate, with one of the authority, with one of another.
    check("NoClientCert", false, "", true, true, true);
    check("RequestClientCert", false, "", true, true, true);
    check("RequireAnyClientCert", false, "", false, true, true);
    check("VerifyClientCertIfGiven", true, "", true, true, false);
    check("RequireAndVerifyClientCert", true, "", false, true, false);
    check("RequireAndVerifyClientCert", true, "scraper.example", false, true, false);
    check("RequireAndVerifyClientCert", true, "other.example, 192.0.2.1", false, true, false);
    check("RequireAndVerifyClientCert", true, "\"spiffe://a/scraper\"", false, true, false);
    check("RequireAndVerifyClientCert", true, "other.example, 192.0.2.2", false, false, false);
}

#[test]
fn renewed_certificates_are_used_and_broken_ones_are_not() {
    let disk = Disk::new("");
    let server = disk.serve();
    let (_, first) = disk.get(&server, None, ALL).unwrap();
    disk.renew();
    let (_, second) = disk.get(&server, None, ALL).unwrap();
    assert!(first != second, "the old certificate is still shown");
    disk.directory.write("cert.pem", "nothing");
    assert!(server.config.reload().is_err());
    assert_eq!(disk.get(&server, None, ALL).unwrap(), (200, second.clone()));
    disk.renew();
    let (_, third) = disk.get(&server, None, ALL).unwrap();
    assert!(third != second);
    disk.directory.write("web.yml", "nonsense: 1\n");
    assert_eq!(disk.get(&server, None, ALL).unwrap(), (200, third));
}

#[test]
fn users_and_their_passwords() {
    let directory = Directory::new();
    let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
    let path = directory.write("web.yml", &format!("basic_auth_users:\n  prometheus: {}\n", hash("geheim:ß")));
    let server = Server::with(Limits::default(), WebConfig::load(Some(&path)).unwrap());
    let status = |credentials: &str| {
        let field = format!("Authorization: Basic {}", BASE64_STANDARD.encode(credentials));
        server.get("/metrics", &[&field]).status
    };
    assert_eq!(status("prometheus:geheim:ß"), 200);
    assert_eq!(status("prometheus:geheim"), 401);
    assert_eq!(status("nobody:geheim:ß"), 401);
    assert_eq!(status("prometheus:geheim:ß"), 200);
    for path in ["/metrics", "/", "/-/healthy", "/nothing"] {
        let refused = server.get(path, &[]);
        assert_eq!((refused.status, refused.field("www-authenticate").is_some()), (401, true), "{path}");
    }
    directory.write("web.yml", &format!("basic_auth_users:\n  prometheus: {}\n", hash("new")));
    assert_eq!((status("prometheus:new"), status("prometheus:geheim:ß")), (200, 401));
    std::fs::remove_file(&path).unwrap();
    assert_eq!((status("prometheus:new"), status("prometheus:geheim:ß")), (200, 401));
}

#[test]
fn headers_are_added_to_every_answer() {
    let directory = Directory::new();
    let path = directory.write(
        "web.yml",
        "http_server_config:\n  http2: true\n  headers:\n    X-Frame-Options: deny\n    X-Content-Type-Options: nosniff\n",
    );
    let server = Server::with(Limits::default(), WebConfig::load(Some(&path)).unwrap());
    for path in ["/metrics", "/nothing"] {
        let reply = server.get(path, &[]);
        assert_eq!(
            (reply.field("x-frame-options"), reply.field("x-content-type-options")),
            (Some("deny"), Some("nosniff"))
        );
    }
}

#[test]
fn a_wrong_configuration_is_one_clear_line() {
    let directory = Directory::new();
    let authority = Authority::new();
    let identity = authority.issue(dns("localhost"));
    directory.write("cert.pem", &identity.certificate);
    directory.write("key.pem", &identity.key);
    directory.write("other.pem", &authority.issue(dns("localhost")).key);
    let check = |text: &str, expected: &str| {
        let path = directory.write("web.yml", text);
        let error = WebConfig::load(Some(&path)).err().expect(text).to_string();
        let shown = directory.0.display().to_string();
        assert_eq!(error.replace(&shown, "DIR"), expected);
    };
    let tls = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n";
    check(
        "a: 1\n",
        "DIR/web.yml, line 1: unknown key `a` (known here: tls_server_config, http_server_config, basic_auth_users)",
    );
    check(
        "basic_auth_users:\n  a: plain\n",
        "DIR/web.yml: basic_auth_users.a: not a bcrypt hash (make one with `htpasswd -nBC 10 a`)",
    );
    check(
        "http_server_config:\n  headers:\n    Content-Type: a\n",
        "DIR/web.yml: http_server_config.headers.Content-Type: the server sets this one itself",
    );
    check(
        "http_server_config:\n  headers:\n    \"a b\": a\n",
        "DIR/web.yml: http_server_config.headers.a b: not the name of a header",
    );
    check(
        &format!("{tls}  client_auth_type: RequireAndVerifyClientCert\n"),
        "DIR/web.yml: tls_server_config.client_ca_file: is missing, and RequireAndVerifyClientCert verifies against it",
    );
    check(
        &format!("{tls}  client_ca_file: cert.pem\n"),
        "DIR/web.yml: tls_server_config.client_auth_type: NoClientCert does not use client_ca_file \
         (write RequireAndVerifyClientCert)",
    );
    check(
        &format!("{tls}  client_allowed_sans: [a]\n"),
        "DIR/web.yml: tls_server_config.client_allowed_sans: needs a client_auth_type other than NoClientCert",
    );
    check(
        &format!("{tls}  min_version: TLS13\n  max_version: TLS12\n"),
        "DIR/web.yml: tls_server_config.min_version: is above max_version",
    );
    check(
        "tls_server_config:\n  cert_file: key.pem\n  key_file: key.pem\n",
        "DIR/web.yml: tls_server_config.cert_file: cannot read certificates from DIR/key.pem: it holds none",
    );
    let missing = WebConfig::load(Some(&directory.0.join("none.yml"))).err().unwrap().to_string();
    assert!(missing.ends_with("none.yml: No such file or directory (os error 2)"), "{missing}");
    let text = "tls_server_config:\n  cert_file: cert.pem\n  key_file: other.pem\n";
    let error = WebConfig::load(Some(&directory.write("web.yml", text))).err().unwrap().to_string();
    assert!(error.contains("tls_server_config.key_file:") && error.contains("does not fit"), "{error}");
}
