//! The command line of the examples and their output: addresses, options, messages, log lines and
//! exit codes.
//!
//! Nothing here touches a socket beyond resolving a name: all sockets and threads are in the examples.
//! A copy of an example replaces this crate with a configuration and a logger of its own, because
//! below `run` an example uses only the three macros.
//!
//! A whole program:
//!
//! ```no_run
//! use common::{info, warn};
//! use std::net::UdpSocket;
//!
//! const HELP: &str = "\
//! Usage: sink [OPTIONS] [ADDR]
//!
//! Receives datagrams and discards them.
//!
//! Arguments:
//!   ADDR        address to bind [default: 127.0.0.1:8888]
//!
//! Options:
//!   --count N   exit after N datagrams [default: 3]
//!   --quiet     print only the address and system errors
//! ";
//!
//! fn main() -> std::process::ExitCode {
//!     common::main(HELP, env!("CARGO_PKG_VERSION"), run)
//! }
//!
//! fn run(args: &common::Args) -> Result<(), common::Error> {
//!     let address = args.address()?;
//!     let count = args.number("--count", u64::MAX)?.unwrap_or(3);
//!     let socket = UdpSocket::bind(&address.resolve()?[..])
//!         .map_err(|error| common::Error::failed(format_args!("cannot bind {address}"), &error))?;
//!     for _ in 0..count {
//!         match socket.recv_from(&mut [0; 65_535]) {
//!             Ok((length, client)) => info!("{length} bytes from {client}"),
//!             Err(error) => warn!("cannot receive: {error}"),
//!         }
//!     }
//!     Ok(())
//! }
//! ```

mod address;
mod args;
mod exit;
#[doc(hidden)]
pub mod log;
mod stdin;

pub use address::Address;
pub use args::Args;
pub use exit::Error;
pub use log::{listening, print};
pub use stdin::{on_eof, payloads};

use std::process::ExitCode;

/// Parses the command line, calls `run`, and turns an error into one line on standard error and an
/// exit code: 0 for success, 1 for a failure, 2 for a wrong command line.
///
/// `help` is what `--help` prints and the grammar of the command line ([`Args::parse`]). `version`
/// is what `--version` prints: `env!("CARGO_PKG_VERSION")`, which expands in the program.
pub fn main(help: &'static str, version: &str, run: fn(&Args) -> Result<(), Error>) -> ExitCode {
    log::set_program(args::program(help));
    let parsed = Args::parse(help, version, std::env::args_os().skip(1));
    let result = parsed.and_then(|args| {
        log::set_quiet(args.flag("--quiet"));
        run(&args)
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// Returns 100,000 sequences of up to six words, for the tests of the parsers.
#[cfg(test)]
fn random_words<'a>(words: &'a [&str]) -> impl Iterator<Item = Vec<&'a str>> {
    let mut random = 1_u64; // xorshift (Marsaglia 2003)
    let sequence = move |_| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let numbers = (0..random % 7).map(|n| (random >> (8 * n + 3)) as usize);
        numbers.map(|number| words[number % words.len()]).collect()
    };
    (0..100_000).map(sequence)
}
