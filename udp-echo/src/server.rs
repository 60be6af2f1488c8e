//! Answers each datagram with its bytes in upper case, one after the other.
//!
//! ```sh
//! cargo run -p udp-echo                                      # one terminal
//! cargo run -p udp-echo --bin udp-echo-client -- :8888 hi    # another
//! ```
//!
//! One thread, one socket. Datagrams that come while one is handled wait in the socket's receive
//! buffer, and when it is full the kernel drops them: the client asks again.
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
//! In Python: `socketserver.UDPServer`. See also: `client.rs`; `udp-threaded`, this on N threads.

use common::{Bytes, Error, Log, Options, Tickets};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const HELP: &str = "\
Usage: udp-echo-server [--count N] [--quiet] [ADDR]

Answers each datagram with its bytes in upper case, one after the other.

  ADDR       where to listen: HOST:PORT, HOST, :PORT or PORT (default 127.0.0.1:8888)
  --count N  stop after N datagrams
  --quiet    print only where it listens, and the machine's trouble
";

/// As large as a datagram can be: what did not fit into the buffer would be cut off.
const MAX_DATAGRAM: usize = 65_535;

/// How long to wait before trying again when the machine is in trouble.
const PAUSE: Duration = Duration::from_millis(250);

struct Server {
    socket: UdpSocket,
    port: u16,
    tickets: Tickets,
    log: Log,
}

fn main() -> ExitCode {
    common::main(HELP, run)
}

fn run(options: &Options) -> Result<(), Error> {
    let address = options.address()?;
    let tickets = Tickets::new(options.count("--count")?);
    let log = options.log();
    let (socket, local) = UdpSocket::bind(&address)
        .and_then(|socket| socket.local_addr().map(|local| (socket, local)))
        .map_err(|why| Error::failed(format_args!("cannot bind {address}"), &why))?;
    log.listening(local);
    Server { socket, port: local.port(), tickets, log }.serve();
    Ok(())
}

impl Server {
    fn serve(&self) {
        let mut buffer = [0; MAX_DATAGRAM];
        while self.tickets.take() {
            let (length, client) = self.receive(&mut buffer);
            let request = &mut buffer[..length];
            self.log.line(format_args!("{} from {client}", Bytes(request)));
            // A handler that panics loses its request, not the server.
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
        request.make_ascii_uppercase();
        self.socket.send_to(request, client)?;
        Ok(())
    }
}
