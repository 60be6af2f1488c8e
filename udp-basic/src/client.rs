//! Sends each message as a datagram, without waiting for a reply.
//!
//! ```sh
//! cargo run -p udp-basic --bin udp-basic-client                          # hello, world, sdfas
//! cargo run -p udp-basic --bin udp-basic-client -- :8888 one "and two"
//! ```
//!
//! When `send_to` returns, the kernel has accepted the datagram, which says nothing about its
//! delivery. The client sends as fast as it can. Datagrams that arrive while the receiver's socket
//! buffer is full are dropped. A name may have several addresses, of which this client uses the first.
//!
//! In Python: `socket.sendto` in a loop. See also: `server.rs`, which explains what a datagram is;
//! `udp-echo`, whose client waits for a reply and tries all addresses of a name.
//!
//! Version 0.3.0. `docs/changelog.md` lists the fixes of later versions.

use std::io;
use std::net::{SocketAddr, UdpSocket};

struct Client {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Client {
    fn new(server: SocketAddr) -> io::Result<Client> {
        // Any address of this host, and a free port, which the kernel assigns in place of 0.
        let any_port = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        Ok(Client { socket: UdpSocket::bind(any_port)?, server })
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        self.socket.send_to(message, self.server)?;
        Ok(())
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
    let failed = |error| common::Error::failed(format_args!("cannot send to {address}"), &error);
    let server = address.resolve()?[0];
    let client = Client::new(server).map_err(failed)?;
    for message in common::payloads(messages, &[server]) {
        let message = message?;
        client.send(&message).map_err(failed)?;
        let line = format!("sent \"{}\" to {server}\n", message.escape_ascii());
        common::print(line.as_bytes())?;
    }
    Ok(())
}
