//! Writing data to stdout so that a reader who leaves early ends the program quietly.

use std::io::{self, Write};

use anyhow::Context;

/// Writes all of `text` to stdout. Unlike `print!` it gives back the error instead of panicking.
///
/// # Errors
/// Those of writing.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot write to stdout")
}

/// An error and its causes in one line. Many errors of libraries say their cause in their own text already: it is not said twice.
pub fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        so_far if so_far.contains(&cause) => said,
        so_far => format!("{so_far}: {cause}"),
    })
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
    fn causes_are_said_once() {
        let check = |error: anyhow::Error, line: &str| assert_eq!(one_line(&error), line);
        let full = || io::Error::other("disk full");
        check(anyhow::Error::from(full()), "disk full");
        check(anyhow::Error::from(full()).context("cannot write x"), "cannot write x: disk full");
        check(anyhow::Error::from(full()).context("cannot write x (disk full)"), "cannot write x (disk full)");
        check(anyhow::Error::from(full()).context("x: disk full").context("y"), "y: x: disk full");
    }

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
