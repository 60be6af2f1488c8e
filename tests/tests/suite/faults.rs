//! The fault kit: each fault on a server that survives it, and on one with exactly this defect.

#[cfg(target_os = "linux")]
mod processes;

use crate::support::repository;
use std::borrow::BorrowMut;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;
use tests::DEADLINE;
use tests::competitors::CANDIDATES;
use tests::faults::{FAULTS, Protocol, Target, Verdict, inject};
use tests::survival::{column, committed};

/// Injects a fault and asserts that the verdict contains these parts, which "…" separates.
#[track_caller]
fn assert_verdict(fault: &str, mut target: impl BorrowMut<Target>, expected: &str) {
    let verdict = match inject(fault, target.borrow_mut()) {
        Verdict::Fails(symptom, details) => format!("{symptom}: {details}"),
        other => other.to_string(),
    };
    assert!(expected.split('…').all(|part| verdict.contains(part)), "{fault}: {verdict}");
}

/// Starts a server as a process; `{port}` in the arguments stands for its port.
fn start(protocol: Protocol, program: PathBuf, arguments: &[&str]) -> Target {
    let arguments: Vec<String> = arguments.iter().map(|argument| argument.to_string()).collect();
    let launch = move |port: u16| {
        let mut command = Command::new(&program);
        command.args(arguments.iter().map(|word| word.replace("{port}", &port.to_string())));
        command
    };
    Target::start(protocol, launch).unwrap()
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
        assert_verdict(fault, udp(reply), "survives");
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
        assert_verdict(fault, stops, "exits: no longer listens");
    }
    let cuts = udp(|socket, request, client| {
        let length = request.len().min(1_024);
        reply(socket, &mut request[..length], client)
    });
    let sizes = if cfg!(target_vendor = "apple") { "" } else { "64,483 of 65,507 bytes" };
    assert_verdict("largest-datagram", cuts, &format!("loses data: lost {sizes}"));
}

#[test]
fn flood() {
    static SOCKET: OnceLock<UdpSocket> = OnceLock::new();
    let (queue, requests) = mpsc::channel::<(Vec<u8>, SocketAddr)>();
    thread::spawn(move || {
        for (mut request, client) in requests {
            thread::sleep(Duration::from_millis(50)); // A database, for example.
            let _ = reply(SOCKET.get().unwrap(), &mut request, client);
        }
    });
    let queues = udp(move |socket, request, client| {
        SOCKET.get_or_init(|| socket.try_clone().unwrap());
        let _ = queue.send((request.to_vec(), client));
        Ok(())
    });
    assert_verdict("flood", queues, "hangs: no reply afterwards");
}

#[test]
fn half_close_and_one_byte_at_a_time() {
    // Windows discards what was sent before a close with unread bytes.
    let lost = |lost| if cfg!(windows) { "loses data: " } else { lost };
    for (fault, lost) in [
        ("half-close", lost("loses data: lost 63,")),
        ("one-byte-at-a-time", lost("loses data: lost …of 19 bytes")),
    ] {
        assert_verdict(fault, tcp(concurrent), "survives");
        assert_verdict(fault, tcp(one_read), lost);
    }
}

#[test]
fn resets() {
    assert_verdict("reset-while-reading", tcp(concurrent), "survives");
    assert_verdict("reset-while-writing", tcp(concurrent), "survives");
    assert_verdict("reset-while-reading", tcp(echo), "exits: no longer listens");
    let exits_on_write = tcp(|mut stream| {
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..length])?;
        }
        Ok(())
    });
    assert_verdict("reset-while-writing", exits_on_write, "exits: no longer listens");
    assert_verdict("reset-while-reading", tcp(one_read), "not tried: the server closes");
}

#[test]
fn silent_clients() {
    assert_verdict("silent-clients", tcp(concurrent), "survives");
    assert_verdict("silent-clients", tcp(sequential), "hangs: no reply beside ");
}

#[test]
fn client_that_never_reads() {
    let fault = "client-that-never-reads";
    assert_verdict(fault, tcp(concurrent), "survives");
    assert_verdict(fault, tcp(sequential), "hangs: no reply beside a client that never reads");
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
    assert_verdict(fault, stores, "grows: …64 MiB");
}

#[test]
fn servers_of_any_reply_can_be_checked() {
    let echo = udp(|socket, request, client| socket.send_to(request, client).map(drop));
    assert_verdict("largest-datagram", echo, "survives");
    let other = udp(|socket, _, client| socket.send_to(b"ok", client).map(drop));
    assert_verdict("largest-datagram", other, "survives");
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
        assert_verdict(fault, lines(|line| line.to_uppercase()), "survives");
        assert_verdict(fault, lines(|line| format!("{} bytes", line.len())), "survives");
    }
}

#[test]
fn fault_is_not_tried_when_server_no_longer_replies() {
    let mut target = tcp(echo);
    assert_verdict("reset-while-reading", &mut target, "exits: no longer listens");
    assert_verdict("half-close", target, "not tried: the server no longer replies");
}

#[test]
fn command_line() {
    let run = |arguments: &[&str], code| {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_tests"));
        let assert = command.arg("check").args(arguments).timeout(DEADLINE).assert();
        let output = assert.code(code).get_output().clone();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let list = run(&["--list"], 0);
    assert!(FAULTS.iter().all(|fault| list.contains(fault.name) && list.contains(fault.hint)));
    assert!(run(&["udp", "--help"], 0).contains("--only NAME"));
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
        assert!(run(wrong, 2).starts_with("check: "));
    }
    let server = tcp(one_read).address().to_string();
    let output = run(&["tcp", &server, "--only", "half-close", "--only", "closed-output"], 1);
    assert!(output.contains("FAILS: ") && output.contains("docs/pitfalls.md#half-close"));
    assert!(output.contains("not tried: needs the command"), "{output}");
    let output = run(&["tcp", &server, "--only", "closed-output"], 0);
    assert!(output.ends_with("\n0 survived, 0 failed, 1 not tried\n"), "{output}");
    let missing = run(&["udp", "--", "/no/such/program", "{port}"], 1);
    assert!(missing.starts_with("check: cannot start"), "{missing}");
    let server = tests::program("udp-echo-server").to_string_lossy().into_owned();
    let output = run(&["--only", "one-byte-datagram", "udp", "--", &server, ":{port}"], 0);
    assert!(output.contains("one-byte-datagram       survives\n"), "{output}");
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
    let server =
        |ignored| start(Protocol::Udp, "python3".into(), &["-c", SERVER, "{port}", ignored]);
    assert_verdict("departed-client", server("ConnectionRefusedError"), "survives");
    assert_verdict("departed-client", server("()"), "exits: …Connection refused");
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
        assert_verdict("source-port-0", udp(|s, r, c| reply(s, r, c).or(Ok(()))), "survives");
        assert_verdict("source-port-0", udp(reply), "exits: no longer listens");
    }

    #[test]
    #[ignore = "needs root and python3"]
    fn own_address() {
        let guarded =
            udp(|socket, request, client| match client.port() == socket.local_addr()?.port() {
                true => Ok(()),
                false => reply(socket, request, client),
            });
        assert_verdict("own-address", guarded, "survives");
        // The kit stops the loop each time.
        let mut target = udp(reply);
        for _ in 0..2 {
            assert_verdict("own-address", &mut target, "spins: replied to itself … times in 0.5 s");
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
