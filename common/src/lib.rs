//! The command line of the examples and their output: addresses, options, messages, log lines and
//! exit codes.
//!
//! Beyond resolving a name, nothing here touches a socket. Above `HELP`, an example uses only the three
//! macros, so a copy replaces this crate with a configuration and a logger of its own.

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

use std::process::{ExitCode, Termination};
use std::sync::atomic::Ordering::Relaxed;

/// Parses the command line, calls `run`, and turns an error into one line on standard error and an
/// exit code: 0 for success, or what `run` returns, 1 for a failure, 2 for a wrong command line.
///
/// `help` is what `--help` prints and the grammar of the command line ([`Args::parse`]). `version`
/// is what `--version` prints: `env!("CARGO_PKG_VERSION")`, which expands in the program.
pub fn main<T: Termination>(
    help: &'static str,
    version: &str,
    run: fn(&Args) -> Result<T, Error>,
) -> ExitCode {
    log::set_program(args::program(help));
    let parsed = Args::parse(help, version, std::env::args_os().skip(1));
    let result = parsed.and_then(|args| {
        log::QUIET.store(args.flag("--quiet"), Relaxed);
        run(&args)
    });
    match result {
        Ok(code) => code.report(),
        Err(error) => error.report(),
    }
}
