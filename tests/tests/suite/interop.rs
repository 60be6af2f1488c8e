//! The examples with other programs: Python's `socket` and `socketserver`, netcat, socat.

use crate::support::{repository, request_when_listening};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;
use tests::{DEADLINE, LARGEST, Process, Server, program, unused_address};

/// Returns what the Python article sends; an empty message; every byte that an argument can
/// contain, which is all but 0; a large message.
fn messages() -> Vec<Vec<u8>> {
    let mut messages = ["hello", "world", "sdfas", ""].map(Vec::from).to_vec();
    messages.extend([(1..=255).collect(), (1..=255).cycle().take(LARGEST).collect()]);
    messages
}

fn every_byte() -> Vec<u8> {
    (0..=255).collect()
}

fn mebibyte() -> Vec<u8> {
    (0..=255).cycle().take(1 << 20).collect()
}

/// Returns the replies to messages as a client prints them.
fn replies(messages: &[Vec<u8>]) -> Vec<u8> {
    messages
        .iter()
        .flat_map(|message| [&message.to_ascii_uppercase()[..], b"\n"].concat())
        .collect()
}

/// Shows where two outputs begin to differ, instead of a mebibyte twice.
#[track_caller]
fn assert_same(output: &[u8], expected: &[u8]) {
    let same = output.iter().zip(expected).take_while(|(one, other)| one == other).count();
    let (length, needed) = (output.len(), expected.len());
    assert!(output == expected, "{length} bytes instead of {needed}; the first {same} are equal");
}

/// Like [`assert_same`], with lines in any order: replies to messages in flight may be reordered.
#[track_caller]
fn assert_same_lines(output: &[u8], expected: &[u8]) {
    let sorted = |bytes: &[u8]| {
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        lines.sort_unstable();
        lines.join(&b'\n')
    };
    assert_same(&sorted(output), &sorted(expected));
}

/// Starts a Python server of the competitors.
fn python_server(file: &str, protocol: &str) -> (Process, SocketAddr) {
    let address = unused_address();
    let mut python = Command::new("python3");
    python.arg(repository("tests/competitors/python").join(file)).arg(address.port().to_string());
    let server = Process::spawn(&mut python);
    request_when_listening(protocol, address);
    (server, address)
}

fn python_client(name: &str) -> Command {
    let mut python = Command::new("python3");
    python.arg(repository("tests/tests/suite/clients.py")).arg(name);
    python
}

/// Returns an example's client that sends no request twice.
fn client(name: &str) -> Command {
    let mut client = Command::new(program(name));
    client.arg("--timeout=30");
    client
}

/// Runs a client to its end and returns its output.
fn run(mut client: Command, server: SocketAddr, messages: &[Vec<u8>], input: &[u8]) -> Vec<u8> {
    let messages = messages.iter().map(|message| OsString::from_vec(message.clone()));
    client.arg(server.to_string()).args(messages);
    output_of(client, input)
}

fn output_of(command: Command, input: &[u8]) -> Vec<u8> {
    let mut command = assert_cmd::Command::from_std(command);
    let assert = command.timeout(DEADLINE).write_stdin(input).assert().success();
    assert.get_output().stdout.clone()
}

#[test]
#[ignore = "needs python3"]
fn udp_basic_server_receives_from_python_client() {
    let mut server = Server::start("udp-basic-server", &["--count", "7"]);
    run(python_client("udp_basic"), server.address(), &messages(), b"");
    run(python_client("udp_basic"), server.address(), &[], b"\0\n\r\x1b[2J");
    assert_eq!(server.exit_code(), 0);
    let output = server.stdout();
    let received: Vec<&str> =
        output.lines().skip(1).map(|line| line.rsplit_once(" from ").unwrap().0).collect();
    assert_eq!(received[..4], [r#""hello""#, r#""world""#, r#""sdfas""#, r#""""#]);
    let bytes = (1..=64).collect::<Vec<u8>>().escape_ascii().to_string();
    assert!(received[4..6].iter().all(|line| line.starts_with(&format!("\"{bytes}"))));
    assert_eq!(received[6], r#""\x00\n\r\x1b[2J""#);
}

#[test]
#[ignore = "needs python3"]
fn udp_clients_work_with_python_servers() {
    // A line of standard input contains no newline, an argument no 0 byte. The buffer of the
    // article's server has 1,024 bytes.
    let line: Vec<u8> = every_byte().into_iter().filter(|byte| *byte != b'\n').collect();
    let short = || messages().into_iter().take(5);
    let sent: Vec<_> = short().chain([line.clone()]).collect();
    let given: Vec<_> = short().chain([b"-".to_vec()]).collect();
    for file in ["article_udp.py", "udp.py"] {
        let (_server, address) = python_server(file, "udp");
        assert_same(&run(client("udp-echo-client"), address, &given, &line), &replies(&sent));
        let output = run(client("udp-threaded-client"), address, &given, &line);
        assert_same_lines(&output, &replies(&sent));
    }
}

#[test]
#[ignore = "needs python3"]
fn udp_servers_work_with_python_clients() {
    for name in ["udp-echo-server", "udp-threaded-server"] {
        let mut server = Server::start(name, &["--count", "14"]);
        let address = server.address();
        let output = run(python_client("udp_echo"), address, &messages(), b"");
        assert_same(&output, &replies(&messages()));
        let output = run(python_client("udp_threaded"), address, &messages(), b"");
        assert_same_lines(&output, &replies(&messages()));
        for name in ["udp_echo", "udp_threaded"] {
            let output = run(python_client(name), address, &[], &every_byte());
            assert_same(&output, &replies(&[every_byte()]));
        }
        assert_eq!(server.exit_code(), 0);
    }
}

#[test]
#[ignore = "needs python3"]
fn tcp_client_works_with_python_server() {
    let (_server, address) = python_server("tcp.py", "tcp");
    let output = run(client("tcp-threaded-client"), address, &messages(), b"");
    assert_same(&output, &replies(&messages()));
    let output = run(client("tcp-threaded-client"), address, &[b"-".to_vec()], &mebibyte());
    assert_same(&output, &mebibyte().to_ascii_uppercase());
}

#[test]
#[ignore = "needs python3"]
fn tcp_server_works_with_python_client() {
    let mut server = Server::start("tcp-threaded-server", &["--count", "2"]);
    let output = run(python_client("tcp_threaded"), server.address(), &messages(), b"");
    assert_same(&output, &replies(&messages()));
    let output = run(python_client("tcp_threaded"), server.address(), &[], &mebibyte());
    assert_same(&output, &mebibyte().to_ascii_uppercase());
    assert!(server.wait_for("closed after 1048576 bytes").is_some());
    assert_eq!(server.exit_code(), 0);
}

/// Runs OpenBSD's netcat, which is Debian's, and the only one that knows `-N`.
fn netcat(options: &str, server: SocketAddr) -> Command {
    let mut netcat = Command::new("nc");
    netcat.args([options, &server.ip().to_string(), &server.port().to_string()]);
    netcat
}

/// Runs socat, which waits up to 60 s for the rest of the response after its input has ended.
fn socat(protocol: &str, server: SocketAddr) -> Command {
    let mut socat = Command::new("socat");
    socat.args(["-t60", "-", &format!("{protocol}:{server}")]);
    socat
}

#[test]
#[ignore = "needs OpenBSD's nc and socat"]
fn udp_servers_reply_to_netcat_and_socat() {
    for name in ["udp-echo-server", "udp-threaded-server"] {
        let mut server = Server::start(name, &["--count", "4"]);
        // Each line is one datagram.
        for mut client in [netcat("-u", server.address()), socat("UDP4", server.address())] {
            let mut client = Process::spawn(&mut client);
            for message in ["hello", "world"] {
                client.write(format!("{message}\n").as_bytes());
                assert!(client.wait_for(&message.to_uppercase()).is_some());
                assert!(server.wait_for(&format!(r#""{message}\n" from "#)).is_some());
            }
        }
        assert_eq!(server.exit_code(), 0);
    }
}

#[test]
#[ignore = "needs OpenBSD's nc and socat"]
fn tcp_server_responds_to_netcat_and_socat() {
    let mut server = Server::start("tcp-threaded-server", &["--count", "4"]);
    for stream in [Vec::new(), mebibyte()] {
        for client in [netcat("-N", server.address()), socat("TCP4", server.address())] {
            assert_same(&output_of(client, &stream), &stream.to_ascii_uppercase());
        }
    }
    assert_eq!(server.exit_code(), 0);
}
