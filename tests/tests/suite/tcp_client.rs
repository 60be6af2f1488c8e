//! The TCP client: what it sends, prints, and takes for the end.

use crate::support::*;
use std::io::{Read, Write};
#[cfg(target_os = "linux")]
use std::net::TcpListener;
use std::time::{Duration, Instant};

const CLIENT: &str = "tcp-threaded-client";

#[test]
fn splits_responses_by_length_not_by_read() {
    let (client, mut stream) = start_tcp_client(&[], &["one", "", "tw\n", "three"]);
    stream.read_exact(&mut [0; 11]).unwrap();
    // A proxy may treat a half-close as a close.
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(stream.read(&mut [0]).is_err(), "the client has closed its write side");
    for part in ["O", "N", "ETW\nTH", "R", "EE"] {
        #[cfg(target_os = "linux")]
        wait_until_read(&stream);
        stream.write_all(part.as_bytes()).unwrap();
    }
    assert_eq!(output_of(client), "ONE\n\nTW\n\nTHREE\n");
}

#[test]
fn reports_missing_server() {
    let address = unused_address().to_string();
    let error = error(CLIENT, &[&address], "");
    assert!(error.starts_with(&format!("{CLIENT}: cannot connect to {address}: ")), "{error}");
    assert!(error.ends_with("; is the server running?\n"), "{error}");
}

#[test]
fn reports_missing_response() {
    for (action, message, start, end, stdout) in [
        ("closes", "hello", "SERVER closed the connection", ": received 3 of 5 bytes", ""),
        // While standard input is open. Otherwise its next line would be lost.
        ("closes", "-", "SERVER closed the connection", "connection", "HEL"),
        ("resets", "hello", "connection to SERVER failed: ", ": received 0 of 5 bytes", ""),
        ("resets", "-", "connection to SERVER failed: ", "", ""),
        ("waits", "hello", "timed out waiting for SERVER", ": received 0 of 5 bytes", ""),
        ("waits", "-", "timed out waiting for SERVER", "", ""),
    ] {
        let timeout = if action == "waits" { "--timeout=0.3" } else { "--timeout=60" };
        let (mut client, mut stream) = start_tcp_client(&[timeout], &[message]);
        client.write(b"hello");
        let start = start.replace("SERVER", &stream.local_addr().unwrap().to_string());
        match action {
            "closes" => {
                stream.read_exact(&mut [0; 5]).unwrap();
                stream.write_all(b"HEL").unwrap();
            }
            // Closing a connection with unread bytes resets it.
            "resets" => assert_eq!(stream.peek(&mut [0]).unwrap(), 1),
            _ => client.close_stdin(),
        }
        let _open = (action == "waits").then_some(stream);
        let error = client.wait_for_error("").unwrap();
        assert!(error.starts_with(&format!("{CLIENT}: {start}")), "{error}");
        assert!(error.ends_with(end), "{error}");
        assert_eq!((client.exit_code(), client.stdout()), (1, stdout.into()), "{error}");
    }
}

/// Before that, standard input may be idle for longer. A read that began then ends in the middle of
/// the time.
#[test]
fn timeout_begins_when_everything_is_sent() {
    let (_silent, silent) = fake_udp_server();
    let clock =
        |seconds| start_client("udp-echo-client", &["--attempts=1", "--timeout", seconds, &silent]);
    let (mut client, mut stream) = start_tcp_client(&["--timeout=2"], &["-"]);
    client.write(b"hello\n");
    stream.write_all(b"HELLO\n").unwrap();
    assert!(client.wait_for("HELLO").is_some());
    assert_eq!(clock("2.4").exit_code(), 1);
    let (started, mut longer) = (Instant::now(), clock("3"));
    assert_eq!(client.exit_code(), 1);
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert!(longer.is_running());
}

#[test]
fn exits_after_timeout_when_server_does_not_read() {
    // More than the buffers of both sides hold.
    let message = "x".repeat(if cfg!(unix) { 100_000 } else { 1_000 });
    for (messages, what) in [(vec!["-"], "sending to"), (vec![&*message; 15], "waiting for")] {
        let (mut client, stream) = start_tcp_client(&["--timeout", "0.3"], &messages);
        client.write("x".repeat(20 << 20).as_bytes());
        assert_eq!(client.exit_code(), 1);
        let expected = format!("{CLIENT}: timed out {what} {}", stream.local_addr().unwrap());
        assert!(client.stderr().starts_with(&expected), "{}", client.stderr());
    }
}

#[test]
fn accepts_response_of_any_length_to_stdin() {
    for response in ["", "5\n", "a longer response than the request\n"] {
        let (mut client, mut stream) = start_tcp_client(&[], &["-"]);
        client.close_stdin();
        stream.read_to_end(&mut Vec::new()).unwrap();
        stream.write_all(response.as_bytes()).unwrap();
        drop(stream);
        assert_eq!(output_of(client), response);
    }
}

#[test]
fn sends_and_receives_at_same_time() {
    // More than the buffers of both directions hold.
    let request = [&letters(0, 24 << 20)[..], b"\n"].concat();
    let server = Process::start("tcp-threaded-server", &["--until-eof"]);
    let mut client = start_client(CLIENT, &[&server.address().to_string(), "-"]);
    client.write(&request);
    assert!(client.wait_for("").is_some());
    #[cfg(target_os = "linux")]
    for process in [server.id(), client.id()] {
        let peak = proc::status(process, "VmHWM").unwrap();
        assert!(peak < 16_384, "{peak} KiB");
    }
    assert!(output_of(client).into_bytes() == request.to_ascii_uppercase());
    // The server prints a line per read: 24,576 of 1 KiB, or 384 of 64 KiB.
    let reads = output_of(server).matches("\" from ").count();
    assert!((384..6_000).contains(&reads), "{reads} reads");
}

#[cfg(target_os = "linux")]
#[test]
fn receives_response_before_last_message_is_sent() {
    const LENGTH: usize = 120_000; // of a message; an argument has at most 128 KiB
    // The arguments are more than both buffers hold, and more than a stack of 8 MiB allows.
    let messages = "$m ".repeat(48);
    let script = format!("ulimit -s unlimited; m=$(printf %0{LENGTH}d 0); set -- $@ {messages}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = shell(&script, program(CLIENT));
    let client = Process::spawn(client.args(["--timeout=30", &address]));
    let (mut stream, mut message) = (accept(&listener), [0; LENGTH]);
    stream.read_exact(&mut message).unwrap();
    stream.write_all(&message).unwrap();
    assert!(client.wait_for("0").is_some());
}
