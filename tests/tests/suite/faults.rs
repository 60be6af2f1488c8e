//! The fault kit: each fault on a server that survives it, and on one with exactly this defect.

use crate::support::repository;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tests::DEADLINE;
use tests::competitors::CANDIDATES;
use tests::faults::{FAULTS, Protocol, Target, Verdict, inject, symptom};
use tests::survival::{column, committed};

/// Injects a fault into a server, and compares the start of the verdict.
#[track_caller]
fn assert_verdict(fault: &str, mut server: Target, expected: &str) {
    let verdict = inject(fault, &mut server).to_string();
    assert!(verdict.starts_with(expected), "{verdict}");
}

#[track_caller]
fn assert_survives(fault: &str, server: Target) {
    assert_verdict(fault, server, "survives");
}

#[track_caller]
fn assert_fails(fault: &str, mut server: Target, symptom: &str, details: &str) {
    match inject(fault, &mut server) {
        Verdict::Fails(actual, text) => {
            assert_eq!(actual, symptom, "{text}");
            assert!(text.contains(details), "{text}");
        }
        other => panic!("{other}"),
    }
}

/// Serves datagrams in a thread until `handle` fails.
fn udp(
    mut handle: impl FnMut(&UdpSocket, &mut [u8], SocketAddr) -> io::Result<()> + Send + 'static,
) -> Target {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 65_535];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).unwrap();
            if handle(&socket, &mut buffer[..length], client).is_err() {
                return;
            }
        }
    });
    Target::running(Protocol::Udp, address).unwrap()
}

fn reply(socket: &UdpSocket, request: &mut [u8], client: SocketAddr) -> io::Result<()> {
    request.make_ascii_uppercase();
    socket.send_to(request, client).map(drop)
}

/// Hands connections to `serve` in a thread until it fails.
fn tcp(serve: impl Fn(TcpStream) -> io::Result<()> + Send + 'static) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || while serve(listener.accept().unwrap().0).is_ok() {});
    Target::running(Protocol::Tcp, address).unwrap()
}

/// Replies in upper case until the end of the stream.
fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length].to_ascii_uppercase())?;
    }
}

/// Serves each connection in a thread of its own.
fn concurrent(stream: TcpStream) -> io::Result<()> {
    thread::Builder::new().spawn(move || echo(stream)).map(drop)
}

/// Serves one connection after the other, and survives their errors.
fn sequential(stream: TcpStream) -> io::Result<()> {
    let _ = echo(stream);
    Ok(())
}

/// Takes the first bytes for the whole request.
fn one_read(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    let length = stream.read(&mut buffer)?;
    let _ = stream.write_all(&buffer[..length]);
    Ok(())
}

#[test]
fn datagrams_of_extreme_sizes() {
    for fault in ["empty-datagram", "one-byte-datagram", "largest-datagram", "flood"] {
        assert_survives(fault, udp(reply));
    }
    let silent = udp(|socket, request, client| match request.is_empty() {
        true => Ok(()),
        false => reply(socket, request, client),
    });
    assert_verdict("empty-datagram", silent, "survives (no reply to it)");
    for (fault, shortest) in [("empty-datagram", 1), ("one-byte-datagram", 2)] {
        let stops = udp(move |socket, request, client| match request.len() < shortest {
            true => Err(ErrorKind::UnexpectedEof.into()),
            false => reply(socket, request, client),
        });
        assert_fails(fault, stops, symptom::EXITS, "no longer listens");
    }
    let cuts = udp(|socket, request, client| {
        let length = request.len().min(1_024);
        reply(socket, &mut request[..length], client)
    });
    let lost = if cfg!(target_vendor = "apple") { "lost" } else { "lost 64,483 of 65,507 bytes" };
    assert_fails("largest-datagram", cuts, symptom::LOSES_DATA, lost);
}

#[test]
fn flood() {
    let (queue, requests) = mpsc::channel::<(UdpSocket, Vec<u8>, SocketAddr)>();
    thread::spawn(move || {
        for (socket, mut request, client) in requests {
            thread::sleep(Duration::from_millis(50)); // A database, for example.
            let _ = reply(&socket, &mut request, client);
        }
    });
    let queues = udp(move |socket, request, client| {
        let _ = queue.send((socket.try_clone()?, request.to_vec(), client));
        Ok(())
    });
    assert_fails("flood", queues, symptom::HANGS, "no reply afterwards");
}

#[test]
fn half_close_and_one_byte_at_a_time() {
    for (fault, lost) in [("half-close", "lost 63,"), ("one-byte-at-a-time", "lost 18 of 19 bytes")]
    {
        assert_survives(fault, tcp(concurrent));
        assert_fails(fault, tcp(one_read), symptom::LOSES_DATA, lost);
    }
}

#[test]
fn resets() {
    assert_survives("reset-while-reading", tcp(concurrent));
    assert_survives("reset-while-writing", tcp(concurrent));
    assert_fails("reset-while-reading", tcp(echo), symptom::EXITS, "no longer listens");
    let exits_on_write = tcp(|mut stream| {
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..length])?;
        }
        Ok(())
    });
    assert_fails("reset-while-writing", exits_on_write, symptom::EXITS, "no longer listens");
    assert_verdict("reset-while-reading", tcp(one_read), "not tried: the server closes");
}

#[test]
fn silent_clients() {
    assert_survives("silent-clients", tcp(concurrent));
    assert_fails("silent-clients", tcp(sequential), symptom::HANGS, "no reply beside ");
}

#[test]
fn client_that_never_reads() {
    let fault = "client-that-never-reads";
    assert_survives(fault, tcp(concurrent));
    assert_fails(
        fault,
        tcp(sequential),
        symptom::HANGS,
        "no reply beside a client that never reads",
    );
    let stores = tcp(|mut stream| {
        let (queue, replies) = mpsc::channel::<Vec<u8>>();
        let mut writer = stream.try_clone()?;
        thread::spawn(move || replies.iter().try_for_each(|reply| writer.write_all(&reply)));
        thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                let _ = queue.send(buffer[..length].to_vec());
            }
        });
        Ok(())
    });
    assert_fails(fault, stores, symptom::GROWS, "64 MiB");
}

#[test]
fn burst_of_connections() {
    let fault = "burst-of-connections";
    assert_verdict(fault, tcp(concurrent), "survives (1,000 connections in ");
    let served = AtomicUsize::new(0);
    let refuses = tcp(move |stream| match served.fetch_add(1, Ordering::Relaxed) {
        100..600 => Ok(()),
        _ => concurrent(stream),
    });
    assert_fails(fault, refuses, symptom::DROPS_CLIENTS, "500 of 1,000 clients got no reply");
}

#[test]
fn servers_of_any_reply_can_be_checked() {
    let echo = udp(|socket, request, client| socket.send_to(request, client).map(drop));
    assert_survives("largest-datagram", echo);
    let other = udp(|socket, _, client| socket.send_to(b"ok", client).map(drop));
    assert_survives("largest-datagram", other);
    let lines = |reply: fn(String) -> String| {
        tcp(move |stream| {
            thread::spawn(move || -> io::Result<()> {
                for line in BufReader::new(&stream).lines() {
                    (&stream).write_all(format!("{}\r\n", reply(line?)).as_bytes())?;
                }
                Ok(())
            });
            Ok(())
        })
    };
    for fault in ["half-close", "one-byte-at-a-time", "reset-while-writing"] {
        assert_survives(fault, lines(|line| line.to_uppercase()));
        assert_survives(fault, lines(|line| format!("{} bytes", line.len())));
    }
}

#[test]
fn fault_is_not_tried_when_server_no_longer_replies() {
    let mut target = tcp(echo);
    let verdict = inject("reset-while-reading", &mut target);
    assert!(matches!(verdict, Verdict::Fails(symptom::EXITS, _)), "{verdict}");
    assert_verdict("half-close", target, "not tried: the server no longer replies");
}

#[test]
fn command_line() {
    let check = |arguments: &[&str], code| {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_tests"));
        let assert = command.arg("check").args(arguments).timeout(DEADLINE).assert();
        let output = assert.code(code).get_output().clone();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let list = check(&["--list"], 0);
    assert!(FAULTS.iter().all(|fault| list.contains(fault.name) && list.contains(fault.hint)));
    assert!(check(&["udp", "--help"], 0).contains("--only NAME"));
    for wrong in [
        &["udp"][..],
        &["sctp", "127.0.0.1:1"],
        &["tcp", "192.0.2.1:80"],
        &["tcp", "0.0.0.0:80"],
        &["tcp", "127.0.0.1"],
        &["tcp", "127.0.0.1:1", "127.0.0.1:2"],
        &["tcp", "--", "server"],
        &["--only", "own-address", "tcp", "127.0.0.1:1"],
        &["--only", "half-close", "--only", "own-address", "tcp", "127.0.0.1:1"],
        &["tcp", "127.0.0.1:1", "--only"],
        &["tcp", "--no-such-option", "127.0.0.1:1"],
    ] {
        assert!(check(wrong, 2).starts_with("check: "));
    }
    let server = tcp(one_read).address().to_string();
    let output = check(&["tcp", &server, "--only", "half-close", "--only", "closed-output"], 1);
    assert!(output.contains("FAILS: lost") && output.contains("docs/pitfalls.md#half-close"));
    assert!(output.contains("not tried: needs the command"), "{output}");
    assert_eq!(check(&["tcp", &server, "--only", "closed-output"], 0).lines().count(), 2);
    let missing = check(&["udp", "--", "/no/such/program", "{port}"], 1);
    assert!(missing.starts_with("check: cannot start"), "{missing}");
    let server = tests::program("udp-echo-server").to_string_lossy().into_owned();
    let output = check(&["--only", "one-byte-datagram", "udp", "--", &server, ":{port}"], 0);
    assert!(output.contains("one-byte-datagram       survives\n"), "{output}");
}

/// Servers that are processes of their own.
#[cfg(target_os = "linux")]
mod processes {
    use super::*;
    use crate::support::wait_until;
    use std::env;

    /// Starts a process that runs `serve`.
    fn child(protocol: Protocol, defect: &'static str) -> Target {
        let module = module_path!().split_once("::").unwrap().1;
        let launch = move |port: u16| {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--exact", &format!("{module}::disconnect"), "--nocapture"]);
            command.env("FAULTS_SERVER", format!("{protocol:?} 127.0.0.1:{port} {defect}"));
            command
        };
        Target::start(protocol, launch).unwrap()
    }

    fn serve(protocol: &str, address: &str, defect: &'static str) {
        let timeout = (defect == "times out").then_some(DEADLINE);
        let log = move |length: usize| {
            if defect == "prints" {
                println!("{length}");
            }
        };
        if protocol == "Udp" {
            let socket = UdpSocket::bind(address).unwrap();
            socket.set_read_timeout(timeout).unwrap();
            let mut buffer = [0; 1024];
            loop {
                let (length, client) = socket.recv_from(&mut buffer).unwrap();
                log(length);
                reply(&socket, &mut buffer[..length], client).unwrap();
            }
        }
        let listener = TcpListener::bind(address).unwrap();
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(_) if defect == "accept spins" => continue,
                Err(error) if defect == "accept exits" => panic!("{error}"),
                Err(_) => {
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            stream.set_read_timeout(timeout).unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(length) = stream.read(&mut buffer) {
                    log(length);
                    match length {
                        0 if defect == "exits at end" => std::process::exit(3),
                        0 if defect != "ignores end" => break,
                        _ => drop(stream.write_all(&buffer[..length])),
                    }
                }
            });
        }
    }

    /// Also the server of the other tests.
    #[test]
    fn disconnect() {
        if let Ok(server) = env::var("FAULTS_SERVER") {
            let mut words = String::leak(server).splitn(3, ' ');
            let mut next = || words.next().unwrap();
            return serve(next(), next(), next());
        }
        assert_survives("disconnect", child(Protocol::Tcp, ""));
        let spins = "uses a whole core after clients have disconnected";
        assert_fails("disconnect", child(Protocol::Tcp, "ignores end"), symptom::SPINS, spins);
        let mut exits = child(Protocol::Tcp, "exits at end");
        let verdict = inject("disconnect", &mut exits);
        assert_eq!(verdict, Verdict::Fails(symptom::EXITS, "exited with code 3".into()));
        assert_verdict("half-close", exits, "not tried: the server exits after any client");
    }

    #[test]
    fn descriptors_exhausted() {
        let fault = "descriptors-exhausted";
        assert_survives(fault, child(Protocol::Tcp, ""));
        assert_fails(fault, child(Protocol::Tcp, "accept exits"), symptom::EXITS, "os error 24");
        let spins = "uses a whole core while its descriptors are exhausted";
        assert_fails(fault, child(Protocol::Tcp, "accept spins"), symptom::SPINS, spins);
    }

    #[test]
    fn suspend_and_resume() {
        for (protocol, symptom, details) in [
            (Protocol::Udp, symptom::EXITS, "Interrupted"),
            (Protocol::Tcp, symptom::LOSES_DATA, "without a reply after SIGCONT"),
        ] {
            assert_survives("suspend-and-resume", child(protocol, ""));
            assert_fails("suspend-and-resume", child(protocol, "times out"), symptom, details);
        }
    }

    #[test]
    fn closed_output() {
        for (protocol, server) in [(Protocol::Udp, "udp-echo"), (Protocol::Tcp, "tcp-threaded")] {
            let ours = |options: &'static [&str]| {
                let program = tests::program(&format!("{server}-server"));
                let launch = move |port: u16| {
                    let mut command = Command::new(&program);
                    command.arg(format!(":{port}")).args(options);
                    command
                };
                Target::start(protocol, launch).unwrap()
            };
            assert_survives("closed-output", ours(&[]));
            assert_verdict("closed-output", ours(&["--quiet"]), "not tried: the server writes");
            // Ends the process, or only the thread that serves the connection.
            // A process that another test starts may keep the pipe open until it executes its program.
            let verdict = || inject("closed-output", &mut child(protocol, "prints"));
            assert!((0..3).any(|_| matches!(verdict(), Verdict::Fails(..))), "{protocol:?}");
        }
    }

    /// Such as that of `go run`, which is not the process that was started.
    #[test]
    fn descendants_are_observed_and_killed() {
        let server = tests::program("tcp-threaded-server");
        let launch = move |port: u16| {
            let mut shell = Command::new("sh");
            shell.args(["-c", "\"$0\" \"$@\"; true"]).arg(&server).arg(format!(":{port}"));
            shell
        };
        let target = Target::start(Protocol::Tcp, launch).unwrap();
        let address = target.address();
        assert_survives("suspend-and-resume", target);
        wait_until("the server is killed", || TcpStream::connect(address).is_err());
    }
}

#[test]
#[ignore = "needs python3"]
fn departed_client() {
    const SERVER: &str = "\
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('127.0.0.1', int(sys.argv[1])))
server.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: ICMP errors are reported, as on Windows
while True:
    try:
        data, client = server.recvfrom(1024)
        server.sendto(data, client)
    except eval(sys.argv[2]):
        pass
";
    let server = |ignores: &'static str| {
        let launch = move |port: u16| {
            let mut command = Command::new("python3");
            command.args(["-c", SERVER, &port.to_string(), ignores]);
            command
        };
        Target::start(Protocol::Udp, launch).unwrap()
    };
    assert_survives("departed-client", server("ConnectionRefusedError"));
    assert_fails("departed-client", server("()"), symptom::EXITS, "Connection refused");
}

#[test]
fn every_fault_has_a_heading_on_the_page_of_pitfalls() {
    let page = fs::read_to_string(repository("docs/pitfalls.md")).unwrap();
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| line.trim_matches(['#', ' ']).to_lowercase().replace(' ', "-");
    let anchors: Vec<String> = headings.map(anchor).collect();
    for fault in FAULTS {
        assert!(anchors.iter().any(|anchor| anchor == fault.name), "{}", fault.name);
    }
}

mod needs_root {
    use super::*;

    #[test]
    #[ignore = "needs root and python3"]
    fn source_port_0() {
        assert_survives("source-port-0", udp(|s, r, c| reply(s, r, c).or(Ok(()))));
        assert_fails("source-port-0", udp(reply), symptom::EXITS, "no longer listens");
    }

    #[test]
    #[ignore = "needs root and python3"]
    fn own_address() {
        let guarded =
            udp(|socket, request, client| match client.port() == socket.local_addr()?.port() {
                true => Ok(()),
                false => reply(socket, request, client),
            });
        assert_survives("own-address", guarded);
        // The kit stops the loop each time.
        let mut target = udp(reply);
        for _ in 0..2 {
            let verdict = inject("own-address", &mut target).to_string();
            assert!(verdict.starts_with("FAILS: replied to itself "), "{verdict}");
            assert!(verdict.ends_with(" times in 0.5 s"), "{verdict}");
        }
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
