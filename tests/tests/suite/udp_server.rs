//! The three UDP servers: what they receive, reply and print.

use crate::support::{UDP_SERVERS, command, receive, request};
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};
use tests::{DEADLINE, LARGEST, Server, udp};

/// Waits until a server has exited by itself, and returns its lines after the first.
fn lines_at_exit(server: &mut Server) -> Vec<String> {
    assert_eq!((server.exit_code(), server.stderr()), (0, String::new()));
    let output = server.stdout();
    let mut lines = output.lines().map(String::from);
    assert_eq!(lines.next(), Some(format!("listening on {}", server.address())));
    lines.collect()
}

#[test]
fn exits_after_three_datagrams_by_default() {
    let mut server = Server::start("udp-basic-server", &[]);
    let socket = udp(server.address());
    let client = socket.local_addr().unwrap();
    for message in ["hello", "world", "sdfas"] {
        socket.send(message.as_bytes()).unwrap();
    }
    let expected = ["hello", "world", "sdfas"].map(|text| format!("\"{text}\" from {client}"));
    assert_eq!(lines_at_exit(&mut server), expected);
}

#[test]
fn neither_joins_nor_splits_datagrams() {
    let mut server = Server::start("udp-basic-server", &["--count", "100"]);
    let socket = udp(server.address());
    let client = socket.local_addr().unwrap();
    for length in 0..100 {
        socket.send(&vec![b'x'; length]).unwrap();
    }
    let line = |length| format!("\"{}\" from {client}", "x".repeat(length));
    assert_eq!(lines_at_exit(&mut server), (0..100).map(line).collect::<Vec<_>>());
}

#[test]
fn receives_largest_datagram_whole() {
    let mut server = Server::start("udp-basic-server", &["--count", "2"]);
    let socket = udp(server.address());
    socket.send(&[b'x'; LARGEST]).unwrap();
    socket.send(b"").unwrap();
    let lines = lines_at_exit(&mut server);
    let rest = format!("\" from {}", socket.local_addr().unwrap());
    // Of a long line the first 250 and the last 100 bytes are printed, the newline included.
    let omitted = 1 + LARGEST + rest.len() + 1 - 350;
    assert!(lines[0].contains(&format!("xxx… {omitted} bytes omitted …xxx")), "{}", lines[0]);
    assert!(lines[0].ends_with(&format!("xxx{rest}")), "{}", lines[0]);
    assert_eq!(lines[1], format!("\"{rest}"));
}

#[test]
fn replies_in_ascii_upper_case() {
    let every: Vec<u8> = (0..=255).collect();
    for name in UDP_SERVERS {
        let server = Server::start(name, &[]);
        assert_eq!(request(&udp(server.address()), &every), every.to_ascii_uppercase());
    }
}

#[test]
fn replies_to_empty_and_largest_datagram() {
    for name in UDP_SERVERS {
        let mut server = Server::start(name, &["--count", "6"]);
        let socket = udp(server.address());
        for _ in 0..2 {
            assert_eq!(request(&socket, b""), b"");
            assert_eq!(request(&socket, b"a"), b"A");
            assert!(request(&socket, &[b'a'; LARGEST]) == [b'A'; LARGEST]);
        }
        assert_eq!(server.exit_code(), 0);
    }
}

#[test]
fn prints_one_line_per_datagram() {
    let mut server = Server::start("udp-echo-server", &["--count", "2"]);
    let socket = udp(server.address());
    let client = socket.local_addr().unwrap();
    request(&socket, b"hello");
    request(&socket, "W\u{f6}rld\t".as_bytes());
    let expected = ["hello", "W\\xc3\\xb6rld\\t"].map(|text| format!("\"{text}\" from {client}"));
    assert_eq!(lines_at_exit(&mut server), expected);
}

#[test]
fn prints_only_its_address_when_quiet() {
    for name in UDP_SERVERS {
        let mut server = Server::start(name, &["--count=1", "--quiet"]);
        assert_eq!(request(&udp(server.address()), b"hello"), b"HELLO");
        assert!(lines_at_exit(&mut server).is_empty());
    }
}

#[test]
fn prints_no_untrusted_byte_unescaped() {
    let every: Vec<u8> = (0..=255).collect();
    let mut requests: Vec<Vec<u8>> = every.chunks(64).map(<[u8]>::to_vec).collect();
    requests.extend(every.iter().map(|&byte| vec![byte]));
    requests.push(every);
    // Clear the screen, set the title, query the cursor, reset, overwrite the line above; C1 control
    // characters in one byte and in UTF-8; right-to-left text; a long line.
    let escapes = ["\x1b[2J\x1b[1;1H", "\x1b]0;owned\x07", "\x1b[6n", "\x1bc", "\r\x1b[1A\x1b[2K"];
    requests.extend(escapes.map(|escape| escape.as_bytes().to_vec()));
    requests.push(b"\x9b2J\x9d0;owned\x9c".to_vec());
    requests.push("\u{9b}2J \u{202e}txet \"\\\"".as_bytes().to_vec());
    requests.push("\x1b[31m".repeat(1000).into_bytes());
    for name in UDP_SERVERS {
        let mut server = Server::start(name, &["--count", &requests.len().to_string()]);
        let socket = udp(server.address());
        for payload in &requests {
            assert_eq!(request(&socket, payload), payload.to_ascii_uppercase());
        }
        let lines = lines_at_exit(&mut server);
        assert_eq!(lines.len(), requests.len());
        for (line, payload) in lines.iter().zip(&requests) {
            let is_printable = |c: char| (' '..='~').contains(&c) || c == '…';
            assert!(line.chars().all(is_printable), "{line:?}");
            let shown = payload[..payload.len().min(64)].escape_ascii();
            assert!(line.starts_with(&format!("\"{shown}")), "{line}");
            assert!(line.contains(&format!(" from {}", socket.local_addr().unwrap())), "{line}");
        }
    }
}

#[test]
fn replies_to_count_datagrams_and_no_more() {
    for name in UDP_SERVERS {
        let mut server = Server::start(name, &["--count", "3"]);
        // Not connected: the kernel would report to a connected socket that the server has exited.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        for _ in 0..5 {
            socket.send_to(b"x", server.address()).unwrap();
        }
        (0..3).for_each(|_| assert_eq!(receive(&socket).0, b"X"));
        assert_eq!(server.exit_code(), 0);
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 9]).is_err());
    }
}

#[test]
fn all_workers_share_one_count() {
    let mut server = Server::start("udp-threaded-server", &["--workers", "8", "--count", "100"]);
    let address = server.address();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                let socket = udp(address);
                (0..25).for_each(|_| assert_eq!(request(&socket, b"x"), b"X"));
            });
        }
    });
    assert_eq!(lines_at_exit(&mut server).len(), 100);
}

#[test]
fn workers_delay_replies_at_same_time() {
    let options = ["--delay", "1", "--workers", "8", "--count", "8"];
    let mut server = Server::start("udp-threaded-server", &options);
    let socket = udp(server.address());
    let start = Instant::now();
    (0..8).for_each(|_| assert_eq!(socket.send(b"x").unwrap(), 1));
    // All eight are received before the first reply, so by eight workers.
    for worker in 1..=8 {
        let line = server.wait_for(&format!("(worker {worker})")).unwrap();
        let client = socket.local_addr().unwrap();
        assert_eq!(line, format!("\"x\" from {client} (worker {worker})"));
    }
    (0..8).for_each(|_| assert_eq!(receive(&socket).0, b"X"));
    // One worker takes eight seconds, two take four.
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
    assert_eq!(lines_at_exit(&mut server).len(), 8);
}

#[test]
fn more_requests_than_workers_wait_for_a_worker() {
    let options = ["--delay", "0.2", "--workers", "2", "--count", "8"];
    let mut server = Server::start("udp-threaded-server", &options);
    let socket = udp(server.address());
    let start = Instant::now();
    (0..8).for_each(|_| assert_eq!(socket.send(b"x").unwrap(), 1));
    (0..8).for_each(|_| assert_eq!(receive(&socket).0, b"X"));
    // A thread for each datagram takes 0.2 seconds.
    assert!(start.elapsed() >= Duration::from_millis(800));
    let lines = lines_at_exit(&mut server);
    let workers: BTreeSet<_> = lines.iter().map(|line| line.split_once("(worker ")).collect();
    assert!(workers.len() <= 2, "{lines:?}");
}

#[test]
fn one_worker_replies_in_order() {
    let options = ["--delay", "0.05", "--workers", "1", "--count", "4"];
    let mut server = Server::start("udp-threaded-server", &options);
    let socket = udp(server.address());
    let start = Instant::now();
    for payload in [b"a", b"b", b"c", b"d"] {
        socket.send(payload).unwrap();
    }
    for reply in [b"A", b"B", b"C", b"D"] {
        assert_eq!(receive(&socket).0, reply);
    }
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert!(lines_at_exit(&mut server).iter().all(|line| line.ends_with("(worker 1)")));
}

#[test]
fn has_two_workers_or_more_by_default() {
    let mut server = Server::start("udp-threaded-server", &["--delay", "1", "--count", "2"]);
    command("udp-threaded-client")
        .args(["--timeout", "30", &server.address().to_string(), "a", "b"])
        .assert()
        .success();
    let lines = lines_at_exit(&mut server);
    let workers: BTreeSet<_> = lines.iter().map(|line| line.split_once("(worker ")).collect();
    assert_eq!(workers.len(), 2, "{lines:?}");
}

#[cfg(target_os = "linux")]
mod spoofed {
    //! On Linux all of 127.0.0.0/8 is local, so a test can send from the server's port number at
    //! another address. Other sources take a raw socket, which std does not offer; a few lines of
    //! Python open one.

    use super::*;
    use crate::support::{assert_idle, without_workers};
    use std::io::ErrorKind;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::process::Command;
    use tests::unused_address;

    const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
    const NEIGHBOR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

    /// How many datagrams `SPOOFER` sends.
    const SPOOFED: usize = 8;

    /// The arguments are the source's address and port, the receiver's address and port, and the
    /// payload. A checksum of 0 means that there is none (RFC 768).
    const SPOOFER: &str = "\
import socket, struct, sys
source, source_port, receiver, port, payload = sys.argv[1:]
payload = payload.encode()
header = struct.pack('!HHHH', int(source_port), int(port), 8 + len(payload), 0)
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as spoofer:
    spoofer.bind((source, 0))
    for _ in range(8):
        spoofer.sendto(header + payload, (receiver, 0))
";

    /// Sends datagrams that claim to come from `source`.
    fn spoof(source: SocketAddr, receiver: SocketAddr, payload: &str) {
        let mut python = Command::new("python3");
        python.args(["-c", SPOOFER]);
        for address in [source, receiver] {
            python.args([address.ip().to_string(), address.port().to_string()]);
        }
        assert!(python.arg(payload).status().unwrap().success());
    }

    #[test]
    fn drops_datagram_from_own_port() {
        for name in UDP_SERVERS {
            let address = unused_address().to_string();
            let mut server = Server::start_at(name, &address, &["--count", "2"]);
            let spoofer = UdpSocket::bind((NEIGHBOR, server.address().port())).unwrap();
            let socket = udp(server.address());
            let client = socket.local_addr().unwrap();
            for payload in ["one", "two"] {
                for _ in 0..10 {
                    spoofer.send_to(b"spoofed", server.address()).unwrap();
                }
                assert_eq!(request(&socket, payload.as_bytes()), payload.to_uppercase().as_bytes());
            }
            // It is neither replied to nor printed nor counted.
            let lines = lines_at_exit(&mut server).join("\n");
            let expected = ["one", "two"].map(|text| format!("\"{text}\" from {client}"));
            assert_eq!(without_workers(&lines), expected);
            spoofer.set_nonblocking(true).unwrap();
            assert_eq!(spoofer.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    }

    mod needs_root {
        use super::*;

        #[test]
        #[ignore = "needs root and python3"]
        fn survives_datagram_from_port_zero() {
            let port_zero = SocketAddr::from((LOCALHOST, 0));
            for (name, options) in
                [(UDP_SERVERS[0], &[][..]), (UDP_SERVERS[1], &["--workers", "2"])]
            {
                // A datagram that no reply can reach was received, so it counts.
                let mut server = Server::start(name, &[options, &["--count", "10"]].concat());
                let socket = udp(server.address());
                let client = socket.local_addr().unwrap();
                assert_eq!(request(&socket, b"before"), b"BEFORE");
                spoof(port_zero, server.address(), "zero");
                assert_eq!(request(&socket, b"after"), b"AFTER");
                assert_eq!(server.exit_code(), 0);
                let error = format!("{name}: {port_zero}: Invalid argument (os error 22)\n");
                assert_eq!(server.stderr(), error.repeat(SPOOFED));
                let mut expected = vec![format!("\"zero\" from {port_zero}"); SPOOFED];
                expected.push(format!("\"before\" from {client}"));
                expected.push(format!("\"after\" from {client}"));
                expected.push(format!("listening on {}", server.address()));
                expected.sort_unstable();
                let output = server.stdout();
                let mut lines = without_workers(&output);
                lines.sort_unstable();
                assert_eq!(lines, expected);
            }
        }

        #[test]
        #[ignore = "needs root and python3"]
        fn logs_no_spoofed_datagram_when_quiet() {
            for name in UDP_SERVERS {
                let mut server = Server::start(name, &["--count", "9", "--quiet"]);
                spoof((LOCALHOST, 0).into(), server.address(), "zero");
                assert_eq!(request(&udp(server.address()), b"after"), b"AFTER");
                assert!(lines_at_exit(&mut server).is_empty());
            }
        }

        #[test]
        #[ignore = "needs root and python3"]
        fn spoofed_datagram_starts_no_loop_of_replies() {
            let mut servers = Vec::new();
            for name in UDP_SERVERS {
                let address = unused_address();
                let twins = [address, (NEIGHBOR, address.port()).into()];
                servers.extend(twins.map(|own| Server::start_at(name, &own.to_string(), &[])));
                for source in twins {
                    spoof(source, address, "spoofed");
                }
            }
            for server in &servers {
                assert_eq!(request(&udp(server.address()), b"hello"), b"HELLO");
            }
            assert_idle(&servers.iter().map(|server| server.id()).collect::<Vec<_>>());
            for server in &mut servers {
                server.kill();
                assert_eq!((server.stdout().lines().count(), server.stderr().as_str()), (2, ""));
            }
        }
    }
}
