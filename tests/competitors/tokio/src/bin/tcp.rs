//! TCP with tokio: a task per connection, as in the echo server of its tutorial (chapter "I/O"),
//! with `?` behind `accept`. For the benchmark, `TCP_NODELAY` is set, and the buffer has 64 KiB or the
//! second argument.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).expect("usage: tcp PORT");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let size = std::env::args().nth(2).map_or(65_536, |n| n.parse().expect("a number of bytes"));
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, size));
    }
}

async fn serve(mut stream: TcpStream, size: usize) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buf = vec![0; size];
    loop {
        let n = stream.read(&mut buf).await?;
        if n == 0 {
            return Ok(());
        }
        buf[..n].make_ascii_uppercase();
        stream.write_all(&buf[..n]).await?;
    }
}
