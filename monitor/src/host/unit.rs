//! From the path of a cgroup to the value of the label `unit`: bounded, valid, and the name that an administrator types.

use std::fmt::Write;

/// Longest label value, in bytes.
const LONGEST: usize = 120;
/// Of a longer one, bytes kept from its start; the rest is its end, which tells more.
const HEAD: usize = 40;
const ELLIPSIS: &str = "…";

/// Innermost systemd unit of a cgroup path, given as bytes relative to the mount with a leading `/`:
/// the innermost service or scope, else the innermost socket, mount or swap, else the innermost slice, else the whole path.
pub fn unit_of_path(path: &[u8]) -> String {
    const RANKS: [&[&[u8]]; 3] = [&[b".service", b".scope"], &[b".socket", b".mount", b".swap"], &[b".slice"]];
    let is_unit = |segment: &[u8], suffixes: &[&[u8]]| {
        suffixes.iter().any(|suffix| segment.len() > suffix.len() && segment.ends_with(suffix))
    };
    let found =
        RANKS.iter().find_map(|suffixes| path.rsplit(|&byte| byte == b'/').find(|segment| is_unit(segment, suffixes)));
    bounded(printable(found.unwrap_or(path)))
}

/// The bytes as text; what does not print, changes the direction of text, or is no UTF-8 comes as `\xNN`.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let escape = |bytes: &[u8], text: &mut String| {
        for byte in bytes {
            let _ = write!(text, "\\x{byte:02x}");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c.is_control() || is_invisible(c) {
                true => escape(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut text),
                false => text.push(c),
            }
        }
        escape(chunk.invalid(), &mut text);
    }
    text
}

/// Line and paragraph separators, zero-width and direction marks (Unicode General Punctuation), byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// At most [`LONGEST`] bytes: the middle of a longer text gives way to an ellipsis.
pub(super) fn bounded(text: String) -> String {
    if text.len() <= LONGEST {
        return text;
    }
    let head = text.floor_char_boundary(HEAD);
    let tail = text.ceil_char_boundary(text.len() - (LONGEST - HEAD - ELLIPSIS.len()));
    format!("{}{ELLIPSIS}{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_service_or_scope_names_the_unit() {
        let check = |path: &str, expected: &str| assert_eq!(unit_of_path(path.as_bytes()), expected, "{path}");
        check("/system.slice/nginx.service", "nginx.service");
        check("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service");
        check("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", "web.service");
        check("/user.slice/user-1000.slice/session-3.scope", "session-3.scope");
        check("/system.slice/machined.service/supervised/payload", "machined.service");
        check("/system.slice/own.service/inner.slice", "own.service");
        check("/kubepods.slice/kubepods-pod1.slice/cri-containerd-ab12.scope", "cri-containerd-ab12.scope");
        check("/init.scope", "init.scope");
        check("/system.slice/sshd.socket", "sshd.socket");
        check("/system.slice/home.mount/x", "home.mount");
        check("/system.slice", "system.slice");
        check("/a.slice/a-b.slice/plain", "a-b.slice");
        check("/docker/0123", "/docker/0123");
        check("/.service", "/.service");
        check("/", "/");
    }

    #[test]
    fn odd_names_come_out_as_valid_text() {
        let check = |path: &[u8], expected: &str| assert_eq!(unit_of_path(path), expected);
        check(b"/a\nb.service", "a\\x0ab.service");
        check(b"/quo\"te", "/quo\"te");
        check(b"/\xff\xfe.scope", "\\xff\\xfe.scope");
        check(b"/cut\xe2\x82", "/cut\\xe2\\x82");
        check("/größe.service".as_bytes(), "größe.service");
        check("/a\u{202e}b".as_bytes(), "/a\\xe2\\x80\\xaeb");
        check(b"/tab\t\x1b[0m\x7f", "/tab\\x09\\x1b[0m\\x7f");
    }

    #[test]
    fn long_names_keep_both_ends_and_a_bound() {
        let check = |path: String, starts: &str, ends: &str| {
            let unit = unit_of_path(path.as_bytes());
            assert!(unit.len() <= LONGEST && unit.len() >= LONGEST - 6, "{} bytes", unit.len());
            assert!(unit.starts_with(starts) && unit.ends_with(ends), "{unit}");
        };
        check(format!("/{}end.service", "x".repeat(500)), "xxxxx", "xend.service");
        check(format!("/start/{}/end", "ü".repeat(300)), "/start/ü", "ü/end");
        check(format!("/{}", "\u{1}".repeat(300)), "/\\x01", "\\x01");
        assert_eq!(unit_of_path(format!("/{}.scope", "y".repeat(114)).as_bytes()).len(), 120);
    }
}
