//! Answers what comes over each connection with the same bytes in upper case, many at a time.
//!
//! ```sh
//! cargo run -p tcp-threaded                                          # one terminal
//! cargo run -p tcp-threaded --bin tcp-threaded-client -- :8888 hi    # another
//! ```
//!
//! A connection is a stream: a read is what has come so far, not a write of the other side. N workers
//! accept on one listener: the kernel wakes one of them for each connection. No dispatcher, no
//! queue, no lock. When all are busy, connections wait in the listener's backlog.
//!
//! Before real use:
//! - Each open connection holds a worker until it ends or is idle for too long; a client that keeps
//!   sending a byte now and then is not idle. Mind who can reach the port. The default is loopback.
//! - On Linux a worker that waits in `accept` already holds a file descriptor: keep `--workers`
//!   below `ulimit -n`.
//!
//! In Python: `socketserver.ThreadingTCPServer`, with its threads bounded. See also: `client.rs`;
//! `udp-threaded`, the same for datagrams.

use common::{Bytes, Error, Log, Options, Tickets};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const HELP: &str = "\
Usage: tcp-threaded-server [--workers N] [--idle-timeout S] [--count N] [--quiet] [ADDR]

Answers what comes over each connection with the same bytes in upper case.

  ADDR              where to listen: HOST:PORT, HOST, :PORT or PORT (default 127.0.0.1:8888)
  --workers N       how many connections at a time (default 256)
  --idle-timeout S  end a connection after S seconds without progress (default 60; 0: never)
  --count N         stop after N connections
  --quiet           print only where it listens, and the machine's trouble
";

/// The most bytes to read at once.
const MAX_READ: usize = 64 << 10;

/// How long to wait before trying again when the machine is in trouble.
const PAUSE: Duration = Duration::from_millis(250);

/// Bytes of memory without which no further worker is started.
const HEADROOM: usize = 16 << 20;

struct Server {
    listener: TcpListener,
    idle_timeout: Option<Duration>,
    tickets: Tickets,
    log: Log,
}

fn main() -> ExitCode {
    common::main(HELP, run)
}

fn run(options: &Options) -> Result<(), Error> {
    let address = options.address()?;
    let workers = options.count("--workers")?.unwrap_or(256);
    let idle_timeout = Some(options.seconds("--idle-timeout", 60)?).filter(|time| !time.is_zero());
    let tickets = Tickets::new(options.count("--count")?);
    let log = options.log();
    let (listener, local) = TcpListener::bind(&address)
        .and_then(|listener| listener.local_addr().map(|local| (listener, local)))
        .map_err(|why| Error::failed(format_args!("cannot bind {address}"), &why))?;
    log.listening(local);
    let server = &Server { listener, idle_timeout, tickets, log };
    thread::scope(|scope| {
        for worker in 2..=workers {
            // A thread that starts but finds no memory for itself would abort the process.
            let started = Vec::<u8>::new().try_reserve_exact(HEADROOM).map_err(io::Error::other);
            let started = started.and_then(|()| {
                thread::Builder::new().spawn_scoped(scope, move || server.serve(worker))
            });
            // The machine's: it gives no more threads. Serve with those that run.
            if let Err(error) = started {
                server.log.warning(format_args!("{} of {workers} workers: {error}", worker - 1));
                break;
            }
        }
        server.serve(1);
    });
    Ok(())
}

impl Server {
    fn serve(&self, worker: usize) {
        while self.tickets.take() {
            let (stream, client) = self.accept();
            self.log.line(format_args!("{client} connected (worker {worker})"));
            let served = catch_unwind(AssertUnwindSafe(|| {
                // A client that says nothing, or never reads, would hold this worker for ever.
                stream.set_read_timeout(self.idle_timeout)?;
                stream.set_write_timeout(self.idle_timeout)?;
                // Nagle's algorithm holds back a small write until the client's delayed ACK: 40 ms.
                stream.set_nodelay(true)?;
                self.handle(&stream, client)
            }));
            // A handler that panics loses its connection, not the worker.
            let served = served.unwrap_or_else(|_| Err(io::Error::other("the handler panicked")));
            // The client's: it is gone, silent, or does not read.
            if let Err(error) = served {
                self.log.client(client, &error);
            }
        }
    }

    /// Waits for a connection.
    fn accept(&self) -> (TcpStream, SocketAddr) {
        let mut trouble = None;
        loop {
            match self.listener.accept() {
                Ok(accepted) => return accepted,
                // The client's: it left before we came to it. Linux says so later, on a read.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                // The machine's: out of descriptors, say. Without the pause this loop would spin.
                Err(error) => {
                    trouble.get_or_insert_with(|| self.log.trouble("accept", &error));
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    /// The function to replace.
    fn handle(&self, mut stream: &TcpStream, client: SocketAddr) -> io::Result<()> {
        let (mut buffer, mut total) = (vec![0; 4096], 0);
        loop {
            let request = match stream.read(&mut buffer) {
                // The end: the client has closed its half, and may still be reading.
                Ok(0) => break,
                Ok(length) => &mut buffer[..length],
                // A stop and continue's (Ctrl-Z, `fg`): a read with a timeout does not resume.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            total += request.len();
            self.log.line(format_args!("{} from {client}", Bytes(request)));
            request.make_ascii_uppercase();
            // All of it: a `write` may take less than it is given.
            stream.write_all(request)?;
            // An idle connection costs a page of memory, a busy one has few system calls.
            if request.len() == buffer.len() && buffer.len() < MAX_READ {
                buffer.resize(2 * buffer.len(), 0);
            }
        }
        self.log.line(format_args!("{client} closed after {total} bytes"));
        Ok(())
    }
}
