//! Many clients at once. These tests keep all cores busy, so they take turns.

use crate::support::{UDP_SERVERS, use_all_cores};
use std::collections::{HashSet, VecDeque};
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;
use tests::{Server, udp};

/// How many requests each of 64 clients keeps in flight.
///
/// A socket's receive buffer of 208 KiB, the default on Linux, holds about 270 of this size, so
/// none is dropped while the server runs.
const WINDOW: usize = 4;

const CLIENTS: usize = 64;

#[test]
fn udp_clients_get_their_own_replies() {
    let _lock = use_all_cores();
    for name in UDP_SERVERS {
        let server = Server::start(name, &["--quiet"]);
        let address = server.address();
        let repeated: usize = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| scope.spawn(move || send_requests(client, udp(address), 400)))
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum()
        });
        // A server that loses one request in twenty is worse than a busy machine.
        assert!(repeated < CLIENTS * 400 / 20, "{name}: {repeated} requests were repeated");
    }
}

/// Sends requests with a window and checks each reply; returns how many had to be repeated.
fn send_requests(client: usize, socket: UdpSocket, count: usize) -> usize {
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut requests = (0..count).map(|number| format!("request {number} of client {client}"));
    let mut in_flight: VecDeque<String> = VecDeque::new();
    let mut repeated = HashSet::new();
    let mut buffer = [0; 64];
    let mut timeouts = 0;
    loop {
        while in_flight.len() < WINDOW {
            let Some(request) = requests.next() else { break };
            socket.send(request.as_bytes()).unwrap();
            in_flight.push_back(request);
        }
        if in_flight.is_empty() {
            return repeated.len();
        }
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let reply = std::str::from_utf8(&buffer[..length]).unwrap();
                let index = in_flight.iter().position(|request| request.to_uppercase() == reply);
                match index.and_then(|index| in_flight.remove(index)) {
                    Some(_) => timeouts = 0,
                    None => assert!(repeated.contains(reply), "{reply:?} to client {client}"),
                }
            }
            // The kernel dropped a request or a reply because a receive buffer was full.
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
                timeouts += 1;
                assert!(timeouts < 30, "client {client} gets no reply");
                for request in &in_flight {
                    socket.send(request.as_bytes()).unwrap();
                    repeated.insert(request.to_uppercase());
                }
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use crate::support::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::thread;
    use tests::{Server, tcp};

    const SERVER: &str = "tcp-threaded-server";

    #[test]
    fn short_connections_leave_nothing_behind() {
        let _lock = use_all_cores();
        let server = Server::start(SERVER, &["--workers", "64", "--quiet"]);
        let (process, address) = (server.id(), server.address());
        wait_for_threads(process, 64);
        let before = descriptors(process);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..250 {
                        let mut stream = tcp(address);
                        match number % 4 {
                            0 => drop(stream),
                            1 => {
                                stream.write_all(b"reset").unwrap();
                                reset(stream);
                            }
                            2 => assert_eq!(exchange(&stream, b"x"), b"X"),
                            _ => {
                                stream.write_all(b"x").unwrap();
                                stream.shutdown(Shutdown::Write).unwrap();
                                assert_eq!(retry_on_eintr(|| stream.read(&mut [0; 2])), 1);
                                assert_closed(&stream);
                            }
                        }
                    }
                });
            }
        });
        // The last connections may still be open on the server's side.
        wait_until("all descriptors are closed", || descriptors(process) == before);
        assert_eq!(status(process, "Threads"), 64);
        assert_eq!(exchange(&tcp(address), b"after"), b"AFTER");
        assert_idle(&[process]);
    }

    #[test]
    fn connections_at_same_time_get_their_own_bytes() {
        // Both ends of all connections fit into 1,024 descriptors: one end is in the server.
        const CONNECTIONS: usize = 800;
        const CHUNK: usize = 64 << 10;
        let _lock = use_all_cores();
        let server = Server::start(SERVER, &["--workers", "800", "--quiet"]);
        let address = server.address();
        let request = letters(0, 2 << 20);
        let response = request.to_ascii_uppercase();
        let streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| tcp(address)).collect();
        // Each of them has a worker after this.
        for stream in &streams {
            assert_eq!(exchange(stream, b"x"), b"X");
        }
        thread::scope(|scope| {
            for streams in streams.chunks(CONNECTIONS / 4) {
                let (request, response) = (&request, &response);
                scope.spawn(move || {
                    let mut received = vec![0; CHUNK];
                    for chunk in 0..2 {
                        for (number, mut stream) in streams.iter().enumerate() {
                            let start = chunk * CHUNK + number * 997;
                            stream.write_all(&request[start..][..CHUNK]).unwrap();
                            stream.read_exact(&mut received).unwrap();
                            assert!(received == response[start..][..CHUNK], "client {number}");
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn client_that_never_reads_costs_no_memory() {
        let _lock = use_all_cores();
        let options = ["--workers", "2", "--idle-timeout", "0.5", "--quiet", "--count", "4"];
        let mut server = Server::start(SERVER, &options);
        let before = status(server.id(), "VmHWM");
        let greedy = tcp(server.address());
        let has_ended = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let sent = (0..64).try_for_each(|_| (&greedy).write_all(&[b'x'; 1 << 20]));
                assert!(sent.is_err(), "the server read everything");
                has_ended.store(true, SeqCst);
            });
            let other = tcp(server.address());
            while !has_ended.load(SeqCst) {
                assert_eq!(exchange(&other, b"other"), b"OTHER");
                thread::sleep(std::time::Duration::from_millis(10)); // not a busy loop
            }
        });
        // Both workers are free again.
        let two = [tcp(server.address()), tcp(server.address())];
        for stream in &two {
            assert_eq!(exchange(stream, b"later"), b"LATER");
        }
        let grown = status(server.id(), "VmHWM") - before;
        assert!(grown < 4_096, "{grown} KiB");
        drop(two);
        assert_eq!(server.exit_code(), 0);
    }
}
