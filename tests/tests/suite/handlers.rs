//! The servers with other handlers: whatever stands in `handle`, the code around it protects the
//! server from its clients and from `handle` itself.

use crate::command_line::default_of;
use crate::copying::start_copy;
use crate::support::*;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

/// Code before the first statement of `handle`, or in place of all if it returns, by the name of the
/// variant: its last word replaces that of the server.
const VARIANTS: [(&str, &str); 9] = [
    ("udp-echo-faulty", FAULTY_DATAGRAM),
    ("udp-threaded-faulty", FAULTY_DATAGRAM),
    ("tcp-threaded-faulty", FAULTY_STREAM),
    ("udp-threaded-stopping", STOPPING_DATAGRAM),
    ("tcp-threaded-stopping", "if stream.peek(&mut [0; 5])? == 4 { self.stop(); }"),
    ("udp-basic-lengths", "return info!(\"{} bytes\", request.len());"),
    ("tcp-threaded-opening", "let _file = std::fs::File::open(\"/\")?;"),
    ("tcp-threaded-writing", "loop { stream.write_all(&[0; 65_536])?; }"),
    (
        "tcp-threaded-options",
        "let (read, write) = (stream.read_timeout()?, stream.write_timeout()?);
         return write!(stream, \"{read:?} {write:?} {:?}\", stream.nodelay()?);",
    ),
];

/// The first request waits until the test closes a connection.
const STOPPING_DATAGRAM: &str = r#"
        if let Some(address) = request.strip_prefix(b"wait for ") {
            let address = String::from_utf8_lossy(address).into_owned();
            std::io::Read::read(&mut std::net::TcpStream::connect(address)?, &mut [0])?;
        } else if request == b"stop" {
            self.stop();
        }
"#;

/// Sending to port 0 fails, as does replying to a spoofed datagram from port 0.
const FAULTY_DATAGRAM: &str = r#"
        match &*request {
            b"panic" => panic!("panic on request"),
            b"fail" => self.socket.send_to(request, (std::net::Ipv4Addr::LOCALHOST, 0)).map(drop)?,
            _ => {}
        }
"#;

const FAULTY_STREAM: &str = r#"
        let mut start = [0; 5];
        let length = stream.peek(&mut start)?;
        match &start[..length] {
            b"panic" => panic!("panic on request"),
            b"fail" => return Err(io::Error::other("failure on request")),
            _ => {}
        }
"#;

/// Returns the names and sources of all these servers.
pub fn sources() -> Vec<(String, String)> {
    let source = |(name, code): (&str, &str)| {
        let (pair, _) = name.rsplit_once('-').unwrap();
        let (_, source) = tests::copying::source(&format!("{pair}-server"));
        let (before, handle) = source.split_once("    fn handle(").unwrap();
        let (signature, body) = handle.split_once(" {\n").unwrap();
        let handle = format!("    fn handle({signature} {{\n{code}\n{body}");
        // Code that returns leaves the rest unused.
        (name.into(), ["#![allow(unused)]\n", before, &handle].concat())
    };
    VARIANTS.map(source).into()
}

/// Sends a request that fails, and returns the client's address.
fn send_failing(name: &str, server: SocketAddr, request: &str) -> SocketAddr {
    if name.starts_with("udp") {
        let socket = udp(server);
        socket.send(request.as_bytes()).unwrap();
        return socket.local_addr().unwrap();
    }
    let mut stream = tcp(server);
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(read_to_end(&stream), b"");
    stream.local_addr().unwrap()
}

#[test]
fn panic_or_error_costs_request_but_no_worker() {
    for pair in ["udp-echo", "udp-threaded", "tcp-threaded"] {
        let (name, origin) = (&*format!("{pair}-faulty"), &*format!("{pair}-server"));
        for quiet in [&[][..], &["--quiet"]] {
            // A threaded server that loses its only worker stops serving.
            let options = [&one_at_a_time(origin, "6"), quiet].concat();
            let mut server = start_copy(name, &options);
            for _ in 0..2 {
                send_failing(name, server.address(), "panic");
                let client = send_failing(name, server.address(), "fail");
                request_any(origin, server.address());
                let line = format!("{origin}: {client}: ");
                assert!(!quiet.is_empty() || server.wait_for_error(&line).is_some(), "{line}");
            }
            // Every request counts.
            assert_eq!(server.exit_code(), 0, "{name}");
            // What std prints about a panic remains.
            let stderr = server.stderr();
            assert_eq!(stderr.matches("\npanic on request\n").count(), 2, "{name}: {stderr}");
            assert_eq!(stderr.contains(&format!("{origin}: ")), quiet.is_empty(), "{stderr}");
        }
    }
}

#[test]
fn panic_leaves_no_worker_busy() {
    let server = start_copy("tcp-threaded-faulty", &["--workers", "4", "--idle-timeout", "600"]);
    for _ in 0..4 {
        send_failing("tcp-threaded-faulty", server.address(), "panic");
    }
    // It would be the fifth, and have to send within a second.
    let stream = tcp(server.address());
    thread::sleep(Duration::from_millis(1_500)); // what is tested: nothing happens
    assert_eq!(exchange(&stream, b"hello"), b"HELLO");
}

#[test]
fn handler_gets_timeouts_and_nodelay() {
    let default = default_of("tcp-threaded-server", "--idle-timeout");
    let default_shown = format!("Some({default}s) Some({default}s) true");
    for (option, expected) in [
        ("--idle-timeout=1.5", "Some(1.5s) Some(1.5s) true"),
        ("--idle-timeout=0", "None None true"),
        ("--quiet", &default_shown),
    ] {
        let mut server = start_copy("tcp-threaded-options", &[option, "--until-eof"]);
        let shown = read_to_end(&tcp(server.address()));
        assert_eq!(String::from_utf8_lossy(&shown), expected, "{option}");
        assert_eq!(server.exit_code(), 0);
    }
}

#[test]
fn client_that_never_reads_blocks_no_handler() {
    let options = ["--workers", "1", "--idle-timeout", "1", "--until-eof"];
    let mut server = start_copy("tcp-threaded-writing", &options);
    let silent = tcp(server.address());
    let line = format!("tcp-threaded-server: {}: timed out: ", silent.local_addr().unwrap());
    assert!(server.wait_for_error("").unwrap().starts_with(&line));
    tcp(server.address()).read_exact(&mut [0]).unwrap();
    assert_eq!(server.exit_code(), 0);
}
