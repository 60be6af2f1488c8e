//! Standard streams that are closed, missing or unreadable.

use crate::support::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout};
use std::sync::mpsc;

/// A child without the harness, which would keep its pipes open; dropping it kills the child.
struct KillOnDrop(Child);

impl KillOnDrop {
    fn spawn(command: &mut Command) -> KillOnDrop {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        KillOnDrop(command.spawn().unwrap())
    }

    /// Waits until the child has exited. Returns the exit code, or -1 after a signal, and what it
    /// wrote to the output and error streams that are still open.
    #[track_caller]
    fn end(&mut self) -> (i32, String) {
        wait_until("the child has exited", || self.0.try_wait().unwrap().is_some());
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let mut output = String::new();
        stdout.map(|mut pipe| pipe.read_to_string(&mut output).unwrap());
        stderr.map(|mut pipe| pipe.read_to_string(&mut output).unwrap());
        (self.0.wait().unwrap().code().unwrap_or(-1), output)
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // An error means that it has exited already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the first line of a child's output, and returns the rest as well.
#[track_caller]
fn first_line(child: &mut KillOnDrop) -> (BufReader<ChildStdout>, String) {
    // A small buffer, so that closing the pipe leaves little unread.
    let mut output = BufReader::with_capacity(64, child.0.stdout.take().unwrap());
    let (sender, line) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        sender.send((output, line.trim_end().to_string()))
    });
    line.recv_timeout(DEADLINE).unwrap()
}

/// Returns a program that starts once its standard input is closed, so that a pipe can be closed
/// before it writes. On Windows, without a shell, it starts at once, and may have written by then.
fn held(name: &str) -> Command {
    #[cfg(unix)]
    return shell("read go; exec \"$0\" \"$@\"", program(name));
    #[cfg(not(unix))]
    command(name)
}

#[test]
fn server_survives_closed_stderr() {
    let mut command = command("tcp-threaded-server");
    command.args([":0", "--workers=1", "--count=3"]);
    let mut server = KillOnDrop::spawn(&mut command);
    let (_output, first) = first_line(&mut server);
    drop(server.0.stderr.take());
    let address = first.strip_prefix("listening on ").unwrap().parse().unwrap();
    for _ in 0..2 {
        let mut stream = tcp(address);
        stream.write_all(b"hello").unwrap();
        reset(stream); // the server logs this
    }
    assert_eq!(exchange(&tcp(address), b"hello"), b"HELLO");
    assert_eq!(server.end().0, 0);
}

#[test]
fn client_exits_at_closed_stdout_with_open_stdin() {
    for (pair, lines_read) in PAIRS.iter().flat_map(|pair| [(pair, 0), (pair, 1)]) {
        let server = Server::start(&format!("{pair}-server"), &["--quiet", "--count", "9999"]);
        let mut command = command(&format!("{pair}-client"));
        let mut client = KillOnDrop::spawn(command.args([&server.address().to_string(), "-"]));
        let mut input = client.0.stdin.take().unwrap();
        if lines_read == 1 {
            input.write_all(b"hello\n").unwrap();
            let line = first_line(&mut client).1;
            assert!(line == "HELLO" || line.starts_with("sent \"hello\" to "), "{line}");
        }
        drop(client.0.stdout.take());
        // A process that another test starts may hold the pipe until it executes its program, so the
        // first writes may succeed.
        for _ in 0..1_000 {
            let _ = input.write_all(b"hello\n");
            thread::sleep(Duration::from_millis(1));
            if client.0.try_wait().unwrap().is_some() {
                break;
            }
        }
        assert_eq!(client.end(), (0, String::new()), "{pair}");
    }
}

#[test]
fn help_exits_quietly_when_stdout_is_closed() {
    for name in servers().chain(clients()) {
        for flag in ["--help", "--version"] {
            let mut child = KillOnDrop::spawn(held(&name).arg(flag));
            drop(child.0.stdout.take());
            drop(child.0.stdin.take());
            assert_eq!(child.end(), (0, String::new()));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn help_reports_full_stdout() {
    for name in servers().chain(clients()) {
        let error = format!("{name}: standard output: No space left on device (os error 28)\n");
        run(redirected(">/dev/full", &name).arg("--help"), "").code(1).stderr(error);
    }
}

#[test]
fn closed_stderr_changes_no_exit_code() {
    let unused = unused_address().to_string();
    for name in servers().chain(clients()) {
        let failing: &[&str] = match name.as_str() {
            "udp-basic-client" => continue, // succeeds without a server
            name if name.starts_with("tcp") && name.ends_with("client") => &[&unused],
            name if name.ends_with("client") => &[&unused, "--attempts=1", "--timeout=0.2"],
            _ => &["192.0.2.1:0"],
        };
        for (arguments, code) in [(&["--bogus"][..], 2), (failing, 1)] {
            let mut child = KillOnDrop::spawn(held(&name).args(arguments));
            drop(child.0.stderr.take());
            drop(child.0.stdin.take());
            assert_eq!(child.end(), (code, String::new()), "{name} {arguments:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn nonblocking_stdin_is_no_timeout() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    let server = Server::start("tcp-threaded-server", &["--quiet"]);
    let (_open, input) = UnixStream::pair().unwrap();
    input.set_nonblocking(true).unwrap();
    let mut command = command("tcp-threaded-client");
    command.args([&server.address().to_string(), "-"]).stdin(OwnedFd::from(input));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = KillOnDrop(command.spawn().unwrap());
    let (code, error) = client.end();
    assert_eq!(code, 1);
    assert!(error.starts_with("tcp-threaded-client: standard input: Resource temp"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn programs_work_with_unusable_standard_streams() {
    let full = "standard output: No space left on device (os error 28)";
    for (redirection, expected) in [
        (">&-", None),
        ("2>&-", None),
        ("<&-", None),
        ("<&- >&- 2>&-", None),
        // Fails the client but not the server.
        (">/dev/full", Some(full)),
    ] {
        for pair in PAIRS {
            let (server, client) = (format!("{pair}-server"), format!("{pair}-client"));
            let address = unused_address();
            let mut command = redirected(redirection, &server);
            command.args([&address.to_string(), "--count", "4"]);
            let mut serving = Process::spawn(&mut command);
            request_when_listening(&server, address);
            (0..2).for_each(|_| request_any(&server, address));
            let mut command = redirected(redirection, &client);
            let mut process = Process::spawn(command.args([&address.to_string(), "hello"]));
            let code = process.exit_code();
            let error = expected.map(|error| format!("{client}: {error}\n"));
            assert_eq!(process.stderr(), error.unwrap_or_default());
            assert_eq!(code, i32::from(expected.is_some()), "{client} {redirection}");
            assert_eq!((serving.exit_code(), serving.stderr()), (0, String::new()), "{server}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn client_reports_unreadable_stdin() {
    let server = Server::start("tcp-threaded-server", &["--quiet"]);
    // The server's end may arrive before or after the reader's.
    for _ in 0..10 {
        let mut command = redirected("</", "tcp-threaded-client");
        let mut client = Process::spawn(command.args([&server.address().to_string(), "-"]));
        assert_eq!(client.exit_code(), 1);
        let error = "standard input: Is a directory (os error 21)";
        assert_eq!(client.stderr(), format!("tcp-threaded-client: {error}\n"));
    }
}
