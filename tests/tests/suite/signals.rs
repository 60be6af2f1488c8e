//! Signals: SIGSTOP and SIGCONT interrupt calls with a timeout; SIGTERM leaves the port usable.

use crate::support::*;
use std::sync::mpsc;

const SERVER: &str = "tcp-threaded-server";
const CLIENT: &str = "tcp-threaded-client";

#[test]
fn server_write_survives_sigstop_sigcont() {
    // An interrupted `write` has written a part.
    let mut server = Server::start(SERVER, &["--count", "1", "--quiet"]);
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
    assert_eq!((server.exit_code(), server.stderr()), (0, String::new()));
}

#[test]
fn tcp_client_survives_sigstop_sigcont() {
    let (is_waiting, client_waits) = mpsc::channel();
    let (respond, responses) = mpsc::channel::<&[u8]>();
    let (address, server) = fake_tcp_server(move |mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        is_waiting.send(()).unwrap();
        responses.iter().for_each(|part| stream.write_all(part).unwrap());
    });
    let client = start(CLIENT, &["--timeout", "30", &address, "hello"]);
    client_waits.recv_timeout(DEADLINE).unwrap();
    (0..3).for_each(|_| suspend_and_resume(client.id()));
    respond.send(b"HEL").unwrap();
    suspend_and_resume(client.id());
    respond.send(b"LO").unwrap();
    drop(respond);
    assert_eq!(output_of(client), "HELLO\n");
    server.join().unwrap();
}

#[test]
fn udp_clients_survive_sigstop_sigcont() {
    for name in UDP_CLIENTS {
        let (server, address) = fake_udp_server();
        let client = start(name, &["--timeout", "30", &address, "hello"]);
        let (_, sender) = receive(&server);
        (0..5).for_each(|_| suspend_and_resume(client.id()));
        server.send_to(b"HELLO", sender).unwrap();
        assert_eq!(output_of(client), "HELLO\n", "{name}");
        // The request was not repeated.
        server.set_nonblocking(true).unwrap();
        let error = server.recv_from(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{name}");
    }
}

#[test]
fn server_restarts_on_its_port_after_sigterm() {
    let mut server = Server::start(SERVER, &["--idle-timeout", "0.1"]);
    let address = server.address();
    // The side that closes first keeps the connection in TIME_WAIT: the server, after its timeout.
    let idle = [tcp(address), tcp(address)];
    idle.iter().for_each(assert_closed);
    drop(idle);
    // Addresses in this table are hexadecimal; 06 is TIME_WAIT.
    let local = format!(" 0100007F:{:04X} ", address.port());
    wait_until("a connection is in TIME_WAIT", || {
        tests::proc::read("net/tcp")
            .unwrap()
            .lines()
            .any(|line| line.contains(&local) && line.split_whitespace().nth(3) == Some("06"))
    });
    signal("TERM", server.id());
    assert_eq!(server.exit_code(), -1);
    let mut server = Server::start_at(SERVER, &address.to_string(), &["--count", "1"]);
    request_any(SERVER, address);
    assert_eq!(server.exit_code(), 0);
}
