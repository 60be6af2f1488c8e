//! Sends back in upper case what it receives on each connection, many connections at a time.
//!
//! ```sh
//! cargo run -p tcp-threaded                                          # in one terminal
//! cargo run -p tcp-threaded --bin tcp-threaded-client -- :8888 hi    # in another
//! ```
//!
//! A connection is a stream of bytes: a `read` returns bytes that have arrived, which may be a part of
//! one write or several writes together. A protocol has to mark where each message ends.
//!
//! N worker threads call `accept` on the same listener, and the kernel wakes one of them for each
//! connection. The program does not need a dispatcher, a queue or a lock of its own. While all
//! workers are busy, connections wait in the listener's backlog. When that is full, Linux ignores
//! attempts to connect, which clients repeat after a second.
//!
//! *Before real use*:
//! - A connection occupies a worker until the client closes it, or a read or write times out. Of 256
//!   workers (the default), the last 64 close a connection on which 250 ms pass without data. Silent
//!   clients therefore delay others, but do not block them unless hundreds reconnect per second.
//!   Clients that send a byte several times per second, or that never read, can block all workers.
//!   Restrict who can reach the port. The default address is loopback.
//! - On Linux, a write may time out even if the client is reading, because a blocked write continues
//!   only when about a third of the send buffer is free. For slow clients, allow minutes.
//! - On Linux, a worker holds a file descriptor even while it waits in `accept`. Keep `--workers` well
//!   below `ulimit -n`. With fewer descriptors, part or all of the 64 cannot serve.
//! - `--workers` is limited to 10,000, because a thread takes up to four memory mappings and Linux
//!   allows a process 65,530. A thread that starts without them, or without memory, may abort the
//!   process.
//!
//! In Python: `socketserver.ThreadingTCPServer`, but with a fixed number of threads. See also:
//! `client.rs`; `udp-threaded`, for datagrams.
//!
//! Version 0.3.0. `docs/changelog.md` lists the fixes of later versions.

use common::{error, info, warn};
use std::io::{self, ErrorKind, ErrorKind::TimedOut, ErrorKind::WouldBlock, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::thread;
use std::time::Duration;

struct Server {
    listener: TcpListener,
    /// The local address of `listener`.
    address: SocketAddr,
    workers: usize,
    /// `None` disables the timeout. Never zero.
    idle_timeout: Option<Duration>,
    /// The number of connections to accept. `u64::MAX` means unlimited.
    count: u64,
    /// How many connections the workers have started to wait for. May exceed `count`.
    claimed: AtomicU64,
    /// The number of workers that serve a connection.
    busy: AtomicUsize,
    stopping: AtomicBool,
    /// A clone of `listener`. On Linux, shutting it down makes `accept` fail in all workers.
    #[cfg(target_os = "linux")]
    waker: TcpStream,
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Server> {
        Ok(Server {
            address: listener.local_addr()?,
            #[cfg(target_os = "linux")]
            waker: std::os::fd::OwnedFd::from(listener.try_clone()?).into(),
            listener,
            workers: 256,
            idle_timeout: Some(Duration::from_secs(60)),
            count: u64::MAX,
            claimed: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    fn serve(&self) {
        thread::scope(|scope| {
            for n in 2..=self.workers {
                let worker = thread::Builder::new().name(format!("worker {n}"));
                // The system cannot start another thread. Serve with the workers that run.
                if let Err(error) = worker.spawn_scoped(scope, move || self.work(n)) {
                    error!("cannot start worker {n} of {}: {error}", self.workers);
                    // The missing workers count as busy, so that a reserve remains.
                    self.busy.fetch_add(self.workers + 1 - n, Relaxed);
                    break;
                }
            }
            self.work(1);
        });
    }

    fn work(&self, n: usize) {
        while self.claimed.fetch_add(1, Relaxed) < self.count {
            let Some((stream, client)) = self.accept() else { return };
            let busy = self.busy.fetch_add(1, Relaxed) + 1;
            // A panic costs this connection, not the worker.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                info!("{client} connected (worker {n})");
                let configured = self.configure(&stream, busy);
                match configured.and_then(|()| self.handle(&stream, client)) {
                    Ok(()) => {}
                    // Unix and Windows report a timeout differently.
                    Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {
                        warn!("{client}: timed out: {error}");
                    }
                    Err(error) => warn!("{client}: {error}"),
                }
            }));
            self.busy.fetch_sub(1, Relaxed);
        }
    }

    /// Waits for a connection. Returns `None` once the server is stopping.
    fn accept(&self) -> Option<(TcpStream, SocketAddr)> {
        let mut delay_ms = 1;
        while !self.stopping.load(Acquire) {
            match self.listener.accept() {
                // `stop` woke this worker, or a client connected too late.
                _ if self.stopping.load(Acquire) => break,
                Ok(accepted) => return Some(accepted),
                // The client reset its connection in the backlog. (On Linux, the first read fails.)
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => continue, // on Windows
                // A system error such as EMFILE. The first in a row may be caused by a client.
                Err(error) if delay_ms == 1 => warn!("cannot accept: {error}; retrying in 1 ms"),
                Err(error) => error!("cannot accept: {error}; retrying in {delay_ms} ms"),
            }
            // Back off, or this loop would spin.
            thread::sleep(Duration::from_millis(delay_ms));
            delay_ms = (2 * delay_ms).min(1000);
        }
        self.stop(); // wakes the next worker
        None
    }

    fn configure(&self, stream: &TcpStream, busy: usize) -> io::Result<()> {
        let mut read_timeout = self.idle_timeout;
        // Silent clients could occupy all workers. The last quarter serves only clients that send.
        if busy > self.workers - self.workers / 4 {
            let short = Duration::from_millis(250);
            read_timeout = Some(read_timeout.unwrap_or(short).min(short));
            if busy == self.workers {
                error!("all {busy} workers are busy: new connections wait");
            }
        }
        // Without timeouts, a client that never sends or never reads would block a worker forever.
        stream.set_read_timeout(read_timeout)?;
        stream.set_write_timeout(self.idle_timeout)?;
        // Nagle's algorithm could delay a small write by 40 ms or more, until a delayed ACK arrives.
        stream.set_nodelay(true)
    }

    /// The function to replace.
    fn handle(&self, mut stream: &TcpStream, client: SocketAddr) -> io::Result<()> {
        let mut buffer = vec![0; 1024];
        let mut total = 0;
        loop {
            let length = match stream.read(&mut buffer) {
                // The client has closed its write side. The response is complete.
                Ok(0) => break,
                Ok(length) => length,
                // SIGSTOP and SIGCONT interrupt a read that has a timeout.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let request = &mut buffer[..length];
            // Formatting all of a long request would take longer than serving it.
            info!("\"{}\" from {client}", request[..length.min(250)].escape_ascii());
            request.make_ascii_uppercase();
            // A single `write` may send only a part.
            stream.write_all(request)?;
            total += length as u64;
            // The buffer starts small, since most connections are idle, and grows for a busy one.
            if length == buffer.len() && length < 64 * 1024 {
                buffer.resize(2 * length, 0);
            }
        }
        info!("{client} closed after {total} bytes");
        Ok(())
    }

    /// Stops the server. Workers finish their current connection, then `serve` returns; connections
    /// in the backlog are closed or reset. May be called from any thread and more than once. On Linux,
    /// this also ends `accept` in other processes that share the listener. On other systems, workers
    /// keep waiting while the server cannot connect to itself. Then call `stop` again later.
    fn stop(&self) {
        self.stopping.store(true, Release);
        #[cfg(target_os = "linux")]
        let _ = self.waker.shutdown(std::net::Shutdown::Both);
        if cfg!(target_os = "linux") {
            return;
        }
        // Nothing portable in std interrupts `accept`, but a connection wakes one worker, which then
        // wakes the next by calling `stop`. While the backlog is full, workers do not wait.
        let mut address = self.address;
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        let _ = TcpStream::connect_timeout(&address, Duration::from_secs(1));
    }
}

const HELP: &str = "\
Usage: tcp-threaded-server [OPTIONS] [ADDR]

Sends back in upper case what it receives on each connection.

Arguments:
  ADDR                 address to bind: HOST:PORT, HOST, :PORT, PORT or
                       [V6]:PORT [default: 127.0.0.1:8888]

Options:
  --workers N          number of connections at a time, 1 to 10000
                       [default: 256]
  --idle-timeout SECS  close a connection when a read or write waits for SECS
                       seconds; 0: never [default: 60]. While more than three
                       quarters of the workers are busy, a read waits for at
                       most 250 ms
  --count N            exit after N connections
  --until-eof          when standard input ends, finish open connections and
                       exit: on Ctrl-D, or when the parent process is gone;
                       /dev/null ends at once, so a background job needs a pipe
  --quiet              print only the address and system errors
  -h, --help           print this help
  -V, --version        print the version
";

fn main() -> std::process::ExitCode {
    common::main(HELP, env!("CARGO_PKG_VERSION"), run)
}

fn run(args: &common::Args) -> Result<(), common::Error> {
    let address = args.address()?;
    let workers = args.number("--workers", 10_000)?.map_or(256, |n| n as usize);
    let idle_timeout = Some(args.seconds("--idle-timeout", 60)?).filter(|time| !time.is_zero());
    let count = args.number("--count", u64::MAX)?.unwrap_or(u64::MAX);
    let listener = TcpListener::bind(address.resolve()?.as_slice())
        .map_err(|error| common::Error::failed(format_args!("cannot bind {address}"), &error))?;
    let server = Server { workers, idle_timeout, count, ..Server::new(listener)? };
    let server = std::sync::Arc::new(server);
    if args.flag("--until-eof") {
        let server = std::sync::Arc::clone(&server);
        common::on_eof(move || {
            loop {
                server.stop();
                thread::sleep(Duration::from_secs(1)); // a wake-up may have been lost
            }
        })?;
    }
    common::listening(server.address);
    server.serve();
    Ok(())
}
