//! What the clients do, and what is measured meanwhile. The clients themselves are `load.c`.

use crate::process::Running;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

/// What the clients do.
#[derive(Clone, Copy)]
pub enum Work {
    /// The size of requests, the number of clients, and how many requests each has in flight.
    Exchange(usize, usize, u32),
    /// The number of clients, and how many requests of 64 B they send per second in all.
    Rate(usize, u32),
    /// 16 clients that connect, exchange 5 bytes each way, and close.
    Churn,
    /// This number of clients that do the same once, all at the same time.
    Burst(usize),
    /// The number of connections, 50 of which send 1,000 requests of 64 B per second in all.
    Idle(usize),
    /// The memory after the first reply and then this number of connections, 50 of which were active.
    Rest(usize),
    /// None: the time until the server has replied.
    Start,
}

/// The names of the figures of one round: first those that the load prints.
#[rustfmt::skip]
pub const FIGURES: [&str; 15] = [
    "replies", "wrong", "lost", "late", "seconds", "load CPU", "p50", "p99", "p99.9", "send delay",
    "server CPU", "server waited", "RSS", "page tables", "kernel stacks",
];

/// The figures in seconds and bytes; NaN where the operating system does not report them.
#[derive(Clone, Copy)]
pub struct Sample(pub [f64; FIGURES.len()]);

impl Sample {
    pub fn get(&self, figure: &str) -> f64 {
        self.0[FIGURES.iter().position(|it| *it == figure).expect("it is the name of a figure")]
    }
}

/// Starts a server and measures one round.
pub fn measure(server: &str, work: Work, time: f64) -> Result<Sample, Box<dyn Error>> {
    run(&Running::start(server)?, work, time)
}

/// Runs the load on a server.
pub fn run(running: &Running, work: Work, time: f64) -> Result<Sample, Box<dyn Error>> {
    let (protocol, port) = (running.protocol.name(), running.address.port());
    let args = match work {
        Work::Exchange(size, clients, window) => {
            format!("stay {size} {clients} {clients} {window} 0 0.1 {time}")
        }
        Work::Rate(clients, rate) => format!("stay 64 {clients} {clients} 1 {rate} 0.1 {time}"),
        Work::Churn => format!("close 5 16 16 1 0 0.1 {time}"),
        Work::Burst(clients) => format!("close 5 {clients} {clients} 1 0 0.9 0"),
        Work::Rest(0) => {
            running.settle();
            let memory = running.memory().unwrap_or([f64::NAN; 3]);
            let mut figures = [f64::NAN; FIGURES.len()];
            figures[FIGURES.len() - 3..].copy_from_slice(&memory);
            return Ok(Sample(figures));
        }
        Work::Idle(clients) | Work::Rest(clients) => {
            format!("stay 64 {clients} 50 1 1000 0.1 {time}")
        }
        Work::Start => {
            let value = |name: &str| if name == "seconds" { running.startup } else { f64::NAN };
            return Ok(Sample(FIGURES.map(value)));
        }
    };
    let mut load = Command::new(program()?)
        .args([protocol, &port.to_string()])
        .args(args.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = load.stdin.take().ok_or("no pipe")?;
    let mut lines = BufReader::new(load.stdout.take().ok_or("no pipe")?).lines();
    lines.next().ok_or("the load has failed")??;
    let before = running.settle();
    writeln!(stdin)?;
    let line = lines.next().ok_or("the load has failed")??;
    let cpu = before.zip(running.settle()).map(|(before, after)| after.since(&before));
    let mut memory = running.memory();
    drop(stdin);
    load.wait()?;
    if let Work::Rest(_) = work {
        // The server takes some time to close its side of the connections.
        thread::sleep(Duration::from_millis(500));
        running.settle();
        memory = running.memory();
    }
    let mut figures: Vec<f64> = line.split(' ').flat_map(str::parse).collect();
    figures.extend(cpu.unwrap_or([f64::NAN; 2]));
    figures.extend(memory.unwrap_or([f64::NAN; 3]));
    Ok(Sample(figures.try_into().map_err(|_| "the load has printed something else")?))
}

/// Builds the load.
fn program() -> Result<&'static Path, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("load");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/bench/load.c");
        let mut gcc = Command::new("gcc");
        let built = gcc.args(["-O2", "-pthread", "-o"]).arg(&program).arg(source).status();
        let built = built.is_ok_and(|status| status.success());
        built.then_some(program).ok_or("the load needs Linux and gcc".into())
    };
    BUILT.get_or_init(build).as_deref().map_err(String::clone)
}
