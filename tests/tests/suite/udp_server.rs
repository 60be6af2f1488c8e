//! The three UDP servers: what they receive, reply and print.

use crate::copying::copied;
use crate::support::*;
use std::collections::BTreeSet;
#[cfg(target_os = "linux")]
use std::net::UdpSocket;
use std::process::Command;

/// Waits until a server has exited by itself, and returns its lines after the address.
fn lines_at_exit(server: Process) -> Vec<String> {
    output_of(server).lines().skip(1).map(String::from).collect()
}

#[test]
fn receives_empty_and_largest_datagram() {
    for (host, max) in hosts() {
        let address = format!("{host}:0");
        for name in UDP_SERVERS {
            let server = Process::start_at(name, &address, &one_at_a_time(name, "3"));
            let socket = udp(server.address());
            for length in [0, max, 1] {
                let reply = request(&socket, &vec![b'x'; length]);
                assert!(reply == vec![b'X'; length], "{name} {host}");
            }
        }
        let mut command = Command::new(copied("udp-basic-lengths"));
        let server = Process::spawn(command.args([&address, "--count=2"]));
        let socket = udp(server.address());
        socket.send(&vec![b'x'; max]).unwrap();
        socket.send(b"").unwrap();
        assert_eq!(lines_at_exit(server), [format!("{max} bytes"), "0 bytes".into()]);
    }
}

#[test]
fn prints_no_untrusted_byte_unescaped() {
    let every: Vec<u8> = (0..=255).collect();
    let long = "\u{202e}\x1b[31m".repeat(1000);
    let requests = [&every[..128], &every[128..], long.as_bytes()];
    let [echo, threaded] = UDP_SERVERS;
    for (name, worker) in [("udp-basic-server", ""), (echo, ""), (threaded, " (worker 1)")] {
        let server = Process::start(name, &one_at_a_time(name, "3"));
        let socket = udp(server.address());
        for payload in requests {
            if name == "udp-basic-server" {
                socket.send(payload).unwrap();
            } else {
                assert_eq!(request(&socket, payload), payload.to_ascii_uppercase());
            }
        }
        let line = |payload: &[u8]| {
            let start = payload[..payload.len().min(250)].escape_ascii();
            format!("\"{start}\" from {}{worker}", socket.local_addr().unwrap())
        };
        assert_eq!(lines_at_exit(server), requests.map(line));
    }
}

#[test]
fn more_requests_than_workers_wait_for_a_worker() {
    let options = ["--delay", "0.1", "--until-eof", "--workers", "2"];
    let server = Process::start("udp-threaded-server", &options);
    let socket = udp(server.address());
    (b'a'..=b'h').for_each(|letter| assert_eq!(socket.send(&[letter]).unwrap(), 1));
    let mut replies: Vec<u8> = (0..8).flat_map(|_| receive(&socket).0).collect();
    replies.sort_unstable();
    assert_eq!(replies, b"ABCDEFGH");
    let lines = lines_at_exit(server);
    let used: BTreeSet<&str> = lines.iter().map(|line| &line[line.len() - 10..]).collect();
    assert!(used.len() <= 2, "{used:?}");
}

/// On Linux all of 127.0.0.0/8 is local, so a test can send from the server's port number.
#[cfg(target_os = "linux")]
#[test]
fn drops_datagram_from_own_port() {
    for name in UDP_SERVERS {
        let address = unused_address();
        let server = Process::start_at(name, &address.to_string(), &one_at_a_time(name, "2"));
        let spoofer = UdpSocket::bind(("127.0.0.2", address.port())).unwrap();
        let socket = udp(address);
        for payload in ["one", "two"] {
            (0..10).for_each(|_| assert_eq!(spoofer.send_to(b"spoofed", address).unwrap(), 7));
            assert_eq!(request(&socket, payload.as_bytes()), payload.to_uppercase().as_bytes());
        }
        // It is neither replied to nor printed nor counted.
        let lines = lines_at_exit(server);
        assert!(lines[0].starts_with("\"one\" from ") && lines[1].starts_with("\"two\" from "));
        assert_eq!(count_waiting(&spoofer), 0);
    }
}
