//! Faults for TCP servers.

use super::Verdict::{Fails, NotTried, Survives};
use super::target::{PATIENCE, entries, retry};
use super::{Outcome, Target, grouped, symptom};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::sync::RwLock;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// The limit under which a server runs out of descriptors.
const DESCRIPTORS: usize = 128;

pub(super) fn half_close(target: &mut Target) -> Outcome {
    let request = lines(66_000);
    let stream = target.connect(PATIENCE)?;
    // An error also shows in the reply.
    let _ = (&stream).write_all(&request);
    let _ = stream.shutdown(Shutdown::Write);
    target.reply(&stream, &request)
}

pub(super) fn one_byte_at_a_time(target: &mut Target) -> Outcome {
    let request = lines(20);
    let stream = target.connect(PATIENCE)?;
    for byte in request.chunks(1) {
        // An error also shows in the reply.
        let _ = (&stream).write_all(byte);
        sleep(Duration::from_millis(10)); // The server reads each byte by itself.
    }
    target.reply(&stream, &request)
}

pub(super) fn disconnect(target: &mut Target) -> Outcome {
    for _ in 0..5 {
        target.probe()?;
    }
    if target.busy {
        let details = "uses a whole core after clients have disconnected".into();
        return Err(Fails(symptom::SPINS, details));
    }
    Ok(())
}

pub(super) fn reset_while_reading(target: &mut Target) -> Outcome {
    stays_open(target)?;
    for _ in 0..20 {
        // Closing a socket with received data unread sends a reset instead of the end of the stream.
        reply_arrives(&target.connect(PATIENCE)?)?;
    }
    Ok(())
}

pub(super) fn reset_while_writing(target: &mut Target) -> Outcome {
    let request = lines(65_520);
    for round in 0..20 {
        let stream = target.connect(PATIENCE)?;
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

fn stays_open(target: &Target) -> Outcome {
    match target.closes {
        true => Err(NotTried("the server closes the connection after its reply".into())),
        false => Ok(()),
    }
}

/// Sends a request and waits for the reply, which stays unread.
fn reply_arrives(mut stream: &TcpStream) -> Outcome {
    let _ = stream.write_all(b"Unread\n");
    match retry(|| stream.peek(&mut [0])) {
        Ok(1..) => Ok(()),
        _ => Err(Fails(symptom::HANGS, "no reply".into())),
    }
}

pub(super) fn silent_clients(target: &mut Target) -> Outcome {
    let silent = hold(target, 200)?;
    let when = format!("beside {} silent clients", silent.len());
    target.probe().map_err(|verdict| verdict.during(&when))?;
    if silent.len() == 200 { Ok(()) } else { Err(Survives(when)) }
}

/// Opens connections until there are enough or the server accepts no more.
fn hold(target: &Target, count: usize) -> Outcome<Vec<TcpStream>> {
    let (mut streams, start) = (Vec::new(), Instant::now());
    while streams.len() < count && start.elapsed() < 2 * PATIENCE {
        match target.connect(Duration::from_secs(2)) {
            Err(Fails(..)) => break,
            stream => streams.push(stream?),
        }
        sleep(Duration::from_millis(1)); // Even a small backlog does not overflow.
    }
    Ok(streams)
}

pub(super) fn never_reads(target: &mut Target) -> Outcome {
    const LIMIT: usize = 64 << 20; // More than the buffers of the system take.
    stays_open(target)?;
    let stream = target.connect(PATIENCE)?;
    stream.set_write_timeout(Some(Duration::from_millis(500)))?; // Until it makes progress.
    let (request, start, mut sent) = (lines(65_520), Instant::now(), 0);
    while sent < LIMIT && start.elapsed() < PATIENCE {
        match (&stream).write(&request) {
            Ok(length) => sent += length,
            // The server does not read any more, or has closed the connection.
            Err(_) => break,
        }
    }
    target.probe().map_err(|verdict| verdict.during("beside a client that never reads"))?;
    if sent >= LIMIT && target.replies.is_some() {
        return Err(Fails(
            symptom::GROWS,
            "took 64 MiB of requests whose replies were not read".into(),
        ));
    }
    Ok(())
}

pub(super) fn burst_of_connections(target: &mut Target) -> Outcome {
    const LIMIT: Duration = Duration::from_secs(20);
    let target = &*target;
    let gate = RwLock::new(());
    let client = || {
        drop(gate.read());
        let start = Instant::now();
        let stream = target.connect(LIMIT)?;
        let left = LIMIT.saturating_sub(start.elapsed()) + Duration::from_secs(1);
        stream.set_read_timeout(Some(left))?;
        target.exchange_on(&stream, b"One of many\n")
    };
    let mut start = Instant::now();
    let mut served: Vec<Outcome> = thread::scope(|scope| {
        let closed = gate.write();
        let spawn = |_| thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, client);
        let clients: Vec<_> = (0..1_000).map_while(|n: usize| spawn(n).ok()).collect();
        start = Instant::now();
        drop(closed);
        clients.into_iter().filter_map(|client| client.join().ok()).collect()
    });
    // The system of the kit may allow fewer connections.
    served.retain(|result| !matches!(result, Err(NotTried(_))));
    let (count, seconds) = (grouped(served.len()), start.elapsed().as_secs_f64());
    match served.iter().filter(|result| result.is_err()).count() {
        _ if served.is_empty() => Err(NotTried("the system allows no connections".into())),
        0 => Err(Survives(format!("{count} connections in {seconds:.1} s"))),
        lost => {
            let details = format!("{} of {count} clients got no reply", grouped(lost));
            Err(Fails(symptom::DROPS_CLIENTS, details))
        }
    }
}

pub(super) fn descriptors_exhausted(target: &mut Target) -> Outcome {
    if target.busy {
        return Err(NotTried("the server uses a whole core already".into()));
    }
    let mut server = target.another(Some(DESCRIPTORS), Stdio::null())?;
    if server.processes().is_empty() {
        return Err(NotTried("needs Linux".into()));
    }
    let (streams, start) = (hold(&server, DESCRIPTORS + 40)?, Instant::now());
    let open = |id| entries(&format!("/proc/{id}/fd")).count();
    let most = || server.processes().into_iter().map(open).max().unwrap_or(0);
    // A server that has exited has no open descriptors.
    while (1..DESCRIPTORS).contains(&most()) {
        if start.elapsed() > PATIENCE {
            return Err(NotTried("the server does not use up its descriptors".into()));
        }
        sleep(Duration::from_millis(10));
    }
    let when = "while its descriptors are exhausted";
    let idle = server.assert_idle(when);
    let served = match streams.first() {
        Some(first) => server.exchange_on(first, b"Still there\n"),
        None => Ok(()), // It has exited.
    };
    drop(streams);
    server.aftermath(idle.and(served.map_err(|verdict| verdict.during(when))))
}

/// Returns lines of 60 bytes in which no two nearby sections are equal.
fn lines(length: usize) -> Vec<u8> {
    let byte = |i: usize| match i % 60 == 59 || i + 1 == length {
        true => b'\n',
        false => b'a' + ((i ^ (i >> 7) ^ (i >> 13)) % 26) as u8,
    };
    (0..length).map(byte).collect()
}
