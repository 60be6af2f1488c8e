//! The graceful stop of the threaded servers, which `--until-eof` starts when standard input ends.

use crate::copying::start_copy;
use crate::support::*;
use std::io::{Read, Write};
use std::net::TcpListener;

const SERVERS: [&str; 2] = ["tcp-threaded-server", "udp-threaded-server"];

#[test]
fn idle_server_stops_on_any_address() {
    // A wake-up to 127.0.0.1 does not reach 127.0.0.2, which other systems assign to no interface.
    let specific = if cfg!(target_os = "linux") { "127.0.0.2:0" } else { "127.0.0.1:0" };
    let addresses = [specific, "0.0.0.0:0", "[::1]:0", "[::]:0"];
    for address in &addresses[..if has_ipv6() { 4 } else { 2 }] {
        for (name, workers) in SERVERS.iter().flat_map(|name| [(name, "1"), (name, "1024")]) {
            let options = ["--workers", workers, "--until-eof"];
            let server = Process::start_at(name, address, &options);
            let expected = format!("listening on {}\n", server.address());
            // Within the deadline, which is shorter than a timeout for each wake-up.
            assert_eq!(output_of(server), expected);
        }
    }
}

#[test]
fn connections_in_progress_are_finished() {
    let mut server = start_copy("tcp-threaded-stopping", &["--workers=3"]);
    let [one, two, stopping, mut pending] = [(); 4].map(|()| tcp(server.address()));
    let clients = [one, two];
    clients.iter().for_each(|client| assert_eq!(exchange(client, b"before"), b"BEFORE"));
    pending.write_all(b"x").unwrap();
    assert_eq!(exchange(&stopping, b"stop"), b"STOP");
    drop(stopping);
    clients.iter().for_each(|client| assert_eq!(exchange(client, b"after"), b"AFTER"));
    assert!(server.is_running());
    drop(clients);
    output_of(server);
    assert!(!matches!(pending.read(&mut [0]), Ok(1)), "a connection in the backlog was served");
}

#[test]
fn requests_in_progress_are_finished() {
    let mut server = start_copy("udp-threaded-stopping", &["--workers=3"]);
    let gate = TcpListener::bind("127.0.0.1:0").unwrap();
    let wait = format!("wait for {}", gate.local_addr().unwrap());
    let waiting = [udp(server.address()), udp(server.address())];
    for socket in &waiting {
        socket.send(wait.as_bytes()).unwrap();
    }
    let gates = [accept(&gate), accept(&gate)];
    let socket = udp(server.address());
    assert_eq!(request(&socket, b"stop"), b"STOP");
    for _ in 0..4 {
        let _ = socket.send(b"x");
    }
    assert!(server.is_running());
    drop(gates);
    for socket in &waiting {
        assert_eq!(receive(socket).0, wait.to_uppercase().as_bytes());
    }
    assert_eq!(output_of(server).lines().count(), 4);
    assert_eq!(count_waiting(&socket), 0);
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs strace"]
fn idle_server_makes_no_system_calls() {
    let folder = empty_folder("idle");
    for (name, call) in SERVERS.into_iter().zip(["accept4(", "recvfrom("]) {
        let file = folder.join(name);
        let mut command = strace(&["-o", file.to_str().unwrap()]);
        command.arg(program(name)).args([":0", "--workers", "8", "--until-eof"]);
        let server = Process::listening(&mut command);
        request_any(name, server.address());
        let calls = || std::fs::read_to_string(&file).unwrap();
        // One of them for the second time, after its request.
        wait_until("all workers wait", || calls().matches(call).count() > 8);
        wait_until("the reader of standard input waits", || calls().contains(" read(0, "));
        let before = calls();
        std::thread::sleep(std::time::Duration::from_secs(2)); // what is tested: nothing happens
        assert_eq!(calls(), before);
        output_of(server);
    }
}

#[cfg(target_os = "linux")]
mod needs_root {
    use super::*;
    use std::process::Command;

    #[test]
    #[ignore = "needs root, unshare, ip and nft"]
    fn udp_server_stops_in_broken_network() {
        let filter = "nft add table ip6 t
            nft 'add chain ip6 t input { type filter hook input priority 0; }'
            nft add rule ip6 t input ip6 daddr ::1 drop";
        // Nothing wakes the server until the network is back.
        let pause = "ip link set lo down
            (sleep 2; ip link set lo up) >&- 2>&- &";
        for (address, script) in [
            ("[::]:0", "echo 1 >/proc/sys/net/ipv6/conf/lo/disable_ipv6"),
            ("[::]:0", filter),
            ("127.0.0.1:0", pause),
        ] {
            let mut command = in_network("exec \"$0\" \"$@\"", &[SERVERS[1]]);
            command.args([address, "--until-eof", "--workers=4"]);
            let mut server = Process::listening(&mut command);
            wait_until("four workers and the reader of standard input wait", || {
                let threads = proc::threads(server.id());
                threads.len() == 5 && threads.iter().all(|id| proc::state(*id) == Some('S'))
            });
            let mut nsenter = Command::new("nsenter");
            let id = server.id().to_string();
            run(nsenter.args(["--net", "--target", &id, "sh", "-ec", script]), "").success();
            let result = (server.exit_code(), server.stderr());
            assert_eq!(result, (0, String::new()), "at {address}: {script}");
        }
    }
}
