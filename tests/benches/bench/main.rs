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
use report::Record;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, fs};
use tests::competitors::{CANDIDATES, Candidate};

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
const TCP_MANY: &[&str] = &[
    "tcp-threaded --workers 1024", "c-tcp", "rust-tcp", "go-tcp", "tokio-tcp", "python-tcp 1024",
];
const WORKERS: &[&str] = &["tcp-threaded --workers 1024", "udp-threaded --workers 1024"];

const fn row(title: &'static str, work: Work, servers: &'static [&'static str]) -> Row {
    Row { title, work, servers }
}

const ROWS: [Row; 11] = [
    row("UDP, 64 B, 64 clients", Work::Exchanges { size: 64, clients: 64, window: 1 }, UDP),
    row("UDP, 8 KiB, 8 clients", Work::Exchanges { size: 8192, clients: 8, window: 1 }, UDP_LARGE),
    row("TCP, connect, 5 B each way, close", Work::Churn, TCP),
    row("TCP, 64 B, 64 connections", Work::Exchanges { size: 64, clients: 64, window: 1 }, TCP),
    row(
        "TCP, 64 B, 512 connections",
        Work::Exchanges { size: 64, clients: 512, window: 1 },
        TCP_MANY,
    ),
    row("TCP, 8 KiB, pipelined", Work::Exchanges { size: 8192, clients: 8, window: 8 }, TCP),
    row("TCP, 64 KiB blocks, one connection", Work::Bulk, TCP),
    row("1,000 TCP connections at once", Work::Burst { clients: 1000 }, TCP_MANY),
    row("1,000 idle TCP connections", Work::Idle { clients: 1000 }, TCP_MANY),
    row("Start to the first reply", Work::Start, TCP),
    row("Start of 1,024 workers", Work::Threads { count: 1024 }, WORKERS),
];

fn candidate(server: &str) -> Candidate {
    Candidate::named(server.split(' ').next().unwrap_or_default())
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
    let (mut texts, mut csv, mut report) = (Vec::new(), None, None);
    let (mut quick, mut check) = (false, false);
    // Cargo adds this one, except in `cargo test`.
    let bench = env::args().any(|arg| arg == "--bench");
    let mut args = env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => quick = true,
            "--check" => check = true,
            "--csv" | "--report" => {
                let Some(file) = args.next() else { return usage(&format!("{arg} needs a FILE")) };
                let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
                *(if arg == "--csv" { &mut csv } else { &mut report }) = Some(file);
            }
            "-h" | "--help" => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            _ if arg.starts_with('-') => return usage(&format!("unknown option {arg}")),
            _ => texts.push(arg),
        }
    }
    let mut rows: Vec<&Row> = ROWS.iter().collect();
    rows.retain(|row| texts.is_empty() || texts.iter().any(|text| row.title.contains(text)));
    let result = match report {
        _ if rows.is_empty() => return usage("no row has such a title"),
        Some(file) => report::write(&file),
        None if check => check_all(),
        None if !bench => {
            println!("not run: only `cargo bench` builds with optimization");
            Ok(())
        }
        None => measure(&rows, quick, csv),
    };
    if let Err(error) = &result {
        eprintln!("bench: {error}");
    }
    ExitCode::from(u8::from(result.is_err()))
}

fn usage(error: &str) -> ExitCode {
    eprintln!("bench: {error}\n\n{HELP}");
    ExitCode::from(2)
}

/// Starts every candidate once.
fn check_all() -> Result<(), Box<dyn Error>> {
    for Candidate { name, .. } in CANDIDATES {
        let running = Running::start(name).map_err(|error| format!("{name}: {error}"))?;
        println!("{name}: replied after {:.1} ms", running.startup * 1e3);
    }
    Ok(())
}

fn measure(rows: &[&Row], quick: bool, csv: Option<PathBuf>) -> Result<(), Box<dyn Error>> {
    let (rounds, time) = if quick { (3, 0.1) } else { (9, 0.5) };
    let machine = format!("{rounds} rounds of {time} s; {}", machine());
    println!("{machine}");
    let mut csv = csv.map(fs::File::create).transpose()?;
    let mut missing = BTreeMap::new();
    for server in rows.iter().flat_map(|row| row.servers) {
        if let Err(error) = command(server, 0) {
            missing.insert(server, error);
        }
    }
    missing.iter().for_each(|(server, error)| println!("not measured: {server} ({error})"));
    let mut records = Vec::new();
    for (number, row) in (1..).zip(rows) {
        eprintln!("[{number}/{}] {}", rows.len(), row.title);
        for round in 1..=rounds {
            for server in row.servers.iter().filter(|server| !missing.contains_key(server)) {
                match load::measure(server, row.work, Duration::from_secs_f64(time)) {
                    Ok(sample) => {
                        let (work, server) = (row.title.into(), server.to_string());
                        records.push(Record { work, server, round, sample });
                    }
                    Err(error) => eprintln!("{server}: {error}"),
                }
            }
        }
    }
    if let Some(file) = &mut csv {
        file.write_all(report::csv(&machine, &records).as_bytes())?;
    }
    print!("\n{}", report::table(&records));
    match records.iter().map(|record| record.sample.wrong).sum() {
        0 => Ok(()),
        wrong => Err(format!("{wrong} replies were wrong").into()),
    }
}

/// Describes the machine and the versions that are measured.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let version = |program, arg| {
        let output = Command::new(program).arg(arg).output().map(|output| output.stdout);
        let text = String::from_utf8(output.unwrap_or_default()).unwrap_or_default();
        let version = text.split(' ').map(|word| word.trim().trim_start_matches("go"));
        let mut version = version.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        version.next().unwrap_or("not found").to_string()
    };
    let lock = include_str!("../../competitors/tokio/Cargo.lock");
    let tokio = lock.split_once("name = \"tokio\"\nversion = \"").map_or("", |(_, rest)| rest);
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name\t: "));
    format!(
        "{} cores ({}), {} {}; Rust {}, gcc {}, Go {}, Python {}, tokio {}",
        std::thread::available_parallelism().map_or(1, |cores| cores.get()),
        model.unwrap_or("unknown model"),
        env::consts::OS,
        read("/proc/sys/kernel/osrelease").trim(),
        version("rustc", "-V"),
        version("gcc", "-dumpfullversion"),
        version("go", "version"),
        version("python3", "-V"),
        tokio.split('"').next().unwrap_or_default(),
    )
}
