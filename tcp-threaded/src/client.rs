//! Sends messages over one connection and prints the answers.
//!
//! ```sh
//! cargo run -p tcp-threaded --bin tcp-threaded-client                        # hello
//! cargo run -p tcp-threaded --bin tcp-threaded-client -- :8888 one two
//! seq 500 | cargo run -p tcp-threaded --bin tcp-threaded-client -- :8888 -
//! ```
//!
//! One thread sends while another receives: a client that wrote everything before it read would,
//! with enough data, wait for the server to read while the server waits for the client to read.
//! A stream has no messages, so an answer is whole when as many bytes came as were sent. With `-`
//! standard input goes through as it is, as with `nc`, but the end of the answer is the end.
//!
//! In Python: `socket.create_connection`, `sendall`, `recv`. See also: `server.rs`; `udp-threaded`.

use common::{Address, Error, Options, timed_out};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const HELP: &str = "\
Usage: tcp-threaded-client [--timeout S] [ADDR [MESSAGE...]]

Sends messages over one connection and prints the answers.

  ADDR         whom to ask: HOST:PORT, HOST, :PORT or PORT (default 127.0.0.1:8888)
  MESSAGE      what to send (default: hello); - sends standard input as it is
  --timeout S  seconds to wait for the connection, and without progress (default 5)
";

/// How many bytes have been sent, or are about to be.
static SENT: AtomicUsize = AtomicUsize::new(0);

/// Why standard input could not be read.
static UNREAD: OnceLock<io::Error> = OnceLock::new();

struct Client {
    address: Address,
    stream: TcpStream,
    sender: JoinHandle<io::Result<()>>,
    received: usize,
}

fn main() -> ExitCode {
    common::main(HELP, run)
}

fn run(options: &Options) -> Result<(), Error> {
    let address = options.address()?;
    let timeout = options.timeout("--timeout", 5)?;
    let messages = options.messages(&["hello"]);
    let piped = messages.iter().any(|message| message == b"-");
    let lengths: Vec<usize> = messages.iter().filter(|m| *m != b"-").map(Vec::len).collect();
    SENT.store(lengths.iter().sum(), SeqCst);
    let cannot = |why| Error::failed(format_args!("cannot connect to {address}"), &why);
    let stream = connect(&address, timeout).map_err(cannot)?;
    let sending = stream.try_clone().map_err(cannot)?;
    // Not in a scope: that would wait for the end of standard input after that of the answer.
    let sender = thread::Builder::new().spawn(move || send(&sending, &messages)).map_err(cannot)?;
    let mut client = Client { address, stream, sender, received: 0 };
    if piped {
        let mut buffer = vec![0; 64 << 10];
        while let length @ 1.. = client.receive(&mut buffer)? {
            common::print(&buffer[..length])?;
        }
    } else {
        for length in lengths {
            let (mut answer, mut filled) = (vec![b'\n'; length + 1], 0);
            while filled < length {
                filled += client.receive(&mut answer[filled..length])?;
            }
            common::print(&answer)?;
        }
    }
    UNREAD.get().map_or(Ok(()), |why| Err(Error::failed("standard input", why)))
}

/// Connects to the first of the name's addresses that answers.
fn connect(address: &Address, timeout: Duration) -> io::Result<TcpStream> {
    let mut result = Err(io::Error::other("the name has no address"));
    for peer in address.to_socket_addrs()? {
        result = TcpStream::connect_timeout(&peer, timeout);
        if result.is_ok() {
            break;
        }
    }
    let stream = result?;
    stream.set_read_timeout(Some(timeout))?;
    // Nagle's algorithm holds back a small write until the server's delayed ACK: 40 ms.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends the messages. When the connection is lost, the receiving side says so.
fn send(mut stream: &TcpStream, messages: &[Vec<u8>]) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let unread = |error| UNREAD.set(error).map_or(0, |()| 0); // 0: as at the end; `run` says why
    for message in messages {
        if message != b"-" {
            stream.write_all(message)?;
            continue;
        }
        while let length @ 1.. = io::stdin().read(&mut buffer).unwrap_or_else(unread) {
            SENT.fetch_add(length, SeqCst);
            stream.write_all(&buffer[..length])?;
        }
    }
    // Only standard input has an end to tell: a proxy may take half a close for a whole one.
    if messages.iter().any(|message| message == b"-") {
        stream.shutdown(Shutdown::Write)?;
    }
    Ok(())
}

impl Client {
    /// Receives what has come of the answer; 0 bytes: that was all.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            let (ended, sent) = (self.sender.is_finished(), SENT.load(SeqCst));
            if ended && self.received >= sent {
                return Ok(0);
            }
            let why = match self.stream.read(buffer) {
                Ok(0) if self.received >= SENT.load(SeqCst) => return Ok(0),
                Ok(0) => io::Error::other("the connection was closed"),
                Ok(length) => {
                    self.received += length;
                    return Ok(length);
                }
                // Stopped and continued (Ctrl-Z, `fg`): a read with a timeout does not resume.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Nothing came for too long, but nothing is missing, or more was sent meanwhile.
                Err(error) if timed_out(&error) && self.received >= sent => continue,
                Err(error) if timed_out(&error) && SENT.load(SeqCst) > sent => continue,
                Err(error) => error,
            };
            let (received, sent) = (self.received, SENT.load(SeqCst));
            let what = format!("{received} of {sent} bytes came from {}", self.address);
            return Err(Error::failed(what, &why));
        }
    }
}
