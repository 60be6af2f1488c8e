//! UDP with tokio after its example echo-udp: receive and send in turn, with `?` behind each call.
//! `udp PORT TASKS` has more than one task do so on the same socket. The buffer holds every datagram.

use std::sync::Arc;
use tokio::net::UdpSocket;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let port = args.next().expect("usage: udp PORT [TASKS]");
    let tasks = args.next().map_or(1, |n| n.parse().expect("TASKS is a number"));
    let socket = Arc::new(UdpSocket::bind(format!("127.0.0.1:{port}")).await?);
    let tasks: Vec<_> = (0..tasks).map(|_| tokio::spawn(serve(socket.clone()))).collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn serve(socket: Arc<UdpSocket>) -> std::io::Result<()> {
    let mut buf = vec![0; 65_535];
    loop {
        let (n, client) = socket.recv_from(&mut buf).await?;
        buf[..n].make_ascii_uppercase();
        socket.send_to(&buf[..n], client).await?;
    }
}
