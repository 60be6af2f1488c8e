//! Textbook Rust over UDP: one loop, and `?` behind each call, as in the documentation of
//! `std::net::UdpSocket`. The buffer is larger than the textbook's, so that every datagram fits.

use std::net::UdpSocket;

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).expect("usage: udp PORT");
    let socket = UdpSocket::bind(format!("127.0.0.1:{port}"))?;
    let mut buf = [0; 65_535];
    loop {
        let (n, client) = socket.recv_from(&mut buf)?;
        buf[..n].make_ascii_uppercase();
        socket.send_to(&buf[..n], client)?;
    }
}
