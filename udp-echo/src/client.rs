//! Sends each message as a datagram and prints the reply, one message at a time.
//!
//! ```sh
//! cargo run -p udp-echo --bin udp-echo-client                        # hello
//! cargo run -p udp-echo --bin udp-echo-client -- :8888 one two
//! seq 500 | cargo run -p udp-echo --bin udp-echo-client -- :8888 -
//! ```
//!
//! UDP neither repeats what is lost nor matches replies to requests, so the client does:
//! - It sends a request again when a reply does not arrive in time, and doubles the wait for each attempt
//!   (RFC 8085 section 3.1.1). A request or a reply may be lost, and either side may start first.
//! - It connects its socket, so that the kernel drops datagrams from other addresses and reports
//!   ICMP errors, such as that of a port on which no server is listening.
//! - It takes a new socket for each message. If the system has enough free ports, its port differs from
//!   those of the last 16,384. A late or duplicated reply to an earlier message is then not taken for
//!   the current one.
//!
//! *Before real use*: the server may receive a request more than once, so serving it again must do no
//! harm. Ports are used again, the sooner the faster a client sends, and replies can be spoofed. Only a
//! random number in each request that its reply repeats rules out that the client prints a wrong reply.
//! The timeout does not include the resolution of a name.
//!
//! In Python: `socket.connect`, `settimeout`, `send` and `recv`. See also: `server.rs`;
//! `udp-threaded`, whose client sends all messages at once.
//!
//! Version 0.3.0. `docs/changelog.md` lists the fixes of later versions.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

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
Usage: udp-echo-client [OPTIONS] [ADDR [MESSAGE...]]

Sends each message as a datagram and prints the reply, one message at a time.

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
    for message in messages {
        let mut reply = client.request(&message?)?;
        reply.push(b'\n');
        common::print(&reply)?;
    }
    Ok(())
}
