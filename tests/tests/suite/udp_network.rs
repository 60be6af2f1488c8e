//! The UDP clients on a network that loses, duplicates and reorders datagrams.

use crate::support::*;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn clients_get_all_replies() {
    for name in UDP_CLIENTS {
        let (server, address) = fake_udp_server();
        let lines: String = (0..500).map(|number| format!("line {number:03}\n")).collect();
        let options = ["--timeout", "0.001", "--attempts", "16", &address, "-"];
        let mut client = start_client(name, &options);
        client.write(lines.as_bytes());
        client.close_stdin();
        let fates = reply_over_bad_network(&server, &mut client);
        let replies = output_of(client);
        // The network was as bad as it should be.
        assert!(fates.iter().all(|&count| count > 150), "lost, duplicated, delayed: {fates:?}");
        let mut replies: Vec<&str> = replies.lines().collect();
        if name == "udp-threaded-client" {
            replies.sort_unstable();
        }
        assert_eq!(replies, lines.to_uppercase().lines().collect::<Vec<_>>(), "{name}");
    }
}

/// Replies to requests until the client exits. A third of the replies is lost, as if the request had
/// been, a third is duplicated, and a third arrives after the next ones or when there are none.
///
/// Returns how many were lost, duplicated and delayed.
fn reply_over_bad_network(server: &UdpSocket, client: &mut Process) -> [usize; 3] {
    server.set_nonblocking(true).unwrap();
    let (start, mut payload) = (Instant::now(), [0; 64]);
    let (mut fates, mut delayed) = ([0; 3], Vec::new());
    // The state of a linear congruential generator, whose high bits are random.
    let mut random = 0x5eed_u32;
    while client.is_running() && start.elapsed() < 2 * DEADLINE {
        let (mut replies, earlier) = (Vec::new(), std::mem::take(&mut delayed));
        if let Ok((length, sender)) = server.recv_from(&mut payload) {
            let reply = (payload[..length].to_ascii_uppercase(), sender);
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let fate = (random >> 16) as usize % 3;
            fates[fate] += 1;
            match fate {
                0 => {}
                1 => replies.extend([reply.clone(), reply]),
                _ => delayed.push(reply),
            }
        } else {
            // No datagram is waiting, or, on Windows, a client has closed a socket.
            thread::sleep(Duration::from_millis(1));
        }
        for (reply, client) in replies.into_iter().chain(earlier) {
            // An error means that the client has closed the socket.
            let _ = server.send_to(&reply, client);
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
        let script = "echo 40000 4\"$2\" >ip_local_port_range || exit 9
            \"$0\" --quiet & until grep -q :22B8 /proc/net/udp; do sleep 0.01; done
            seq 300 | \"$1\" --attempts=1 --timeout=30 :8888 -; code=$?; kill $!; exit $code";
        for (name, last) in [(UDP_CLIENTS[0], "0015"), (UDP_CLIENTS[1], "0099")] {
            let mut command = in_network(script, &["udp-echo-server", name]);
            let stdout = output_of(Process::spawn(command.arg(last)));
            let lines: BTreeSet<&str> = stdout.lines().collect();
            assert_eq!(lines.len(), 301, "{name}"); // with `listening on`
        }
    }
}
