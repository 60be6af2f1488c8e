//! Names that stand for several addresses: which of them are tried, and for how long.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};
use support::{not_run, said};
use tests::{PAIRS, Process, Server, program};

/// A program for which `several` is the name of ::1 and, tried after it, of 127.0.0.1.
fn several(program: PathBuf) -> Command {
    static HOSTS: OnceLock<PathBuf> = OnceLock::new();
    let hosts = HOSTS.get_or_init(|| {
        // Other processes may be reading the one that is there.
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hosts");
        let new = file.with_extension(process::id().to_string());
        fs::write(&new, "::1 several\n127.0.0.1 several\n").unwrap();
        fs::rename(new, &file).unwrap();
        file
    });
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]);
    command.arg(hosts).arg(program);
    command
}

/// Whether names can be given addresses here; they must where `CI` is set.
fn can_name() -> bool {
    let says = said(several("getent".into()).args(["ahosts", "several"]));
    let place = |address| says.find(address).unwrap_or(usize::MAX);
    place("::1 ") < place("127.0.0.1 ") && says.contains("127.0.0.1 ")
        || not_run("root and unshare", &says)
}

/// What a client prints, asking `several` for a port.
fn answer(client: &str, server: &Server, options: &[&str]) -> String {
    let address = format!("several:{}", server.address().port());
    let mut client = Process::spawn(several(program(client)).args(options).arg(address));
    assert_eq!((client.exit_code(), &*client.stderr()), (0, ""));
    client.stdout()
}

/// A server on 127.0.0.1, and a socket on the same port of ::1 that never answers.
fn server_behind_silence(name: &str, options: &[&str]) -> (Server, UdpSocket) {
    loop {
        let server = Server::start(name, options);
        // Somebody else may have that port there.
        if let Ok(silent) = UdpSocket::bind((Ipv6Addr::LOCALHOST, server.address().port())) {
            return (server, silent);
        }
    }
}

#[test]
fn a_client_finds_the_server_behind_the_second_address() {
    if !can_name() {
        return;
    }
    let server = Server::start("udp-basic-server", &["--count=3"]);
    let sent = format!("sent \"hello\" to {}\n", server.address());
    assert!(answer("udp-basic-client", &server, &[]).starts_with(&sent));
    assert_eq!(server.finish(), 0);
    let server = Server::start("udp-threaded-server", &[]);
    for client in ["udp-echo-client", "udp-threaded-client"] {
        assert_eq!(answer(client, &server, &["--attempts=1", "--timeout=30"]), "HELLO\n");
    }
    let server = Server::start("tcp-threaded-server", &[]);
    assert_eq!(answer("tcp-threaded-client", &server, &[]), "HELLO\n");
}

#[test]
fn a_first_address_that_is_silent_leaves_the_second_its_share_of_the_wait() {
    if !can_name() {
        return;
    }
    let (server, _silent) = server_behind_silence("udp-threaded-server", &["--delay=1.5"]);
    thread::scope(|scope| {
        for client in ["udp-echo-client", "udp-threaded-client"] {
            let (start, server) = (Instant::now(), &server);
            scope.spawn(move || {
                assert_eq!(answer(client, server, &["--attempts=1", "--timeout=6"]), "HELLO\n");
                assert!(start.elapsed() >= Duration::from_millis(4500));
            });
        }
    });
}

#[test]
fn a_server_listens_on_the_first_address_that_works() {
    if !can_name() {
        return;
    }
    // Held on ::1 by both kinds of socket, and free on 127.0.0.1.
    let (taken, _too) = loop {
        let taken = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let is_free = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if let (true, Ok(too)) = (is_free, TcpListener::bind((Ipv6Addr::LOCALHOST, port))) {
            break (taken, too);
        }
    };
    let port = taken.local_addr().unwrap().port();
    for name in PAIRS.map(|pair| format!("{pair}-server")) {
        let first = Server::spawn(several(program(&name)).arg("several:0"));
        assert_eq!(first.address().ip(), Ipv6Addr::LOCALHOST);
        let second = Server::spawn(several(program(&name)).arg(format!("several:{port}")));
        assert_eq!(second.address(), (Ipv4Addr::LOCALHOST, port).into());
    }
}
