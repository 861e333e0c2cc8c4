//! Times, durations and names of processes as people read them.

use std::fmt;

/// Wall time: milliseconds since 1970, UTC. Displayed as `2026-11-22T03:12:45.123Z` (RFC 3339).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime {
    pub unix_ms: u64,
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.unix_ms / 86_400_000, self.unix_ms % 86_400_000);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
    }
}

/// Gregorian year, month and day of a number of days since 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that the leap day is the last of its year, in cycles of 400 years.
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on: 153 days each five of them.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + carry, month, day)
}

/// Three digits or so, without a space: `31us`, `1.50ms`, `42.0s`, `3m12s`, `2h05m`, `1d02h`.
pub fn human_duration(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match seconds {
        0 if ns < 1_000 => format!("{ns}ns"),
        0 if ns < 1_000_000 => format!("{}us", ns / 1_000),
        0 if ns < 10_000_000 => format!("{:.2}ms", truncated(ns, 10_000, 100.0)),
        0 if ns < 100_000_000 => format!("{:.1}ms", truncated(ns, 100_000, 10.0)),
        0 => format!("{}ms", ns / 1_000_000),
        1..10 => format!("{:.2}s", truncated(ns, 10_000_000, 100.0)),
        10..60 => format!("{:.1}s", truncated(ns, 100_000_000, 10.0)),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        86_400.. => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Cut, not rounded, as the other units are: 9.999 ms must not become `10.00ms`.
fn truncated(ns: u64, step: u64, steps_a_unit: f64) -> f64 {
    (ns / step) as f64 / steps_a_unit
}

/// The name of a thread as one word of printable ASCII: any process may call itself what it likes, a terminal must not obey it.
pub fn comm_text(comm: &[u8; 16]) -> String {
    let name = comm.iter().take_while(|&&byte| byte != 0);
    name.map(|&byte| if byte.is_ascii_graphic() { char::from(byte) } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_are_rfc_3339() {
        let check = |unix_ms, text| assert_eq!(WallTime { unix_ms }.to_string(), text);
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399_999, "2000-02-28T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(951_868_800_000, "2000-03-01T00:00:00.000Z");
        check(1_709_164_800_000, "2024-02-29T00:00:00.000Z");
        check(1_795_317_165_123, "2026-11-22T03:12:45.123Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn durations_are_short() {
        let check = |ns, text| assert_eq!(human_duration(ns), text);
        check(0, "0ns");
        check(999, "999ns");
        check(31_900, "31us");
        check(1_500_000, "1.50ms");
        check(9_999_999, "9.99ms");
        check(42_000_000, "42.0ms");
        check(999_999_999, "999ms");
        check(1_017_000_000, "1.01s");
        check(59_999_000_000, "59.9s");
        check(192_000_000_000, "3m12s");
        check(7_500_000_000_000, "2h05m");
        check(93_600_000_000_000, "1d02h");
    }

    #[test]
    fn names_of_threads_are_one_harmless_word() {
        let check = |comm: &[u8; 16], text| assert_eq!(comm_text(comm), text);
        check(b"nginx\0\0\0\0\0\0\0\0\0\0\0", "nginx");
        check(b"Web Content\x1b[2J\0", "Web_Content_[2J");
        check(b"exactly16letters", "exactly16letters");
        check(&[0; 16], "");
    }
}
