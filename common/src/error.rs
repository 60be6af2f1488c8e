//! Why a program ends early.

use crate::log;
use std::fmt;
use std::io::{self, ErrorKind};
use std::process::ExitCode;

/// Why a program ends early, and with which exit code.
///
/// # Examples
///
/// ```
/// let why = std::io::Error::from(std::io::ErrorKind::AddrInUse);
/// let error = common::Error::failed("cannot bind 127.0.0.1:8888", &why);
/// assert_eq!(error.to_string(), "cannot bind 127.0.0.1:8888: address in use");
/// ```
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// There is nothing left to do but to print this: what `--help` asked for, or nothing, when
    /// nobody reads the output any more. Exit code 0.
    Done(String),
    /// It failed while running. Exit code 1.
    Failed(String),
    /// The command line is wrong. Exit code 2.
    Usage(String),
}

impl Error {
    /// Says what failed and why. A timeout says that it timed out, and not, as Unix does, that a
    /// resource is temporarily unavailable.
    ///
    /// # Examples
    ///
    /// ```
    /// let why = std::io::Error::from(std::io::ErrorKind::WouldBlock);
    /// let error = common::Error::failed("no answer", &why);
    /// assert_eq!(error, common::Error::Failed("no answer: timed out".into()));
    /// ```
    pub fn failed(what: impl fmt::Display, why: &io::Error) -> Error {
        Error::Failed(format!("{what}: {}", reason(why)))
    }

    /// Prints the error as the program's last words and returns its exit code.
    pub(crate) fn report(self, program: &str) -> ExitCode {
        match self {
            Error::Done(text) => {
                // Nobody reads it: nothing to do about that here.
                let _ = log::print(text.as_bytes());
                ExitCode::SUCCESS
            }
            Error::Failed(text) => {
                log::complain(program, format_args!("{text}"));
                ExitCode::from(1)
            }
            Error::Usage(text) => {
                log::complain(program, format_args!("{text} (see --help)"));
                ExitCode::from(2)
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Done(text) | Error::Failed(text) | Error::Usage(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

/// Tells whether a receive, read or write ended because its timeout passed: `WouldBlock` on Unix,
/// `TimedOut` on Windows ([`std::net::TcpStream::set_read_timeout`]).
///
/// # Examples
///
/// ```
/// let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// socket.set_read_timeout(Some(std::time::Duration::from_millis(1)))?;
/// assert!(common::timed_out(&socket.recv(&mut [0]).unwrap_err()));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The words for an error.
pub(crate) fn reason(error: &io::Error) -> String {
    if timed_out(error) { "timed out".into() } else { error.to_string() }
}
