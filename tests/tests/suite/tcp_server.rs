//! The TCP server: what it replies and prints, and what clients cannot do to it.

use crate::support::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

const SERVER: &str = "tcp-threaded-server";

/// Opens connections, whose requests and responses do not mix.
fn connect(server: &Process, count: usize) -> Vec<TcpStream> {
    let mut clients: Vec<TcpStream> = (0..count).map(|_| tcp(server.address())).collect();
    let request = |number| letters(997 * number, 1_000);
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&request(number)).unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let mut response = vec![0; 1_000];
        client.read_exact(&mut response).unwrap();
        assert!(response == request(number).to_ascii_uppercase(), "client {number}");
    }
    clients
}

#[test]
fn prints_request_escaped() {
    let server = Process::start(SERVER, &[]);
    assert_eq!(exchange(&tcp(server.address()), b"hello\x1b"), b"HELLO\x1b");
    assert!(server.wait_for("\"hello\\x1b\" from ").is_some());
}

/// Without the reserve, silent clients would occupy all workers for ten minutes.
#[test]
fn serves_new_client_beside_silent_ones() {
    let server = Process::start(SERVER, &["--workers", "8", "--idle-timeout", "600", "--quiet"]);
    let early = connect(&server, 1);
    let _silent: Vec<TcpStream> = (0..10).map(|_| tcp(server.address())).collect();
    request_any(SERVER, server.address());
    assert_eq!(exchange(&early[0], b"late"), b"LATE");
    let line = format!("{SERVER}: all 8 workers are busy: new connections wait");
    assert_eq!(server.wait_for_error(""), Some(line));
}

#[test]
fn fewer_than_4_workers_keep_idle_timeout() {
    let options = ["--workers=3", "--idle-timeout=600", "--until-eof"];
    let server = Process::start(SERVER, &options);
    let clients = connect(&server, 3);
    thread::sleep(Duration::from_millis(1_500)); // what is tested: nothing happens
    clients.iter().for_each(|client| assert_eq!(exchange(client, b"after"), b"AFTER"));
    drop(clients);
    output_of(server);
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use crate::copying::copied;

    #[test]
    fn starts_workers_when_needed_and_ends_surplus() {
        let _lock = open_many_files();
        for (limit, connections, running) in [("1010", 60, 60 + 32), ("40", 40, 40)] {
            let server = Process::start(SERVER, &["--workers", limit, "--quiet"]);
            let threads = || proc::status(server.id(), "Threads").unwrap();
            assert_eq!(threads(), 1);
            let clients = connect(&server, connections);
            assert_eq!(threads(), running);
            drop(clients);
            // Each ends after a connection.
            (0..90).for_each(|_| drop(connect(&server, 1)));
            wait_until("64 wait at most", || threads() < 70);
        }
    }

    /// The quarter that is in reserve is one of the workers that run.
    #[test]
    fn reserve_remains_if_resources_are_missing() {
        let _lock = open_many_files();
        // The address space has room for nine stacks.
        let stacks = "export RUST_MIN_STACK=100000000 MALLOC_ARENA_MAX=1; ulimit -v 900000";
        for (limit, early, silent) in [("ulimit -n 45", 0, 60), (stacks, 5, 8)] {
            let mut command = shell(limit, program(SERVER));
            let options = [":0", "--idle-timeout=600", "--quiet", "--until-eof"];
            let mut server = Process::listening(command.args(options));
            let early = connect(&server, early);
            let silent: Vec<TcpStream> = (0..silent).map(|_| tcp(server.address())).collect();
            request_any(SERVER, server.address());
            drop((early, silent));
            assert_eq!(server.exit_code(), 0);
        }
    }

    /// A handler needs descriptors as well, which workers that wait must leave to it.
    #[test]
    fn descriptors_remain_for_handler() {
        let _lock = open_many_files();
        let server = copied("tcp-threaded-opening");
        let mut command = shell("ulimit -n 100", server);
        let server = Process::listening(command.args([":0", "--idle-timeout", "600"]));
        // One after the other, so that each has a worker before the next one connects.
        let silent = |_| {
            let client = tcp(server.address());
            server.wait_for(&format!("{} connected", client.local_addr().unwrap())).unwrap();
            client
        };
        let _silent: Vec<TcpStream> = (0..60).map(silent).collect();
        assert!(server.wait_for_error("Too many open files").is_some());
        let mut served = Vec::new();
        wait_until("three clients are served at the same time", || {
            let mut stream = tcp(server.address());
            let _ = stream.write_all(b"x");
            if stream.read(&mut [0]).is_ok_and(|length| length == 1) {
                served.push(stream);
            }
            served.len() == 3
        });
    }
}
