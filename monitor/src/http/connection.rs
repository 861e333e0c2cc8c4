//! One connection: what it is doing, until when it may, and the exchange of requests and answers on it.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::respond::Responder;
use super::table::Slot;
use super::{Limits, Source};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The client sends a head (or, at the beginning, nothing yet).
    Head,
    /// An answer is being made.
    Handling,
    /// The client takes the answer.
    Answering,
    /// Between requests.
    Idle,
}

/// What a connection is doing, and since when.
pub struct Activity(Mutex<State>);

struct State {
    phase: Phase,
    since: Instant,
    /// It has had an answer.
    served: bool,
}

impl Activity {
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(State { phase: Phase::Head, since: now, served: false }))
    }

    pub fn enter(&self, phase: Phase, now: Instant) {
        let mut state = self.state();
        state.served |= phase == Phase::Idle;
        (state.phase, state.since) = (phase, now);
    }

    /// Enters `to` only from `from`.
    fn pass(&self, from: Phase, to: Phase) {
        if self.state().phase == from {
            self.enter(to, Instant::now());
        }
    }

    /// Whether it has had an answer and since when nothing is done for it; `None` while something is.
    pub fn idle(&self) -> Option<(bool, Instant)> {
        let state = self.state();
        match state.phase {
            Phase::Head | Phase::Answering | Phase::Idle => Some((state.served, state.since)),
            Phase::Handling => None,
        }
    }

    fn deadline(&self, limits: &Limits) -> Instant {
        let state = self.state();
        state.since
            + match state.phase {
                Phase::Head => limits.head,
                // The request has its own limit, which ends in an answer; this one is for a handler that hangs.
                Phase::Handling => limits.request * 2,
                Phase::Answering => limits.response,
                Phase::Idle => limits.idle,
            }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns when the connection has overstayed in its phase, whichever that is by then.
///
/// Must be polled whenever the connection is, as `select!` does: a phase may end sooner than the one before it.
pub async fn overstayed(activity: &Activity, limits: &Limits) {
    let mut sleep = pin!(sleep_until(activity.deadline(limits)));
    std::future::poll_fn(|cx| {
        let deadline = activity.deadline(limits);
        if deadline != sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    })
    .await;
}

/// Answers requests until the client, a limit, an eviction or the end of the server ends it.
pub async fn converse<S, IO>(io: IO, slot: &Slot, responder: &Arc<Responder<S>>, mut stop: watch::Receiver<bool>)
where
    S: Source,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let limits = &responder.limits;
    let activity = &slot.activity;
    let service = service_fn(|request| {
        activity.enter(Phase::Handling, Instant::now());
        let (responder, activity) = (responder.clone(), activity.clone());
        async move {
            let response = responder.answer(request).await;
            activity.enter(Phase::Answering, Instant::now());
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let watched = TokioIo::new(Watched { io, activity: activity.clone() });
    let mut connection = pin!(
        http1::Builder::new()
            // `overstayed` does it: hyper's limit would also end connections that are idle between scrapes.
            .header_read_timeout(None)
            // A client may say that it has no further request and still wait for its answer.
            .half_close(true)
            .max_header_size(limits.head_bytes)
            .max_buf_size(limits.head_bytes.max(HYPER_SMALLEST_BUFFER))
            .max_headers(limits.header_count)
            .serve_connection(watched, service)
    );
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection to the metrics server ended");
                }
                return;
            }
            () = slot.evicted() => return,
            () = overstayed(activity, limits) => return,
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// hyper panics below it (`Builder::max_buf_size`).
const HYPER_SMALLEST_BUFFER: usize = 8192;

/// A stream that tells the beginning of a head and the end of an answer.
struct Watched<IO> {
    io: IO,
    activity: Arc<Activity>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.pass(Phase::Idle, Phase::Head);
        }
        result
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    /// hyper flushes after it has written all that it has.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        if result.is_ready() {
            self.activity.pass(Phase::Answering, Phase::Idle);
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
