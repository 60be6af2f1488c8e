//! A running server, and what Linux reports about its process.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tests::candidates::Protocol;
use tests::proc;

/// Bytes of a thread's kernel stack, on x86-64 and 64-bit ARM.
const KERNEL_STACK: f64 = 16384.0;

/// A server that replies; it is killed when it is dropped.
pub struct Running {
    pub child: Child,
    pub protocol: Protocol,
    pub address: SocketAddr,
    /// Seconds from its start until it was ready.
    pub startup: f64,
}

/// The CPU time that a process has used, counted in two ways, since neither suffices.
#[derive(PartialEq)]
pub struct Cpu {
    /// The threads that have not exited.
    threads: Vec<u32>,
    /// For how many seconds these have run, and have waited for a core.
    living: [f64; 2],
    /// For how many seconds all threads have run, in steps of 10 ms.
    all: f64,
}

impl Cpu {
    /// Returns the seconds used, and waited for a core, since an earlier [`Running::settle`].
    pub fn since(&self, before: &Cpu) -> [f64; 2] {
        let [ran, waited] = [0, 1].map(|i| self.living[i] - before.living[i]);
        let all = self.all - before.all;
        // Threads that came and went are known only by what they used.
        let same = self.threads == before.threads && all - ran < 0.02;
        [if same { ran } else { all }, waited]
    }
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

    /// Returns the CPU time used so far. `None` if this is not Linux, or the process has exited.
    fn cpu(&self) -> Option<Cpu> {
        let (id, mut living) = (self.child.id(), [0, 0]);
        let threads = proc::threads(id);
        for (ran, waited) in threads.iter().filter_map(|thread| proc::schedstat(*thread)) {
            living = [living[0] + ran, living[1] + waited];
        }
        let ticks = proc::number(id, 14)? + proc::number(id, 15)?;
        let living = living.map(|nanoseconds| nanoseconds as f64 / 1e9);
        Some(Cpu { threads, living, all: ticks as f64 / 100.0 })
    }

    /// Waits until the process is idle, for at most 2 s, and returns the CPU time used so far.
    pub fn settle(&self) -> Option<Cpu> {
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

    /// Returns the bytes of resident memory, of page tables, and of the threads' kernel stacks.
    pub fn memory(&self) -> [f64; 3] {
        [("VmRSS", 1024.0), ("VmPTE", 1024.0), ("Threads", KERNEL_STACK)].map(|(field, unit)| {
            proc::status(self.child.id(), field).map_or(f64::NAN, |value| value as f64 * unit)
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
