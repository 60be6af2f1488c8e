//! Sends each message as a datagram, without waiting for a reply.
//!
//! ```sh
//! cargo run -p udp-basic --bin udp-basic-client                          # hello, world, sdfas
//! cargo run -p udp-basic --bin udp-basic-client -- :8888 one "and two"
//! ```
//!
//! When `send` returns, the kernel has accepted the datagram, which says nothing about its delivery.
//! The client sends as fast as it can. Datagrams that do not fit into the receiver's buffer are
//! dropped.
//!
//! In Python: `socket.send` in a loop. See also: `server.rs`, which explains what a datagram is;
//! `udp-echo`, whose client waits for a reply.
//!
//! Version 0.2.0. `docs/changelog.md` lists the fixes of later versions.

use std::io;
use std::net::{SocketAddr, UdpSocket};

struct Client {
    /// One for each address of the server.
    sockets: Vec<UdpSocket>,
}

impl Client {
    fn new(addresses: &[SocketAddr]) -> io::Result<Client> {
        Ok(Client { sockets: connect(addresses)? })
    }

    /// Sends a message to each address in turn until one does not refuse it. Returns the last address
    /// tried, even if that refused it.
    fn send(&self, message: &[u8]) -> io::Result<SocketAddr> {
        let mut result = Err(io::Error::other("no address"));
        for socket in &self.sockets {
            // `send` may report an ICMP error from an earlier datagram instead of sending. That
            // clears the error: try once more.
            let sent = socket.send(message).or_else(|_| socket.send(message));
            result = sent.and_then(|_| socket.peer_addr());
            // On Linux, a refusal by this host has already arrived when `send` returns.
            if result.is_ok() && socket.take_error()?.is_none() {
                break;
            }
        }
        result
    }
}

/// Returns a connected socket for each address that the system can send to.
fn connect(addresses: &[SocketAddr]) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::new();
    let mut last_error = io::Error::other("no address");
    for address in addresses {
        match connect_to(address) {
            Ok(socket) => sockets.push(socket),
            Err(error) => last_error = error,
        }
    }
    if sockets.is_empty() { Err(last_error) } else { Ok(sockets) }
}

/// Returns a connected socket. Connecting a UDP socket sends nothing.
fn connect_to(address: &SocketAddr) -> io::Result<UdpSocket> {
    let any_port = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let mut rejected = Vec::new(); // kept open, so that the kernel assigns another port
    loop {
        let socket = UdpSocket::bind(any_port)?;
        socket.connect(address)?;
        // While the server is not running, the kernel may assign its port to this socket, which
        // would then receive its own messages.
        if socket.local_addr()? != socket.peer_addr()? {
            return Ok(socket);
        }
        rejected.push(socket);
    }
}

const HELP: &str = "\
Usage: udp-basic-client [OPTIONS] [ADDR [MESSAGE...]]

Sends each message as a datagram, without waiting for a reply.

Arguments:
  ADDR           address of the server: HOST:PORT, HOST, :PORT, PORT or
                 [V6]:PORT [default: 127.0.0.1:8888]
  MESSAGE        what to send; a single - sends the lines of standard input
                 [default: three messages: hello, world and sdfas]

Options:
  -h, --help     print this help
  -V, --version  print the version
";

fn main() -> std::process::ExitCode {
    common::main(HELP, env!("CARGO_PKG_VERSION"), run)
}

fn run(args: &common::Args) -> Result<(), common::Error> {
    let address = args.address()?;
    let messages = args.messages(&["hello", "world", "sdfas"])?;
    let addresses = address.resolve()?;
    let failed = |error| common::Error::failed(format_args!("cannot send to {address}"), &error);
    let client = Client::new(&addresses).map_err(failed)?;
    for message in common::payloads(messages, &addresses) {
        let message = message?;
        let server = client.send(&message).map_err(failed)?;
        let line = format!("sent \"{}\" to {server}\n", message.escape_ascii());
        common::print(line.as_bytes())?;
    }
    Ok(())
}
