//! The load, as light as it can be, so that it is the servers that are measured.
//!
//! - One thread per core, each with its share of the sockets, which it serves in turn: it receives a
//!   reply, checks it, and sends that client's next request. Apart from the system calls, that is a
//!   comparison of the payload and one look at the clock.
//! - The load is closed: each client keeps a fixed number of requests in flight. They fit into the
//!   default socket buffers, so that no datagram is dropped.
//! - The server's own CPU time per request does not include the time of the load.

use crate::process::Running;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// What the clients do.
#[derive(Clone, Copy)]
pub enum Work {
    /// Each client has one datagram in flight.
    Datagrams { size: usize, clients: usize },
    /// Each connection has `window` requests in flight.
    Exchanges { size: usize, clients: usize, window: u32 },
    /// One connection; blocks of 64 KiB are written without waiting for the replies.
    Bulk,
    /// Connect, 5 bytes each way, close.
    Churn,
    /// The connections are opened at once and stay open; each sends a request.
    Burst { clients: usize },
    /// The connections exchange one request and stay open.
    Idle { clients: usize },
    /// None: the time until the first reply.
    Start,
    /// None: the time until the server has that many threads.
    Threads { count: usize },
}

/// The figures of one round.
#[derive(Clone, Default)]
pub struct Sample {
    pub replies: usize,
    pub wrong: usize,
    pub lost: usize,
    pub seconds: f64,
    /// Seconds of the server's CPU time.
    pub cpu: Option<f64>,
    /// Bytes of the server's resident memory after the work.
    pub memory: Option<f64>,
}

impl Sample {
    fn count(&mut self, reply_is_right: bool) {
        self.replies += usize::from(reply_is_right);
        self.wrong += usize::from(!reply_is_right);
    }
}

/// A reply over UDP that has not arrived by then is lost.
const UDP_TIMEOUT: Duration = Duration::from_secs(3);
/// The kernel retries a connection that the backlog had no room for after 1, 2, 4 and 8 seconds.
const TCP_TIMEOUT: Duration = Duration::from_secs(20);
/// The length of the number at the beginning of a request.
const NUMBER: usize = 8;
const BLOCK: usize = 64 << 10;

/// Starts a server and measures one round.
pub fn measure(server: &str, work: Work, time: Duration) -> Result<Sample, String> {
    let start = Instant::now();
    let running = Running::start(server)?;
    let address = running.address;
    // `load` is called to warm up first, and then for the whole time.
    let observe = |load: &mut dyn FnMut(Duration) -> io::Result<Sample>| -> io::Result<Sample> {
        if !matches!(work, Work::Burst { .. } | Work::Idle { .. }) {
            load(time / 5)?;
        }
        let before = running.settle();
        let mut sample = load(time)?;
        let after = running.settle();
        // The fine figure, unless threads have exited.
        sample.cpu = before.zip(after).map(|(before, after)| {
            let (living, all) = (after.0 - before.0, after.1 - before.1);
            if all - living > 0.03 { all } else { living }
        });
        sample.memory = running.memory();
        Ok(sample)
    };
    let result: io::Result<Sample> = match work {
        Work::Datagrams { size, clients } => clients_of(clients, || udp(address))
            .and_then(|mut clients| observe(&mut |time| Ok(exchange(&mut clients, size, 1, time)))),
        Work::Exchanges { size, clients, window } => clients_of(clients, || tcp(address))
            .and_then(|mut it| observe(&mut |time| Ok(exchange(&mut it, size, window, time)))),
        Work::Bulk => observe(&mut |time| bulk(address, time)),
        Work::Churn => observe(&mut |time| Ok(churn(address, time))),
        Work::Burst { clients } => observe(&mut |_| Ok(burst(address, clients))),
        Work::Idle { clients } => clients_of(clients, || tcp(address))
            .and_then(|mut it| observe(&mut |_| Ok(exchange(&mut it, 64, 1, Duration::ZERO)))),
        Work::Start => Ok(Sample { seconds: running.startup, ..Sample::default() }),
        Work::Threads { count } => {
            while running.threads().ok_or("threads are counted on Linux only")? < count as f64 {
                if start.elapsed() > TCP_TIMEOUT {
                    return Err(format!("{server} has fewer than {count} threads"));
                }
                thread::sleep(Duration::from_micros(200));
            }
            Ok(Sample { seconds: start.elapsed().as_secs_f64(), ..Sample::default() })
        }
    };
    result.map_err(|error| error.to_string())
}

/// A request: a number without letters, which returns as it is, and letters among other bytes.
struct Request {
    bytes: Vec<u8>,
    reply: Vec<u8>,
}

impl Request {
    fn new(size: usize) -> Request {
        let byte = |i| if i % 2 == 0 { b'a' + (i / 2 % 26) as u8 } else { (i / 2) as u8 };
        let bytes: Vec<u8> = (0..size).map(byte).collect();
        let reply = bytes.to_ascii_uppercase();
        Request { bytes, reply }
    }

    fn with(&mut self, number: u32) -> &[u8] {
        for (i, digit) in self.bytes[..NUMBER].iter_mut().enumerate() {
            *digit = b'0' + ((number >> (4 * i)) & 15) as u8;
        }
        &self.bytes
    }

    fn is_answered_by(&mut self, number: u32, reply: &[u8]) -> bool {
        reply.get(..NUMBER) == Some(&self.with(number)[..NUMBER])
            && reply.get(NUMBER..) == Some(&self.reply[NUMBER..])
    }
}

trait Socket: Send {
    fn send(&mut self, request: &[u8]) -> io::Result<()>;
    /// Receives one reply; `reply` has one byte more than it should fill.
    fn receive(&mut self, reply: &mut [u8]) -> io::Result<usize>;
}

impl Socket for UdpSocket {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        UdpSocket::send(self, request).map(drop)
    }

    fn receive(&mut self, reply: &mut [u8]) -> io::Result<usize> {
        self.recv(reply)
    }
}

impl Socket for TcpStream {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.write_all(request)
    }

    fn receive(&mut self, reply: &mut [u8]) -> io::Result<usize> {
        let size = reply.len() - 1;
        self.read_exact(&mut reply[..size]).map(|()| size)
    }
}

fn udp(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(UDP_TIMEOUT))?;
    Ok(socket)
}

/// Opens a connection and exchanges a byte: opening many must not fill the backlog.
fn tcp(server: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = connect(server, b".")?;
    stream.read_exact(&mut [0])?;
    Ok(stream)
}

fn connect(server: SocketAddr, request: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TCP_TIMEOUT))?;
    stream.set_write_timeout(Some(TCP_TIMEOUT))?;
    stream.write_all(request)?;
    Ok(stream)
}

/// A client: its socket, and how many requests it has sent, and seen replied to or lost.
struct Client<S> {
    socket: S,
    sent: u32,
    done: u32,
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// Opens the sockets, a share for each thread.
fn clients_of<S>(
    count: usize,
    open: impl Fn() -> io::Result<S>,
) -> io::Result<Vec<Vec<Client<S>>>> {
    let threads = cores().min(count);
    let mut shares: Vec<_> = (0..threads).map(|_| Vec::new()).collect();
    for client in 0..count {
        shares[client % threads].push(Client { socket: open()?, sent: 0, done: 0 });
    }
    Ok(shares)
}

/// Runs one thread for each of `shares`, and adds up what they counted.
fn in_threads<T: Send>(
    shares: impl Iterator<Item = T>,
    run: impl Fn(T) -> Sample + Sync,
) -> Sample {
    let (start, run) = (Instant::now(), &run);
    let mut sum = Sample::default();
    thread::scope(|scope| {
        let threads: Vec<_> = shares.map(|share| scope.spawn(move || run(share))).collect();
        for thread in threads {
            let sample = thread.join().expect("the load does not panic");
            sum.replies += sample.replies;
            sum.wrong += sample.wrong;
            sum.lost += sample.lost;
        }
    });
    sum.seconds = start.elapsed().as_secs_f64();
    sum
}

/// Keeps `window` requests of each client in flight for `time`, then waits for the last replies.
fn exchange<S: Socket>(
    shares: &mut [Vec<Client<S>>],
    size: usize,
    window: u32,
    time: Duration,
) -> Sample {
    let end = Instant::now() + time;
    in_threads(shares.iter_mut(), |clients| {
        let (mut sample, mut request) = (Sample::default(), Request::new(size));
        let mut reply = vec![0; size + 1];
        let send = |client: &mut Client<S>, request: &mut Request| {
            // A request that cannot be sent gets no reply, and is counted as lost then.
            let _ = client.socket.send(request.with(client.sent));
            client.sent += 1;
        };
        for client in clients.iter_mut() {
            (0..window).for_each(|_| send(client, &mut request));
        }
        while clients.iter().any(|client| client.done < client.sent) {
            for client in clients.iter_mut().filter(|client| client.done < client.sent) {
                match client.socket.receive(&mut reply) {
                    Ok(length) => {
                        let right = request.is_answered_by(client.done, &reply[..length]);
                        if !right && sample.lost > 0 {
                            // A reply over UDP that was counted as lost.
                            continue;
                        }
                        sample.count(right);
                        client.done += 1;
                    }
                    Err(_) => {
                        sample.lost += (client.sent - client.done) as usize;
                        client.done = client.sent;
                    }
                }
                if Instant::now() < end {
                    send(client, &mut request);
                }
            }
        }
        sample
    })
}

/// Writes and reads in two threads, so that no amount of data makes the two sides block each other.
fn bulk(server: SocketAddr, time: Duration) -> io::Result<Sample> {
    let stream = &tcp(server)?;
    let write = |mut stream: &TcpStream, start: Instant| {
        let (mut request, mut sent) = (Request::new(BLOCK), 0);
        while start.elapsed() < time && stream.write_all(request.with(sent)).is_ok() {
            sent += 1;
        }
        // The server closes the connection in turn, which ends the replies.
        let _ = stream.shutdown(Shutdown::Write);
        sent as usize
    };
    let start = Instant::now();
    let mut sample = Sample::default();
    let sent = thread::scope(|scope| {
        let writer = scope.spawn(move || write(stream, start));
        let (mut request, mut reply) = (Request::new(BLOCK), vec![0; BLOCK]);
        let mut stream = stream;
        for number in 0.. {
            if stream.read_exact(&mut reply).is_err() {
                break;
            }
            sample.count(request.is_answered_by(number, &reply));
        }
        writer.join().expect("the load does not panic")
    });
    sample.lost = sent.saturating_sub(sample.replies + sample.wrong);
    sample.seconds = start.elapsed().as_secs_f64();
    Ok(sample)
}

/// Each thread repeats with eight connections at a time: open and write to all, then read and close.
fn churn(server: SocketAddr, time: Duration) -> Sample {
    let end = Instant::now() + time;
    in_threads(0..cores(), |_| {
        let mut sample = Sample::default();
        while Instant::now() < end {
            for stream in std::array::from_fn::<_, 8, _>(|_| connect(server, b"hello")) {
                greet(stream.as_ref(), &mut sample);
            }
        }
        sample
    })
}

/// Each thread opens its share of the connections and writes to each, then reads from each.
fn burst(server: SocketAddr, clients: usize) -> Sample {
    in_threads(0..cores(), |thread| {
        let open = |_| {
            // Clients on other machines would not keep the server from the processor.
            thread::yield_now();
            connect(server, b"hello")
        };
        let streams: Vec<_> = (thread..clients).step_by(cores()).map(open).collect();
        let mut sample = Sample::default();
        streams.iter().for_each(|stream| greet(stream.as_ref(), &mut sample));
        sample
    })
}

/// Reads the reply to `hello`.
fn greet(stream: Result<&TcpStream, &io::Error>, sample: &mut Sample) {
    let mut reply = [0; 5];
    match stream.map(|mut stream| stream.read_exact(&mut reply)) {
        Ok(Ok(())) => sample.count(&reply == b"HELLO"),
        _ => sample.lost += 1,
    }
}
