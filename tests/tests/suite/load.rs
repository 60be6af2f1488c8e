//! Many clients at once. These tests keep all cores busy, so they take turns.

use crate::support::*;
use std::thread;

#[test]
fn udp_clients_get_their_own_replies() {
    let _lock = use_all_cores();
    for name in UDP_SERVERS {
        let server = Process::start(name, &["--quiet"]);
        let address = server.address();
        thread::scope(|scope| {
            // A socket's receive buffer holds one request of each client, so none is dropped.
            for client in 0..32 {
                scope.spawn(move || {
                    let socket = udp(address);
                    for number in 0..40 {
                        let message = format!("request {number} of client {client}");
                        let reply = request(&socket, message.as_bytes());
                        assert_eq!(reply, message.to_uppercase().as_bytes(), "{name}");
                    }
                });
            }
        });
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use crate::support::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};
    use std::thread;

    #[test]
    fn short_connections_leave_nothing_behind() {
        let _lock = use_all_cores();
        let server = Process::start("tcp-threaded-server", &["--workers", "64", "--quiet"]);
        let (process, address) = (server.id(), server.address());
        let descriptors = || tests::proc::descriptors(process);
        let before = descriptors();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..40 {
                        let mut stream = tcp(address);
                        match number % 3 {
                            0 => drop(stream),
                            1 => {
                                stream.write_all(b"reset").unwrap();
                                reset(stream);
                            }
                            _ => {
                                stream.write_all(b"x").unwrap();
                                stream.shutdown(Shutdown::Write).unwrap();
                                assert_eq!(read_to_end(&stream), b"X");
                            }
                        }
                    }
                });
            }
        });
        // The last connections may still be open on the server's side.
        wait_until("all descriptors are closed", || descriptors() == before);
        assert!(status(process, "Threads") <= 64);
    }

    #[test]
    fn connections_at_same_time_get_their_own_bytes() {
        const CHUNK: usize = 16 << 10;
        let _lock = use_all_cores();
        let server = Process::start("tcp-threaded-server", &["--quiet"]);
        let request = letters(0, 1 << 20);
        let response = request.to_ascii_uppercase();
        let streams: Vec<TcpStream> = (0..100).map(|_| tcp(server.address())).collect();
        // All of them have a worker after the first byte.
        for length in [1, CHUNK, CHUNK] {
            for (number, mut stream) in streams.iter().enumerate() {
                stream.write_all(&request[number * 997..][..length]).unwrap();
            }
            for (number, mut stream) in streams.iter().enumerate() {
                let mut received = vec![0; length];
                stream.read_exact(&mut received).unwrap();
                assert!(received == response[number * 997..][..length], "client {number}");
            }
        }
    }
}
