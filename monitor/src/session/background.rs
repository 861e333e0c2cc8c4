//! Work on a thread of its own, so that the ring is drained meanwhile. The thread ends with it, wherever it has moved to.

use std::io;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use super::waker::Waker;

/// Work under way.
pub struct Background<T>(Receiver<io::Result<T>>);

impl<T: Send + 'static> Background<T> {
    /// Starts `work`; `waker` is called at the end. `name` is the thread's.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(name: &str, waker: Waker, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = channel();
        thread::Builder::new().name(name.into()).spawn(move || {
            // The receiver is gone only when the session ends.
            let _ = sender.send(work());
            waker.wake();
        })?;
        Ok(Self(receiver))
    }

    /// The result, once there is one.
    pub fn poll(&self) -> Option<io::Result<T>> {
        match self.0.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(io::Error::other("the reading thread ended early"))),
        }
    }
}
