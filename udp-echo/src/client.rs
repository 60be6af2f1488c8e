//! Sends each message as a datagram and prints the answer, one after the other.
//!
//! ```sh
//! cargo run -p udp-echo --bin udp-echo-client                        # hello
//! cargo run -p udp-echo --bin udp-echo-client -- :8888 one two
//! seq 500 | cargo run -p udp-echo --bin udp-echo-client -- :8888 -
//! ```
//!
//! UDP has no connection, so what TCP does for its clients is done here:
//! - a timeout, and another try with the wait doubled each time (RFC 8085 section 3.1.1): a request
//!   or an answer may be lost, and either side may be started first;
//! - a connected socket: the kernel drops what comes from any other address, and reports a port
//!   that nobody listens on;
//! - a new socket, so a new port, for each message: a late or doubled answer to an earlier one goes
//!   to a port that is closed. The kernel picks among some 28,000 ports: who sends so much that the
//!   same one comes again while answers are late puts a number into each request.
//!
//! A request may arrive twice, so asking twice must do no harm.
//!
//! In Python: `socket.sendto` and `recvfrom`. See also: `server.rs`; `udp-threaded`, whose client
//! sends all messages at once.

use common::{Address, Error, Options};
use std::io::{self, ErrorKind};
use std::net::{ToSocketAddrs, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

const HELP: &str = "\
Usage: udp-echo-client [--timeout S] [--attempts N] [ADDR [MESSAGE...]]

Sends each message as a datagram and prints the answer.

  ADDR          whom to ask: HOST:PORT, HOST, :PORT or PORT (default 127.0.0.1:8888)
  MESSAGE       what to send (default: hello); - sends the lines of standard input
  --timeout S   seconds to wait at the first attempt, doubled at each further one (default 1)
  --attempts N  how often to ask (default 4)
";

/// As large as a datagram can be: what did not fit into the buffer would be cut off.
const MAX_DATAGRAM: usize = 65_535;

struct Client {
    address: Address,
    timeout: Duration,
    attempts: usize,
}

fn main() -> ExitCode {
    common::main(HELP, run)
}

fn run(options: &Options) -> Result<(), Error> {
    let address = options.address()?;
    let timeout = options.timeout("--timeout", 1)?;
    let attempts = options.count("--attempts")?.unwrap_or(4);
    let client = Client { address, timeout, attempts };
    for message in common::datagrams(options.messages(&["hello"])) {
        let mut answer = client.ask(&message?)?;
        answer.push(b'\n');
        common::print(&answer)?;
    }
    Ok(())
}

impl Client {
    /// One message, one answer.
    fn ask(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let Client { address, attempts, .. } = self;
        let sockets = connect(address)
            .map_err(|why| Error::failed(format_args!("cannot ask {address}"), &why))?;
        let (mut wait, mut result) = (self.timeout, Err(ErrorKind::TimedOut.into()));
        for attempt in 1..=*attempts {
            let start = Instant::now();
            for (index, socket) in sockets.iter().enumerate() {
                // What is left of the wait, shared among the addresses that are left.
                let left = wait.saturating_sub(start.elapsed()) / (sockets.len() - index) as u32;
                result = exchange(socket, message, left);
                if let Ok(answer) = result {
                    return Ok(answer);
                }
            }
            // Nobody listens: the server may be about to start.
            if attempt < *attempts {
                thread::sleep(wait.saturating_sub(start.elapsed()));
            }
            wait = wait.saturating_mul(2);
        }
        let what = format!("no answer from {address} after {attempts} attempts");
        result.map_err(|why: io::Error| Error::failed(what, &why))
    }
}

/// A socket for each of the name's addresses. To connect a UDP socket sends nothing.
fn connect(address: &Address) -> io::Result<Vec<UdpSocket>> {
    let mut result = Err(io::Error::other("the name has no address"));
    let mut sockets = Vec::new();
    for peer in address.to_socket_addrs()? {
        let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        result = UdpSocket::bind(any)
            .and_then(|socket| socket.connect(peer).map(|()| sockets.push(socket)));
    }
    if sockets.is_empty() { result.map(|()| sockets) } else { Ok(sockets) }
}

/// Sends once, waits once.
fn exchange(socket: &UdpSocket, message: &[u8], wait: Duration) -> io::Result<Vec<u8>> {
    let start = Instant::now();
    let mut answer = vec![0; MAX_DATAGRAM];
    // An error may be an earlier attempt's, and then this one was not sent: send it again.
    socket.send(message).or_else(|_| socket.send(message))?;
    loop {
        let left = wait.saturating_sub(start.elapsed());
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match socket.recv(&mut answer) {
            Ok(length) => {
                answer.truncate(length);
                return Ok(answer);
            }
            // Stopped and continued (Ctrl-Z, `fg`): a wait with a timeout does not resume.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Nobody listens, or nobody answers.
            Err(error) => return Err(error),
        }
    }
}
