//! The UDP clients on a network that loses, duplicates and reorders datagrams.

use crate::support::*;
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn clients_get_all_replies() {
    for name in UDP_CLIENTS {
        let server = Process::start("udp-threaded-server", &["--quiet"]);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let (mut network, done) =
            (BadNetwork::new(socket, server.address()), AtomicBool::new(false));
        let lines: String = (0..500).map(|number| format!("line {number}\n")).collect();
        let output = thread::scope(|scope| {
            scope.spawn(|| network.run(&done));
            let mut client =
                start_client(name, &["--timeout", "0.001", "--attempts", "16", &address, "-"]);
            client.write(lines.as_bytes());
            let output = client.output();
            done.store(true, Relaxed);
            output
        });
        // The network was as bad as it should be.
        let [lost, duplicated, delayed] = network.fates;
        let fates = format!("{name}: {lost} lost, {duplicated} duplicated, {delayed} delayed");
        assert!(network.fates.iter().all(|&count| count > 150), "{fates}");
        let (replies, expected) = (String::from_utf8(output.stdout).unwrap(), lines.to_uppercase());
        let (mut replies, mut expected): (Vec<_>, Vec<_>) =
            (replies.lines().collect(), expected.lines().collect());
        if name == "udp-threaded-client" {
            replies.sort_unstable();
            expected.sort_unstable();
        }
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(replies, expected, "{name}");
    }
}

#[cfg(target_os = "linux")]
mod needs_root {
    use super::*;

    #[test]
    #[ignore = "needs root, unshare and ip"]
    fn clients_use_few_ports_again() {
        let script = "ip link set lo up || exit 9
            echo 40000 4\"$2\" >/proc/sys/net/ipv4/ip_local_port_range || exit 9
            \"$0\" --quiet & until grep -q :22B8 /proc/net/udp; do sleep 0.01; done
            seq 300 | \"$1\" --attempts=1 --timeout=30 :8888 -; code=$?; kill $!; exit $code";
        for (name, last) in [(UDP_CLIENTS[0], "0015"), (UDP_CLIENTS[1], "0099")] {
            let mut command = unshare("--net", script);
            command.arg(program("udp-echo-server")).arg(program(name)).arg(last);
            let output = Process::spawn(&mut command).output();
            let (stdout, stderr) = (output.stdout, String::from_utf8_lossy(&output.stderr));
            assert_eq!((output.status.code(), &*stderr), (Some(0), ""), "{name}");
            let lines =
                stdout.split(|&byte| byte == b'\n').collect::<std::collections::BTreeSet<_>>();
            assert_eq!(lines.len(), 302, "{name}"); // with `listening on` and the end
        }
    }
}

/// A relay between clients and a server. Of the datagrams in either direction it loses a fifth,
/// duplicates two, and delays two until other datagrams have passed or none arrives.
struct BadNetwork {
    socket: UdpSocket,
    server: SocketAddr,
    /// The state of a xorshift generator (Marsaglia 2003).
    random: u32,
    /// The numbers of datagrams that were lost, duplicated, delayed.
    fates: [usize; 3],
    delayed: Vec<(Vec<u8>, SocketAddr)>,
    /// The last sender of a request, by the expected reply.
    clients: HashMap<String, SocketAddr>,
}

impl BadNetwork {
    fn new(socket: UdpSocket, server: SocketAddr) -> BadNetwork {
        socket.set_nonblocking(true).unwrap();
        let (random, fates, delayed) = (0x5eed, [0; 3], Vec::new());
        BadNetwork { socket, server, random, fates, delayed, clients: HashMap::new() }
    }

    fn run(&mut self, done: &AtomicBool) {
        let (start, mut payload) = (Instant::now(), [0; 64]);
        while !done.load(Relaxed) && start.elapsed() < 2 * DEADLINE {
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
            self.clients.insert(reply.clone(), from);
        }
        let to = if from == self.server { self.clients[&reply] } else { self.server };
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let fate = (self.random as usize % 5).div_ceil(2);
        self.fates[fate] += 1;
        if fate == 1 {
            self.deliver(payload, to);
        }
        if fate != 0 {
            self.delayed.push((payload.to_vec(), to));
        }
    }

    fn deliver(&self, payload: &[u8], to: SocketAddr) {
        // An error means that the client has exited.
        let _ = self.socket.send_to(payload, to);
    }
}
