//! Concurrent datagrams.

mod support;

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};
use support::client;
use tests::{Server, udp};

#[test]
fn eight_delayed_datagrams_take_the_time_of_one() {
    let options = ["--delay", "2", "--workers", "8", "--count", "8"];
    let server = Server::start("udp-threaded-server", &options);
    let start = Instant::now();
    let messages = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let output = client("udp-threaded-client")
        .args(["--timeout", "30", &server.address().to_string()])
        .args(messages)
        .output()
        .unwrap();
    let took = start.elapsed();
    let mut answers: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    answers.sort_unstable();
    assert_eq!(answers.concat(), "ABCDEFGH");
    // One worker sleeps for 16 seconds, two for 8.
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(server.finish(), 0);
}

#[test]
fn one_worker_takes_them_one_after_the_other() {
    let options = ["--delay", "0.2", "--workers", "1", "--count", "4"];
    let server = Server::start("udp-threaded-server", &options);
    let start = Instant::now();
    client("udp-threaded-client")
        .args(["--timeout", "30", &server.address().to_string(), "a", "b", "c", "d"])
        .assert()
        .success();
    assert!(start.elapsed() >= Duration::from_millis(800));
    assert!(server.wait_for("(worker 1)").is_some());
    assert_eq!(server.finish(), 0);
}

#[test]
fn every_worker_serves_and_says_which_it_is() {
    let options = ["--delay", "1", "--workers", "3", "--count", "3"];
    let server = Server::start("udp-threaded-server", &options);
    let socket = udp(server.address());
    for _ in 0..3 {
        socket.send(b"x").unwrap();
    }
    let client = socket.local_addr().unwrap();
    for worker in 1..=3 {
        let line = server.wait_for(&format!("(worker {worker})")).unwrap();
        assert_eq!(line, format!("\"x\" from {client} (worker {worker})"));
    }
    assert_eq!(server.finish(), 0);
}

#[test]
fn without_options_two_are_served_at_the_same_time() {
    // A worker for each core, and at least two.
    let mut server = Server::start("udp-threaded-server", &["--delay", "2", "--count", "2"]);
    client("udp-threaded-client")
        .args(["--timeout", "30", &server.address().to_string(), "a", "b"])
        .assert()
        .success();
    assert_eq!(server.process().exit_code(), 0);
    let output = server.stdout();
    let workers: BTreeSet<&str> =
        output.lines().skip(1).map(|line| line.split_once(" (worker ").unwrap().1).collect();
    assert_eq!(workers.len(), 2, "{output}");
}

#[test]
fn count_is_kept_by_all_workers_together() {
    let server = Server::start("udp-threaded-server", &["--workers", "8", "--count", "100"]);
    let address = server.address();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                let socket = udp(address);
                for _ in 0..25 {
                    socket.send(b"x").unwrap();
                    assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 1);
                }
            });
        }
    });
    let mut server = server;
    assert_eq!(server.process().exit_code(), 0);
    assert_eq!(server.stdout().lines().count(), 101);
}

#[test]
fn more_messages_than_are_sent_at_once_are_all_answered() {
    let server = Server::start("udp-threaded-server", &["--workers", "4"]);
    let lines: String = (0..500).map(|number| format!("line {number}\n")).collect();
    let output = client("udp-threaded-client")
        .args([&server.address().to_string(), "-"])
        .write_stdin(lines.clone())
        .output()
        .unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    let (answers, expected) = (answers.lines(), lines.to_uppercase());
    assert_eq!(answers.clone().count(), 500);
    assert_eq!(answers.collect::<BTreeSet<_>>(), expected.lines().collect());
    assert!(output.status.success());
}

#[test]
fn at_most_64_messages_are_under_way_at_a_time() {
    let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = peer.local_addr().unwrap().to_string();
    let lines: String = (0..100).map(|number| format!("{number}\n")).collect();
    // It is asked once and never answers: after the first failure nobody takes another message.
    client("udp-threaded-client")
        .args(["--timeout", "3", "--attempts", "1", &address, "-"])
        .write_stdin(lines)
        .assert()
        .code(1)
        .stderr(format!(
            "udp-threaded-client: no answer from {address} after 1 attempts: timed out\n"
        ));
    peer.set_nonblocking(true).unwrap();
    let mut clients = BTreeSet::new();
    while let Ok((_, client)) = peer.recv_from(&mut [0; 9]) {
        clients.insert(client);
    }
    assert_eq!(clients.len(), 64);
}
