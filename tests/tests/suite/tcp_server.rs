//! The TCP server: what it replies and prints, and what clients cannot do to it.

use crate::support::{
    assert_closed, assert_no_response, command, exchange, letters, reset, retry_on_eintr,
};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;
use tests::{Server, tcp};

const SERVER: &str = "tcp-threaded-server";

fn start(options: &[&str]) -> Server {
    Server::start(SERVER, options)
}

#[test]
fn responds_in_ascii_upper_case() {
    let server = start(&[]);
    let every: Vec<u8> = (0..=255).collect();
    assert_eq!(exchange(&tcp(server.address()), &every), every.to_ascii_uppercase());
}

#[test]
fn prints_connection_reads_and_end() {
    let mut server = start(&["--workers", "1", "--count", "1"]);
    let stream = tcp(server.address());
    let client = stream.local_addr().unwrap();
    assert_eq!(exchange(&stream, b"hello\x1b"), b"HELLO\x1b");
    drop(stream);
    assert_eq!((server.exit_code(), server.stderr()), (0, String::new()));
    let expected = [
        format!("listening on {}", server.address()),
        format!("{client} connected (worker 1)"),
        format!("\"hello\\x1b\" from {client}"),
        format!("{client} closed after 6 bytes"),
    ];
    assert_eq!(server.stdout().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn prints_only_its_address_when_quiet() {
    let mut server = start(&["--quiet", "--count", "1"]);
    command("tcp-threaded-client").arg(server.address().to_string()).assert().stdout("HELLO\n");
    assert_eq!((server.exit_code(), server.stderr()), (0, String::new()));
    assert_eq!(server.stdout(), format!("listening on {}\n", server.address()));
}

#[test]
fn serves_clients_at_same_time() {
    let server = start(&["--workers", "2"]);
    let (one, two) = (tcp(server.address()), tcp(server.address()));
    for _ in 0..3 {
        assert_eq!(exchange(&one, b"first"), b"FIRST");
        assert_eq!(exchange(&two, b"second"), b"SECOND");
    }
}

#[test]
fn connection_waits_while_all_workers_are_busy() {
    let server = start(&["--workers", "1"]);
    let (one, mut two) = (tcp(server.address()), tcp(server.address()));
    assert_eq!(exchange(&one, b"first"), b"FIRST");
    two.write_all(b"second").unwrap();
    assert_eq!(exchange(&one, b"again"), b"AGAIN");
    thread::sleep(Duration::from_millis(300)); // what is tested: nothing happens
    assert_no_response(&two);
    drop(one);
    let mut response = [0; 6];
    two.read_exact(&mut response).unwrap();
    assert_eq!(&response, b"SECOND");
}

#[test]
fn serves_count_connections_to_their_end() {
    let mut server = start(&["--workers", "2", "--count", "3"]);
    let streams = [tcp(server.address()), tcp(server.address()), tcp(server.address())];
    for stream in streams {
        assert_eq!(exchange(&stream, b"x"), b"X");
    }
    assert_eq!(server.exit_code(), 0);
}

#[test]
fn responds_fully_after_half_close() {
    let mut server = start(&["--workers", "1", "--count", "2"]);
    for request in [&b""[..], &letters(0, 100_000)] {
        let mut stream = tcp(server.address());
        stream.write_all(request).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        assert!(response == request.to_ascii_uppercase());
    }
    assert_eq!((server.exit_code(), server.stderr()), (0, String::new()));
}

#[test]
fn reset_frees_worker() {
    let mut server = start(&["--workers", "1", "--count", "3"]);
    let mut first = tcp(server.address());
    first.write_all(b"reset").unwrap();
    let first_client = first.local_addr().unwrap();
    reset(first);
    // While the server writes: both directions hold as many bytes as their buffers take.
    let mut second = tcp(server.address());
    let second_client = second.local_addr().unwrap();
    second.set_nonblocking(true).unwrap();
    while second.write_all(&[b'x'; 65_536]).is_ok() {}
    second.set_nonblocking(false).unwrap();
    reset(second);
    assert_eq!(exchange(&tcp(server.address()), b"after"), b"AFTER");
    assert_eq!(server.exit_code(), 0);
    let stderr = server.stderr();
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    for (line, client) in lines.iter().zip([first_client, second_client]) {
        assert!(line.starts_with(&format!("{SERVER}: {client}: ")), "{line}");
    }
}

#[test]
fn closes_silent_connections_after_idle_timeout() {
    let mut server = start(&["--workers", "2", "--idle-timeout", "0.2", "--count", "3"]);
    let silent = [tcp(server.address()), tcp(server.address())];
    assert_eq!(exchange(&tcp(server.address()), b"newcomer"), b"NEWCOMER");
    silent.iter().for_each(assert_closed);
    assert_eq!(server.exit_code(), 0);
    let stderr = server.stderr();
    assert_eq!(stderr.lines().count(), 2);
    for stream in &silent {
        let line = format!("{SERVER}: {}: timed out\n", stream.local_addr().unwrap());
        assert!(stderr.contains(&line), "{stderr}");
    }
}

#[test]
fn keeps_idle_connection_without_idle_timeout() {
    let server = start(&["--workers", "1", "--idle-timeout", "0"]);
    let stream = tcp(server.address());
    assert_eq!(exchange(&stream, b"before"), b"BEFORE");
    thread::sleep(Duration::from_millis(500)); // what is tested: nothing happens
    assert_eq!(exchange(&stream, b"after"), b"AFTER");
}

#[test]
fn responds_fully_to_client_that_reads_slowly() {
    let server = start(&["--idle-timeout", "10", "--quiet"]);
    let request = letters(7, 300_000);
    let stream = tcp(server.address());
    let response = thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&request).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let (mut response, mut step) = (Vec::<u8>::new(), [0; 100]);
        loop {
            match retry_on_eintr(|| (&stream).read(&mut step)) {
                0 => return response,
                length => response.extend(&step[..length]),
            }
        }
    });
    assert!(response == request.to_ascii_uppercase());
}

#[test]
fn reads_grow_from_1_to_64_kib() {
    let server = start(&[]);
    let mut stream = tcp(server.address());
    let client = stream.local_addr().unwrap();
    for _ in 0..3 {
        assert_eq!(exchange(&stream, b"short"), b"SHORT");
    }
    let mut sender = stream.try_clone().unwrap();
    let sent = thread::spawn(move || sender.write_all(&vec![b'x'; 16 << 20]));
    let mut response = vec![0; 16 << 20];
    stream.read_exact(&mut response).unwrap();
    assert!(response.iter().all(|&byte| byte == b'X'));
    sent.join().unwrap().unwrap();
    drop(stream);
    server.wait_for("closed after ").unwrap();
    // Of a long line the first 250 and the last 100 bytes are printed, the newline included.
    let output = server.stdout();
    let omitted = output.lines().filter_map(|line| line.split_once("… ")?.1.split_once(" bytes"));
    let quoted = format!("\"\" from {client}\n").len();
    let lengths: Vec<usize> =
        omitted.map(|(omitted, _)| omitted.parse::<usize>().unwrap() + 350 - quoted).collect();
    assert_eq!(lengths[0], 1 << 10);
    assert_eq!(lengths.iter().max(), Some(&(64 << 10)));
}
