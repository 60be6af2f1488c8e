//! A running server, and what is measured while the clients of `load.c` put it under load.

use crate::{BURST, REST, Row};
use std::error::Error;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tests::candidates::Protocol;
use tests::{Process, proc};

/// The path of the clients' program.
const PROGRAM: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/load");

/// Bytes of a thread's kernel stack, on x86-64 and 64-bit ARM.
const KERNEL_STACK: usize = 16384;

/// A server that replies.
pub struct Running {
    pub process: Process,
    name: &'static str,
    protocol: Protocol,
    address: SocketAddr,
    /// Seconds from its start until it was ready.
    pub startup: f64,
}

/// The CPU time that a process has used, counted in two ways, since neither suffices.
#[derive(Default, PartialEq)]
struct Cpu {
    /// The threads that have not exited.
    threads: Vec<u32>,
    /// For how many seconds these have run, and have waited for a core.
    ran: f64,
    waited: f64,
    /// For how many seconds all threads have run, in steps of 10 ms.
    all: f64,
}

/// Builds the clients' program.
pub fn build() -> Result<(), &'static str> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/bench/load.c");
    let built = Command::new("gcc").args(["-O2", "-pthread", "-o", PROGRAM, source]).status();
    let is_built = built.is_ok_and(|status| status.success());
    is_built.then_some(()).ok_or("the load needs Linux and gcc")
}

impl Running {
    /// Starts a server, and waits until it replies.
    pub fn start(server: &'static str) -> Result<Running, Box<dyn Error>> {
        let address = tests::unused_address();
        let mut command = crate::command(server, address.port())?;
        let protocol = crate::candidate(server).protocol;
        let start = Instant::now();
        let process = Process::with_streams(&mut command, [(); 3].map(|()| Stdio::null()));
        let mut running = Running { process, name: server, protocol, address, startup: 0.0 };
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

    /// Measures one round of a row, and returns its line of the CSV file.
    pub fn measure(&self, row: &Row, round: usize, time: f64) -> Result<String, Box<dyn Error>> {
        let begin = format!("\"{}\",{},{round}", row.title, self.name);
        if row.load.is_empty() {
            let now = self.settle();
            let figures = format!("NaN,NaN,NaN,{},NaN,NaN,NaN", self.startup);
            return Ok(format!("{begin},{figures},{}", self.usage(&now, &now)?));
        }
        let late_and_time = if row.table == BURST { "0.9 0" } else { &format!("0.1 {time}") };
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
        let after = self.settle();
        if row.table == REST {
            load.wait()?;
            // The server takes some time to close its side of the connections.
            thread::sleep(Duration::from_millis(500));
            self.settle();
        }
        let usage = self.usage(&before, &after)?;
        load.wait()?;
        Ok(format!("{begin},{line},{usage}"))
    }

    /// Waits until the process is idle, for at most 2 s, and returns the CPU time used so far.
    fn settle(&self) -> Cpu {
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

    fn cpu(&self) -> Cpu {
        let id = self.process.id();
        let mut cpu = Cpu { all: proc::cpu_time(id).as_secs_f64(), ..Cpu::default() };
        for thread in proc::threads(id) {
            let (ran, waited) = proc::schedstat(thread).unwrap_or_default();
            cpu.threads.push(thread);
            cpu.ran += ran as f64 / 1e9;
            cpu.waited += waited as f64 / 1e9;
        }
        cpu
    }

    /// Returns the last columns: the CPU time between two times, and the memory.
    fn usage(&self, before: &Cpu, after: &Cpu) -> Result<String, &'static str> {
        let (ran, all) = (after.ran - before.ran, after.all - before.all);
        // Threads that came and went are known only by what they used.
        let is_same = after.threads == before.threads && all - ran < 0.02;
        let (used, waited) = (if is_same { ran } else { all }, after.waited - before.waited);
        let status = |field| proc::status(self.process.id(), field).ok_or("the server has exited");
        let (rss, page_tables) = (1024 * status("VmRSS")?, 1024 * status("VmPTE")?);
        let kernel_stacks = KERNEL_STACK * status("Threads")?;
        Ok(format!("{used},{waited},{rss},{page_tables},{kernel_stacks}"))
    }
}
