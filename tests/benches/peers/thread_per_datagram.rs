//! The textbook's concurrent UDP server: a thread for each datagram. `[DELAY]`: seconds of work.

use std::{env, net::UdpSocket, sync::Arc, thread, time::Duration};

fn main() -> std::io::Result<()> {
    let delay = env::args().nth(1).map_or(0.0, |delay| delay.parse().expect("seconds"));
    let delay = Duration::from_secs_f64(delay);
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0")?);
    println!("listening on {}", socket.local_addr()?);
    let mut buffer = vec![0; 65_535];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        let (mut request, socket) = (buffer[..length].to_vec(), socket.clone());
        let _ = thread::Builder::new().spawn(move || {
            thread::sleep(delay);
            request.make_ascii_uppercase();
            let _ = socket.send_to(&request, client);
        });
    }
}
