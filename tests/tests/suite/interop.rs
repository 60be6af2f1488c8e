//! The examples with Python's `socket` and `socketserver`.

use crate::support::*;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;

/// Every byte that an argument and a line can contain: all but 0 and the newline.
fn message() -> Vec<u8> {
    (1..=255).filter(|byte| *byte != b'\n').collect()
}

/// Runs a program to its end and returns its output, which need not be UTF-8.
#[track_caller]
fn bytes_of(mut command: Command, input: &[u8]) -> Vec<u8> {
    run(&mut command, input).success().get_output().stdout.clone()
}

/// Returns an example's client that sends no request twice.
fn client(name: &str, server: SocketAddr, messages: &[&[u8]]) -> Command {
    let mut client = command(name);
    client.arg("--timeout=30").arg(server.to_string());
    client.args(messages.iter().map(|message| OsString::from_vec(message.to_vec())));
    client
}

/// Starts a Python server of the competitors.
fn python_server(file: &str, protocol: &str) -> (Process, SocketAddr) {
    let address = unused_address();
    let mut python = Command::new("python3");
    python.arg(repository("tests/competitors/python").join(file)).arg(address.port().to_string());
    let server = Process::spawn(&mut python);
    wait_until_listening(protocol, address);
    (server, address)
}

#[test]
#[ignore = "needs python3"]
fn udp_clients_work_with_python_servers() {
    for file in ["article_udp.py", "udp.py"] {
        let (_server, address) = python_server(file, "udp");
        for name in UDP_CLIENTS {
            let upper = message().to_ascii_uppercase();
            let output = bytes_of(client(name, address, &[b"-"]), &message());
            assert_eq!(output, [&upper[..], b"\n"].concat(), "{name}, {file}");
            let output = bytes_of(client(name, address, &[b"hello", b"", &message()]), b"");
            // Replies to messages in flight may be reordered.
            let mut replies: Vec<&[u8]> = output.split(|byte| *byte == b'\n').collect();
            replies.sort_unstable();
            assert_eq!(replies, [b"", b"", &upper[..], b"HELLO"], "{name}, {file}");
        }
    }
}

#[test]
#[ignore = "needs python3"]
fn tcp_client_works_with_python_server() {
    let (_server, address) = python_server("tcp.py", "tcp");
    let messages: [&[u8]; 3] = [b"hello", b"", &message()];
    let output = bytes_of(client("tcp-threaded-client", address, &messages), b"");
    assert_eq!(output, [b"HELLO\n\n", &*message().to_ascii_uppercase(), b"\n"].concat());
}

#[test]
#[ignore = "needs python3"]
fn servers_work_with_python_clients() {
    for (name, kind, count) in [
        ("udp-basic-server", "udp-basic", "--count=6"),
        ("udp-echo-server", "udp", "--count=6"),
        ("udp-threaded-server", "udp", "--until-eof"),
        ("tcp-threaded-server", "tcp", "--until-eof"),
    ] {
        let mut server = Process::start(name, &[count]);
        let mut python = Command::new("python3");
        python.arg(repository("tests/tests/suite/clients.py"));
        let mut python = Process::spawn(python.args([kind, &server.address().to_string()]));
        assert_eq!((python.exit_code(), server.exit_code()), (0, 0), "{name}");
        assert!(server.stdout().contains("\"sdfas\" from "), "{name}");
    }
}
