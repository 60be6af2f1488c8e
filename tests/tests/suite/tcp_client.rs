//! The TCP client: what it sends, prints, and takes for the end.

use crate::support::*;
#[cfg(target_os = "linux")]
use std::sync::mpsc;

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
        for part in [&b"O"[..], b"N", b"ETW\nTH", b"R", b"EE"] {
            #[cfg(target_os = "linux")]
            wait_until_read(&stream);
            stream.write_all(part).unwrap();
        }
    });
    let output = output(CLIENT, &[&address, "one", "", "tw\n", "three"], "");
    assert_eq!(output, "ONE\n\nTW\n\nTHREE\n");
    server.join().unwrap();
}

#[test]
fn reports_missing_server() {
    let address = unused_address().to_string();
    let error = error(CLIENT, &[&address], "");
    assert!(error.starts_with(&format!("{CLIENT}: cannot connect to {address}: ")), "{error}");
    assert!(error.ends_with("; is the server running?\n"), "{error}");
}

#[test]
fn reports_end_of_connection() {
    let closes: fn(TcpStream) = |mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"HEL").unwrap();
    };
    for (serve, piped, start, end, stdout) in [
        (closes, false, "SERVER closed the connection", ": received 3 of 5 bytes", ""),
        // While standard input is open. Otherwise its next line would be lost.
        (closes, true, "SERVER closed the connection", "connection", "HEL"),
        (reset, false, "connection to SERVER failed: ", ": received 0 of 5 bytes", ""),
        (reset, true, "connection to SERVER failed: ", "", ""),
    ] {
        let (address, server) = fake_tcp_server(serve);
        let mut client = send(&address, &[], "hello", piped);
        let error = client.wait_for_error("").unwrap();
        let start = format!("{CLIENT}: {}", start.replace("SERVER", &address));
        assert!(error.starts_with(&start) && error.ends_with(end), "{error}");
        assert_eq!((client.exit_code(), client.stdout()), (1, stdout.into()), "{error}");
        server.join().unwrap();
    }
}

#[test]
fn exits_after_timeout_without_response() {
    for piped in [false, true] {
        let (address, server) = fake_tcp_server(|stream| stream);
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
        let (address, server) = fake_tcp_server(|stream| stream);
        // More than the buffers of both sides hold.
        let request = "x".repeat(20 << 20);
        let message = "x".repeat(if cfg!(unix) { 100_000 } else { 1_000 });
        let messages = if piped { vec!["-"] } else { vec![&*message; 15] };
        let arguments = [&["--timeout", "0.3", &*address][..], &messages].concat();
        let error = error(CLIENT, &arguments, request);
        let what = if piped { "sending to" } else { "waiting for" };
        let expected = format!("{CLIENT}: timed out {what} {address}");
        assert!(error.starts_with(&expected), "{error}");
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
    assert_eq!(output(CLIENT, &[&address, "hello"], ""), "HELLO\n");
    server.join().unwrap();
}

#[test]
fn stdin_may_be_idle_for_longer_than_timeout() {
    let mut server = Server::start(SERVER, &["--count", "1"]);
    let mut client = start(CLIENT, &["--timeout", "1", &server.address().to_string(), "-"]);
    client.write(b"one\n");
    assert_eq!(client.wait_for("ONE").as_deref(), Some("ONE"));
    thread::sleep(Duration::from_millis(1_500)); // what is tested: nothing happens
    client.write(b"two\n");
    assert_eq!(client.wait_for("TWO").as_deref(), Some("TWO"));
    assert_eq!(output_of(client), "ONE\nTWO\n");
    assert_eq!(server.exit_code(), 0);
}

#[test]
fn accepts_response_of_any_length_to_stdin() {
    for response in ["", "5\n", "a longer response than the request\n"] {
        let (address, server) = fake_tcp_server(move |mut stream| {
            stream.read_to_end(&mut Vec::new()).unwrap();
            stream.write_all(response.as_bytes()).unwrap();
        });
        assert_eq!(output(CLIENT, &[&address, "-"], "hello\n"), response);
        server.join().unwrap();
    }
}

#[test]
fn dash_must_be_only_message() {
    let error = format!("{CLIENT}: MESSAGE \"-\" must be the only message (see --help)\n");
    run(command(CLIENT).args([":9", "hello", "-"]), "").code(2).stderr(error);
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
        let peak = status(process, "VmHWM");
        assert!(peak < 16_384, "{peak} KiB");
    }
    assert!(output_of(client).into_bytes() == request.to_ascii_uppercase());
    assert_eq!(server.exit_code(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn receives_response_before_last_message_is_sent() {
    const LENGTH: usize = 120_000; // of a message; an argument has at most 128 KiB
    let (print, is_printed) = mpsc::channel::<()>();
    let (address, server) = fake_tcp_server(move |mut stream| {
        let mut message = vec![0; LENGTH];
        stream.read_exact(&mut message).unwrap();
        stream.write_all(&message).unwrap();
        is_printed.recv_timeout(DEADLINE).unwrap();
        for _ in 1..48 {
            stream.read_exact(&mut message).unwrap();
            stream.write_all(&message).unwrap();
        }
    });
    // The arguments are more than both buffers hold, and more than a stack of 8 MiB allows.
    let messages = "$m ".repeat(48);
    let script = format!("ulimit -s unlimited; m=$(printf %0{LENGTH}d 0); exec $0 $@ {messages}");
    let mut client = shell(&script, program(CLIENT));
    let mut client = Process::spawn(client.args(["--timeout=30", &address]));
    assert!(client.wait_for("0").is_some());
    print.send(()).unwrap();
    assert_eq!(client.exit_code(), 0);
    server.join().unwrap();
}
