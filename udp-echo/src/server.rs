//! Replies to each datagram with its bytes in upper case, one datagram at a time.
//!
//! ```sh
//! cargo run -p udp-echo                                      # in one terminal
//! cargo run -p udp-echo --bin udp-echo-client -- :8888 hi    # in another
//! ```
//!
//! One thread serves one socket. Datagrams that arrive during a call to `handle` wait in the socket's
//! receive buffer. When that is full, the kernel drops new ones. A client that does not get a
//! reply has to send its request again.
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
//! In Python: `socketserver.UDPServer`. See also: `client.rs`; `udp-threaded`, which does the same
//! on several threads.
//!
//! Version 0.3.0. `docs/changelog.md` lists the fixes of later versions.

use common::{error, info, warn};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

struct Server {
    socket: UdpSocket,
    /// The local address of `socket`.
    address: SocketAddr,
    /// The number of datagrams to receive. `u64::MAX` means unlimited.
    count: u64,
}

impl Server {
    fn new(socket: UdpSocket) -> io::Result<Server> {
        Ok(Server { address: socket.local_addr()?, socket, count: u64::MAX })
    }

    fn serve(&self) {
        let mut buffer = [0; 65_535]; // room for any datagram; a smaller buffer may truncate one
        for _ in 0..self.count {
            let (length, client) = self.receive(&mut buffer);
            // A panic costs this request, not the server.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                let request = &mut buffer[..length];
                // Formatting all of a long request would take longer than serving it.
                info!("\"{}\" from {client}", request[..length.min(250)].escape_ascii());
                // Sending fails, for example, if the source port is 0.
                if let Err(error) = self.handle(request, client) {
                    warn!("{client}: {error}");
                }
            }));
        }
    }

    /// Waits for a request, which may be empty.
    fn receive(&self, buffer: &mut [u8]) -> (usize, SocketAddr) {
        let mut delay_ms = 1;
        loop {
            match self.socket.recv_from(buffer) {
                // Spoofed: replying to our own port would start an endless loop.
                Ok((_, client)) if client.port() == self.address.port() => continue,
                Ok(received) => return received,
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
    }

    /// The function to replace.
    fn handle(&self, request: &mut [u8], client: SocketAddr) -> io::Result<()> {
        request.make_ascii_uppercase();
        self.socket.send_to(request, client)?;
        Ok(())
    }
}

const HELP: &str = "\
Usage: udp-echo-server [OPTIONS] [ADDR]

Replies to each datagram with its bytes in upper case, one datagram at a time.

Arguments:
  ADDR           address to bind: HOST:PORT, HOST, :PORT, PORT or [V6]:PORT
                 [default: 127.0.0.1:8888]

Options:
  --count N      exit after N datagrams
  --quiet        print only the address and system errors
  -h, --help     print this help
  -V, --version  print the version
";

fn main() -> std::process::ExitCode {
    common::main(HELP, env!("CARGO_PKG_VERSION"), run)
}

fn run(args: &common::Args) -> Result<(), common::Error> {
    let address = args.address()?;
    let count = args.number("--count", u64::MAX)?.unwrap_or(u64::MAX);
    let socket = UdpSocket::bind(address.resolve()?.as_slice())
        .map_err(|error| common::Error::failed(format_args!("cannot bind {address}"), &error))?;
    let server = Server { count, ..Server::new(socket)? };
    common::listening(server.address);
    server.serve();
    Ok(())
}
