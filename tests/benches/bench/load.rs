//! A running server, and what is measured while the clients of `load.c` put it under load.

use crate::{Kind, Row};
use std::error::Error;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tests::candidates::Protocol;
use tests::proc;

/// The path of the clients' program.
const PROGRAM: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/load");

/// Bytes of a thread's kernel stack, on x86-64 and 64-bit ARM.
const KERNEL_STACK: f64 = 16384.0;

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

/// A server that replies; it is killed when it is dropped.
pub struct Running {
    pub child: Child,
    protocol: Protocol,
    address: SocketAddr,
    /// Seconds from its start until it was ready.
    pub startup: f64,
}

/// The CPU time that a process has used, counted in two ways, since neither suffices.
#[derive(PartialEq)]
struct Cpu {
    /// The threads that have not exited.
    threads: Vec<u32>,
    /// For how many seconds these have run, and have waited for a core.
    living: [f64; 2],
    /// For how many seconds all threads have run, in steps of 10 ms.
    all: f64,
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

impl Running {
    /// Starts a server, and waits until it replies.
    pub fn start(server: &str) -> Result<Running, Box<dyn Error>> {
        let address = tests::unused_address();
        let mut command = crate::command(server, address.port())?;
        // Not the harness's process: its threads would add to the time until the first reply.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let child = command.spawn()?;
        let protocol = crate::candidate(server).protocol;
        let mut running = Running { child, protocol, address, startup: 0.0 };
        while running.exchange().is_err() {
            if start.elapsed() > Duration::from_secs(10) {
                return Err("not ready within 10 s".into());
            }
            thread::sleep(Duration::from_micros(200));
        }
        running.startup = start.elapsed().as_secs_f64();
        Ok(running)
    }

    /// Sends a request, and checks the reply.
    fn exchange(&self) -> io::Result<()> {
        let mut reply = [0; 6];
        let length = match self.protocol {
            Protocol::Udp => {
                let socket = tests::udp(self.address);
                socket.send(b"hello")?;
                socket.recv(&mut reply)?
            }
            Protocol::Tcp => {
                let mut stream = tests::configured(TcpStream::connect(self.address)?);
                stream.write_all(b"hello")?;
                stream.read(&mut reply)?
            }
        };
        if &reply[..length] == b"HELLO" { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// Measures one round of a row.
    pub fn measure(&self, row: &Row, time: f64) -> Result<Sample, Box<dyn Error>> {
        if row.kind == Kind::Start {
            let seconds = |name| if name == "seconds" { self.startup } else { f64::NAN };
            return Ok(Sample(FIGURES.map(seconds).into()));
        }
        if row.load.is_empty() {
            self.settle();
            return Ok(Sample([&[f64::NAN; 12][..], &self.memory()].concat()));
        }
        let late_and_time = if row.kind == Kind::Burst { "0.9 0" } else { &format!("0.1 {time}") };
        let mut load = Command::new(PROGRAM)
            .args([self.protocol.name(), &self.address.port().to_string()])
            .args(row.load.split(' ').chain(late_and_time.split(' ')))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = load.stdout.take().ok_or("no pipe")?;
        let mut lines = BufReader::new(output).lines();
        lines.next().ok_or("the load has failed")??;
        let before = self.settle();
        writeln!(load.stdin.as_mut().ok_or("no pipe")?)?;
        let line = lines.next().ok_or("the load has failed")??;
        let cpu = before.zip(self.settle()).map(|(before, after)| after.since(&before));
        if row.kind == Kind::Rest {
            load.wait()?;
            // The server takes some time to close its side of the connections.
            thread::sleep(Duration::from_millis(500));
            self.settle();
        }
        let memory = self.memory();
        load.wait()?;
        let figures = line.split(' ').flat_map(str::parse).chain(cpu.unwrap_or([f64::NAN; 2]));
        Ok(Sample(figures.chain(memory).collect()))
    }

    /// Waits until the process is idle, for at most 2 s, and returns the CPU time used so far.
    fn settle(&self) -> Option<Cpu> {
        let start = Instant::now();
        loop {
            let before = self.cpu();
            thread::sleep(Duration::from_millis(5));
            let now = self.cpu();
            if now == before || start.elapsed() > Duration::from_secs(2) {
                return now;
            }
        }
    }

    /// Returns the CPU time used so far. `None` if this is not Linux, or the process has exited.
    fn cpu(&self) -> Option<Cpu> {
        let (id, mut living) = (self.child.id(), [0, 0]);
        let threads = proc::threads(id);
        for (ran, waited) in threads.iter().filter_map(|thread| proc::schedstat(*thread)) {
            living = [living[0] + ran, living[1] + waited];
        }
        let ticks = proc::stat::<u64>(id, 14)? + proc::stat::<u64>(id, 15)?;
        let living = living.map(|nanoseconds| nanoseconds as f64 / 1e9);
        Some(Cpu { threads, living, all: ticks as f64 / 100.0 })
    }

    /// Returns the bytes of resident memory, of page tables, and of the threads' kernel stacks.
    fn memory(&self) -> [f64; 3] {
        [("VmRSS", 1024.0), ("VmPTE", 1024.0), ("Threads", KERNEL_STACK)].map(|(field, unit)| {
            proc::status(self.child.id(), field).map_or(f64::NAN, |value| value as f64 * unit)
        })
    }
}

impl Cpu {
    /// Returns the seconds used, and waited for a core, since an earlier [`Running::settle`].
    fn since(&self, before: &Cpu) -> [f64; 2] {
        let [ran, waited] = [0, 1].map(|i| self.living[i] - before.living[i]);
        let all = self.all - before.all;
        // Threads that came and went are known only by what they used.
        let same = self.threads == before.threads && all - ran < 0.02;
        [if same { ran } else { all }, waited]
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
