//! What each fault does.

use super::Verdict::{Fails, NotTried, Survives};
use super::target::{PATIENCE, is_timeout, signal};
use super::{Outcome, Protocol::Tcp, Target, grouped};
use crate::{proc, retry_on_eintr};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::RwLock;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// Forges datagrams and counts those with the same ports that arrive, its own included. Arguments:
/// the address of both ends, their ports, how many to send, for how many seconds to count.
const FORGER: &str = "\
from socket import *
import select, struct, sys, time
address, source_port, port, copies, seconds = sys.argv[1:]
raw = socket(AF_INET, SOCK_RAW, IPPROTO_UDP)
raw.bind((address, 0))
header = struct.pack('!HHHH', int(source_port), int(port), 14, 0)
for _ in range(int(copies)):
    raw.sendto(header + b'forged', (address, 0))
count, end = 0, time.monotonic() + float(seconds)
while (left := end - time.monotonic()) > 0:
    if select.select([raw], [], [], left)[0]:
        packet = raw.recv(65535)
        count += packet[4 * (packet[0] & 15):][:4] == header[:4]
print(count)
";

pub(super) fn empty_datagram(target: &Target) -> Outcome {
    let socket = crate::udp(target.address);
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.send(b"")?;
    // Whether it deserves a reply is for the server to decide.
    let _ = retry_on_eintr(|| socket.recv(&mut [0; 16]));
    Ok(())
}

pub(super) fn largest_datagram(target: &Target) -> Outcome {
    let length = if target.address.is_ipv4() { crate::LARGEST } else { 65_527 };
    target.exchange(&vec![b'x'; length])
}

pub(super) fn departed_client(target: &Target) -> Outcome {
    for _ in 0..10 {
        let socket = crate::udp(target.address);
        // The last of many is certainly not replied to before the socket is closed.
        for _ in 0..20 {
            let _ = socket.send(b"Goodbye"); // It fails after the server has exited.
        }
    }
    Ok(())
}

pub(super) fn flood(target: &Target) -> Outcome {
    let socket = crate::udp(target.address);
    for _ in 0..20_000 {
        // It fails while the queue of the system is full, and after the server has exited.
        let _ = socket.send(&[b'x'; 1_000]);
    }
    Ok(())
}

pub(super) fn own_address(target: &Target) -> Outcome {
    let port = target.address.port();
    let count = forge(target, port, 1, 0.5)?;
    if count == 1 {
        return Ok(());
    }
    // The datagram circulates until it meets a full queue.
    let stopped = (0..5).any(|_| flood(target).is_ok() && forge(target, port, 0, 0.3) == Ok(0));
    let advice = if stopped { "" } else { " and still does: restart it" };
    let details = format!("replied to itself {} times in 0.5 s{advice}", grouped(count - 1));
    Err(Fails("spins", details))
}

/// Forges datagrams to the server and returns how many with these ports arrived.
pub(super) fn forge(target: &Target, port: u16, copies: usize, seconds: f64) -> Outcome<usize> {
    let address = target.address.ip().to_string();
    let ports = [port.to_string(), target.address.port().to_string()];
    for command in [&["python3"][..], &["sudo", "-n", "python3"]] {
        let mut forger = Command::new(command[0]);
        forger.args(&command[1..]).args(["-c", FORGER, &address, &ports[0], &ports[1]]);
        forger.args([copies.to_string(), seconds.to_string()]).stdin(Stdio::null());
        let output = forger.output().map(|output| output.stdout).unwrap_or_default();
        match String::from_utf8_lossy(&output).trim().parse() {
            Ok(count) if count >= copies.min(1) => return Ok(count),
            _ => {}
        }
    }
    Err(NotTried("needs IPv4, root and python3".into()))
}

pub(super) fn half_close(target: &Target) -> Outcome {
    let request = lines(66_000);
    let stream = target.connect(PATIENCE)?;
    // An error also shows in the reply.
    let _ = (&stream).write_all(&request);
    let _ = stream.shutdown(Shutdown::Write);
    target.reply(&stream, &request)
}

pub(super) fn one_byte_at_a_time(target: &Target) -> Outcome {
    let request = lines(20);
    let stream = target.connect(PATIENCE)?;
    for byte in request.chunks(1) {
        let _ = (&stream).write_all(byte);
        sleep(Duration::from_millis(10)); // The server reads each byte by itself.
    }
    target.reply(&stream, &request)
}

pub(super) fn disconnect(target: &Target) -> Outcome {
    for _ in 0..5 {
        target.probe()?;
    }
    target.assert_idle()
}

pub(super) fn reset_while_reading(target: &Target) -> Outcome {
    stays_open(target)?;
    for _ in 0..20 {
        // Closing a socket with unread data sends a reset instead of the end of the stream.
        unread_reply(target)?;
    }
    Ok(())
}

pub(super) fn reset_while_writing(target: &Target) -> Outcome {
    for early in [true, false].repeat(10) {
        // An early reset arrives before the first write, the other after it.
        let stream = if early { unread_reply(target)? } else { target.connect(PATIENCE)? };
        stream.set_nonblocking(true)?;
        let _ = (&stream).write(&lines(65_520));
        let _ = stream.shutdown(Shutdown::Write);
    }
    Ok(())
}

/// Returns a connection over which a reply has arrived.
fn unread_reply(target: &Target) -> Outcome<TcpStream> {
    let mut stream = target.connect(PATIENCE)?;
    let _ = stream.write_all(b"Unread\n");
    match retry_on_eintr(|| stream.peek(&mut [0])) {
        Ok(1..) => Ok(stream),
        _ => Err(Fails("hangs", "no reply".into())),
    }
}

fn stays_open(target: &Target) -> Outcome {
    let stream = unread_reply(target)?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    match stream.take(1 << 20).read_to_end(&mut Vec::new()) {
        Err(error) if is_timeout(&error) => Ok(()),
        _ => Err(NotTried("the server closes a connection soon after its reply".into())),
    }
}

pub(super) fn silent_clients(target: &Target) -> Outcome {
    let _silent = hold(target, 200)?;
    target.probe()
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

pub(super) fn never_reads(target: &Target) -> Outcome {
    const LIMIT: usize = 64 << 20; // More than the buffers of the system take.
    stays_open(target)?;
    let stream = target.connect(PATIENCE)?;
    stream.set_write_timeout(Some(Duration::from_millis(500)))?; // Until it makes progress.
    let (request, start, mut sent) = (lines(65_520), Instant::now(), 0);
    while sent < LIMIT && start.elapsed() < 4 * PATIENCE {
        match (&stream).write(&request) {
            Ok(length) => sent += length,
            Err(_) => break, // The server no longer reads, or has closed the connection.
        }
    }
    target.probe()?;
    match sent >= LIMIT && target.reply_to.is_some() {
        true => Err(Fails("grows", "took 64 MiB although no reply was read".into())),
        false => Ok(()),
    }
}

pub(super) fn burst_of_connections(target: &Target) -> Outcome {
    const LIMIT: Duration = Duration::from_secs(20);
    let gate = RwLock::new(());
    let client = || {
        drop(gate.read());
        let start = Instant::now();
        let stream = target.connect(LIMIT)?;
        let left = LIMIT.saturating_sub(start.elapsed()) + Duration::from_secs(1);
        stream.set_read_timeout(Some(left))?;
        target.exchange_on(&stream, b"One of many\n")
    };
    let mut served: Vec<Outcome> = thread::scope(|scope| {
        let closed = gate.write();
        let spawn = |_| thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, client);
        let clients: Vec<_> = (0..1_000).map_while(|n: usize| spawn(n).ok()).collect();
        drop(closed);
        clients.into_iter().filter_map(|client| client.join().ok()).collect()
    });
    // The system of the kit may allow fewer connections.
    served.retain(|result| !matches!(result, Err(NotTried(_))));
    let count = grouped(served.len());
    Err(match served.iter().filter(|result| result.is_err()).count() {
        _ if served.is_empty() => NotTried("the system allows no connections".into()),
        0 => Survives(format!(" ({count} connections)")),
        n => Fails("drops clients", format!("{} of {count} clients got no reply", grouped(n))),
    })
}

pub(super) fn descriptors_exhausted(target: &Target) -> Outcome {
    const LIMIT: usize = 128;
    if target.busy {
        return Err(NotTried("the server uses a whole core already".into()));
    }
    target.processes()?;
    let mut server = target.another(Some(LIMIT), Stdio::null())?;
    let (streams, start) = (hold(&server, LIMIT + 40)?, Instant::now());
    // A server that has exited has no open descriptors.
    while (1..LIMIT)
        .contains(&server.processes()?.into_iter().map(proc::descriptors).max().unwrap_or(0))
    {
        if start.elapsed() > PATIENCE {
            return Err(NotTried("the server does not use up its descriptors".into()));
        }
        sleep(Duration::from_millis(10));
    }
    let idle = server.assert_idle();
    let served = streams.first().map_or(Ok(()), |it| server.exchange_on(it, b"Still there?\n"));
    drop(streams);
    server.aftermath(idle.and(served))
}

/// Sends a request while the server is suspended. A receive with a timeout then fails with EINTR.
pub(super) fn suspend_and_resume(target: &Target) -> Outcome {
    let request = b"While suspended\n";
    let stream = (target.protocol == Tcp).then(|| target.connect(PATIENCE)).transpose()?;
    sleep(Duration::from_millis(100)); // The server accepts, and waits for the request.
    target.suspend()?;
    thread::scope(|scope| {
        scope.spawn(|| {
            sleep(Duration::from_millis(200));
            signal("CONT", &target.processes().unwrap_or_default());
        });
        match &stream {
            Some(stream) => target.exchange_on(stream, request),
            None => target.exchange(request),
        }
    })
}

/// Closes the standard output of a server that writes to it for each request.
pub(super) fn closed_output(target: &Target) -> Outcome {
    let mut server = target.another(None, Stdio::piped())?;
    let mut output = server.server.as_mut().and_then(|it| it.child.stdout.take()).expect("piped");
    let reader = thread::spawn(move || {
        sleep(Duration::from_millis(100));
        // All output so far, and then that for the next request. Then the pipe is closed.
        for _ in 0..2 {
            let _ = output.read(&mut [0; 65_536]);
        }
    });
    let start = Instant::now();
    // Many requests, since a runtime may buffer its output.
    let exchange_until = |end| {
        while start.elapsed() < end && server.probe().is_ok() {
            sleep(Duration::from_millis(5));
        }
    };
    exchange_until(Duration::from_millis(500));
    if !reader.is_finished() {
        return Err(NotTried("the server writes nothing to standard output for a request".into()));
    }
    exchange_until(Duration::from_secs(1));
    server.aftermath(Ok(()))
}

/// Returns lines of 60 bytes, of which no two are equal; the last may be shorter.
fn lines(length: usize) -> Vec<u8> {
    let numbered = (0..).flat_map(|number: usize| format!("line {number:054}\n").into_bytes());
    numbered.take(length - 1).chain([b'\n']).collect()
}
