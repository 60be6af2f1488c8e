//! The kit's side of a connection: what it sends, and what it expects from a complete reply.

use super::Protocol::{Tcp, Udp};
use super::Verdict::Fails;
use super::{Outcome, Protocol, Verdict, require};
use crate::{grouped, proc, retry_on_eintr, unused_address};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError::Timeout};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often the kit looks whether something has changed.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// A reply whose end cannot be recognized is complete after such a time without further bytes.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// What the kit cannot find out about a server.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The command that starts the server, in which `{port}` stands for a free port of 127.0.0.1;
    /// empty if the server is already running.
    pub command: Vec<String>,
    /// Where the server listens, if it does not take its port from the command.
    pub address: Option<SocketAddr>,
    /// What to send instead of lines of text; empty if the server speaks first.
    pub request: Option<Vec<u8>>,
    /// What every complete reply contains.
    pub reply: Option<Vec<u8>>,
    /// Whether the server never replies.
    pub no_reply: bool,
    /// How long the server may take until its first reply.
    pub start: Duration,
    /// How long it may take until any other reply, or until more of a reply arrives.
    pub patience: Duration,
    /// How many clients connect at the same time.
    pub clients: usize,
}

/// How a complete reply is recognized.
#[derive(Clone)]
pub(super) enum Content {
    /// It is what this function makes of the request, except for line ends.
    Function(fn(&[u8]) -> Vec<u8>),
    /// It contains `Options::reply`.
    Given,
    /// It has this length, or begins like this and is longer.
    Like(usize, Vec<u8>),
    Unknown,
}

/// How to talk to a server.
#[derive(Clone)]
pub(super) struct Client {
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub options: Options,
    pub content: Content,
    /// Whether the server sends something before it receives something.
    pub greets: bool,
    /// Whether a connection is good for one request only.
    pub once: bool,
    /// Whether replies arrive from another port than that to which requests are sent, as in TFTP.
    pub any_port: bool,
    /// The limit of each wait.
    pub patience: Duration,
}

impl Client {
    /// Returns a client that has learned nothing about the server yet.
    pub fn new(protocol: Protocol, options: Options) -> Client {
        let address = options.address.unwrap_or_else(unused_address);
        let content = if options.reply.is_some() { Content::Given } else { Content::Unknown };
        let ([greets, once, any_port], patience) = ([false; 3], options.patience);
        Client { protocol, address, options, content, greets, once, any_port, patience }
    }

    /// Returns a client that waits `factor` times as long.
    pub fn with_patience(&self, factor: u32) -> Client {
        Client { patience: factor * self.patience, ..self.clone() }
    }

    /// Returns the request for an exchange: this text, unless the user of the kit has given another.
    pub fn request(&self, text: &[u8]) -> Vec<u8> {
        self.options.request.as_deref().unwrap_or(text).to_vec()
    }

    pub fn half(&self) -> Vec<u8> {
        let request = self.request(b"Unfinished request\n");
        request[..request.len() / 2].to_vec()
    }

    /// Returns a sequence of requests that has about this length.
    pub fn bulk(&self, length: usize) -> Vec<u8> {
        match self.options.request.as_deref() {
            Some(request @ [_, ..]) => request.repeat(length.div_ceil(request.len())),
            _ => lines(length),
        }
    }

    /// Opens a connection, with the limit on each call.
    pub fn connect(&self) -> Outcome<TcpStream> {
        let stream = match TcpStream::connect_timeout(&self.address, self.patience) {
            Err(error) if is_timeout(&error) => return Err(self.hangs("no connection within")),
            connected => connected?,
        };
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Opens a connection, and reads the greeting of a server that sends one.
    pub fn open(&self) -> Outcome<TcpStream> {
        let stream = self.connect()?;
        self.read_greeting(&stream).map(|()| stream)
    }

    pub fn read_greeting(&self, stream: &TcpStream) -> Outcome {
        if self.greets { self.read(stream, None).map(drop) } else { Ok(()) }
    }

    /// Makes an exchange, and a second one over the same connection if the protocol allows that.
    pub fn probe(&self) -> Outcome {
        let request = self.request(b"Are you there?\n");
        if self.protocol == Udp || self.once {
            return self.exchange(&request);
        }
        let stream = self.open()?;
        self.exchange_on(&stream, &request)?;
        let second = self.exchange_on(&stream, &request);
        finish(&stream);
        second.map_err(|problem| problem.with(" to the second request over a connection"))
    }

    /// Makes one exchange over a connection or socket of its own.
    pub fn exchange(&self, request: &[u8]) -> Outcome {
        if self.protocol == Tcp {
            let stream = self.open()?;
            return self.exchange_on(&stream, request).map(|()| finish(&stream));
        }
        if self.options.no_reply {
            self.send(&self.socket()?, request)?;
            return self.wait_until_read(0);
        }
        self.verify(request, &self.reply_to(request)?)
    }

    /// Opens a socket for one client. If it is connected, the system reports that no server listens.
    pub fn socket(&self) -> Outcome<UdpSocket> {
        let any = if self.address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = if self.any_port { UdpSocket::bind(any)? } else { crate::udp(self.address) };
        socket.set_read_timeout(Some(self.patience / 10))?;
        Ok(socket)
    }

    pub fn send(&self, socket: &UdpSocket, datagram: &[u8]) -> io::Result<usize> {
        if self.any_port { socket.send_to(datagram, self.address) } else { socket.send(datagram) }
    }

    /// Sends a request up to three times, and returns the reply: the server drops requests while its
    /// queue is full. From a socket of its own each time, since a server may join what one client sends.
    pub fn reply_to(&self, request: &[u8]) -> Outcome<Vec<u8>> {
        let mut reply = vec![0; 65_535];
        for tenths in [1, 2, 7] {
            let socket = self.socket()?;
            socket.set_read_timeout(Some(self.patience * tenths / 10))?;
            self.send(&socket, request)?;
            match retry_on_eintr(|| socket.recv(&mut reply)) {
                Err(error) if is_timeout(&error) => {}
                received => {
                    reply.truncate(received?);
                    return Ok(reply);
                }
            }
        }
        Err(self.hangs("no reply within"))
    }

    pub fn exchange_on(&self, mut stream: &TcpStream, request: &[u8]) -> Outcome {
        // An error also shows in the reply.
        let _ = stream.write_all(request);
        self.reply(stream, request)
    }

    pub fn reply(&self, stream: &TcpStream, request: &[u8]) -> Outcome {
        if self.options.no_reply {
            return self.wait_until_read(stream.local_addr()?.port());
        }
        self.verify(request, &self.read(stream, Some(request))?)
    }

    fn is_complete(&self, request: &[u8], reply: &[u8]) -> bool {
        match &self.content {
            Content::Function(reply_to) => {
                let expected = text(&reply_to(request)).len();
                reply.len() >= expected && text(reply).len() >= expected
            }
            Content::Given => self.is_given(reply),
            Content::Like(length, _) => reply.len() >= *length,
            Content::Unknown => false,
        }
    }

    /// Reads until the reply to a request is complete, if this can be recognized, the stream ends, or no
    /// more arrives.
    pub fn read(&self, mut stream: &TcpStream, request: Option<&[u8]>) -> Outcome<Vec<u8>> {
        let request = request.filter(|_| !matches!(self.content, Content::Unknown));
        let (mut reply, mut buffer) = (Vec::new(), vec![0; 65_536]);
        let (limit, start) = (stream.read_timeout()?, Instant::now());
        while request.is_none_or(|request| !self.is_complete(request, &reply)) {
            if request.is_none() && !reply.is_empty() {
                // Other clients cause what arrives, as in a chat.
                if reply.len() > 1 << 20 || start.elapsed() > self.patience {
                    break;
                }
                stream.set_read_timeout(Some(PAUSE))?;
            }
            // A server that repeats itself forever never completes its reply.
            if reply.len() > 16 << 20 {
                return Err(Fails("loses data", "sent more than 16 MiB for one reply".into()));
            }
            match retry_on_eintr(|| stream.read(&mut buffer)) {
                Ok(length @ 1..) => reply.extend(&buffer[..length]),
                Err(error) if is_timeout(&error) && reply.is_empty() => {
                    return Err(self.hangs("no reply within"));
                }
                _ => break,
            }
        }
        stream.set_read_timeout(limit)?;
        Ok(reply)
    }

    /// Returns the verdict that something was not done within the limit.
    pub fn hangs(&self, what: &str) -> Verdict {
        let seconds = self.patience.as_millis().div_ceil(100) as f64 / 10.0;
        Fails("hangs", format!("{what} {seconds} s"))
    }

    pub fn is_given(&self, reply: &[u8]) -> bool {
        let given = self.options.reply.as_deref().unwrap_or_default();
        given.is_empty() || reply.windows(given.len()).any(|window| window == given)
    }

    pub fn verify(&self, request: &[u8], reply: &[u8]) -> Outcome {
        let start = reply[..reply.len().min(60)].escape_ascii();
        let details = match &self.content {
            _ if reply.is_empty() && self.protocol == Tcp => "closed without a reply".into(),
            Content::Function(reply_to) => {
                let (expected, received) = (text(&reply_to(request)), text(reply));
                let length = grouped(expected.len());
                match received.len() {
                    _ if received == expected => return Ok(()),
                    short if short < expected.len() => return Err(lost(short, expected.len())),
                    _ => format!("replied with other bytes to {length} bytes: \"{start}\""),
                }
            }
            Content::Like(length, beginning) if reply.starts_with(beginning) => match reply.len() {
                short if short < *length => return Err(lost(short, *length)),
                _ => return Ok(()),
            },
            Content::Like(length, _) if reply.len() == *length => return Ok(()),
            Content::Given if self.is_given(reply) => return Ok(()),
            Content::Unknown => return Ok(()),
            _ => format!("replied with \"{start}\""), // For example, an error.
        };
        Err(Fails("loses data", details))
    }

    /// Waits until a server that never replies has read what was sent. The port is the client's.
    fn wait_until_read(&self, client: u16) -> Outcome {
        require(cfg!(target_os = "linux"), "--no-reply needs Linux")?;
        let (start, mut pause, mut reads) = (Instant::now(), TICK, 0);
        let (is_udp, port) = (self.protocol == Udp, self.address.port());
        loop {
            // Before the sockets are listed, which takes seconds if there are very many.
            let is_late = start.elapsed() > self.patience;
            let sockets = proc::sockets_at(self.protocol.name(), port);
            let mut own = sockets.iter().filter(|it| it.port == port && it.peer == client);
            if is_udp && own.clone().next().is_none() {
                return Err(Fails("exits", "no longer listens".into()));
            }
            // On its way to the server, or in a connection that the server's queue has no room for.
            let mut sent = sockets.iter().filter(|it| (it.port, it.peer) == (client, port));
            let is_sent = is_udp || sent.all(|it| it.unsent == 0);
            let is_read = is_sent && own.all(|it| it.unread == 0 && it.is_established);
            reads = if is_read { reads + 1 } else { 0 };
            // A datagram may be on its way as well.
            if reads > usize::from(is_udp) {
                return Ok(());
            } else if is_late {
                return Err(self.hangs("a request is unread after"));
            }
            sleep(pause);
            pause = (2 * pause).min(10 * TICK); // Listing sockets takes long.
        }
    }

    /// Makes an exchange now and then over a connection that stays open, until the channel is closed.
    /// If the connection `may_end`, as it may when a server has as many as it allows, it is opened
    /// again.
    pub fn stay(&self, mut stream: TcpStream, may_end: bool, stop: &Receiver<()>) -> Outcome {
        loop {
            let stopped = stop.recv_timeout(Duration::from_millis(500)) != Err(Timeout);
            if may_end && has_ended(&stream) {
                stream = self.open()?;
            }
            match self.exchange_on(&stream, &self.request(b"I was here before.\n")) {
                Err(Fails(_, details)) => {
                    let details = format!("a client that was connected before: {details}");
                    return Err(Fails("drops clients", details));
                }
                Ok(()) if !stopped => {}
                served => return served,
            }
        }
    }
}

/// Returns whether the server has closed a connection without a reset.
pub(super) fn has_ended(stream: &TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let ended = matches!(stream.peek(&mut [0]), Ok(0));
    let _ = stream.set_nonblocking(false);
    ended
}

/// Closes a connection without a reset: everything that arrives is read.
pub(super) fn finish(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(PAUSE));
    let start = Instant::now();
    while start.elapsed() < 10 * PAUSE && matches!((&*stream).read(&mut [0; 65_536]), Ok(1..)) {}
}

/// Returns lines of 60 bytes, of which no two are equal; the last may be shorter.
pub(super) fn lines(length: usize) -> Vec<u8> {
    let numbered = (0..).flat_map(|number: usize| format!("line {number:054}\n").into_bytes());
    numbered.take(length - 1).chain([b'\n']).collect()
}

/// Returns the verdict that a reply is too short.
pub(super) fn lost(received: usize, expected: usize) -> Verdict {
    let lost = grouped(expected - received);
    Fails("loses data", format!("lost {lost} of {} bytes", grouped(expected)))
}

/// The bytes without line ends, which some servers strip or add.
fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| b"\r\n".contains(byte)).collect::<Vec<_>>().concat()
}

/// Unix and Windows report a timeout differently.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
