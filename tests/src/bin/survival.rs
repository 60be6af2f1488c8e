//! The command line of the survival table.

use std::process::ExitCode;

const HELP: &str = "\
Usage: survival [OPTIONS]

Injects every fault into every candidate, and prints the survival table.

Options:
  --write        also update the page and the picture
  -h, --help     print this help
  -V, --version  print the version

Exit code: 0 if the table is complete, 1 if not, 2 for a wrong command line.
";

fn main() -> ExitCode {
    common::main(HELP, env!("CARGO_PKG_VERSION"), |args| {
        let is_complete = tests::survival::survival(args.flag("--write"));
        Ok(ExitCode::from(u8::from(!is_complete)))
    })
}
