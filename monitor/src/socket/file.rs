//! The place of the local socket in the file system: who may have it, and leaving it clean.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// Owner and group may ask.
const MODE: u32 = 0o660;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("the local socket {0} is served by another synfin daemon; stop that one, or name another with --socket")]
    Living(PathBuf),
    #[error("{0} is in the way of the local socket and is none itself; remove it, or name another with --socket")]
    NoSocket(PathBuf),
    #[error("cannot make the local socket {path}: {source}; name another with --socket, or none with --socket ''")]
    Io { path: PathBuf, source: io::Error },
}

/// A listening socket with its file, which is removed when this is dropped.
#[derive(Debug)]
pub struct Place {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode: somebody may have put another file there.
    file: (u64, u64),
}

impl Place {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if identify(&self.path).is_ok_and(|file| file == self.file)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), "cannot remove the local socket: {error}");
        }
    }
}

fn identify(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Listens on `path`. Its directory is made if there is none; the file that a dead daemon left is replaced.
///
/// # Errors
/// When a living daemon answers there, when something else is there, when rights are missing.
pub fn take_place(path: &Path) -> Result<Place, PlaceError> {
    let failed = |source| PlaceError::Io { path: path.to_owned(), source };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
    }
    clear(path)?;
    let listener = listen(path).map_err(failed)?;
    let file = identify(path).map_err(failed)?;
    let place = Place { listener, path: path.to_owned(), file };
    // The umask may have taken the group's rights.
    std::fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(failed)?;
    Ok(place)
}

/// Makes room, if what is there is what a dead daemon left.
fn clear(path: &Path) -> Result<(), PlaceError> {
    let failed = |source| PlaceError::Io { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(PlaceError::NoSocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(PlaceError::Living(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(failed),
        // A full queue: somebody is there, and busy.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(PlaceError::Living(path.to_owned())),
        Err(error) => Err(failed(error)),
    }
}

/// The mode is set before bind(): at no moment may others connect, whatever the umask.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let file = File::from(OwnedFd::from(socket));
    file.set_permissions(Permissions::from_mode(MODE))?;
    let socket = Socket::from(OwnedFd::from(file));
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(OwnedFd::from(socket).into())
}
