//! The fault kit: each fault on a server that survives it, and on one with exactly this defect.

use crate::support::repository;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use tests::DEADLINE;
use tests::competitors::CANDIDATES;
use tests::faults::{FAULTS, Protocol, Symptom, Target, Verdict, inject};
use tests::survival::{column, committed};

#[track_caller]
fn assert_survives(verdict: Verdict) {
    assert!(matches!(verdict, Verdict::Survives(_)), "{verdict}");
}

#[track_caller]
fn assert_fails(verdict: Verdict, symptom: Symptom, details: &str) {
    match verdict {
        Verdict::Fails(actual, text) => {
            assert_eq!(actual, symptom, "{text}");
            assert!(text.contains(details), "{text}");
        }
        other => panic!("{other}"),
    }
}

/// Injects a fault into a server of this process.
fn running(protocol: Protocol, address: SocketAddr, fault: &str) -> Verdict {
    inject(fault, &mut Target::running(protocol, address).unwrap())
}

/// Serves datagrams in a thread until `handle` fails.
fn udp(
    mut handle: impl FnMut(&UdpSocket, &mut [u8], SocketAddr) -> io::Result<()> + Send + 'static,
) -> SocketAddr {
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
    address
}

fn reply(socket: &UdpSocket, request: &mut [u8], client: SocketAddr) -> io::Result<()> {
    request.make_ascii_uppercase();
    socket.send_to(request, client).map(drop)
}

/// Hands connections to `serve` in a thread until it fails.
fn tcp(serve: impl Fn(TcpStream) -> io::Result<()> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || while serve(listener.accept().unwrap().0).is_ok() {});
    address
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
fn empty_datagram() {
    assert_survives(running(Protocol::Udp, udp(reply), "empty-datagram"));
    let silent = udp(|socket, request, client| match request.is_empty() {
        true => Ok(()),
        false => reply(socket, request, client),
    });
    let verdict = running(Protocol::Udp, silent, "empty-datagram");
    assert_eq!(verdict.to_string(), "survives (no reply to it)");
    let stops = udp(|socket, request, client| match request.is_empty() {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => reply(socket, request, client),
    });
    assert_fails(
        running(Protocol::Udp, stops, "empty-datagram"),
        Symptom::Exits,
        "no longer listens",
    );
}

#[test]
fn one_byte_datagram() {
    assert_survives(running(Protocol::Udp, udp(reply), "one-byte-datagram"));
    let parses = udp(|socket, request, client| {
        let _header = request.first_chunk::<2>().ok_or(io::ErrorKind::InvalidData)?;
        reply(socket, request, client)
    });
    assert_fails(running(Protocol::Udp, parses, "one-byte-datagram"), Symptom::Exits, "");
}

#[test]
fn largest_datagram() {
    assert_survives(running(Protocol::Udp, udp(reply), "largest-datagram"));
    let cuts = udp(|socket, request, client| {
        let length = request.len().min(1_024);
        reply(socket, &mut request[..length], client)
    });
    let verdict = running(Protocol::Udp, cuts, "largest-datagram");
    assert_fails(
        verdict,
        Symptom::LosesData,
        if cfg!(target_vendor = "apple") { "" } else { "lost 64,483 of 65,507 bytes" },
    );
}

#[test]
fn flood() {
    assert_survives(running(Protocol::Udp, udp(reply), "flood"));
    let (queue, requests) = mpsc::channel();
    let queues = udp(move |socket, request, client| {
        let _ = queue.send((socket.try_clone()?, request.to_vec(), client));
        Ok(())
    });
    thread::spawn(move || {
        for (socket, mut request, client) in requests {
            thread::sleep(Duration::from_millis(50)); // A database, for example.
            let _ = reply(&socket, &mut request, client);
        }
    });
    assert_fails(running(Protocol::Udp, queues, "flood"), Symptom::Hangs, "no reply afterwards");
}

#[test]
fn half_close_and_one_byte_at_a_time() {
    let fails = ["lost 63,", "lost 18 of 19 bytes"];
    for (fault, details) in ["half-close", "one-byte-at-a-time"].into_iter().zip(fails) {
        assert_survives(running(Protocol::Tcp, tcp(concurrent), fault));
        assert_fails(running(Protocol::Tcp, tcp(one_read), fault), Symptom::LosesData, details);
    }
}

#[test]
fn reset_while_reading() {
    assert_survives(running(Protocol::Tcp, tcp(concurrent), "reset-while-reading"));
    let verdict = running(Protocol::Tcp, tcp(echo), "reset-while-reading");
    assert_fails(verdict, Symptom::Exits, "no longer listens");
    let verdict = running(Protocol::Tcp, tcp(one_read), "reset-while-reading");
    assert!(matches!(verdict, Verdict::NotTried(_)), "{verdict}");
}

#[test]
fn reset_while_writing() {
    assert_survives(running(Protocol::Tcp, tcp(concurrent), "reset-while-writing"));
    let exits = tcp(|mut stream| {
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..length])?;
        }
        Ok(())
    });
    let verdict = running(Protocol::Tcp, exits, "reset-while-writing");
    assert_fails(verdict, Symptom::Exits, "no longer listens");
}

#[test]
fn silent_clients() {
    assert_survives(running(Protocol::Tcp, tcp(concurrent), "silent-clients"));
    let verdict = running(Protocol::Tcp, tcp(sequential), "silent-clients");
    assert_fails(verdict, Symptom::Hangs, "no reply beside ");
}

#[test]
fn client_that_never_reads() {
    assert_survives(running(Protocol::Tcp, tcp(concurrent), "client-that-never-reads"));
    let verdict = running(Protocol::Tcp, tcp(sequential), "client-that-never-reads");
    assert_fails(verdict, Symptom::Hangs, "no reply beside a client that never reads");
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
    let verdict = running(Protocol::Tcp, stores, "client-that-never-reads");
    assert_fails(verdict, Symptom::Grows, "64 MiB");
}

#[test]
fn burst_of_connections() {
    let verdict = running(Protocol::Tcp, tcp(concurrent), "burst-of-connections");
    assert!(verdict.to_string().starts_with("survives (1,000 connections in "), "{verdict}");
    let (served, limited) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let refuses = tcp(move |stream| match served.fetch_add(1, Ordering::Relaxed) {
        100..600 => {
            limited.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        _ => concurrent(stream),
    });
    let verdict = running(Protocol::Tcp, refuses, "burst-of-connections");
    assert_fails(verdict, Symptom::DropsClients, "500 of 1,000 clients got no reply");
}

#[test]
fn servers_of_any_reply_can_be_checked() {
    let echo = udp(|socket, request, client| socket.send_to(request, client).map(drop));
    assert_survives(running(Protocol::Udp, echo, "largest-datagram"));
    let other = udp(|socket, _, client| socket.send_to(b"ok", client).map(drop));
    assert_survives(running(Protocol::Udp, other, "largest-datagram"));
    let lines = tcp(|stream| {
        thread::spawn(move || -> io::Result<()> {
            for line in io::BufRead::lines(io::BufReader::new(&stream)) {
                (&stream).write_all(format!("{}\r\n", line?.to_uppercase()).as_bytes())?;
            }
            Ok(())
        });
        Ok(())
    });
    for fault in ["half-close", "one-byte-at-a-time", "reset-while-writing"] {
        assert_survives(running(Protocol::Tcp, lines, fault));
    }
}

#[test]
fn fault_is_not_tried_when_server_no_longer_replies() {
    let mut target = Target::running(Protocol::Tcp, tcp(echo)).unwrap();
    assert_fails(inject("reset-while-reading", &mut target), Symptom::Exits, "");
    let verdict = inject("half-close", &mut target);
    assert_eq!(verdict, Verdict::NotTried("the server no longer replies".into()));
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
        &["tcp", "127.0.0.1:1", "--only"],
        &["tcp", "--no-such-option", "127.0.0.1:1"],
    ] {
        assert!(check(wrong, 2).starts_with("check: "));
    }
    let server = tcp(one_read).to_string();
    let output = check(&["tcp", &server, "--only", "half-close"], 1);
    assert!(output.contains("FAILS: lost") && output.contains("docs/pitfalls.md#half-close"));
    let output = check(&["--only", "closed-output", "tcp", &server], 0);
    assert!(output.contains("not tried: needs the command"), "{output}");
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
    use std::env;
    use std::time::Instant;

    /// Injects a fault into a process that runs `serve`.
    fn child(protocol: Protocol, defect: &'static str, fault: &str) -> Verdict {
        let module = module_path!().split_once("::").unwrap().1;
        let launch = move |port: u16| {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--exact", &format!("{module}::disconnect"), "--nocapture"]);
            command.env("FAULTS_SERVER", format!("{protocol:?} 127.0.0.1:{port} {defect}"));
            command
        };
        inject(fault, &mut Target::start(protocol, launch).unwrap())
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
            let (mut stream, _) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(_) if defect == "accept spins" => continue,
                Err(error) if defect == "accept exits" => panic!("{error}"),
                Err(_) => {
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            stream.set_read_timeout(timeout).unwrap();
            let ignores_end = defect == "ignores end";
            let spawned = thread::Builder::new().spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(length) = stream.read(&mut buffer) {
                    log(length);
                    if length == 0 && !ignores_end {
                        break;
                    }
                    let _ = stream.write_all(&buffer[..length]);
                }
            });
            spawned.unwrap();
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
        assert_survives(child(Protocol::Tcp, "", "disconnect"));
        let verdict = child(Protocol::Tcp, "ignores end", "disconnect");
        assert_fails(verdict, Symptom::Spins, "uses a whole core after clients have disconnected");
    }

    #[test]
    fn descriptors_exhausted() {
        let fault = "descriptors-exhausted";
        assert_survives(child(Protocol::Tcp, "", fault));
        assert_fails(child(Protocol::Tcp, "accept exits", fault), Symptom::Exits, "os error 24");
        let verdict = child(Protocol::Tcp, "accept spins", fault);
        assert_fails(
            verdict,
            Symptom::Spins,
            "uses a whole core while its descriptors are exhausted",
        );
    }

    #[test]
    fn suspend_and_resume() {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            assert_survives(child(protocol, "", "suspend-and-resume"));
        }
        let verdict = child(Protocol::Udp, "times out", "suspend-and-resume");
        assert_fails(verdict, Symptom::Exits, "Interrupted");
        let verdict = child(Protocol::Tcp, "times out", "suspend-and-resume");
        assert_fails(verdict, Symptom::LosesData, "without a reply after SIGCONT");
    }

    #[test]
    fn closed_output() {
        for (protocol, server) in [(Protocol::Udp, "udp-echo"), (Protocol::Tcp, "tcp-threaded")] {
            let verdict = |options: &'static [&str]| {
                let program = tests::program(&format!("{server}-server"));
                let launch = move |port: u16| {
                    let mut command = Command::new(&program);
                    command.arg(format!(":{port}")).args(options);
                    command
                };
                inject("closed-output", &mut Target::start(protocol, launch).unwrap())
            };
            assert_survives(verdict(&[]));
            assert!(matches!(verdict(&["--quiet"]), Verdict::NotTried(_)));
            // Ends the process, or only the thread that serves the connection.
            // A process that another test starts may keep the pipe open until it executes its program.
            let verdict = || child(protocol, "prints", "closed-output");
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
        let mut target = Target::start(Protocol::Tcp, launch).unwrap();
        assert_survives(inject("suspend-and-resume", &mut target));
        let address = target.address();
        drop(target);
        let start = Instant::now();
        while TcpStream::connect(address).is_ok() {
            assert!(start.elapsed() < DEADLINE, "the server is still running");
        }
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
    let start = |survives: &'static str| {
        let launch = move |port: u16| {
            let mut command = Command::new("python3");
            command.args(["-c", SERVER, &port.to_string(), survives]);
            command
        };
        inject("departed-client", &mut Target::start(Protocol::Udp, launch).unwrap())
    };
    assert_survives(start("ConnectionRefusedError"));
    assert_fails(start("()"), Symptom::Exits, "Connection refused");
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
        assert_survives(running(
            Protocol::Udp,
            udp(|s, r, c| reply(s, r, c).or(Ok(()))),
            "source-port-0",
        ));
        let verdict = running(Protocol::Udp, udp(reply), "source-port-0");
        assert_fails(verdict, Symptom::Exits, "no longer listens");
    }

    #[test]
    #[ignore = "needs root and python3"]
    fn own_address() {
        let guarded =
            udp(|socket, request, client| match client.port() == socket.local_addr()?.port() {
                true => Ok(()),
                false => reply(socket, request, client),
            });
        assert_survives(running(Protocol::Udp, guarded, "own-address"));
        let mut target = Target::running(Protocol::Udp, udp(reply)).unwrap();
        let verdict = inject("own-address", &mut target);
        assert_fails(verdict, Symptom::Spins, "times in 0.5 s");
        // The kit has stopped the loop.
        let verdict = inject("own-address", &mut target);
        assert_fails(verdict, Symptom::Spins, "times in 0.5 s");
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
