//! The TCP client: what it sends, prints, and takes for the end.

use crate::support::{command, fake_tcp_server, letters, output_of, retry_on_eintr, start};
use predicates::str::{ends_with, starts_with};
use std::io::{Read, Write};
use std::iter;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tests::{DEADLINE, Process, Server, unused_address};

const CLIENT: &str = "tcp-threaded-client";
const SERVER: &str = "tcp-threaded-server";

/// Starts the client with a message, or with `-` and the message on an open standard input.
fn send(address: &str, options: &[&str], message: &str, piped: bool) -> Process {
    let last = [address, if piped { "-" } else { message }];
    let mut client = start(CLIENT, &[options, &last].concat());
    if piped {
        client.write(message.as_bytes());
    }
    client
}

#[test]
fn splits_responses_by_length_not_by_read() {
    let (address, server) = fake_tcp_server(|mut stream| {
        stream.read_exact(&mut [0; 11]).unwrap();
        for byte in b"ONE" {
            stream.write_all(&[*byte]).unwrap();
        }
        stream.write_all(b"TW\nTHREE").unwrap();
    });
    command(CLIENT)
        .args([&address, "one", "", "tw\n", "three"])
        .assert()
        .success()
        .stdout("ONE\n\nTW\n\nTHREE\n")
        .stderr("");
    server.join().unwrap();
}

#[test]
fn sends_ten_thousand_messages() {
    let server = Server::start(SERVER, &["--quiet"]);
    let address = iter::once(server.address().to_string());
    let output = command(CLIENT)
        .args(address.chain(iter::repeat_n("m".to_string(), 10_000)))
        .assert()
        .success()
        .stderr("")
        .get_output()
        .stdout
        .clone();
    assert!(output == "M\n".repeat(10_000).as_bytes());
}

#[test]
fn passes_stdin_through_unchanged() {
    let server = Server::start(SERVER, &[]);
    for input in ["", "one line\n", "no newline", "\n\n"] {
        command(CLIENT)
            .args([&server.address().to_string(), "-"])
            .write_stdin(input)
            .assert()
            .success()
            .stdout(input.to_uppercase());
    }
}

#[test]
fn reports_missing_server() {
    let address = unused_address().to_string();
    command(CLIENT)
        .args([&address])
        .assert()
        .code(1)
        .stderr(starts_with(format!("{CLIENT}: cannot connect to {address}: ")))
        .stderr(ends_with("; is the server running?\n"));
}

#[test]
fn reports_incomplete_response() {
    let (address, server) = fake_tcp_server(|mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"HEL").unwrap();
    });
    let error = format!("{CLIENT}: {address} closed the connection: received 3 of 5 bytes\n");
    command(CLIENT).args([&address, "hello"]).assert().code(1).stdout("").stderr(error);
    server.join().unwrap();
}

#[test]
fn reports_reset() {
    for piped in [false, true] {
        let (address, server) =
            fake_tcp_server(|stream| assert!(retry_on_eintr(|| stream.peek(&mut [0])) > 0));
        let mut client = send(&address, &[], "hello", piped);
        let error = client.wait_for_error("").unwrap();
        assert!(
            error.starts_with(&format!("{CLIENT}: connection to {address} failed: ")),
            "{error}"
        );
        assert_eq!(error.ends_with(": received 0 of 5 bytes"), !piped, "{error}");
        assert_eq!((client.exit_code(), client.stdout()), (1, String::new()));
        server.join().unwrap();
    }
}

#[test]
fn exits_after_timeout_without_response() {
    for piped in [false, true] {
        let (address, server) = fake_tcp_server(|mut stream| {
            // Until the client has exited or closed its write side.
            let _ = stream.read_to_end(&mut Vec::new());
            stream
        });
        let started = Instant::now();
        let mut client = send(&address, &["--timeout", "0.3"], "hello", piped);
        client.close_stdin();
        let error = client.wait_for_error("").unwrap();
        let counted = if piped { "" } else { ": received 0 of 5 bytes" };
        assert_eq!(error, format!("{CLIENT}: timed out waiting for {address}{counted}"));
        assert_eq!(client.exit_code(), 1);
        assert!(started.elapsed() >= Duration::from_millis(300));
        server.join().unwrap();
    }
}

#[test]
fn exits_after_timeout_when_server_does_not_read() {
    for piped in [false, true] {
        let (end, until_end) = mpsc::channel::<()>();
        let (address, server) = fake_tcp_server(move |stream| {
            let _ = until_end.recv_timeout(DEADLINE);
            stream
        });
        // More than the buffers of both sides hold.
        let request = "x".repeat(20 << 20);
        let mut client = command(CLIENT);
        client.args(["--timeout", "0.3", &address]);
        if piped {
            client.arg("-").write_stdin(request);
        } else if cfg!(unix) {
            client.args(vec!["x".repeat(100_000); 15]);
        }
        let error = starts_with(format!("{CLIENT}: timed out waiting for {address}"));
        client.assert().code(1).stdout("").stderr(error);
        drop(end);
        server.join().unwrap();
    }
}

#[test]
fn exits_after_whole_response_with_both_sides_open() {
    // A proxy may treat a half-close as a close.
    let (address, server) = fake_tcp_server(|mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(stream.read(&mut [0]).is_err(), "the client has closed its write side");
        stream.write_all(b"HELLO").unwrap();
        stream
    });
    command(CLIENT).args([&address, "hello"]).assert().success().stdout("HELLO\n").stderr("");
    server.join().unwrap();
}

#[test]
fn stdin_may_be_idle_for_longer_than_timeout() {
    let mut server = Server::start(SERVER, &["--count", "1"]);
    let mut client = start(CLIENT, &["--timeout", "0.3", &server.address().to_string(), "-"]);
    client.write(b"one\n");
    assert_eq!(client.wait_for("ONE").as_deref(), Some("ONE"));
    thread::sleep(Duration::from_millis(600)); // what is tested: nothing happens
    client.write(b"two\n");
    assert_eq!(client.wait_for("TWO").as_deref(), Some("TWO"));
    assert_eq!(output_of(client), "ONE\nTWO\n");
    assert_eq!(server.exit_code(), 0);
}

#[test]
fn reports_close_while_stdin_is_open() {
    // Otherwise the next line of standard input would be lost.
    let server = Server::start(SERVER, &["--idle-timeout", "0.3", "--quiet"]);
    let address = server.address();
    let mut client = start(CLIENT, &[&address.to_string(), "-"]);
    client.write(b"hello\n");
    let error = client.wait_for_error("").unwrap();
    assert_eq!(error, format!("{CLIENT}: {address} closed the connection"));
    assert_eq!((client.exit_code(), client.stdout()), (1, "HELLO\n".into()));
}

#[test]
fn accepts_response_of_any_length_to_stdin() {
    for response in ["", "5\n", "a longer response than the request\n"] {
        let (address, server) = fake_tcp_server(move |mut stream| {
            stream.read_to_end(&mut Vec::new()).unwrap();
            stream.write_all(response.as_bytes()).unwrap();
        });
        let client = command(CLIENT).args([&address, "-"]).write_stdin("hello\n").assert();
        client.success().stdout(response).stderr("");
        server.join().unwrap();
    }
}

#[test]
fn dash_must_be_only_message() {
    let error = format!("{CLIENT}: MESSAGE \"-\" must be the only message (see --help)\n");
    command(CLIENT).args([":9", "hello", "-"]).assert().code(2).stderr(error);
}

#[test]
fn exits_after_timeout_when_backlog_is_full() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // On Linux, a full backlog drops further connections.
    let timeout = Duration::from_millis(200);
    let connect = |_| TcpStream::connect_timeout(&address, timeout).ok();
    let backlog: Vec<TcpStream> = (0..1_000).map_while(connect).collect();
    if cfg!(target_os = "linux") {
        assert!(backlog.len() < 1_000);
    }
    let mut client = start(CLIENT, &["--timeout", "0.3", &address.to_string()]);
    assert_eq!(client.exit_code(), 1);
    if cfg!(target_os = "linux") {
        let error = format!("{CLIENT}: cannot connect to {address}: connection timed out\n");
        assert_eq!(client.stderr(), error);
    }
}

#[test]
fn sends_and_receives_at_same_time() {
    // More than the buffers of both directions hold.
    let request = [&letters(0, 24 << 20)[..], b"\n"].concat();
    let mut server = Server::start(SERVER, &["--quiet", "--count", "1"]);
    let mut client = start(CLIENT, &[&server.address().to_string(), "-"]);
    client.write(&request);
    assert!(client.wait_for("").is_some());
    #[cfg(target_os = "linux")]
    for process in [server.id(), client.id()] {
        let peak = crate::support::status(process, "VmHWM");
        assert!(peak < 16_384, "{peak} KiB");
    }
    assert!(output_of(client).into_bytes() == request.to_ascii_uppercase());
    assert_eq!(server.exit_code(), 0);
}
