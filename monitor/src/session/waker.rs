//! Wakes a session that sleeps until the ring has something or time is up.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// The waking side: clone it, call [`Waker::wake`] from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<File>);

impl Waker {
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> std::io::Result<Self> {
        // SAFETY: asks for a new descriptor.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and ours alone.
        Ok(Self(Arc::new(unsafe { File::from_raw_fd(fd) })))
    }

    /// Ends the current or the next sleep.
    pub fn wake(&self) {
        // Fails only when the counter is full, and then a wake-up is pending anyway.
        let _ = (&*self.0).write(&1u64.to_ne_bytes());
    }

    /// Sleeps until `ring` is readable, [`Waker::wake`] is called, or `timeout` is over.
    pub fn sleep(&self, ring: RawFd, timeout: Duration) {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [poll(self.0.as_raw_fd()), poll(ring)];
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: two initialized entries.
        unsafe { libc::poll(fds.as_mut_ptr(), 2, milliseconds) };
        if fds[0].revents != 0 {
            // Takes all wake-ups so far; there is at least one.
            let _ = (&*self.0).read(&mut [0; 8]);
        }
    }
}
