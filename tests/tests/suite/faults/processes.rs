//! Faults that need a server in a process of its own.

use super::{assert_verdict, reply, start};
use crate::support::{use_all_cores, wait_until};
use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use tests::DEADLINE;
use tests::faults::{Protocol, Target, Verdict, inject};

/// Starts a process that runs `serve`.
fn child(protocol: Protocol, defect: &str) -> Target {
    let [test, server] = names(protocol, defect);
    start(protocol, env::current_exe().unwrap(), &["--exact", "--nocapture", &test, &server])
}

/// Returns the names of tests to which a process that runs `serve` is limited. The second is no test.
fn names(protocol: Protocol, defect: &str) -> [String; 2] {
    let module = module_path!().split_once("::").unwrap().1;
    let server = format!("{protocol:?} 127.0.0.1:{{port}} {defect}");
    [format!("{module}::disconnect"), server]
}

fn serve(protocol: &str, address: &str, defect: &'static str) {
    static ACCEPTED: AtomicUsize = AtomicUsize::new(0);
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
        let accepted = ACCEPTED.fetch_add(1, Relaxed);
        if defect == "refuses" && (100..600).contains(&accepted) {
            continue;
        }
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
    if let Some(server) = env::args().find(|argument| argument.contains(" 127.0.0.1:")) {
        let mut words = String::leak(server).splitn(3, ' ');
        let mut next = || words.next().unwrap();
        return serve(next(), next(), next());
    }
    assert_verdict("disconnect", child(Protocol::Tcp, ""), "survives");
    let spins = "spins: uses a whole core after clients have disconnected";
    assert_verdict("disconnect", child(Protocol::Tcp, "ignores end"), spins);
    let mut exits = child(Protocol::Tcp, "exits at end");
    assert_verdict("disconnect", &mut exits, "exits: exited with code 3");
    assert_verdict("half-close", exits, "not tried: the server exits after any client");
}

/// The kit is a process as well, because either side needs a descriptor for each connection.
#[test]
fn burst_of_connections() {
    let _lock = use_all_cores();
    let verdicts =
        [("", 0, " survives ("), ("refuses", 1, " FAILS: 500 of 1,000 clients got no reply")];
    for (defect, code, verdict) in verdicts {
        let mut kit = assert_cmd::Command::new(env!("CARGO_BIN_EXE_tests"));
        kit.args(["check", "tcp", "--only", "burst-of-connections", "--"]);
        kit.arg(env::current_exe().unwrap()).args(["--exact", "--nocapture"]);
        kit.args(names(Protocol::Tcp, defect)).timeout(DEADLINE);
        kit.assert().code(code).stdout(predicates::str::contains(verdict));
    }
}

#[test]
fn descriptors_exhausted() {
    let fault = "descriptors-exhausted";
    assert_verdict(fault, child(Protocol::Tcp, ""), "survives");
    assert_verdict(fault, child(Protocol::Tcp, "accept exits"), "exits: …os error 24");
    let spins = "spins: uses a whole core while its descriptors are exhausted";
    assert_verdict(fault, child(Protocol::Tcp, "accept spins"), spins);
}

#[test]
fn suspend_and_resume() {
    for (protocol, fails) in [
        (Protocol::Udp, "exits: …Interrupted"),
        (Protocol::Tcp, "loses data: …without a reply after SIGCONT"),
    ] {
        assert_verdict("suspend-and-resume", child(protocol, ""), "survives");
        assert_verdict("suspend-and-resume", child(protocol, "times out"), fails);
    }
}

#[test]
fn closed_output() {
    for (protocol, server) in [(Protocol::Udp, "udp-echo"), (Protocol::Tcp, "tcp-threaded")] {
        let program = tests::program(&format!("{server}-server"));
        assert_verdict("closed-output", start(protocol, program.clone(), &[":{port}"]), "survives");
        let quiet = start(protocol, program, &[":{port}", "--quiet"]);
        assert_verdict("closed-output", quiet, "not tried: the server writes nothing");
        // Ends the process, or only the thread that serves the connection.
        // A process that another test starts may keep the pipe open until it executes its program.
        let verdict = || inject("closed-output", &mut child(protocol, "prints"));
        assert!((0..3).any(|_| matches!(verdict(), Verdict::Fails(..))), "{protocol:?}");
    }
}

/// Such as that of `go run`, which is not the process that was started.
#[test]
fn descendants_are_observed_and_killed() {
    let server = tests::program("tcp-threaded-server").to_string_lossy().into_owned();
    let script = ["-c", "\"$0\" \"$1\"; true", &server, ":{port}"];
    let target = start(Protocol::Tcp, "sh".into(), &script);
    let address = target.address();
    assert_verdict("suspend-and-resume", target, "survives");
    wait_until("the server is killed", || TcpStream::connect(address).is_err());
}
