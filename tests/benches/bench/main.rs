//! The benchmark: our servers against what people would pick instead, and against the floor that the
//! kernel sets. `cargo bench -- --help` tells how to run it.
//!
//! Each server runs as a process of its own, optimised, on loopback. In every round each server of a
//! row is started anew, measured, and stopped, one after the other (A B C A B C ...), so that what
//! else the machine does hits all alike; the median of the rounds is shown, with half of the range of
//! their middle half.
//! CPU time and memory come from Linux's `/proc`.

mod load;
mod report;
mod servers;

use load::Work;
use report::{Measured, Progress};
use servers::Kind::{C, Floor, Python, Rust};
use servers::{Contender, ours, peer};
use std::collections::HashMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs};

const HELP: &str = "\
Usage: cargo bench -- [--quick] [--csv FILE] [PART...]

Measures our servers, and others of their kind, on this machine.

  PART        only this: udp workers slow tcp churn storm memory start (default: all)
  --quick     less than a minute: fewer, shorter rounds of what the sentences need
  --csv FILE  keep the figures of each round
";

const PARTS: [&str; 8] = ["udp", "workers", "slow", "tcp", "churn", "storm", "memory", "start"];

const UDP_ECHO: Contender = ours("udp-echo");
const UDP_THREADED: Contender = ours("udp-threaded");
const C_UDP_FLOOR: Contender = peer("C floor", Floor, "udp.c");
const C_UDP: Contender = peer("C with toupper", C, "udp.c");
const RUST_UDP: Contender = peer("Rust thread per datagram", Rust, "thread_per_datagram.rs");
const PYTHON_UDP: Contender = peer("Python ThreadingUDPServer", Python, "threading_udp.py");
const PYTHON_RAW: Contender = peer("Python raw socket", Python, "raw_udp.py");
const ARTICLE_RAW: Contender = peer("Python raw socket, article's", Python, "raw_udp.py 1024");

const TCP_THREADED: Contender = ours("tcp-threaded");
const TCP_THREADED_1024: Contender = ours("tcp-threaded --workers 1024");
const C_TCP_FLOOR: Contender = peer("C thread per connection, floor", Floor, "tcp.c");
const C_TCP: Contender = peer("C thread per connection", C, "tcp.c");
const RUST_TCP: Contender = peer("Rust thread per connection", Rust, "thread_per_connection.rs");
const PYTHON_TCP: Contender = peer("Python ThreadingTCPServer", Python, "threading_tcp.py");
const ARTICLE_TCP: Contender =
    peer("Python ThreadingTCPServer, article's", Python, "threading_tcp.py article");

const WORKERS: [Contender; 4] = [
    ours("udp-threaded --workers 1"),
    ours("udp-threaded --workers 2"),
    ours("udp-threaded --workers 4"),
    ours("udp-threaded --workers 8"),
];
const SLOW: [Contender; 5] = [
    ours("udp-threaded --delay 0.005 --workers 1"),
    ours("udp-threaded --delay 0.005 --workers 8"),
    ours("udp-threaded --delay 0.005 --workers 64"),
    peer("Rust thread per datagram", Rust, "thread_per_datagram.rs 0.005"),
    peer("Python ThreadingUDPServer", Python, "threading_udp.py 0.005"),
];
const UDP: [Contender; 8] =
    [UDP_ECHO, UDP_THREADED, C_UDP_FLOOR, C_UDP, RUST_UDP, PYTHON_UDP, PYTHON_RAW, ARTICLE_RAW];
const TCP: [Contender; 6] = [TCP_THREADED, C_TCP_FLOOR, C_TCP, RUST_TCP, PYTHON_TCP, ARTICLE_TCP];
/// Without the article's: its backlog of 5 makes most of a thousand connections wait for seconds.
const TCP_1000: [Contender; 4] = [TCP_THREADED_1024, C_TCP, RUST_TCP, PYTHON_TCP];
const ALL: [Contender; 9] = [
    UDP_ECHO,
    UDP_THREADED,
    TCP_THREADED,
    C_UDP,
    C_TCP,
    RUST_TCP,
    PYTHON_UDP,
    PYTHON_TCP,
    PYTHON_RAW,
];

type Claim = (Contender, Contender);
const ECHO_CLAIMS: [Claim; 3] =
    [(UDP_ECHO, C_UDP_FLOOR), (UDP_ECHO, C_UDP), (UDP_ECHO, PYTHON_RAW)];
const UDP_CLAIMS: [Claim; 5] = [
    ECHO_CLAIMS[0],
    ECHO_CLAIMS[1],
    ECHO_CLAIMS[2],
    (UDP_THREADED, PYTHON_UDP),
    (UDP_THREADED, RUST_UDP),
];
const WORKERS_CLAIMS: [Claim; 3] =
    [(WORKERS[1], WORKERS[0]), (WORKERS[1], WORKERS[2]), (WORKERS[1], WORKERS[3])];
const SLOW_CLAIMS: [Claim; 2] = [(SLOW[1], SLOW[0]), (SLOW[2], SLOW[3])];
const TCP_CLAIMS: [Claim; 3] =
    [(TCP_THREADED, C_TCP), (TCP_THREADED, RUST_TCP), (TCP_THREADED, PYTHON_TCP)];
const TCP_1000_CLAIMS: [Claim; 3] =
    [(TCP_THREADED_1024, C_TCP), (TCP_THREADED_1024, RUST_TCP), (TCP_THREADED_1024, PYTHON_TCP)];
const START_CLAIMS: [Claim; 3] =
    [(UDP_ECHO, PYTHON_RAW), (UDP_THREADED, PYTHON_UDP), (TCP_THREADED, PYTHON_TCP)];

/// One work, and who does it.
pub struct Row {
    part: &'static str,
    title: String,
    work: Work,
    contenders: Vec<Contender>,
    /// Whose figures make a sentence: ours, and the other's.
    claims: &'static [Claim],
    is_quick: bool,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |part, title: &str, work, contenders: &[Contender], claims, is_quick| {
        let (title, contenders) = (title.to_string(), contenders.to_vec());
        rows.push(Row { part, title, work, contenders, claims, is_quick });
    };
    for (size, clients, window, claims, is_quick) in [
        (64, 1, 1, &ECHO_CLAIMS[..], false),
        (64, 1, 16, &ECHO_CLAIMS, true),
        (64, 8, 1, &UDP_CLAIMS, false),
        (64, 8, 16, &UDP_CLAIMS, false),
        (64, 64, 1, &UDP_CLAIMS, true),
        (8192, 1, 1, &ECHO_CLAIMS, false),
        (8192, 1, 8, &ECHO_CLAIMS, true),
        (8192, 8, 1, &UDP_CLAIMS, false),
        (65_507, 1, 1, &ECHO_CLAIMS, false),
    ] {
        let title = format!("UDP, {size} bytes, clients: {clients}, under way for each: {window}");
        row("udp", &title, Work::Datagrams { size, clients, window }, &UDP, claims, is_quick);
    }
    let work = Work::Datagrams { size: 64, clients: 64, window: 1 };
    let title = "How many workers: UDP, 64 bytes, clients: 64";
    row("workers", title, work, &WORKERS, &WORKERS_CLAIMS, true);
    let title = "Handlers that wait for 5 ms: UDP, 64 bytes, clients: 64";
    row("slow", title, work, &SLOW, &SLOW_CLAIMS, false);
    for (size, clients, is_quick) in
        [(64, 1, false), (64, 64, true), (8192, 1, false), (8192, 64, true)]
    {
        let title = format!("TCP, {size} bytes at a time, connections: {clients}");
        row("tcp", &title, Work::Exchanges { size, clients }, &TCP, &TCP_CLAIMS, is_quick);
    }
    let work = Work::Exchanges { size: 64, clients: 1000 };
    let title = "TCP, 64 bytes at a time, connections: 1000";
    row("tcp", title, work, &TCP_1000, &TCP_1000_CLAIMS, false);
    row("tcp", "TCP, pipelined blocks of 64 KiB", Work::Bulk, &TCP, &TCP_CLAIMS, true);
    let title = "TCP churn: connect, 5 bytes each way, close";
    row("churn", title, Work::Churn, &TCP, &TCP_CLAIMS, true);
    let title = "TCP storm: 1000 connections at once, until all are answered";
    row("storm", title, Work::Storm { clients: 1000 }, &TCP_1000, &TCP_1000_CLAIMS, true);
    let title = "Resident memory of an idle connection, of 1000, with the pool";
    row("memory", title, Work::Idle { clients: 1000 }, &TCP_1000, &TCP_1000_CLAIMS, true);
    row("start", "From the start to `listening on`", Work::Start, &ALL, &START_CLAIMS, true);
    rows
}

fn main() -> ExitCode {
    let (mut parts, mut csv, mut is_quick) = (Vec::new(), None, false);
    // Cargo adds this one, at the end.
    let is_bench = env::args().any(|argument| argument == "--bench");
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => is_quick = true,
            "--csv" => match arguments.next() {
                None => return wrong("--csv needs a value: --csv FILE"),
                file => csv = file,
            },
            "-h" | "--help" => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            part if PARTS.contains(&part) => parts.push(argument),
            unknown => return wrong(&format!("unknown argument {unknown:?}")),
        }
    }
    if !is_bench {
        println!("NOT RUN: the benchmark runs with `cargo bench`, which has it optimised");
        return ExitCode::SUCCESS;
    }
    let mut rows = rows();
    rows.retain(|row| parts.is_empty() || parts.iter().any(|part| part == row.part));
    if is_quick {
        rows.retain(|row| row.is_quick);
        for Row { contenders, claims, .. } in &mut rows {
            let is_in =
                |name| claims.iter().any(|(one, other)| name == one.name || name == other.name);
            contenders.retain(|contender| is_in(contender.name));
        }
    }
    run(rows, is_quick, csv)
}

fn wrong(why: &str) -> ExitCode {
    eprintln!("bench: {why}\n\n{HELP}");
    ExitCode::from(2)
}

fn run(mut rows: Vec<Row>, is_quick: bool, csv: Option<String>) -> ExitCode {
    let time = Duration::from_millis(if is_quick { 100 } else { 250 });
    let start = Instant::now();
    machine();
    tests::program("udp-echo-server");
    let mut built = HashMap::new();
    for row in &mut rows {
        row.contenders.retain(|contender| {
            *built.entry(contender.name).or_insert_with(|| match contender.build() {
                Ok(()) => true,
                Err(why) => {
                    println!("Not measured: {} ({})", contender.name, why);
                    false
                }
            })
        });
    }
    let mut csv =
        csv.map(|path| fs::File::create(&path).unwrap_or_else(|why| panic!("{path}: {why}")));
    let mut keep = |lines: &str| {
        if let Some(file) = &mut csv {
            file.write_all(lines.as_bytes()).expect("the disk takes the CSV file");
        }
    };
    keep(report::CSV_HEADER);
    let steps = rows.iter().map(|row| row.contenders.len() * rounds(row, is_quick)).sum();
    let mut progress = Progress::new(steps);
    let (mut sentences, mut wrong) = (String::new(), 0);
    for row in &rows {
        let measured =
            |contender: &Contender| Measured { contender: *contender, rounds: Vec::new() };
        let mut results: Vec<Measured> = row.contenders.iter().map(measured).collect();
        for round in 1..=rounds(row, is_quick) {
            for (place, result) in results.iter_mut().enumerate() {
                progress.step(row, &result.contender, round, round == 1 && place == 0);
                let sample = load::measure(&result.contender, row.work, time);
                wrong += if result.contender.is_ours() { sample.wrong } else { 0 };
                result.rounds.push(sample);
            }
        }
        progress.clear();
        print!("{}", report::table(row, &results));
        keep(&report::csv(row, &results));
        sentences += &report::sentences(row, &results);
    }
    print!("\n{sentences}\nMeasured in {:.0} s: ", start.elapsed().as_secs_f64());
    println!(
        "the median of the rounds ± half the range of their middle half, ratios round by round"
    );
    ExitCode::from(u8::from(wrong > 0))
}

/// A storm takes seconds where a backlog overflows, and memory hardly varies.
fn rounds(row: &Row, is_quick: bool) -> usize {
    match row.work {
        _ if !is_quick => 9,
        Work::Storm { .. } | Work::Idle { .. } => 2,
        _ => 3,
    }
}

/// Says what this was measured on.
fn machine() {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("{cores} cores, {} {}", env::consts::OS, kernel.trim());
    if servers::cpu(std::process::id()).is_none() {
        println!("Not measured: CPU time and memory, which are read from Linux's /proc");
    }
}
