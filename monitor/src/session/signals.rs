//! Signals, caught before anything is made that an end by signal would leave behind.

use std::io;

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM or SIGINT, by name.
    Stop(&'static str),
    /// SIGHUP: a daemon reads its configuration again; the terminal of anything else is gone.
    Hangup,
}

/// SIGTERM, SIGINT and SIGHUP. From [`Self::catch`] on they wait to be asked for.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None`: whoever started this program has it ignored (nohup(1)).
    hangup: Option<Signal>,
}

impl Signals {
    /// For a daemon. `runtime` is the one that will ask; it may have started nothing yet.
    ///
    /// # Errors
    /// When a handler cannot be set.
    pub fn catch(runtime: &Runtime) -> anyhow::Result<Self> {
        let _inside = runtime.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot handle SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot handle SIGINT")?,
            hangup: Some(signal(SignalKind::hangup()).context("cannot handle SIGHUP")?),
        })
    }

    /// For a command in the foreground, which goes on without its terminal if it was told so.
    ///
    /// # Errors
    /// When a handler cannot be set.
    pub fn catch_in_foreground(runtime: &Runtime) -> anyhow::Result<Self> {
        let ignored = is_hangup_ignored().context("cannot tell how SIGHUP is handled")?;
        if !ignored {
            return Self::catch(runtime);
        }
        let _inside = runtime.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot handle SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot handle SIGINT")?,
            hangup: None,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Asked {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = hangup => Asked::Hangup,
        }
    }
}

fn is_hangup_ignored() -> io::Result<bool> {
    // SAFETY: all bits zero is a valid value of this plain C structure.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action the call only fills in the structure that we own.
    let status = unsafe { libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut action) };
    if status == 0 { Ok(action.sa_sigaction == libc::SIG_IGN) } else { Err(io::Error::last_os_error()) }
}
