//! Label values from bytes that an outsider chose: always UTF-8, never a control character.

use std::fmt::Write as _;

/// Text of `bytes` for a label value: what is not UTF-8, and control characters but the newline, become `\xNN`.
///
/// The newline is left because both formats have an escape for it; a NUL would end the page for some parsers.
pub fn label_from_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_ascii_control() && c != '\n' {
                push_escaped(&mut text, c as u8);
            } else {
                text.push(c);
            }
        }
        for &byte in chunk.invalid() {
            push_escaped(&mut text, byte);
        }
    }
    text
}

fn push_escaped(text: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_become_a_label_value() {
        #[track_caller]
        fn check(bytes: &[u8], expected: &str) {
            assert_eq!(label_from_bytes(bytes), expected);
        }
        check(b"nginx.service", "nginx.service");
        check("größe".as_bytes(), "größe");
        check(b"a\xffb", "a\\xffb");
        check(b"\xc3", "\\xc3");
        check(b"\xe2\x82", "\\xe2\\x82");
        check(b"a\nb", "a\nb");
        check(b"a\0\x1b[31m\x7f", "a\\x00\\x1b[31m\\x7f");
        check(b"\"\\", "\"\\");
        check(b"", "");
    }
}
