//! The examples with other programs: Python's `socket` and `socketserver`, netcat, socat.

use crate::support::*;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Every byte that an argument and a line can contain: all but 0 and the newline.
fn message() -> Vec<u8> {
    (1..=255).filter(|byte| *byte != b'\n').collect()
}

fn mebibyte() -> Vec<u8> {
    (0..=255).cycle().take(1 << 20).collect()
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
    let output = bytes_of(client("tcp-threaded-client", address, &[b"-"]), &mebibyte());
    assert!(output == mebibyte().to_ascii_uppercase());
}

#[test]
#[ignore = "needs python3"]
fn servers_work_with_python_clients() {
    for (name, kind, count) in [
        ("udp-basic-server", "udp-basic", "--count=6"),
        ("udp-echo-server", "udp", "--count=6"),
        ("udp-threaded-server", "udp", "--count=6"),
        ("tcp-threaded-server", "tcp", "--count=1"),
    ] {
        let mut server = Server::start(name, &[count]);
        let mut python = Command::new("python3");
        python.arg(repository("tests/tests/suite/clients.py"));
        let mut python = Process::spawn(python.args([kind, &server.address().to_string()]));
        assert_eq!((python.exit_code(), server.exit_code()), (0, 0), "{name}");
        assert!(server.stdout().contains("\"sdfas\" from "), "{name}");
    }
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
fn udp_servers_work_with_netcat_and_socat() {
    for name in UDP_SERVERS {
        let mut server = Server::start(name, &["--count", "4"]);
        // Each line is one datagram.
        for mut client in [netcat("-u", server.address()), socat("UDP4", server.address())] {
            let mut client = Process::spawn(&mut client);
            for message in ["hello", "world"] {
                client.write(format!("{message}\n").as_bytes());
                assert!(client.wait_for(&message.to_uppercase()).is_some());
            }
        }
        assert_eq!(server.exit_code(), 0);
        assert!(server.stdout().contains(r#""hello\n" from "#));
    }
}

#[test]
#[ignore = "needs OpenBSD's nc and socat"]
fn tcp_server_works_with_netcat_and_socat() {
    let mut server = Server::start("tcp-threaded-server", &["--count", "4"]);
    for stream in [Vec::new(), mebibyte()] {
        for client in [netcat("-N", server.address()), socat("TCP4", server.address())] {
            assert!(bytes_of(client, &stream) == stream.to_ascii_uppercase());
        }
    }
    assert_eq!(server.exit_code(), 0);
}
