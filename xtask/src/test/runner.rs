//! What cargo calls for each test binary: the kernel's run as root and one test at a time, the others as they are.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

/// The hidden verb under which cargo calls.
pub const VERB: &str = "test-runner";
/// How the kernel's tests become root: the text of a [`Privilege`].
pub const PRIVILEGE_VARIABLE: &str = "SYNFIN_TEST_PRIVILEGE";
/// Test binaries of this name load probes.
const KERNEL_PREFIX: &str = "kernel_";
/// sudo keeps nothing; tests and cargo's conventions need these.
const KEPT: [&str; 5] = ["SYNFIN_", "CARGO_", "RUST_", "INSTA_", "PROPTEST_"];
const KEPT_WHOLE: [&str; 2] = ["PATH", "LD_LIBRARY_PATH"];

/// How the kernel's tests become root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// This is root.
    Root,
    /// Through sudo.
    Sudo,
    /// Not at all: they are skipped, loudly.
    None,
}

impl Privilege {
    /// As it stands in the environment.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Sudo => "sudo",
            Self::None => "none",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Root, Self::Sudo, Self::None].into_iter().find(|privilege| privilege.as_str() == text)
    }
}

/// Run one test binary for cargo.
#[derive(clap::Args)]
pub struct Args {
    /// The binary and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// The setting by which cargo runs every binary through here.
///
/// # Errors
/// The path of xtask itself cannot be learnt.
pub fn configuration() -> Result<String> {
    let this = env::current_exe().context("cannot learn the path of xtask itself")?;
    Ok(format!("target.'cfg(all())'.runner=[{:?}, {VERB:?}]", this.display().to_string()))
}

/// How one test binary is run.
#[derive(Debug, PartialEq, Eq)]
enum Manner {
    AsIs,
    Serially,
    SeriallyThroughSudo,
    Skipped,
}

/// The verb; does not return when the binary starts.
///
/// # Errors
/// Not called by `cargo xtask test`, or the binary cannot start.
pub fn run(args: &Args) -> Result<ExitCode> {
    let Some((binary, rest)) = args.command.split_first() else { bail!("{VERB} is called by cargo with a binary") };
    let privilege = env::var(PRIVILEGE_VARIABLE).ok().and_then(|text| Privilege::parse(&text));
    let privilege =
        privilege.with_context(|| format!("{PRIVILEGE_VARIABLE} is not set; `cargo xtask test` sets it"))?;
    let mut command = match manner(binary, privilege) {
        Manner::AsIs | Manner::Serially => Command::new(binary),
        Manner::SeriallyThroughSudo => through_sudo(binary),
        Manner::Skipped => {
            println!("\nskipped {}: it loads probes, which needs root\n", binary.display());
            return Ok(ExitCode::SUCCESS);
        }
    };
    command.args(rest);
    if is_kernel_test(binary) {
        command.arg("--test-threads=1");
    }
    Err(command.exec()).with_context(|| format!("cannot start {}", binary.display()))
}

fn manner(binary: &OsStr, privilege: Privilege) -> Manner {
    match (is_kernel_test(binary), privilege) {
        (false, Privilege::Root | Privilege::Sudo | Privilege::None) => Manner::AsIs,
        (true, Privilege::Root) => Manner::Serially,
        (true, Privilege::Sudo) => Manner::SeriallyThroughSudo,
        (true, Privilege::None) => Manner::Skipped,
    }
}

fn is_kernel_test(binary: &OsStr) -> bool {
    Path::new(binary).file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(KERNEL_PREFIX))
}

fn through_sudo(binary: &OsStr) -> Command {
    let mut command = Command::new("sudo");
    command.arg("env");
    for (name, value) in env::vars_os().filter(|(name, _)| is_kept(name)) {
        let mut pair = name;
        pair.push("=");
        pair.push(value);
        command.arg(pair);
    }
    command.arg(binary);
    command
}

fn is_kept(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| KEPT_WHOLE.contains(&name) || KEPT.iter().any(|prefix| name.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(binary: &str, [root, sudo, none]: [Manner; 3]) {
        for (privilege, expected) in [(Privilege::Root, root), (Privilege::Sudo, sudo), (Privilege::None, none)] {
            assert_eq!(manner(binary.as_ref(), privilege), expected, "{binary} {privilege:?}");
        }
    }

    #[test]
    fn only_the_kernels_tests_are_run_otherwise() {
        let kernel = || [Manner::Serially, Manner::SeriallyThroughSudo, Manner::Skipped];
        let other = || [Manner::AsIs, Manner::AsIs, Manner::AsIs];
        check("/tree/target/debug/deps/kernel_close-0123456789abcdef", kernel());
        check("kernel_census", kernel());
        check("/tree/target/debug/deps/synfin-0123456789abcdef", other());
        check("/tree/kernel_tree/target/debug/deps/replay-0123456789abcdef", other());
        check("/tmp/rustdoctest/rust_out", other());
    }

    #[test]
    fn a_privilege_survives_the_environment() {
        for privilege in [Privilege::Root, Privilege::Sudo, Privilege::None] {
            assert_eq!(Privilege::parse(privilege.as_str()), Some(privilege));
        }
        assert_eq!(Privilege::parse(""), None);
    }

    #[test]
    fn sudo_keeps_what_tests_read_and_nothing_else() {
        for (name, kept) in [
            ("SYNFIN_BIN", true),
            ("CARGO_MANIFEST_DIR", true),
            ("RUST_BACKTRACE", true),
            ("PATH", true),
            ("HOME", false),
            ("SSH_AUTH_SOCK", false),
        ] {
            assert_eq!(is_kept(name.as_ref()), kept, "{name}");
        }
    }
}
