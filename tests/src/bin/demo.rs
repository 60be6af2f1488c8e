//! The demo: runs each pair once, and shows and checks the output of both sides.

use std::panic;
use std::process::{Command, ExitCode};
use std::time::Instant;
use tests::{PAIRS, Pair, Process};

const HELP: &str = "\
Usage: demo [OPTIONS] [PAIR...]

Runs each PAIR, all of them by default, and checks what both sides print:
  {pairs}

Options:
  -h, --help     print this help
  -V, --version  print the version

Exit code: 0 if all pairs worked, 1 if one did not, 2 for a wrong command line.
";

fn main() -> ExitCode {
    let names = PAIRS.iter().map(|pair| pair.name).collect::<Vec<&str>>();
    let help = HELP.replace("{pairs}", &names.join(", ")).leak();
    common::main(help, env!("CARGO_PKG_VERSION"), |args| {
        let mut pairs = Vec::new();
        for name in args.positionals()?.0 {
            let pair = PAIRS.iter().find(|pair| pair.name == name);
            pairs.push(pair.ok_or(common::Error::Usage(format!("unknown pair {name:?}")))?);
        }
        if pairs.is_empty() {
            pairs.extend(PAIRS);
        }
        eprintln!("building the examples ...");
        // If they do not build, each pair fails.
        let _ = panic::catch_unwind(|| tests::program(""));
        Ok(demo(&pairs))
    })
}

fn demo(pairs: &[&Pair]) -> ExitCode {
    let mut results = Vec::new();
    for pair in pairs {
        println!("{}", pair.name);
        let start = Instant::now();
        // A panic prints its reason.
        results.push(panic::catch_unwind(|| run_pair(pair)).is_ok());
        println!("  took {:.2} s\n", start.elapsed().as_secs_f64());
    }
    for (pair, is_ok) in pairs.iter().zip(&results) {
        println!("{}: {}", pair.name, if *is_ok { "ok" } else { "FAILED: see above" });
    }
    ExitCode::from(u8::from(results.contains(&false)))
}

/// Runs a server and its client, and checks what they print and how they exit.
fn run_pair(pair: &Pair) {
    let spawn = |program: String, arguments: &[&[&str]]| {
        Process::spawn(Command::new(tests::program(&program)).args(arguments.concat()))
    };
    let mut server = spawn(pair.server(), &[&["127.0.0.1:0"], pair.options]);
    // With such a timeout, no request is repeated.
    let patience: &[&str] = if pair.replies() { &["--timeout=30"] } else { &[] };
    let address = server.address().to_string();
    let mut client = spawn(pair.client(), &[patience, &[&address], pair.messages]);
    assert_eq!(client.exit_code(), 0, "the exit code of the client");
    assert_eq!(server.exit_code(), 0, "the exit code of the server");
    check("server", &server, pair, |message, line| {
        line.starts_with(&format!("\"{message}\" from 127.0.0.1:"))
    });
    check("client", &client, pair, |message, line| pair.prints(message, line));
}

/// Prints the output of one side, and checks that each message has one line.
fn check(side: &str, process: &Process, pair: &Pair, is_line: impl Fn(&str, &str) -> bool) {
    let (stdout, stderr) = (process.stdout(), process.stderr());
    stdout.lines().chain(stderr.lines()).for_each(|line| println!("  {side}  {line}"));
    for message in pair.messages {
        let is_printed = stdout.lines().any(|line| is_line(message, line));
        assert!(is_printed, "the {side} prints no line for {message:?}");
    }
    let is_any = |line: &&str| pair.messages.iter().any(|message| is_line(message, line));
    let count = stdout.lines().filter(is_any).count();
    assert_eq!(count, pair.messages.len(), "the lines of the {side} that are about messages");
}
