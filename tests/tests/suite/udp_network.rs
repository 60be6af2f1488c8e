//! The UDP clients on a network that loses, duplicates and reorders datagrams.

use crate::support::command;
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use tests::Server;

const MESSAGES: usize = 500;

#[test]
fn sequential_client_gets_all_replies_in_order() {
    let (replies, ambiguous) = send_through_bad_network("udp-echo-client");
    assert_eq!(replies.len(), MESSAGES);
    for (reply, message) in replies.iter().zip(messages()) {
        let expected = message.to_uppercase();
        assert!(*reply == expected || ambiguous.contains(&(expected, reply.clone())));
    }
}

#[test]
fn threaded_client_gets_all_replies() {
    let (replies, ambiguous) = send_through_bad_network("udp-threaded-client");
    assert_eq!(replies.len(), MESSAGES);
    for expected in messages().map(|message| message.to_uppercase()) {
        let is_ambiguous = || ambiguous.iter().any(|(reply, _)| *reply == expected);
        assert!(replies.contains(&expected) || is_ambiguous(), "{expected} is missing");
    }
}

fn messages() -> impl Iterator<Item = String> {
    (0..MESSAGES).map(|number| format!("line {number}"))
}

/// Returns a client's output, and the pairs of [`BadNetwork::ambiguous`].
fn send_through_bad_network(name: &str) -> (Vec<String>, Vec<(String, String)>) {
    let server = Server::start("udp-threaded-server", &["--quiet"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let (mut network, done) = (BadNetwork::new(socket, server.address()), AtomicBool::new(false));
    let lines: String = messages().map(|message| message + "\n").collect();
    let output = thread::scope(|scope| {
        scope.spawn(|| network.run(&done));
        let mut client = command(name);
        client.args(["--timeout", "0.001", "--attempts", "16", &address, "-"]);
        let output = client.write_stdin(lines).output();
        done.store(true, Relaxed);
        output.unwrap()
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The network was as bad as it should be.
    assert!(network.fates.iter().all(|&count| count > 200), "{:?}", network.fates);
    let replies = String::from_utf8(output.stdout).unwrap();
    (replies.lines().map(Into::into).collect(), network.ambiguous)
}

/// A relay between clients and a server. Of the datagrams in either direction it loses a third,
/// duplicates a third, and delays a third until other datagrams have passed or none arrives.
///
/// It loses at most four of the datagrams that belong to one request, so that five attempts are
/// always enough.
struct BadNetwork {
    socket: UdpSocket,
    server: SocketAddr,
    /// The state of a xorshift generator (Marsaglia 2003).
    random: u32,
    /// The numbers of datagrams that were lost, duplicated, delayed.
    fates: [usize; 3],
    delayed: Vec<(Vec<u8>, SocketAddr)>,
    /// By the expected reply: the last sender of a request, and how many datagrams were lost.
    requests: HashMap<String, (SocketAddr, u32)>,
    /// The expected reply to the last request from each client port.
    ports: HashMap<SocketAddr, String>,
    /// Expected replies, and those that the client may take for them. Once in 28,000 times the
    /// kernel assigns a port again. A request from a used port may meet late replies to the request
    /// before, which no client can distinguish, as their header says.
    ambiguous: Vec<(String, String)>,
}

impl BadNetwork {
    fn new(socket: UdpSocket, server: SocketAddr) -> BadNetwork {
        socket.set_nonblocking(true).unwrap();
        let (requests, ports) = (HashMap::new(), HashMap::new());
        let (delayed, ambiguous) = (Vec::new(), Vec::new());
        let (random, fates) = (0x5eed, [0; 3]);
        BadNetwork { socket, server, random, fates, delayed, requests, ports, ambiguous }
    }

    fn run(&mut self, done: &AtomicBool) {
        let mut payload = [0; 64];
        while !done.load(Relaxed) {
            let earlier = std::mem::take(&mut self.delayed);
            match self.socket.recv_from(&mut payload) {
                Ok((length, from)) => self.relay(&payload[..length], from),
                // No datagram is waiting, or, on Windows, a client has exited.
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
            for (payload, to) in earlier {
                self.deliver(&payload, to);
            }
        }
    }

    fn relay(&mut self, payload: &[u8], from: SocketAddr) {
        let reply = String::from_utf8(payload.to_ascii_uppercase()).unwrap();
        if from != self.server {
            self.requests.entry(reply.clone()).or_insert((from, 0)).0 = from;
            if let Some(before) = self.ports.insert(from, reply.clone()) {
                if before != reply {
                    self.ambiguous.push((reply.clone(), before));
                }
            }
        }
        let (client, lost) = self.requests.get_mut(&reply).unwrap();
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
                self.delayed.push((payload.to_vec(), to));
            }
            _ => self.delayed.push((payload.to_vec(), to)),
        }
    }

    /// Delivers a datagram, unless it is a late reply for a port that has sent another request.
    fn deliver(&self, payload: &[u8], to: SocketAddr) {
        let is_reused = self.ports.get(&to).is_some_and(|reply| reply.as_bytes() != payload);
        if !is_reused {
            // An error means that the client has exited.
            let _ = self.socket.send_to(payload, to);
        }
    }
}
