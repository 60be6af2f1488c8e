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
use tests::{PAIRS, Process, program};

const USAGE: &str = "\
Usage: cargo run -p tests -- [--bin-dir DIR] [PAIR...]

Runs each PAIR (udp-basic, udp-echo, tcp-threaded, udp-threaded) and checks what both sides print.
";

fn main() -> ExitCode {
    let mut pairs = Vec::new();
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--bin-dir" => match args.next() {
                Some(directory) => tests::use_bin_dir(directory.into()),
                None => return usage_error("--bin-dir needs a value"),
            },
            "-h" | "--help" => {
                print!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            name => match PAIRS.into_iter().find(|pair| *pair == name) {
                Some(pair) => pairs.push(pair),
                None => return usage_error(&format!("unknown pair {name:?}")),
            },
        }
    }
    if pairs.is_empty() {
        pairs.extend(PAIRS);
    }
    eprintln!("building the examples ...");
    if panic::catch_unwind(|| program("")).is_err() {
        return ExitCode::FAILURE;
    }
    demo(&pairs)
}

fn usage_error(error: &str) -> ExitCode {
    eprint!("demo: {error}\n{USAGE}");
    ExitCode::from(2)
}

fn demo(pairs: &[&str]) -> ExitCode {
    let limit = Instant::now() + Duration::from_secs(30);
    let mut results = Vec::new();
    for pair in pairs {
        println!("{pair}");
        let start = Instant::now();
        // A panic prints its reason.
        results.push(panic::catch_unwind(|| run(pair, limit)).is_ok());
        println!("  took {:.2} s\n", start.elapsed().as_secs_f64());
    }
    for (pair, is_ok) in pairs.iter().zip(&results) {
        println!("{pair}: {}", if *is_ok { "ok" } else { "FAILED: see above" });
    }
    ExitCode::from(u8::from(results.contains(&false)))
}

/// Runs a server and its client, and checks what they print and how they exit.
fn run(name: &str, limit: Instant) {
    let (options, messages): (&[&str], &[&str]) = match name {
        "udp-basic" => (&[], &["hello", "world", "sdfas"]),
        "udp-echo" => (&["--count=2"], &["hello", "world"]),
        "tcp-threaded" => (&["--count=1"], &["hello world"]),
        _ => (&["--count=4", "--workers=4", "--delay=0.5"], &["one", "two", "three", "four"]),
    };
    let spawn = |side: &str, arguments: &[&[&str]]| {
        let program = program(&format!("{name}-{side}"));
        let mut process = Process::spawn(Command::new(program).args(arguments.concat()));
        process.limit = Some(limit);
        process
    };
    let mut server = spawn("server", &[&["127.0.0.1:0"], options]);
    let started = Instant::now();
    // With a timeout after which the demo is over, no request is repeated.
    let patience: &[&str] = if name == "udp-basic" { &[] } else { &["--timeout=30"] };
    let mut client = spawn("client", &[patience, &[&server.address().to_string()], messages]);
    assert_eq!(client.exit_code(), 0, "the exit code of the client");
    let took = started.elapsed();
    assert_eq!(server.exit_code(), 0, "the exit code of the server");
    check("server", &server, messages, |message| format!("\"{message}\" from 127.0.0.1:"));
    check("client", &client, messages, |message| match name {
        "udp-basic" => format!("sent \"{message}\" to 127.0.0.1:"),
        _ => message.to_uppercase(),
    });
    // Without overlap the delays of 0.5 s would add up.
    let overlapped = name != "udp-threaded" || took.as_secs_f64() < 0.5 * messages.len() as f64;
    assert!(overlapped, "replies were not delayed at the same time, but took {took:.2?}");
}

/// Prints the output of one side, and checks that one line begins with the `start` of each message.
fn check(side: &str, process: &Process, messages: &[&str], start: impl Fn(&str) -> String) {
    let (stdout, stderr) = (process.stdout(), process.stderr());
    stdout.lines().chain(stderr.lines()).for_each(|line| println!("  {side}  {line}"));
    for start in messages.iter().map(|message| start(message)) {
        let count = stdout.lines().filter(|line| line.starts_with(&start)).count();
        assert_eq!(count, 1, "lines that begin with {start:?}");
    }
}
