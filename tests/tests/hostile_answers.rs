//! Strangers, late and doubled answers, servers that do not answer and a network that loses, doubles
//! and reorders do not fool the UDP clients.

mod support;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use support::client;
use tests::{DEADLINE, LARGEST, Process, Server, program};

const CLIENTS: [&str; 2] = ["udp-echo-client", "udp-threaded-client"];

/// A server that the test plays.
fn played_server() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut request = vec![0; LARGEST];
    loop {
        match socket.recv_from(&mut request) {
            Ok((length, client)) => {
                request.truncate(length);
                return (request, client);
            }
            // A client that got its answer and left; only Windows says so.
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }
}

fn start(name: &str, arguments: &[&str]) -> Process {
    Process::spawn(Command::new(program(name)).args(arguments))
}

/// The client has ended well, and this is what it printed.
fn printed(mut client: Process) -> String {
    assert_eq!(client.exit_code(), 0);
    assert_eq!(client.stderr(), "");
    client.stdout()
}

#[test]
fn an_answer_from_another_address_is_ignored() {
    for name in CLIENTS {
        let (server, address) = played_server();
        let mut strangers = vec![UdpSocket::bind("127.0.0.1:0").unwrap()];
        if cfg!(target_os = "linux") {
            // The server's port number at another address: all of 127.0.0.0/8 is ours.
            let port = server.local_addr().unwrap().port();
            strangers.push(UdpSocket::bind(("127.0.0.2", port)).unwrap());
        }
        let client = start(name, &[&address, "question"]);
        let (_, asked_from) = receive(&server);
        for stranger in &strangers {
            stranger.send_to(b"a stranger's", asked_from).unwrap();
        }
        server.send_to(b"the server's", asked_from).unwrap();
        assert_eq!(printed(client), "the server's\n");
    }
}

#[test]
fn a_late_or_doubled_answer_never_counts_for_the_next_message() {
    // The kernel gives the second message the port of the first once in 28,000 times, and then the
    // client cannot tell (its header says so): begin again.
    assert!((0..3).any(|_| late_and_doubled_answers()), "all messages come from one port");
}

/// Returns whether the two messages came from two ports.
fn late_and_doubled_answers() -> bool {
    let (server, address) = played_server();
    let arguments = ["--timeout", "0.1", "--attempts", "9", &address, "one", "two"];
    let client = start("udp-echo-client", &arguments);
    // The first attempts are slow to be answered, so that each gets an answer, and one comes double.
    let requests = [receive(&server), receive(&server), receive(&server)];
    for (request, from) in &requests {
        assert_eq!((&request[..], *from), (&b"one"[..], requests[0].1));
        server.send_to(b"ONE", from).unwrap();
    }
    server.send_to(b"ONE", requests[0].1).unwrap();
    // More attempts may have been on their way.
    let second = loop {
        let (request, from) = receive(&server);
        if request == b"two" {
            break from;
        }
    };
    if second == requests[0].1 {
        return false;
    }
    server.send_to(b"ONE", requests[0].1).unwrap();
    server.send_to(b"TWO", second).unwrap();
    assert_eq!(printed(client), "ONE\nTWO\n");
    true
}

#[test]
fn an_answer_to_the_third_attempt_is_enough() {
    for name in CLIENTS {
        let (server, address) = played_server();
        let start_of_all = Instant::now();
        let client = start(name, &["--timeout", "0.2", "--attempts", "8", &address, "please"]);
        let requests = [receive(&server), receive(&server), receive(&server)];
        // The wait is doubled: RFC 8085 section 3.1.1.
        assert!(start_of_all.elapsed() >= Duration::from_millis(200 + 400));
        assert!(requests.iter().all(|request| *request == requests[0]), "{requests:?}");
        server.send_to(b"at last", requests[2].1).unwrap();
        assert_eq!(printed(client), "at last\n");
    }
}

#[test]
fn a_server_that_never_answers_is_asked_so_often_and_given_up_in_time() {
    for name in CLIENTS {
        let (server, address) = played_server();
        let start = Instant::now();
        client(name)
            .args(["--timeout", "0.1", "--attempts", "3", &address, "hello"])
            .assert()
            .code(1)
            .stdout("")
            .stderr(format!("{name}: no answer from {address} after 3 attempts: timed out\n"));
        // A timeout is rounded down to microseconds.
        let took = start.elapsed() + Duration::from_millis(1);
        assert!(took >= Duration::from_millis(100 + 200 + 400), "{took:?}");
        assert!(took < Duration::from_secs(15), "{took:?}");
        server.set_nonblocking(true).unwrap();
        for _ in 0..3 {
            assert_eq!(server.recv(&mut [0; 9]).unwrap(), 5);
        }
        assert_eq!(server.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn the_shortest_timeout_is_a_timeout_too() {
    for name in CLIENTS {
        let (_server, address) = played_server();
        client(name)
            .args(["--timeout", "0.000000001", "--attempts", "3", &address])
            .assert()
            .code(1)
            .stderr(format!("{name}: no answer from {address} after 3 attempts: timed out\n"));
    }
}

#[test]
fn an_answer_is_printed_as_the_bytes_that_came() {
    let answers = [
        (0..=255).collect(),
        b"\x1b[2J\x1b]0;owned\x07\x9b31m".to_vec(),
        b"\n\r\n\0".to_vec(),
        vec![],
        b"1".to_vec(),
        vec![b'z'; LARGEST],
    ];
    for name in CLIENTS {
        for answer in &answers {
            let (server, address) = played_server();
            thread::scope(|scope| {
                scope.spawn(|| server.send_to(answer, receive(&server).1).unwrap());
                let output = client(name).args([&address, ""]).output().unwrap();
                assert!(output.stdout == [answer, &b"\n"[..]].concat(), "{:?}", output.stdout);
                assert!(output.status.success() && output.stderr.is_empty());
            });
        }
    }
}

#[test]
fn the_sequential_client_gets_500_right_answers_from_a_bad_network_in_order() {
    let (answers, confusable) = ask_through_a_bad_network("udp-echo-client");
    assert_eq!(answers.len(), 500);
    for (answer, line) in answers.iter().zip(lines()) {
        let expected = line.to_uppercase();
        assert!(*answer == expected || confusable.contains(&(expected, answer.clone())));
    }
}

#[test]
fn the_threaded_client_gets_500_right_answers_from_a_bad_network() {
    let (mut answers, confusable) = ask_through_a_bad_network("udp-threaded-client");
    assert_eq!(answers.len(), 500);
    let mut missing: Vec<String> = lines().map(|line| line.to_uppercase()).collect();
    missing.retain(|expected| match answers.iter().position(|answer| answer == expected) {
        Some(index) => {
            answers.swap_remove(index);
            false
        }
        None => true,
    });
    // Each answer that is missing has another one, twice printed, in its place.
    missing.retain(|expected| {
        let instead = |answer: &String| confusable.contains(&(expected.clone(), answer.clone()));
        answers.iter().position(instead).map(|index| answers.swap_remove(index)).is_none()
    });
    assert!(missing.is_empty(), "{missing:?} are missing; instead there are {answers:?}");
}

fn lines() -> impl Iterator<Item = String> {
    (0..500).map(|number| format!("line {number}"))
}

/// Has a client ask 500 times; returns the answers, and which could have come instead of the right
/// ones: see [`BadNetwork::confusable`].
fn ask_through_a_bad_network(name: &str) -> (Vec<String>, Vec<(String, String)>) {
    let server = Server::start("udp-threaded-server", &["--quiet"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let (mut network, done) = (BadNetwork::new(socket, server.address()), AtomicBool::new(false));
    let lines: String = lines().map(|line| line + "\n").collect();
    let output = thread::scope(|scope| {
        scope.spawn(|| network.run(&done));
        let mut client = client(name);
        client.args(["--timeout", "0.001", "--attempts", "16", &address, "-"]);
        let output = client.write_stdin(lines).output();
        done.store(true, Relaxed);
        output.unwrap()
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // It was as bad as it should be.
    assert!(network.fates.iter().all(|&count| count > 200), "{:?}", network.fates);
    let answers = String::from_utf8(output.stdout).unwrap();
    (answers.lines().map(Into::into).collect(), network.confusable)
}

/// A relay between clients and a server. Of all datagrams, in either direction, it loses a third,
/// doubles a third and holds a third back until others have overtaken them, or none come.
///
/// Of what belongs to one request it loses at most four datagrams, so that no number of attempts
/// above four can ever be too small.
struct BadNetwork {
    socket: UdpSocket,
    server: SocketAddr,
    /// Xorshift (Marsaglia 2003).
    random: u32,
    /// Lost, doubled, held back.
    fates: [usize; 3],
    held: Vec<(Vec<u8>, SocketAddr)>,
    /// By the answer that it should get: who sent a request last, and how much of it was lost.
    requests: HashMap<String, (SocketAddr, u32)>,
    /// What each client port asked last, as the answer that it should get.
    ports: HashMap<SocketAddr, String>,
    /// Expected answer, possible answer. The kernel gives a port again once in 28,000 times. A
    /// request that comes from a used port may meet late answers to the request before, which no
    /// client can tell from its own (their header says so): among 500 messages some four may, and
    /// hardly one in a hundred runs does.
    confusable: Vec<(String, String)>,
}

impl BadNetwork {
    fn new(socket: UdpSocket, server: SocketAddr) -> BadNetwork {
        socket.set_nonblocking(true).unwrap();
        let (requests, ports) = (HashMap::new(), HashMap::new());
        let (held, confusable) = (vec![], vec![]);
        let (random, fates) = (0x5eed, [0; 3]);
        BadNetwork { socket, server, random, fates, held, requests, ports, confusable }
    }

    fn run(&mut self, done: &AtomicBool) {
        let mut payload = [0; 64];
        while !done.load(Relaxed) {
            let earlier = std::mem::take(&mut self.held);
            match self.socket.recv_from(&mut payload) {
                Ok((length, from)) => self.relay(&payload[..length], from),
                // Nothing comes, or, on Windows, a client has left: what was held back goes now.
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
            for (payload, to) in earlier {
                self.deliver(&payload, to);
            }
        }
    }

    fn relay(&mut self, payload: &[u8], from: SocketAddr) {
        let answer = String::from_utf8(payload.to_ascii_uppercase()).unwrap();
        if from != self.server {
            self.requests.entry(answer.clone()).or_insert((from, 0)).0 = from;
            if let Some(before) = self.ports.insert(from, answer.clone()) {
                if before != answer {
                    self.confusable.push((answer.clone(), before));
                }
            }
        }
        let (client, lost) = self.requests.get_mut(&answer).unwrap();
        let to = if from == self.server { *client } else { self.server };
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let mut fate = self.random as usize % 3;
        if fate == 0 && *lost == 4 {
            fate = 2;
        }
        self.fates[fate] += 1;
        match fate {
            0 => *lost += 1,
            1 => {
                self.deliver(payload, to);
                self.held.push((payload.to_vec(), to));
            }
            _ => self.held.push((payload.to_vec(), to)),
        }
    }

    /// A late answer is not delivered to a port that is known to ask something else by now.
    fn deliver(&self, payload: &[u8], to: SocketAddr) {
        let reused = self.ports.get(&to).is_some_and(|answer| answer.as_bytes() != payload);
        if !reused {
            // Whoever asked may have left.
            let _ = self.socket.send_to(payload, to);
        }
    }
}
