//! Advice that is copied from one page to the next: TW-010.

use std::collections::BTreeMap;

use super::finding::{Finding, Measured, Missing, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::sysctl_file::{Setting, SysctlFiles, leading_integer};
use super::text::{count, cut, printable, thousands};
use super::{Evidence, Subject, Sysctls};

/// `TCP_FIN_TIMEOUT` of include/net/tcp.h, seconds.
const DEFAULT_FIN_TIMEOUT: u64 = 60;
/// Characters shown of a value; files may hold anything.
const VALUE: usize = 40;

/// One piece of folklore found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Folly {
    knob: &'static str,
    value: String,
    /// File and line; `None`: the running kernel.
    place: Option<(String, u64)>,
}

impl Folly {
    fn place(&self) -> String {
        match &self.place {
            Some((path, line)) => format!("{}:{line}", printable(path)),
            None => "the running kernel".into(),
        }
    }

    fn subject(&self) -> Subject {
        let (file, line) = self.place.clone().unzip();
        let key = Some(format!("net.ipv4.{}", self.knob));
        Subject { file, line, key, value: Some(self.value.clone()), ..Subject::default() }
    }
}

/// Whether `key = value` is folklore; `None` when it is not, or when its meaning cannot be told here.
fn folly(key: &str, value: &str, now: &Sysctls) -> Option<&'static str> {
    let number = || leading_integer(value);
    match key {
        // Without effect when 0 on any kernel.
        "net.ipv4.tcp_tw_recycle" if number() != Some(0) => Some("tcp_tw_recycle"),
        "net.ipv4.tcp_timestamps" if number() == Some(0) => Some("tcp_timestamps"),
        "net.ipv4.tcp_max_tw_buckets" if number()? < now.tcp_max_tw_buckets_default? => Some("tcp_max_tw_buckets"),
        "net.ipv4.tcp_fin_timeout" if number()? < DEFAULT_FIN_TIMEOUT => Some("tcp_fin_timeout"),
        _ => None,
    }
}

fn why(knob: &str) -> &'static str {
    match knob {
        "tcp_tw_recycle" => "gone since Linux 4.12, and before that it dropped clients behind NAT",
        "tcp_timestamps" => "without timestamps nothing in TIME_WAIT can be reused, and old packets are harder to tell",
        "tcp_max_tw_buckets" => "below the default the kernel cuts short the wait that protects new connections",
        _ => "does not shorten TIME_WAIT; it only bounds orphaned FIN_WAIT2 (keep it low only if FW-001 is why)",
    }
}

/// All folklore: of each key of the files the line that wins (tcp_tw_recycle: every line), and the running kernel.
fn all(e: &Evidence) -> Vec<Folly> {
    let settings: &[Setting] = e.sysctl_files.as_ref().map_or(&[], |files: &SysctlFiles| &files.settings);
    let last: BTreeMap<&str, usize> = (0..).zip(settings).map(|(at, setting)| (setting.key.as_str(), at)).collect();
    let counts = |(at, setting): &(usize, &Setting)| {
        setting.key == "net.ipv4.tcp_tw_recycle" || last.get(setting.key.as_str()) == Some(at)
    };
    let found = (0..).zip(settings).filter(counts).map(|(_, setting)| setting);
    let mut follies: Vec<Folly> = found
        .filter_map(|setting| {
            let knob = folly(&setting.key, &setting.value, &e.sysctls)?;
            let place = Some((setting.path.clone(), setting.line as u64));
            Some(Folly { knob, value: setting.value.clone(), place })
        })
        .collect();
    let running = [
        ("net.ipv4.tcp_timestamps", e.sysctls.tcp_timestamps),
        ("net.ipv4.tcp_max_tw_buckets", e.sysctls.tcp_max_tw_buckets),
        ("net.ipv4.tcp_fin_timeout", e.sysctls.tcp_fin_timeout),
    ];
    follies.extend(running.into_iter().filter_map(|(key, value)| {
        let value = value?.to_string();
        let knob = folly(key, &value, &e.sysctls)?;
        Some(Folly { knob, value, place: None })
    }));
    follies
}

/// TW-010: settings that help nothing or harm.
pub fn copied_advice(e: &Evidence) -> Verdict {
    let follies = all(e);
    if follies.is_empty() {
        let files = e.sysctl_files.as_ref().or_missing("sysctl files were not read")?;
        if let Some((path, reason)) = files.unreadable.first() {
            let more = files.unreadable.len() - 1;
            let others = if more == 0 { String::new() } else { format!(", and {more} more files") };
            return Err(Missing(format!("could not read {}: {}{others}", printable(path), printable(reason))));
        }
        let sysctls = &e.sysctls;
        for (value, name) in [
            (sysctls.tcp_timestamps, "tcp_timestamps"),
            (sysctls.tcp_fin_timeout, "tcp_fin_timeout"),
            (sysctls.tcp_max_tw_buckets, "tcp_max_tw_buckets"),
            (sysctls.tcp_max_tw_buckets_default, "the default of tcp_max_tw_buckets"),
        ] {
            value.or_missing(&format!("{name} could not be read"))?;
        }
        return Ok(None);
    }
    let mut knobs: Vec<&'static str> = vec![];
    for folly in &follies {
        if !knobs.contains(&folly.knob) {
            knobs.push(folly.knob);
        }
    }
    let mut measured = vec![Measured {
        name: "settings found",
        value: (follies.len() as u64).into(),
        unit: "settings",
        source: "sysctl files and the running kernel",
    }];
    let mut add = |name, value: Option<u64>, unit, source| {
        measured.extend(value.map(|value| Measured { name, value: value.into(), unit, source }));
    };
    add("tcp_max_tw_buckets", e.sysctls.tcp_max_tw_buckets, "sockets", "sysctl");
    add("its default on this host", e.sysctls.tcp_max_tw_buckets_default, "sockets", "tcp_ehash_entries / 2");
    Ok(Some(Finding {
        id: "TW-010",
        severity: Severity::Warning,
        title: format!("copied tuning that does not help: {}", knobs.join(", ")),
        whose: worst(&follies, |folly| {
            format!("{}: {} = {}", folly.place(), folly.knob, cut(&printable(&folly.value), VALUE))
        }),
        subjects: follies.iter().map(Folly::subject).collect(),
        why: knobs.iter().map(|knob| format!("{knob}: {}.", why(knob))).collect::<Vec<_>>().join(" "),
        measured,
        threshold: Threshold {
            value: 1_u64.into(),
            unit: "settings",
            formula: format!(
                "tcp_tw_recycle in any file; tcp_timestamps = 0; tcp_fin_timeout < {DEFAULT_FIN_TIMEOUT}; \
                 tcp_max_tw_buckets < {}",
                e.sysctls.tcp_max_tw_buckets_default.map_or("tcp_ehash_entries / 2".into(), thousands)
            ),
        },
        fixes: delete(&follies).into_iter().chain(restore(&follies, e.sysctls.tcp_max_tw_buckets_default)).collect(),
        not_helpful: vec!["keeping them in case: the next incident starts with them".into()],
        verify: Verify {
            promql: "synfin_time_wait_limit_sockets".into(),
            ss: "sysctl net.ipv4.tcp_timestamps net.ipv4.tcp_max_tw_buckets net.ipv4.tcp_fin_timeout; ss -s".into(),
        },
    }))
}

/// `None` when no file is at fault.
fn delete(follies: &[Folly]) -> Option<String> {
    let lines: Vec<&Folly> = follies.iter().filter(|folly| folly.place.is_some()).collect();
    match lines.as_slice() {
        [] => None,
        [line] => Some(format!("delete the line {}, or the next boot sets it", line.place())),
        lines => {
            let files = worst(lines, |line| line.place()).join(", ");
            Some(format!("delete {}, or the next boot sets them: {files}", count(lines.len() as u64, "line")))
        }
    }
}

/// `None` when the running kernel is not at fault.
fn restore(follies: &[Folly], buckets: Option<u64>) -> Option<String> {
    let running = follies.iter().filter(|folly| folly.place.is_none());
    let values: Vec<String> = running
        .filter_map(|folly| match folly.knob {
            "tcp_timestamps" => Some("net.ipv4.tcp_timestamps=1".into()),
            "tcp_fin_timeout" => Some(format!("net.ipv4.tcp_fin_timeout={DEFAULT_FIN_TIMEOUT}")),
            "tcp_max_tw_buckets" => buckets.map(|buckets| format!("net.ipv4.tcp_max_tw_buckets={buckets}")),
            _ => None,
        })
        .collect();
    (!values.is_empty()).then(|| format!("restore: sysctl -w {}", values.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Expect, check_rule, in_order};
    use super::super::sysctl_file::parse_sysctl_file;
    use super::*;
    use Expect::{Fires, Silent, Unchecked};

    const WARNING: Expect = Fires(Severity::Warning);

    fn files(text: &str) -> Option<SysctlFiles> {
        Some(SysctlFiles { settings: parse_sysctl_file("/etc/sysctl.d/99-tuning.conf", text), unreadable: vec![] })
    }

    #[test]
    fn files_are_searched_for_folklore() {
        let check = |text: &str, expected| {
            check_rule(copied_advice, text, |e| e.sysctl_files = files(text), expected);
        };
        check("net.ipv4.tcp_tw_recycle = 1", WARNING);
        check("net.ipv4.tcp_tw_recycle = 0", Silent);
        check("net.ipv4.tcp_tw_recycle = 1\nnet.ipv4.tcp_tw_recycle = 0", WARNING);
        check("net.ipv4.tcp_timestamps = 0", WARNING);
        check("net.ipv4.tcp_timestamps = 1", Silent);
        check("net.ipv4.tcp_timestamps = 0\nnet.ipv4.tcp_timestamps = 1", Silent);
        check("net.ipv4.tcp_max_tw_buckets = 131071", WARNING);
        check("net.ipv4.tcp_max_tw_buckets = 131072", Silent);
        check("net.ipv4.tcp_max_tw_buckets = lots", Silent);
        check("net.ipv4.tcp_fin_timeout = 59", WARNING);
        check("net.ipv4.tcp_fin_timeout = 60", Silent);
        check("net.ipv4.tcp_tw_reuse = 1", Silent);
        check("# net.ipv4.tcp_tw_recycle = 1", Silent);
        // Neither sysctl(8) nor the kernel knows comments behind a value: the kernel takes the number before them.
        check("net.ipv4.tcp_fin_timeout = 15   # fight TIME_WAIT", WARNING);
        check("net.ipv4.tcp_fin_timeout = 60   # the default", Silent);
        check("net.ipv4.tcp_timestamps=0 # off", WARNING);
        check("net.ipv4.tcp_timestamps=1 # on", Silent);
        check("net.ipv4.tcp_max_tw_buckets = 5000 ; few", WARNING);
        check("net.ipv4.tcp_max_tw_buckets = 131072 ; the default", Silent);
        check("net.ipv4.tcp_tw_recycle = 0 # gone", Silent);
        check("net.ipv4.tcp_fin_timeout = 15# refused", Silent);
    }

    #[test]
    fn the_running_kernel_is_searched_too() {
        let check = |name, change: fn(&mut Evidence), expected| check_rule(copied_advice, name, change, expected);
        check("timestamps off", |e| e.sysctls.tcp_timestamps = Some(0), WARNING);
        check("timestamps on", |e| e.sysctls.tcp_timestamps = Some(1), Silent);
        check("buckets one below", |e| e.sysctls.tcp_max_tw_buckets = Some(131_071), WARNING);
        check("buckets raised", |e| e.sysctls.tcp_max_tw_buckets = Some(2_000_000), Silent);
        check("fin timeout lowered", |e| e.sysctls.tcp_fin_timeout = Some(30), WARNING);
        check("fin timeout raised", |e| e.sysctls.tcp_fin_timeout = Some(61), Silent);
        check("files not read", |e| e.sysctl_files = None, Unchecked);
        check("default not known", |e| e.sysctls.tcp_max_tw_buckets_default = None, Unchecked);
        let locked = |e: &mut Evidence| {
            e.sysctl_files =
                Some(SysctlFiles { settings: vec![], unreadable: vec![("/etc/x".into(), "permission denied".into())] });
        };
        check_rule(copied_advice, "a file not readable", locked, Unchecked);
    }

    #[test]
    fn the_file_and_line_are_named() {
        let mut evidence = in_order();
        evidence.sysctl_files = files("# found on a forum\nnet.ipv4.tcp_tw_recycle = 1");
        let finding = copied_advice(&evidence).unwrap().unwrap();
        assert_eq!(finding.whose, ["/etc/sysctl.d/99-tuning.conf:2: tcp_tw_recycle = 1"]);
        let json = serde_json::to_string(&finding.subjects).unwrap();
        let file = r#""file":"/etc/sysctl.d/99-tuning.conf","line":2"#;
        assert_eq!(json, format!("[{{{file},\"key\":\"net.ipv4.tcp_tw_recycle\",\"value\":\"1\"}}]"));
    }

    #[test]
    fn only_what_is_in_force_is_to_be_restored() {
        let check = |text: &str, fin_timeout, fixes: &[&str]| {
            let mut evidence = in_order();
            evidence.sysctl_files = files(text);
            evidence.sysctls.tcp_fin_timeout = Some(fin_timeout);
            assert_eq!(copied_advice(&evidence).unwrap().unwrap().fixes, fixes, "{text}");
        };
        let (one, path) = ("net.ipv4.tcp_fin_timeout = 15", "/etc/sysctl.d/99-tuning.conf");
        let delete = format!("delete the line {path}:1, or the next boot sets it");
        let restore = "restore: sysctl -w net.ipv4.tcp_fin_timeout=60";
        check(one, 60, &[&delete]);
        check(one, 15, &[&delete, restore]);
        check("", 15, &[restore]);
        let both = format!("delete 2 lines, or the next boot sets them: {path}:1, {path}:2");
        check("net.ipv4.tcp_tw_recycle = 1\nnet.ipv4.tcp_timestamps = 0", 60, &[&both]);
        check("net.ipv4.tcp_timestamps = 0\nnet.ipv4.tcp_fin_timeout = 15", 60, &[&both]);
    }
}
