//! Sends messages over one connection and prints the responses.
//!
//! ```sh
//! cargo run -p tcp-threaded --bin tcp-threaded-client                        # hello
//! cargo run -p tcp-threaded --bin tcp-threaded-client -- :8888 one two
//! seq 500 | cargo run -p tcp-threaded --bin tcp-threaded-client -- :8888 -
//! ```
//!
//! One thread sends while another receives. A client that sends everything before it reads can
//! block forever: once the buffers in between are full, each side waits for the other to read.
//!
//! TCP carries bytes, not messages. This client takes a response as complete when it is as long as
//! the message, which suits an echo server and few others. With `-`, standard input is sent unchanged,
//! as `nc -N` does, and the output ends when the server closes the connection.
//!
//! The timeout limits the attempts to connect in total, but not the resolution of the name. After
//! that, it limits each write, and each read once everything has been sent, that is, copied to the
//! send buffer. A long upload over a slow network therefore needs a long timeout.
//!
//! In Python: `socket.create_connection`, `sendall`, `recv`. See also: `server.rs`; `udp-threaded`.
//!
//! Version 0.3.0. `docs/changelog.md` lists the fixes of later versions.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

struct Client {
    /// The server's name, for error messages.
    server: String,
    stream: TcpStream,
    timeout: Duration,
    /// When everything had been sent. Until then, a read timeout is not an error.
    sent_at: OnceLock<Instant>,
}

impl Client {
    /// Connects to the first address that accepts.
    fn connect(server: &str, addresses: &[SocketAddr], timeout: Duration) -> io::Result<Client> {
        let start = Instant::now();
        let mut last_error = io::Error::other("no address");
        for (index, address) in addresses.iter().enumerate() {
            // The remaining addresses share the rest of the time. Zero would be an error.
            let remaining = addresses.len() - index;
            let share = timeout.saturating_sub(start.elapsed()) / remaining as u32;
            match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
                // While the server is not running, the kernel may assign its port to this socket,
                // which is then connected to itself (RFC 9293 section 3.5, simultaneous open).
                Ok(stream) if stream.local_addr().ok() == stream.peer_addr().ok() => {
                    last_error = ErrorKind::ConnectionRefused.into();
                }
                Ok(stream) => {
                    stream.set_write_timeout(Some(timeout))?;
                    // Nagle's algorithm could delay a small write by 40 ms or more, until a delayed
                    // ACK arrives.
                    stream.set_nodelay(true)?;
                    let (server, sent_at) = (server.into(), OnceLock::new());
                    return Ok(Client { server, stream, timeout, sent_at });
                }
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    /// Sends the messages and prints each response.
    fn exchange(&self, messages: &[Vec<u8>], print: fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
        thread::scope(|scope| {
            thread::Builder::new()
                .spawn_scoped(scope, || self.send(messages))
                .map_err(|error| io::Error::other(format!("cannot start a thread: {error}")))?;
            let received = self.receive_responses(messages, print);
            // After an error, the other thread may be blocked in a write. This ends it.
            let _ = self.stream.shutdown(Shutdown::Both);
            received
        })
    }

    fn send(&self, messages: &[Vec<u8>]) {
        // The receiving thread reports a lost connection. Do not shut down the write side: some
        // proxies respond to that by closing the connection.
        let _ = messages.iter().try_for_each(|message| (&self.stream).write_all(message));
        let _ = self.sent_at.set(Instant::now());
    }

    fn receive_responses(
        &self,
        messages: &[Vec<u8>],
        print: fn(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let total: usize = messages.iter().map(Vec::len).sum();
        let mut received = 0;
        for message in messages {
            let mut response = vec![0; message.len()];
            let mut rest = &mut response[..];
            while !rest.is_empty() {
                let length = self.receive(rest).map_err(|error| {
                    io::Error::other(format!("{error}: received {received} of {total} bytes"))
                })?;
                received += length;
                rest = &mut rest[length..];
            }
            response.push(b'\n');
            print(&response)?;
        }
        Ok(())
    }

    /// Sends standard input and prints what the server sends until it closes the connection.
    fn pass_through(self, print: fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let client = Arc::new(self);
        let sender = Arc::clone(&client);
        // Not a scoped thread: nothing in std interrupts a read of standard input, so the program
        // must be able to exit without it.
        let sender = thread::Builder::new()
            .spawn(move || sender.send_stdin())
            .map_err(|error| io::Error::other(format!("cannot start a thread: {error}")))?;
        let mut buffer = vec![0; 64 * 1024];
        let end = loop {
            match client.receive(&mut buffer) {
                Ok(length) => print(&buffer[..length])?,
                Err(error) => break error,
            }
        };
        if client.sent_at.get().is_none() {
            return Err(end);
        }
        // If the sending thread failed, its error is the reason that the connection ended.
        if let Ok(sent) = sender.join() {
            sent?;
        }
        if end.kind() == ErrorKind::UnexpectedEof { Ok(()) } else { Err(end) }
    }

    fn send_stdin(&self) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let result = loop {
            match io::stdin().read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(length) => match (&self.stream).write_all(&buffer[..length]) {
                    Ok(()) => {}
                    Err(error) if is_timeout(&error) => {
                        let cause = "it does not read, or standard output is blocked";
                        let text = format!("timed out sending to {}: {cause}", self.server);
                        break Err(io::Error::other(text));
                    }
                    Err(error) => break Err(self.describe(&error)),
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => {} // by a signal
                // Another program has made the terminal, which is shared, non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(100));
                }
                Err(error) => break Err(io::Error::other(format!("standard input: {error}"))),
            }
        };
        // In this order, because the server may close the connection in response, which is not an
        // error.
        let _ = self.sent_at.set(Instant::now());
        let _ = self.stream.shutdown(Shutdown::Write);
        result
    }

    /// Receives some bytes of a response. The end of the stream is an error.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = Instant::now();
        let mut remaining = self.timeout;
        loop {
            self.stream.set_read_timeout(Some(remaining))?;
            match (&self.stream).read(buffer) {
                Ok(0) => return Err(self.describe(&ErrorKind::UnexpectedEof.into())),
                Ok(length) => return Ok(length),
                // SIGSTOP and SIGCONT interrupt a read that has a timeout.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Until everything is sent, the server may be waiting for the rest of the request.
                // (Windows does not guarantee that the socket still works after a timeout.)
                Err(error) if is_timeout(&error) => {
                    let Some(sent_at) = self.sent_at.get() else { continue };
                    remaining = self.timeout.saturating_sub(start.max(*sent_at).elapsed());
                    if remaining.is_zero() {
                        return Err(self.describe(&error));
                    }
                }
                Err(error) => return Err(self.describe(&error)),
            }
        }
    }

    fn describe(&self, error: &io::Error) -> io::Error {
        let server = &self.server;
        match error.kind() {
            // `pass_through` distinguishes this kind.
            ErrorKind::UnexpectedEof => {
                io::Error::new(error.kind(), format!("{server} closed the connection"))
            }
            _ if is_timeout(error) => io::Error::other(format!("timed out waiting for {server}")),
            _ => io::Error::other(format!("connection to {server} failed: {error}")),
        }
    }
}

/// Unix and Windows report a timeout differently.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

const HELP: &str = "\
Usage: tcp-threaded-client [OPTIONS] [ADDR [MESSAGE...]]

Sends messages over one connection and prints the responses.

Arguments:
  ADDR            address of the server: HOST:PORT, HOST, :PORT, PORT or
                  [V6]:PORT [default: 127.0.0.1:8888]
  MESSAGE         what to send; a single - sends standard input unchanged
                  [default: hello]

Options:
  --timeout SECS  give up when connecting, a write, or a read after everything
                  has been sent takes SECS seconds [default: 5]
  -h, --help      print this help
  -V, --version   print the version
";

fn main() -> std::process::ExitCode {
    common::main(HELP, env!("CARGO_PKG_VERSION"), run)
}

fn run(args: &common::Args) -> Result<(), common::Error> {
    let address = args.address()?;
    let timeout = args.timeout("--timeout", 5)?;
    let messages = args.messages(&["hello"])?;
    let client =
        Client::connect(&address.to_string(), &address.resolve()?, timeout).map_err(|error| {
            common::Error::failed(format_args!("cannot connect to {address}"), &error)
        })?;
    match messages {
        Some(messages) => client.exchange(&messages, common::print)?,
        None => client.pass_through(common::print)?,
    }
    Ok(())
}
