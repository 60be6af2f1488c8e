//! Errors and exit codes.

use crate::log;
use std::fmt;
use std::io::{self, ErrorKind};
use std::process::ExitCode;

/// Why a program exits before its work is done, and with which exit code.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// The program is done: it prints this text, the help or the version; or standard output was
    /// closed. Exit code 0.
    EarlyExit(String),
    /// The program failed while running. Exit code 1.
    Failed(String),
    /// The command line is wrong. Exit code 2.
    Usage(String),
}

impl Error {
    /// Returns a `Failed` from what failed and the system's error, with a hint if there is an
    /// obvious one.
    pub fn failed(what: impl fmt::Display, error: &io::Error) -> Error {
        let hint = match error.kind() {
            ErrorKind::AddrInUse => "; is another server running?",
            ErrorKind::ConnectionRefused => "; is the server running?",
            _ => "",
        };
        Error::Failed(format!("{what}: {error}{hint}"))
    }

    /// Prints the error and returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            // Standard output was closed, and may still hold bytes that cannot be flushed.
            Error::EarlyExit(text) if text.is_empty() => ExitCode::SUCCESS,
            Error::EarlyExit(text) => match log::print(text.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => Error::from(error).report(),
            },
            Error::Failed(text) => {
                log::write_error(format_args!("{text}"));
                ExitCode::from(1)
            }
            Error::Usage(text) => {
                log::write_error(format_args!("{text} (see --help)"));
                ExitCode::from(2)
            }
        }
    }
}

/// Returns the [`Error`] that an error contains, as [`print`](log::print) makes it, or a `Failed` with
/// its message, which names the cause.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        error.downcast().unwrap_or_else(|error| Error::Failed(error.to_string()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::EarlyExit(text) | Error::Failed(text) | Error::Usage(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}
