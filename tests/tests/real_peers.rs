//! Other people's programs against ours: Python's `socket` and `socketserver`, netcat, socat.

#![cfg(unix)]

mod support;

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::ffi::OsStringExt;
use std::process::Command;
use support::{client, not_run, said};
use tests::{DEADLINE, LARGEST, Server, tcp, udp};

/// What the Python programs that ours grew from send; an empty datagram; every byte that fits into
/// an argument, that is, all but 0; a large one.
fn messages() -> Vec<Vec<u8>> {
    let mut messages = ["hello", "world", "sdfas", ""].map(Vec::from).to_vec();
    messages.extend([(1..=255).collect(), (1..=255).cycle().take(LARGEST).collect()]);
    messages
}

fn arguments(messages: Vec<Vec<u8>>) -> Vec<OsString> {
    messages.into_iter().map(OsString::from_vec).collect()
}

fn every_byte() -> Vec<u8> {
    (0..=255).collect()
}

fn mebibyte() -> Vec<u8> {
    (0..=255).cycle().take(1 << 20).collect()
}

/// The answers to messages as a client prints them: one a line.
fn answers(messages: &[Vec<u8>]) -> Vec<u8> {
    messages
        .iter()
        .flat_map(|message| [&message.to_ascii_uppercase()[..], b"\n"].concat())
        .collect()
}

/// Fails with where two outputs begin to differ, instead of showing a mebibyte twice.
fn assert_same(output: &[u8], expected: &[u8]) {
    let same = output.iter().zip(expected).take_while(|(one, other)| one == other).count();
    let (length, needed) = (output.len(), expected.len());
    assert!(output == expected, "{length} bytes instead of {needed}, right up to byte {same}");
}

/// Likewise, with the lines in any order: answers to messages sent at once may overtake each other.
fn assert_same_lines(output: &[u8], expected: &[u8]) {
    let sorted = |bytes: &[u8]| {
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        lines.sort_unstable();
        lines.join(&b'\n')
    };
    assert_same(&sorted(output), &sorted(expected));
}

/// Whether a program is there, by what it says of itself.
fn is_here(program: &str, argument: &str, says: &str) -> bool {
    let what = said(Command::new(program).arg(argument));
    what.contains(says) || not_run(&format!("{program} ({says})"), &what)
}

fn python_is_here() -> bool {
    is_here("python3", "--version", "Python 3")
}

/// Python with a script of `peers/`.
fn python(script: &str) -> Command {
    let mut python = Command::new("python3");
    python.arg([env!("CARGO_MANIFEST_DIR"), "/tests/peers/", script].concat());
    python
}

fn python_server(script: &str) -> Server {
    Server::spawn(python(script).arg("127.0.0.1:0"))
}

/// Runs a Python client to its end and returns what it printed.
fn python_client(
    script: &str,
    server: SocketAddr,
    messages: impl IntoIterator<Item = impl AsRef<OsStr>>,
    input: Vec<u8>,
) -> Vec<u8> {
    let mut python = python(script);
    python.arg(server.to_string()).args(messages);
    printed(python.into(), input)
}

/// Runs a client of ours to its end and returns what it printed.
fn our_client(
    name: &str,
    server: SocketAddr,
    messages: impl IntoIterator<Item = impl AsRef<OsStr>>,
    input: Vec<u8>,
) -> Vec<u8> {
    let mut ours = client(name);
    ours.args(["--timeout", "10"]).arg(server.to_string()).args(messages);
    printed(ours, input)
}

/// Runs a program to its end, feeds it and returns what it printed.
fn printed(mut command: assert_cmd::Command, input: Vec<u8>) -> Vec<u8> {
    let ended = command.timeout(DEADLINE).write_stdin(input).assert().success();
    ended.get_output().stdout.clone()
}

const NOTHING: [&str; 0] = [];

#[test]
fn every_byte_has_the_same_upper_case_as_in_python() {
    if !python_is_here() {
        return;
    }
    let program = "import sys; sys.stdout.buffer.write(bytes(range(256)).upper())";
    let pythons = Command::new("python3").args(["-c", program]).output().unwrap().stdout;
    assert_eq!(pythons.len(), 256);
    for name in ["udp-echo-server", "udp-threaded-server"] {
        let server = Server::start(name, &["--count", "1"]);
        let (socket, mut answer) = (udp(server.address()), vec![0; 512]);
        socket.send(&every_byte()).unwrap();
        let length = socket.recv(&mut answer).unwrap();
        assert_same(&answer[..length], &pythons);
        assert_eq!(server.finish(), 0);
    }
    let server = Server::start("tcp-threaded-server", &["--count", "1", "--workers", "1"]);
    let (mut stream, mut answer) = (tcp(server.address()), Vec::new());
    stream.write_all(&every_byte()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_to_end(&mut answer).unwrap();
    assert_same(&answer, &pythons);
    assert_eq!(server.finish(), 0);
}

#[test]
fn a_python_server_receives_what_udp_basic_client_sends() {
    if !python_is_here() {
        return;
    }
    let server = python_server("udp_basic_server.py");
    // By itself it sends hello, world, sdfas. A 0 byte comes from standard input.
    let address = server.address().to_string();
    client("udp-basic-client").arg(&address).assert().success();
    let mut ours = client("udp-basic-client");
    ours.arg(&address).args(arguments(messages())).arg("-").write_stdin("\0\n").assert().success();
    assert!(server.wait_for("00 from 127.0.0.1:").is_some());
    let output = server.stdout();
    let received: Vec<&str> =
        output.lines().skip(1).map(|line| line.split_once(" from ").unwrap().0).collect();
    let sent = messages().into_iter().take(3).chain(messages()).chain([vec![0]]);
    let digits = |message: Vec<u8>| message.iter().map(|byte| format!("{byte:02x}")).collect();
    let sent: Vec<String> = sent.map(digits).collect();
    assert_same(received.join(" ").as_bytes(), sent.join(" ").as_bytes());
}

#[test]
fn udp_basic_server_receives_what_a_python_client_sends() {
    if !python_is_here() {
        return;
    }
    let mut server = Server::start("udp-basic-server", &["--count", "7"]);
    let address = server.address();
    python_client("udp_basic_client.py", address, arguments(messages()), Vec::new());
    python_client("udp_basic_client.py", address, NOTHING, b"\0\n\r\x1b[2J".to_vec());
    assert_eq!(server.process().exit_code(), 0);
    let output = server.stdout();
    let received: Vec<&str> =
        output.lines().skip(1).map(|line| line.rsplit_once(" from ").unwrap().0).collect();
    let bytes: Vec<u8> = (1..=128).collect();
    let sent = [
        r#""hello""#.into(),
        r#""world""#.into(),
        r#""sdfas""#.into(),
        r#""""#.into(),
        format!("\"{}\"... (255 bytes)", bytes.escape_ascii()),
        format!("\"{}\"... ({LARGEST} bytes)", bytes.escape_ascii()),
        r#""\x00\n\r\x1b[2J""#.into(),
    ];
    assert_eq!(received, sent);
}

#[test]
fn our_udp_clients_are_answered_by_python_servers() {
    if !python_is_here() {
        return;
    }
    // A newline cannot come from standard input, a 0 byte cannot come from an argument.
    let line: Vec<u8> = every_byte().into_iter().filter(|byte| *byte != b'\n').collect();
    let sent = [messages(), vec![line.clone()]].concat();
    let given = [arguments(messages()), vec!["-".into()]].concat();
    for script in ["udp_echo_server.py", "udp_threaded_server.py"] {
        let server = python_server(script);
        let output = our_client("udp-echo-client", server.address(), &given, line.clone());
        assert_same(&output, &answers(&sent));
        let output = our_client("udp-threaded-client", server.address(), &given, line.clone());
        assert_same_lines(&output, &answers(&sent));
    }
}

#[test]
fn python_clients_are_answered_by_our_udp_servers() {
    if !python_is_here() {
        return;
    }
    for name in ["udp-echo-server", "udp-threaded-server"] {
        let server = Server::start(name, &["--count", "14"]);
        let address = server.address();
        let given = arguments(messages());
        let output = python_client("udp_echo_client.py", address, &given, Vec::new());
        assert_same(&output, &answers(&messages()));
        let output = python_client("udp_threaded_client.py", address, &given, Vec::new());
        assert_same_lines(&output, &answers(&messages()));
        for script in ["udp_echo_client.py", "udp_threaded_client.py"] {
            let output = python_client(script, address, NOTHING, every_byte());
            assert_same(&output, &answers(&[every_byte()]));
        }
        assert_eq!(server.finish(), 0);
    }
}

#[test]
fn our_tcp_client_is_answered_by_a_python_server() {
    if !python_is_here() {
        return;
    }
    let server = python_server("tcp_threaded_server.py");
    let given = arguments(messages());
    let output = our_client("tcp-threaded-client", server.address(), given, Vec::new());
    assert_same(&output, &answers(&messages()));
    // It answers as long as our half is open, and what was sent before that was closed.
    let output = our_client("tcp-threaded-client", server.address(), ["-"], mebibyte());
    assert_same(&output, &mebibyte().to_ascii_uppercase());
}

#[test]
fn a_python_client_is_answered_by_our_tcp_server() {
    if !python_is_here() {
        return;
    }
    let server = Server::start("tcp-threaded-server", &["--count", "2"]);
    let (script, address) = ("tcp_threaded_client.py", server.address());
    let output = python_client(script, address, arguments(messages()), Vec::new());
    assert_same(&output, &answers(&messages()));
    // It closes its half behind the mebibyte and reads to the end of ours.
    let output = python_client(script, address, NOTHING, mebibyte());
    assert_same(&output, &mebibyte().to_ascii_uppercase());
    assert!(server.wait_for("closed after 1048576 bytes").is_some());
    assert_eq!(server.finish(), 0);
}

/// netcat of OpenBSD, which is Debian's, and the only one that knows `-N`.
#[cfg(target_os = "linux")]
fn netcat(options: &str, server: SocketAddr) -> Command {
    let mut netcat = Command::new("nc");
    netcat.args([options, &server.ip().to_string(), &server.port().to_string()]);
    netcat
}

/// socat that waits for the rest of the answer, and not half a second, when its input has ended.
#[cfg(target_os = "linux")]
fn socat(protocol: &str, server: SocketAddr) -> Command {
    let mut socat = Command::new("socat");
    socat.args(["-t60", "-", &format!("{protocol}:{server}")]);
    socat
}

/// Both send what they read as one datagram.
#[cfg(target_os = "linux")]
fn lines_are_answered_over_udp(peer: impl Fn(SocketAddr) -> Command) {
    for name in ["udp-echo-server", "udp-threaded-server"] {
        let server = Server::start(name, &["--count", "3"]);
        let mut peer = tests::Process::spawn(&mut peer(server.address()));
        for message in ["hello", "world", "sdfas"] {
            peer.write(format!("{message}\n").as_bytes());
            assert!(peer.wait_for(&message.to_uppercase()).is_some());
            assert!(server.wait_for(&format!(r#""{message}\n" from "#)).is_some());
        }
        assert_eq!(server.finish(), 0);
    }
}

#[cfg(target_os = "linux")]
fn a_stream_is_answered_over_tcp(peer: impl Fn(SocketAddr) -> Command) {
    let server = Server::start("tcp-threaded-server", &["--count", "3"]);
    for stream in [Vec::from("hello\nworld\nsdfas"), Vec::new(), mebibyte()] {
        let output = printed(peer(server.address()).into(), stream.clone());
        assert_same(&output, &stream.to_ascii_uppercase());
    }
    assert!(server.wait_for("closed after 1048576 bytes").is_some());
    assert_eq!(server.finish(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn netcat_is_answered_over_udp() {
    if is_here("nc", "-h", "OpenBSD") {
        lines_are_answered_over_udp(|server| netcat("-u", server));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn netcat_that_closes_its_half_is_answered_over_tcp() {
    if is_here("nc", "-h", "OpenBSD") {
        a_stream_is_answered_over_tcp(|server| netcat("-N", server));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn socat_is_answered_over_udp() {
    if is_here("socat", "-V", "socat version") {
        lines_are_answered_over_udp(|server| socat("UDP4", server));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn socat_that_closes_its_half_is_answered_over_tcp() {
    if is_here("socat", "-V", "socat version") {
        a_stream_is_answered_over_tcp(|server| socat("TCP4", server));
    }
}
