//! The daemon's side: few clients at a time, short lines, no waiting for those who do not speak.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::file::Place;
use super::protocol::{Answer, Question, Reply, Request, Status};
use crate::config::parse_duration;
use crate::diagnose::Evidence;

/// After a failed accept(), such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where answers come from.
pub trait Answers: Send + Sync + 'static {
    fn status(&self) -> Status;
    /// What was measured over the last `window`, or why there is nothing yet.
    fn evidence(&self, window: Duration) -> impl Future<Output = Result<Evidence, String>> + Send;
}

/// What clients may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clients at a time; one more is told so and sent away.
    pub clients: usize,
    /// Bytes of a request, its end of line included.
    pub line_bytes: u64,
    /// For a request to come, and for its answer to be taken.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { clients: 16, line_bytes: 4096, patience: Duration::from_secs(5) }
    }
}

/// Answers until it is dropped, and then removes the file of the socket.
///
/// # Errors
/// When the runtime does not take the socket: a start-up error.
pub async fn serve<A: Answers>(place: Place, answers: Arc<A>, limits: Limits) -> io::Result<()> {
    let listener = UnixListener::from_std(place.listener.try_clone()?)?;
    let places = Arc::new(Semaphore::new(limits.clients));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("the local socket cannot accept a client: {error}; trying on");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (answers, permit) = (answers.clone(), places.clone().try_acquire_owned());
        tokio::spawn(async move {
            let (reader, mut writer) = stream.into_split();
            let ended = match &permit {
                Ok(_) => converse(reader, &mut writer, answers.as_ref(), limits).await,
                Err(_) => send(&mut writer, &Reply::error("too many clients at a time; try again"), limits).await,
            };
            if let Err(error) = ended {
                tracing::debug!("a client of the local socket left early: {error}");
            }
        });
    }
}

/// One line after the other until the client closes, falls silent, or sends what is no line.
async fn converse<A: Answers>(
    reader: OwnedReadHalf,
    writer: &mut OwnedWriteHalf,
    answers: &A,
    limits: Limits,
) -> io::Result<()> {
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(limits.line_bytes);
        let Ok(read) = timeout(limits.patience, bounded.read_until(b'\n', &mut line)).await else {
            return send(writer, &Reply::error("no question came in time"), limits).await;
        };
        if read? == 0 {
            return Ok(());
        }
        if line.pop_if(|last| *last == b'\n').is_none() {
            // Either the client has gone in mid-line, or what comes next belongs to a line that is too long.
            let reply = Reply::error(format!("a question is one line of at most {} bytes", limits.line_bytes));
            return send(writer, &reply, limits).await;
        }
        let reply = match std::str::from_utf8(&line).map_err(|error| error.to_string()).and_then(Request::parse) {
            Ok(request) => answer(request.question, answers).await,
            Err(reason) => Reply::error(reason),
        };
        send(writer, &reply, limits).await?;
    }
}

async fn answer<A: Answers>(question: Question, answers: &A) -> Reply {
    match question {
        Question::Status => Reply::new(Answer::Status(answers.status())),
        Question::Diagnose { window } => match parse_duration(&window) {
            Ok(window) => match answers.evidence(window).await {
                Ok(evidence) => Reply::new(Answer::Evidence(Box::new(evidence))),
                Err(reason) => Reply::error(reason),
            },
            Err(error) => Reply::error(format!("window: {error}")),
        },
    }
}

async fn send(writer: &mut OwnedWriteHalf, reply: &Reply, limits: Limits) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply).map_err(io::Error::other)?;
    line.push(b'\n');
    timeout(limits.patience, writer.write_all(&line)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
