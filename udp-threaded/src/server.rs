//! Replies to each datagram with its bytes in upper case, several at a time.
//!
//! ```sh
//! cargo run -p udp-threaded -- --delay 0.5 --workers 8                           # in one terminal
//! cargo run -p udp-threaded --bin udp-threaded-client -- :8888 a b c d e f g h   # in another
//! ```
//!
//! N worker threads call `recv_from` on the same socket, and the kernel wakes one of them for each
//! datagram. The program does not need a dispatcher, a queue or a lock of its own. While all workers
//! are busy, datagrams wait in the socket's receive buffer. When that is full, the kernel drops new
//! ones. A client that does not get a reply has to send its request again.
//!
//! Replies may leave in a different order from their requests. One worker per core suits a handler
//! that computes. More workers help only a handler that waits, for example for a disk or another
//! server.
//!
//! *Before real use*:
//! - A source address can be spoofed, and the reply goes to that address. Keep replies no longer than
//!   requests, and restrict who can reach the port. The default address is loopback.
//! - A datagram whose source port equals the server's own is dropped without a log line. Otherwise
//!   one with the spoofed address of a second server would make the two reply to each other forever.
//!   Loops with services on other ports cannot be detected here (CVE-2024-2169).
//! - On Linux, replies to spoofed addresses on the local network fill the send buffer while the
//!   kernel waits for ARP, and `send_to` blocks. A hundred spoofed datagrams per second can delay the
//!   replies to other clients by seconds for as long as they arrive.
//! - On a host with several addresses, bind to one of them. A reply sent from `0.0.0.0` may have a
//!   different source address from the one the request was sent to, and clients ignore it.
//!
//! In Python: `socketserver.ThreadingUDPServer`, but with a fixed number of threads. See also:
//! `client.rs`; `udp-echo`, which does the same on one thread; `tcp-threaded`, for connections.
//!
//! Version 0.3.0. `docs/changelog.md` lists the fixes of later versions.

use common::{error, info, warn};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

struct Server {
    socket: UdpSocket,
    /// The local address of `socket`.
    address: SocketAddr,
    workers: usize,
    delay: Duration,
    stopping: AtomicBool,
}

impl Server {
    fn new(socket: UdpSocket) -> io::Result<Server> {
        Ok(Server {
            address: socket.local_addr()?,
            socket,
            workers: thread::available_parallelism().map_or(2, |cores| cores.get().max(2)),
            delay: Duration::ZERO,
            stopping: false.into(),
        })
    }

    fn serve(&self) {
        thread::scope(|scope| {
            for n in 2..=self.workers {
                let worker = thread::Builder::new().name(format!("worker {n}"));
                // The system cannot start another thread. Serve with the workers that run.
                if let Err(error) = worker.spawn_scoped(scope, move || self.work(n)) {
                    error!("cannot start worker {n} of {}: {error}", self.workers);
                    break;
                }
            }
            self.work(1);
        });
    }

    fn work(&self, n: usize) {
        let mut buffer = vec![0; 65_535]; // room for any datagram; a smaller buffer may truncate one
        while let Some((length, client)) = self.receive(&mut buffer) {
            // A panic costs this request, not the worker.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                let request = &mut buffer[..length];
                // Formatting all of a long request would take longer than serving it.
                let start = request[..length.min(250)].escape_ascii();
                info!("\"{start}\" from {client} (worker {n})");
                // Sending fails, for example, if the source port is 0.
                if let Err(error) = self.handle(request, client) {
                    warn!("{client}: {error}");
                }
            }));
        }
        self.stop(); // wakes the next worker
    }

    /// Waits for a request, which may be empty. Returns `None` once the server is stopping.
    fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let mut delay_ms = 1;
        while !self.stopping.load(SeqCst) {
            match self.socket.recv_from(buffer) {
                _ if self.stopping.load(SeqCst) => break, // by `stop`, or a request is too late
                // Spoofed: replying to our own port would start an endless loop.
                Ok((_, client)) if client.port() == self.address.port() => continue,
                Ok(received) => return Some(received),
                // On Windows, when the client of an earlier reply has closed its socket.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue, // by a signal
                // A system error such as ENOMEM. The first in a row may be caused by a client.
                Err(error) if delay_ms == 1 => warn!("cannot receive: {error}; retrying in 1 ms"),
                Err(error) => error!("cannot receive: {error}; retrying in {delay_ms} ms"),
            }
            thread::sleep(Duration::from_millis(delay_ms)); // or this loop would spin
            delay_ms = (2 * delay_ms).min(1000);
        }
        None
    }

    /// The function to replace.
    fn handle(&self, request: &mut [u8], client: SocketAddr) -> io::Result<()> {
        thread::sleep(self.delay);
        request.make_ascii_uppercase();
        self.socket.send_to(request, client)?;
        Ok(())
    }

    /// Stops the server. Workers finish their current request, then `serve` returns; requests in the
    /// receive buffer are dropped. May be called from any thread and more than once. Workers keep
    /// waiting while the server cannot send to itself, for example because its interface is gone or its
    /// address is one for broadcasts. Then call `stop` again later.
    fn stop(&self) {
        self.stopping.store(true, SeqCst);
        // Nothing portable in std interrupts `recv_from`, but a datagram wakes one worker, which then
        // wakes the next by calling `stop`. While the receive buffer is full, workers do not wait.
        let (v4, v6) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        let ips: &[IpAddr] = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => &[v4.into()],
            // IPv6 may be disabled, as in many containers, or filtered.
            IpAddr::V6(ip) if ip.is_unspecified() => &[v6.into(), v4.to_ipv6_mapped().into()],
            ip => &[ip],
        };
        for ip in ips {
            let mut address = self.address; // with its scope, for link-local addresses
            address.set_ip(*ip);
            let _ = self.socket.send_to(&[], address);
        }
    }
}

const HELP: &str = "\
Usage: udp-threaded-server [OPTIONS] [ADDR]

Replies to each datagram with its bytes in upper case, several at a time.

Arguments:
  ADDR           address to bind: HOST:PORT, HOST, :PORT, PORT or [V6]:PORT
                 [default: 127.0.0.1:8888]

Options:
  --workers N    number of worker threads, 1 to 10000
                 [default: one per core, at least 2]
  --delay SECS   wait before each reply, as if for a database [default: 0]
  --until-eof    when standard input ends, finish current requests and exit: on
                 Ctrl-D, or when the parent process is gone; /dev/null ends at
                 once, so a background job needs a pipe
  --quiet        print only the address and system errors
  -h, --help     print this help
  -V, --version  print the version
";

fn main() -> std::process::ExitCode {
    common::main(HELP, env!("CARGO_PKG_VERSION"), run)
}

fn run(args: &common::Args) -> Result<(), common::Error> {
    let address = args.address()?;
    let delay = args.seconds("--delay", 0)?;
    let socket = UdpSocket::bind(address.resolve()?.as_slice())
        .map_err(|error| common::Error::failed(format_args!("cannot bind {address}"), &error))?;
    let mut server = Server { delay, ..Server::new(socket)? };
    // At most 10,000: a thread takes up to four memory mappings, and Linux allows a process 65,530. A
    // thread that starts without them may abort the process.
    if let Some(workers) = args.number("--workers", 10_000)? {
        server.workers = workers as usize;
    }
    let server = std::sync::Arc::new(server);
    if args.flag("--until-eof") {
        let server = std::sync::Arc::clone(&server);
        common::on_eof(move || stop_repeatedly(&server))?;
    }
    common::listening(server.address);
    server.serve();
    Ok(())
}

/// Stops the server, again each second: a wake-up may be lost. The end of the process ends this.
fn stop_repeatedly(server: &Server) {
    loop {
        server.stop();
        thread::sleep(Duration::from_secs(1));
    }
}
