//! Which ways to a BPF toolchain are tried on a machine, and in which order.

/// What rustup has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nightly {
    /// No nightly toolchain.
    Absent,
    /// One without the source of the standard library.
    Bare { toolchain: String },
    /// One that can build `core`.
    WithSource { toolchain: String },
}

/// What lies on the machine before anything is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// rustup is there, and its way is allowed.
    pub rustup: bool,
    /// Packages are installed by apt.
    pub apt: bool,
    /// The best nightly.
    pub nightly: Nightly,
    /// Debian's compiler with `core` for BPF is installed.
    pub packages: bool,
    /// The way by packages is allowed.
    pub packages_allowed: bool,
}

/// One thing to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// A nightly with `rust-src` and a linker, as they lie here.
    UseNightly { toolchain: String },
    /// Debian's compiler and a linker, as they lie here.
    UsePackages,
    /// `rustup component add rust-src` and a linker.
    CompleteNightly { toolchain: String },
    /// Debian's packages and a linker.
    InstallPackages,
    /// `rustup toolchain install nightly` and a linker.
    InstallNightly,
}

impl Attempt {
    /// For messages.
    pub fn describe(&self) -> String {
        match self {
            Self::UseNightly { toolchain } => format!("{toolchain} as it is"),
            Self::UsePackages => "rustc-web as it is".to_owned(),
            Self::CompleteNightly { toolchain } => format!("{toolchain} completed"),
            Self::InstallPackages => "rustc-web from the distribution".to_owned(),
            Self::InstallNightly => "a new nightly from rustup".to_owned(),
        }
    }
}

/// What to try, first first. What is there comes before what must be fetched; a nightly comes before the packages, since
/// it needs no root. A whole nightly is fetched last and only where apt can bring the linker's LLVM.
pub fn attempts(found: &Found) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    if let Nightly::WithSource { toolchain } = &found.nightly {
        attempts.push(Attempt::UseNightly { toolchain: toolchain.clone() });
    }
    if found.packages {
        attempts.push(Attempt::UsePackages);
    }
    match &found.nightly {
        Nightly::WithSource { toolchain } | Nightly::Bare { toolchain } => {
            attempts.push(Attempt::CompleteNightly { toolchain: toolchain.clone() });
        }
        Nightly::Absent => {}
    }
    if found.apt && found.packages_allowed {
        attempts.push(Attempt::InstallPackages);
    }
    if found.apt && found.rustup && found.nightly == Nightly::Absent {
        attempts.push(Attempt::InstallNightly);
    }
    attempts
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE_DEBIAN: Found =
        Found { rustup: true, apt: true, nightly: Nightly::Absent, packages: false, packages_allowed: true };

    fn check(found: Found, expected: &[Attempt]) {
        assert_eq!(attempts(&found), expected, "{found:?}");
    }

    fn bare() -> Nightly {
        Nightly::Bare { toolchain: "nightly".into() }
    }

    fn with_source() -> Nightly {
        Nightly::WithSource { toolchain: "nightly".into() }
    }

    #[test]
    fn what_is_there_comes_before_what_must_be_fetched() {
        let used = Attempt::UseNightly { toolchain: "nightly".into() };
        let completed = Attempt::CompleteNightly { toolchain: "nightly".into() };
        check(BARE_DEBIAN, &[Attempt::InstallPackages, Attempt::InstallNightly]);
        check(
            Found { nightly: with_source(), ..BARE_DEBIAN },
            &[used.clone(), completed.clone(), Attempt::InstallPackages],
        );
        check(Found { nightly: bare(), ..BARE_DEBIAN }, &[completed.clone(), Attempt::InstallPackages]);
        check(
            Found { packages: true, nightly: bare(), ..BARE_DEBIAN },
            &[Attempt::UsePackages, completed.clone(), Attempt::InstallPackages],
        );
        check(
            Found { packages: true, ..BARE_DEBIAN },
            &[Attempt::UsePackages, Attempt::InstallPackages, Attempt::InstallNightly],
        );
        check(Found { apt: false, nightly: with_source(), ..BARE_DEBIAN }, &[used, completed]);
    }

    #[test]
    fn another_distribution_gets_nothing_installed_but_a_component() {
        let other = Found { apt: false, ..BARE_DEBIAN };
        check(other.clone(), &[]);
        check(Found { nightly: bare(), ..other }, &[Attempt::CompleteNightly { toolchain: "nightly".into() }]);
    }

    #[test]
    fn a_way_that_is_not_allowed_is_not_tried() {
        check(Found { packages_allowed: false, ..BARE_DEBIAN }, &[Attempt::InstallNightly]);
        check(Found { rustup: false, ..BARE_DEBIAN }, &[Attempt::InstallPackages]);
    }
}
