//! The smoke run: each pair once, as processes, with what each side prints.
//!
//! ```sh
//! cargo run -p tests                # all four
//! cargo run -p tests -- udp-echo    # that one
//! ```
//!
//! The exit code is 0 when all went well, 1 when something did not, 2 for an unknown pair.

use std::env;
use std::panic;
use std::process::{Command, ExitCode};
use tests::{Process, Server, program};

struct Pair {
    name: &'static str,
    options: &'static [&'static str],
    /// With a timeout so long that a busy machine does not make a client ask twice.
    messages: &'static [&'static str],
    /// What each line of the client begins with; sorted, for answers may overtake each other.
    expected: &'static [&'static str],
}

const PAIRS: &[Pair] = &[
    Pair {
        name: "udp-basic",
        options: &[],
        messages: &["hello", "world", "sdfas"],
        expected: &[r#"sent "hello" to"#, r#"sent "sdfas" to"#, r#"sent "world" to"#],
    },
    Pair {
        name: "udp-echo",
        options: &["--count", "2"],
        messages: &["--timeout", "30", "hello", "world"],
        expected: &["HELLO", "WORLD"],
    },
    Pair {
        name: "tcp-threaded",
        options: &["--count", "1"],
        messages: &["hello world"],
        expected: &["HELLO WORLD"],
    },
    Pair {
        name: "udp-threaded",
        options: &["--count", "4", "--workers", "4", "--delay", "0.5"],
        messages: &["--timeout", "30", "one", "two", "three", "four"],
        expected: &["FOUR", "ONE", "THREE", "TWO"],
    },
];

fn main() -> ExitCode {
    let asked: Vec<String> = env::args().skip(1).collect();
    if let Some(unknown) = asked.iter().find(|name| PAIRS.iter().all(|pair| pair.name != *name)) {
        let pairs: Vec<&str> = PAIRS.iter().map(|pair| pair.name).collect();
        let pairs = pairs.join(" ");
        let usage = format!("Usage: cargo run -p tests -- [PAIR...]\n\nPairs: {pairs}");
        if unknown == "-h" || unknown == "--help" {
            println!("{usage}");
            return ExitCode::SUCCESS;
        }
        eprintln!("tests: unknown pair {unknown:?}\n{usage}");
        return ExitCode::from(2);
    }
    eprintln!("building the examples ...");
    if panic::catch_unwind(|| program("")).is_err() {
        return ExitCode::FAILURE;
    }
    let mut results = Vec::new();
    for pair in PAIRS {
        if asked.is_empty() || asked.iter().any(|asked| asked == pair.name) {
            println!("{}", pair.name);
            // The harness panics when something does not come in time, and says what.
            let talked = panic::catch_unwind(|| talk(pair));
            results.push((pair.name, talked.unwrap_or_else(|_| Err("see above".into()))));
            println!();
        }
    }
    for (name, result) in &results {
        match result {
            Ok(()) => println!("{name}: ok"),
            Err(why) => println!("{name}: FAILED: {why}"),
        }
    }
    ExitCode::from(u8::from(results.iter().any(|(_, result)| result.is_err())))
}

/// Lets a server and its client talk, and checks what they said and how they ended.
fn talk(pair: &Pair) -> Result<(), String> {
    let &Pair { name, options, messages, expected } = pair;
    let start = |side: &'static str, address: &str, arguments: &[&str]| {
        let mut command = Command::new(program(&format!("{name}-{side}")));
        command.arg(address).args(arguments);
        Process::spawn_and_tell(&mut command, move |line| println!("  {side}  {line}"))
    };
    let server = Server::listening(start("server", "127.0.0.1:0", options));
    let mut client = start("client", &server.address().to_string(), messages);
    let code = client.exit_code();
    let output = client.stdout();
    let mut lines: Vec<&str> = output.lines().collect();
    lines.sort_unstable();
    if code != 0 {
        return Err(format!("the client ended with exit code {code}"));
    }
    if lines.len() != expected.len() || !lines.iter().zip(expected).all(|(l, e)| l.starts_with(e)) {
        return Err(format!("the client printed {lines:?}, not {expected:?}"));
    }
    match server.finish() {
        0 => Ok(()),
        code => Err(format!("the server ended with exit code {code}")),
    }
}
