//! The examples with Python's `socket` and `socketserver`, with netcat and socat.

use crate::support::*;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;

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

#[test]
#[ignore = "needs python3"]
fn clients_work_with_python_servers() {
    for (file, protocol, clients) in [
        ("article_udp.py", "udp", &UDP_CLIENTS[..]),
        ("udp.py", "udp", &UDP_CLIENTS),
        ("tcp.py", "tcp", &["tcp-threaded-client"]),
    ] {
        let address = unused_address();
        let mut python = Command::new("python3");
        python.arg(repository("tests/competitors/python").join(file));
        let _server = Process::spawn(python.arg(address.port().to_string()));
        wait_until_listening(protocol, address);
        // Every byte that an argument and a line can contain: all but 0 and the newline.
        let message: Vec<u8> = (1..=255).filter(|byte| *byte != b'\n').collect();
        for name in clients {
            let output = bytes_of(client(name, address, &[b"hello", b"", &message]), b"");
            // Replies to messages in flight may be reordered.
            let mut replies: Vec<&[u8]> = output.split(|byte| *byte == b'\n').collect();
            replies.sort_unstable();
            let expected: [&[u8]; 4] = [b"", b"", &message.to_ascii_uppercase(), b"HELLO"];
            assert_eq!(replies, expected, "{name}, {file}");
        }
    }
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
        output_of(Process::spawn(python.args([kind, &server.address().to_string()])));
        assert_eq!(server.exit_code(), 0, "{name}");
        assert!(server.stdout().contains("\"sdfas\" from "), "{name}");
    }
}

/// Starts a socat that sends back what it receives.
fn socat_server(kind: &str, protocol: &str) -> (Process, SocketAddr) {
    let address = unused_address();
    let listen = format!("{kind}:{},bind=127.0.0.1,fork", address.port());
    let server = Process::spawn(Command::new("socat").args([&*listen, "EXEC:cat"]));
    wait_until_listening(protocol, address);
    (server, address)
}

/// Returns netcat and socat as clients.
fn other_clients(server: SocketAddr, options: [&[&str]; 2], address: &str) -> [Command; 2] {
    let [mut nc, mut socat] = ["nc.openbsd", "socat"].map(Command::new);
    nc.args(options[0]).args([server.ip().to_string(), server.port().to_string()]);
    socat.args(options[1]).args(["-", &format!("{address}:{server}")]);
    [nc, socat]
}

/// `-N` sends the end of standard input, as the client does.
#[test]
#[ignore = "needs nc.openbsd and socat"]
fn tcp_client_works_as_netcat_and_socat() {
    let request = letters(0, 1 << 20);
    let ours = Process::start("tcp-threaded-server", &["--quiet"]);
    let (_socat, address) = socat_server("TCP-LISTEN", "tcp");
    let upper = request.to_ascii_uppercase();
    for (server, expected) in [(ours.address(), &upper), (address, &request)] {
        let [nc, socat] = other_clients(server, [&["-N"], &["-t30"]], "TCP");
        for command in [client("tcp-threaded-client", server, &[b"-"]), nc, socat] {
            let name = format!("{command:?}");
            assert!(bytes_of(command, &request) == *expected, "{name}");
        }
    }
}

#[test]
#[ignore = "needs nc.openbsd and socat"]
fn udp_programs_work_with_netcat_and_socat() {
    for name in UDP_SERVERS {
        let server = Process::start(name, &[]);
        // Both end a second after the end of standard input.
        for command in other_clients(server.address(), [&["-u", "-w1"], &["-t1"]], "UDP") {
            assert_eq!(bytes_of(command, b"hello"), b"HELLO", "{name}");
        }
    }
    let (_socat, address) = socat_server("UDP-RECVFROM", "udp");
    for name in UDP_CLIENTS {
        assert_eq!(bytes_of(client(name, address, &[b"hello"]), b""), b"hello\n", "{name}");
    }
}
