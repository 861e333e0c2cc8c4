//! Accepts connections and answers them until told to end.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::connection::{converse, overstayed};
use super::respond::Responder;
use super::table::{Slot, Table};
use super::{Listener, Options, Source, WebConfig};

/// How long answers under way may take once the server is to end.
const GRACE: Duration = Duration::from_secs(2);

/// Pause after accept() failed: with no file descriptors left it would fail again at once, at full CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `source` on all `listeners` until `shutdown` is done, then finishes answers under way for up to two seconds.
///
/// Needs a tokio runtime of either kind, with time and I/O. Encoding and password hashing run on its blocking threads.
///
/// # Errors
/// When a listener cannot be registered with the runtime: a start-up error. Nothing later ends it.
pub async fn serve<S: Source>(
    listeners: Vec<Listener>,
    source: Arc<S>,
    web_config: Arc<WebConfig>,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listeners =
        listeners.into_iter().map(|listener| TcpListener::from_std(listener.socket)).collect::<io::Result<Vec<_>>>()?;
    let Options { telemetry_path, limits } = options;
    let table = Table::new(limits.connections);
    let responder = Arc::new(Responder { source, web_config, telemetry_path, limits });
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let (mut turn, mut failing) = (0, false);
    loop {
        tokio::select! {
            biased;
            () = shutdown.as_mut() => break,
            accepted = accept(&listeners, turn) => match accepted {
                Ok(stream) => {
                    (turn, failing) = (turn.wrapping_add(1), false);
                    // All places are being answered: closing tells the client at once, a queue would let it wait.
                    if let Some(slot) = table.admit(Instant::now()) {
                        connections.spawn(handle_connection(stream, slot, responder.clone(), stopped.clone()));
                    }
                }
                Err(error) => {
                    // Once a spell: with no file descriptors left it fails again and again.
                    if !failing {
                        tracing::warn!(%error, "the metrics server cannot accept connections; trying on");
                    }
                    failing = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            // Keeps the set from growing; a panic in a connection ends that connection only.
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listeners);
    stop.send_replace(true);
    // What is not done by then is aborted by dropping the set.
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// The next connection on any of them, never ready if there are none. `turn` says which one is looked at first, so
/// that a flood on one address does not silence another.
async fn accept(listeners: &[TcpListener], turn: usize) -> io::Result<TcpStream> {
    let first = turn.checked_rem(listeners.len()).unwrap_or(0);
    std::future::poll_fn(|cx| {
        for listener in listeners[first..].iter().chain(&listeners[..first]) {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    })
    .await
}

async fn handle_connection<S: Source>(
    stream: TcpStream,
    slot: Slot,
    responder: Arc<Responder<S>>,
    stop: watch::Receiver<bool>,
) {
    // Answers are one write; without it the last segment may wait for an acknowledgement. Failing costs only that.
    let _ = stream.set_nodelay(true);
    let Some(tls) = responder.web_config.current().tls.clone() else {
        return converse(stream, &slot, &responder, stop).await;
    };
    let handshake = TlsAcceptor::from(tls).accept(stream);
    let stream = tokio::select! {
        result = handshake => match result {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "a TLS handshake failed"),
        },
        () = slot.evicted() => return,
        () = overstayed(&slot.activity, &responder.limits) => return,
    };
    converse(stream, &slot, &responder, stop).await;
}
