//! Numbers as people read them: thousands, shares, durations.

use super::NamespaceName;
use crate::aggregate::HOST_NAMESPACE;

/// `28232` as `28,232`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share of 1 as `41.3 %`, a round one as `40 %`.
pub fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

/// Something a second as `612/s`; the smaller, the more decimals.
pub fn per_second(rate: f64) -> String {
    match rate.abs() {
        10.0.. => format!("{}{}/s", if rate < 0.0 { "-" } else { "" }, thousands(rate.abs().round() as u64)),
        1.0.. => format!("{rate:.1}/s"),
        0.0 => "0/s".into(),
        _ => format!("{rate:.3}/s"),
    }
}

/// Seconds as `8 s`, `2 min 5 s`, `3 h 4 min`, `2 d 1 h`; below ten seconds with one decimal.
pub fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let two = |large: u64, large_unit, small: u64, small_unit| match small {
        0 => format!("{large} {large_unit}"),
        small => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => two(whole / 60, "min", whole % 60, "s"),
        3600..86_400 => two(whole / 3600, "h", whole % 3600 / 60, "min"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3600, "h"),
    }
}

/// `1 socket`, `2,000 sockets`.
pub fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", thousands(number)),
    }
}

/// A name out of the kernel or a file on one line: control characters and quotes escaped, at most 80 characters.
pub fn printable(name: &str) -> String {
    const LONGEST: usize = 80;
    let mut text: String = name.chars().take(LONGEST).flat_map(escape).collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push('…');
    }
    text
}

/// A unit in a sentence: `root` is the root cgroup in the metrics, and would read like the user here.
pub fn unit_name(unit: &str) -> String {
    match unit {
        "root" => "the root cgroup".into(),
        "unknown" => "an unknown unit".into(),
        "other" => "other units".into(),
        unit => printable(unit),
    }
}

/// Where it is, when that is another network namespace than the daemon's.
pub fn in_namespace(namespace: Option<&NamespaceName>) -> String {
    namespace.map_or(String::new(), |namespace| format!(", in network namespace {}", printable(&namespace.name)))
}

/// A shell command, run in that network namespace.
pub fn inside(namespace: Option<&NamespaceName>, command: &str) -> String {
    let Some(NamespaceName { name, inode }) = namespace else { return command.to_owned() };
    if name == HOST_NAMESPACE {
        format!("nsenter -n -t 1 {command}")
    } else if is_of_iproute(name) {
        format!("ip netns exec {name} {command}")
    } else {
        // Finds a process that lives in it.
        format!("nsenter -n -t $(lsns -n -o PID {inode} | head -1) {command}")
    }
}

/// Whether a name is one of `ip netns`, and needs no quotes: those of units have a suffix or a path, made ones a number in brackets.
fn is_of_iproute(name: &str) -> bool {
    let of_unit = [".service", ".scope", ".slice"].iter().any(|suffix| name.ends_with(suffix));
    !of_unit
        && !name.starts_with('-')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:@+".contains(&byte))
}

fn escape(c: char) -> Vec<char> {
    match c {
        '"' | '\\' => vec!['\\', c],
        c if c.is_control() => c.escape_default().collect(),
        // Marks that reorder or hide text on a terminal.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => c.escape_default().collect(),
        c => vec![c],
    }
}

/// Breaks at spaces into lines of at most `width` characters; a longer word stands alone.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Cut to `width` characters, the last one an ellipsis.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::elsewhere;
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        let check = |number, text: &str| assert_eq!(thousands(number), text);
        check(0, "0");
        check(999, "999");
        check(1000, "1,000");
        check(28_232, "28,232");
        check(1_234_567, "1,234,567");
        assert_eq!((percent(0.4132).as_str(), percent(0.4).as_str()), ("41.3 %", "40 %"));
        assert_eq!([612.4, 9.96, 0.011, 0.0, -40.0].map(per_second), ["612/s", "10.0/s", "0.011/s", "0/s", "-40/s"]);
        assert_eq!((count(1, "socket").as_str(), count(2000, "socket").as_str()), ("1 socket", "2,000 sockets"));
    }

    #[test]
    fn another_namespace_is_named() {
        assert_eq!((in_namespace(None).as_str(), inside(None, "ss -s").as_str()), ("", "ss -s"));
        let check = |name, place: &str, command: &str| {
            let namespace = elsewhere(name, 7);
            assert_eq!(in_namespace(Some(&namespace)), format!(", in network namespace {place}"));
            assert_eq!(inside(Some(&namespace), "ss -s"), command);
        };
        let by_number = "nsenter -n -t $(lsns -n -o PID 7 | head -1) ss -s";
        check("host", "host", "nsenter -n -t 1 ss -s");
        check("blue", "blue", "ip netns exec blue ss -s");
        check("net:[7]", "net:[7]", by_number);
        check("docker-0a.scope", "docker-0a.scope", by_number);
        check("/docker/0a", "/docker/0a", by_number);
        check("blue[7]", "blue[7]", by_number);
        check("$(reboot)\n", "$(reboot)\\n", by_number);
        check("-batch", "-batch", by_number);
    }

    #[test]
    fn durations_keep_two_units() {
        let check = |seconds, text: &str| assert_eq!(duration(seconds), text);
        check(0.0, "0.0 s");
        check(8.04, "8.0 s");
        check(59.4, "59 s");
        check(59.6, "1 min");
        check(125.0, "2 min 5 s");
        check(3600.0, "1 h");
        check(11_060.0, "3 h 4 min");
        check(176_400.0, "2 d 1 h");
    }

    #[test]
    fn a_name_cannot_break_the_line() {
        let check = |name: &str, text: &str| assert_eq!(printable(name), text);
        check("nginx.service", "nginx.service");
        check("a\nb\"c\\", "a\\nb\\\"c\\\\");
        check("\u{1b}[31m", "\\u{1b}[31m");
        check("\u{202e}abc", "\\u{202e}abc");
        check(&"x".repeat(81), &format!("{}…", "x".repeat(80)));
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable a", 4), ["unbreakable", "a"]);
        assert_eq!(wrap("", 4), Vec::<String>::new());
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
    }
}
