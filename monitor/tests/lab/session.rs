//! A session in this process, driven by a thread of its own as the daemon drives it: for kernels without the daemon's program.

use super::netns::Netns;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use synfin::aggregate::Snapshot;
use synfin::config::EndpointDetail;
use synfin::kernel::{LoadOptions, Way};
use synfin::session::{Session, SessionOptions, Waker, clock};

/// How long a census may keep everyone waiting, on an emulated processor too.
const LIMIT: Duration = Duration::from_secs(30);
const CENSUS_INTERVAL: Duration = Duration::from_millis(50);

pub struct Driven {
    session: Arc<Mutex<Session>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Driven {
    /// Watches `netns` from inside it. `only`: attaches this way and no other.
    pub fn start(netns: &Netns, only: Option<Way>) -> Self {
        let load =
            LoadOptions { ring_bytes: 1 << 20, netns: Some(netns.inum() as u32), btf: LoadOptions::kernel_btf(), only };
        let options = SessionOptions {
            load,
            max_connections: 100_000,
            units: 60,
            top: 30,
            namespaces: 30,
            endpoints: EndpointDetail::Full,
            census_interval: CENSUS_INTERVAL,
        };
        let session = netns.run(|| Session::open(&options, Waker::new().expect("a waker"), None));
        let session = Arc::new(Mutex::new(session.unwrap_or_else(|error| panic!("{only:?}: {error}"))));
        let stop = Arc::new(AtomicBool::new(false));
        let (of_thread, stopped, entered) = (session.clone(), stop.clone(), netns.entrance());
        let thread = std::thread::spawn(move || {
            entered.enter();
            while !stopped.load(Ordering::Relaxed) {
                lock(&of_thread).work(&mut ());
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { session, stop, thread: Some(thread) }
    }

    pub fn session(&self) -> MutexGuard<'_, Session> {
        lock(&self.session)
    }

    /// Everything known once two censuses began and ended after now, so that late records and silent turns are settled.
    pub fn settled(&self, netns: &Netns) -> Snapshot {
        let (begin, waiting) = (clock::unix_now(), Instant::now());
        let mut first = None;
        loop {
            assert!(waiting.elapsed() < LIMIT, "no census within {LIMIT:?}");
            let snapshot = netns.run(|| {
                let mut session = self.session();
                session.hasten_census();
                session.snapshot(&mut ())
            });
            let census = snapshot.census;
            let done = census.at_unix_seconds.filter(|ended| ended - census.duration_seconds > begin);
            match (first, done) {
                (Some(before), Some(now)) if now > before => return snapshot,
                (None, Some(now)) => first = Some(now),
                (None | Some(_), _) => {}
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}
