//! The daemon: one thread that follows the kernel, one that answers the network. Turns signals and requests into commands.

mod engine;
mod local;
mod reload;
mod service;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::config::{Flags, NetnsScope, Settings};
use crate::host::{KernelRelease, read_own_netns, read_release};
use crate::http::{self, WebConfig};
use crate::kernel::LoadOptions;
use crate::logging::LogHandle;
use crate::privilege;
use crate::session::signals::{Asked, Signals};
use crate::session::{Session, SessionOptions, Tap, Waker};
use crate::socket::Place;
use engine::Engine;
use local::Local;
use reload::Settled;
use service::Service;

/// How long an orderly end may take.
const END_WITHIN: Duration = Duration::from_millis(900);

/// What the settings say of the watch.
///
/// # Errors
/// When this process' own network namespace cannot be told.
fn session_options(settings: &Settings) -> anyhow::Result<SessionOptions> {
    let netns = match settings.kernel.netns {
        NetnsScope::Host => Some(read_own_netns().context("cannot tell the network namespace of this process")?.0),
        NetnsScope::All => None,
    };
    Ok(SessionOptions {
        load: LoadOptions {
            ring_bytes: settings.kernel.ring_bytes.get(),
            netns,
            btf: settings.kernel.btf.clone(),
            only: None,
        },
        max_connections: settings.tracker.max_connections.get(),
        units: settings.metrics.units,
        top: settings.metrics.top,
        endpoints: settings.metrics.endpoints,
        namespaces: settings.metrics.namespaces,
        census_interval: settings.census.interval,
    })
}

/// Refuses to start without the rights that loading needs; one line that names each with its use.
///
/// # Errors
/// The line.
fn check_privileges(settings: &Settings) -> anyhow::Result<()> {
    let held = privilege::read_held().context("cannot read the capabilities of this process")?;
    let missing = privilege::missing(held, settings.kernel.netns == NetnsScope::All);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    bail!("missing {list}; run it as root, or give it these capabilities (the systemd unit does)");
}

/// Gives up what is not needed once the probes are attached.
fn drop_privileges(settings: &Settings) -> anyhow::Result<privilege::Dropped> {
    let release = read_release().ok().and_then(|text| KernelRelease::parse(&text));
    let restricted = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    let restricted = restricted.ok().and_then(|text| text.trim().parse().ok());
    let keep = privilege::keep_set(release, restricted, settings.kernel.netns == NetnsScope::All);
    privilege::drop_all(&keep).context("cannot drop capabilities")
}

/// Attaches the probes and gives up what rights are not needed any more: to be called before the first thread is started,
/// since capabilities belong to threads.
///
/// # Errors
/// Missing rights, or probes that cannot be attached.
pub fn open_session(settings: &Settings, tap: Option<Tap>) -> anyhow::Result<(Session, Waker, privilege::Dropped)> {
    check_privileges(settings)?;
    let held = privilege::read_held().context("cannot read the capabilities of this process")?;
    if let Some(lost) = privilege::lost_without_ptrace(held, settings.kernel.netns == NetnsScope::All) {
        tracing::warn!("{lost}");
    }
    raise_limits();
    let waker = Waker::new().context("cannot create an event descriptor")?;
    tracing::debug!(preferred = privilege::prefer(), "asked for nice -10");
    let session = Session::open(&session_options(settings)?, waker.clone(), tap)?;
    let dropped = drop_privileges(settings)?;
    Ok((session, waker, dropped))
}

/// The daemon before it has anything: from here on a signal ends it in order, whatever it has made by then.
pub struct Daemon {
    runtime: Runtime,
    signals: Signals,
}

impl Daemon {
    /// To be called first of all.
    ///
    /// # Errors
    /// When signals cannot be handled.
    pub fn prepare() -> anyhow::Result<Self> {
        // Starts no thread: capabilities, which belong to threads, are still to be given up.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
        let signals = Signals::catch(&runtime)?;
        Ok(Self { runtime, signals })
    }

    /// Runs until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// Start-up errors: a taken port, missing rights, probes that cannot be attached, bad web configuration.
    pub fn run(self, flags: &Flags, settings: Settings, log: &LogHandle) -> anyhow::Result<()> {
        let web_config = Arc::new(WebConfig::load(settings.web.config_file.as_deref())?);
        let addresses: Vec<String> = settings.web.listen_addresses.iter().map(ToString::to_string).collect();
        let listeners = http::bind(&addresses)?;
        // Before anything else is made or warned of: without these rights there is no daemon.
        check_privileges(&settings)?;
        let place = local::take_place(settings.socket.path.as_deref())?;
        let (session, waker, dropped) = open_session(&settings, None)?;
        tracing::info!("{dropped}");
        for attempt in session.probes().attempts() {
            match &attempt.result {
                Some(Ok(())) => tracing::info!(probe = attempt.probe, kind = attempt.kind, "attached"),
                Some(Err(error)) => {
                    tracing::warn!(probe = attempt.probe, kind = attempt.kind, "not attached: {error}");
                }
                None => {}
            }
        }
        let engine = Engine::start(session, waker)?;
        let Self { runtime, signals } = self;
        let settled = Settled { flags, settings, web_config, log };
        runtime.block_on(serve(engine, listeners, place, signals, settled))
    }
}

/// Thousands of connections to the page must not exhaust the descriptors.
fn raise_limits() {
    if let Err(error) = crate::host::open_files::raise_limit() {
        tracing::debug!("cannot raise the limit of open files: {error}");
    }
    if let Err(error) = privilege::raise_memlock() {
        tracing::debug!("cannot raise the limit of locked memory: {error}");
    }
}

async fn serve(
    engine: Engine,
    listeners: Vec<http::Listener>,
    place: Option<Place>,
    mut signals: Signals,
    mut settled: Settled<'_>,
) -> anyhow::Result<()> {
    for listener in &listeners {
        tracing::info!(address = %listener.address(), path = settled.settings.web.telemetry_path.as_str(), "listening");
    }
    let engine = Arc::new(engine);
    if let Some(place) = place {
        tracing::info!(path = %place.path().display(), "answering on the local socket");
        let listen = listeners.iter().map(|listener| listener.address().to_string()).collect();
        // Ends with the runtime, which removes the file.
        tokio::spawn(local::serve(place, Local::new(engine.clone(), listen)));
    }
    let (stop, stopped) = watch::channel(false);
    let options = http::Options {
        telemetry_path: settled.settings.web.telemetry_path.as_str().to_owned(),
        ..http::Options::default()
    };
    let server = http::serve(listeners, engine.clone(), settled.web_config.clone(), options, until(stopped));
    let server = tokio::spawn(server);
    let mut service = Service::new();
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    let outcome = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop(signal) => { tracing::info!("{signal}: stopping"); break Ok(()) }
                Asked::Hangup => settled.reload(&engine),
            },
            _ = tick.tick() => {
                if engine.has_ended() {
                    break Err(anyhow::anyhow!("the thread that follows the kernel ended by itself; this is a bug"));
                }
                service.report(&*engine);
            }
        }
    };
    service.stopping();
    // A receiver is gone only when the server has ended already.
    let _ = stop.send(true);
    let last = tokio::time::timeout(END_WITHIN, engine.stop()).await;
    match last {
        Ok(Some(last)) => tracing::info!(events = last.events, lost = last.lost, "stopped; the ring is drained"),
        Ok(None) | Err(_) => tracing::warn!("stopped before the ring was drained"),
    }
    server.abort();
    outcome
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone: the end as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
