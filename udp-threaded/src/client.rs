//! Sends all messages at once, each as a datagram, and prints the replies as they arrive.
//!
//! ```sh
//! cargo run -p udp-threaded --bin udp-threaded-client -- :8888 a b c d e f g h
//! seq 500 | cargo run -p udp-threaded --bin udp-threaded-client -- :8888 -
//! ```
//!
//! Each message has a thread and a socket of its own, at most 64 at a time, so replies may arrive in
//! any order. Against `udp-threaded-server --delay 0.5 --workers 8` eight messages take half a
//! second; one after the other they would take four. `udp-echo`'s client, which sends one message at
//! a time, explains the timeout, the retries, and how a reply is matched to its request.
//!
//! In Python: a `threading.Thread` for each message. See also: `server.rs`.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const HELP: &str = "\
Usage: udp-threaded-client [OPTIONS] [ADDR [MESSAGE...]]

Sends all messages at once, each as a datagram, and prints the replies as they
arrive.

Arguments:
  ADDR            address of the server: HOST:PORT, HOST, :PORT, PORT or
                  [V6]:PORT [default: 127.0.0.1:8888]
  MESSAGE         what to send; - stands for the lines of standard input
                  [default: hello]

Options:
  --timeout SECS  wait for the first reply; doubled on each retry [default: 1]
  --attempts N    give up after N attempts [default: 4]
  -h, --help      print this help
  -V, --version   print the version
";

fn main() -> std::process::ExitCode {
    common::main(HELP, env!("CARGO_PKG_VERSION"), run)
}

fn run(args: &common::Args) -> Result<(), common::Error> {
    let address = args.address()?;
    let timeout = args.timeout("--timeout", 1)?;
    let attempts = args.number("--attempts", u64::MAX)?.unwrap_or(4);
    let (server, addresses) = (address.to_string(), address.resolve()?);
    let messages = common::payloads(args.messages(&["hello"]), &addresses);
    let client = Arc::new(Client { server, addresses, timeout, attempts });
    // The first failure ends the program, also while a thread still reads standard input.
    for reply in start(&client, messages)? {
        let mut reply = reply?;
        reply.push(b'\n');
        common::print(&reply)?;
    }
    Ok(())
}

/// The number of messages that are sent at a time.
const WORKERS: usize = 64;

/// Starts the workers, and returns the replies in the order in which they arrive.
fn start<I>(client: &Arc<Client>, messages: I) -> io::Result<Receiver<io::Result<Vec<u8>>>>
where
    I: Iterator<Item = io::Result<Vec<u8>>> + Send + 'static,
{
    let messages = Arc::new(Mutex::new(messages));
    let (sender, replies) = mpsc::sync_channel(0);
    for n in 1..=WORKERS {
        let (client, messages) = (Arc::clone(client), Arc::clone(&messages));
        let sender = sender.clone();
        let started = thread::Builder::new().spawn(move || client.work(&messages, &sender));
        match started {
            Ok(_) => {}
            // The system has no thread left. Work with those that run.
            Err(_) if n > 1 => break,
            Err(error) => return Err(io::Error::other(format!("cannot start a thread: {error}"))),
        }
    }
    Ok(replies)
}

struct Client {
    /// The server's name, for error messages.
    server: String,
    addresses: Vec<SocketAddr>,
    /// The wait for a reply to the first attempt.
    timeout: Duration,
    attempts: u64,
}

impl Client {
    /// Sends one message after the other until there is none left or the receiver is gone.
    fn work<I>(&self, messages: &Mutex<I>, replies: &SyncSender<io::Result<Vec<u8>>>)
    where
        I: Iterator<Item = io::Result<Vec<u8>>>,
    {
        loop {
            let message = messages.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(message) = message else { return };
            let reply = message.and_then(|message| self.request(&message));
            if replies.send(reply).is_err() {
                return;
            }
        }
    }

    /// Sends a request, again if need be, and returns the reply.
    fn request(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        let Client { server, attempts, .. } = self;
        let failed = |error| io::Error::other(format!("cannot send to {server}: {error}"));
        let sockets = connect(&self.addresses).map_err(failed)?;
        let mut wait = self.timeout;
        let mut last_error = io::Error::from(ErrorKind::TimedOut);
        for _ in 0..*attempts {
            let start = Instant::now();
            for (index, socket) in sockets.iter().enumerate() {
                // The addresses that have not been tried share the rest of the wait.
                let untried = sockets.len() - index;
                let wait = wait.saturating_sub(start.elapsed()) / untried as u32;
                match exchange(socket, message, wait, untried == 1) {
                    Ok(reply) => return Ok(reply),
                    Err(error) if is_transient(&error) => last_error = error,
                    Err(error) => return Err(failed(error)),
                }
            }
            wait = wait.saturating_mul(2);
        }
        let plural = if *attempts == 1 { "" } else { "s" };
        Err(io::Error::other(format!(
            "no reply from {server} after {attempts} attempt{plural}: {last_error}; \
             is the server running?"
        )))
    }
}

/// Returns a connected socket for each address that the system has a route to.
fn connect(addresses: &[SocketAddr]) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::new();
    let mut result = Ok(());
    for address in addresses {
        match connect_to(address) {
            Ok(socket) => sockets.push(socket),
            Err(error) => result = Err(error),
        }
    }
    if sockets.is_empty() { result.map(|()| sockets) } else { Ok(sockets) }
}

/// Returns a connected socket. Connecting a UDP socket sends nothing.
fn connect_to(address: &SocketAddr) -> io::Result<UdpSocket> {
    let any_port = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    loop {
        let socket = UdpSocket::bind(any_port)?;
        socket.connect(address)?;
        // With no server listening, the kernel may choose the server's port for the client, which
        // would then talk to itself. Close that socket and take another.
        if socket.local_addr()? != socket.peer_addr()? {
            return Ok(socket);
        }
    }
}

/// Sends a request once and waits for the reply. A refusal ends the wait only if there is another
/// address to try.
fn exchange(
    socket: &UdpSocket,
    message: &[u8],
    wait: Duration,
    is_last: bool,
) -> io::Result<Vec<u8>> {
    let start = Instant::now();
    let mut reply = vec![0; 65_535]; // the largest datagram; a smaller buffer would truncate it
    // `send` may report an ICMP error from the previous attempt instead of sending. Try once more.
    let mut last_error = match socket.send(message).or_else(|_| socket.send(message)) {
        Ok(_) => ErrorKind::TimedOut.into(),
        Err(error) if is_transient(&error) && is_last => error,
        Err(error) => return Err(error),
    };
    loop {
        let remaining = wait.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
        socket.set_read_timeout(Some(remaining))?;
        match socket.recv(&mut reply) {
            Ok(length) => {
                reply.truncate(length);
                return Ok(reply);
            }
            // SIGSTOP and SIGCONT interrupt a receive that has a timeout.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The time is up. Unix and Windows report it differently.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(last_error);
            }
            // An ICMP error, perhaps from the previous attempt. A reply may follow: the server may
            // have started since.
            Err(error) if is_transient(&error) && is_last => last_error = error,
            Err(error) => return Err(error),
        }
    }
}

/// Returns whether another attempt may succeed.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::TimedOut
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset // a refusal on Windows
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}
