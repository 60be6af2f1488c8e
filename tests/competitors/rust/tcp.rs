//! Textbook Rust over TCP: `stream?` in the loop over `incoming()`, as in the documentation of
//! `std::net::TcpListener`, and a thread per connection, as in chapter 21 of "The Rust Programming
//! Language". For the benchmark, the buffer has 64 KiB and `TCP_NODELAY` is set.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).expect("usage: tcp PORT");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(|| handle_client(stream));
    }
    Ok(())
}

fn handle_client(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buf = vec![0; 65_536];
    loop {
        let n = stream.read(&mut buf)?;
        if n == 0 {
            return Ok(());
        }
        buf[..n].make_ascii_uppercase();
        stream.write_all(&buf[..n])?;
    }
}
