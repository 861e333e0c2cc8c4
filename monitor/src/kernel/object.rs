//! The BPF object that this binary carries.

use thiserror::Error;

/// The ELF object of the probes as `build.rs` found it, aligned as its parser asks; empty in a build without probes.
pub static PROBES: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probes.o"));

/// This binary carries no probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this binary was built without the probes; build it with `cargo xtask build`")]
pub struct NoProbes;

/// The embedded BPF object.
///
/// # Errors
/// [`NoProbes`] if the binary was built by plain `cargo build`, which embeds an empty stub.
pub fn probes() -> Result<&'static [u8], NoProbes> {
    non_empty(PROBES)
}

fn non_empty(object: &'static [u8]) -> Result<&'static [u8], NoProbes> {
    if object.is_empty() { Err(NoProbes) } else { Ok(object) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_object_is_a_build_without_probes() {
        assert_eq!(non_empty(b""), Err(NoProbes));
        assert_eq!(non_empty(b"\x7fELF"), Ok(&b"\x7fELF"[..]));
    }

    #[test]
    fn what_is_embedded_is_an_elf_object_or_nothing() {
        match probes() {
            Ok(object) => assert_eq!(object[..4], *b"\x7fELF"),
            Err(NoProbes) => assert!(PROBES.is_empty()),
        }
        assert!(PROBES.as_ptr().cast::<u64>().is_aligned());
    }
}
