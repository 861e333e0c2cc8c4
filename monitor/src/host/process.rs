//! This process in numbers: CPU time, memory, open files, start. Parsers are pure; [`read`] touches `/proc`.

use std::os::unix::fs::MetadataExt as _;
use std::{fs, io};

use anyhow::Context as _;

use super::open_files;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessStatus {
    /// User and system time, with microseconds.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub open_fds: u64,
    /// The soft limit.
    pub max_fds: u64,
    pub start_unix_seconds: f64,
}

/// Fields of `/proc/<pid>/stat` (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    /// Clock ticks since boot.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// Reads what this process is now.
///
/// # Errors
/// When a file of `/proc` cannot be read or is not as proc(5) says.
pub fn read() -> anyhow::Result<ProcessStatus> {
    let stat = read_text("/proc/self/stat")?;
    let stat = parse_stat(&stat).context("cannot understand /proc/self/stat: not as in proc_pid_stat(5)")?;
    let boot = read_text("/proc/stat")?;
    let boot = parse_boot_time(&boot).context("cannot understand /proc/stat: it has no btime line")?;
    Ok(ProcessStatus {
        cpu_seconds: read_cpu_seconds().context("cannot read the CPU time of this process")?,
        resident_bytes: stat.resident_pages * system_value(libc::_SC_PAGESIZE)?,
        virtual_bytes: stat.virtual_bytes,
        open_fds: count_open_fds().context("cannot count /proc/self/fd")?,
        max_fds: open_files::limit().context("cannot read RLIMIT_NOFILE")?.rlim_cur,
        start_unix_seconds: boot as f64 + stat.start_ticks as f64 / system_value(libc::_SC_CLK_TCK)? as f64,
    })
}

fn read_text(path: &str) -> anyhow::Result<String> {
    // The name of the program in `stat` may be any bytes.
    let bytes = fs::read(path).with_context(|| format!("cannot read {path}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The name in parentheses may hold spaces and parentheses itself: fields count from the last `)`.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, after_name) = text.rsplit_once(')')?;
    // The first field after the name is number 3, `state`.
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat { start_ticks: field(22)?, virtual_bytes: field(23)?, resident_pages: field(24)? })
}

/// Unix seconds of the boot, from `/proc/stat`.
fn parse_boot_time(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// From getrusage(): `/proc/self/stat` counts ticks of 10 ms, too coarse for a daemon that uses one in a minute.
fn read_cpu_seconds() -> io::Result<f64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage() writes one rusage, and `usage` has room for one.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: rusage is integers only, all zeroed before and filled by a call that succeeded.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

fn count_open_fds() -> io::Result<u64> {
    // Since Linux 6.2 the size of the directory is the number of files; before, it is 0.
    match fs::metadata("/proc/self/fd")?.size() {
        // The file that read_dir opens is among those it lists.
        0 => Ok((fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1)),
        count => Ok(count),
    }
}

fn system_value(name: libc::c_int) -> anyhow::Result<u64> {
    // SAFETY: sysconf() takes any number and touches no memory of ours.
    let value = unsafe { libc::sysconf(name) };
    u64::try_from(value).ok().filter(|value| *value > 0).with_context(|| format!("sysconf({name}) gave {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_count_from_the_last_parenthesis() {
        #[track_caller]
        fn check(text: &str, expected: Option<Stat>) {
            assert_eq!(parse_stat(text), expected);
        }
        let tail = "S 1 2 2 0 -1 4194560 100 0 0 0 7 3 0 0 20 0 2 0 4711 10485760 256 18446744073709551615 1 1 0";
        let stat = Some(Stat { start_ticks: 4711, virtual_bytes: 10_485_760, resident_pages: 256 });
        check(&format!("42 (synfin) {tail}"), stat);
        check(&format!("42 (a) (b c) {tail}"), stat);
        check("42 (synfin) S 1 2", None);
        check("42 synfin S 1 2", None);
        check("", None);
    }

    #[test]
    fn boot_time_is_the_btime_line() {
        assert_eq!(parse_boot_time("cpu  1 2 3\nintr 5\nbtime 1700000000\nprocesses 9\n"), Some(1_700_000_000));
        assert_eq!(parse_boot_time("cpu  1 2 3\n"), None);
    }

    #[test]
    fn this_process_is_read_from_the_real_proc() {
        let before = read().unwrap();
        let file = fs::File::open("/proc/self/stat").unwrap();
        let now = read().unwrap();
        drop(file);
        // Other tests of this process open and close files meanwhile, so only bounds can be compared.
        assert!(now.open_fds > 0 && now.open_fds < now.max_fds);
        assert!(now.cpu_seconds >= before.cpu_seconds && now.cpu_seconds > 0.0);
        assert!(now.resident_bytes > 1 << 20 && now.virtual_bytes >= now.resident_bytes);
        let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
            - now.start_unix_seconds;
        assert!((-2.0..86_400.0).contains(&age), "started {age} s ago");
    }
}
