//! What the clients do, and what is measured meanwhile. The clients themselves are `load.c`.

use crate::process::Running;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
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

/// The path of the clients' program.
const PROGRAM: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/load");

/// The names of the figures of one round: first those that the load prints.
#[rustfmt::skip]
pub const FIGURES: [&str; 15] = [
    "replies", "wrong", "lost", "late", "seconds", "load CPU", "p50", "p99", "p99.9", "send delay",
    "server CPU", "server waited", "RSS", "page tables", "kernel stacks",
];

/// The figures in seconds and bytes; NaN where the operating system does not report them.
pub struct Sample(pub Vec<f64>);

impl Sample {
    pub fn get(&self, figure: &str) -> f64 {
        self.0[FIGURES.iter().position(|it| *it == figure).expect("it is the name of a figure")]
    }
}

/// Builds the clients' program.
pub fn build() -> Result<(), Box<dyn Error>> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/bench/load.c");
    let built = Command::new("gcc").args(["-O2", "-pthread", "-o", PROGRAM, source]).status();
    if built.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err("the load needs Linux and gcc".into())
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
            return Ok(Sample([&[f64::NAN; 12][..], &running.memory()].concat()));
        }
        Work::Idle(clients) | Work::Rest(clients) => {
            format!("stay 64 {clients} 50 1 1000 0.1 {time}")
        }
        Work::Start => {
            let seconds = |name| if name == "seconds" { running.startup } else { f64::NAN };
            return Ok(Sample(FIGURES.map(seconds).into()));
        }
    };
    let mut load = Command::new(PROGRAM)
        .args([protocol, &port.to_string()])
        .args(args.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = load.stdout.take().ok_or("no pipe")?;
    let mut lines = BufReader::new(output).lines();
    lines.next().ok_or("the load has failed")??;
    let before = running.settle();
    writeln!(load.stdin.as_mut().ok_or("no pipe")?)?;
    let line = lines.next().ok_or("the load has failed")??;
    let cpu = before.zip(running.settle()).map(|(before, after)| after.since(&before));
    if let Work::Rest(_) = work {
        load.wait()?;
        // The server takes some time to close its side of the connections.
        thread::sleep(Duration::from_millis(500));
        running.settle();
    }
    let memory = running.memory();
    load.wait()?;
    let figures = line.split(' ').flat_map(str::parse).chain(cpu.unwrap_or([f64::NAN; 2]));
    Ok(Sample(figures.chain(memory).collect()))
}
