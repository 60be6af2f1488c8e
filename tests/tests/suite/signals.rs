//! Signals: SIGSTOP and SIGCONT interrupt calls with a timeout.

use crate::support::*;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

#[test]
fn server_write_survives_sigstop_sigcont() {
    // An interrupted `write` has written a part.
    let server = Process::start("tcp-threaded-server", &["--until-eof", "--quiet"]);
    let request = letters(3, 12 << 20);
    let stream = tcp(server.address());
    thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&request).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut response = vec![0; 50_000];
        for part in response.chunks_mut(5_000) {
            (&stream).read_exact(part).unwrap();
            suspend_and_resume(server.id());
        }
        (&stream).read_to_end(&mut response).unwrap();
        assert!(response == request.to_ascii_uppercase(), "{} bytes", response.len());
    });
    output_of(server);
}

#[test]
fn tcp_client_survives_sigstop_sigcont() {
    let (client, mut stream) = start_tcp_client(&["--timeout", "30"], &["hello"]);
    stream.read_exact(&mut [0; 5]).unwrap();
    for part in ["HE", "LL", "O"] {
        (0..3).for_each(|_| suspend_and_resume(client.id()));
        stream.write_all(part.as_bytes()).unwrap();
    }
    assert_eq!(output_of(client), "HELLO\n");
}

#[test]
fn udp_clients_survive_sigstop_sigcont() {
    for name in UDP_CLIENTS {
        let (server, address) = fake_udp_server();
        let client = start_client(name, &["--timeout", "30", &address, "hello"]);
        let (_, sender) = receive(&server);
        (0..5).for_each(|_| suspend_and_resume(client.id()));
        server.send_to(b"HELLO", sender).unwrap();
        assert_eq!(output_of(client), "HELLO\n", "{name}");
        // The request was not repeated.
        assert_eq!(count_waiting(&server), 0, "{name}");
    }
}
