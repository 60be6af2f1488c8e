//! Hostile and odd connections do not stop, fool or tie up the TCP server, nor odd servers the TCP
//! client. Nor does a machine that is out of descriptors or threads, nor one that is stopped and
//! continued.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use support::{Killed, client, exchange, in_time, resumed};
use tests::{DEADLINE, Process, Server, program, tcp};

const SERVER: &str = "tcp-threaded-server";
const CLIENT: &str = "tcp-threaded-client";

/// Leaves with the answer unread: the kernel sends a reset instead of an end.
fn reset(stream: TcpStream) {
    assert!(resumed(|| stream.peek(&mut [0])) > 0);
}

/// Bytes of which no two places look alike soon.
fn letters(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|i| b'a' + ((i ^ (i >> 7) ^ (i >> 13)) % 26) as u8).collect()
}

/// A server that is played by a test, for one connection.
///
/// The test joins it, for a server that fails fails no test by itself. A stream that `play` returns
/// stays open until then.
fn played<T: Send + 'static>(
    play: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        play(stream)
    });
    (address, server)
}

fn ask(arguments: &[&str]) -> Process {
    Process::spawn(Command::new(program(CLIENT)).args(arguments))
}

#[test]
fn a_reset_a_half_close_and_a_close_with_data_unread_leave_the_worker_free() {
    let mut server = Server::start(SERVER, &["--workers", "1", "--count", "5"]);
    let mut first = tcp(server.address());
    first.write_all(b"reset").unwrap();
    let first_client = first.local_addr().unwrap();
    reset(first);
    // In the middle of a stream, with as much of it on the way as the buffers hold.
    let mut second = tcp(server.address());
    let second_client = second.local_addr().unwrap();
    second.set_nonblocking(true).unwrap();
    while second.write_all(&[b'x'; 65_536]).is_ok() {}
    second.set_nonblocking(false).unwrap();
    reset(second);
    // Closed halves: with nothing sent, and with everything answered.
    for request in [&b""[..], &letters(0, 100_000)] {
        let mut stream = tcp(server.address());
        stream.write_all(request).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer == request.to_ascii_uppercase());
    }
    assert_eq!(exchange(&tcp(server.address()), b"after"), b"AFTER");
    assert_eq!(server.process().exit_code(), 0);
    let errors = server.stderr();
    let mut told = errors.lines();
    for client in [first_client, second_client] {
        let line = told.next().unwrap();
        assert!(line.starts_with(&format!("{SERVER}: {client}: ")), "{line}");
    }
    assert_eq!(told.next(), None);
}

#[test]
fn silent_clients_that_hold_all_workers_are_ended_and_a_newcomer_is_served() {
    let options = ["--workers", "2", "--idle-timeout", "1", "--count", "3"];
    let mut server = Server::start(SERVER, &options);
    let silent = [tcp(server.address()), tcp(server.address())];
    assert_eq!(exchange(&tcp(server.address()), b"newcomer"), b"NEWCOMER");
    for mut stream in &silent {
        assert_eq!(resumed(|| stream.read(&mut [0])), 0);
    }
    assert_eq!(server.process().exit_code(), 0);
    assert_eq!(server.stderr().lines().count(), 2);
    for stream in &silent {
        let line = format!("{SERVER}: {}: timed out\n", stream.local_addr().unwrap());
        assert!(server.stderr().contains(&line), "{}", server.stderr());
    }
}

#[test]
fn a_client_that_reads_in_tiny_steps_gets_every_byte() {
    let server = Server::start(SERVER, &["--idle-timeout", "10", "--quiet"]);
    let request = letters(7, 300_000);
    let stream = tcp(server.address());
    let answer = thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&request).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut answer = Vec::<u8>::new();
        let mut step = [0; 100];
        while let length @ 1.. = resumed(|| (&stream).read(&mut step)) {
            answer.extend(&step[..length]);
        }
        answer
    });
    assert!(answer == request.to_ascii_uppercase());
}

#[test]
fn an_answer_that_ends_early_is_told_also_when_standard_input_goes_through() {
    let (address, server) = played(|mut stream| {
        stream.read_exact(&mut [0; 6]).unwrap();
        stream.write_all(b"HEL").unwrap();
    });
    let mut client = ask(&[&address, "-"]);
    client.write(b"hello\n");
    // Standard input is still open.
    let error = client.wait_for_error("").unwrap();
    let expected = format!("3 of 6 bytes came from {address}: the connection was closed");
    assert_eq!(error, format!("{CLIENT}: {expected}"));
    assert_eq!(client.exit_code(), 1);
    assert_eq!(client.stdout(), "HEL");
    server.join().unwrap();
}

#[test]
fn a_server_that_resets_the_connection_is_told_with_the_bytes_that_came() {
    for arguments in [&["hello"][..], &["-"]] {
        let (address, server) = played(|stream| assert!(resumed(|| stream.peek(&mut [0])) > 0));
        let mut client = ask(&[&[&*address], arguments].concat());
        if arguments == ["-"] {
            client.write(b"hello");
        }
        let error = client.wait_for_error("").unwrap();
        let expected = format!("{CLIENT}: 0 of 5 bytes came from {address}: Connection reset");
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(client.exit_code(), 1);
        assert_eq!(client.stdout(), "");
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_never_answers_is_given_up_after_the_timeout() {
    for arguments in [&["hello"][..], &["-"]] {
        let (address, server) = played(|mut stream| {
            // Until the client has left.
            let _ = stream.read_to_end(&mut Vec::new());
            stream
        });
        let start = std::time::Instant::now();
        let mut client = ask(&[&["--timeout", "0.3", &*address], arguments].concat());
        if arguments == ["-"] {
            client.write(b"hello");
        }
        let error = client.wait_for_error("").unwrap();
        let expected = format!("{CLIENT}: 0 of 5 bytes came from {address}: timed out");
        assert_eq!(error, expected);
        assert_eq!(client.exit_code(), 1);
        assert!(start.elapsed() >= Duration::from_millis(300));
        server.join().unwrap();
    }
}

#[test]
fn a_client_ends_by_counting_when_the_server_does_not_close() {
    for arguments in [&["hello"][..], &["-"]] {
        let (address, server) = played(|mut stream| {
            stream.read_exact(&mut [0; 5]).unwrap();
            stream.write_all(b"HELLO").unwrap();
            stream
        });
        let address = [&["--timeout", "1", &*address], arguments].concat();
        client(CLIENT).args(&address).write_stdin("hello").assert().success().stderr("");
        server.join().unwrap();
    }
}

#[test]
fn messages_are_answered_by_a_server_that_takes_half_a_close_for_a_whole_one() {
    let (address, server) = played(|mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        // A client that had closed its half would be seen here.
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let more = stream.read(&mut [0]).map_err(|error| error.kind());
        if more != Ok(0) {
            stream.write_all(b"HELLO").unwrap();
        }
    });
    client(CLIENT).args([&address, "hello"]).assert().success().stdout("HELLO\n");
    server.join().unwrap();
}

#[test]
fn an_answer_may_come_byte_by_byte_and_in_one_with_the_next() {
    let (address, server) = played(|mut stream| {
        stream.read_exact(&mut [0; 11]).unwrap();
        for byte in b"ONE" {
            stream.write_all(&[*byte]).unwrap();
        }
        stream.write_all(b"TWOTHREE").unwrap();
    });
    client(CLIENT)
        .args([&address, "one", "two", "three"])
        .assert()
        .success()
        .stdout("ONE\nTWO\nTHREE\n")
        .stderr("");
    server.join().unwrap();
}

#[test]
fn standard_input_may_be_idle_for_longer_than_the_timeout() {
    let server = Server::start(SERVER, &["--count", "1"]);
    let mut client = ask(&["--timeout", "1", &server.address().to_string(), "-"]);
    client.write(b"one\n");
    assert_eq!(client.wait_for("ONE").as_deref(), Some("ONE"));
    thread::sleep(Duration::from_millis(1_500)); // what is tested: nothing happens
    client.write(b"two\n");
    assert_eq!(client.wait_for("TWO").as_deref(), Some("TWO"));
    assert_eq!(client.exit_code(), 0);
    assert_eq!(client.stderr(), "");
    assert_eq!(server.finish(), 0);
}

#[test]
fn the_timeout_counts_from_what_was_sent_last() {
    let two_seconds = Duration::from_secs(2);
    let (address, server) = played(move |mut stream| {
        stream.read_exact(&mut [0; 4]).unwrap();
        stream.write_all(b"ONE\n").unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        thread::sleep(two_seconds); // later than the timeout, but in time for what was asked
        stream.write_all(b"TWO\n").unwrap();
    });
    let mut client = ask(&["--timeout", "3", &address, "-"]);
    client.write(b"one\n");
    assert_eq!(client.wait_for("ONE").as_deref(), Some("ONE"));
    thread::sleep(two_seconds);
    client.write(b"two\n");
    assert_eq!(client.wait_for("TWO").as_deref(), Some("TWO"));
    assert_eq!(client.exit_code(), 0);
    assert_eq!(client.stderr(), "");
    server.join().unwrap();
}

/// Nothing comes back for longer than the timeout, but more and more is sent.
#[test]
fn a_server_may_wait_for_the_end_of_what_is_sent_before_it_answers() {
    let (address, server) = played(|mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        stream.write_all(&request.to_ascii_uppercase()).unwrap();
    });
    // With a message in front an answer is missing all the time.
    let mut client = ask(&["--timeout", "3", &address, "more\n", "-"]);
    for _ in 0..8 {
        client.write(b"more\n");
        thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(client.exit_code(), 0);
    assert_eq!(client.stdout(), "MORE\n".repeat(9));
    assert_eq!(client.stderr(), "");
    server.join().unwrap();
}

#[cfg(target_os = "linux")]
mod on_linux {
    use super::*;
    use std::fs;
    use std::net::{SocketAddr, UdpSocket};
    use std::path::PathBuf;
    use std::process::Stdio;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::thread::sleep;
    use std::time::Instant;
    use std::{env, process};
    use support::{can_trace, not_run, said, strace, ticks};
    use tests::udp;

    /// A process's own figures: `Threads`, `VmHWM` (the most memory it has had, in KiB).
    fn status(process: u32, field: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    fn descriptors(process: u32) -> usize {
        fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
    }

    /// Waits until a server has started its workers, which takes time of the processor.
    fn wait_for_workers(process: u32, workers: usize) {
        let start = Instant::now();
        while status(process, "Threads") != workers {
            assert!(start.elapsed() < DEADLINE);
            sleep(Duration::from_millis(1));
        }
    }

    /// A second goes by, and the process has hardly anything to do.
    fn assert_idle(process: u32) {
        let before = ticks(process);
        sleep(Duration::from_secs(1)); // what is tested: nothing happens
        let busy = ticks(process) - before;
        assert!(busy < 25, "{busy} hundredths of a second");
    }

    fn signal(name: &str, process: u32) {
        let status = Command::new("kill").args([name, &process.to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits until a process is stopped: until then a signal is only under way.
    fn stop_and_continue(process: u32) {
        signal("-STOP", process);
        let start = Instant::now();
        let stat = || fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        while !stat().rsplit_once(')').unwrap().1.starts_with(" T") {
            assert!(start.elapsed() < DEADLINE);
            sleep(Duration::from_millis(1));
        }
        signal("-CONT", process);
    }

    /// A program under a limit of the shell's, in the same process.
    fn limited(limit: &str, program: &PathBuf) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit {limit}; exec \"$0\" \"$@\"")]).arg(program);
        shell
    }

    /// A place of this test's own for a file.
    fn temporary(name: &str) -> PathBuf {
        env::temp_dir().join(format!("{name}-{}", process::id()))
    }

    /// A server whose `accept` fails as `inject` says.
    fn accept_fails(inject: &str, options: &[&str]) -> Server {
        let inject = format!("inject=accept4:{inject}");
        let mut command = strace(&["-o", "/dev/null", "-e", &inject]);
        Server::spawn(command.arg(program(SERVER)).arg(":0").args(options))
    }

    #[test]
    fn a_client_that_left_before_it_was_accepted_is_no_trouble() {
        if !can_trace() {
            return;
        }
        let options = ["--workers", "1", "--count", "2"];
        let mut server = accept_fails("error=ECONNABORTED:when=1..5", &options);
        for _ in 0..2 {
            assert_eq!(exchange(&tcp(server.address()), b"next"), b"NEXT");
        }
        assert_eq!(server.process().exit_code(), 0);
        assert_eq!(server.stderr(), "");
    }

    #[test]
    fn trouble_of_the_machine_is_reported_once_for_as_long_as_it_lasts() {
        if !can_trace() {
            return;
        }
        let options = ["--workers", "1", "--quiet", "--count", "2"];
        let line = format!("{SERVER}: accept: Too many open files (os error 24)\n");
        // For three tries, and then no more; for every second try, so before each connection.
        for (when, times) in [("1..3", 1), ("1+2", 2)] {
            let mut server = accept_fails(&format!("error=EMFILE:when={when}"), &options);
            for _ in 0..2 {
                assert_eq!(exchange(&tcp(server.address()), b"next"), b"NEXT");
            }
            assert_eq!(server.process().exit_code(), 0);
            assert_eq!(server.stderr(), line.repeat(times), "{when}");
        }
    }

    #[test]
    fn a_server_without_free_descriptors_waits_without_a_client() {
        let mut command = limited("-n 40", &program(SERVER));
        let mut server = Server::spawn(command.args([":0", "--quiet"]));
        let line = format!("{SERVER}: accept: Too many open files (os error 24)");
        assert_eq!(server.wait_for_error("").as_deref(), Some(&*line));
        wait_for_workers(server.id(), 256);
        assert_idle(server.id());
        assert_eq!(exchange(&tcp(server.address()), b"hello"), b"HELLO");
        server.process().kill();
        assert_eq!(server.stderr(), format!("{line}\n"));
    }

    #[test]
    fn a_server_without_free_descriptors_serves_who_is_there_and_then_who_waits() {
        let mut command = limited("-n 40", &program(SERVER));
        let mut server = Server::spawn(command.args([":0", "--quiet"]));
        let mut open: Vec<TcpStream> = (0..60).map(|_| tcp(server.address())).collect();
        for mut stream in &open {
            stream.write_all(b"hello").unwrap();
        }
        // Connections are accepted in the order in which they came.
        let mut waiting = open.split_off(20);
        for mut stream in &open {
            stream.read_exact(&mut [0; 5]).unwrap();
        }
        assert!(server.wait_for_error("").is_some());
        // 60 do not fit into 40 descriptors.
        let last = waiting.last().unwrap();
        let assert_waits = || {
            last.set_nonblocking(true).unwrap();
            assert_eq!(last.peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            last.set_nonblocking(false).unwrap();
        };
        assert_waits();
        wait_for_workers(server.id(), 256);
        assert_idle(server.id());
        for stream in &open {
            assert_eq!(exchange(stream, b"all along"), b"ALL ALONG");
        }
        assert_waits();
        // Room for who comes first, and then for all.
        open.extend(waiting.drain(..10));
        drop(open);
        for mut stream in &waiting {
            stream.read_exact(&mut [0; 5]).unwrap();
            assert_eq!(exchange(stream, b"newcomer"), b"NEWCOMER");
        }
        server.process().kill();
        let line = format!("{SERVER}: accept: Too many open files (os error 24)\n");
        assert_eq!(server.stderr(), line);
    }

    /// Asks either server.
    fn ask_any(name: &str, address: SocketAddr) {
        if name.starts_with("tcp") {
            assert_eq!(exchange(&tcp(address), b"hello"), b"HELLO");
        } else {
            assert_eq!(support::ask(&udp(address), b"hello"), b"HELLO");
        }
    }

    /// A server that is asked for more workers than it gets, even than any machine has room for: it
    /// says how many it has, and serves.
    fn serves_with_fewer(name: &str, command: &mut Command) {
        let mut server = Server::spawn(command.args([":0", "--quiet", "--workers", "100000"]));
        let line = server.wait_for_error("").unwrap();
        let of = line.strip_prefix(&format!("{name}: ")).and_then(|line| line.split_once(' '));
        let (workers, rest) = of.unwrap();
        assert!((1..10_000).contains(&workers.parse::<usize>().unwrap()), "{line}");
        assert!(rest.starts_with("of 10000 workers: "), "{line}");
        for _ in 0..20 {
            ask_any(name, server.address());
        }
        server.process().kill();
        assert_eq!(server.stderr(), format!("{line}\n"));
    }

    #[test]
    fn a_server_that_gets_too_little_memory_for_its_workers_serves_with_fewer() {
        for name in [SERVER, "udp-threaded-server"] {
            for kibibytes in [8_000, 100_000, 200_000, 600_000, 1_500_000] {
                let limit = format!("-v {kibibytes}");
                serves_with_fewer(name, &mut limited(&limit, &program(name)));
            }
        }
    }

    /// A thread takes 2 MiB and some KiB, and the KiB may be those that are missing: one of these
    /// limits leaves just so much.
    #[test]
    fn a_worker_for_whose_stack_there_is_just_enough_memory_does_not_abort_the_server() {
        thread::scope(|scope| {
            for name in [SERVER, "udp-threaded-server"] {
                scope.spawn(move || {
                    for kibibytes in (14_000..16_080).step_by(20) {
                        let limit = format!("-v {kibibytes}");
                        serves_with_fewer(name, &mut limited(&limit, &program(name)));
                    }
                });
            }
        });
    }

    /// Each has all it needs before there is another: many that start together find less than there
    /// was when they were asked for.
    #[test]
    fn workers_start_one_after_the_other() {
        if !can_trace() {
            return;
        }
        for name in [SERVER, "udp-threaded-server"] {
            let file = temporary(name);
            let slow = "inject=set_robust_list:delay_enter=20000";
            let mut command = strace(&["-e", "trace=clone,clone3,sigaltstack", "-e", slow, "-o"]);
            command.arg(&file).arg(program(name)).args([":0", "--workers", "8"]);
            let server = Server::spawn(&mut command);
            let start = Instant::now();
            let mut steps = String::new();
            while steps.len() < 14 {
                assert!(start.elapsed() < DEADLINE, "{steps}");
                sleep(Duration::from_millis(1));
                let calls = fs::read_to_string(&file).unwrap();
                let step = |call: &str| match call {
                    call if call.contains(" clone") && !call.contains("resumed") => Some('c'),
                    // A thread's own signal stack, the last thing that it needs.
                    call if call.contains("sigaltstack({ss_sp=0x") => Some('s'),
                    _ => None,
                };
                steps = calls.lines().filter_map(step).skip_while(|step| *step != 'c').collect();
            }
            assert_eq!(steps, "cs".repeat(7), "{name}");
            drop(server);
            fs::remove_file(file).unwrap();
        }
    }

    #[test]
    fn a_server_that_does_not_accept_is_given_up_after_the_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // When the backlog is full, the kernel drops who knocks.
        let patience = Duration::from_millis(300);
        let knock = |_| TcpStream::connect_timeout(&address, patience).ok();
        let backlog: Vec<TcpStream> = (0..1_000).map_while(knock).collect();
        assert!(backlog.len() < 1_000);
        let mut client = ask(&["--timeout", "0.3", &address.to_string()]);
        assert_eq!(client.exit_code(), 1);
        let error = format!("{CLIENT}: cannot connect to {address}: timed out\n");
        assert_eq!(client.stderr(), error);
    }

    #[test]
    fn a_server_that_gets_too_few_threads_serves_with_fewer() {
        let says = said(Command::new("prlimit").args(["--nproc=20", "echo", "limited"]));
        if says != "limited\n" {
            not_run("prlimit", &says);
            return;
        }
        for name in [SERVER, "udp-threaded-server"] {
            let mut command = Command::new("prlimit");
            command.arg("--nproc=20");
            if said(Command::new("id").arg("-u")) != "0\n" {
                serves_with_fewer(name, command.arg(program(name)));
                continue;
            }
            // The limit does not hold for root: become somebody whom nothing else belongs to, and
            // who may read the program.
            let copy = temporary(name);
            // By another process: a file that a child of ours has open for writing cannot be run.
            let mut install = Command::new("install");
            assert_eq!(said(install.args(["-m", "755"]).arg(program(name)).arg(&copy)), "");
            command.args(["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]);
            serves_with_fewer(name, command.arg(&copy));
            fs::remove_file(copy).unwrap();
        }
    }

    #[test]
    fn ten_thousand_connections_come_and_go_and_leave_nothing_behind() {
        let server = Server::start(SERVER, &["--workers", "64", "--quiet"]);
        let (process, address) = (server.id(), server.address());
        wait_for_workers(process, 64);
        let before = descriptors(process);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..1_250 {
                        let mut stream = tcp(address);
                        match number % 4 {
                            0 => drop(stream),
                            1 => {
                                stream.write_all(b"reset").unwrap();
                                reset(stream);
                            }
                            2 => assert_eq!(exchange(&stream, b"x"), b"X"),
                            _ => {
                                stream.write_all(b"x").unwrap();
                                stream.shutdown(Shutdown::Write).unwrap();
                                assert_eq!(resumed(|| stream.read(&mut [0; 2])), 1);
                                assert_eq!(resumed(|| stream.read(&mut [0; 2])), 0);
                            }
                        }
                    }
                });
            }
        });
        // Those who left last may still be being seen off.
        let start = Instant::now();
        while descriptors(process) != before {
            assert!(start.elapsed() < DEADLINE, "{} are left", descriptors(process));
            sleep(Duration::from_millis(1));
        }
        assert_eq!(status(process, "Threads"), 64);
        assert_eq!(exchange(&tcp(address), b"after"), b"AFTER");
        assert_idle(process);
    }

    /// Whether this process and its children may have so many descriptors.
    fn can_open(wanted: usize) -> bool {
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let mut limits =
            line.split_whitespace().skip(3).map(|limit| limit.parse().unwrap_or(usize::MAX));
        let (soft, hard) = (limits.next().unwrap(), limits.next().unwrap());
        if soft >= wanted {
            return true;
        }
        let raised = format!("--nofile={}", hard.min(2 * wanted));
        let process = process::id().to_string();
        let says = said(Command::new("prlimit").args(["--pid", &process, &raised]));
        (hard >= wanted && says.is_empty())
            || not_run("more descriptors", &format!("{hard} {says}"))
    }

    #[test]
    fn a_thousand_connections_at_the_same_time_get_each_its_own_mebibyte() {
        const CONNECTIONS: usize = 1_000;
        const THREADS: usize = 4;
        const CHUNK: usize = 64 << 10;
        if !can_open(CONNECTIONS + 500) {
            return;
        }
        let server = Server::start(SERVER, &["--workers", "1000", "--quiet"]);
        let address = server.address();
        let request = letters(0, 2 << 20);
        let answer = request.to_ascii_uppercase();
        let streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| tcp(address)).collect();
        // All of them are with a worker now.
        for stream in &streams {
            assert_eq!(exchange(stream, b"x"), b"X");
        }
        thread::scope(|scope| {
            for streams in streams.chunks(CONNECTIONS / THREADS) {
                let (request, answer) = (&request, &answer);
                scope.spawn(move || {
                    let mut came = vec![0; CHUNK];
                    for chunk in 0..(1 << 20) / CHUNK {
                        for (number, mut stream) in streams.iter().enumerate() {
                            let place = chunk * CHUNK + number * 997;
                            stream.write_all(&request[place..][..CHUNK]).unwrap();
                            stream.read_exact(&mut came).unwrap();
                            assert!(came == answer[place..][..CHUNK], "client {number}");
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn a_client_that_sends_64_mebibytes_and_reads_nothing_costs_neither_memory_nor_a_worker() {
        let options = ["--workers", "2", "--idle-timeout", "3", "--count", "4"];
        let mut server = Server::start(SERVER, &[&options[..], &["--quiet"]].concat());
        let before = status(server.id(), "VmHWM");
        let greedy = tcp(server.address());
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let sent = (0..64).try_for_each(|_| (&greedy).write_all(&[b'x'; 1 << 20]));
                assert!(sent.is_err(), "all of it was taken");
                ended.store(true, Ordering::SeqCst);
            });
            let other = tcp(server.address());
            while !ended.load(Ordering::SeqCst) {
                assert_eq!(exchange(&other, b"other"), b"OTHER");
            }
        });
        // Both workers are free for two who stay.
        let two = [tcp(server.address()), tcp(server.address())];
        for stream in &two {
            assert_eq!(exchange(stream, b"later"), b"LATER");
        }
        let grown = status(server.id(), "VmHWM") - before;
        assert!(grown < 4_096, "{grown} KiB");
        drop(two);
        assert_eq!(server.process().exit_code(), 0);
    }

    #[test]
    fn sixty_four_mebibytes_go_through_both_sides_with_flat_memory() {
        let server = Server::start(SERVER, &["--quiet", "--count", "1"]);
        let mut command = Command::new(program(CLIENT));
        command.args([&server.address().to_string(), "-"]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut child = Killed(child);
        let (request, mut came) = (letters(0, 1 << 20), vec![0; 1 << 20]);
        let answer = request.to_ascii_uppercase();
        let (mut input, mut output) =
            (child.0.stdin.take().unwrap(), child.0.stdout.take().unwrap());
        let writer = thread::spawn(move || {
            (0..64).for_each(|_| input.write_all(&request).unwrap());
            input
        });
        let mut output = in_time(move || {
            for number in 0..64 {
                output.read_exact(&mut came).unwrap();
                assert!(came == answer, "block {number}");
            }
            output
        });
        for process in [server.id(), child.0.id()] {
            let memory = status(process, "VmHWM");
            assert!(memory < 16_384, "{memory} KiB");
        }
        drop(writer.join().unwrap());
        assert_eq!(in_time(move || output.read(&mut [0])).unwrap(), 0);
        assert_eq!(child.exit_code(), 0);
        assert_eq!(server.finish(), 0);
    }

    #[test]
    fn a_server_that_is_stopped_and_continued_while_it_reads_loses_no_connection() {
        let mut server = Server::start(SERVER, &["--count", "1"]);
        let stream = tcp(server.address());
        for _ in 0..5 {
            assert_eq!(exchange(&stream, b"hello"), b"HELLO");
            stop_and_continue(server.id());
        }
        assert_eq!(exchange(&stream, b"after"), b"AFTER");
        drop(stream);
        assert_eq!(server.process().exit_code(), 0);
        assert_eq!(server.stderr(), "");
    }

    /// A `write` with a timeout that is stopped and continued has taken a part.
    #[test]
    fn a_server_that_is_stopped_and_continued_while_it_writes_loses_no_byte() {
        let mut server = Server::start(SERVER, &["--count", "1", "--quiet"]);
        let request = letters(3, 12 << 20);
        let stream = tcp(server.address());
        thread::scope(|scope| {
            scope.spawn(|| {
                (&stream).write_all(&request).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
            let mut answer = vec![0; 100_000];
            let mut filled = 0;
            for _ in 0..20 {
                (&stream).read_exact(&mut answer[filled..filled + 5_000]).unwrap();
                filled += 5_000;
                stop_and_continue(server.id());
            }
            (&stream).read_to_end(&mut answer).unwrap();
            assert!(answer == request.to_ascii_uppercase(), "{} of them", answer.len());
        });
        assert_eq!(server.process().exit_code(), 0);
        assert_eq!(server.stderr(), "");
    }

    #[test]
    fn a_tcp_client_that_is_stopped_and_continued_goes_on_waiting() {
        let (is_waiting, client_waits) = mpsc::channel();
        let (answer, answers) = mpsc::channel::<&[u8]>();
        let (address, server) = played(move |mut stream| {
            stream.read_exact(&mut [0; 5]).unwrap();
            is_waiting.send(()).unwrap();
            answers.iter().for_each(|part| stream.write_all(part).unwrap());
        });
        let mut asking = ask(&["--timeout", "30", &address, "hello"]);
        client_waits.recv_timeout(DEADLINE).unwrap();
        (0..3).for_each(|_| stop_and_continue(asking.id()));
        answer.send(b"HEL").unwrap();
        stop_and_continue(asking.id());
        answer.send(b"LO").unwrap();
        drop(answer);
        assert_eq!(asking.exit_code(), 0);
        assert_eq!(asking.stdout(), "HELLO\n");
        assert_eq!(asking.stderr(), "");
        server.join().unwrap();
    }

    #[test]
    fn udp_clients_that_are_stopped_and_continued_go_on_waiting_and_do_not_ask_again() {
        for name in ["udp-echo-client", "udp-threaded-client"] {
            let server = UdpSocket::bind("127.0.0.1:0").unwrap();
            server.set_read_timeout(Some(DEADLINE)).unwrap();
            let address = server.local_addr().unwrap().to_string();
            let mut command = Command::new(program(name));
            let mut asking = Process::spawn(command.args(["--timeout", "30", &address, "hello"]));
            let (_, client) = resumed(|| server.recv_from(&mut [0; 9]));
            for _ in 0..5 {
                stop_and_continue(asking.id());
            }
            server.send_to(b"HELLO", client).unwrap();
            assert_eq!(asking.exit_code(), 0, "{name}");
            assert_eq!(asking.stdout(), "HELLO\n", "{name}");
            server.set_nonblocking(true).unwrap();
            let more = server.recv_from(&mut [0; 9]).unwrap_err();
            assert_eq!(more.kind(), ErrorKind::WouldBlock, "{name}");
        }
    }

    #[test]
    fn both_sides_send_small_writes_at_once() {
        if !can_trace() {
            return;
        }
        let (at_server, at_client) =
            (temporary("setsockopt-server"), temporary("setsockopt-client"));
        let traced = |file: &PathBuf, name: &str| {
            let mut command = strace(&["-e", "trace=setsockopt", "-o", file.to_str().unwrap()]);
            command.arg(program(name));
            command
        };
        let server = Server::spawn(traced(&at_server, SERVER).args([":0", "--count", "1"]));
        let address = server.address().to_string();
        assert_eq!(
            Process::spawn(traced(&at_client, CLIENT).args([&address, "hello"])).finish(),
            0
        );
        assert_eq!(server.finish(), 0);
        for file in [at_server, at_client] {
            let start = Instant::now();
            let mut calls = String::new();
            // Where the line goes on depends on what other threads do meanwhile.
            while !calls.contains("SOL_TCP, TCP_NODELAY, [1], 4") {
                assert!(start.elapsed() < DEADLINE, "{calls}");
                sleep(Duration::from_millis(1));
                calls = fs::read_to_string(&file).unwrap();
            }
            fs::remove_file(file).unwrap();
        }
    }

    #[test]
    fn standard_input_that_cannot_be_read_is_an_error() {
        let server = Server::start(SERVER, &["--quiet"]);
        // Whether the server's end comes before or after the reader's is left to chance.
        for _ in 0..10 {
            let mut shell = Command::new("sh");
            shell.args(["-c", "exec \"$0\" \"$@\" </"]).arg(program(CLIENT));
            let mut asking = Process::spawn(shell.args([&server.address().to_string(), "-"]));
            assert_eq!(asking.exit_code(), 1);
            let error = "standard input: Is a directory (os error 21)";
            assert_eq!(asking.stderr(), format!("{CLIENT}: {error}\n"));
        }
    }
}
