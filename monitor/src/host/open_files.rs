//! The bound of open files, raised once at start.

use std::io;

/// Raises the soft limit of open files (RLIMIT_NOFILE) to the hard one, so that many connections exhaust the bound on
/// connections before the table of files. Returns the limit now in force.
///
/// # Errors
/// What getrlimit() or setrlimit() said; the old limit stays.
pub fn raise_limit() -> io::Result<u64> {
    let limit = limit()?;
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    // SAFETY: setrlimit() reads one rlimit, and `raised` is one.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(raised.rlim_cur)
}

/// The limits in force.
pub(super) fn limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit() writes one rlimit, and `limit` is one.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = limit().unwrap().rlim_max;
        assert_eq!(raise_limit().unwrap(), hard);
        assert_eq!(limit().unwrap().rlim_cur, hard);
    }
}
