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

use std::collections::BTreeSet;
use std::env;
use std::panic;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use tests::{Process, Server, program};

const LIMIT: Duration = Duration::from_secs(30);

/// Seconds for which `udp-threaded-server` delays each of its replies.
const DELAY: &str = "0.5";

struct Pair {
    name: &'static str,
    options: &'static [&'static str],
    /// The client's arguments, with a timeout after which the demo is over: no request is repeated.
    arguments: &'static [&'static str],
    /// The beginning of each line of the server and of the client, without ports, and sorted because
    /// datagrams and replies may be reordered.
    server: &'static [&'static str],
    client: &'static [&'static str],
}

const PAIRS: &[Pair] = &[
    Pair {
        name: "udp-basic",
        options: &[],
        arguments: &["hello", "world", "sdfas"],
        server: &["\"hello\" from", "\"sdfas\" from", "\"world\" from", "listening on"],
        client: &["sent \"hello\" to", "sent \"sdfas\" to", "sent \"world\" to"],
    },
    Pair {
        name: "udp-echo",
        options: &["--count", "2"],
        arguments: &["--timeout", "30", "hello", "world"],
        server: &["\"hello\" from", "\"world\" from", "listening on"],
        client: &["HELLO", "WORLD"],
    },
    Pair {
        name: "tcp-threaded",
        options: &["--count", "1"],
        arguments: &["--timeout", "30", "hello world"],
        server: &[
            "\"hello world\" from",
            "CLIENT closed after 11 bytes",
            "CLIENT connected",
            "listening on",
        ],
        client: &["HELLO WORLD"],
    },
    Pair {
        name: "udp-threaded",
        options: &["--count", "4", "--workers", "4", "--delay", DELAY],
        arguments: &["--timeout", "30", "one", "two", "three", "four"],
        server: &[
            "\"four\" from",
            "\"one\" from",
            "\"three\" from",
            "\"two\" from",
            "listening on",
        ],
        client: &["FOUR", "ONE", "THREE", "TWO"],
    },
];

fn main() -> ExitCode {
    let mut names: Vec<String> = env::args().skip(1).collect();
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
    format!("Usage: cargo run -p tests -- [--bin-dir DIR] [PAIR...]\n\nPairs: {}", pairs.join(" "))
}

/// Runs the pairs with these names, or all of them.
fn demo(names: &[String]) -> ExitCode {
    let limit = Instant::now() + LIMIT;
    let mut results = Vec::new();
    for pair in PAIRS {
        if names.is_empty() || names.iter().any(|name| name == pair.name) {
            println!("{}", pair.name);
            let start = Instant::now();
            // The harness panics if an event does not happen in time, and prints which.
            let result = panic::catch_unwind(|| run(pair, limit));
            results.push((pair.name, result.unwrap_or_else(|_| Err("see above".into()))));
            println!("  took {:.2} s\n", start.elapsed().as_secs_f64());
        }
    }
    for (name, result) in &results {
        match result {
            Ok(()) => println!("{name}: ok"),
            Err(error) => println!("{name}: FAILED: {error}"),
        }
    }
    ExitCode::from(u8::from(results.iter().any(|(_, result)| result.is_err())))
}

/// Runs a server and its client, and checks what they print and how they exit.
fn run(pair: &Pair, limit: Instant) -> Result<(), String> {
    let start = |side: &'static str, address: &str, arguments: &[&str]| {
        let mut command = Command::new(program(&format!("{}-{side}", pair.name)));
        command.arg(address).args(arguments);
        Process::spawn_with(&mut command, Some(limit), move |line| println!("  {side}  {line}"))
    };
    let mut server = Server::listening(start("server", "127.0.0.1:0", pair.options));
    let started = Instant::now();
    let mut client = start("client", &server.address().to_string(), pair.arguments);
    let code = client.exit_code();
    let took = started.elapsed();
    if code != 0 {
        return Err(format!("the client exited with code {code}"));
    }
    check("client", &client.stdout(), pair.client)?;
    let code = server.exit_code();
    if code != 0 {
        return Err(format!("the server exited with code {code}"));
    }
    check("server", &server.stdout(), pair.server)?;
    if pair.options.contains(&"--delay") {
        check_overlap(&server.stdout(), pair.client.len(), took)?;
    }
    Ok(())
}

/// Compares the lines of one side with their expected beginnings.
fn check(side: &str, output: &str, expected: &[&str]) -> Result<(), String> {
    let mut lines: Vec<String> = output.lines().map(without_client).collect();
    lines.sort_unstable();
    let same = lines.len() == expected.len()
        && lines.iter().zip(expected).all(|(line, expected)| line.starts_with(expected));
    if same { Ok(()) } else { Err(format!("the {side} printed {lines:?} instead of {expected:?}")) }
}

/// Replaces the client's address at the beginning of a line.
fn without_client(line: &str) -> String {
    match line.strip_prefix("127.0.0.1:").and_then(|line| line.split_once(' ')) {
        Some((_port, rest)) => format!("CLIENT {rest}"),
        None => line.to_string(),
    }
}

/// Checks that the workers delayed their replies at the same time, not one after the other.
fn check_overlap(output: &str, replies: usize, took: Duration) -> Result<(), String> {
    let workers: BTreeSet<&str> =
        output.lines().filter_map(|line| line.split_once("(worker ")).map(|(_, n)| n).collect();
    let in_turn = replies as f64 * DELAY.parse::<f64>().expect("a number");
    if workers.len() > 1 && took.as_secs_f64() < in_turn {
        return Ok(());
    }
    let took = took.as_secs_f64();
    Err(format!("{replies} replies by {} workers took {took:.2} s", workers.len()))
}
