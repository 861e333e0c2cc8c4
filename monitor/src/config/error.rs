//! Why a configuration was refused: always one line, with the file and the line number where there is one.

use std::path::PathBuf;

/// The cause is part of the message, so none is given as a source: a chain printed whole would say it twice.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read configuration file {}: {cause}; name another with --config.file", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    /// A syntax error, an unknown key or a bad value. `line` starts at 1.
    #[error("{}:{line}: {message}", path.display())]
    Invalid { path: PathBuf, line: usize, message: String },
}
