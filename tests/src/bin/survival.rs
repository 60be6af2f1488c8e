//! The command line of the survival table.

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let write = match arguments.as_slice() {
        [] => false,
        [option] if option == "--write" => true,
        _ => {
            eprintln!("Usage: cargo run --bin survival -- [--write]");
            return ExitCode::from(2);
        }
    };
    if tests::survival::survival(write) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
