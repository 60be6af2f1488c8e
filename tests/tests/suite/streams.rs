//! Standard streams that are closed, missing or unreadable.

use crate::support::*;
#[cfg(unix)]
use std::io::Write;
#[cfg(unix)]
use std::os::{fd::OwnedFd, unix::net::UnixStream};
use std::process::{Command, Stdio};

/// Returns a command whose standard streams are pipes.
fn piped(name: &str, arguments: &[&str]) -> Command {
    let mut command = command(name);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn client_exits_at_closed_stdout_with_open_stdin() {
    let with_end = PAIRS.iter().map(|pair| (pair, "\n"));
    let stream = PAIRS.iter().filter(|pair| pair.protocol() == Protocol::Tcp);
    for (pair, end) in with_end.chain(stream.map(|pair| (pair, ""))) {
        let server = Process::start(&pair.server(), &["--quiet"]);
        let mut client = piped(&pair.client(), &[&server.address().to_string(), "-"]);
        let mut client = Process::with_streams(client.stdout(closed_pipe()));
        client.write((pair.messages[0].to_string() + end).as_bytes());
        wait_until("the client has exited", || !client.is_running());
        assert_eq!(output_of(client), "", "{} {end:?}", pair.name);
    }
}

#[test]
fn help_exits_quietly_when_stdout_is_closed() {
    for name in servers().chain(clients()) {
        for flag in ["--help", "--version"] {
            let mut help = piped(&name, &[flag]);
            assert_eq!(output_of(Process::with_streams(help.stdout(closed_pipe()))), "");
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
            let mut process = piped(&name, arguments);
            let mut process = Process::with_streams(process.stderr(closed_pipe()));
            let result = (process.exit_code(), process.stdout());
            assert_eq!(result, (code, String::new()), "{name} {arguments:?}");
        }
    }
}

/// Starts a program whose standard input is non-blocking, and returns the other end of that.
#[cfg(unix)]
fn start_nonblocking(name: &str, arguments: &[&str]) -> (Process, UnixStream) {
    let (input, stdin) = UnixStream::pair().unwrap();
    stdin.set_nonblocking(true).unwrap();
    input.set_write_timeout(Some(DEADLINE)).unwrap();
    let mut command = piped(name, arguments);
    (Process::with_streams(command.stdin(OwnedFd::from(stdin))), input)
}

#[cfg(unix)]
#[test]
fn nonblocking_stdin_does_not_end_server() {
    for name in ["tcp-threaded-server", "udp-threaded-server"] {
        let (mut server, mut input) = start_nonblocking(name, &["--until-eof", "--quiet", ":0"]);
        for _ in 0..3 {
            // More than the socket holds. A server that has stopped does not read the rest.
            input.write_all(&[b'\n'; 300_000]).unwrap();
            request_any(name, server.address());
        }
        drop(input);
        assert_eq!((server.exit_code(), server.stderr()), (0, String::new()));
    }
}

#[cfg(unix)]
#[test]
fn client_waits_for_nonblocking_stdin() {
    for pair in PAIRS {
        let server = Process::start(&pair.server(), &[]);
        let arguments = [&*server.address().to_string(), "-"];
        let (client, mut input) = start_nonblocking(&pair.client(), &arguments);
        for n in 0..10 {
            writeln!(input, "line {n}").unwrap();
            // The client has then read this line, and reads on.
            wait_until("the client prints a line", || client.stdout().lines().count() > n);
        }
        drop(input);
        output_of(client);
    }
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
            let (server, client) = (pair.server(), pair.client());
            let address = unused_address();
            let mut command = redirected(redirection, &server);
            command.arg(address.to_string());
            // A standard input that is closed has ended.
            let end = ends_after(&server, 3);
            let ends = end != "--until-eof" || !redirection.contains("<&-");
            command.args(ends.then_some(end));
            let mut serving = Process::spawn(&mut command);
            wait_until_listening(&server[..3], address);
            (0..2).for_each(|_| request_any(&server, address));
            let mut command = redirected(redirection, &client);
            let mut process =
                Process::spawn(command.args([&address.to_string(), pair.messages[0]]));
            let code = process.exit_code();
            let error = expected.map(|error| format!("{client}: {error}\n"));
            assert_eq!(process.stderr(), error.unwrap_or_default());
            assert_eq!(code, i32::from(expected.is_some()), "{client} {redirection}");
            if !ends {
                serving.kill();
            }
            assert_eq!(serving.exit_code(), if ends { 0 } else { -1 }, "{server} {redirection}");
            assert_eq!(serving.stderr(), "", "{server}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn client_reports_unreadable_stdin() {
    let server = Process::start("tcp-threaded-server", &["--quiet"]);
    // The server's end may arrive before or after the reader's.
    for _ in 0..10 {
        let mut command = redirected("</", "tcp-threaded-client");
        let mut client = Process::spawn(command.args([&server.address().to_string(), "-"]));
        assert_eq!(client.exit_code(), 1);
        let error = "standard input: Is a directory (os error 21)";
        assert_eq!(client.stderr(), format!("tcp-threaded-client: {error}\n"));
    }
}
