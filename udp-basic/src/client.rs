//! Sends each message as a datagram and waits for nothing.
//!
//! ```sh
//! cargo run -p udp-basic --bin udp-basic-client                          # hello, world, sdfas
//! cargo run -p udp-basic --bin udp-basic-client -- :8888 one "and two"
//! ```
//!
//! When `send` returns, the datagram is on its way. Whether a server is listening, and whether the
//! datagram is lost on the way, the sender does not learn. It sends as fast as it can, and what does
//! not fit into a slower receiver's buffer is dropped.
//!
//! In Python: `socket.sendto` in a loop. See also: `server.rs`, which explains what a datagram is;
//! `udp-echo`, whose client waits for a reply.

use std::io;
use std::net::{SocketAddr, UdpSocket};

const HELP: &str = "\
Usage: udp-basic-client [OPTIONS] [ADDR [MESSAGE...]]

Sends each message as a datagram and waits for nothing.

Arguments:
  ADDR           address of the server: HOST:PORT, HOST, :PORT, PORT or
                 [V6]:PORT [default: 127.0.0.1:8888]
  MESSAGE        what to send; - stands for the lines of standard input
                 [default: hello world sdfas]

Options:
  -h, --help     print this help
  -V, --version  print the version
";

fn main() -> std::process::ExitCode {
    common::main(HELP, env!("CARGO_PKG_VERSION"), run)
}

fn run(args: &common::Args) -> Result<(), common::Error> {
    let address = args.address()?;
    let addresses = address.resolve()?;
    let failed = |error| common::Error::failed(format_args!("cannot send to {address}"), &error);
    let client = Client { sockets: connect(&addresses).map_err(failed)? };
    for message in common::payloads(args.messages(&["hello", "world", "sdfas"]), &addresses) {
        let message = message?;
        let server = client.send(&message).map_err(failed)?;
        let line = format!("sent \"{}\" to {server}\n", message.escape_ascii());
        common::print(line.as_bytes())?;
    }
    Ok(())
}

struct Client {
    /// One for each address of the server.
    sockets: Vec<UdpSocket>,
}

impl Client {
    /// Sends a message to the first address that is not known to refuse it; returns that address.
    fn send(&self, message: &[u8]) -> io::Result<SocketAddr> {
        let mut result = Err(io::Error::other("no address"));
        for socket in &self.sockets {
            // `send` may report an ICMP error from the previous datagram instead of sending. Try
            // once more.
            let sent = socket.send(message).or_else(|_| socket.send(message));
            result = sent.and_then(|_| socket.peer_addr());
            // The kernel knows at once that no server is listening on this host.
            if result.is_ok() && socket.take_error()?.is_none() {
                break;
            }
        }
        result
    }
}

/// Returns a connected socket for each address that the system has a route to.
fn connect(addresses: &[SocketAddr]) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::new();
    let mut result = Ok(());
    for address in addresses {
        match connect_to(address) {
            Ok(socket) => sockets.push(socket),
            Err(error) => result = Err(error),
        }
    }
    if sockets.is_empty() { result.map(|()| sockets) } else { Ok(sockets) }
}

/// Returns a connected socket. Connecting a UDP socket sends nothing.
fn connect_to(address: &SocketAddr) -> io::Result<UdpSocket> {
    let any_port = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    loop {
        let socket = UdpSocket::bind(any_port)?;
        socket.connect(address)?;
        // With no server listening, the kernel may choose the server's port for the client, which
        // would then talk to itself. Close that socket and take another.
        if socket.local_addr()? != socket.peer_addr()? {
            return Ok(socket);
        }
    }
}
