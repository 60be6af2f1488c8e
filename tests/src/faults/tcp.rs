//! Faults for TCP servers.

use super::Verdict::{self, Fails, NotTried, Survives};
use super::target::{PATIENCE, Replies, entries, is_remote, is_timeout, retry};
use super::{Symptom, Target, grouped};
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::sync::RwLock;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// The limit under which a server runs out of descriptors.
const DESCRIPTORS: usize = 128;

pub(super) fn half_close(target: &mut Target) -> Result<(), Verdict> {
    let request = lines(66_000);
    let stream = connect(target)?;
    // An error also shows in the reply.
    let _ = (&stream).write_all(&request);
    let _ = stream.shutdown(Shutdown::Write);
    target.reply(&stream, &request)
}

pub(super) fn one_byte_at_a_time(target: &mut Target) -> Result<(), Verdict> {
    let request = lines(20);
    let stream = connect(target)?;
    for byte in request.chunks(1) {
        // An error also shows in the reply.
        let _ = (&stream).write_all(byte);
        sleep(Duration::from_millis(5)); // The server reads each byte by itself.
    }
    target.reply(&stream, &request)
}

pub(super) fn disconnect(target: &mut Target) -> Result<(), Verdict> {
    for _ in 0..5 {
        target.probe()?;
    }
    if target.busy {
        let details = "uses a whole core after clients have disconnected".into();
        return Err(Fails(Symptom::Spins, details));
    }
    Ok(())
}

pub(super) fn reset_while_reading(target: &mut Target) -> Result<(), Verdict> {
    stays_open(target)?;
    for _ in 0..20 {
        // Closing a socket with received data unread sends a reset instead of the end of the stream.
        reply_arrives(&connect(target)?)?;
    }
    Ok(())
}

pub(super) fn reset_while_writing(target: &mut Target) -> Result<(), Verdict> {
    let request = lines(65_520);
    for round in 0..20 {
        let stream = connect(target)?;
        let mut open = &stream;
        // In every second round, the reset arrives before the first write, not after it.
        if round % 2 == 0 && !target.closes {
            reply_arrives(&stream)?;
        }
        stream.set_nonblocking(true)?;
        let _ = open.write(&request);
        let _ = stream.shutdown(Shutdown::Write);
    }
    Ok(())
}

fn stays_open(target: &Target) -> Result<(), Verdict> {
    match target.closes {
        true => Err(NotTried("the server closes the connection after its reply".into())),
        false => Ok(()),
    }
}

/// Sends a request and waits for the reply, which stays unread.
fn reply_arrives(mut stream: &TcpStream) -> Result<(), Verdict> {
    let _ = stream.write_all(b"Unread\n");
    match retry(|| stream.peek(&mut [0])) {
        Ok(1..) => Ok(()),
        _ => Err(Fails(Symptom::Hangs, "no reply".into())),
    }
}

pub(super) fn silent_clients(target: &mut Target) -> Result<(), Verdict> {
    let silent = hold(target, 200)?;
    let when = format!("beside {} silent clients", silent.len());
    target.probe().map_err(|verdict| during(verdict, &when))?;
    if silent.len() == 200 { Ok(()) } else { Err(Survives(when)) }
}

/// Opens connections until there are enough or the server accepts no more.
fn hold(target: &Target, count: usize) -> Result<Vec<TcpStream>, Verdict> {
    let (mut streams, start) = (Vec::new(), Instant::now());
    while streams.len() < count && start.elapsed() < 2 * PATIENCE {
        match target.connect(Duration::from_secs(2)) {
            Ok(stream) => streams.push(stream),
            Err(error) if is_remote(&error) => break,
            Err(error) => return Err(NotTried(format!("{} connections: {error}", streams.len()))),
        }
        sleep(Duration::from_millis(1)); // Even a small backlog does not overflow.
    }
    Ok(streams)
}

fn during(verdict: Verdict, when: &str) -> Verdict {
    match verdict {
        Fails(symptom, details) => Fails(symptom, format!("{details} {when}")),
        other => other,
    }
}

pub(super) fn client_that_never_reads(target: &mut Target) -> Result<(), Verdict> {
    const LIMIT: usize = 64 << 20; // More than the buffers of the system take.
    stays_open(target)?;
    let stream = connect(target)?;
    stream.set_nonblocking(true)?;
    let request = lines(65_520);
    let (mut sent, start, mut progress) = (0, Instant::now(), Instant::now());
    while sent < LIMIT && start.elapsed() < PATIENCE {
        match (&stream).write(&request) {
            Ok(length) => (sent, progress) = (sent + length, Instant::now()),
            Err(error) if is_timeout(&error) && progress.elapsed() < Duration::from_millis(500) => {
                sleep(Duration::from_millis(1));
            }
            // The server does not read any more, or has closed the connection.
            Err(_) => break,
        }
    }
    target.probe().map_err(|verdict| during(verdict, "beside a client that never reads"))?;
    if sent >= LIMIT && target.replies != Replies::Other {
        return Err(Fails(Symptom::Grows, "stored the replies to 64 MiB of requests".into()));
    }
    Ok(())
}

pub(super) fn burst_of_connections(target: &mut Target) -> Result<(), Verdict> {
    const LIMIT: Duration = Duration::from_secs(20);
    let target = &*target;
    // `None`: the system of the kit allows no more connections.
    let gate = RwLock::new(());
    let client = || {
        drop(gate.read());
        let start = Instant::now();
        let stream = match target.connect(LIMIT) {
            Ok(stream) => stream,
            Err(error) => return is_remote(&error).then_some(false),
        };
        let left = LIMIT.saturating_sub(start.elapsed()) + Duration::from_secs(1);
        stream.set_read_timeout(Some(left)).ok()?;
        Some(target.exchange_tcp(&stream, b"One of many\n").is_ok())
    };
    let mut start = Instant::now();
    let served: Vec<bool> = thread::scope(|scope| {
        let closed = gate.write();
        let spawn = |_| thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, client);
        let clients: Vec<_> = (0..1_000).map_while(|n: usize| spawn(n).ok()).collect();
        start = Instant::now();
        drop(closed);
        clients.into_iter().filter_map(|client| client.join().ok()?).collect()
    });
    let (count, seconds) = (grouped(served.len()), start.elapsed().as_secs_f64());
    match served.iter().filter(|served| !*served).count() {
        _ if served.is_empty() => Err(NotTried("the system allows no connections".into())),
        0 => Err(Survives(format!("{count} connections in {seconds:.1} s"))),
        lost => {
            let details = format!("{} of {count} clients got no reply", grouped(lost));
            Err(Fails(Symptom::DropsClients, details))
        }
    }
}

pub(super) fn descriptors_exhausted(target: &mut Target) -> Result<(), Verdict> {
    if target.busy {
        return Err(NotTried("the server uses a whole core already".into()));
    }
    let mut server = target.another(Some(DESCRIPTORS), Stdio::null())?;
    if server.processes().is_empty() {
        return Err(NotTried("needs Linux".into()));
    }
    let streams = hold(&server, DESCRIPTORS + 40)?;
    let most = || {
        let open = |id| entries(&format!("/proc/{id}/fd")).count();
        server.processes().into_iter().map(open).max().unwrap_or(0)
    };
    let start = Instant::now();
    // A server that exits has none.
    while (1..DESCRIPTORS).contains(&most()) && start.elapsed() < PATIENCE {
        sleep(Duration::from_millis(10));
    }
    let open = most();
    if (1..DESCRIPTORS).contains(&open) {
        return Err(NotTried(format!("the server opens only {open} descriptors")));
    }
    let when = "while its descriptors are exhausted";
    let idle = server.assert_idle(when);
    let served = match streams.first() {
        Some(first) => server.exchange_tcp(first, b"Still there\n").map_err(|v| during(v, when)),
        None => Ok(()), // It has exited.
    };
    drop(streams);
    match server.aftermath() {
        Err(exits @ Fails(Symptom::Exits, _)) => Err(exits),
        aftermath => idle.and(served).and(aftermath),
    }
}

pub(super) fn suspend_and_resume(target: &mut Target) -> Result<(), Verdict> {
    let stream = connect(target)?;
    sleep(Duration::from_millis(100)); // The server accepts, and waits for the request.
    target.signal("STOP", true)?;
    let request = b"While suspended\n";
    let _ = (&stream).write_all(request);
    target.signal("CONT", false)?;
    target.reply(&stream, request).map_err(|v| during(v, "after SIGCONT"))
}

fn connect(target: &Target) -> Result<TcpStream, Verdict> {
    target.connect(PATIENCE).map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => Fails(Symptom::Exits, "no longer listens".into()),
        _ => Fails(Symptom::Hangs, format!("no connection: {error}")),
    })
}

/// Lines of 60 bytes in which no two places look alike soon.
fn lines(length: usize) -> Vec<u8> {
    let letter = |i: usize| match i % 60 {
        59 => b'\n',
        _ => b'a' + ((i ^ (i >> 7) ^ (i >> 13)) % 26) as u8,
    };
    let mut lines: Vec<u8> = (0..length - 1).map(letter).collect();
    lines.push(b'\n');
    lines
}
