//! Addresses: names, IPv6, ports in use.

use crate::support::*;

#[test]
fn pairs_talk_over_names_and_addresses() {
    let addresses = [
        ("localhost:0", "", "localhost"),
        ("0", "127.0.0.1:", "localhost"),
        (":0", "127.0.0.1:", "127.0.0.1"),
        ("0.0.0.0:0", "0.0.0.0:", "127.0.0.1"),
        ("[::1]:0", "[::1]:", "[::1]"),
        ("[::]:0", "[::]:", "[::1]"),
        // A socket on [::] receives IPv4 as well on Linux and macOS, but not on Windows.
        ("[::]:0", "[::]:", if cfg!(windows) { "[::1]" } else { "127.0.0.1" }),
    ];
    for (listen, bound, connect) in &addresses[..if has_ipv6() { 7 } else { 4 }] {
        for pair in PAIRS {
            if !pair.replies() && bound.starts_with("127") && *connect == "localhost" {
                continue; // A client that expects no reply uses the first address, which may be ::1.
            }
            let server = Process::start_at(&pair.server(), listen, &[]);
            assert!(server.address().to_string().starts_with(bound), "{}", server.address());
            let address = format!("{connect}:{}", server.address().port());
            let message = pair.messages[0];
            let output = output(&pair.client(), &[&address, message], "");
            assert!(pair.prints(message, output.trim_end()), "{output}");
            assert!(server.wait_for(&format!("\"{message}\" from ")).is_some());
        }
    }
}

#[test]
fn error_names_address_that_cannot_be_used() {
    for pair in PAIRS {
        let server = Process::start(&pair.server(), &[]);
        let used = server.address().to_string();
        for (name, failed, address, end) in [
            // RFC 6761: no name ends in this.
            (pair.client(), "cannot resolve", "nosuch.invalid:80", "\n"),
            (pair.server(), "cannot resolve", "nosuch.invalid:80", "\n"),
            // RFC 5737: for documentation only.
            (pair.server(), "cannot bind", "192.0.2.1:0", "\n"),
            (pair.server(), "cannot bind", &used, "; is another server running?\n"),
        ] {
            let error = error(&name, &[address], "");
            let start = format!("{name}: {failed} {address}: ");
            assert!(error.starts_with(&start) && error.ends_with(end), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}

#[cfg(target_os = "linux")]
mod needs_root {
    //! Names that stand for several addresses: which of them are tried, and for how long.

    use super::*;
    use predicates::str::starts_with;
    use std::net::{Ipv6Addr, TcpListener, UdpSocket};
    use std::path::Path;
    use std::process::Command;
    use std::time::{Duration, Instant};

    /// Runs a command whose address is a port at `several`, the name of ::1 and then of 127.0.0.1.
    fn several(command: &Command, port: u16, messages: &[&str]) -> Process {
        let hosts = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hosts");
        write_file(&hosts, "::1 several\n127.0.0.1 several\n");
        let mut unshared = unshare("--mount", "mount --bind \"$0\" /etc/hosts && exec \"$@\"");
        unshared.arg(hosts).arg(command.get_program()).args(command.get_args());
        Process::spawn(unshared.arg(format!("several:{port}")).args(messages))
    }

    #[test]
    #[ignore = "needs root, unshare and strace"]
    fn client_finds_server_at_second_address() {
        for pair in PAIRS.iter().filter(|pair| pair.replies()) {
            let server = Process::start(&pair.server(), &[]);
            let (port, message) = (server.address().port(), pair.messages[0]);
            let mut clients = vec![command(&pair.client())];
            if pair.protocol() == Protocol::Udp {
                // Both sends to the first address fail, as if a firewall rejected them. On the main
                // thread, the first call is the resolver's.
                clients.push(failing("sendto:error=EPERM:when=1..3", &pair.client()));
            }
            for client in &mut clients {
                // It does not wait after the refusal by the first address.
                let output = output_of(several(client.arg("--timeout=600"), port, &[message]));
                assert!(pair.prints(message, output.trim_end()), "{output}");
                assert!(server.wait_for(&format!("\"{message}\" from ")).is_some());
            }
        }
    }

    #[test]
    #[ignore = "needs root and unshare"]
    fn client_shares_timeout_among_addresses() {
        if !has_ipv6() {
            return;
        }
        for name in UDP_CLIENTS {
            let (second, address) = fake_udp_server();
            let port = second.local_addr().unwrap().port();
            let first = UdpSocket::bind((Ipv6Addr::LOCALHOST, port)).unwrap();
            first.set_read_timeout(Some(DEADLINE)).unwrap();
            let start = || several(command(name).args(["--attempts=1", "--timeout=4"]), port, &[]);
            // It still waits for the first when it has sent to the second.
            for index in 0..2 {
                let client = start();
                let senders = [&first, &second].map(|server| receive(server).1);
                [&first, &second][index].send_to(b"reply", senders[index]).unwrap();
                assert_eq!(output_of(client), "reply\n", "{name}");
            }
            let started = Instant::now();
            let mut two = start();
            let mut one = start_client(name, &["--attempts=1", "--timeout=5.9", &address]);
            assert_eq!(two.exit_code(), 1);
            assert!(one.is_running() && started.elapsed() >= Duration::from_secs(4), "{name}");
        }
    }

    #[test]
    #[ignore = "needs root, unshare and ip"]
    fn tcp_client_shares_timeout_among_addresses() {
        // No host responds to the requests for its link-layer address.
        let script = "for n in 1 2 3; do echo 10.1.1.$n silent; done >\"$1\"
            mount --bind \"$1\" /etc/hosts; ip link add veth type veth peer name peer
            ip addr add 10.1.1.9/24 dev veth; ip link set veth up; ip link set peer up; exec \"$0\" --timeout=3 silent";
        let hosts = Path::new(env!("CARGO_TARGET_TMPDIR")).join("silent-hosts");
        let mut command = unshare("-nm", script);
        command.arg(program("tcp-threaded-client")).arg(hosts);
        let started = Instant::now();
        let error = "tcp-threaded-client: cannot connect to silent:8888: connection timed out\n";
        run(&mut command, "").code(1).stderr(error);
        // Three times the timeout if each address had it for itself.
        let elapsed = started.elapsed().as_secs();
        assert!((3..8).contains(&elapsed), "{elapsed} s");
    }

    #[test]
    #[ignore = "needs root, unshare and ip"]
    fn client_does_not_talk_to_itself() {
        // Every second port that the kernel chooses is that of the missing server.
        let script = "echo 40000 40001 >ip_local_port_range || exit 9
            for _ in 1 2 3 4 5 6 7 8; do
                \"$0\" \"$@\" && exit 9
            done
            grep '^Udp: [0-9]' /proc/net/snmp | cut -d' ' -f2,3,5";
        for (name, options) in [
            ("tcp-threaded-client", &[][..]),
            ("udp-echo-client", &["--attempts=1", "--timeout=0.01"]),
            ("udp-threaded-client", &["--attempts=1", "--timeout=0.01"]),
        ] {
            let mut client = in_network(script, &[name]);
            client.args(options).args(["127.0.0.1:40000", "x"]);
            let mut client = Process::spawn(&mut client);
            assert_eq!(client.exit_code(), 0, "{name}");
            assert_eq!(client.stderr().lines().count(), 8, "{}", client.stderr());
            let datagrams = client.stdout();
            let (received, others) = datagrams.trim_end().split_once(' ').unwrap();
            let (refused, sent) = others.split_once(' ').unwrap();
            assert_eq!((received, refused), ("0", sent), "{name}");
        }
    }

    #[test]
    #[ignore = "needs root, unshare and ip"]
    fn udp_client_exits_if_only_free_port_is_servers() {
        let script = "echo 40000 40000 >ip_local_port_range || exit 9
            exec \"$0\" --attempts=1 --timeout=0.1 :40000";
        for name in UDP_CLIENTS {
            let client = run(&mut in_network(script, &[name]), "").code(1);
            let error = "no reply from 127.0.0.1:40000 after 1 attempt: Address already in use";
            client.stderr(starts_with(format!("{name}: {error}")));
        }
    }

    #[test]
    #[ignore = "needs root, unshare and ip"]
    fn client_runs_out_of_ports() {
        // The client closes each connection first, and then its port cannot be used for a minute.
        let script = "echo 0 >tcp_tw_reuse; echo 40000 40003 >ip_local_port_range
            \"$0\" --until-eof | { read -r _; for _ in 1 2 3 4 5; do \"$1\" || exit; done; }";
        let programs = ["tcp-threaded-server", "tcp-threaded-client"];
        let mut client = Process::spawn(&mut in_network(script, &programs));
        // The server stops at the end of standard input, which `exit_code` closes.
        let error = "Cannot assign requested address (os error 99)";
        assert!(client.wait_for_error(error).is_some());
        assert_eq!((client.exit_code(), client.stdout()), (1, "HELLO\n".repeat(4)));
    }

    #[test]
    #[ignore = "needs root, unshare and ip"]
    fn largest_datagram_has_45_fragments() {
        let script = "ip link set lo mtu 1500 || exit 9
            \"$0\" --count=1 | { read -r _; printf %065507d 0 | \"$1\" :8888 -; }
            grep ^Ip: /proc/net/snmp | cut -d' ' -f20";
        let programs = ["udp-echo-server", "udp-echo-client"];
        let output = output_of(Process::spawn(&mut in_network(script, &programs)));
        // Of the request and of the reply.
        let expected = format!("{}\nFragCreates\n90\n", "0".repeat(65_507));
        assert!(output == expected, "{}", output.trim_start_matches('0'));
    }

    #[test]
    #[ignore = "needs root and unshare"]
    fn server_binds_first_address_that_works() {
        if !has_ipv6() {
            return;
        }
        let free = unused_address();
        let used = (Ipv6Addr::LOCALHOST, free.port());
        let (_udp, _tcp) = (UdpSocket::bind(used).unwrap(), TcpListener::bind(used).unwrap());
        for name in servers() {
            let first = several(&command(&name), 0, &[]);
            assert_eq!(first.address().ip(), Ipv6Addr::LOCALHOST);
            assert_eq!(several(&command(&name), free.port(), &[]).address(), free);
        }
    }
}
