//! Other handlers in our servers: what protects a server is in `serve` and `receive`, and holds
//! whatever stands in `handle`, the function that whoever copies a server replaces.

mod support;

use std::env;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use support::client;
use tests::{Server, tcp, udp};

/// Servers with another handler: name, the server it is made of, what is inserted before the first
/// statement of `handle`.
const TROUBLED: [[&str; 3]; 4] = [
    ["udp-basic-troubled", "udp-basic", DATAGRAM_TROUBLE],
    ["udp-echo-troubled", "udp-echo", DATAGRAM_TROUBLE],
    ["udp-threaded-troubled", "udp-threaded", DATAGRAM_TROUBLE],
    ["tcp-threaded-troubled", "tcp-threaded", STREAM_TROUBLE],
];

/// Nobody can send to port 0, which is also what becomes of an answer to a forged port 0.
const DATAGRAM_TROUBLE: &str = r#"
        if request == b"panic" {
            panic!("as asked");
        }
        if request == b"fail" {
            self.socket.send_to(request, (std::net::Ipv4Addr::LOCALHOST, 0))?;
        }
"#;

const STREAM_TROUBLE: &str = r#"
        let mut begin = [0; 5];
        let begin = stream.peek(&mut begin).map(|length| &begin[..length])?;
        if begin == b"panic" {
            panic!("as asked");
        }
        if begin == b"fail" {
            return Err(io::Error::other("as asked"));
        }
"#;

/// Likewise, with what replaces all of `handle`'s body.
const REPLACED: [[&str; 3]; 5] = [
    ["udp-echo-twice", "udp-echo", TWICE],
    ["udp-threaded-twice", "udp-threaded", TWICE],
    [
        "tcp-threaded-telling",
        "tcp-threaded",
        "let (read, write) = (stream.read_timeout()?, stream.write_timeout()?);
         write!(stream, \"{read:?} {write:?} {:?}\", stream.nodelay()?)",
    ],
    [
        "tcp-threaded-reading",
        "tcp-threaded",
        "let length = stream.read_to_end(&mut Vec::new())?;
         write!(stream, \"{length}\")",
    ],
    ["tcp-threaded-writing", "tcp-threaded", "loop { stream.write_all(&[0; 65_536])?; }"],
];

const TWICE: &str = "
        request.make_ascii_uppercase();
        self.socket.send_to(request, client)?;
        self.socket.send_to(request, client)?;
        Ok(())";

/// Where the binary of a server with another handler is.
fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(build).join(name).with_extension(env::consts::EXE_EXTENSION)
}

/// Builds them all, as the binaries of one package, and returns the folder they are in.
fn build() -> PathBuf {
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("handlers");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let _ = fs::remove_dir_all(package.join("src"));
    fs::create_dir_all(package.join("src/bin")).unwrap();
    let common = repository.join("common");
    // The path goes in single quotes: a TOML string without escapes, for the sake of backslashes.
    let manifest = format!(
        "[package]\nname = \"handlers\"\nedition = \"2024\"\n\n\
         [dependencies]\ncommon = {{ path = '{}' }}\n\n\
         [profile.dev]\ndebug = false\n\n[workspace]\n",
        common.display()
    );
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    for ([name, server, code], replaces) in
        TROUBLED.iter().map(|one| (one, false)).chain(REPLACED.iter().map(|one| (one, true)))
    {
        let source = fs::read_to_string(repository.join(server).join("src/server.rs")).unwrap();
        let (before, handle) = source.split_once("    fn handle(").expect("it has a handler");
        let (signature, body) = handle.split_once(" {\n").expect("the handler has a body");
        assert!(!body.contains("fn "), "{server}: the handler comes last");
        let rest = if replaces { "    }\n}\n" } else { body };
        let file = package.join("src/bin").join(name).with_extension("rs");
        fs::write(file, format!("{before}    fn handle({signature} {{\n{code}\n{rest}")).unwrap();
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--offline"]).current_dir(&package);
    cargo.arg("--target-dir").arg(package.join("target"));
    // A replaced handler leaves things unused.
    cargo.env("RUSTFLAGS", "-Awarnings").env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo.env_remove("CARGO_BUILD_TARGET");
    let built = cargo.output().expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    package.join("target/debug")
}

fn start(name: &str, options: &[&str]) -> Server {
    Server::spawn(Command::new(program(name)).arg("127.0.0.1:0").args(options))
}

/// The one worker of a concurrent server is missed when it is lost.
fn one_worker(name: &str) -> &'static [&'static str] {
    if name.contains("threaded") { &["--workers", "1"] } else { &[] }
}

/// Reads to the end of a connection that may also be reset: what was sent was not all read.
fn to_the_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => answer,
    }
}

/// Sends, closes its half, and returns all that is answered.
fn exchange(server: &Server, request: &[u8]) -> String {
    let mut stream = tcp(server.address());
    stream.write_all(request).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    String::from_utf8(to_the_end(&stream)).unwrap()
}

#[test]
fn a_handler_that_panics_or_fails_loses_its_datagram_and_no_worker() {
    for [name, pair, _] in &TROUBLED[..3] {
        let mut server = start(name, &[one_worker(name), &["--count", "7"]].concat());
        let socket = udp(server.address());
        let client = socket.local_addr().unwrap();
        let about = format!("{pair}-server: {client}: ");
        for round in 1..=2 {
            for request in ["panic", "fail"] {
                socket.send(request.as_bytes()).unwrap();
            }
            socket.send(format!("round {round}").as_bytes()).unwrap();
            if *pair == "udp-basic" {
                assert!(server.wait_for(&format!("\"round {round}\" from {client}")).is_some());
            } else {
                // The first answer: those that were lost were not answered.
                let mut answer = [0; 16];
                let length = socket.recv(&mut answer).unwrap();
                assert_eq!(&answer[..length], format!("ROUND {round}").as_bytes(), "{name}");
            }
        }
        socket.send(b"panic").unwrap();
        // All seven count, and that it ends with a panic makes no difference.
        assert_eq!(server.process().exit_code(), 0, "{name}");
        let error = server.stderr();
        let lines: Vec<&str> = error.lines().filter_map(|line| line.strip_prefix(&about)).collect();
        let panicked = lines.iter().filter(|line| **line == "the handler panicked").count();
        assert_eq!((panicked, lines.len()), (3, 5), "{name}: {lines:?}");
    }
}

#[test]
fn a_handler_that_panics_or_fails_loses_its_connection_and_no_worker() {
    let mut server = start("tcp-threaded-troubled", &["--workers", "1", "--count", "7"]);
    for _ in 0..2 {
        for request in ["panic", "fail"] {
            let mut stream = tcp(server.address());
            stream.write_all(request.as_bytes()).unwrap();
            let client = stream.local_addr().unwrap();
            assert_eq!(to_the_end(&stream), b"");
            let why = if request == "panic" { "the handler panicked" } else { "as asked" };
            let line = format!("tcp-threaded-server: {client}: {why}");
            assert_eq!(server.wait_for_error(&format!("{client}: ")), Some(line));
        }
        assert_eq!(exchange(&server, b"hello"), "HELLO");
    }
    tcp(server.address()).write_all(b"panic").unwrap();
    assert_eq!(server.process().exit_code(), 0);
    assert_eq!(server.stderr().matches("the handler panicked\n").count(), 3);
}

#[test]
fn a_panic_is_not_reported_by_a_quiet_server_but_survived() {
    for [name, pair, _] in TROUBLED {
        let options = [one_worker(name), &["--count", "2", "--quiet"]].concat();
        let mut server = start(name, &options);
        for _ in 0..2 {
            if name.starts_with("tcp") {
                tcp(server.address()).write_all(b"panic").unwrap();
            } else {
                udp(server.address()).send(b"panic").unwrap();
            }
        }
        assert_eq!(server.process().exit_code(), 0, "{name}");
        // What std says of a panic remains.
        assert_eq!(server.stderr().matches("as asked").count(), 2, "{name}");
        assert!(!server.stderr().contains(&format!("{pair}-server: ")), "{name}");
    }
}

#[test]
fn every_handler_gets_a_connection_with_timeouts_and_without_delay() {
    let options = ["--idle-timeout", "1.5", "--count", "1"];
    let server = start("tcp-threaded-telling", &options);
    assert_eq!(exchange(&server, b""), "Some(1.5s) Some(1.5s) true");
    assert_eq!(server.finish(), 0);
    let server = start("tcp-threaded-telling", &["--idle-timeout", "0", "--count", "1"]);
    assert_eq!(exchange(&server, b""), "None None true");
    assert_eq!(server.finish(), 0);
}

#[test]
fn a_handler_that_only_reads_is_not_held_by_a_silent_client() {
    let options = ["--workers", "1", "--idle-timeout", "1", "--count", "2"];
    let server = start("tcp-threaded-reading", &options);
    let silent = tcp(server.address());
    let line = format!("tcp-threaded-server: {}: timed out", silent.local_addr().unwrap());
    assert_eq!(server.wait_for_error(""), Some(line));
    assert_eq!(exchange(&server, b"hello"), "5");
    assert_eq!(server.finish(), 0);
}

#[test]
fn a_handler_that_only_writes_is_not_held_by_a_client_that_does_not_read() {
    let options = ["--workers", "1", "--idle-timeout", "1", "--count", "2"];
    let server = start("tcp-threaded-writing", &options);
    let silent = tcp(server.address());
    let line = format!("tcp-threaded-server: {}: timed out", silent.local_addr().unwrap());
    assert_eq!(server.wait_for_error(""), Some(line));
    let mut newcomer = tcp(server.address());
    newcomer.read_exact(&mut [0; 1 << 20]).unwrap();
    drop(newcomer);
    assert_eq!(server.finish(), 0);
}

#[test]
fn a_handler_that_answers_twice_does_not_confuse_our_clients() {
    let lines: String = (0..100).map(|number| format!("line {number}\n")).collect();
    for [name, pair, _] in &REPLACED[..2] {
        let server = start(name, &[one_worker(name), &["--count", "101"]].concat());
        let socket = udp(server.address());
        socket.send(b"hello").unwrap();
        for _ in 0..2 {
            let mut answer = [0; 16];
            let length = socket.recv(&mut answer).unwrap();
            assert_eq!(&answer[..length], b"HELLO", "{name}");
        }
        let mut ours = client(&format!("{pair}-client"));
        ours.args(["--timeout", "10", &server.address().to_string(), "-"]);
        let output = ours.write_stdin(lines.clone()).assert().success().get_output().stdout.clone();
        let output = String::from_utf8(output).unwrap();
        let mut answers: Vec<&str> = output.lines().collect();
        // One socket after the other answers in order, many at once in any.
        if *pair == "udp-threaded" {
            answers.sort_by_key(|answer| answer[5..].parse::<u32>().unwrap());
        }
        assert!(answers.join("\n") + "\n" == lines.to_uppercase(), "{name}: {output}");
        // A request counts once, however often it is answered.
        assert_eq!(server.finish(), 0);
    }
}

/// Only Linux has all of 127.0.0.0/8 on loopback, so that another address can have the same port.
#[cfg(target_os = "linux")]
#[test]
fn a_datagram_from_the_servers_own_port_number_reaches_no_handler() {
    for [name, ..] in &REPLACED[..2] {
        let server = start(name, &[one_worker(name), &["--count", "1"]].concat());
        let forger = std::net::UdpSocket::bind(("127.0.0.2", server.address().port())).unwrap();
        forger.send_to(b"hello", server.address()).unwrap();
        // It is served after the forger, and the only one that counts.
        let socket = udp(server.address());
        socket.send(b"hello").unwrap();
        assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 5);
        assert_eq!(server.finish(), 0);
        forger.set_nonblocking(true).unwrap();
        assert_eq!(forger.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock, "{name}");
    }
}
