//! Sends messages over one connection and prints the responses.
//!
//! ```sh
//! cargo run -p tcp-threaded --bin tcp-threaded-client                        # hello
//! cargo run -p tcp-threaded --bin tcp-threaded-client -- :8888 one two
//! seq 500 | cargo run -p tcp-threaded --bin tcp-threaded-client -- :8888 -
//! ```
//!
//! One thread sends while another receives. A client that first writes everything and then reads
//! can block forever: with enough data, the server waits for it to read, and it waits for the server.
//!
//! A stream has no messages. The response to a message is complete when it has as many bytes as the
//! message, which is true of this server and few others. With `-` nothing is counted: standard input
//! passes through unchanged, as with `nc`, until both sides have closed their write side.
//!
//! In Python: `socket.create_connection`, `sendall`, `recv`. See also: `server.rs`; `udp-threaded`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const HELP: &str = "\
Usage: tcp-threaded-client [OPTIONS] [ADDR [MESSAGE...]]

Sends messages over one connection and prints the responses.

Arguments:
  ADDR            address of the server: HOST:PORT, HOST, :PORT, PORT or
                  [V6]:PORT [default: 127.0.0.1:8888]
  MESSAGE         what to send [default: hello]; a single - passes standard
                  input through

Options:
  --timeout SECS  give up after SECS seconds without progress [default: 5]
  -h, --help      print this help
  -V, --version   print the version
";

fn main() -> std::process::ExitCode {
    common::main(HELP, env!("CARGO_PKG_VERSION"), run)
}

fn run(args: &common::Args) -> Result<(), common::Error> {
    let address = args.address()?;
    let timeout = args.timeout("--timeout", 5)?;
    let messages = args.messages(&["hello"]);
    let is_dash = |message: &Vec<u8>| message == b"-";
    if messages.iter().any(is_dash) && messages.len() > 1 {
        return Err(common::Error::Usage("MESSAGE \"-\": must be the only message".into()));
    }
    let stream = connect(&address.resolve()?, timeout).map_err(|error| {
        common::Error::failed(format_args!("cannot connect to {address}"), &error)
    })?;
    let client = Client { server: address.to_string(), stream, sending: AtomicBool::new(true) };
    if messages.iter().all(is_dash) {
        Arc::new(client).pass_through(common::print)?;
    } else {
        client.exchange(&messages, common::print)?;
    }
    Ok(())
}

/// Connects to the first address that accepts.
fn connect(addresses: &[SocketAddr], timeout: Duration) -> io::Result<TcpStream> {
    let mut result = Err(io::Error::other("no address"));
    for address in addresses {
        result = TcpStream::connect_timeout(address, timeout);
        if result.is_ok() {
            break;
        }
    }
    let stream = result?;
    // With no server listening, the kernel may choose the server's port for the client, which would
    // then be connected to itself (RFC 9293 section 3.5, simultaneous open).
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    // Nagle's algorithm delays a small write until the server's delayed ACK, by up to 40 ms.
    stream.set_nodelay(true)?;
    Ok(stream)
}

struct Client {
    /// The server's name, for error messages.
    server: String,
    stream: TcpStream,
    /// Whether there may be more to send.
    sending: AtomicBool,
}

impl Client {
    /// Sends the messages and prints each response.
    fn exchange(&self, messages: &[Vec<u8>], print: fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
        thread::scope(|scope| {
            let sender = thread::Builder::new().spawn_scoped(scope, || self.send(messages));
            sender.map_err(|error| io::Error::other(format!("cannot start a thread: {error}")))?;
            let received = self.receive_responses(messages, print);
            // After an error, the other thread may still be waiting for the server to read.
            let _ = self.stream.shutdown(Shutdown::Both);
            received
        })
    }

    fn send(&self, messages: &[Vec<u8>]) {
        // If the connection is lost, the receiving thread reports it. The write side stays open,
        // because some proxies then close the whole connection.
        let _ = messages.iter().try_for_each(|message| (&self.stream).write_all(message));
        self.sending.store(false, SeqCst);
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

    /// Sends standard input and prints what the server sends.
    fn pass_through(self: Arc<Client>, print: fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let client = Arc::clone(&self);
        // Not scoped, because nothing in std interrupts a read of standard input.
        let sender = thread::Builder::new()
            .spawn(move || client.send_stdin())
            .map_err(|error| io::Error::other(format!("cannot start a thread: {error}")))?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.receive(&mut buffer) {
                Ok(length) => print(&buffer[..length])?,
                Err(error) if self.sending.load(SeqCst) => return Err(error),
                Err(error) => {
                    // The sending thread has an error of its own, or the end is the regular one.
                    if let Ok(sent) = sender.join() {
                        sent?;
                    }
                    return if error.kind() == ErrorKind::UnexpectedEof {
                        Ok(())
                    } else {
                        Err(error)
                    };
                }
            }
        }
    }

    fn send_stdin(&self) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let result = loop {
            match io::stdin().read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(length) => {
                    if let Err(error) = (&self.stream).write_all(&buffer[..length]) {
                        break Err(self.describe(&error));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {} // by a signal
                Err(error) => break Err(io::Error::other(format!("standard input: {error}"))),
            }
        };
        self.sending.store(false, SeqCst);
        let _ = self.stream.shutdown(Shutdown::Write);
        result
    }

    /// Receives a part of a response. The end of the stream is an error.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let was_sending = self.sending.load(SeqCst);
            match (&self.stream).read(buffer) {
                Ok(0) => return Err(self.describe(&ErrorKind::UnexpectedEof.into())),
                Ok(length) => return Ok(length),
                // SIGSTOP and SIGCONT interrupt a read that has a timeout.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The server may wait for all of the request, or has nothing to respond to.
                Err(error) if is_timeout(&error) && was_sending => {}
                Err(error) => return Err(self.describe(&error)),
            }
        }
    }

    fn describe(&self, error: &io::Error) -> io::Error {
        let server = &self.server;
        match error.kind() {
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
