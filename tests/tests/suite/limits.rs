//! Limits of the operating system: descriptors, threads, memory, disks. strace injects the errors
//! that a kernel seldom reports.

use crate::command_line::default_of;
use crate::support::*;
use std::thread;
use std::time::{Duration, Instant};

const SERVER: &str = "tcp-threaded-server";

#[test]
#[ignore = "needs strace"]
fn client_errors_cost_no_line_and_no_delay() {
    // A connection that was aborted or, as Windows reports it, reset in the backlog; an earlier
    // reply's client that has closed its socket, reported on Windows. An error that is not
    // known, such as that of an expired TTL on Windows, costs no line when quiet.
    for (name, error, when) in [
        (SERVER, "accept4:error=ECONNABORTED", "1..5"),
        (SERVER, "accept4:error=ECONNRESET", "1..5"),
        (SERVER, "accept4:error=EPERM", "1+2"),
        (UDP_SERVERS[0], "recvfrom:error=ECONNRESET", "1..5"),
        (UDP_SERVERS[1], "recvfrom:error=ECONNRESET", "1..5"),
        // A signal.
        ("udp-basic-server", "recvfrom:error=EINTR", "1..5"),
        (UDP_SERVERS[0], "recvfrom:error=EINTR", "1..5"),
        (UDP_SERVERS[1], "recvfrom:error=EINTR", "1..5"),
        (UDP_SERVERS[0], "recvfrom:error=ENETRESET", "1+2"),
        (UDP_SERVERS[1], "recvfrom:error=ENETRESET", "1+2"),
    ] {
        let inject = format!("{error}:when={when}");
        let mut server = start_failing(&inject, name, &["--quiet", &ends_after(name, 3)]);
        (0..3).for_each(|_| request_any(name, server.address()));
        assert_eq!((server.exit_code(), server.stderr()), (0, String::new()), "{inject}");
    }
}

#[test]
#[ignore = "needs strace"]
fn system_error_doubles_delay_until_success() {
    const FILES: &str = "cannot accept: Too many open files (os error 24)";
    const MEMORY: &str = "cannot receive: Cannot allocate memory (os error 12)";
    let check = |name: &str, inject: &str, error: &str| {
        let started = Instant::now();
        let inject = format!("{inject}:when=1..12");
        let options: &[&str] = if name.contains("threaded") { &["--workers=1"] } else { &[] };
        let mut server = start_failing(&inject, name, &[options, &[&ends_after(name, 1)]].concat());
        request_any(name, server.address());
        assert_eq!(server.exit_code(), 0);
        let delays: Vec<u64> = (0..10).map(|n| 1 << n).chain([1000, 1000]).collect();
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(delays.iter().sum()), "{name}: {took:?}");
        // After the second error there is one line per second, so that not all are logged.
        let stderr = server.stderr();
        let line = |delay| format!("{name}: {error}; retrying in {delay} ms");
        let mut lines = delays.iter().map(line);
        assert!(stderr.lines().all(|logged| lines.any(|line| line == logged)), "{stderr}");
        let first = [line(&1), line(&2)];
        assert!(stderr.lines().take(2).eq(&first) && stderr.ends_with(" 1000 ms\n"), "{stderr}");
    };
    thread::scope(|scope| {
        scope.spawn(|| check(SERVER, "accept4:error=EMFILE", FILES));
        for name in [UDP_SERVERS[0], UDP_SERVERS[1], "udp-basic-server"] {
            scope.spawn(move || check(name, "recvfrom:error=ENOMEM", MEMORY));
        }
    });
}

#[test]
#[ignore = "needs strace"]
fn serves_with_workers_that_started() {
    for (name, running) in [(SERVER, 1), (SERVER, 3), (UDP_SERVERS[1], 3)] {
        let inject = format!("clone,clone3:error=EAGAIN:when={running}+");
        let options = ["--workers", "8", "--quiet"];
        let mut server = start_failing(&inject, name, &options);
        (0..2).for_each(|_| request_any(name, server.address()));
        assert!(server.wait_for_error("").is_some());
        server.kill();
        let error = "Resource temporarily unavailable (os error 11)";
        let line = match name {
            SERVER => format!("{name}: cannot start another worker: {error}\n"),
            _ => format!("{name}: cannot start worker {} of 8: {error}\n", running + 1),
        };
        // A server for connections may log as well that all workers are busy.
        assert!(server.stderr().starts_with(&line), "{}", server.stderr());
    }
}

#[test]
#[ignore = "needs strace"]
fn client_sends_all_messages_with_fewer_threads() {
    let server = Process::start("udp-threaded-server", &["--quiet"]);
    for running in 1..=3 {
        let inject = format!("clone,clone3:error=EAGAIN:when={}+", running + 1);
        let mut client = failing(&inject, "udp-threaded-client");
        client.args(["--timeout=30", &server.address().to_string(), "a", "b", "c", "d"]);
        let output = output_of(Process::spawn(&mut client));
        let mut replies: Vec<&str> = output.lines().collect();
        replies.sort_unstable();
        assert_eq!(replies, ["A", "B", "C", "D"]);
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
fn client_waits_before_it_connects_again() {
    let (_silent, silent) = fake_udp_server();
    for name in UDP_CLIENTS {
        let mut client = failing("connect:error=ENETUNREACH", name);
        let (started, arguments) = (Instant::now(), ["--attempts=1", "--timeout=3.6", &silent]);
        let mut longer = start_client(name, &arguments);
        let mut client = Process::spawn(client.args(["--attempts=2", "--timeout=2", ":9"]));
        assert_eq!(client.exit_code(), 1);
        // Not after the last attempt.
        assert!(started.elapsed() >= Duration::from_secs(2) && longer.is_running(), "{name}");
        assert!(client.stderr().contains("Network is unreachable"), "{}", client.stderr());
    }
}

#[test]
#[ignore = "needs strace"]
fn client_reports_permanent_error_at_once() {
    let server = Process::start(SERVER, &["--quiet"]);
    let address = server.address().to_string();
    let invalid = "cannot send to 127.0.0.1:9: Invalid argument (os error 22)";
    // Not a timeout, although it has the same number.
    let missing = "cannot start a thread: Resource temporarily unavailable (os error 11)";
    let broken = format!("connection to {address} failed: Broken pipe (os error 32)");
    for (inject, name, arguments, error) in [
        ("sendto:error=EINVAL", UDP_CLIENTS[0], ["127.0.0.1:9", "one"], invalid),
        ("sendto:error=EINVAL", UDP_CLIENTS[1], ["127.0.0.1:9", "one"], invalid),
        ("connect:error=EINVAL", UDP_CLIENTS[0], ["127.0.0.1:9", "one"], invalid),
        ("connect:error=EINVAL", UDP_CLIENTS[1], ["127.0.0.1:9", "one"], invalid),
        ("clone,clone3:error=EAGAIN", UDP_CLIENTS[1], [&*address, "hello"], missing),
        ("clone,clone3:error=EAGAIN", "tcp-threaded-client", [&*address, "hello"], missing),
        ("clone,clone3:error=EAGAIN", "tcp-threaded-client", [&*address, "-"], missing),
        ("sendto:error=EPIPE", "tcp-threaded-client", [&*address, "-"], &broken),
    ] {
        let mut client = failing(inject, name);
        let mut client = Process::spawn(client.arg("--timeout=30").args(arguments));
        client.write(b"hello");
        assert_eq!(client.exit_code(), 1);
        assert_eq!(client.stderr(), format!("{name}: {error}\n"));
    }
}

/// That the server does, `handlers::handler_gets_timeouts_and_nodelay` tests.
#[test]
#[ignore = "needs strace"]
fn client_sets_options() {
    let server = Process::start(SERVER, &["--quiet"]);
    let mut client = strace(&["-e", "trace=setsockopt"]);
    client.arg(program("tcp-threaded-client")).args([&server.address().to_string(), "x"]);
    let client = Process::spawn(&mut client);
    assert!(client.wait_for_error("SOL_TCP, TCP_NODELAY, [1], 4").is_some());
    // The first byte of the seconds, in octal.
    let seconds: u8 = default_of("tcp-threaded-client", "--timeout").parse().unwrap();
    for option in ["SO_RCVTIMEO", "SO_SNDTIMEO"] {
        let line = client.wait_for_error(option).expect(option);
        assert!(line.contains(&format!("\"\\{seconds:o}\\0")), "{line}");
    }
}
