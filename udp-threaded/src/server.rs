//! Answers each datagram with its bytes in upper case, several at a time.
//!
//! ```sh
//! cargo run -p udp-threaded -- --delay 0.5 --workers 8                           # one terminal
//! cargo run -p udp-threaded --bin udp-threaded-client -- :8888 a b c d e f g h   # another
//! ```
//!
//! N workers receive on one socket: the kernel wakes one of them for each datagram. No dispatcher,
//! no queue, no lock. When all are busy, datagrams wait in the socket's receive buffer, and when it
//! is full the kernel drops them: the client asks again. Answers may overtake each other. As many
//! workers as cores are the fastest; more only help a handler that waits.
//!
//! Before real use:
//! - A source address can be forged, and the answer goes to whoever was named: do not answer with
//!   more bytes than were asked with, and mind who can reach the port. The default is loopback.
//! - A datagram from the server's own port number is dropped, or two servers could be made to
//!   answer each other for ever. A client bound to that very number is not served. A loop with a
//!   service on *another* port cannot be seen from here (CVE-2024-2169).
//! - On a host with several addresses bind to one: from `0.0.0.0` an answer may leave from another
//!   address than was asked, and the client's kernel drops it.
//!
//! In Python: `socketserver.ThreadingUDPServer`, with its threads bounded. See also: `client.rs`;
//! `udp-echo`, the same on one thread; `tcp-threaded`, the same for connections.

use common::{Bytes, Error, Log, Options, Tickets};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const HELP: &str = "\
Usage: udp-threaded-server [--workers N] [--delay S] [--count N] [--quiet] [ADDR]

Answers each datagram with its bytes in upper case, several at a time.

  ADDR         where to listen: HOST:PORT, HOST, :PORT or PORT (default 127.0.0.1:8888)
  --workers N  how many at a time (at most 10000; default: one for each core, at least 2)
  --delay S    seconds each answer takes, as if it were work (default 0)
  --count N    stop after N datagrams
  --quiet      print only where it listens, and the machine's trouble
";

/// As large as a datagram can be: what did not fit into the buffer would be cut off.
const MAX_DATAGRAM: usize = 65_535;

/// How long to wait before trying again when the machine is in trouble.
const PAUSE: Duration = Duration::from_millis(250);

struct Server {
    socket: UdpSocket,
    port: u16,
    delay: Duration,
    tickets: Tickets,
    log: Log,
}

fn main() -> ExitCode {
    common::main(HELP, run)
}

fn run(options: &Options) -> Result<(), Error> {
    let address = options.address()?;
    let cores = thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    // Linux gives a process 65,530 mappings of memory; a thread takes four.
    let workers = options.count("--workers")?.unwrap_or(cores).min(10_000);
    let delay = options.seconds("--delay", 0)?;
    let tickets = Tickets::new(options.count("--count")?);
    let (socket, local) = UdpSocket::bind(&address)
        .and_then(|socket| socket.local_addr().map(|local| (socket, local)))
        .map_err(|why| Error::failed(format_args!("cannot bind {address}"), &why))?;
    let server = &Server { socket, port: local.port(), delay, tickets, log: options.log() };
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
        let mut buffer = [0; MAX_DATAGRAM];
        while self.tickets.take() {
            let (length, client) = self.receive(&mut buffer);
            let request = &mut buffer[..length];
            self.log.line(format_args!("{} from {client} (worker {worker})", Bytes(request)));
            // A handler that panics loses its request, not the worker.
            let handled = catch_unwind(AssertUnwindSafe(|| self.handle(request, client)))
                .unwrap_or_else(|_| Err(io::Error::other("the handler panicked")));
            // The client's error: its source port is 0, say, which nobody can answer.
            if let Err(error) = handled {
                self.log.client(client, &error);
            }
        }
    }

    /// Waits for a datagram to answer. An empty one is a datagram like any other.
    fn receive(&self, buffer: &mut [u8]) -> (usize, SocketAddr) {
        let mut trouble = None;
        loop {
            match self.socket.recv_from(buffer) {
                // Forged: to answer our own port number is to be answered, for ever.
                Ok((_, client)) if client.port() == self.port => {}
                Ok(received) => return received,
                // An earlier answer's error: its client has left (on Windows: WSAECONNRESET).
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                // A signal or a debugger interrupted: nothing was received, nothing is lost.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The machine's error: out of memory, say. Without the pause this loop would spin.
                Err(error) => {
                    trouble.get_or_insert_with(|| self.log.trouble("receive", &error));
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    /// The function to replace.
    fn handle(&self, request: &mut [u8], client: SocketAddr) -> io::Result<()> {
        thread::sleep(self.delay);
        request.make_ascii_uppercase();
        self.socket.send_to(request, client)?;
        Ok(())
    }
}
