//! Standard streams that are closed, missing or unreadable.

use crate::support::*;
#[cfg(unix)]
use std::io::Write;
#[cfg(unix)]
use std::os::{fd::OwnedFd, unix::net::UnixStream};
use std::process::Stdio;

#[test]
fn client_exits_at_closed_stdout_with_open_stdin() {
    for pair in PAIRS {
        // A response over TCP is printed even without the end of its line.
        let end = if pair.protocol() == Protocol::Tcp { "" } else { "\n" };
        let server = Process::start(&pair.server(), &["--quiet"]);
        let mut client = command(&pair.client());
        client.args([&server.address().to_string(), "-"]);
        let streams = [Stdio::piped(), closed_pipe(), Stdio::piped()];
        let mut client = Process::with_streams(&mut client, streams);
        let message = pair.messages[0].to_string() + end;
        client.write(message.as_bytes());
        wait_until("the client has exited", || {
            // Under Wine, the first write to a closed pipe succeeds.
            if cfg!(windows) {
                client.write(message.as_bytes());
            }
            !client.is_running()
        });
        assert_eq!(output_of(client), "", "{}", pair.name);
    }
}

#[test]
fn closed_output_changes_no_exit_code() {
    for name in programs() {
        let streams = [Stdio::null(), closed_pipe(), Stdio::piped()];
        output_of(Process::with_streams(command(&name).arg("--help"), streams));
        // RFC 6761: no name ends in this.
        for (argument, code) in [("--bogus", 2), ("nosuch.invalid:80", 1)] {
            let streams = [Stdio::null(), Stdio::piped(), closed_pipe()];
            let mut process = Process::with_streams(command(&name).arg(argument), streams);
            let result = (process.exit_code(), process.stdout());
            assert_eq!(result, (code, String::new()), "{name} {argument}");
        }
    }
}

/// Starts a program whose standard input is non-blocking, and returns the other end of that.
#[cfg(unix)]
fn start_nonblocking(name: &str, arguments: &[&str]) -> (Process, UnixStream) {
    let (input, stdin) = UnixStream::pair().unwrap();
    stdin.set_nonblocking(true).unwrap();
    input.set_write_timeout(Some(DEADLINE)).unwrap();
    let streams = [OwnedFd::from(stdin).into(), Stdio::piped(), Stdio::piped()];
    (Process::with_streams(command(name).args(arguments), streams), input)
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
    for redirection in [">&-", "2>&-", "<&-", "<&- >&- 2>&-", ">/dev/full"] {
        let redirected = |name: &str| shell(&format!("exec {redirection}"), program(name));
        for pair in PAIRS {
            let (name, address) = (pair.server(), unused_address());
            let mut server = redirected(&name);
            let server = Process::spawn(server.arg(address.to_string()));
            wait_until_listening(pair.protocol().name(), address);
            (0..2).for_each(|_| request_any(&name, address));
            assert_eq!(server.stderr(), "", "{name} {redirection}");
            let client = pair.client();
            for arguments in [&[&*address.to_string(), pair.messages[0]][..], &["--help"]] {
                let ran = run(redirected(&client).args(arguments), "");
                if redirection == ">/dev/full" {
                    let error = "standard output: No space left on device (os error 28)";
                    ran.code(1).stderr(format!("{client}: {error}\n"));
                } else {
                    ran.success().stderr("");
                }
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn client_reports_unreadable_stdin() {
    let server = Process::start("tcp-threaded-server", &["--quiet"]);
    // The server's end may arrive before or after the reader's.
    for _ in 0..10 {
        let mut client = shell("exec </", program("tcp-threaded-client"));
        let error = "tcp-threaded-client: standard input: Is a directory (os error 21)\n";
        run(client.args([&server.address().to_string(), "-"]), "").code(1).stderr(error);
    }
}
