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

#[test]
fn udp_client_reads_reply_that_arrived_while_suspended() {
    for name in UDP_CLIENTS {
        let start =
            |address: &str| start_client(name, &["--attempts=1", "--timeout=3", address, "hello"]);
        let [(server, address), (second_server, second_address)] =
            [(); 2].map(|()| fake_udp_server());
        let suspended = start(&address);
        let (_, sender) = receive(&server);
        let threads = || proc::threads(suspended.id()).into_iter().map(proc::state);
        wait_until("it waits", || threads().all(|state| state == Some('S')));
        signal("STOP", &[suspended.id()]);
        wait_until("it is suspended", || proc::state(suspended.id()) == Some('T'));
        // Its timeout ends first. This one's receive is only interrupted.
        let second = start(&second_address);
        receive(&second_server);
        suspend_and_resume(second.id());
        assert!(second.wait_for_error(": timed out; ").is_some());
        server.send_to(b"HELLO", sender).unwrap();
        signal("CONT", &[suspended.id()]);
        assert_eq!(output_of(suspended), "HELLO\n");
    }
}
