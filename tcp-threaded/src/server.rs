//! Answers what comes over each connection with the same bytes in upper case, many at a time.
//!
//! ```sh
//! cargo run -p tcp-threaded                                          # one terminal
//! cargo run -p tcp-threaded --bin tcp-threaded-client -- :8888 hi    # another
//! ```
//!
//! A connection is a stream: a read is what has come so far, not a write of the other side. N
//! workers accept on one listener, and the kernel wakes one of them for each connection: no
//! dispatcher, no queue, no lock. When all are busy, connections wait in the listener's backlog.
//!
//! Before real use:
//! - An open connection holds a worker until it ends or is idle for too long; a byte now and then
//!   is not idle. Mind who can reach the port. The default is loopback.
//! - On Linux a worker waiting in `accept` holds a descriptor: keep `--workers` below `ulimit -n`.
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
  --workers N       how many connections at a time (default 256, at most 10000)
  --idle-timeout S  end a connection after S seconds without progress (default 60; 0: never)
  --count N         stop after N connections
  --quiet           print only where it listens, and the machine's trouble
";

/// How long to wait before trying again when the machine is in trouble.
const PAUSE: Duration = Duration::from_millis(250);

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
    // Linux gives a process 65,530 mappings of memory; a thread takes four.
    let workers = options.count("--workers")?.unwrap_or(256).min(10_000);
    let idle_timeout = Some(options.seconds("--idle-timeout", 60)?).filter(|time| !time.is_zero());
    let tickets = Tickets::new(options.count("--count")?);
    let (listener, local) = TcpListener::bind(&address)
        .and_then(|listener| listener.local_addr().map(|local| (listener, local)))
        .map_err(|why| Error::failed(format_args!("cannot bind {address}"), &why))?;
    let server = &Server { listener, idle_timeout, tickets, log: options.log() };
    server.log.listening(local);
    let main = &thread::current();
    thread::scope(|scope| {
        for worker in 2..=workers {
            // Short of memory, a new thread aborts the process: see to 64 MiB, wait until it runs.
            let room = Vec::<u8>::new().try_reserve_exact(64 << 20).map_err(io::Error::other);
            let work = move || {
                main.unpark();
                server.serve(worker);
            };
            let started = room.and_then(|()| thread::Builder::new().spawn_scoped(scope, work));
            // The machine's error: no more threads. Serve with those that run.
            if let Err(error) = started {
                server.log.warning(format_args!("{} of {workers} workers: {error}", worker - 1));
                break;
            }
            thread::park();
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
                // Or a client that says nothing, or never reads, holds this worker for ever.
                stream.set_read_timeout(self.idle_timeout)?;
                stream.set_write_timeout(self.idle_timeout)?;
                // Nagle's algorithm holds back a small write until the client's delayed ACK: 40 ms.
                stream.set_nodelay(true)?;
                self.handle(&stream, client)
            }));
            // A handler that panics loses its connection, not the worker.
            let served = served.unwrap_or_else(|_| Err(io::Error::other("the handler panicked")));
            // The client's error: it has left, or is silent.
            if let Err(error) = served {
                self.log.client(client, &error);
            }
        }
    }

    fn accept(&self) -> (TcpStream, SocketAddr) {
        let mut trouble = None;
        loop {
            match self.listener.accept() {
                Ok(accepted) => return accepted,
                // The client's error: it left before we came to it. Linux says so later, on a read.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                // The machine's error: out of descriptors, say. Without the pause this would spin.
                Err(error) => {
                    trouble.get_or_insert_with(|| self.log.trouble("accept", &error));
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    /// The function to replace.
    fn handle(&self, mut stream: &TcpStream, client: SocketAddr) -> io::Result<()> {
        let (mut buffer, mut total) = (vec![0; 1024], 0);
        loop {
            let request = match stream.read(&mut buffer) {
                // The end: the client has closed its half, and may still be reading.
                Ok(0) => break,
                Ok(length) => &mut buffer[..length],
                // Stopped and continued (Ctrl-Z, `fg`): a read with a timeout does not resume.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            total += request.len();
            self.log.line(format_args!("{} from {client}", Bytes(request)));
            request.make_ascii_uppercase();
            // All of it: a `write` may take less than it is given.
            stream.write_all(request)?;
            // Small for the many that are idle, up to 64 KiB for the few that send a lot.
            if request.len() == buffer.len() && buffer.len() < 64 << 10 {
                buffer.resize(2 * buffer.len(), 0);
            }
        }
        self.log.line(format_args!("{client} closed after {total} bytes"));
        Ok(())
    }
}
