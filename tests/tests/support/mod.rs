//! What the tests share beyond the harness.

use assert_cmd::Command;

/// A client (or any example) to run to its end under the deadline.
pub fn client(name: &str) -> Command {
    let mut command = Command::new(tests::program(name));
    command.timeout(tests::DEADLINE);
    command
}
