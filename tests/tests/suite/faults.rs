//! The fault kit: each fault on a server that survives it, and on one with exactly this defect.

use crate::support::*;
use std::sync::mpsc;
use tests::candidates::CANDIDATES;
use tests::faults::Protocol::{Tcp, Udp};
use tests::faults::{FAULTS, Protocol, Target, Verdict, inject};
use tests::survival::{column, committed};

/// Injects faults into servers. A row is the fault, the server's defect or "", and the verdict.
fn assert_verdicts(protocol: Protocol, rows: &[[&str; 3]]) {
    thread::scope(|scope| {
        for [fault, defect, expected] in rows {
            scope.spawn(move || assert_verdict(fault, &mut server(protocol, defect), expected));
        }
    });
}

/// Injects a fault and asserts that the verdict contains these parts, which "…" separates.
#[track_caller]
fn assert_verdict(fault: &str, target: &mut Target, expected: &str) {
    let verdict = match inject(fault, target) {
        Verdict::Fails(symptom, details) => format!("{symptom}: {details}"),
        other => other.to_string(),
    };
    assert!(expected.split('…').all(|part| verdict.contains(part)), "{fault}: {verdict}");
}

/// Starts a server by its command, in which `{port}` stands for its port.
fn start(protocol: Protocol, command: &[impl ToString]) -> Target {
    let words: Vec<String> = command.iter().map(ToString::to_string).collect();
    let launch = move |port: u16| {
        let mut command = Command::new(&words[0]);
        command.args(words[1..].iter().map(|word| word.replace("{port}", &port.to_string())));
        command
    };
    Target::start(protocol, launch).unwrap()
}

fn server(protocol: Protocol, defect: &str) -> Target {
    start(protocol, &command(protocol, defect))
}

/// Returns the command by which the program of these tests is a server.
fn command(protocol: Protocol, defect: &str) -> [String; 4] {
    let program = env::current_exe().unwrap().to_string_lossy().into_owned();
    // The test `connections` runs, but no test has the last name.
    let server = format!("{protocol:?} 127.0.0.1:{{port}} {defect}");
    [program, "--nocapture".into(), "faults::connections".into(), server]
}

fn serve(server: &'static str) {
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(1); // Together with the kit.
    });
    let [protocol, address, defect] = server.splitn(3, ' ').collect::<Vec<_>>()[..] else {
        panic!("{server:?} is no server")
    };
    // Looking for a free port binds it, and a process that another test starts at that moment holds
    // it until it executes its program.
    wait_until("the port is free", || UdpSocket::bind(address).is_ok());
    match protocol {
        "Udp" => serve_datagrams(&UdpSocket::bind(address).unwrap(), defect),
        _ => serve_connections(&TcpListener::bind(address).unwrap(), defect),
    }
}

fn serve_datagrams(socket: &UdpSocket, defect: &str) {
    socket.set_read_timeout((defect == "times out").then_some(DEADLINE)).unwrap();
    let (queue, replies) = mpsc::channel::<(Vec<u8>, _)>();
    let sender = socket.try_clone().unwrap();
    thread::spawn(move || {
        for (reply, client) in replies {
            thread::sleep(Duration::from_millis(50)); // A database, for example.
            let _ = sender.send_to(&reply, client);
        }
    });
    let mut buffer = vec![0; 65_535];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer) {
            Err(_) if defect != "times out" => continue, // For example, that a client has departed.
            received => received.unwrap(),
        };
        let mut reply = buffer[..length].to_ascii_uppercase();
        match defect {
            "needs 1 byte" => assert!(length >= 1),
            "needs 2 bytes" => assert!(length >= 2),
            "cuts" => reply.truncate(1_024),
            "echoes" => reply = buffer[..length].to_vec(),
            "prints" => println!("{length}"),
            "logs" => drop(writeln!(io::stdout(), "{length}")),
            "queues" => {
                queue.send((reply, client)).unwrap();
                continue;
            }
            "replies to itself" => {}
            _ if client == socket.local_addr().unwrap() => continue,
            _ => {}
        }
        let sent = socket.send_to(&reply, client);
        assert!(sent.is_ok() || defect != "exits on error", "{sent:?}");
    }
}

fn serve_connections(listener: &TcpListener, defect: &'static str) {
    for number in 0.. {
        match listener.accept() {
            Ok(_) if defect == "refuses" && (100..600).contains(&number) => {}
            Ok((stream, _)) => match defect {
                "exits on read error" | "exits on write error" => handle(stream, defect).unwrap(),
                "serves in turn" => drop(handle(stream, defect)),
                _ => drop(thread::spawn(move || handle(stream, defect))),
            },
            Err(error) if defect == "exits on accept error" => panic!("{error}"),
            Err(_) if defect == "spins on accept error" => {}
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn handle(mut stream: TcpStream, defect: &str) -> io::Result<()> {
    stream.set_read_timeout((defect == "times out").then_some(DEADLINE))?;
    let (queue, replies) = mpsc::channel::<Vec<u8>>();
    if defect == "queues" {
        let mut writer = stream.try_clone()?;
        thread::spawn(move || replies.iter().try_for_each(|reply| writer.write_all(&reply)));
    }
    let mut buffer = [0; 1024];
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(0) if defect == "spins at end" => continue,
            Ok(0) if defect == "exits at end" => std::process::exit(3),
            Err(error) if defect == "exits on read error" => return Err(error),
            Ok(0) | Err(_) => return Ok(()),
            Ok(length) => length,
        };
        let mut reply = buffer[..length].to_ascii_uppercase();
        match defect {
            "sends CR" => reply = String::from_utf8_lossy(&reply).replace('\n', "\r\n").into(),
            "acknowledges" => reply = format!("{length} bytes\n").into(),
            "queues" => {
                queue.send(reply).unwrap();
                continue;
            }
            _ => {}
        }
        match stream.write_all(&reply) {
            Err(error) if defect == "exits on write error" => return Err(error),
            _ if defect == "reads once" => return Ok(()),
            _ => {}
        }
    }
}

#[test]
fn datagrams() {
    let rows = [
        ["empty-datagram", "", "survives"],
        ["empty-datagram", "needs 1 byte", "exits: …length >= 1"],
        ["one-byte-datagram", "", "survives"],
        ["one-byte-datagram", "needs 2 bytes", "exits: …length >= 2"],
        ["largest-datagram", "cuts", "loses data: lost …,…of "],
        ["largest-datagram", "echoes", "survives"],
        ["flood", "", "survives"],
        ["flood", "queues", "hangs: no reply afterwards"],
    ];
    assert_verdicts(Udp, &rows);
}

/// Also the server of all tests.
#[test]
fn connections() {
    if let Some(server) = env::args().find(|argument| argument.contains(" 127.0.0.1:")) {
        return serve(server.leak());
    }
    // Windows discards what was sent before a close with unread bytes.
    let lost = if cfg!(windows) { "loses data: " } else { "loses data: lost " };
    let rows = [
        ["disconnect", "", "survives"],
        ["half-close", "sends CR", "survives"],
        ["half-close", "reads once", lost],
        ["one-byte-at-a-time", "", "survives"],
        ["one-byte-at-a-time", "acknowledges", "survives"],
        ["one-byte-at-a-time", "reads once", lost],
        ["reset-while-reading", "exits on write error", "survives"],
        ["reset-while-reading", "exits on read error", "exits: exited"],
        ["reset-while-reading", "reads once", "not tried: the server closes"],
        ["reset-while-writing", "", "survives"],
        ["reset-while-writing", "exits on write error", "exits: exited"],
        ["silent-clients", "", "survives"],
        ["silent-clients", "serves in turn", "hangs: no reply"],
        ["client-that-never-reads", "", "survives"],
        ["client-that-never-reads", "serves in turn", "hangs: no reply"],
        ["client-that-never-reads", "queues", "grows: …64 MiB"],
    ];
    assert_verdicts(Tcp, &rows);
}

#[test]
fn faults_are_not_tried_when_server_no_longer_replies() {
    let not_tried = "not tried: the server no longer replies";
    let mut exits = server(Tcp, "exits at end");
    assert_verdict("disconnect", &mut exits, "exits: exited (…3)");
    assert_verdict("half-close", &mut exits, not_tried);
    // The kit neither sees the process of this server nor starts it again.
    let exits = server(Tcp, "exits on read error");
    let mut target = Target::running(Tcp, exits.address).unwrap();
    assert_verdict("half-close", &mut target, "survives");
    assert_verdict("reset-while-reading", &mut target, "exits: no longer listens");
    assert_verdict("half-close", &mut target, not_tried);
}

#[test]
fn command_line() {
    let run = |arguments: &str, code| {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_fault-kit"));
        command.args(arguments.split(' ')).timeout(DEADLINE);
        let output = command.assert().code(code).get_output().clone();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let list = run("--list", 0);
    let page = fs::read_to_string(repository("docs/pitfalls.md")).unwrap();
    for fault in FAULTS {
        assert!(list.contains(fault.name) && list.contains(fault.hint), "{list}");
        // That such a link leads to a heading is tested for all pages.
        assert!(page.contains(&format!("[{0}](#{0})", fault.name)), "{}", fault.name);
    }
    assert!(run("udp --help", 0).contains("--only NAME"));
    for wrong in [
        "udp",
        "sctp 127.0.0.1:1",
        "tcp 192.0.2.1:80",
        "tcp 0.0.0.0:80",
        "tcp 127.0.0.1",
        "tcp 127.0.0.1:1 127.0.0.1:2",
        "tcp -- server",
        "--only half-close --only own-address tcp 127.0.0.1:1",
        "tcp 127.0.0.1:1 --only",
        "tcp --no-such-option 127.0.0.1:1",
    ] {
        assert!(run(wrong, 2).starts_with("fault-kit: "));
    }
    assert!(run("udp -- /no/such/program {port}", 1).starts_with("fault-kit: cannot start"));
    let server = server(Tcp, "reads once");
    let only_output = format!("tcp {} --only closed-output", server.address);
    let output = run(&only_output, 0);
    assert!(output.ends_with("\n0 survived, 0 failed, 1 not tried\n"), "{output}");
    let output = run(&format!("{only_output} --only half-close"), 1);
    assert!(output.contains("FAILS: ") && output.contains("docs/pitfalls.md#half-close"));
    assert!(output.contains("not tried: needs the command"), "{output}");
}

#[test]
#[ignore = "needs python3"]
fn departed_client() {
    const SERVER: &str = "\
import sys; from socket import *
server = socket(AF_INET, SOCK_DGRAM)
server.bind(('127.0.0.1', int(sys.argv[1])))
server.setsockopt(IPPROTO_IP, 11, 1)  # IP_RECVERR: ICMP errors are reported, as on Windows
while True:
    try:
        server.sendto(*server.recvfrom(1024))
    except eval(sys.argv[2]):
        pass
";
    let server = |ignored| start(Udp, &["python3", "-c", SERVER, "{port}", ignored]);
    assert_verdict("departed-client", &mut server("ConnectionRefusedError"), "survives");
    assert_verdict("departed-client", &mut server("()"), "exits: …Connection refused");
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    /// The kit is a process as well, because either side needs a descriptor for each connection. That
    /// a server survives this, `load::ours_survive_every_fault` tests.
    #[test]
    fn burst_of_connections() {
        let _lock = use_all_cores();
        let mut kit = assert_cmd::Command::new(env!("CARGO_BIN_EXE_fault-kit"));
        kit.args(["tcp", "--only", "burst-of-connections", "--"]);
        kit.args(command(Tcp, "refuses")).timeout(DEADLINE);
        kit.assert().code(1).stdout(predicates::str::contains(" of 1,000 clients got no reply\n"));
    }

    #[test]
    fn processes() {
        let rows = [
            ["disconnect", "spins at end", "spins: uses a whole core while idle"],
            ["descriptors-exhausted", "", "survives"],
            ["descriptors-exhausted", "exits on accept error", "exits: …os error 24"],
            ["descriptors-exhausted", "spins on accept error", "spins: uses a whole core"],
            ["suspend-and-resume", "", "survives"],
            ["suspend-and-resume", "times out", "loses data: closed without a reply"],
        ];
        assert_verdicts(Tcp, &rows);
        let rows = [
            ["suspend-and-resume", "", "survives"],
            ["suspend-and-resume", "times out", "exits: …Interrupted"],
            ["closed-output", "", "not tried: the server writes nothing"],
            ["closed-output", "logs", "survives"],
            ["closed-output", "prints", "exits: exited"],
        ];
        assert_verdicts(Udp, &rows);
    }

    /// Such as that of `go run`, which is not the process that was started.
    #[test]
    fn descendants_are_observed_and_killed() {
        let server = program("tcp-threaded-server").to_string_lossy().into_owned();
        let mut target = start(Tcp, &["sh", "-c", "\"$0\" \"$1\"; true", &server, ":{port}"]);
        assert_verdict("suspend-and-resume", &mut target, "survives");
        let address = target.address;
        drop(target);
        wait_until("the server is killed", || TcpStream::connect(address).is_err());
    }
}

mod needs_root {
    use super::*;

    #[test]
    #[ignore = "needs root and python3"]
    fn forged_datagrams() {
        let rows = [
            ["source-port-0", "", "survives"],
            ["source-port-0", "exits on error", "exits: …Invalid argument"],
            ["own-address", "", "survives"],
        ];
        assert_verdicts(Udp, &rows);
        let mut server = server(Udp, "replies to itself");
        let mut target = Target::running(Udp, server.address).unwrap();
        assert_verdict("own-address", &mut target, "spins: replied to itself … times in 0.5 s");
        // The kit has stopped the loop.
        assert_verdict("one-byte-datagram", &mut server, "survives");
    }

    /// The other columns depend on toolchains that are not everywhere.
    #[test]
    #[ignore = "needs root and python3"]
    fn our_columns_of_the_survival_table_are_current() {
        for candidate in CANDIDATES.iter().filter(|candidate| candidate.is_ours()) {
            assert_eq!(committed(candidate), column(candidate).unwrap(), "{}", candidate.name);
        }
    }
}
