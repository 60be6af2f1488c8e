//! Pitfalls that the programs do not meet: the lines of docs/pitfalls.md that cause them show the
//! symptom, and the lines that prevent them do not.

use crate::copying::copied;
use crate::mutations::tests_by_pitfall;
use crate::pages::block;
use crate::support::*;
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;

/// Returns the entries of docs/pitfalls.md whose code this module contains.
pub fn headings() -> BTreeSet<String> {
    let mut table = tests_by_pitfall();
    table.retain(|_, tests| tests.iter().any(|test| test.starts_with("pitfalls::")));
    table.into_keys().collect()
}

/// Returns both sides of a connection.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = tcp(listener.local_addr().unwrap());
    (client, accept(&listener))
}

/// Reads as many bytes as are expected.
fn read_exact(mut stream: &TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, expected);
}

#[test]
fn buf_writer_sends_when_flushed() -> io::Result<()> {
    let (stream, server) = connection();
    let mut writer = BufWriter::new(&stream);
    writer.write_all(b"hello\n")?;
    // Arrives before the line in the buffer.
    (&stream).write_all(b"first\n")?;
    read_exact(&server, b"first\n");
    writer.flush()?;
    read_exact(&server, b"hello\n");
    Ok(())
}

#[test]
fn second_buf_reader_misses_line() -> io::Result<()> {
    let lines = |wanted: &dyn Fn(&TcpStream) -> io::Result<()>| {
        let (mut client, stream) = connection();
        client.write_all(b"one\ntwo\n")?;
        client.shutdown(Shutdown::Write)?;
        wait_until("both lines have arrived", || stream.peek(&mut [0; 9]).unwrap() == 8);
        wanted(&stream)
    };
    lines(&|stream| {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        BufReader::new(stream).read_line(&mut line)?; // "two" is lost
        assert_eq!(line, "one\n");
        Ok(())
    })?;
    lines(&|stream| {
        let mut line = String::new();
        let mut reader = BufReader::new(stream);
        reader.read_line(&mut line)?;
        reader.read_line(&mut line)?;
        assert_eq!(line, "one\ntwo\n");
        Ok(())
    })
}

/// Other systems have smaller buffers, in which the response does not fit.
#[cfg(target_os = "linux")]
#[test]
fn close_with_unread_data_truncates_response() -> io::Result<()> {
    let response = vec![b'x'; 500_000];
    let (mut client, mut stream) = connection();
    client.write_all(&[0; 2048])?;
    let mut buffer = [0; 1024];
    let _ = stream.read(&mut buffer)?;
    stream.write_all(&response)?;
    drop(stream);
    let mut received = Vec::new();
    let error = client.read_to_end(&mut received).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(received.len() < response.len());

    let (mut client, mut stream) = connection();
    client.write_all(&[0; 2048])?;
    let reader = thread::spawn(move || {
        let mut received = Vec::new();
        client.read_to_end(&mut received)
    });
    let _ = stream.read(&mut buffer)?;
    stream.write_all(&response)?;
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream.take(1024 * 1024), &mut io::sink())?;
    assert_eq!(reader.join().unwrap()?, response.len());
    Ok(())
}

#[test]
fn clone_keeps_connection_open() -> io::Result<()> {
    let (client, stream) = connection();
    let mut writer = stream.try_clone()?;
    drop(stream);
    writer.write_all(b"open")?;
    read_exact(&client, b"open");

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

    let (mut client, stream) = connection();
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
    assert_eq!(client.ip().to_canonical(), IpAddr::from(Ipv4Addr::LOCALHOST));
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
        let exit_code = process.exit_code();
        assert_eq!((process.stdout(), exit_code == 0), (expected.into(), !expected.is_empty()));
        let overflow = process.stderr().contains("has overflowed its stack");
        assert_eq!(overflow, expected.is_empty(), "{}", process.stderr());
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use std::path::Path;

    #[test]
    #[ignore = "needs gcc"]
    fn parent_keeps_connection_open() {
        let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fork.c");
        let program = source.with_extension("out");
        for (marker, is_closed) in [("pitfall: fork", false), ("pitfall: fork with close", true)] {
            std::fs::write(&source, FORK.replace("LINES", &block(marker))).unwrap();
            let mut gcc = Command::new("gcc");
            output_of(Process::spawn(gcc.arg("-w").arg("-o").arg(&program).arg(&source)));
            let server = Process::spawn(&mut Command::new(&program));
            let line = server.wait_for("127.0.0.1:").unwrap();
            let connect = || tcp(line.trim().parse().unwrap());
            let children = format!("{0}/task/{0}/children", server.id());
            let children = || tests::proc::read(&children).unwrap();
            let mut client = connect();
            wait_until("there is a child", || !children().is_empty());
            let child = children();
            client.write_all(b"h").unwrap();
            read_exact(&client, b"h");
            let state = || tests::proc::read(&format!("{}/stat", child.trim())).unwrap_or_default();
            wait_until("the child has exited", || state().is_empty() || state().contains(") Z "));
            client.set_nonblocking(true).unwrap();
            assert_eq!(client.read(&mut [0]).is_ok(), is_closed, "{marker}");
            // The next client makes the server wait for the first child.
            let mut next = connect();
            next.write_all(b"h").unwrap();
            read_exact(&next, b"h");
            if is_closed {
                wait_until("there is no zombie", || !children().contains(child.trim()));
            }
            assert_eq!(children().contains(child.trim()), !is_closed, "{marker}");
        }
    }

    const FORK: &str = r#"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void serve(int client) {
    char byte;
    write(client, &byte, read(client, &byte, 1));
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (struct sockaddr *)&address, size);
    listen(listener, 16);
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    LINES
}
"#;
}
