//! Receives datagrams and shows them: three, unless told otherwise.
//!
//! ```sh
//! cargo run -p udp-basic                             # one terminal
//! cargo run -p udp-basic --bin udp-basic-client      # another
//! ```
//!
//! One `send` is one `recv_from`: three datagrams arrive as three, never as one or as four, however
//! fast they are sent. On the wire each is an IP header, 8 bytes of UDP header (two ports, a
//! length, a checksum: RFC 768) and the payload. The length is a field of 16 bits, so all of them
//! together are at most 65,535 bytes, and the payload at most 65,507 over IPv4. Datagrams may be
//! lost, doubled or overtaken on the way, but what arrives, arrives whole. Those that come while
//! one is handled wait in the socket's receive buffer; when it is full, the kernel drops them.
//!
//! Before real use: a source address can be forged, so it does not prove who sent a datagram.
//!
//! In Python: a loop around `socket.recvfrom`. See also: `client.rs`; `udp-echo`, which answers.

use common::{Bytes, Error, Log, Options, Tickets};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const HELP: &str = "\
Usage: udp-basic-server [--count N] [--quiet] [ADDR]

Receives datagrams and shows them.

  ADDR       where to listen: HOST:PORT, HOST, :PORT or PORT (default 127.0.0.1:8888)
  --count N  stop after N datagrams (default 3)
  --quiet    print only where it listens, and the machine's trouble
";

/// As large as a datagram can be: what did not fit into the buffer would be cut off.
const MAX_DATAGRAM: usize = 65_535;

/// How long to wait before trying again when the machine is in trouble.
const PAUSE: Duration = Duration::from_millis(250);

struct Server {
    socket: UdpSocket,
    tickets: Tickets,
    log: Log,
}

fn main() -> ExitCode {
    common::main(HELP, run)
}

fn run(options: &Options) -> Result<(), Error> {
    let address = options.address()?;
    let tickets = Tickets::new(options.count("--count")?.or(Some(3)));
    let log = options.log();
    let (socket, local) = UdpSocket::bind(&address)
        .and_then(|socket| socket.local_addr().map(|local| (socket, local)))
        .map_err(|why| Error::failed(format_args!("cannot bind {address}"), &why))?;
    log.listening(local);
    Server { socket, tickets, log }.serve();
    Ok(())
}

impl Server {
    fn serve(&self) {
        let mut buffer = [0; MAX_DATAGRAM];
        while self.tickets.take() {
            let (length, client) = self.receive(&mut buffer);
            // A handler that panics loses its datagram, not the server.
            let handled = catch_unwind(AssertUnwindSafe(|| self.handle(&buffer[..length], client)))
                .unwrap_or_else(|_| Err(io::Error::other("the handler panicked")));
            if let Err(error) = handled {
                self.log.client(client, &error);
            }
        }
    }

    /// Waits for a datagram. An empty one is a datagram like any other.
    fn receive(&self, buffer: &mut [u8]) -> (usize, SocketAddr) {
        let mut trouble = None;
        loop {
            match self.socket.recv_from(buffer) {
                Ok(received) => return received,
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
    fn handle(&self, request: &[u8], client: SocketAddr) -> io::Result<()> {
        self.log.line(format_args!("{} from {client}", Bytes(request)));
        Ok(())
    }
}
