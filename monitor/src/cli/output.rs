//! Writing data to stdout so that a reader who leaves early ends the program quietly.

use std::io::{self, Write};

/// Writes all of `text` to stdout. Unlike `print!` it gives back the error instead of panicking.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Columns of the terminal behind stdout; `None` when that is something else, or the terminal does not say.
pub fn columns() -> Option<usize> {
    // SAFETY: integers; zero is valid for each.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: writes the size into our own variable.
    let done = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col > 0).then_some(size.ws_col.into())
}

/// Whether the cause, at whatever depth, is that the reader of a pipe is gone.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_broken_pipe_is_known_under_any_context() {
        let check = |kind: io::ErrorKind, expected| {
            let error = Err::<(), _>(io::Error::from(kind)).context("writing").context("tracing").unwrap_err();
            assert_eq!(is_broken_pipe(&error), expected, "{kind:?}");
        };
        check(io::ErrorKind::BrokenPipe, true);
        check(io::ErrorKind::PermissionDenied, false);
        assert!(!is_broken_pipe(&anyhow::anyhow!("pipe")));
    }
}
