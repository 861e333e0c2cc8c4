//! The text of one sysctl file to its settings: pure. Syntax: sysctl.d(5) and sysctl.conf(5).

/// One assignment in one file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Setting {
    pub path: String,
    /// From 1.
    pub line: usize,
    /// With dots: `net.ipv4.tcp_tw_recycle`.
    pub key: String,
    pub value: String,
}

/// What all files together say, in the order in which they are applied: of the same key the last wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SysctlFiles {
    pub settings: Vec<Setting>,
    /// Path and reason of what could not be read.
    pub unreadable: Vec<(String, String)>,
}

/// Reads `text` of the file `path`. Lines that assign nothing (comments, blanks, exclusions such as `-key`) are skipped:
/// so does whoever applies the file.
pub fn parse_sysctl_file(path: &str, text: &str) -> Vec<Setting> {
    (1..).zip(text.lines()).filter_map(|(line, content)| parse_line(path, line, content)).collect()
}

fn parse_line(path: &str, line: usize, content: &str) -> Option<Setting> {
    let content = content.trim();
    if content.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = content.split_once('=')?;
    // A leading dash only asks to ignore a failure to set it.
    let key = key.trim();
    let key = key.strip_prefix('-').unwrap_or(key).trim_start();
    if key.is_empty() {
        return None;
    }
    Some(Setting { path: path.into(), line, key: dotted(key), value: value.trim().into() })
}

/// The number that the kernel takes from a written value (kernel/sysctl.c, proc_get_long and strtoul_lenient): decimal, or octal
/// after `0`, or hexadecimal after `0x`; what comes after white space is ignored. `None` when it refuses the value, and for what is
/// below 0.
pub fn leading_integer(value: &str) -> Option<u64> {
    let word = value.split_ascii_whitespace().next()?;
    let (digits, radix) = match word.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&word[2..], 16),
        [b'0', _, ..] => (&word[1..], 8),
        _ => (word, 10),
    };
    // Rust would take a sign.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// Whichever separator comes first separates; then the other one is a literal: `net/ipv4/conf/eth0.1/x`.
fn dotted(key: &str) -> String {
    match key.find(['.', '/']).map(|at| &key[at..=at]) {
        Some("/") => key
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect(),
        Some(_) | None => key.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_setting_or_nothing() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let settings = parse_sysctl_file("f", text);
            assert_eq!(settings.first().map(|s| (s.key.as_str(), s.value.as_str())), expected, "{text:?}");
        };
        check("net.ipv4.tcp_tw_recycle = 1", Some(("net.ipv4.tcp_tw_recycle", "1")));
        check("net.ipv4.tcp_tw_recycle=1", Some(("net.ipv4.tcp_tw_recycle", "1")));
        check("  -net.ipv4.tcp_tw_recycle = 1 \r", Some(("net.ipv4.tcp_tw_recycle", "1")));
        check("net/ipv4/tcp_tw_recycle = 1", Some(("net.ipv4.tcp_tw_recycle", "1")));
        check("net/ipv4/conf/eth0.1/rp_filter = 1", Some(("net.ipv4.conf.eth0/1.rp_filter", "1")));
        check("net.ipv4.ip_local_port_range = 1024\t65535", Some(("net.ipv4.ip_local_port_range", "1024\t65535")));
        check("a = b = c", Some(("a", "b = c")));
        check("# net.ipv4.tcp_tw_recycle = 1", None);
        check("; net.ipv4.tcp_tw_recycle = 1", None);
        check("-net.ipv4.tcp_tw_recycle", None);
        check("net.ipv4.tcp_tw_recycle 1", None);
        check(" = 1", None);
        check("- = 1", None);
        check("", None);
        check("\u{fffd}\u{fffd}=\u{fffd}", Some(("\u{fffd}\u{fffd}", "\u{fffd}")));
    }

    #[test]
    fn a_number_is_read_as_the_kernel_reads_it() {
        // Written to tcp_fin_timeout and tcp_timestamps of Linux 6.18.
        let check = |value: &str, expected| assert_eq!(leading_integer(value), expected, "{value:?}");
        check("15", Some(15));
        check("15   # fight TIME_WAIT", Some(15));
        check("0 # off", Some(0));
        check("5000 ; few", Some(5000));
        check("0\ttab", Some(0));
        check("20 30", Some(20));
        check("0x10", Some(16));
        check("0X0", Some(0));
        check("017", Some(15));
        check("00", Some(0));
        check("09", None);
        check("15# refused", None);
        check("+5", None);
        check("0x+5", None);
        check("-5", None);
        check("lots", None);
        check("99999999999999999999", None);
        check("", None);
    }

    #[test]
    fn lines_are_counted_from_1() {
        let settings = parse_sysctl_file("f", "# first\n\na = 1\nb = 2");
        assert_eq!(settings.iter().map(|s| s.line).collect::<Vec<_>>(), [3, 4]);
    }
}
