//! A session in the foreground: until a signal, the end of its time, or its observer has had enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::signals::Signals;
use super::{Session, Waker};
use crate::core::{Core, Observer};

/// An observer that prints or saves what it saw between two rounds.
pub trait Foreground: Observer + Send + 'static {
    /// Says whether to go on.
    ///
    /// # Errors
    /// Ends the session: a closed pipe, a full disk.
    fn after_round(&mut self, session: &mut Session) -> anyhow::Result<bool>;
}

/// The end of a session, watched for from before it is opened: to be made first of all.
pub struct Until {
    runtime: Runtime,
    signals: Signals,
}

impl Until {
    /// From here on a signal ends the session in order, whatever has been made by then.
    ///
    /// # Errors
    /// When signals cannot be handled.
    pub fn signal() -> anyhow::Result<Self> {
        // Starts no thread: capabilities, which belong to threads, are still to be given up.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = Signals::catch_in_foreground(&runtime)?;
        Ok(Self { runtime, signals })
    }

    /// Runs `session` and gives back what it left.
    ///
    /// # Errors
    /// Those of the observer.
    pub fn run<F: Foreground>(
        self,
        session: Session,
        waker: &Waker,
        duration: Option<Duration>,
        observer: F,
    ) -> anyhow::Result<(Core, F)> {
        let Self { runtime, mut signals } = self;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let worker =
            thread::Builder::new().name("session".into()).spawn(move || follow(session, observer, &stopped))?;
        runtime.block_on(async {
            let deadline = async {
                match duration {
                    Some(duration) => tokio::time::sleep(duration).await,
                    None => std::future::pending().await,
                }
            };
            let ended = async {
                while !worker.is_finished() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::select! {
                _ = signals.next() => {}
                () = deadline => {}
                () = ended => {}
            }
        });
        stop.store(true, Ordering::Relaxed);
        waker.wake();
        worker
            .join()
            .map_err(|_| anyhow::anyhow!("the thread that follows the kernel ended by itself; this is a bug"))?
    }
}

fn follow<F: Foreground>(mut session: Session, mut observer: F, stop: &AtomicBool) -> anyhow::Result<(Core, F)> {
    let mut go_on = true;
    while go_on && !stop.load(Ordering::Relaxed) {
        let more = session.work(&mut observer);
        go_on = observer.after_round(&mut session)?;
        if go_on && !more {
            session.sleep();
        }
    }
    if go_on {
        // What the ring still holds belongs to the time watched.
        session.drain_all(&mut observer);
        observer.after_round(&mut session)?;
    }
    Ok((session.close(&mut ()), observer))
}
