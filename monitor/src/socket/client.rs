//! The asking side: one question, one reply, within a bound of time and size.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::{Answer, PROTOCOL, Question, Reply, Request};

/// For each step; the daemon answers within a round of its loop, milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a reply: about a hundred times what the bounds of the daemon allow.
const LONGEST: u64 = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("no daemon answers at {0}")]
    NoDaemon(PathBuf),
    #[error("a daemon serves {0}, but this user may not ask it; run this as root or as a member of the socket's group")]
    Denied(PathBuf),
    #[error("the daemon at {path} does not answer: {source}")]
    Silent { path: PathBuf, source: io::Error },
    #[error("the daemon at {path} speaks another language: {reason}; use the same version of synfin")]
    Foreign { path: PathBuf, reason: String },
    #[error("the daemon at {path} refuses: {reason}")]
    Refused { path: PathBuf, reason: String },
}

/// Asks the daemon behind the socket at `path`. The answer is never [`Answer::Error`].
pub fn ask(path: &Path, question: Question) -> Result<Answer, AskError> {
    let path_buf = || path.to_owned();
    let silent = |source| AskError::Silent { path: path_buf(), source };
    let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => AskError::NoDaemon(path_buf()),
        ErrorKind::PermissionDenied => AskError::Denied(path_buf()),
        _ => silent(error),
    })?;
    let line = exchange(&stream, &Request { version: PROTOCOL, question }).map_err(silent)?;
    let foreign = |reason: String| AskError::Foreign { path: path_buf(), reason };
    // A version of its own may have answers that this one does not know.
    let version: Version = serde_json::from_slice(&line).map_err(|error| foreign(error.to_string()))?;
    if version.version != PROTOCOL {
        return Err(foreign(format!("protocol {} instead of {PROTOCOL}", version.version)));
    }
    let reply: Reply = serde_json::from_slice(&line).map_err(|error| foreign(error.to_string()))?;
    match reply.answer {
        Answer::Error(reason) => Err(AskError::Refused { path: path_buf(), reason }),
        answer @ (Answer::Status(_) | Answer::Evidence(_)) => Ok(answer),
    }
}

#[derive(serde::Deserialize)]
struct Version {
    version: u32,
}

fn exchange(mut stream: &UnixStream, request: &Request) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reply = Vec::new();
    BufReader::new(stream).take(LONGEST).read_until(b'\n', &mut reply)?;
    match reply.last() {
        Some(b'\n') => Ok(reply),
        Some(_) | None => Err(ErrorKind::UnexpectedEof.into()),
    }
}
