//! Textbook Rust over TCP: `stream?` in the loop over `incoming()`, as in the documentation of
//! `std::net::TcpListener`, and a thread per connection, as in chapter 21 of "The Rust Programming
//! Language". For the benchmark, `TCP_NODELAY` is set, and the buffer has 64 KiB or the second argument.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).expect("usage: tcp PORT");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    let size = std::env::args().nth(2).map_or(65_536, |n| n.parse().expect("a number of bytes"));
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || handle_client(stream, size));
    }
    Ok(())
}

fn handle_client(mut stream: TcpStream, size: usize) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buf = vec![0; size];
    loop {
        let n = stream.read(&mut buf)?;
        if n == 0 {
            return Ok(());
        }
        buf[..n].make_ascii_uppercase();
        stream.write_all(&buf[..n])?;
    }
}
