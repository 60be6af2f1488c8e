//! The benchmark: measures our servers and the competitors side by side.
//!
//! Each server runs as a process of its own on loopback. Each round starts, measures and stops every
//! server of a row in turn (A B C A B C …), so that a disturbance of the machine affects them alike.
//! `cargo bench -- --help` describes the options; docs/benchmarks.md describes the method.

mod load;
mod plot;
mod process;
mod report;

use load::Work;
use process::Running;
use report::{HEADER, Record};
use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::Duration;
use tests::candidates::{CANDIDATES, Candidate};

const HELP: &str = "\
Usage: cargo bench -- [OPTIONS] [TEXT...]

Measures our servers and the competitors on this machine.

Arguments:
  [TEXT...]  measure only the rows whose title contains one of these [default: all]

Options:
      --quick        run fewer and shorter rounds, in less than a minute
      --csv FILE     write the figures of every round to FILE
      --report FILE  measure nothing; make FILE's page and plots from FILE, a CSV file
      --check        measure nothing; start every candidate once and check its reply
  -h, --help         print this help

A relative FILE is looked up in the workspace.
";

/// What is measured, and on which servers: the name of a candidate and its arguments.
struct Row {
    title: &'static str,
    work: Work,
    servers: &'static [&'static str],
}

#[rustfmt::skip]
const UDP: &[&str] = &[
    "udp-echo", "udp-threaded", "c-udp", "rust-udp", "go-udp", "tokio-udp", "tokio-udp 2",
    "python-udp", "article-udp",
];
/// Without the article's server, whose buffer has 1,024 bytes.
const UDP_LARGE: &[&str] = UDP.split_at(UDP.len() - 1).0;
#[rustfmt::skip]
const TCP: &[&str] = &[
    "tcp-threaded", "c-tcp", "rust-tcp", "go-tcp", "tokio-tcp", "python-tcp 1024",
];
/// More connections than the 256 workers that are the default.
#[rustfmt::skip]
const MANY: &[&str] = &[
    "tcp-threaded --workers 1024", "c-tcp", "rust-tcp", "go-tcp", "tokio-tcp", "python-tcp 1024",
];
const WORKERS: &[&str] = &["tcp-threaded --workers 1024", "udp-threaded --workers 1024"];

const fn row(title: &'static str, work: Work, servers: &'static [&'static str]) -> Row {
    Row { title, work, servers }
}

const ROWS: [Row; 11] = [
    row("UDP, 64 B, 64 clients", Work::Exchange { size: 64, clients: 64, window: 1 }, UDP),
    row("UDP, 8 KiB, 8 clients", Work::Exchange { size: 8192, clients: 8, window: 1 }, UDP_LARGE),
    row("TCP, connect, 5 B each way, close", Work::Churn, TCP),
    row("TCP, 64 B, 64 connections", Work::Exchange { size: 64, clients: 64, window: 1 }, TCP),
    row("TCP, 64 B, 512 connections", Work::Exchange { size: 64, clients: 512, window: 1 }, MANY),
    row("TCP, 8 KiB, pipelined", Work::Exchange { size: 8192, clients: 8, window: 8 }, TCP),
    row("TCP, 64 KiB blocks, one connection", Work::Bulk, TCP),
    row("1,000 TCP connections at once", Work::Burst { clients: 1000 }, MANY),
    row("1,000 idle TCP connections", Work::Idle { clients: 1000 }, MANY),
    row("Start to the first reply", Work::Start { threads: 0 }, TCP),
    row("Start of 1,024 workers", Work::Start { threads: 1024 }, WORKERS),
];

fn candidate(server: &str) -> Candidate {
    let named = |candidate: &Candidate| server.split(' ').next() == Some(candidate.name);
    CANDIDATES.into_iter().find(named).expect("each server of a row is a candidate")
}

/// Returns the command that starts a server.
fn command(server: &str, port: u16) -> Result<Command, String> {
    let mut command = candidate(server).command(port)?;
    command.args(server.split(' ').skip(1));
    command.args(candidate(server).is_ours().then_some("--quiet"));
    Ok(command)
}

/// Returns the name of a server in tables and plots.
fn label(server: &str) -> String {
    match server {
        "tokio-udp 2" => "tokio, two tasks".into(),
        _ if candidate(server).is_ours() => server.into(),
        _ => candidate(server).label.into(),
    }
}

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    eprintln!("bench: {error}");
    ExitCode::FAILURE
}

fn run() -> Result<(), Box<dyn Error>> {
    const NO_FILE: &str = "the name of a FILE is missing";
    env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))?;
    let (mut quick, mut texts) = (false, Vec::new());
    let mut csv: Box<dyn Write> = Box::new(io::sink());
    // Cargo adds `--bench`, except in `cargo test`.
    let is_bench = env::args().any(|arg| arg == "--bench");
    let mut args = env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => quick = true,
            "--csv" => csv = Box::new(File::create(args.next().ok_or(NO_FILE)?)?),
            "--report" => return report::write(&args.next().ok_or(NO_FILE)?),
            "--check" => return check(),
            "-h" | "--help" => {
                print!("{HELP}");
                return Ok(());
            }
            _ if arg.starts_with('-') => return Err(format!("unknown option {arg}").into()),
            _ => texts.push(arg),
        }
    }
    let mut rows = Vec::from_iter(&ROWS);
    rows.retain(|row| texts.is_empty() || texts.iter().any(|text| row.title.contains(text)));
    if rows.is_empty() {
        return Err("no row has such a title".into());
    }
    if !is_bench {
        println!("not run: only `cargo bench` builds with optimization");
        return Ok(());
    }
    measure(&rows, quick, csv)
}

/// Starts every candidate once.
fn check() -> Result<(), Box<dyn Error>> {
    for Candidate { name, .. } in CANDIDATES {
        let running = Running::start(name, 0).map_err(|error| format!("{name}: {error}"))?;
        println!("{name}: replied after {:.1} ms", running.startup * 1e3);
    }
    Ok(())
}

fn measure(rows: &[&Row], quick: bool, mut csv: Box<dyn Write>) -> Result<(), Box<dyn Error>> {
    let (rounds, time) = if quick { (3, 0.1) } else { (9, 0.5) };
    let machine = format!("{rounds} rounds of {time} s; {}", machine());
    println!("{machine}");
    for server in rows.iter().flat_map(|row| row.servers).collect::<BTreeSet<_>>() {
        if let Err(error) = command(server, 0) {
            println!("not measured: {server} ({error})");
        }
    }
    writeln!(csv, "# {machine}\n{HEADER}")?;
    let mut records = Vec::new();
    for (number, row) in (1..).zip(rows) {
        eprintln!("[{number}/{}] {}", rows.len(), row.title);
        for round in 1..=rounds {
            for server in row.servers.iter().filter(|server| command(server, 0).is_ok()) {
                match load::measure(server, row.work, Duration::from_secs_f64(time)) {
                    Ok(sample) => {
                        let (work, server) = (row.title.into(), server.to_string());
                        let record = Record { work, server, sample };
                        writeln!(csv, "{}", record.to_csv(round))?;
                        records.push(record);
                    }
                    Err(error) => eprintln!("{server}: {error}"),
                }
            }
        }
    }
    print!("\n{}", report::table(&records));
    match records.iter().map(|record| record.sample.wrong).sum() {
        0.0 => Ok(()),
        wrong => Err(format!("{wrong} replies were wrong").into()),
    }
}

/// Describes the machine and the versions that are measured.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let version = |(program, arg)| {
        let output = Command::new(program).arg(arg).output().map(|output| output.stdout);
        let text = String::from_utf8(output.unwrap_or_default()).unwrap_or_default();
        text.lines().next().map_or(format!("no {program}"), String::from)
    };
    let versions =
        [("rustc", "-V"), ("gcc", "--version"), ("go", "version"), ("python3", "-V")].map(version);
    let lock = include_str!("../../competitors/tokio/Cargo.lock");
    let tokio = lock.split_once("name = \"tokio\"\nversion = \"").map_or("", |(_, rest)| rest);
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name\t: "));
    format!(
        "{} cores ({}), {} {}; {}; tokio {}",
        load::cores(),
        model.unwrap_or("unknown model"),
        env::consts::OS,
        read("/proc/sys/kernel/osrelease").trim(),
        versions.join("; "),
        tokio.split('"').next().unwrap_or_default(),
    )
}
