//! The load, made so that it is the servers that are measured and not it:
//!
//! - It has as many threads as the machine has cores, or as there are clients if those are fewer;
//!   each has its share of the sockets and goes round: take an answer from one, check it, send that
//!   one's next request. Nothing polls, nothing is shared, and of a request and its answer only the
//!   system calls, a comparison and one look at the clock are ours. That is about as much as the
//!   floor in C does, and what the floor reaches with it is in each table.
//! - Requests are counted, not scheduled: each client keeps its window full, so a server never waits
//!   while something is left to answer, and what is under way fits into the kernel's default socket
//!   buffers, or the dropping would be measured.
//! - The figure to trust is the server's own CPU time for a request, from `/proc`: the load's time is
//!   not in it. `busy` says how much of the elapsed time the server computed: where that is far from
//!   100 % of a core for a server of one thread, it was waiting for the load or for the scheduler.
//! - The storm too has only so many threads, and each gives way before it opens the next connection:
//!   clients on other machines would not keep the server from the processor. `connect` blocks for a
//!   second or more when the backlog is full, and that is what is counted.
//!
//! A latency is the time from before the request was sent until its answer was taken: with many
//! clients that includes the answer's waiting for its turn, for all servers alike.

use crate::servers::{self, Contender};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// What the clients do.
#[derive(Clone, Copy)]
pub enum Work {
    /// Datagrams of so many bytes, each client with so many under way.
    Datagrams { size: usize, clients: usize, window: usize },
    /// Over one connection each, one request of so many bytes at a time.
    Exchanges { size: usize, clients: usize },
    /// One connection, blocks of 64 KiB without waiting for the answers.
    Bulk,
    /// Connect, 5 bytes each way, close.
    Churn,
    /// So many connections at once, which stay; each is to be answered.
    Storm { clients: usize },
    /// So many connections that have been answered once and stay.
    Idle { clients: usize },
    /// Nothing: how long until it listens.
    Start,
}

/// What one measurement gave.
#[derive(Default)]
pub struct Sample {
    /// Answers that were right.
    pub answered: usize,
    pub wrong: usize,
    pub lost: usize,
    /// Seconds until the last one.
    pub elapsed: f64,
    /// Seconds of each.
    latencies: Vec<f64>,
    /// Seconds of the server's CPU time, and of this process's.
    pub cpu: Option<f64>,
    pub own_cpu: Option<f64>,
    /// Bytes that were resident at most.
    pub memory: Option<f64>,
    /// Bytes that the connections made resident, with the threads that stand ready for them.
    pub held: Option<f64>,
}

/// An answer that has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same for what a full backlog may delay: the kernel tries again after 1, 2, 4 and 8 seconds.
const LONG_PATIENCE: Duration = Duration::from_secs(20);

const DIGITS: usize = 8;
const BLOCK: usize = 64 << 10;
const HELLO: &[u8; 5] = b"hello";

/// Starts a server and puts it to work for some time.
pub fn measure(contender: &Contender, work: Work, time: Duration) -> Sample {
    let start = Instant::now();
    let server = contender.start(&[]);
    let started = start.elapsed().as_secs_f64();
    let (address, id) = (server.address(), server.id());
    servers::settle(id);
    let threads_end =
        contender.is_threaded() && matches!(work, Work::Datagrams { .. } | Work::Churn);
    // What the server has used when `load` begins and ends.
    let observe = |load: &mut dyn FnMut() -> Sample| {
        let (before, own_before) = (servers::settle(id), servers::cpu(std::process::id()));
        let mut sample = load();
        let own_after = servers::cpu(std::process::id());
        let after = servers::settle(id);
        sample.cpu = before.zip(after).map(|(before, after)| after.since(before, threads_end));
        sample.own_cpu = own_before.zip(own_after).map(|(before, after)| after.since(before, true));
        sample
    };
    let (warm_up, is_upper) = (time / 5, contender.is_upper());
    let hello = if is_upper { HELLO.to_ascii_uppercase() } else { HELLO.to_vec() };
    let mut sample = match work {
        Work::Datagrams { size, clients, window } => {
            let mut lanes = lanes(clients, window, || udp(address));
            let request = Request::new(size, is_upper);
            drive(&mut lanes, &request, warm_up);
            observe(&mut || drive(&mut lanes, &request, time))
        }
        Work::Exchanges { size, clients } => {
            let mut lanes = lanes(clients, 1, || tcp(address));
            let request = Request::new(size, is_upper);
            drive(&mut lanes, &request, warm_up);
            observe(&mut || drive(&mut lanes, &request, time))
        }
        Work::Bulk => {
            let request = Request::new(BLOCK, is_upper);
            let stream = tcp(address);
            bulk(&stream, &request, warm_up);
            observe(&mut || bulk(&stream, &request, time))
        }
        Work::Churn => {
            churn(address, &hello, warm_up);
            observe(&mut || churn(address, &hello, time))
        }
        Work::Storm { clients } => observe(&mut || storm(address, &hello, clients)),
        Work::Idle { clients } => {
            // Without its pool, if it has one: ours with one worker.
            let alone =
                contender.start(if contender.is_ours() { &["--workers", "1"] } else { &[] });
            let mut lanes = lanes(clients, 1, || tcp(address));
            let request = Request::new(64, is_upper);
            let mut sample = observe(&mut || drive(&mut lanes, &request, Duration::ZERO));
            let resident = |id| servers::memory(id, "VmRSS");
            let held = resident(id).zip(resident(alone.id())).map(|(with, without)| with - without);
            sample.held = held.map(|held| held / clients as f64);
            sample
        }
        Work::Start => Sample { elapsed: started, ..Sample::default() },
    };
    sample.memory = servers::memory(id, "VmHWM");
    sample.latencies.sort_unstable_by(f64::total_cmp);
    sample
}

impl Sample {
    /// The latency that so many in a hundred do not exceed.
    pub fn percentile(&self, hundredths: usize) -> Option<f64> {
        let last = self.latencies.len().checked_sub(1)?;
        Some(self.latencies[last * hundredths / 100])
    }

    fn add(&mut self, other: Sample) {
        self.answered += other.answered;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.latencies.extend(other.latencies);
    }

    fn answer(&mut self, right: bool, sent: Instant, now: Instant) {
        self.answered += usize::from(right);
        self.wrong += usize::from(!right);
        self.latencies.push((now - sent).as_secs_f64());
    }
}

/// A request that carries a number in front: no letter is in that, so it comes back as it is.
#[derive(Clone)]
struct Request {
    bytes: Vec<u8>,
    answer: Vec<u8>,
}

impl Request {
    /// Letters and everything else by turns.
    fn new(size: usize, is_upper: bool) -> Request {
        let letter_or_not = |i| if i % 2 == 0 { b'a' + (i / 2 % 26) as u8 } else { (i / 2) as u8 };
        let bytes: Vec<u8> = (0..size).map(letter_or_not).collect();
        let answer = if is_upper { bytes.to_ascii_uppercase() } else { bytes.clone() };
        Request { bytes, answer }
    }

    fn stamp(&mut self, number: u32) -> &[u8] {
        for (i, digit) in self.bytes[..DIGITS].iter_mut().enumerate() {
            *digit = b'0' + ((number >> (4 * i)) & 15) as u8;
        }
        &self.bytes
    }

    fn is_answered_by(&self, answer: &[u8]) -> bool {
        answer.get(DIGITS..) == Some(&self.answer[DIGITS..])
    }
}

/// The number that an answer carries.
fn number(answer: &[u8]) -> Option<u32> {
    answer.get(..DIGITS)?.iter().rev().try_fold(0, |number, &digit| {
        let value = digit.checked_sub(b'0').filter(|value| *value < 16)?;
        Some(number << 4 | u32::from(value))
    })
}

trait Wire: Send {
    fn put(&mut self, request: &[u8]) -> io::Result<()>;
    /// Takes one answer, as long as it is, but at most as long as the buffer.
    fn take(&mut self, answer: &mut [u8], size: usize) -> io::Result<usize>;
}

impl Wire for UdpSocket {
    fn put(&mut self, request: &[u8]) -> io::Result<()> {
        self.send(request).map(drop)
    }

    fn take(&mut self, answer: &mut [u8], _size: usize) -> io::Result<usize> {
        self.recv(answer)
    }
}

impl Wire for TcpStream {
    fn put(&mut self, request: &[u8]) -> io::Result<()> {
        self.write_all(request)
    }

    fn take(&mut self, answer: &mut [u8], size: usize) -> io::Result<usize> {
        self.read_exact(&mut answer[..size]).map(|()| size)
    }
}

fn udp(server: SocketAddr) -> UdpSocket {
    let socket = tests::udp(server);
    socket.set_read_timeout(Some(PATIENCE)).expect("it is above zero");
    socket
}

/// Connected, and answered once: opening many must not fill the backlog.
fn tcp(server: SocketAddr) -> TcpStream {
    let mut stream = tests::tcp(server);
    stream.set_read_timeout(Some(LONG_PATIENCE)).expect("it is above zero");
    let answered = stream.write_all(b".").and_then(|()| stream.read_exact(&mut [0]));
    answered.expect("the server answers");
    stream
}

/// A client: its socket, and of each request under way the number and when it was sent.
struct Lane<W> {
    wire: W,
    slots: Vec<(u32, Option<Instant>)>,
    waiting: usize,
}

impl<W: Wire> Lane<W> {
    fn send(&mut self, slot: usize, request: &mut Request, now: Instant) {
        let window = self.slots.len() as u32;
        let (number, sent) = &mut self.slots[slot];
        (*number, *sent) = (*number + window, Some(now));
        self.waiting += 1;
        // What could not be sent is not answered, and counted then.
        let _ = self.wire.put(request.stamp(*number));
    }

    /// The slot that this answer is for, and when it was asked for, if it was.
    fn answered(&mut self, number: u32) -> Option<(usize, Instant)> {
        let slot = number as usize % self.slots.len();
        let (expected, sent) = &mut self.slots[slot];
        let sent = sent.take_if(|_| *expected == number)?;
        self.waiting -= 1;
        Some((slot, sent))
    }
}

/// The clients, a share for each thread.
fn lanes<W>(clients: usize, window: usize, open: impl Fn() -> W) -> Vec<Vec<Lane<W>>> {
    let threads = threads().min(clients);
    let mut shares: Vec<_> = (0..threads).map(|_| Vec::new()).collect();
    for client in 0..clients {
        let slots = (0..window as u32).map(|number| (number, None)).collect();
        shares[client % threads].push(Lane { wire: open(), slots, waiting: 0 });
    }
    shares
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// Keeps all windows full for some time, and then waits for what is under way.
fn drive<W: Wire>(shares: &mut [Vec<Lane<W>>], request: &Request, time: Duration) -> Sample {
    let (start, mut sample) = (Instant::now(), Sample::default());
    thread::scope(|scope| {
        let threads: Vec<_> = shares
            .iter_mut()
            .map(|lanes| scope.spawn(move || go_round(lanes, request.clone(), start + time)))
            .collect();
        threads
            .into_iter()
            .for_each(|thread| sample.add(thread.join().expect("the load does not panic")));
    });
    sample.elapsed = start.elapsed().as_secs_f64();
    sample
}

fn go_round<W: Wire>(lanes: &mut [Lane<W>], mut request: Request, end: Instant) -> Sample {
    let mut sample = Sample::default();
    // One byte more than there should be.
    let mut buffer = vec![0; request.bytes.len() + 1];
    for lane in lanes.iter_mut() {
        (0..lane.slots.len()).for_each(|slot| lane.send(slot, &mut request, Instant::now()));
    }
    while lanes.iter().any(|lane| lane.waiting > 0) {
        for lane in lanes.iter_mut().filter(|lane| lane.waiting > 0) {
            let taken = lane.wire.take(&mut buffer, request.bytes.len());
            let now = Instant::now();
            let mut free = Vec::new();
            if let Ok(length) = taken {
                let answer = &buffer[..length];
                if let Some((slot, sent)) = number(answer).and_then(|it| lane.answered(it)) {
                    sample.answer(request.is_answered_by(answer), sent, now);
                    free.push(slot);
                } else if sample.lost == 0 {
                    // Nobody asked for it, nor does it come after it had been given up.
                    sample.wrong += 1;
                }
            } else {
                free.extend((0..lane.slots.len()).filter(|slot| lane.slots[*slot].1.is_some()));
                sample.lost += free.len();
                lane.waiting = 0;
            }
            if now < end {
                free.into_iter().for_each(|slot| lane.send(slot, &mut request, now));
            }
        }
    }
    sample
}

/// Writes from a thread of its own, so that no amount of data can make the two sides wait for each
/// other. The last block says that it is the last.
fn bulk(mut stream: &TcpStream, request: &Request, time: Duration) -> Sample {
    const LAST: u32 = 1 << 31;
    let (start, mut sample) = (Instant::now(), Sample::default());
    let mut request_to_stamp = request.clone();
    let write = move || {
        for block in 0.. {
            let last = if start.elapsed() < time { 0 } else { LAST };
            if stream.write_all(request_to_stamp.stamp(block | last)).is_err() || last > 0 {
                return block as usize + 1;
            }
        }
        0
    };
    let written = thread::scope(|scope| {
        let writer = scope.spawn(write);
        let (mut buffer, mut next) = (vec![0; BLOCK], 0);
        while stream.read_exact(&mut buffer).is_ok() {
            let block = number(&buffer).unwrap_or(LAST - 1);
            let right = block & !LAST == next && request.is_answered_by(&buffer);
            sample.answered += usize::from(right);
            sample.wrong += usize::from(!right);
            next += 1;
            if block & LAST > 0 {
                break;
            }
        }
        writer.join().expect("the load does not panic")
    });
    sample.lost = written - sample.answered - sample.wrong;
    sample.elapsed = start.elapsed().as_secs_f64();
    sample
}

/// Each thread has eight connections at a time: it opens all, writes to all, reads from all, closes.
fn churn(server: SocketAddr, answer: &[u8], time: Duration) -> Sample {
    let (start, mut sample) = (Instant::now(), Sample::default());
    let turn = || {
        let mut sample = Sample::default();
        while start.elapsed() < time {
            let open = || (Instant::now(), hello(server));
            for (begun, stream) in std::array::from_fn::<_, 8, _>(|_| open()) {
                match stream.and_then(|stream| heard(&stream, answer)) {
                    Ok(right) => sample.answer(right, begun, Instant::now()),
                    Err(_) => sample.lost += 1,
                }
            }
        }
        sample
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads()).map(|_| scope.spawn(turn)).collect();
        threads
            .into_iter()
            .for_each(|thread| sample.add(thread.join().expect("the load does not panic")));
    });
    sample.elapsed = start.elapsed().as_secs_f64();
    sample
}

fn hello(server: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(LONG_PATIENCE))?;
    stream.write_all(HELLO)?;
    Ok(stream)
}

fn heard(mut stream: &TcpStream, answer: &[u8]) -> io::Result<bool> {
    let mut buffer = [0; HELLO.len()];
    stream.read_exact(&mut buffer)?;
    Ok(buffer == answer)
}

/// Each thread opens its share and writes to each, then reads from each; all stay to the end.
fn storm(server: SocketAddr, answer: &[u8], clients: usize) -> Sample {
    let (begin, mut sample) = (Instant::now(), Sample::default());
    let share = |thread: usize| {
        let open = |_| {
            thread::yield_now();
            (Instant::now(), hello(server))
        };
        let streams: Vec<_> = (thread..clients).step_by(threads()).map(open).collect();
        let mut sample = Sample::default();
        for (start, stream) in &streams {
            match stream.as_ref().map(|stream| heard(stream, answer)) {
                Ok(Ok(right)) => sample.answer(right, *start, Instant::now()),
                _ => sample.lost += 1,
            }
        }
        (sample, streams)
    };
    thread::scope(|scope| {
        let share = &share;
        let threads: Vec<_> = (0..threads()).map(|i| scope.spawn(move || share(i))).collect();
        let ended: Vec<_> = threads.into_iter().flat_map(|thread| thread.join()).collect();
        sample.elapsed = begin.elapsed().as_secs_f64();
        ended.into_iter().for_each(|(share, _streams)| sample.add(share));
    });
    sample
}
