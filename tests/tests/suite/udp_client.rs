//! The three UDP clients: what they send, print, and take for a reply.

use crate::support::*;
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn sends_in_order_with_or_without_server() {
    let (server, address) = fake_udp_server();
    for address in [&address, &unused_address().to_string()] {
        let expected = format!("sent \"first\" to {address}\nsent \"last\" to {address}\n");
        assert_eq!(output("udp-basic-client", &[address, "first", "last"], ""), expected);
        output("udp-basic-client", &[address, "-"], "one\n\ntwo words");
    }
    for message in ["first", "last", "one", "", "two words"] {
        assert_eq!(receive(&server).0, message.as_bytes());
    }
}

#[test]
fn prints_reply_unchanged() {
    let replies = [(0..=255).collect(), vec![], vec![b'z'; LARGEST]];
    for name in UDP_CLIENTS {
        for reply in &replies {
            let (server, address) = fake_udp_server();
            let mut client = start_client(name, &[&address, ""]);
            server.send_to(reply, receive(&server).1).unwrap();
            let output = client.output();
            assert!(output.stdout == [reply, &b"\n"[..]].concat(), "{:?}", output.stdout);
            assert!(output.status.success() && output.stderr.is_empty());
        }
    }
}

#[test]
fn ignores_reply_from_another_address() {
    for name in UDP_CLIENTS {
        let (server, address) = fake_udp_server();
        let mut strangers = vec![UdpSocket::bind("127.0.0.1:0").unwrap()];
        if cfg!(target_os = "linux") {
            // The server's port number at another address: all of 127.0.0.0/8 is local.
            let port = server.local_addr().unwrap().port();
            strangers.push(UdpSocket::bind(("127.0.0.2", port)).unwrap());
        }
        let client = start_client(name, &["--timeout=30", &address, "question"]);
        let (_, sender) = receive(&server);
        for stranger in &strangers {
            stranger.send_to(b"stranger", sender).unwrap();
        }
        server.send_to(b"server", sender).unwrap();
        assert_eq!(output_of(client), "server\n");
    }
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs strace"]
fn ignores_datagram_that_arrives_before_connect() {
    for name in UDP_CLIENTS {
        let (server, address) = fake_udp_server();
        let mut client = failing("bind:signal=STOP:when=1", name);
        let client = Process::spawn(client.args(["--timeout=30", &address, "question"]));
        let ports = || proc::listens_on(client.id(), "udp");
        wait_until("the client is suspended", || !ports().is_empty());
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(b"stranger", ("127.0.0.1", ports()[0])).unwrap();
        signal("CONT", &[client.id()]);
        let (_, sender) = receive(&server);
        server.send_to(b"server", sender).unwrap();
        assert_eq!(output_of(client), "server\n");
    }
}

#[test]
fn ignores_late_and_duplicated_replies() {
    let (server, address) = fake_udp_server();
    let arguments = ["--timeout", "0.1", "--attempts", "9", &address, "one", "two"];
    let client = start_client("udp-echo-client", &arguments);
    // Three attempts are replied to, one of them twice. Further ones may be in flight.
    let (_, first) = receive(&server);
    for _ in 0..2 {
        assert_eq!(receive(&server), (b"one".into(), first));
    }
    for _ in 0..4 {
        server.send_to(b"ONE", first).unwrap();
    }
    let mut received = std::iter::repeat_with(|| receive(&server));
    let (_, second) = received.find(|(payload, _)| payload == b"two").unwrap();
    assert_ne!(second, first, "the ports of both messages");
    server.send_to(b"ONE", first).unwrap();
    server.send_to(b"TWO", second).unwrap();
    assert_eq!(output_of(client), "ONE\nTWO\n");
}

#[test]
fn exits_after_all_attempts() {
    let (server, silent) = fake_udp_server();
    let unused = unused_address().to_string();
    // To this address, not even a socket can be connected, except under Wine.
    const FORBIDDEN: &str = "255.255.255.255:9";
    let long = if cfg!(windows) { "0.1" } else { "3600" };
    for (address, timeout, attempts, cause, delay_ms) in [
        (&*silent, "0.1", 3, "timed out", 100 + 200 + 400),
        (&silent, "0.000000001", 3, "timed out", 0),
        (&unused, "0.1", 3, "Connection refused", 100 + 200 + 400),
        // There is no delay after the last attempt.
        (FORBIDDEN, "0.1", 3, "(os error ", 100 + 200),
        (FORBIDDEN, long, 1, "(os error ", 0),
    ] {
        for name in UDP_CLIENTS {
            let started = Instant::now();
            let options = ["--timeout", timeout, "--attempts", &attempts.to_string(), address];
            let error = error(name, &options, "");
            let start = format!("{name}: no reply from {address} after {attempts} attempt");
            assert!(error.starts_with(&start), "{error}");
            assert!(error.ends_with("; is the server running?\n"), "{error}");
            // On Linux, the ICMP error of a host arrives there before `send` returns.
            assert!(!cfg!(target_os = "linux") || error.contains(cause), "{error}");
            // A timeout is rounded down to microseconds.
            let took = started.elapsed() + Duration::from_millis(1);
            assert!(took >= Duration::from_millis(delay_ms), "{address}: {took:?}");
        }
    }
    assert_eq!(count_waiting(&server), 2 * 2 * 3);
}

#[test]
fn keeps_at_most_64_messages_in_flight() {
    let (server, address) = fake_udp_server();
    let mut client = start_client("udp-threaded-client", &["--timeout", "30", &address, "-"]);
    client.write((0..100).map(|number| format!("{number}\n")).collect::<String>().as_bytes());
    let senders: BTreeSet<_> = (0..64).map(|_| receive(&server).1).collect();
    assert_eq!(senders.len(), 64);
    thread::sleep(Duration::from_millis(300)); // what is tested: nothing happens
    assert_eq!(count_waiting(&server), 0);
}

/// `common` tests more messages that are too long.
#[test]
fn sends_largest_line_and_refuses_longer_one() {
    for (host, largest) in hosts() {
        let server = Process::start_at("udp-threaded-server", &format!("{host}:0"), &["--quiet"]);
        let address = server.address().to_string();
        for name in UDP_CLIENTS {
            let message = "y".repeat(largest);
            let output = output(name, &["--timeout=30", &address, "-"], &*message);
            assert_eq!(output, format!("{}\n", message.to_uppercase()));
            let error = error(name, &[&address, "-"], "y".repeat(65_528));
            assert!(error.contains(": standard input: a line has more than "), "{error}");
        }
    }
}

/// A late reply to an earlier message would be taken for the reply to the current one.
#[test]
fn sends_from_port_of_no_recent_message() {
    for name in UDP_CLIENTS {
        let (server, address) = fake_udp_server();
        let mut client = start_client(name, &["--timeout=30", &address, "-"]);
        client.write("message\n".repeat(6_000).as_bytes());
        let mut ports = BTreeSet::new();
        for _ in 0..6_000 {
            let (message, client) = receive(&server);
            server.send_to(&message, client).unwrap();
            ports.insert(client.port());
        }
        assert_eq!(client.exit_code(), 0);
        assert_eq!(ports.len(), 6_000, "{name}");
    }
}
