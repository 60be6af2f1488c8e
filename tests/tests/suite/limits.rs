//! Limits of the operating system: descriptors, threads, memory, disks. strace injects the errors
//! that a kernel seldom reports.

use crate::command_line::default_of;
use crate::support::*;
use std::thread;
use std::time::{Duration, Instant};

const SERVER: &str = "tcp-threaded-server";
const CLIENT: &str = "tcp-threaded-client";

#[test]
#[ignore = "needs strace"]
fn client_errors_cost_no_line_and_no_delay() {
    let [echo, threaded] = UDP_SERVERS;
    for (inject, names) in [
        // A connection that was aborted or, as Windows reports it, reset in the backlog.
        ("accept4:error=ECONNABORTED:when=1..5", &[SERVER][..]),
        ("accept4:error=ECONNRESET:when=1..5", &[SERVER]),
        // The client of an earlier reply has closed its socket, as Windows reports it.
        ("recvfrom:error=ECONNRESET:when=1..5", &[echo, threaded]),
        // A signal.
        ("recvfrom:error=EINTR:when=1..5", &["udp-basic-server", echo, threaded]),
        // An error that is not known, such as that of an expired TTL on Windows.
        ("accept4:error=EPERM:when=1+2", &[SERVER]),
        ("recvfrom:error=ENETRESET:when=1+2", &[echo, threaded]),
    ] {
        for name in names {
            let options = [&["--quiet"][..], &one_at_a_time(name, "3")].concat();
            let mut server = start_failing(inject, name, &options);
            (0..3).for_each(|_| request_any(name, server.address()));
            assert_eq!((server.exit_code(), server.stderr()), (0, String::new()), "{inject}");
        }
    }
}

#[test]
#[ignore = "needs strace"]
fn system_error_doubles_delay_until_success() {
    let check = |name: &str, call: &str, error: &str| {
        let started = Instant::now();
        let inject = format!("{call}:when=1..12");
        let mut server = start_failing(&inject, name, &one_at_a_time(name, "1"));
        request_any(name, server.address());
        assert_eq!(server.exit_code(), 0);
        let delays = || (0..10).map(|n| 1 << n).chain([1000, 1000]);
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(delays().sum()), "{name}: {took:?}");
        // After the second error there is one line per second, so that not all are logged.
        let stderr = server.stderr();
        let mut lines = delays().map(|delay| format!("{name}: {error}; retrying in {delay} ms"));
        assert!(stderr.lines().take(2).eq(lines.by_ref().take(2)), "{stderr}");
        assert!(stderr.lines().skip(2).all(|logged| lines.any(|line| line == logged)), "{stderr}");
        assert!(stderr.ends_with(" 1000 ms\n"), "{stderr}");
    };
    thread::scope(|scope| {
        let error = "cannot accept: Too many open files (os error 24)";
        scope.spawn(move || check(SERVER, "accept4:error=EMFILE", error));
        for name in ["udp-basic-server", UDP_SERVERS[0], UDP_SERVERS[1]] {
            let error = "cannot receive: Cannot allocate memory (os error 12)";
            scope.spawn(move || check(name, "recvfrom:error=ENOMEM", error));
        }
    });
}

#[test]
#[ignore = "needs strace"]
fn serves_with_workers_that_started() {
    for (name, running, line) in [
        (SERVER, 1, "cannot start another worker"),
        (UDP_SERVERS[1], 3, "cannot start worker 4 of 8"),
    ] {
        let inject = format!("clone,clone3:error=EAGAIN:when={running}+");
        let server = start_failing(&inject, name, &["--workers", "8", "--quiet"]);
        (0..2).for_each(|_| request_any(name, server.address()));
        let line = format!("{name}: {line}: Resource temporarily unavailable (os error 11)");
        assert_eq!(server.wait_for_error(""), Some(line));
    }
}

#[test]
#[ignore = "needs strace"]
fn client_gets_reply_behind_error() {
    // Later than the client would look once more before it gives up.
    let server = Process::start("udp-threaded-server", &["--quiet", "--delay=0.3"]);
    for (inject, attempts, timeout) in [
        // An earlier send was refused, which the next send or receive reports.
        ("sendto:error=ECONNREFUSED:when=1+2", "1", "30"),
        ("recvfrom:error=ECONNREFUSED:when=1", "1", "30"),
        // ICMP code 8 of type 3.
        ("recvfrom:error=ENONET:when=1", "1", "30"),
        // The table of a firewall is full; there is no route yet. Both pass.
        ("sendto:error=EPERM:when=1..2", "2", "1"),
        ("connect:error=ENETUNREACH:when=1", "9", "0.1"),
        // Only one of the threads can be started.
        ("clone,clone3:error=EAGAIN:when=2+", "1", "30"),
    ] {
        for name in UDP_CLIENTS {
            let mut client = failing(inject, name);
            client.args(["--attempts", attempts, "--timeout", timeout]);
            client.args([&server.address().to_string(), "one"]);
            assert_eq!(output_of(Process::spawn(&mut client)), "ONE\n");
        }
    }
}

#[test]
#[ignore = "needs strace"]
fn client_reports_permanent_error_at_once() {
    const INVALID: &str = "cannot send to SERVER: Invalid argument (os error 22)";
    // Not a timeout, although it has the same number.
    const MISSING: &str = "cannot start a thread: Resource temporarily unavailable (os error 11)";
    const BROKEN: &str = "connection to SERVER failed: Broken pipe (os error 32)";
    let server = Process::start(SERVER, &["--quiet"]);
    let address = server.address().to_string();
    let [echo, threaded] = UDP_CLIENTS;
    for (inject, names, message, error) in [
        ("sendto:error=EINVAL", &[echo, threaded][..], "one", INVALID),
        ("connect:error=EINVAL", &[echo, threaded], "one", INVALID),
        ("clone,clone3:error=EAGAIN", &[CLIENT, threaded], "one", MISSING),
        ("clone,clone3:error=EAGAIN", &[CLIENT], "-", MISSING),
        ("sendto:error=EPIPE", &[CLIENT], "-", BROKEN),
    ] {
        for name in names {
            let mut client = failing(inject, name);
            let mut client = Process::spawn(client.args(["--timeout=30", &address, message]));
            client.write(b"hello");
            assert_eq!(client.exit_code(), 1);
            let line = format!("{name}: {}\n", error.replace("SERVER", &address));
            assert_eq!(client.stderr(), line, "{inject}");
        }
    }
}

/// That the server does, `handlers::handler_gets_timeouts_and_nodelay` tests.
#[test]
#[ignore = "needs strace"]
fn client_sets_options() {
    let server = Process::start(SERVER, &["--quiet"]);
    let mut client = strace(&["-e", "trace=setsockopt"]);
    client.arg(program(CLIENT)).args([&server.address().to_string(), "x"]);
    let client = Process::spawn(&mut client);
    assert!(client.wait_for_error("SOL_TCP, TCP_NODELAY, [1], 4").is_some());
    // The first byte of the seconds, in octal.
    let seconds: u8 = default_of(CLIENT, "--timeout").parse().unwrap();
    for option in ["SO_RCVTIMEO", "SO_SNDTIMEO"] {
        let line = client.wait_for_error(option).expect(option);
        assert!(line.contains(&format!("\"\\{seconds:o}\\0")), "{line}");
    }
}
