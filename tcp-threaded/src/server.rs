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
//! connection. The program does not need a dispatcher, a queue or a lock of its own. There is one
//! worker at the start. One that accepts a connection starts more, up to `--workers`, until 32 wait.
//! While all are busy, connections wait in the listener's backlog. When that is full, Linux ignores
//! attempts to connect, which clients repeat after a second.
//!
//! *Before real use*:
//! - A connection occupies a worker until the client closes it, or a read or write times out. A
//!   connection that is accepted while more than three quarters of all possible workers are busy is
//!   closed when a read waits for 1 second. Silent clients therefore delay others, but do not block
//!   them. More than `--workers` clients that send a byte now and then, or that never read, block all
//!   workers. Restrict who can reach the port. The default address is loopback.
//! - On Linux, a write may time out even if the client is reading, because a blocked write continues
//!   only when about a third of the send buffer is free. For slow clients, allow minutes.
//! - On Linux, a worker holds a file descriptor even while it waits in `accept`. The default suits
//!   `ulimit -n` 1024. When no descriptor is free, the number of workers shrinks until handlers can
//!   open files again, and a few connections may fail before that. To avoid this, keep `--workers`
//!   below half of `ulimit -n` if the handler opens a file.
//! - `--workers` is limited to 10,000, because a thread takes up to four memory mappings and Linux
//!   allows a process 65,530. A thread that starts without them, or without memory, may abort the
//!   process.
//!
//! In Python: `socketserver.ThreadingTCPServer`, but with a limit and threads that serve more than one
//! connection. See also: `client.rs`; `udp-threaded`, for datagrams.
//!
//! Version 0.3.0. `docs/changelog.md` lists the fixes of later versions.

use common::{error, info, warn};
use std::io::{self, ErrorKind, ErrorKind::TimedOut, ErrorKind::WouldBlock, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Scope};
use std::time::Duration;

struct Server {
    listener: TcpListener,
    workers: usize, // the largest number, and so of connections at a time
    idle_timeout: Option<Duration>, // never zero; `None` disables the timeout
    limit: AtomicUsize, // `workers`, or fewer after a descriptor or a thread was missing
    running: AtomicUsize, // workers, including those that are about to start
    busy: AtomicUsize, // workers that serve a connection
    stopping: AtomicBool,
    #[cfg(target_os = "linux")]
    waker: TcpStream, // the listener again, as a type that std can shut down
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Server> {
        Ok(Server {
            #[cfg(target_os = "linux")]
            waker: std::os::fd::OwnedFd::from(listener.try_clone()?).into(),
            listener,
            workers: if cfg!(target_vendor = "apple") { 240 } else { 1010 },
            idle_timeout: Some(Duration::from_secs(60)),
            limit: usize::MAX.into(),
            running: 1.into(),
            busy: 0.into(),
            stopping: false.into(),
        })
    }

    fn serve(&self) {
        thread::scope(|scope| self.work(scope, 1)); // this thread is the first worker
    }

    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, n: usize) {
        // After a peak, surplus workers would occupy memory and, on Linux, a file descriptor each.
        let surplus =
            |n| (n > self.limit.load(SeqCst).min(self.busy.load(SeqCst) + 64)).then(|| n - 1);
        while self.running.fetch_update(SeqCst, SeqCst, surplus).is_err() {
            let Some((stream, client)) = self.accept() else { return self.stop() };
            let busy = self.busy.fetch_add(1, SeqCst) + 1;
            self.start_workers(scope);
            let _ = catch_unwind(AssertUnwindSafe(|| {
                info!("{client} connected (worker {n})");
                let configured = self.configure(&stream, busy);
                if let Err(error) = configured.and_then(|()| self.handle(&stream, client)) {
                    let timed_out = matches!(error.kind(), WouldBlock | TimedOut); // Unix, Windows
                    warn!("{client}: {}{error}", if timed_out { "timed out: " } else { "" });
                }
            })); // a panic costs this connection, not the worker
            self.busy.fetch_sub(1, SeqCst);
        }
    }

    /// Starts workers until 32 wait. A clone of the listener shows whether a descriptor is free.
    fn start_workers<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        if self.listener.try_clone().is_err() {
            self.limit.store(self.running.load(SeqCst).max(2) - 1, SeqCst); // leave some to handlers
        } else if self.busy.load(SeqCst) + 32 <= self.limit.load(SeqCst).max(66) / 2 {
            self.limit.store(self.workers, SeqCst); // the system may allow more again
        }
        let wanted = || self.limit.load(SeqCst).min(self.busy.load(SeqCst) + 32);
        let next = |n| (n < wanted()).then_some(n + 1);
        while let Ok(n) = self.running.fetch_update(SeqCst, SeqCst, next) {
            let worker = thread::Builder::new().name(format!("worker {}", n + 1));
            let started = self.listener.try_clone().and_then(|reserved| {
                worker.spawn_scoped(scope, move || (drop(reserved), self.work(scope, n + 1)))
            }); // on Linux, `accept` takes the descriptor again
            if let Err(error) = started {
                self.limit.store(self.running.fetch_sub(1, SeqCst) - 1, SeqCst);
                return error!("cannot start another worker: {error}");
            }
        }
    }

    /// Waits for a connection. Returns `None` once the server is stopping.
    fn accept(&self) -> Option<(TcpStream, SocketAddr)> {
        let mut delay_ms = 1;
        while !self.stopping.load(SeqCst) {
            match self.listener.accept() {
                _ if self.stopping.load(SeqCst) => break, // by `stop`, or a client is too late
                Ok(accepted) => return Some(accepted),
                // The client reset its connection in the backlog. (On Linux, the first read fails.)
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => continue, // on Windows
                // A system error such as EMFILE. The first in a row may be caused by a client.
                Err(error) if delay_ms == 1 => warn!("cannot accept: {error}; retrying in 1 ms"),
                Err(error) => error!("cannot accept: {error}; retrying in {delay_ms} ms"),
            }
            thread::sleep(Duration::from_millis(delay_ms)); // or this loop would spin
            delay_ms = (2 * delay_ms).min(1000);
        }
        None
    }

    fn configure(&self, stream: &TcpStream, busy: usize) -> io::Result<()> {
        let limit = self.limit.load(SeqCst);
        // Silent clients could occupy all workers. The last quarter serves only clients that send.
        let reserve_timeout = (busy > limit - limit / 4).then_some(Duration::from_secs(1));
        let read_timeout = [self.idle_timeout, reserve_timeout].into_iter().flatten().min();
        if reserve_timeout.is_some() && busy >= limit {
            error!("all {busy} workers are busy: new connections wait");
        }
        // Without timeouts, a client that never sends or never reads would block a worker forever.
        stream.set_read_timeout(read_timeout)?;
        stream.set_write_timeout(self.idle_timeout)?;
        stream.set_nodelay(true) // Nagle's algorithm could delay a small write by 40 ms or more
    }

    /// The function to replace.
    fn handle(&self, mut stream: &TcpStream, client: SocketAddr) -> io::Result<()> {
        let mut buffer = vec![0; 1024];
        let mut total = 0;
        loop {
            let length = match stream.read(&mut buffer) {
                Ok(0) => break, // the client has closed its write side: the response is complete
                Ok(length) => length,
                // SIGSTOP and SIGCONT interrupt a read that has a timeout.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let request = &mut buffer[..length];
            // Formatting all of a long request would take longer than serving it.
            info!("\"{}\" from {client}", request[..length.min(250)].escape_ascii());
            request.make_ascii_uppercase();
            stream.write_all(request)?; // a single `write` may send only a part
            total += length as u64;
            // The buffer starts small, since most connections are idle, and grows for a busy one.
            if length == buffer.len() && length < 64 * 1024 {
                buffer.resize(2 * length, 0);
            }
        }
        info!("{client} closed after {total} bytes");
        Ok(())
    }

    /// Stops the server. Workers finish their current connection, then `serve` returns. Connections in
    /// the backlog are reset, and `accept` ends in other processes that share the listener.
    #[cfg(target_os = "linux")]
    fn stop(&self) {
        self.stopping.store(true, SeqCst);
        let _ = self.waker.shutdown(std::net::Shutdown::Both); // makes `accept` fail in all workers
    }

    /// Nothing portable in std interrupts `accept`, but a connection wakes one worker, which wakes the
    /// next by calling `stop`. If the server cannot connect to itself, call `stop` again later.
    #[cfg(not(target_os = "linux"))]
    fn stop(&self) {
        self.stopping.store(true, SeqCst);
        let Ok(mut address) = self.listener.local_addr() else { return };
        if address.ip().is_unspecified() {
            let (v4, v6) = (std::net::Ipv4Addr::LOCALHOST, std::net::Ipv6Addr::LOCALHOST);
            address.set_ip(if address.is_ipv4() { v4.into() } else { v6.into() });
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
  --workers N          number of connections at a time, 1 to 10000; a worker is
                       started when it is needed [default: 1010; macOS: 240]
  --idle-timeout SECS  close a connection when a read or write waits for SECS
                       seconds; 0: never [default: 60]. A connection accepted
                       while more than three quarters of the workers are busy
                       is closed when a read waits for 1 second
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
    let idle_timeout = Some(args.seconds("--idle-timeout", 60)?).filter(|time| !time.is_zero());
    let workers = args.number("--workers", 10_000)?;
    let listener = TcpListener::bind(address.resolve()?.as_slice())
        .map_err(|error| common::Error::failed(format_args!("cannot bind {address}"), &error))?;
    let mut server = Server { idle_timeout, ..Server::new(listener)? };
    if let Some(workers) = workers {
        server.workers = workers as usize;
    }
    let server = std::sync::Arc::new(server);
    if args.flag("--until-eof") {
        let server = std::sync::Arc::clone(&server);
        common::on_eof(move || stop_repeatedly(&server))?;
    }
    common::listening(server.listener.local_addr()?);
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
