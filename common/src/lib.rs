//! What stands between `argv` and an address: the command line of the examples, how received
//! bytes are shown, how errors are reported, and when a server is done (`--count`).
//!
//! No sockets here, beyond looking up names: whoever copies an example finds every socket call and
//! every thread in the example itself, and replaces this crate with a configuration of their own.
//!
//! A whole program:
//!
//! ```no_run
//! use common::{Error, Options};
//! use std::{net::UdpSocket, process::ExitCode};
//!
//! const HELP: &str = "\
//! Usage: sink [--count N] [--quiet] [ADDR]
//!
//! Throws datagrams away.
//! ";
//!
//! fn main() -> ExitCode {
//!     common::main(HELP, run)
//! }
//!
//! fn run(options: &Options) -> Result<(), Error> {
//!     let address = options.address()?;
//!     let count = options.count("--count")?.unwrap_or(3);
//!     let log = options.log();
//!     let socket = UdpSocket::bind(&address)
//!         .map_err(|why| Error::failed(format_args!("cannot bind {address}"), &why))?;
//!     for _ in 0..count {
//!         if let Err(error) = socket.recv(&mut []) {
//!             log.warning(format_args!("receive: {error}"));
//!         }
//!     }
//!     Ok(())
//! }
//! ```

mod address;
mod error;
mod log;
mod messages;
mod options;
mod tickets;

pub use address::Address;
pub use error::{Error, timed_out};
pub use log::{Bytes, Log, Trouble, print};
pub use messages::{MAX_PAYLOAD, datagrams};
pub use options::Options;
pub use tickets::Tickets;

use std::process::ExitCode;

/// Runs a program: reads its command line, calls `run`, turns an error into one line on standard
/// error and an exit code.
///
/// The first line of `help` is the usage line, and the grammar of the command line: see
/// [`Options::parse`].
///
/// # Examples
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     common::main("Usage: nothing\n\nDoes nothing.\n", |_options| Ok(()))
/// }
/// ```
pub fn main(help: &'static str, run: fn(&Options) -> Result<(), Error>) -> ExitCode {
    match Options::parse(help, std::env::args_os().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(options::program(help)),
    }
}
