//! The load: one thread per core, each of which serves its share of the sockets in turn.
//!
//! It is as light as it can be, so that it is the servers that are measured. Each client keeps a
//! fixed number of requests in flight. They fit into the default socket buffers, so that no datagram
//! is dropped.

use crate::process::{Running, Socket, tcp};
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// What the clients do.
#[derive(Clone, Copy)]
pub enum Work {
    /// Each client has `window` requests in flight on its socket.
    Exchange { size: usize, clients: usize, window: u32 },
    /// One connection; blocks of 64 KiB are written without waiting for the replies.
    Bulk,
    /// Connect, 5 bytes each way, close.
    Churn,
    /// The connections are opened at once and stay open; each sends a request.
    Burst { clients: usize },
    /// The connections exchange one request and stay open.
    Idle { clients: usize },
    /// None: the time until the server has replied, and has at least this number of threads.
    Start { threads: u64 },
}

/// The figures of one round; NaN where the operating system does not report them.
#[derive(Default)]
pub struct Sample {
    pub replies: f64,
    pub wrong: f64,
    pub lost: f64,
    pub seconds: f64,
    /// Seconds of the server's CPU time.
    pub cpu: f64,
    /// Bytes of the server's resident memory after the work.
    pub memory: f64,
}

impl Sample {
    fn count(&mut self, reply_is_right: bool) {
        self.replies += f64::from(reply_is_right);
        self.wrong += f64::from(!reply_is_right);
    }
}

const BLOCK: usize = 64 << 10;

/// Starts a server and measures one round.
pub fn measure(server: &str, work: Work, time: Duration) -> Result<Sample, Box<dyn Error>> {
    let threads = if let Work::Start { threads } = work { threads } else { 0 };
    let running = Running::start(server, threads)?;
    // Each connection makes an exchange before the next is opened, or they could fill the backlog.
    let mut clients = match work {
        Work::Exchange { clients, .. } | Work::Idle { clients } => {
            let open = |_| Ok(Client { socket: running.connect()?, sent: 0, done: 0 });
            (0..clients).map(open).collect::<io::Result<_>>()?
        }
        _ => Vec::new(),
    };
    let mut load = |time| match work {
        Work::Exchange { size, window, .. } => exchange(&mut clients, size, window, time),
        Work::Bulk => bulk(running.address, time),
        Work::Churn => churn(running.address, time),
        Work::Burst { clients } => burst(running.address, clients),
        Work::Idle { .. } => exchange(&mut clients, 64, 1, Duration::ZERO),
        Work::Start { .. } => Sample { seconds: running.startup, ..Sample::default() },
    };
    if matches!(work, Work::Exchange { .. } | Work::Bulk | Work::Churn) {
        // Warms up.
        load(time / 5);
    }
    let before = running.settle();
    let sample = load(time);
    let cpu = before.zip(running.settle()).map(|(before, after)| {
        let (living, all) = (after.0 - before.0, after.1 - before.1);
        // The fine figure, unless threads have exited.
        if all - living > 0.02 { all } else { living }
    });
    let memory = running.memory().unwrap_or(f64::NAN);
    Ok(Sample { cpu: cpu.unwrap_or(f64::NAN), memory, ..sample })
}

/// A request, and its reply: letters among other bytes.
struct Request {
    bytes: Vec<u8>,
    reply: Vec<u8>,
}

impl Request {
    fn new(size: usize) -> Request {
        let byte = |i| if i % 2 == 0 { b'a' + (i / 2 % 26) as u8 } else { (i / 2) as u8 };
        let bytes: Vec<u8> = (0..size).map(byte).collect();
        Request { reply: bytes.to_ascii_uppercase(), bytes }
    }

    /// Returns the request with this number at its beginning.
    fn with(&mut self, number: u32) -> &Request {
        for i in 0..8 {
            self.bytes[i] = b'0' + ((number >> (4 * i)) & 15) as u8;
            self.reply[i] = self.bytes[i];
        }
        self
    }
}

/// A client: its socket, and how many requests it has sent, and seen replied to or lost.
struct Client {
    socket: Socket,
    sent: u32,
    done: u32,
}

pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// Divides the clients among one thread per core, and adds up what the threads count.
fn in_threads<T: Send>(clients: &mut [T], run: impl Fn(&mut [T]) -> Sample + Sync) -> Sample {
    let (start, run) = (Instant::now(), &run);
    let mut sum = Sample::default();
    thread::scope(|scope| {
        let shares = clients.chunks_mut(clients.len().div_ceil(cores()));
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
fn exchange(clients: &mut [Client], size: usize, window: u32, time: Duration) -> Sample {
    let end = Instant::now() + time;
    in_threads(clients, |clients| {
        let (mut sample, mut request) = (Sample::default(), Request::new(size));
        let mut reply = vec![0; size + 1];
        let send = |client: &mut Client, request: &mut Request| {
            // A request that cannot be sent gets no reply, and is counted as lost then.
            let _ = client.socket.send(&request.with(client.sent).bytes);
            client.sent += 1;
        };
        for client in clients.iter_mut() {
            (0..window).for_each(|_| send(client, &mut request));
        }
        while clients.iter().any(|client| client.done < client.sent) {
            for client in clients.iter_mut().filter(|client| client.done < client.sent) {
                if let Ok(length) = client.socket.receive(&mut reply) {
                    sample.count(reply[..length] == request.with(client.done).reply);
                    client.done += 1;
                    if Instant::now() < end {
                        send(client, &mut request);
                    }
                } else {
                    // This client sends no more, so that no late reply is taken for another.
                    sample.lost += f64::from(client.sent - client.done);
                    client.done = client.sent;
                }
            }
        }
        sample
    })
}

/// Writes and reads in two threads, so that no amount of data makes the two sides block each other.
fn bulk(server: SocketAddr, time: Duration) -> Sample {
    let (start, mut sample) = (Instant::now(), Sample::default());
    let Ok(stream) = &tcp(server) else { return Sample { lost: 1.0, ..sample } };
    let write = || {
        let (mut stream, mut request, mut sent) = (stream, Request::new(BLOCK), 0);
        while start.elapsed() < time && stream.write_all(&request.with(sent).bytes).is_ok() {
            sent += 1;
        }
        // The server closes the connection in turn, which ends the replies.
        let _ = stream.shutdown(Shutdown::Write);
        f64::from(sent)
    };
    let sent = thread::scope(|scope| {
        let writer = scope.spawn(write);
        let (mut request, mut reply) = (Request::new(BLOCK), vec![0; BLOCK]);
        let (mut stream, mut number) = (stream, 0);
        while stream.read_exact(&mut reply).is_ok() {
            sample.count(reply == request.with(number).reply);
            number += 1;
        }
        writer.join().expect("the load does not panic")
    });
    sample.lost = sent - sample.replies - sample.wrong;
    sample.seconds = start.elapsed().as_secs_f64();
    sample
}

/// Each thread repeats with eight connections at a time: open and write to all, then read and close.
fn churn(server: SocketAddr, time: Duration) -> Sample {
    let end = Instant::now() + time;
    in_threads(&mut vec![(); cores()], |_| {
        let mut sample = Sample::default();
        while Instant::now() < end {
            for mut stream in [(); 8].map(|()| hello(server)) {
                read_hello(&mut stream, &mut sample);
            }
        }
        sample
    })
}

/// Each thread opens its share of the connections and writes to each, then reads from each.
fn burst(server: SocketAddr, clients: usize) -> Sample {
    // Closing them is not part of the measurement.
    let mut streams: Vec<_> = (0..clients).map(|_| None).collect();
    in_threads(&mut streams, |streams| {
        let mut sample = Sample::default();
        for stream in streams.iter_mut() {
            // Clients on other machines would not keep the server from the processor.
            thread::yield_now();
            *stream = hello(server);
        }
        streams.iter_mut().for_each(|stream| read_hello(stream, &mut sample));
        sample
    })
}

fn hello(server: SocketAddr) -> Option<TcpStream> {
    let mut stream = tcp(server).ok()?;
    stream.write_all(b"hello").ok()?;
    Some(stream)
}

fn read_hello(stream: &mut Option<TcpStream>, sample: &mut Sample) {
    let mut reply = [0; 5];
    match stream.as_mut().map(|stream| stream.read_exact(&mut reply)) {
        Some(Ok(())) => sample.count(&reply == b"HELLO"),
        _ => sample.lost += 1.0,
    }
}
