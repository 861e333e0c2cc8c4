//! The emulator: the machine's own; or, where its package would displace one that is there, unpacked into the target folder.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::step::say;
use crate::system::{apt, find_program};
use crate::{environment, workspace};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
/// Where an unpacked one has its program, and its libraries.
const UNPACKED_PROGRAM: &str = "usr/bin/qemu-system-x86_64";
const UNPACKED_LIBRARIES: [&str; 3] =
    ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/pulseaudio"];

/// An emulator of this machine. It finds its firmware from where its program lies.
pub struct Emulator {
    program: PathBuf,
    /// Of one that is unpacked.
    libraries: Vec<PathBuf>,
}

impl Emulator {
    /// Finds it, or gets it.
    ///
    /// # Errors
    /// It can neither be installed nor unpacked, and why.
    pub fn obtain() -> Result<Self> {
        let folder = workspace::tools().join("emulator");
        if let Some(found) = Self::find(&folder) {
            return Ok(found);
        }
        if !apt::is_present() {
            bail!("no {PROGRAM} on PATH; install it and run this again");
        }
        if let Err(error) = apt::install(&[PACKAGE], "installing the emulator (some ten seconds)", "apt-emulator") {
            say(&format!("{PACKAGE} is unpacked instead of installed: {error:#}"));
            let what = "downloading the emulator (a minute)";
            apt::unpack(&[PACKAGE], true, &folder, what, "apt-emulator-unpacked")?;
        }
        match Self::find(&folder) {
            Some(found) => Ok(found),
            None => bail!("{PACKAGE} brought no {PROGRAM}"),
        }
    }

    fn find(folder: &Path) -> Option<Self> {
        let unpacked = folder.join(UNPACKED_PROGRAM);
        match find_program(PROGRAM) {
            Some(program) => Some(Self { program, libraries: Vec::new() }),
            None if unpacked.is_file() => {
                Some(Self { program: unpacked, libraries: UNPACKED_LIBRARIES.map(|name| folder.join(name)).to_vec() })
            }
            None => None,
        }
    }

    /// A command that starts it.
    pub fn command(&self) -> Command {
        let mut command = environment::clean(&self.program);
        if !self.libraries.is_empty() {
            let before = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
            let paths =
                self.libraries.iter().cloned().chain(env::split_paths(&before).filter(|path| path != Path::new("")));
            // Fails only for a folder with a colon in its name; the loader then says what it does not find.
            command.env("LD_LIBRARY_PATH", env::join_paths(paths).unwrap_or_default());
        }
        command
    }
}
