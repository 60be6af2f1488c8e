//! Receives datagrams and prints them.
//!
//! ```sh
//! cargo run -p udp-basic                             # in one terminal
//! cargo run -p udp-basic --bin udp-basic-client      # in another
//! ```
//!
//! Each `send_to` is one datagram, and each `recv_from` returns one: datagrams are never merged or
//! split, however fast they are sent. On the wire a datagram is a UDP header of 8 bytes (two ports,
//! a length, a checksum: RFC 768) and the payload, which has at most 65,507 bytes over IPv4. The
//! network may lose, duplicate or reorder datagrams, but it never delivers a part of one. Datagrams
//! that arrive during a call to `handle` wait in the socket's receive buffer. When that is full, the
//! kernel drops new ones.
//!
//! *Before real use*: a source address can be spoofed, so it does not prove who sent a datagram. The
//! sender also chooses the payload, which is escaped in the log, or it could forge lines there.
//!
//! In Python: a loop around `socket.recvfrom`. See also: `client.rs`; `udp-echo`, which replies.
//!
//! Version 0.3.0. `docs/changelog.md` lists the fixes of later versions.

use common::{error, info, warn};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

struct Server {
    socket: UdpSocket,
    /// The number of datagrams to receive. `u64::MAX` means unlimited.
    count: u64,
}

impl Server {
    fn new(socket: UdpSocket) -> Server {
        Server { socket, count: u64::MAX }
    }

    fn serve(&self) {
        let mut buffer = [0; 65_535]; // room for any datagram; a smaller buffer may truncate one
        for _ in 0..self.count {
            let (length, client) = self.receive(&mut buffer);
            self.handle(&buffer[..length], client);
        }
    }

    /// Waits for a datagram, which may be empty.
    fn receive(&self, buffer: &mut [u8]) -> (usize, SocketAddr) {
        let mut delay_ms = 1;
        loop {
            match self.socket.recv_from(buffer) {
                Ok(received) => return received,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue, // by a signal
                // A system error such as ENOMEM. The first in a row may be caused by a client.
                Err(error) if delay_ms == 1 => warn!("cannot receive: {error}; retrying in 1 ms"),
                Err(error) => error!("cannot receive: {error}; retrying in {delay_ms} ms"),
            }
            thread::sleep(Duration::from_millis(delay_ms)); // or this loop would spin
            delay_ms = (2 * delay_ms).min(1000);
        }
    }

    /// The function to replace.
    fn handle(&self, request: &[u8], client: SocketAddr) {
        // Formatting a long datagram would take longer than receiving it.
        info!("\"{}\" from {client}", request[..request.len().min(250)].escape_ascii());
    }
}

const HELP: &str = "\
Usage: udp-basic-server [OPTIONS] [ADDR]

Receives datagrams and prints them.

Arguments:
  ADDR           address to bind: HOST:PORT, HOST, :PORT, PORT or [V6]:PORT
                 [default: 127.0.0.1:8888]

Options:
  --count N      exit after N datagrams [default: 3]
  --quiet        print only the address and system errors
  -h, --help     print this help
  -V, --version  print the version
";

fn main() -> std::process::ExitCode {
    common::main(HELP, env!("CARGO_PKG_VERSION"), run)
}

fn run(args: &common::Args) -> Result<(), common::Error> {
    let address = args.address()?;
    let count = args.number("--count", u64::MAX)?.unwrap_or(3);
    let socket = UdpSocket::bind(address.resolve()?.as_slice())
        .map_err(|error| common::Error::failed(format_args!("cannot bind {address}"), &error))?;
    common::listening(socket.local_addr()?);
    Server { count, ..Server::new(socket) }.serve();
    Ok(())
}
