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
        let (network, address) = fake_udp_server();
        let done = AtomicBool::new(false);
        let lines: String = (0..500).map(|number| format!("line {number:03}\n")).collect();
        let options = ["--timeout", "0.001", "--attempts", "16", &address, "-"];
        let (replies, fates) = thread::scope(|scope| {
            let fates = scope.spawn(|| relay(&network, server.address(), &done));
            let mut client = start_client(name, &options);
            client.write(lines.as_bytes());
            let exit_code = client.exit_code();
            done.store(true, Relaxed);
            assert_eq!((exit_code, client.stderr()), (0, String::new()), "{name}");
            (client.stdout(), fates.join().unwrap())
        });
        // The network was as bad as it should be.
        assert!(fates.iter().all(|&count| count > 150), "lost, duplicated, delayed: {fates:?}");
        let mut replies: Vec<&str> = replies.lines().collect();
        if name == "udp-threaded-client" {
            replies.sort_unstable();
        }
        assert_eq!(replies, lines.to_uppercase().lines().collect::<Vec<_>>(), "{name}");
    }
}

/// Relays datagrams between clients and a server until `done`. In either direction it loses a fifth,
/// duplicates two, and delays two until other datagrams have passed or none arrives.
///
/// Returns how many were lost, duplicated and delayed.
fn relay(socket: &UdpSocket, server: SocketAddr, done: &AtomicBool) -> [usize; 3] {
    socket.set_nonblocking(true).unwrap();
    let (start, mut payload) = (Instant::now(), [0; 64]);
    let (mut fates, mut delayed) = ([0; 3], Vec::new());
    // The last sender of a request, by the expected reply.
    let mut clients = HashMap::new();
    // The state of a linear congruential generator, whose high bits are random.
    let mut random = 0x5eed_u32;
    // An error means that the client has exited.
    let deliver = |payload: &[u8], to: SocketAddr| drop(socket.send_to(payload, to));
    while !done.load(Relaxed) && start.elapsed() < 2 * DEADLINE {
        let earlier = std::mem::take(&mut delayed);
        if let Ok((length, from)) = socket.recv_from(&mut payload) {
            let payload = &payload[..length];
            let reply = payload.to_ascii_uppercase();
            let to = if from == server {
                clients[&reply]
            } else {
                clients.insert(reply, from);
                server
            };
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let fate = ((random >> 16) as usize % 5).div_ceil(2);
            fates[fate] += 1;
            if fate == 1 {
                deliver(payload, to);
            }
            if fate != 0 {
                delayed.push((payload.to_vec(), to));
            }
        } else {
            // No datagram is waiting, or, on Windows, a client has exited.
            thread::sleep(Duration::from_millis(1));
        }
        for (payload, to) in earlier {
            deliver(&payload, to);
        }
    }
    fates
}

#[cfg(target_os = "linux")]
mod needs_root {
    use super::*;
    use std::collections::BTreeSet;

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
            let stdout = output_of(Process::spawn(&mut command));
            let lines: BTreeSet<&str> = stdout.lines().collect();
            assert_eq!(lines.len(), 301, "{name}"); // with `listening on`
        }
    }
}
