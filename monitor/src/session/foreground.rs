//! A session in the foreground: until a signal, the end of its time, or its observer has had enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

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

/// Runs `session` and gives back what it left.
///
/// # Errors
/// Those of the observer, and of handling signals.
pub fn run<F: Foreground>(
    session: Session,
    waker: &Waker,
    duration: Option<Duration>,
    observer: F,
) -> anyhow::Result<(Core, F)> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let worker = thread::Builder::new().name("session".into()).spawn(move || follow(session, observer, &stopped))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
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
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = deadline => {}
            () = ended => {}
        }
        anyhow::Ok(())
    })?;
    stop.store(true, Ordering::Relaxed);
    waker.wake();
    worker.join().map_err(|_| anyhow::anyhow!("the thread that follows the kernel ended by itself; this is a bug"))?
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
