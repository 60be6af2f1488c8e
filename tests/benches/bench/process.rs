//! A running server, and what Linux's `/proc` reports about its process.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tests::candidates::Protocol;
use tests::proc;

/// A server that replies; it is killed when it is dropped.
pub struct Running {
    child: Child,
    protocol: Protocol,
    pub address: SocketAddr,
    /// Seconds from its start until it was ready.
    pub startup: f64,
}

impl Running {
    /// Starts a server, and waits until it replies and has at least this number of threads.
    pub fn start(server: &str, threads: u64) -> Result<Running, Box<dyn Error>> {
        let address = tests::unused_address();
        let mut command = crate::command(server, address.port())?;
        // Not the harness's process: its threads would add to the time until the first reply.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let child = command.spawn()?;
        let protocol = crate::candidate(server).protocol;
        let mut running = Running { child, protocol, address, startup: 0.0 };
        let mut replies = false;
        loop {
            replies = replies || running.connect().is_ok();
            if replies && (threads == 0 || running.stat(20).ok_or("needs Linux")? >= threads) {
                break;
            }
            if start.elapsed() > Duration::from_secs(10) {
                return Err("not ready within 10 s".into());
            }
            thread::sleep(Duration::from_micros(200));
        }
        running.startup = start.elapsed().as_secs_f64();
        Ok(running)
    }

    /// Opens a client's socket, and makes one exchange.
    pub fn connect(&self) -> io::Result<Socket> {
        let mut socket = match self.protocol {
            Protocol::Udp => {
                let socket = tests::udp(self.address);
                socket.set_read_timeout(Some(Duration::from_secs(3)))?;
                Socket::Udp(socket)
            }
            Protocol::Tcp => Socket::Tcp(tcp(self.address)?),
        };
        let mut reply = [0; 6];
        socket.send(b"hello")?;
        let length = socket.receive(&mut reply)?;
        if &reply[..length] == b"HELLO" { Ok(socket) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// Returns the CPU time used so far in seconds, counted in two ways, since neither suffices: to
    /// the nanosecond without the threads that have exited, and of all threads in ticks of 10 ms.
    fn cpu(&self) -> Option<(f64, f64)> {
        let mut living = 0.0;
        for thread in proc::threads(self.child.id()) {
            // A thread may exit meanwhile.
            living += proc::schedstat(thread).map_or(0.0, |(ran, _)| ran as f64 / 1e9);
        }
        Some((living, (self.stat(14)? + self.stat(15)?) as f64 / 100.0))
    }

    /// Waits until the process is idle, and returns the CPU time used so far. `None` if this is not
    /// Linux, or the process has exited.
    pub fn settle(&self) -> Option<(f64, f64)> {
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

    /// Returns the resident memory in bytes.
    pub fn memory(&self) -> Option<f64> {
        proc::status(self.child.id(), "VmRSS").map(|kilobytes| kilobytes as f64 * 1024.0)
    }

    /// Returns a field of `/proc/PID/stat`, numbered as in the manual page proc(5).
    fn stat(&self, field: usize) -> Option<u64> {
        proc::number(self.child.id(), field)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client's socket, with a deadline on every call.
pub enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Socket {
    pub fn send(&mut self, request: &[u8]) -> io::Result<()> {
        match self {
            Socket::Udp(socket) => socket.send(request).map(drop),
            Socket::Tcp(stream) => stream.write_all(request),
        }
    }

    /// Receives one reply; `reply` has one byte more than it should fill.
    pub fn receive(&mut self, reply: &mut [u8]) -> io::Result<usize> {
        let size = reply.len() - 1;
        match self {
            Socket::Udp(socket) => socket.recv(reply),
            Socket::Tcp(stream) => stream.read_exact(&mut reply[..size]).map(|()| size),
        }
    }
}

/// Opens a connection. Where the backlog is full, the kernel retries after 1, 2, 4 and 8 seconds.
pub fn tcp(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}
