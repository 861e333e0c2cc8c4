//! The web configuration in force, re-read when one of its files changes.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use rustls::ServerConfig;

use super::auth::Authenticator;
use super::tls;
use super::web_file::{self, WebFile};

#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path}{}: {what}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Malformed { path: PathBuf, line: Option<u64>, what: String },
}

/// What `--web.config.file` names, or nothing: plain HTTP for everybody.
pub struct WebConfig {
    path: Option<PathBuf>,
    state: Mutex<State>,
    pub(super) authenticator: Authenticator,
}

struct State {
    active: Arc<Active>,
    /// What the files looked like when they were last read, well or not.
    stamps: Stamps,
}

/// Settings as used.
#[derive(Default)]
pub(super) struct Active {
    pub tls: Option<Arc<ServerConfig>>,
    pub headers: HeaderMap,
    /// User to bcrypt hash; empty: no authentication.
    pub users: Arc<BTreeMap<String, String>>,
    /// All files that were read.
    files: Vec<PathBuf>,
}

type Stamps = Vec<(PathBuf, Option<Stamp>)>;

/// Device, inode, size, times of change of content and of inode (seconds, nanoseconds).
type Stamp = (u64, u64, u64, [i64; 4]);

impl WebConfig {
    /// Plain HTTP for everybody.
    pub fn none() -> Self {
        let state = State { active: Arc::default(), stamps: Vec::new() };
        Self { path: None, state: Mutex::new(state), authenticator: Authenticator::new() }
    }

    /// Reads the file and all that it names.
    ///
    /// # Errors
    /// One line with file, line and key of the first mistake.
    pub fn load(path: Option<&Path>) -> Result<Self, WebConfigError> {
        let Some(path) = path else { return Ok(Self::none()) };
        let active = read(path)?;
        let state = State { stamps: stamps(&active.files), active: Arc::new(active) };
        Ok(Self { path: Some(path.to_owned()), state: Mutex::new(state), authenticator: Authenticator::new() })
    }

    /// Reads everything again. What was in force stays so when the new files are wrong.
    ///
    /// # Errors
    /// As [`Self::load`]; already logged as one line.
    pub fn reload(&self) -> Result<(), WebConfigError> {
        self.reload_into(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn reload_into(&self, state: &mut State) -> Result<(), WebConfigError> {
        let Some(path) = &self.path else { return Ok(()) };
        // Stamped before reading: what changes while it is read will be read again.
        state.stamps = stamps(state.stamps.iter().map(|(path, _)| path));
        match read(path) {
            Ok(active) => {
                let known = &state.stamps;
                let new = active.files.iter().filter(|file| !known.iter().any(|(path, _)| path == *file));
                let new = stamps(new);
                state.stamps.retain(|(path, _)| active.files.contains(path));
                state.stamps.extend(new);
                state.active = Arc::new(active);
                tracing::info!(path = %path.display(), "web configuration read again");
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "web configuration is wrong; the one read before stays in force");
                Err(error)
            }
        }
    }

    /// The settings in force, after a look at whether a file has changed: a few stat() calls.
    pub(super) fn current(&self) -> Arc<Active> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = state.stamps.iter().any(|(path, stamp)| read_stamp(path) != *stamp);
        if changed {
            // Logged there; the old settings stay.
            let _ = self.reload_into(&mut state);
        }
        state.active.clone()
    }
}

fn stamps(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Stamps {
    paths.into_iter().map(|path| (path.as_ref().to_owned(), read_stamp(path.as_ref()))).collect()
}

/// `None` when there is no such file.
fn read_stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
    Some((meta.dev(), meta.ino(), meta.size(), times))
}

fn read(path: &Path) -> Result<Active, WebConfigError> {
    let text =
        fs::read_to_string(path).map_err(|source| WebConfigError::Unreadable { path: path.to_owned(), source })?;
    let malformed = |line, what| WebConfigError::Malformed { path: path.to_owned(), line, what };
    let WebFile { tls_server_config, http_server_config, basic_auth_users } =
        web_file::parse(&text).map_err(|(line, what)| malformed(line, what))?;
    let mut files = vec![path.to_owned()];
    let tls = match tls_server_config {
        Some(section) => {
            let directory = path.parent().unwrap_or(Path::new(""));
            let section = section.resolved_in(directory);
            files.extend([section.cert_file.clone(), section.key_file.clone()]);
            files.extend(section.client_ca_file.clone());
            let config = tls::server_config(&section);
            Some(Arc::new(config.map_err(|what| malformed(None, format!("tls_server_config.{what}")))?))
        }
        None => None,
    };
    let headers = http_server_config.and_then(|section| section.headers).unwrap_or_default();
    let headers = parse_headers(&headers).map_err(|what| malformed(None, what))?;
    let users = basic_auth_users.unwrap_or_default();
    for (user, hash) in &users {
        if !Authenticator::understands(hash) {
            return Err(malformed(
                None,
                format!("basic_auth_users.{user}: not a bcrypt hash (make one with `htpasswd -nBC 10 {user}`)"),
            ));
        }
    }
    Ok(Active { tls, headers, users: Arc::new(users), files })
}

/// Headers that the server itself writes.
const OWN_HEADERS: [HeaderName; 9] = [
    header::ALLOW,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::DATE,
    header::TRANSFER_ENCODING,
    header::VARY,
    header::WWW_AUTHENTICATE,
];

fn parse_headers(headers: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let mut parsed = HeaderMap::new();
    for (name, value) in headers {
        let key = format!("http_server_config.headers.{}", name.escape_default());
        let name = HeaderName::try_from(name).map_err(|_| format!("{key}: not the name of a header"))?;
        if OWN_HEADERS.contains(&name) {
            return Err(format!("{key}: the server sets this one itself"));
        }
        let value = HeaderValue::try_from(value).map_err(|_| format!("{key}: not the value of a header"))?;
        parsed.insert(name, value);
    }
    Ok(parsed)
}
