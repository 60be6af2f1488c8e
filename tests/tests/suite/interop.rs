//! The examples with Python's `socket` and `socketserver`, with netcat and socat.

use crate::support::*;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

/// Returns an example's client that sends no request twice.
fn client(name: &str, server: SocketAddr, message: &[u8]) -> Command {
    let mut client = command(name);
    client.args(["--timeout=30", &server.to_string()]).arg(OsStr::from_bytes(message));
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
            let expected = [&message.to_ascii_uppercase()[..], b"\n"].concat();
            run(&mut client(name, address, &message), "").success().stdout(expected);
        }
    }
}

#[test]
#[ignore = "needs python3"]
fn servers_work_with_python_clients() {
    let script = "import socket, sys
kind, port = sys.argv[1:]
client = socket.socket(type=socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
client.connect(('127.0.0.1', int(port)))
client.sendall(b'hello')
print(client.recv(65535).decode())";
    for pair in PAIRS {
        let server = Process::start(&pair.server(), &[]);
        let port = server.address().port().to_string();
        let mut python = Command::new("python3");
        python.args(["-c", script, pair.protocol().name(), &port]);
        let client = Process::spawn(&mut python);
        assert!(server.wait_for("\"hello\" from ").is_some(), "{}", pair.name);
        if pair.replies() {
            assert!(pair.prints("hello", output_of(client).trim_end()), "{}", pair.name);
        }
    }
}

#[test]
#[ignore = "needs nc.openbsd and socat"]
fn programs_work_with_netcat_and_socat() {
    let long = letters(0, 1 << 20);
    for (name, listen, request, [nc_options, socat_options]) in [
        // `-N` sends the end of standard input, as the client does.
        ("tcp-threaded", "TCP-LISTEN", &long[..], ["-N", "-t30"]),
        // Both end a second after the end of standard input.
        ("udp-echo", "UDP-RECVFROM", b"hello", ["-uw1", "-t1"]),
        ("udp-threaded", "UDP-RECVFROM", b"hello", ["-uw1", "-t1"]),
    ] {
        let server = Process::start(&format!("{name}-server"), &["--quiet"]);
        let address = server.address();
        let mut netcat = Command::new("nc.openbsd");
        netcat.args([nc_options, "127.0.0.1", &address.port().to_string()]);
        let mut socat = Command::new("socat");
        socat.args([socat_options, "-", &format!("{}:{address}", &listen[..3])]);
        for mut other in [netcat, socat] {
            run(&mut other, request).success().stdout(request.to_ascii_uppercase());
        }
        let echo = unused_address();
        let listen = format!("{listen}:{},bind=127.0.0.1,fork", echo.port());
        let _server = Process::spawn(Command::new("socat").args([&listen, "EXEC:cat"]));
        wait_until_listening(&name[..3], echo);
        let expected = [request, if name == "tcp-threaded" { b"" } else { b"\n" }].concat();
        run(&mut client(&format!("{name}-client"), echo, b"-"), request).success().stdout(expected);
    }
}
