//! The facts behind a preflight, and the reader that gathers them.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use aya_obj::btf::BtfKind;
use synfin_ebpf::abi::names;

use crate::config::{ListenAddress, NetnsScope, Settings};
use crate::host::{self, KernelRelease, Sysctls};
use crate::kernel::{self, Attempt, RingLayout};
use crate::privilege::{self, Held};
use crate::socket::{Answer, AskError, Question, ask};

/// Everything that [`super::assess()`] judges by.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// `uname -r`; an error in words when it could not be read.
    pub release: Result<String, String>,
    /// Where the kernel's type information is read, as configured.
    pub btf_path: PathBuf,
    pub btf: BtfFact,
    /// The events of tracefs can be read, which the classic tracepoint needs.
    pub tracefs: bool,
    pub held: Result<Held, String>,
    /// The process is in the initial user namespace, the only one whose capabilities count for BPF; `None` unknown.
    pub initial_user_namespace: Option<bool>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<u8>,
    pub lockdown: Lockdown,
    /// `net.core.bpf_jit_enable`.
    pub bpf_jit_enable: Option<u8>,
    /// `kernel.bpf_stats_enabled`.
    pub bpf_stats_enabled: Option<u8>,
    /// Soft and hard bound on locked memory, bytes; inside, `None` is infinity.
    pub memlock: Result<(Option<u64>, Option<u64>), String>,
    /// Socket diagnosis over netlink answers.
    pub sock_diag: Result<(), String>,
    pub sysctls: Sysctls,
    pub cgroup2: Option<PathBuf>,
    /// Addresses that the daemon would listen on.
    pub ports: Vec<(String, PortState)>,
    /// As configured.
    pub netns: NetnsScope,
    /// Network namespaces that can be seen.
    pub namespaces: u64,
    /// A thread could enter a network namespace; not tried unless all are wanted.
    pub enter_netns: Option<Result<(), String>>,
    /// As configured.
    pub ring_bytes: u32,
    /// What becomes of them.
    pub ring: Result<RingLayout, String>,
    /// Real trials to load and attach, in any order; empty when there were none, and then presence in BTF decides.
    pub trials: Vec<ProbeTrial>,
}

/// Type information of the running kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BtfFact {
    Usable(BtfProbes),
    /// What the daemon would say and end.
    Unusable(String),
}

/// Which attachment points BTF names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BtfProbes {
    pub inet_sock_set_state: bool,
    pub tcp_retransmit_synack: bool,
    pub iter_tcp: bool,
    /// It, and all other functions that the causes of ends are told by.
    pub inet_twsk_kill: bool,
}

/// The trial load of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTrial {
    /// As in the metric `synfin_probe_attached`: `inet_sock_set_state`, `tcp_retransmit_synack`, `iter_tcp`,
    /// `inet_twsk_kill`.
    pub probe: &'static str,
    /// Likewise: `btf_tracepoint`, `raw_tracepoint`, `tracepoint`, `iterator`, `fentry`.
    pub kind: &'static str,
    /// The error in one line.
    pub result: Result<(), String>,
}

/// `/sys/kernel/security/lockdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    Off,
    Integrity,
    Confidentiality,
    /// securityfs is not mounted or says nothing that is known.
    Unknown,
}

impl Lockdown {
    /// From `none [integrity] confidentiality`: the one in brackets is in force.
    pub fn parse(text: &str) -> Self {
        match text.split_once('[').and_then(|(_, rest)| rest.split_once(']')) {
            Some(("none", _)) => Self::Off,
            Some(("integrity", _)) => Self::Integrity,
            Some(("confidentiality", _)) => Self::Confidentiality,
            Some(_) | None => Self::Unknown,
        }
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortState {
    Free,
    /// In use, and a daemon holds the local socket: it is most likely that one.
    Daemon,
    /// Why it cannot be had.
    Refused(String),
}

/// Looks at this host, with `settings` as the daemon would have them. Never fails: what cannot be read is a fact too.
pub fn read_facts(settings: &Settings) -> Facts {
    let sysctl_root = Path::new("/proc/sys");
    let number = |key| host::read_sysctl(sysctl_root, key).and_then(|text| text.parse().ok());
    Facts {
        release: host::read_release().map_err(|error| error.to_string()),
        btf_path: settings.kernel.btf.clone(),
        btf: read_btf(&settings.kernel.btf),
        tracefs: ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
            .iter()
            .any(|root| std::fs::read(Path::new(root).join("events/sock/inet_sock_set_state/id")).is_ok()),
        held: privilege::read_held().map_err(|error| error.to_string()),
        initial_user_namespace: std::fs::read_to_string("/proc/self/uid_map")
            .ok()
            .map(|text| is_initial_uid_map(&text)),
        unprivileged_bpf_disabled: number("kernel.unprivileged_bpf_disabled"),
        lockdown: std::fs::read_to_string("/sys/kernel/security/lockdown")
            .map_or(Lockdown::Unknown, |text| Lockdown::parse(&text)),
        bpf_jit_enable: number("net.core.bpf_jit_enable"),
        bpf_stats_enabled: number("kernel.bpf_stats_enabled"),
        memlock: privilege::read_memlock().map_err(|error| error.to_string()),
        sock_diag: host::probe_sock_diag().map_err(|error| error.to_string()),
        sysctls: host::read_sysctls(sysctl_root),
        cgroup2: host::read_mount(Path::new("/proc/self/mountinfo")),
        ports: settings
            .web
            .listen_addresses
            .iter()
            .map(|address| (address.to_string(), probe_port(address, settings.socket.path.as_deref())))
            .collect(),
        netns: settings.kernel.netns,
        namespaces: host::count_netns(),
        enter_netns: (settings.kernel.netns == NetnsScope::All).then(try_to_enter),
        ring_bytes: settings.kernel.ring_bytes.get(),
        ring: kernel::ring_layout(
            settings.kernel.ring_bytes.get(),
            host::read_release().ok().and_then(|text| KernelRelease::parse(&text)),
        )
        .map_err(|error| error.to_string()),
        trials: Vec::new(),
    }
}

/// Loads and attaches everything for a moment, every way: only the kernel knows what it accepts. Empty without the
/// capabilities or the type information for it, where each trial would say no more than that. A running daemon is not disturbed.
pub fn read_trials(facts: &Facts) -> Vec<ProbeTrial> {
    let allowed = facts.held.as_ref().is_ok_and(|held| privilege::missing(*held, false).is_empty());
    if !allowed || matches!(facts.btf, BtfFact::Unusable(_)) {
        return Vec::new();
    }
    // Before 5.11 maps are counted as locked memory; if that stays too low, the trials say so.
    let _ = privilege::raise_memlock();
    let trial =
        |attempt: Attempt| Some(ProbeTrial { probe: attempt.probe, kind: attempt.kind, result: attempt.result? });
    kernel::try_all(&facts.btf_path).into_iter().filter_map(trial).collect()
}

/// The initial user namespace maps all ids onto themselves (user_namespaces(7)).
fn is_initial_uid_map(text: &str) -> bool {
    text.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Reads it as the daemon does, so that what the daemon would refuse is refused here.
fn read_btf(path: &Path) -> BtfFact {
    let btf = match kernel::read_types(path) {
        Ok((_, btf)) => btf,
        Err(error) => return BtfFact::Unusable(error.to_string()),
    };
    let has = |name, kind| btf.id_by_type_name_kind(name, kind).is_ok();
    BtfFact::Usable(BtfProbes {
        inet_sock_set_state: has("btf_trace_inet_sock_set_state", BtfKind::Typedef),
        tcp_retransmit_synack: has("btf_trace_tcp_retransmit_synack", BtfKind::Typedef),
        iter_tcp: has("bpf_iter_tcp", BtfKind::Func),
        inet_twsk_kill: names::TW_ENDS.iter().all(|program| has(names::function_of(program), BtfKind::Func)),
    })
}

/// Enters the namespace in which this process is already, on a thread that ends there: it takes the same rights as any other.
fn try_to_enter() -> Result<(), String> {
    let enter = || host::enter_netns(&std::fs::File::open("/proc/self/ns/net")?);
    let entered = std::thread::spawn(enter).join();
    entered.map_err(|_| "the trial ended early".to_owned())?.map_err(|error| error.to_string())
}

/// Listens for a moment. `local_socket` is where a running daemon would answer.
fn probe_port(address: &ListenAddress, local_socket: Option<&Path>) -> PortState {
    let bound = address.candidates().and_then(|candidates| TcpListener::bind(candidates.as_slice()));
    match bound {
        Ok(_) => PortState::Free,
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            match local_socket.is_some_and(|path| is_daemons(path, address.port)) {
                true => PortState::Daemon,
                false => PortState::Refused(error.to_string()),
            }
        }
        Err(error) => PortState::Refused(error.to_string()),
    }
}

/// Whether the daemon behind the local socket listens on `port`.
fn is_daemons(local_socket: &Path, port: u16) -> bool {
    match ask(local_socket, Question::Status) {
        Ok(Answer::Status(status)) => status
            .listen
            .iter()
            .any(|address| address.parse::<SocketAddr>().is_ok_and(|address| address.port() == port)),
        Ok(Answer::Evidence(_) | Answer::Error(_)) => false,
        // There is one, but it is not for us to ask.
        Err(AskError::Denied(_)) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lockdown_is_the_word_in_brackets() {
        let check = |text, expected| assert_eq!(Lockdown::parse(text), expected, "{text}");
        check("[none] integrity confidentiality\n", Lockdown::Off);
        check("none [integrity] confidentiality", Lockdown::Integrity);
        check("none integrity [confidentiality]", Lockdown::Confidentiality);
        check("none [more] x", Lockdown::Unknown);
        check("", Lockdown::Unknown);
    }

    #[test]
    fn only_the_initial_user_namespace_maps_everything() {
        let check = |text, expected| assert_eq!(is_initial_uid_map(text), expected, "{text}");
        check("         0          0 4294967295\n", true);
        check("         0     100000      65536\n", false);
        check("0 1000 1\n1 100000 65536\n", false);
        check("", false);
    }

    #[test]
    fn a_port_is_free_taken_or_a_daemons() {
        let directory = std::env::temp_dir().join(format!("synfin-port-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let socket = directory.join("s");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: ListenAddress = taken.local_addr().unwrap().to_string().parse().unwrap();
        let probe = |socket| probe_port(&address, Some(socket));
        assert!(matches!(probe_port(&address, None), PortState::Refused(_)));
        assert!(matches!(probe(&socket), PortState::Refused(_)), "no daemon");
        let daemon = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let answer = |listen: SocketAddr| {
            let reply =
                format!(r#"{{"version":1,"status":{{"synfin":"1","pid":7,"ready":true,"listen":["{listen}"]}}}}"#);
            let daemon = daemon.try_clone().unwrap();
            let served = std::thread::spawn(move || {
                let (mut stream, _) = daemon.accept().unwrap();
                std::io::BufRead::read_line(&mut std::io::BufReader::new(&stream), &mut String::new()).unwrap();
                std::io::Write::write_all(&mut stream, format!("{reply}\n").as_bytes()).unwrap();
            });
            let state = probe(&socket);
            served.join().unwrap();
            state
        };
        let here = taken.local_addr().unwrap();
        assert_eq!(answer(here), PortState::Daemon);
        let elsewhere = answer(SocketAddr::new(here.ip(), here.port() ^ 1));
        assert!(matches!(elsewhere, PortState::Refused(_)), "a daemon on another port: {elsewhere:?}");
        assert_eq!(probe_port(&"127.0.0.1:0".parse().unwrap(), Some(&socket)), PortState::Free);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_btf_of_the_running_kernel_names_every_tracepoint() {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        let found = match read_btf(path) {
            BtfFact::Usable(found) => found,
            BtfFact::Unusable(reason) => {
                return assert!(!path.exists(), "{reason}");
            }
        };
        let all = BtfProbes { inet_sock_set_state: true, tcp_retransmit_synack: true, iter_tcp: true, ..found };
        assert_eq!(found, all);
    }

    #[test]
    fn what_the_daemon_would_refuse_is_refused() {
        let junk = std::env::temp_dir().join(format!("synfin-junk-{}", std::process::id()));
        std::fs::write(&junk, "junk").unwrap();
        let check = |path: &Path, words: &str| {
            let BtfFact::Unusable(reason) = read_btf(path) else { panic!("{} is usable", path.display()) };
            assert!(reason.contains(words) && reason.contains(path.to_str().unwrap()), "{reason}");
        };
        check(&junk, "magic number");
        check(Path::new("/no/such/file"), "No such file");
        std::fs::remove_file(&junk).unwrap();
    }
}
