//! Sends all messages at once, each as a datagram, and prints the answers as they come.
//!
//! ```sh
//! cargo run -p udp-threaded --bin udp-threaded-client -- :8888 a b c d e f g h
//! seq 500 | cargo run -p udp-threaded --bin udp-threaded-client -- :8888 -
//! ```
//!
//! Each message has a thread and a socket of its own, at most 64 at a time; the answers may come in
//! any order. Against `udp-threaded-server --delay 0.5 --workers 8` eight messages take half a
//! second, against one thread four. Timeout, retry and the choice of the right answer are explained
//! in `udp-echo`'s client, which sends one message at a time.
//!
//! In Python: a `threading.Thread` for each message. See also: `server.rs`.

use common::{Address, Error, Options};
use std::io::{self, ErrorKind};
use std::net::{ToSocketAddrs, UdpSocket};
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const HELP: &str = "\
Usage: udp-threaded-client [--timeout S] [--attempts N] [ADDR [MESSAGE...]]

Sends all messages at once, each as a datagram, and prints the answers as they come.

  ADDR          whom to ask: HOST:PORT, HOST, :PORT or PORT (default 127.0.0.1:8888)
  MESSAGE       what to send (default: hello); - sends the lines of standard input
  --timeout S   seconds to wait at the first attempt, doubled at each further one (default 1)
  --attempts N  how often to ask (default 4)
";

/// As large as a datagram can be: what did not fit into the buffer would be cut off.
const MAX_DATAGRAM: usize = 65_535;

/// The most messages under way at a time.
const MAX_WORKERS: usize = 64;

struct Client {
    address: Address,
    timeout: Duration,
    attempts: usize,
    failure: OnceLock<Error>,
}

fn main() -> ExitCode {
    common::main(HELP, run)
}

fn run(options: &Options) -> Result<(), Error> {
    let address = options.address()?;
    let timeout = options.timeout("--timeout", 1)?;
    let attempts = options.count("--attempts")?.unwrap_or(4);
    let client = Client { address, timeout, attempts, failure: OnceLock::new() };
    let messages = options.messages(&["hello"]);
    let piped = messages.iter().any(|message| message == b"-");
    let workers = if piped { MAX_WORKERS } else { messages.len().min(MAX_WORKERS) };
    let messages = Mutex::new(common::datagrams(messages));
    thread::scope(|scope| {
        let work = || client.work(&messages);
        for _ in 2..=workers {
            // The machine's error: it gives no more threads. Work with those that run.
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    client.failure.into_inner().map_or(Ok(()), Err)
}

impl Client {
    /// One worker: takes the next message and sees it through. After a failure nobody takes more.
    fn work(&self, messages: &Mutex<impl Iterator<Item = Result<Vec<u8>, Error>>>) {
        while self.failure.get().is_none() {
            let message = messages.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(message) = message else { return };
            let printed = message.and_then(|message| self.ask(&message)).and_then(|mut answer| {
                answer.push(b'\n');
                common::print(&answer)
            });
            if let Err(error) = printed {
                // Of several failures the first one is told.
                let _ = self.failure.set(error);
            }
        }
    }

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
