//! The demo: runs each pair once, and shows and checks the output of both sides.
//!
//! ```sh
//! cargo run -p tests                        # all pairs
//! cargo run -p tests -- udp-echo            # one pair
//! cargo run -p tests -- --bin-dir DIR       # programs that are built already, without Cargo
//! ```
//!
//! The exit code is 0 if all pairs worked, 1 if one did not, 2 for a wrong command line. The demo
//! exits within 30 seconds after building.

use std::env;
use std::panic;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use tests::{Process, Server, program};

const LIMIT: Duration = Duration::from_secs(30);

struct Pair {
    name: &'static str,
    options: &'static [&'static str],
    messages: &'static [&'static str],
    /// The number of lines that the server prints.
    lines: usize,
}

const PAIRS: [Pair; 4] = [
    Pair { name: "udp-basic", options: &[], messages: &["hello", "world", "sdfas"], lines: 4 },
    Pair { name: "udp-echo", options: &["--count=2"], messages: &["hello", "world"], lines: 3 },
    Pair { name: "tcp-threaded", options: &["--count=1"], messages: &["hello world"], lines: 4 },
    Pair {
        name: "udp-threaded",
        options: &["--count=4", "--workers=4", "--delay=0.5"],
        messages: &["one", "two", "three", "four"],
        lines: 5,
    },
];

/// How long `udp-threaded-server` delays each reply.
const DELAY: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let mut names: Vec<String> = env::args().skip(1).collect();
    match names.first().map(String::as_str) {
        Some("check") => return tests::faults::check(&names[1..]),
        Some("survival") => return tests::survival::survival(&names[1..]),
        _ => {}
    }
    if names.iter().any(|name| name == "-h" || name == "--help") {
        println!("{}", usage());
        return ExitCode::SUCCESS;
    }
    if let Some(index) = names.iter().position(|name| name == "--bin-dir") {
        if index + 1 == names.len() {
            eprintln!("tests: --bin-dir needs a value\n{}", usage());
            return ExitCode::from(2);
        }
        tests::use_bin_dir(names.remove(index + 1).into());
        names.remove(index);
    }
    if let Some(unknown) = names.iter().find(|name| PAIRS.iter().all(|pair| pair.name != *name)) {
        eprintln!("tests: unknown pair {unknown:?}\n{}", usage());
        return ExitCode::from(2);
    }
    eprintln!("building the examples ...");
    if panic::catch_unwind(|| program("")).is_err() {
        return ExitCode::FAILURE;
    }
    demo(&names)
}

fn usage() -> String {
    let pairs: Vec<&str> = PAIRS.iter().map(|pair| pair.name).collect();
    format!(
        "\
Usage: cargo run -p tests -- [--bin-dir DIR] [PAIR...]
       cargo run -p tests -- check --help
       cargo run -p tests -- survival [--write]

Runs each pair, or injects faults into a server of yours, or makes the survival table.

Pairs: {}",
        pairs.join(" ")
    )
}

/// Runs the pairs with these names, or all of them.
fn demo(names: &[String]) -> ExitCode {
    let limit = Instant::now() + LIMIT;
    let mut results = Vec::new();
    for pair in &PAIRS {
        if names.is_empty() || names.iter().any(|name| name == pair.name) {
            println!("{}", pair.name);
            let start = Instant::now();
            // A panic prints its reason.
            let result = panic::catch_unwind(|| run(pair, limit));
            results.push((pair.name, result.is_ok()));
            println!("  took {:.2} s\n", start.elapsed().as_secs_f64());
        }
    }
    for (name, is_ok) in &results {
        println!("{name}: {}", if *is_ok { "ok" } else { "FAILED: see above" });
    }
    ExitCode::from(u8::from(results.iter().any(|(_, is_ok)| !is_ok)))
}

/// Runs a server and its client, and checks what they print and how they exit.
fn run(pair: &Pair, limit: Instant) {
    let &Pair { name, options, messages, lines } = pair;
    let start = |side: &'static str, address: &str, options: &[&str], messages: &[&str]| {
        let mut command = Command::new(program(&format!("{name}-{side}")));
        command.args(options).arg(address).args(messages);
        Process::spawn_with(&mut command, Some(limit), move |line| println!("  {side}  {line}"))
    };
    let mut server = Server::listening(start("server", "127.0.0.1:0", options, &[]));
    let started = Instant::now();
    // With a timeout after which the demo is over, no request is repeated.
    let patience: &[&str] = if name == "udp-basic" { &[] } else { &["--timeout=30"] };
    let mut client = start("client", &server.address().to_string(), patience, messages);
    assert_eq!(client.exit_code(), 0, "the exit code of the client");
    let took = started.elapsed();
    assert_eq!(server.exit_code(), 0, "the exit code of the server");
    let expected = messages.iter().map(|message| match name {
        "udp-basic" => format!("sent \"{message}\" to 127.0.0.1:"),
        _ => message.to_uppercase(),
    });
    assert_lines(&client.stdout(), messages.len(), expected);
    let expected = messages.iter().map(|message| format!("\"{message}\" from 127.0.0.1:"));
    assert_lines(&server.stdout(), lines, expected);
    // Without overlap the delays would add up.
    let overlapped = name != "udp-threaded" || took < DELAY * messages.len() as u32;
    assert!(overlapped, "replies were not delayed at the same time, but took {took:.2?}");
}

/// Asserts that one side printed this number of lines, among them one for each message.
fn assert_lines(output: &str, count: usize, expected: impl Iterator<Item = String>) {
    let mut lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), count, "the number of lines");
    for start in expected {
        let index = lines.iter().position(|line| line.starts_with(&start));
        lines.swap_remove(index.unwrap_or_else(|| panic!("no other line begins with {start:?}")));
    }
}
