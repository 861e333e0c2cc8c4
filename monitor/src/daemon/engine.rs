//! The thread that follows the kernel, and the handle by which others talk to it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::aggregate::Snapshot;
use crate::diagnose::Evidence;
use crate::history::History;
use crate::http::Source;
use crate::session::{LiveOptions, Session, Waker};

/// Without a round for so long the daemon is not healthy.
const STALLED: Duration = Duration::from_secs(10);

/// After so long a question is answered with the last census there is: whoever asks waits 5 s at most.
const STALE_IS_BETTER: Duration = Duration::from_secs(3);

/// What others may ask of the thread.
enum Command {
    Snapshot(oneshot::Sender<Snapshot>),
    /// What was measured over so long; `None` before the first census.
    Evidence(Duration, oneshot::Sender<Option<Evidence>>),
    /// Settings that take effect at once.
    Apply(LiveOptions),
    Stop(oneshot::Sender<LastWord>),
}

/// What the thread says when it ends.
#[derive(Clone, Copy, Debug)]
pub struct LastWord {
    pub events: u64,
    pub lost: u64,
}

/// What the thread shows of itself.
struct Progress {
    started: Instant,
    /// Milliseconds from `started` to the last round.
    last_round: AtomicU64,
    ready: AtomicBool,
}

/// Handle of the thread.
pub struct Engine {
    commands: Mutex<Sender<Command>>,
    waker: Waker,
    progress: Arc<Progress>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(session: Session, waker: Waker) -> io::Result<Self> {
        let (sender, receiver) = channel();
        let progress = Arc::new(Progress {
            started: Instant::now(),
            last_round: AtomicU64::new(0),
            ready: AtomicBool::new(false),
        });
        let shown = progress.clone();
        let thread = thread::Builder::new().name("engine".into()).spawn(move || follow(session, &receiver, &shown))?;
        Ok(Self { commands: Mutex::new(sender), waker, progress, thread })
    }

    fn send(&self, command: Command) {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        // Fails only when the thread has ended; then the answer's channel is closed and says so.
        let _ = commands.send(command);
        drop(commands);
        self.waker.wake();
    }

    /// Whether the thread is gone.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// What was measured over the last `window`; `None` while the daemon starts or ends.
    pub async fn evidence(&self, window: Duration) -> Option<Evidence> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Evidence(window, answer));
        answered.await.ok().flatten()
    }

    /// Settings in force from the next page on.
    pub fn apply(&self, options: LiveOptions) {
        self.send(Command::Apply(options));
    }

    /// Ends the thread: probes detached, ring drained. `None` when it had ended before.
    pub async fn stop(&self) -> Option<LastWord> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Stop(answer));
        answered.await.ok()
    }
}

/// A question for evidence, which waits for a census of its own: listeners, peers and ages are known from there alone.
struct Question {
    window: Duration,
    answer: oneshot::Sender<Option<Evidence>>,
    asked: Instant,
}

fn follow(mut session: Session, commands: &Receiver<Command>, progress: &Progress) {
    let mut history = History::default();
    let mut questions: Vec<Question> = Vec::new();
    loop {
        let more = session.work(&mut ());
        session.remember(&mut history, &mut ());
        let since = u64::try_from(progress.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        progress.last_round.store(since, Ordering::Relaxed);
        if session.is_ready() && !progress.ready.swap(true, Ordering::Release) {
            match session.knows_populations() {
                true => tracing::info!("ready: probes attached, populations known"),
                false => tracing::warn!("ready: probes attached; populations are not known"),
            }
        }
        for command in commands.try_iter() {
            match command {
                Command::Snapshot(answer) => {
                    // Whoever asked may have gone away.
                    let _ = answer.send(session.snapshot(&mut ()));
                }
                Command::Evidence(window, answer) => questions.push(Question { window, answer, asked: Instant::now() }),
                Command::Apply(options) => session.apply(options),
                Command::Stop(answer) => {
                    let core = session.close(&mut ());
                    let _ = answer.send(LastWord { events: core.events(), lost: core.lost().ring_full });
                    return;
                }
            }
        }
        let is_answerable =
            |question: &mut Question| session.is_fresh(question.asked) || question.asked.elapsed() >= STALE_IS_BETTER;
        let answerable: Vec<Question> = questions.extract_if(.., is_answerable).collect();
        for Question { window, answer, .. } in answerable {
            // Whoever asked may have gone away.
            let _ = answer.send(session.evidence(window, &history, &mut ()));
        }
        if !more {
            session.sleep();
        }
    }
}

impl Source for Engine {
    async fn snapshot(&self) -> Option<Snapshot> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Snapshot(answer));
        answered.await.ok()
    }

    fn ready(&self) -> Result<(), String> {
        if self.progress.ready.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err("the first look at the kernel's socket tables is not done yet".into())
        }
    }

    fn healthy(&self) -> bool {
        let last = Duration::from_millis(self.progress.last_round.load(Ordering::Relaxed));
        !self.has_ended() && self.progress.started.elapsed().saturating_sub(last) < STALLED
    }
}
