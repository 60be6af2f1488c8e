//! Sends messages concurrently, each as a datagram, and prints the replies as they arrive.
//!
//! ```sh
//! cargo run -p udp-threaded --bin udp-threaded-client -- :8888 a b c d e f g h
//! seq 500 | cargo run -p udp-threaded --bin udp-threaded-client -- :8888 -
//! ```
//!
//! 64 threads take messages from one iterator and use a new socket for each, so replies may arrive in
//! any order. Against `udp-threaded-server --delay 0.5 --workers 8`, eight messages take half a second
//! instead of four. For the timeout, the retries and the matching of replies, see `udp-echo`'s
//! client, which sends one message at a time.
//!
//! In Python: `concurrent.futures.ThreadPoolExecutor`. See also: `server.rs`.
//!
//! Version 0.3.0. `docs/changelog.md` lists the fixes of later versions.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The number of messages that are sent at a time.
const WORKERS: usize = 64;

type Messages = Box<dyn Iterator<Item = io::Result<Vec<u8>>> + Send>;

struct Client {
    /// The server's name, for error messages.
    server: String,
    addresses: Vec<SocketAddr>,
    /// How long the first attempt waits for a reply.
    timeout: Duration,
    attempts: u64,
    /// The local ports of the last requests, to which late replies may arrive. The lock is for threads
    /// that share the client.
    recent_ports: Mutex<VecDeque<u16>>,
}

impl Client {
    fn new(server: &str, addresses: Vec<SocketAddr>) -> Client {
        let (timeout, recent_ports) = (Duration::from_secs(1), Mutex::new(VecDeque::new()));
        Client { server: server.into(), addresses, timeout, attempts: 4, recent_ports }
    }

    /// Starts the workers and returns a channel that yields each reply as it arrives.
    fn start(self, messages: Messages) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
        let (client, messages) = (Arc::new(self), Arc::new(Mutex::new(messages)));
        // With a capacity of zero, a worker takes its next message only after its reply has been
        // received.
        let (sender, replies) = mpsc::sync_channel(0);
        for n in 1..=WORKERS {
            let (client, messages) = (Arc::clone(&client), Arc::clone(&messages));
            let sender = sender.clone();
            // Not joined: the first error ends the program, even if a worker still reads standard
            // input.
            let started = thread::Builder::new().spawn(move || client.work(&messages, &sender));
            match started {
                Ok(_) => {}
                Err(error) if n == 1 => {
                    return Err(io::Error::other(format!("cannot start a thread: {error}")));
                }
                // The system cannot start another thread. Use the ones that run.
                Err(_) => break,
            }
        }
        Ok(replies)
    }

    /// Takes and sends messages until none is left or the receiver is dropped.
    fn work(&self, messages: &Mutex<Messages>, replies: &SyncSender<io::Result<Vec<u8>>>) {
        loop {
            let message = messages.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(message) = message else { return };
            let reply = message.and_then(|message| self.request(&message));
            if replies.send(reply).is_err() {
                return;
            }
        }
    }

    /// Sends a request, more than once if necessary, and returns the reply.
    fn request(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        let Client { server, attempts, .. } = self;
        let failed = |error| io::Error::other(format!("cannot send to {server}: {error}"));
        let mut sockets = Vec::new();
        let mut wait = self.timeout;
        let mut last_error = io::Error::from(ErrorKind::TimedOut);
        for attempt in 1..=*attempts {
            let start = Instant::now();
            if sockets.is_empty() {
                match self.connect() {
                    Ok(connected) => sockets = connected,
                    // For example, there is no route yet.
                    Err(error) if is_transient(&error) => {
                        last_error = error;
                        if attempt < *attempts {
                            thread::sleep(wait);
                        }
                    }
                    Err(error) => return Err(failed(error)),
                }
            }
            for (index, socket) in sockets.iter().enumerate() {
                // The remaining addresses share the rest of the wait.
                let remaining = sockets.len() - index;
                let share = wait.saturating_sub(start.elapsed()) / remaining as u32;
                let is_last = remaining == 1;
                // `send` may report an ICMP error from the previous attempt instead of sending. That
                // clears the error: try once more.
                match socket.send(message).or_else(|_| socket.send(message)) {
                    Ok(_) => last_error = ErrorKind::TimedOut.into(),
                    Err(error) if !is_last => {
                        last_error = error;
                        continue;
                    }
                    Err(error) if is_transient(&error) => last_error = error,
                    Err(error) => return Err(failed(error)),
                }
                match receive(socket, share, is_last) {
                    Ok(Some(reply)) => return Ok(reply),
                    Ok(None) => {}
                    Err(error) => last_error = error,
                }
            }
            wait = wait.saturating_mul(2);
        }
        // Look once more: a reply may have arrived while this process was suspended, or while it waited
        // for the last address.
        for socket in &sockets {
            if let Ok(Some(reply)) = receive(socket, Duration::from_millis(1), true) {
                return Ok(reply);
            }
        }
        let plural = if *attempts == 1 { "" } else { "s" };
        Err(io::Error::other(format!(
            "no reply from {server} after {attempts} attempt{plural}: {last_error}; \
             is the server running?"
        )))
    }

    /// Returns a connected socket for each address that the system can send to.
    fn connect(&self) -> io::Result<Vec<UdpSocket>> {
        let mut sockets = Vec::new();
        let mut last_error = io::Error::other("no address");
        for address in &self.addresses {
            match self.connect_to(address) {
                Ok(socket) => sockets.push(socket),
                Err(error) => last_error = error,
            }
        }
        if sockets.is_empty() { Err(last_error) } else { Ok(sockets) }
    }

    /// Returns a connected socket. Connecting a UDP socket sends nothing.
    fn connect_to(&self, address: &SocketAddr) -> io::Result<UdpSocket> {
        let any_port = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        // A thread that panics poisons the lock, but leaves the list intact.
        let mut recent_ports = self.recent_ports.lock().unwrap_or_else(PoisonError::into_inner);
        // These stay open until the end, so that the kernel assigns other ports.
        let (mut own, mut recent) = (Vec::new(), Vec::new());
        let socket = loop {
            let socket = match UdpSocket::bind(any_port) {
                Ok(socket) => socket,
                // The system has few ports, and they have to be used again.
                Err(error) => break recent.pop().ok_or(error)?,
            };
            socket.connect(address)?;
            let local = socket.local_addr()?;
            if local == socket.peer_addr()? {
                // While the server is not running, the kernel may assign its port to this socket,
                // which would then receive its own requests.
                own.push(socket);
            } else if recent_ports.contains(&local.port()) && recent.len() < 16 {
                // A late reply to an earlier request could be taken for the reply to this one.
                recent.push(socket);
            } else {
                break socket;
            }
        };
        recent_ports.push_back(socket.local_addr()?.port());
        if recent_ports.len() > 16_384 {
            recent_ports.pop_front();
        }
        Ok(socket)
    }
}

/// Waits for a reply. Returns `None` if there was neither a reply nor an error. An error ends the
/// wait, so that the next address is tried. For the last address it does not, because a reply may
/// follow.
fn receive(socket: &UdpSocket, wait: Duration, is_last: bool) -> io::Result<Option<Vec<u8>>> {
    let (start, server) = (Instant::now(), socket.peer_addr()?);
    let mut reply = vec![0; 65_535]; // room for any datagram; a smaller buffer may truncate one
    let mut result = Ok(None);
    loop {
        let remaining = wait.saturating_sub(start.elapsed());
        if remaining.is_zero() {
            return result;
        }
        socket.set_read_timeout(Some(remaining))?;
        match socket.recv_from(&mut reply) {
            // It arrived between `bind` and `connect`. The kernel drops later ones.
            Ok((_, sender)) if sender != server => {}
            Ok((length, _)) => {
                reply.truncate(length);
                return Ok(Some(reply));
            }
            // Unix and Windows report a timeout differently. Windows does not guarantee that the
            // socket still works.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // SIGSTOP and SIGCONT interrupt a receive that has a timeout.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // An ICMP error, perhaps from the previous attempt; the server may have started since.
            Err(error) if is_last => result = Err(error),
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
            | ErrorKind::ConnectionReset // a refusal on Windows, where UDP reports it like TCP
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrInUse // no local port is free
            | ErrorKind::PermissionDenied // a firewall, or its table of connections is full
    )
}

const HELP: &str = "\
Usage: udp-threaded-client [OPTIONS] [ADDR [MESSAGE...]]

Sends messages concurrently, up to 64 at a time, each as a datagram, and prints
the replies as they arrive.

Arguments:
  ADDR            address of the server: HOST:PORT, HOST, :PORT, PORT or
                  [V6]:PORT [default: 127.0.0.1:8888]
  MESSAGE         what to send; a single - sends the lines of standard input
                  [default: hello]

Options:
  --timeout SECS  time to wait for a reply, doubled on each retry [default: 1]
  --attempts N    send each message at most N times [default: 4]
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
    let messages = args.messages(&["hello"])?;
    let addresses = address.resolve()?;
    let messages = common::payloads(messages, &addresses);
    let client = Client { timeout, attempts, ..Client::new(&address.to_string(), addresses) };
    for reply in client.start(Box::new(messages))? {
        let mut reply = reply?;
        reply.push(b'\n');
        common::print(&reply)?;
    }
    Ok(())
}
