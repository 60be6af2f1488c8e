//! Sends datagrams, one for each message, and waits for nothing.
//!
//! ```sh
//! cargo run -p udp-basic --bin udp-basic-client                          # hello, world, sdfas
//! cargo run -p udp-basic --bin udp-basic-client -- :8888 one "and two"
//! ```
//!
//! A datagram is on its way when `send` returns, and that is all `send` tells: whether anybody
//! listens, whether it was lost, the sender neither knows nor cares. It sends as fast as it can;
//! what a slower receiver's buffer cannot hold is dropped.
//!
//! In Python: `socket.sendto` in a loop. See also: `server.rs`, which tells what a datagram is;
//! `udp-echo`, whose client waits for an answer.

use common::{Address, Bytes, Error, Options};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::process::ExitCode;

const HELP: &str = "\
Usage: udp-basic-client [ADDR [MESSAGE...]]

Sends each message as a datagram and waits for nothing.

  ADDR     whom to send to: HOST:PORT, HOST, :PORT or PORT (default 127.0.0.1:8888)
  MESSAGE  what to send (default: hello world sdfas); - sends the lines of standard input
";

fn main() -> ExitCode {
    common::main(HELP, run)
}

fn run(options: &Options) -> Result<(), Error> {
    let address = options.address()?;
    let messages = options.messages(&["hello", "world", "sdfas"]);
    let sockets = connect(&address)
        .map_err(|why| Error::failed(format_args!("cannot send to {address}"), &why))?;
    for message in common::datagrams(messages) {
        let message = message?;
        let peer = send(&sockets, &message).map_err(|why| {
            Error::failed(format_args!("cannot send {} to {address}", Bytes(&message)), &why)
        })?;
        common::print(format!("sent {} to {peer}\n", Bytes(&message)).as_bytes())?;
    }
    Ok(())
}

/// A socket for each of the name's addresses. To connect a UDP socket sends nothing.
fn connect(address: &Address) -> io::Result<Vec<UdpSocket>> {
    let mut result = Err(io::Error::other("the name has no address"));
    let mut sockets = Vec::new();
    for peer in address.to_socket_addrs()? {
        let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        result = UdpSocket::bind(any)
            .and_then(|socket| socket.connect(peer).map(|()| sockets.push(socket)));
    }
    if sockets.is_empty() { result.map(|()| sockets) } else { Ok(sockets) }
}

/// Sends one datagram, to the first address where nothing is known to be wrong.
fn send(sockets: &[UdpSocket], message: &[u8]) -> io::Result<SocketAddr> {
    let mut result = Err(io::Error::other("no address"));
    for socket in sockets {
        // An error may be an earlier datagram's, and then this one was not sent: send it again.
        result = socket.send(message).or_else(|_| socket.send(message));
        // On this machine the kernel knows at once when nobody listens: try the next address.
        if result.is_ok() && socket.take_error()?.is_none() {
            return socket.peer_addr();
        }
    }
    result.and_then(|_| sockets[sockets.len() - 1].peer_addr())
}
