//! A running server, and what Linux reports about its process.

use std::collections::BTreeMap;
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
    /// The threads, and for how many nanoseconds each has run, and has waited for a core. Those that
    /// have exited are missing.
    threads: BTreeMap<u32, (u64, u64)>,
    /// Of all threads, in ticks of 10 ms.
    ticks: u64,
}

impl Cpu {
    /// Returns the seconds used, and waited for a core, since an earlier [`Running::settle`].
    pub fn since(&self, before: &Cpu) -> [f64; 2] {
        let sum = |cpu: &Cpu, of: fn(&(u64, u64)) -> u64| cpu.threads.values().map(of).sum::<u64>();
        let since = |of| (sum(self, of) as f64 - sum(before, of) as f64) / 1e9;
        let (living, all) = (since(|it| it.0), (self.ticks - before.ticks) as f64 / 100.0);
        // Threads that came and went are known only by what they used.
        let same = self.threads.keys().eq(before.threads.keys()) && all - living < 0.02;
        [if same { living } else { all }, since(|it| it.1)]
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
        let timeout = Some(Duration::from_secs(3));
        let mut reply = [0; 6];
        let length = match self.protocol {
            Protocol::Udp => {
                let socket = tests::udp(self.address);
                socket.set_read_timeout(timeout)?;
                socket.send(b"hello")?;
                socket.recv(&mut reply)?
            }
            Protocol::Tcp => {
                let mut stream = TcpStream::connect(self.address)?;
                stream.set_read_timeout(timeout)?;
                stream.write_all(b"hello")?;
                stream.read(&mut reply)?
            }
        };
        if &reply[..length] == b"HELLO" { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// Returns the CPU time used so far. `None` if this is not Linux, or the process has exited.
    fn cpu(&self) -> Option<Cpu> {
        let threads = proc::threads(self.child.id()).into_iter();
        let threads = threads.filter_map(|thread| Some((thread, proc::schedstat(thread)?)));
        let ticks = proc::number(self.child.id(), 14)? + proc::number(self.child.id(), 15)?;
        Some(Cpu { threads: threads.collect(), ticks })
    }

    /// Waits until the process is idle, and returns the CPU time used so far.
    pub fn settle(&self) -> Option<Cpu> {
        let mut now = self.cpu();
        // At most 2 s.
        for _ in 0..400 {
            let before = now;
            thread::sleep(Duration::from_millis(5));
            now = self.cpu();
            if now == before {
                break;
            }
        }
        now
    }

    /// Returns the bytes of resident memory, of page tables, and of the threads' kernel stacks.
    pub fn memory(&self) -> Option<[f64; 3]> {
        let status = |field| proc::status(self.child.id(), field).map(|value| value as f64);
        let kernel_stacks = status("Threads")? * KERNEL_STACK;
        Some([status("VmRSS")? * 1024.0, status("VmPTE")? * 1024.0, kernel_stacks])
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
