//! The benchmark: measures our servers and the competitors side by side.
//!
//! Each server runs as a process of its own on loopback. Each round starts, measures and stops every
//! server of a row in turn (A B C A B C …), so that a disturbance of the machine affects them alike.
//! `cargo bench -- --help` describes the options; docs/benchmarks.md describes the method.

mod load;
mod plot;
mod report;

use common::Args;
use load::Running;
use std::collections::BTreeSet;
use std::error::Error;
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, fs, thread};
use tests::benchmark::{COLUMNS, value};
use tests::candidates::{CANDIDATES, Candidate};
use tests::grouped;

const HELP: &str = "\
Usage: bench [OPTIONS] [TEXT...]

Measures our servers and the competitors on this machine: cargo bench -- OPTIONS

Arguments:
  [TEXT...]  measure only the rows whose title contains one of these [default: all]

Options:
  --quick        run fewer and shorter rounds, in less than a minute
  --csv FILE     write the figures of every round to FILE
  --report FILE  measure nothing; make FILE's page and plots from FILE, a CSV file
  --check        measure nothing; check every candidate's reply, and the load itself
  --bench        measure; Cargo adds this, except in `cargo test`
  -h, --help     print this help
  -V, --version  print the version

A relative FILE is looked up in the workspace.
";

type Text = &'static str;

struct Row {
    title: Text,
    table: Table,
    /// What the clients do: the arguments of `load.c` from the third on, without LATE and SECONDS.
    load: Text,
    /// The names of candidates, each with its arguments.
    servers: Text,
}

impl Row {
    fn servers(&self) -> impl Iterator<Item = Text> {
        self.servers.split(", ")
    }
}

/// The headings of a table, and the figures below them.
type Table = &'static [(Text, Text)];

const P50: (Text, Text) = ("p50", "p50");
const P99: (Text, Text) = ("p99", "p99");
/// How many requests the server replies to if all clients wait for replies.
const EXCHANGES: Table = &[("Requests", "requests"), ("CPU per request", "CPU"), P99];
/// The time until a reply, if the clients send at a rate.
const RATE: Table = &[P50, P99, ("p99.9", "p99.9"), ("Late or lost", "late or lost")];
/// Memory while most connections are idle.
const IDLE: Table = &[("Memory", "memory"), ("of that RSS", "RSS"), P50, P99];
/// Memory after the first reply, and then after these connections.
const REST: Table = &[("Memory at rest", "memory"), ("of that RSS", "RSS")];
/// The time until all of many clients are served that connect at the same time.
const BURST: Table = &[("All served after", "seconds"), ("Waited > 0.9 s", "late or lost")];
/// The time until the server has replied.
const START: Table = &[("Time", "seconds")];

const UDP: &str = "udp-echo, udp-threaded, c-udp, rust-udp, go-udp, tokio-udp, tokio-udp 2, \
    python-udp, article-udp";
/// Without the article's server, whose buffer has 1,024 bytes.
const UDP_LARGE: &str = "udp-echo, udp-threaded, c-udp, rust-udp, go-udp, tokio-udp, \
    tokio-udp 2, python-udp";
/// Without Python's servers, which do not reach the rate.
const UDP_RATE: &str = "udp-echo, udp-threaded, c-udp, rust-udp, go-udp, tokio-udp, tokio-udp 2";
const TCP: &str = "tcp-threaded, c-tcp, rust-tcp, go-tcp, tokio-tcp, python-tcp 65536 1024";
/// With buffers of 1 KiB, as ours have until more is received.
const TCP_1_KIB: &str = "tcp-threaded, c-tcp 1024, rust-tcp 1024, go-tcp 1024, tokio-tcp 1024, \
    python-tcp 1024 1024";
/// The same, then with larger buffers. Ours has more workers than connections: when three quarters
/// are busy, the idle timeout is short.
const IDLE_1000: &str = "tcp-threaded --workers 1400, c-tcp 1024, rust-tcp 1024, go-tcp 1024, \
    tokio-tcp 1024, python-tcp 1024 1024, go-tcp 65536, tokio-tcp 65536";
const IDLE_5000: &str = "tcp-threaded --workers 7000, c-tcp 1024, rust-tcp 1024, go-tcp 1024, \
    tokio-tcp 1024, go-tcp 65536, tokio-tcp 65536";

const fn row(title: Text, table: Table, load: Text, servers: Text) -> Row {
    Row { title, table, load, servers }
}

/// The rows that the plot on the front page shows.
const SHORT: Row = row("TCP, connect, 5 B each way, close", EXCHANGES, "close 5 16 16 1 0", TCP);
const BUSY: Row = row("TCP, 64 B, 512 connections", EXCHANGES, "stay 64 512 512 1 0", TCP);
const MOSTLY_IDLE: Row =
    row("5,000 TCP connections, 50 active", IDLE, "stay 64 5000 50 1 1000", IDLE_5000);

/// The rates are about a third and two thirds of what the slowest compiled server replied to.
const ROWS: [Row; 19] = [
    row("UDP, 64 B, 64 clients", EXCHANGES, "stay 64 64 64 1 0", UDP),
    row("UDP, 8 KiB, 8 clients", EXCHANGES, "stay 8192 8 8 1 0", UDP_LARGE),
    SHORT,
    row("TCP, 64 B, 64 connections", EXCHANGES, "stay 64 64 64 1 0", TCP),
    BUSY,
    row("TCP, 8 KiB, 8 in flight on 8 connections", EXCHANGES, "stay 8192 8 8 8 0", TCP),
    row("TCP, 64 KiB, 4 in flight on one connection", EXCHANGES, "stay 65536 1 1 4 0", TCP),
    row("UDP, 64 clients, 35,000 requests/s", RATE, "stay 64 64 64 1 35000", UDP_RATE),
    row("UDP, 64 clients, 70,000 requests/s", RATE, "stay 64 64 64 1 70000", UDP_RATE),
    row("TCP, 64 connections, 35,000 requests/s", RATE, "stay 64 64 64 1 35000", TCP),
    row("TCP, 64 connections, 70,000 requests/s", RATE, "stay 64 64 64 1 70000", TCP),
    row("TCP, 512 connections, 30,000 requests/s", RATE, "stay 64 512 512 1 30000", TCP),
    row("TCP, 512 connections, 60,000 requests/s", RATE, "stay 64 512 512 1 60000", TCP),
    row("1,000 TCP connections, 50 active", IDLE, "stay 64 1000 50 1 1000", IDLE_1000),
    MOSTLY_IDLE,
    row("After the first TCP connection", REST, "", TCP_1_KIB),
    row("After 700 TCP connections", REST, "stay 64 700 50 1 1000", TCP_1_KIB),
    row("1,000 TCP connections at once", BURST, "close 5 1000 1000 1 0", TCP),
    row("Start to the first reply", START, "", TCP),
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
    let label = candidate(server).label;
    match server.split(' ').collect::<Vec<_>>()[1..] {
        ["--workers", n] => format!("{label}, {} workers", grouped(n.parse().unwrap_or_default())),
        ["2"] => format!("{label}, two tasks"),
        ["1024"] => format!("{label}, 1 KiB buffers"),
        ["65536"] => format!("{label}, 64 KiB buffers"),
        _ => label.into(),
    }
}

fn main() -> ExitCode {
    common::main(HELP, env!("CARGO_PKG_VERSION"), |args| {
        run(args).map_err(|error| common::Error::Failed(error.to_string()))
    })
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))?;
    if let Some(file) = args.values("--report")?.last() {
        return report::write(file);
    }
    if !args.flag("--check") && !args.flag("--bench") {
        println!("not run: only `cargo bench` builds with optimization");
        return Ok(());
    }
    load::build()?;
    if args.flag("--check") {
        return check();
    }
    let (texts, _) = args.positionals()?;
    let mut rows = Vec::from_iter(&ROWS);
    rows.retain(|row| texts.is_empty() || texts.iter().any(|text| row.title.contains(text)));
    if rows.is_empty() {
        return Err("no row has such a title".into());
    }
    // Thousands of connections need more file descriptors than most shells allow.
    let _ = Command::new("prlimit")
        .args(["--nofile=20000:", "--pid", &std::process::id().to_string()])
        .status();
    let file = *args.values("--csv")?.last().unwrap_or(&"/dev/null");
    measure(&rows, args.flag("--quick"), file)
}

/// Starts every candidate once, and measures servers whose waits are known.
fn check() -> Result<(), Box<dyn Error>> {
    for Candidate { name, .. } in CANDIDATES {
        let running = Running::start(name).map_err(|error| format!("{name}: {error}"))?;
        println!("{name}: replied after {:.1} ms", running.startup * 1e3);
    }
    let row = row("", RATE, "stay 64 8 8 1 2000", "");
    let delayed = Running::start("udp-threaded --workers 64 --delay 0.005")?;
    let delayed = delayed.measure(&row, 1, 1.0)?;
    // Stalls of 0.1 s, once a second: a tenth of the requests wait for up to 0.1 s.
    let server = Running::start("tcp-threaded")?;
    let stalled = thread::scope(|scope| {
        scope.spawn(|| {
            for (signal, ms) in [("STOP", 100), ("CONT", 900)].repeat(4) {
                tests::signal(signal, &[server.process.id()]);
                thread::sleep(Duration::from_millis(ms));
            }
        });
        server.measure(&row, 1, 3.0)
    })?;
    let [delayed, stalled] = [delayed, stalled]
        .map(|line| ["p50", "p99", "p99.9"].map(|figure| value(&line, figure) * 1e3));
    println!("p50, p99, p99.9 in ms: {delayed:.2?} (delay: 5), {stalled:.2?} (stalls: 100)");
    if delayed[0] < 5.0 || stalled[1] < 80.0 {
        return Err("the load measures waits that are too short".into());
    }
    Ok(())
}

fn measure(rows: &[&Row], quick: bool, file: &str) -> Result<(), Box<dyn Error>> {
    let (rounds, time) = if quick { (2, 0.05) } else { (7, 0.4) };
    let machine = format!("{rounds} rounds of {time} s; {}", machine()?);
    println!("{machine}");
    let (mut csv, mut errors) = (format!("# {machine}\n{COLUMNS}\n"), Vec::new());
    for server in rows.iter().flat_map(|row| row.servers()).collect::<BTreeSet<_>>() {
        if let Err(error) = command(server, 0) {
            println!("not measured: {server} ({error})");
        }
    }
    for (number, row) in (1..).zip(rows) {
        eprintln!("[{number}/{}] {}", rows.len(), row.title);
        fs::write(file, &csv)?;
        // These take seconds.
        let is_long = [IDLE, REST, BURST].contains(&row.table);
        for round in 1..=if is_long { rounds / 2 } else { rounds } {
            for server in row.servers().filter(|server| command(server, 0).is_ok()) {
                match Running::start(server).and_then(|it| it.measure(row, round, time)) {
                    Ok(line) => csv += &(line + "\n"),
                    Err(error) => errors.push(format!("{}: {server}: {error}", row.title)),
                }
            }
        }
    }
    fs::write(file, &csv)?;
    println!("{}", report::tables(&csv));
    if errors.is_empty() { Ok(()) } else { Err(errors.join("\n").into()) }
}

/// Describes the machine and the versions that are measured.
fn machine() -> Result<String, Box<dyn Error>> {
    const SCRIPT: &str = r#"
        version() { "$@" 2>/dev/null | grep -om 1 '[0-9]\+\.[0-9.]\+' || echo missing; }
        model=$(sed -n 's/^model name\t: //p' /proc/cpuinfo | head -n 1)
        echo "$(nproc) cores (${model:-unknown model}), linux $(uname -r);" \
            "rustc $(version rustc -V), gcc $(version gcc -dumpfullversion)," \
            "go $(version go version), python3 $(version python3 -V)," \
            "tokio $(version grep -A 1 '"tokio"' tests/competitors/tokio/Cargo.lock)""#;
    let output = Command::new("sh").args(["-c", SCRIPT]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim_end().into())
}
