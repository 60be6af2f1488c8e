//! Pitfalls that the programs do not meet: the lines of docs/pitfalls.md that cause them show the
//! symptom, and the lines that prevent them do not.

use crate::copying::copied;
use crate::mutations::tests_of;
use crate::pages::block;
use crate::support::*;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use tests::copying::read;

/// Returns the code of docs/pitfalls.md that is not that of a program: of the entries whose code this
/// module contains, or of the others.
pub fn snippets(is_here: bool) -> Vec<String> {
    let mut snippets = Vec::new();
    for entry in read("docs/pitfalls.md").split("\n### ").skip(1) {
        let tests = tests_of(entry.lines().next().unwrap());
        let is_tested_here = tests.iter().any(|test| test.starts_with("pitfalls::"));
        // Text and code take turns. A link to a line precedes quoted code, and a marker a program.
        for pair in entry.split("\n```").collect::<Vec<&str>>().chunks_exact(2) {
            let is_program = pair[0].contains(".rs#L") || pair[0].ends_with("-->");
            let code = pair[1].strip_prefix("rust\n");
            let is_wanted = is_tested_here == is_here && !is_program;
            snippets.extend(code.filter(|_| is_wanted).map(String::from));
        }
    }
    snippets
}

#[test]
fn code_is_that_of_page() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<&str>>().join(" ");
    let tests = words(include_str!("pitfalls.rs"));
    for snippet in snippets(true) {
        assert!(tests.contains(&words(&snippet)), "docs/pitfalls.md, but no test, has\n{snippet}");
    }
}

fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = tcp(listener.local_addr().unwrap());
    (client, accept(&listener))
}

#[test]
fn buf_writer_sends_when_flushed() -> io::Result<()> {
    let (stream, server) = connection();
    let mut lines = BufReader::new(server).lines().map_while(Result::ok);
    let mut writer = BufWriter::new(&stream);
    writer.write_all(b"hello\n")?;
    (&stream).write_all(b"first\n")?; // arrives before the line in the buffer
    assert_eq!(lines.next().unwrap(), "first");
    writer.flush()?;
    assert_eq!(lines.next().unwrap(), "hello");
    Ok(())
}

#[test]
fn second_buf_reader_misses_line() -> io::Result<()> {
    for is_second in [true, false] {
        let (mut client, stream) = connection();
        client.write_all(b"one\ntwo\n")?;
        client.shutdown(Shutdown::Write)?;
        wait_until("both lines have arrived", || stream.peek(&mut [0; 9]).unwrap() == 8);
        let (stream, mut line) = (&stream, String::new());
        if is_second {
            BufReader::new(stream).read_line(&mut line)?;
            BufReader::new(stream).read_line(&mut line)?; // "two" is lost
            assert_eq!(line, "one\n");
        } else {
            let mut reader = BufReader::new(stream);
            reader.read_line(&mut line)?;
            reader.read_line(&mut line)?;
            assert_eq!(line, "one\ntwo\n");
        }
    }
    Ok(())
}

/// Other systems have smaller buffers, in which the response does not fit.
#[cfg(target_os = "linux")]
#[test]
fn close_with_unread_data_truncates_response() -> io::Result<()> {
    let (response, mut buffer) = (vec![b'x'; 500_000], [0; 1024]);
    let mut is_truncated = || {
        let (mut client, mut stream) = connection();
        client.write_all(&[0; 2048])?;
        let _ = stream.read(&mut buffer)?;
        stream.write_all(&response)?;
        drop(stream);
        let mut received = Vec::new();
        let error = client.read_to_end(&mut received).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        io::Result::Ok(received.len() < response.len())
    };
    // On a busy system, all of it may have arrived before.
    assert!((0..9).any(|_| is_truncated().unwrap()));

    let (mut client, mut stream) = connection();
    client.write_all(&[0; 2048])?;
    let reader = thread::spawn(move || read_to_end(&client));
    let _ = stream.read(&mut buffer)?;
    stream.write_all(&response)?;
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream.take(1024 * 1024), &mut io::sink())?;
    assert!(reader.join().unwrap() == response);
    Ok(())
}

#[test]
fn clone_keeps_connection_open() -> io::Result<()> {
    let (mut client, stream) = connection();
    let mut writer = stream.try_clone()?;
    drop(stream);
    writer.write_all(b"open")?;
    client.read_exact(&mut [0; 4])?;

    let (client, stream) = connection();
    let writer = stream.try_clone()?;
    stream.shutdown(Shutdown::Both)?;
    assert_eq!(read_to_end(&client), b"");
    drop(writer);
    Ok(())
}

#[test]
fn read_may_end_inside_character() -> io::Result<()> {
    let (mut client, mut stream) = connection();
    let mut buffer = [0; 1024];
    client.write_all(&"é".as_bytes()[..1])?;
    let length = stream.read(&mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    assert_eq!(text, "\u{fffd}");

    client.write_all(&"é\n".as_bytes()[..1])?;
    wait_until("the first byte has arrived", || stream.peek(&mut [0; 9]).unwrap() == 1);
    let sender = thread::spawn(move || client.write_all(&"é\n".as_bytes()[1..]));
    let mut reader = BufReader::new(&stream);
    let mut line = Vec::new();
    reader.by_ref().take(64 * 1024).read_until(b'\n', &mut line)?;
    let text = String::from_utf8_lossy(&line);
    assert_eq!(text, "é\n");
    sender.join().unwrap()
}

#[test]
fn escaped_request_is_one_line() {
    let request = b"hello\n\x1b[2Jall is well";
    let line = format!("request: {}", String::from_utf8_lossy(&request[..]));
    assert_eq!(line.lines().nth(1), Some("\u{1b}[2Jall is well"));
    let line = format!("request: {}", request.escape_ascii());
    assert_eq!(line, r"request: hello\n\x1b[2Jall is well");
}

#[test]
fn reply_is_not_longer_than_request() -> io::Result<()> {
    let (socket, mut buffer, response) = (UdpSocket::bind("127.0.0.1:0")?, [0; 1024], [b'x'; 512]);
    let client = udp(socket.local_addr()?);
    client.send(b"hello")?;
    {
        let (_, client) = socket.recv_from(&mut buffer)?;
        socket.send_to(&response, client)?;
    }
    assert_eq!(client.recv(&mut [0; 1024])?, 512);

    for request in [&[0; 5][..], &[0; 512]] {
        client.send(request)?;
        let (length, client) = socket.recv_from(&mut buffer)?;
        if response.len() <= length {
            socket.send_to(&response, client)?;
        }
    }
    assert_eq!(client.recv(&mut [0; 1024])?, 512);
    assert_eq!(count_waiting(&client), 0);
    Ok(())
}

#[test]
fn ipv4_client_of_ipv6_socket_is_mapped() -> io::Result<()> {
    // A socket on [::] does not receive IPv4 on Windows.
    if cfg!(windows) || !has_ipv6() {
        return Ok(());
    }
    let listener = TcpListener::bind("[::]:0")?;
    let _client = tcp((Ipv4Addr::LOCALHOST, listener.local_addr()?.port()).into());
    let (_stream, client) = listener.accept()?;
    let is_allowed = client.ip().is_loopback();
    assert!(!is_allowed);
    let is_allowed = client.ip().to_canonical().is_loopback();
    assert!(is_allowed);
    if cfg!(target_os = "linux") {
        let error = TcpListener::bind(("0.0.0.0", listener.local_addr()?.port())).unwrap_err();
        assert_eq!(error.to_string(), "Address already in use (os error 98)");
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn full_receive_buffer_drops_datagrams() -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    let request = [0; 1000];
    for _ in 0..2000 {
        socket.send_to(&request, address)?;
    }
    let received = count_waiting(&socket);
    assert!((1..2000).contains(&received), "{received}");
    Ok(())
}

/// Other systems assign 127.0.0.2 to no interface.
#[cfg(target_os = "linux")]
#[test]
fn reply_has_address_of_route() -> io::Result<()> {
    let gets_reply = |server: UdpSocket| {
        let client = udp((Ipv4Addr::new(127, 0, 0, 2), server.local_addr()?.port()).into());
        client.send(b"hello")?;
        let (request, address) = receive(&server);
        server.send_to(&request, address)?;
        client.set_nonblocking(true)?;
        io::Result::Ok(client.recv(&mut [0; 9]).is_ok())
    };
    let server = UdpSocket::bind("0.0.0.0:0")?;
    assert!(!gets_reply(server)?);
    let server = UdpSocket::bind("127.0.0.2:0")?;
    assert!(gets_reply(server)?);
    Ok(())
}

/// Returns a program that parses as many levels as its argument says, with code of the page.
pub fn nesting(marker: &str, call: &str) -> String {
    let main = "
fn main() {
    let depth = std::env::args().nth(1).unwrap().parse().unwrap();
    let text = [\"(\".repeat(depth), \"1\".into(), \")\".repeat(depth)].concat();
    println!(\"{:?}\", std::panic::catch_unwind(|| CALL.is_some()));
}
";
    format!("#![allow(dead_code)]\n{}{}", block(marker), main.replace("CALL", call))
}

#[test]
fn stack_overflow_ends_process_despite_catch_unwind() {
    for (program, depth, expected) in [
        ("nesting", "10", "Ok(true)\n"),
        ("nesting", "1000000", ""),
        ("nesting-limited", "10", "Ok(true)\n"),
        ("nesting-limited", "1000000", "Ok(false)\n"),
    ] {
        let mut process = Process::spawn(Command::new(copied(program)).arg(depth));
        let (is_aborted, error) = (process.exit_code() != 0, process.stderr());
        assert_eq!(process.stdout(), expected, "{program} {depth}: {error}");
        assert_eq!(is_aborted, expected.is_empty(), "{program} {depth}: {error}");
        assert_eq!(error.contains("has overflowed its stack"), is_aborted, "{error}");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use std::{fs, os::fd::OwnedFd, path::Path, process::Stdio};

    #[test]
    #[ignore = "needs gcc"]
    fn parent_keeps_connection_open() -> io::Result<()> {
        let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fork.c");
        let program = source.with_extension("out");
        for (marker, is_closed) in [("pitfall: fork", false), ("pitfall: fork with close", true)] {
            fs::write(&source, FORK.replace("LINES", &block(marker)))?;
            let mut gcc = Command::new("gcc");
            output_of(Process::spawn(gcc.arg("-w").arg("-o").arg(&program).arg(&source)));
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            let streams = [OwnedFd::from(listener).into(), Stdio::piped(), Stdio::piped()];
            let server = Process::with_streams(&mut Command::new(&program), streams);
            let mut client = tcp(address);
            let child = || proc::family(server.id()).into_iter().find(|id| *id != server.id());
            wait_until("there is a child", || child().is_some());
            let child = child().unwrap();
            assert_eq!(exchange(&client, b"h"), b"h");
            wait_until("the child has exited", || matches!(proc::state(child), None | Some('Z')));
            client.set_nonblocking(!is_closed)?;
            assert_eq!(client.read(&mut [0]).is_ok(), is_closed, "{marker}");
            // The next client makes the server wait for the first child.
            assert_eq!(exchange(&tcp(address), b"h"), b"h");
            if is_closed {
                wait_until("there is no zombie", || proc::state(child).is_none());
            }
            assert_eq!(proc::state(child).is_some(), !is_closed, "{marker}");
        }
        Ok(())
    }

    /// The program's standard input is the listener.
    const FORK: &str = r#"
#include <errno.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void serve(int client) {
    char byte;
    write(client, &byte, read(client, &byte, 1));
}

int main(void) {
    int listener = 0;
    LINES
}
"#;
}
