//! Hostile and odd datagrams do not stop, fool or tie up the UDP servers. Nor does a kernel that
//! reports strange things, nor our clients: strace makes it report them.
//!
//! On Linux 127.0.0.2 is ours too, so anybody can play a forger with the server's own port number.
//! Other forgeries take a raw socket, which std does not offer: a few lines of Python as root do it.

mod support;

use std::collections::{HashSet, VecDeque};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;
use support::ask;
use tests::{LARGEST, Server, udp};

const SERVERS: [&str; 2] = ["udp-echo-server", "udp-threaded-server"];

/// What a server said, without the worker's number.
fn lines(output: &str) -> Vec<&str> {
    output.lines().map(|line| line.split(" (worker ").next().unwrap()).collect()
}

#[test]
fn an_empty_datagram_one_byte_and_the_largest_are_answered_like_any_other() {
    for name in SERVERS {
        let server = Server::start(name, &["--count", "6"]);
        let socket = udp(server.address());
        for _ in 0..2 {
            assert_eq!(ask(&socket, b""), b"");
            assert_eq!(ask(&socket, b"a"), b"A");
            assert!(ask(&socket, &[b'a'; LARGEST]) == [b'A'; LARGEST]);
        }
        assert_eq!(server.finish(), 0);
    }
}

#[test]
fn no_byte_of_a_datagram_reaches_the_terminal_as_it_is() {
    let every: Vec<u8> = (0..=255).collect();
    let mut requests: Vec<Vec<u8>> = every.chunks(64).map(<[u8]>::to_vec).collect();
    requests.extend(every.iter().map(|&byte| vec![byte]));
    requests.push(every);
    // Clears the screen, sets the title, moves the cursor, rings, types an answer back, hides what
    // was above; C1 control characters in one byte and in UTF-8; text that runs backwards.
    let escapes = ["\x1b[2J\x1b[1;1H", "\x1b]0;owned\x07", "\x1b[6n", "\x1bc", "\r\x1b[1A\x1b[2K"];
    requests.extend(escapes.map(|escape| escape.as_bytes().to_vec()));
    requests.push(b"\x9b2J\x9d0;owned\x9c".to_vec());
    requests.push("\u{9b}2J \u{202e}txet \"\\\"".as_bytes().to_vec());
    requests.push("\x1b[31m".repeat(1000).into_bytes());
    for name in SERVERS {
        let mut server = Server::start(name, &["--count", &requests.len().to_string()]);
        let socket = udp(server.address());
        for request in &requests {
            assert_eq!(ask(&socket, request), request.to_ascii_uppercase());
        }
        assert_eq!(server.process().exit_code(), 0);
        let output = server.stdout();
        let odd = |byte: u8| byte != b'\n' && !(b' '..=b'~').contains(&byte);
        assert!(!output.bytes().any(odd), "{output:?}");
        let lines = output.lines().skip(1);
        assert_eq!(lines.clone().count(), requests.len());
        for (line, request) in lines.zip(&requests) {
            let shown = request[..request.len().min(128)].escape_ascii();
            assert!(line.starts_with(&format!("\"{shown}\"")), "{line}");
            let from = format!(" from {}", socket.local_addr().unwrap());
            assert!(line.contains(&from), "{line}");
        }
        assert_eq!(server.stderr(), "");
    }
}

/// So many requests under way for each of 64 clients: 256 together, and the 208 KiB that Linux gives
/// a socket's receive buffer hold some 270 of this size.
const WINDOW: usize = 4;

#[test]
fn a_hundred_thousand_requests_of_64_clients_get_each_its_own_answer() {
    for name in SERVERS {
        let server = Server::start(name, &["--quiet"]);
        let address = server.address();
        thread::scope(|scope| {
            for client in 0..64 {
                scope.spawn(move || ask_many(client, udp(address), 100_000 / 64 + 1));
            }
        });
    }
}

/// Asks so many times, with a window, and looks at each answer.
fn ask_many(client: usize, socket: UdpSocket, count: usize) {
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut requests = (0..count).map(|number| format!("request {number} of client {client}"));
    let mut open: VecDeque<String> = VecDeque::new();
    let mut asked_again = HashSet::new();
    let mut buffer = [0; 64];
    let mut silence = 0;
    loop {
        while open.len() < WINDOW {
            let Some(request) = requests.next() else { break };
            socket.send(request.as_bytes()).unwrap();
            open.push_back(request);
        }
        if open.is_empty() {
            return;
        }
        match socket.recv(&mut buffer) {
            Ok(length) => {
                silence = 0;
                let answer = std::str::from_utf8(&buffer[..length]).unwrap();
                let answered = open.iter().position(|request| request.to_uppercase() == answer);
                match answered.and_then(|index| open.remove(index)) {
                    Some(_) => {}
                    None => assert!(asked_again.contains(answer), "{answer:?} to client {client}"),
                }
            }
            // A full receive buffer's: the kernel dropped a request or an answer.
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
                silence += 1;
                assert!(silence < 60, "client {client} gets no answer");
                for request in &open {
                    socket.send(request.as_bytes()).unwrap();
                    asked_again.insert(request.to_uppercase());
                }
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod on_linux {
    use super::*;
    use std::net::Ipv4Addr;
    use std::process::Command;
    use std::thread::sleep;
    use std::time::Instant;
    use support::{can_trace, not_run, said, strace, ticks};
    use tests::{Process, program, unused_address};

    const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

    /// Ours as well, like all of 127.0.0.0/8.
    const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

    /// The arguments are the forged source's address and port, the receiver's address and port, and
    /// the payload. A checksum of 0 means that there is none (RFC 768).
    const FORGER: &str = "\
import socket, struct, sys
source, source_port, receiver, port, payload = sys.argv[1:]
payload = payload.encode()
header = struct.pack('!HHHH', int(source_port), int(port), 8 + len(payload), 0)
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as forger:
    forger.bind((source, 0))
    for _ in range(8):
        forger.sendto(header + payload, (receiver, 0))
print('sent')
";

    const FORGED: usize = 8;

    /// Sends datagrams that claim to come from `source`; `false`: it takes root and python3, and
    /// they are not here, where they need not be.
    fn forge(source: SocketAddr, receiver: SocketAddr, payload: &str) -> bool {
        let attempt = |command: &[&str]| {
            let mut command_line = Command::new(command[0]);
            command_line.args(&command[1..]).args(["-c", FORGER]);
            for address in [source, receiver] {
                command_line.args([address.ip().to_string(), address.port().to_string()]);
            }
            said(command_line.arg(payload))
        };
        let mut output = attempt(&["python3"]);
        if output != "sent\n" {
            output += &attempt(&["sudo", "-n", "python3"]);
        }
        output.ends_with("sent\n") || not_run("python3 with a raw socket", &output)
    }

    #[test]
    fn datagrams_from_port_zero_do_not_stop_the_server() {
        let nobody = SocketAddr::from((LOCALHOST, 0));
        for (name, options) in [(SERVERS[0], &[][..]), (SERVERS[1], &["--workers", "2"])] {
            // What cannot be answered was received, so it counts.
            let mut server = Server::start(name, &[options, &["--count", "10"]].concat());
            let socket = udp(server.address());
            assert_eq!(ask(&socket, b"before"), b"BEFORE");
            if !forge(nobody, server.address(), "zero") {
                return;
            }
            assert_eq!(ask(&socket, b"after"), b"AFTER");
            assert_eq!(server.process().exit_code(), 0);
            let errors = format!("{name}: {nobody}: Invalid argument (os error 22)\n");
            assert_eq!(server.stderr(), errors.repeat(FORGED));
            let client = socket.local_addr().unwrap();
            let mut expected = vec![format!("\"zero\" from {nobody}"); FORGED];
            expected.push(format!("\"before\" from {client}"));
            expected.push(format!("\"after\" from {client}"));
            expected.push(format!("listening on {}", server.address()));
            expected.sort_unstable();
            let output = server.stdout();
            let mut lines = lines(&output);
            lines.sort_unstable();
            assert_eq!(lines, expected);
        }
    }

    #[test]
    fn a_forger_cannot_fill_the_log_of_a_quiet_server() {
        for name in SERVERS {
            let mut server = Server::start(name, &["--count", "9", "--quiet"]);
            if !forge((LOCALHOST, 0).into(), server.address(), "zero") {
                return;
            }
            assert_eq!(ask(&udp(server.address()), b"after"), b"AFTER");
            assert_eq!(server.process().exit_code(), 0);
            assert_eq!(server.stdout(), format!("listening on {}\n", server.address()));
            assert_eq!(server.stderr(), "");
        }
    }

    #[test]
    fn a_datagram_from_the_servers_own_port_number_is_dropped() {
        for name in SERVERS {
            let address = unused_address().to_string();
            let mut server = Server::start_at(name, &address, &["--count", "2"]);
            let forger = UdpSocket::bind((NEIGHBOUR, server.address().port())).unwrap();
            let socket = udp(server.address());
            for request in ["one", "two"] {
                for _ in 0..10 {
                    forger.send_to(b"forged", server.address()).unwrap();
                }
                assert_eq!(ask(&socket, request.as_bytes()), request.to_uppercase().as_bytes());
            }
            // Neither answered nor shown, and it does not count.
            assert_eq!(server.process().exit_code(), 0);
            let client = socket.local_addr().unwrap();
            let expected = [
                format!("listening on {address}"),
                format!("\"one\" from {client}"),
                format!("\"two\" from {client}"),
            ];
            assert_eq!(lines(&server.stdout()), expected);
            assert_eq!(server.stderr(), "");
            forger.set_nonblocking(true).unwrap();
            assert_eq!(forger.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_forged_datagram_sets_no_server_talking_to_itself_or_to_its_twin() {
        let mut servers = Vec::new();
        for name in SERVERS {
            let address = unused_address();
            let neighbour = SocketAddr::from((NEIGHBOUR, address.port()));
            let twins = [address, neighbour];
            servers.extend(twins.map(|address| Server::start_at(name, &address.to_string(), &[])));
            for source in twins {
                if !forge(source, address, "forged") {
                    return;
                }
            }
        }
        for server in &servers {
            assert_eq!(ask(&udp(server.address()), b"heard"), b"HEARD");
        }
        let before: Vec<u64> = servers.iter().map(|server| ticks(server.id())).collect();
        sleep(Duration::from_secs(1)); // what is tested: nothing happens
        for (server, before) in servers.iter_mut().zip(before) {
            let busy = ticks(server.id()) - before;
            server.process().kill();
            assert_eq!(server.stdout().lines().count(), 2);
            assert_eq!(server.stderr(), "");
            assert!(busy <= 5, "{busy} hundredths of a second");
        }
    }

    /// To be followed by a program whose system calls fail as `inject` says.
    fn failing(inject: &str) -> Command {
        strace(&["-o", "/dev/null", "-e", &format!("inject={inject}")])
    }

    /// A server whose system calls fail as `inject` says, which counts for each thread on its own.
    fn start_with(inject: &str, name: &str, options: &[&str]) -> Server {
        Server::spawn(failing(inject).arg(program(name)).arg(":0").args(options))
    }

    #[test]
    fn a_client_that_has_left_and_a_signal_are_no_trouble_of_the_next_client() {
        if !can_trace() {
            return;
        }
        for name in SERVERS {
            // Windows tells a receive that an earlier answer found nobody; here it is made up.
            for error in ["ECONNRESET", "EINTR"] {
                let inject = format!("recvfrom:error={error}:when=1+2");
                let mut server = start_with(&inject, name, &["--count", "3"]);
                let socket = udp(server.address());
                for _ in 0..3 {
                    assert_eq!(ask(&socket, b"served"), b"SERVED");
                }
                assert_eq!(server.process().exit_code(), 0);
                assert_eq!(server.stdout().lines().count(), 4);
                assert_eq!(server.stderr(), "");
            }
        }
    }

    #[test]
    fn trouble_of_the_machine_is_reported_once_and_waited_out() {
        if !can_trace() {
            return;
        }
        let troubles = [
            ("ENOMEM", "Cannot allocate memory (os error 12)"),
            ("ENOBUFS", "No buffer space available (os error 105)"),
        ];
        thread::scope(|scope| {
            for (name, (error, says)) in SERVERS.into_iter().zip(troubles) {
                scope.spawn(move || {
                    let start = Instant::now();
                    let inject = format!("recvfrom:error={error}:when=1..6");
                    let mut server = start_with(&inject, name, &["--quiet"]);
                    assert_eq!(ask(&udp(server.address()), b"served"), b"SERVED");
                    // Six pauses of a quarter of a second: it does not spin.
                    assert!(start.elapsed() >= Duration::from_millis(6 * 250));
                    server.process().kill();
                    assert_eq!(server.stderr(), format!("{name}: receive: {says}\n"));
                });
            }
        });
    }

    #[test]
    fn a_server_that_only_receives_survives_a_signal_and_waits_out_trouble() {
        if !can_trace() {
            return;
        }
        let trouble = "udp-basic-server: receive: Cannot allocate memory (os error 12)\n";
        for (error, said, pauses) in [("EINTR", "", 0), ("ENOMEM", trouble, 3)] {
            let start = Instant::now();
            let inject = format!("recvfrom:error={error}:when=1..3");
            let mut server = start_with(&inject, "udp-basic-server", &["--count=1"]);
            udp(server.address()).send(b"received").unwrap();
            assert_eq!(server.process().exit_code(), 0);
            assert_eq!(server.stdout().lines().count(), 2);
            assert_eq!(server.stderr(), said);
            assert!(start.elapsed() >= pauses * Duration::from_millis(250));
        }
    }

    #[test]
    fn trouble_that_comes_again_is_reported_again() {
        if !can_trace() {
            return;
        }
        for (name, options) in
            [(SERVERS[0], &["--count=2"][..]), (SERVERS[1], &["--count=2", "--workers=1"])]
        {
            let mut server = start_with("recvfrom:error=ENOMEM:when=1+2", name, options);
            let socket = udp(server.address());
            for _ in 0..2 {
                assert_eq!(ask(&socket, b"served"), b"SERVED");
            }
            assert_eq!(server.process().exit_code(), 0);
            let line = format!("{name}: receive: Cannot allocate memory (os error 12)\n");
            assert_eq!(server.stderr(), line.repeat(2));
        }
    }

    #[test]
    fn with_fewer_threads_than_asked_for_those_that_run_serve() {
        if !can_trace() {
            return;
        }
        for running in [1, 3] {
            let inject = format!("clone,clone3:error=EAGAIN:when={running}+");
            let options = ["--count", "2", "--workers", "8"];
            let mut server = start_with(&inject, "udp-threaded-server", &options);
            let socket = udp(server.address());
            assert_eq!(ask(&socket, b"one"), b"ONE");
            assert_eq!(ask(&socket, b"two"), b"TWO");
            let said = server.wait_for_error("").unwrap();
            let expected = format!("udp-threaded-server: {running} of 8 workers: ");
            assert!(said.starts_with(&expected), "{said}");
            server.process().kill();
            assert_eq!(server.stderr().lines().count(), 1);
        }
    }

    /// Runs a client that asks once, with system calls that fail as `inject` says, for the answers
    /// to `messages`, sorted.
    fn answers_with(inject: &str, name: &str, messages: &[&str]) -> Vec<String> {
        let server = Server::start(SERVERS[1], &["--quiet"]);
        let mut command = failing(inject);
        command.arg(program(name)).args(["--attempts=1", "--timeout=30"]);
        let mut client = Process::spawn(command.arg(server.address().to_string()).args(messages));
        assert_eq!((client.exit_code(), client.stderr()), (0, String::new()), "{name}: {inject}");
        let mut answers: Vec<String> = client.stdout().lines().map(Into::into).collect();
        answers.sort_unstable();
        answers
    }

    #[test]
    fn a_client_survives_a_signal_and_the_report_of_an_earlier_send() {
        if !can_trace() {
            return;
        }
        for name in ["udp-echo-client", "udp-threaded-client"] {
            for inject in ["recvfrom:error=EINTR:when=1..3", "sendto:error=ECONNREFUSED:when=1+2"] {
                assert_eq!(answers_with(inject, name, &["one", "two"]), ["ONE", "TWO"]);
            }
        }
    }

    #[test]
    fn a_client_with_fewer_threads_than_messages_sends_all_of_them() {
        if !can_trace() {
            return;
        }
        for refused in 1..=3 {
            let inject = format!("clone,clone3:error=EAGAIN:when={refused}+");
            let answers = answers_with(&inject, "udp-threaded-client", &["a", "b", "c", "d"]);
            assert_eq!(answers, ["A", "B", "C", "D"]);
        }
    }
}
