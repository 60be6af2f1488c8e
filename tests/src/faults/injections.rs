//! What each fault does.

use super::Protocol::{Tcp, Udp};
use super::Verdict::{Fails, NotTried};
use super::client::{Client, Content, TICK, finish, is_timeout, lines, lost};
use super::{Outcome, Target, require};
use crate::{Process, grouped, proc, retry_on_eintr, wait_until};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError::Timeout};
use std::sync::{RwLock, mpsc};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

pub(super) fn one_byte_datagram(target: &Target) -> Outcome {
    match &target.client.options.request {
        None => target.client.exchange(b"\xff"),
        // The protocol decides what is a valid request.
        Some(_) => no_reply_needed(target, b"\xff"),
    }
}

pub(super) fn largest_datagram(target: &Target) -> Outcome {
    let client = &target.client;
    let length = if client.address.is_ipv4() { crate::LARGEST } else { 65_527 };
    let Some(mut request) = client.options.request.clone() else {
        return client.exchange(&vec![b'x'; length]);
    };
    let start = request[..request.len().min(64)].to_ascii_uppercase();
    request.resize(length, b'0');
    let reply = Client { patience: client.patience / 5, ..client.clone() }.reply_to(&request);
    // Whether it deserves a reply is for the server to decide, but not which part of it.
    let reply = if client.options.no_reply { Vec::new() } else { reply.unwrap_or_default() };
    let reply = reply.to_ascii_uppercase();
    if !reply.windows(start.len()).any(|window| window == start) {
        target.remark("reply not checked".into());
    } else if reply.len() < length {
        return Err(lost(reply.len(), length));
    }
    Ok(())
}

/// What a server must be able to do without any fault.
pub(super) fn ordinary_requests(target: &Target) -> Outcome {
    (0..10).try_for_each(|_| target.client.probe())
}

/// Sends bytes. Whether they deserve a reply is for the server to decide.
pub(super) fn no_reply_needed(target: &Target, bytes: &[u8]) -> Outcome {
    let client = &target.client;
    if client.protocol == Tcp {
        let mut stream = client.open()?;
        let _ = stream.write_all(bytes);
        stream.set_read_timeout(Some(client.patience / 20))?;
        let _ = retry_on_eintr(|| stream.read(&mut [0; 16]));
        finish(&stream);
        return Ok(());
    }
    let socket = client.socket()?;
    client.send(&socket, bytes)?;
    let length = retry_on_eintr(|| socket.recv(&mut [0; 65_535])).unwrap_or_default();
    // A server can be made to flood a third host by such replies.
    if length >= 100 && length >= 10 * bytes.len() {
        let sizes = format!("{} bytes for {}", grouped(length), bytes.len());
        target.remark(format!("amplifies: a spoofed source would get {sizes}"));
    }
    Ok(())
}

/// Makes many exchanges, each by a client of its own. Threads that remain from each round are leaked.
pub(super) fn many_clients(target: &Target) -> Outcome {
    require(!target.is_known_to("spins"), "the server uses a whole core already")?;
    let (client, limit) = (&target.client, target.client.patience / 5);
    let request = client.request(b"One of many\n");
    if client.protocol == Udp && !client.options.no_reply {
        no_reply_needed(target, &request)?;
    }
    let processes = || target.processes().into_iter().flatten();
    let threads = || processes().map(|id| proc::threads(id).len()).sum::<usize>();
    let mut rounds = vec![threads()];
    for _ in 0..3 {
        let (start, mut count) = (Instant::now(), 0);
        while count < client.options.clients && (count < 10 || start.elapsed() < limit) {
            client.exchange(&request)?;
            count += 1;
        }
        let few = rounds[rounds.len() - 1] + 4;
        if wait_until(limit, || threads() <= few) {
            target.remark(format!("{} clients in turn", grouped(count)));
            return Ok(());
        }
        rounds.push(threads());
    }
    Err(Fails("leaks", format!("its threads and processes become more: {rounds:?}")))
}

pub(super) fn departed_client(target: &Target) -> Outcome {
    let (client, request) = (&target.client, target.client.request(b"Goodbye"));
    for _ in 0..10 {
        let socket = client.socket()?;
        // The last of many is certainly not replied to before the socket is closed.
        (0..20).for_each(|_| drop(client.send(&socket, &request)));
    }
    Ok(())
}

pub(super) fn flood(target: &Target) -> Outcome {
    // Of different lengths, so that a reply to another client is recognized.
    thread::scope(|scope| {
        let clients = [(b'a', 1_000), (b'b', 700), (b'c', 400), (b'd', 100)];
        let clients = clients.map(|(letter, length)| {
            scope.spawn(move || flood_by_one_client(&target.client, &vec![letter; length]))
        });
        clients.into_iter().filter_map(|client| client.join().ok()).collect()
    })
}

fn flood_by_one_client(client: &Client, text: &[u8]) -> Outcome {
    let (socket, request, mut reply) = (client.socket()?, client.request(text), vec![0; 65_535]);
    socket.set_nonblocking(true)?;
    let (mut replies, mut wrong) = (0, None);
    let mut receive = || {
        while let Ok(length) = socket.recv(&mut reply) {
            replies += 1;
            wrong = wrong.take().or(client.verify(&request, &reply[..length]).err());
        }
    };
    for _ in 0..5_000 {
        // It fails while the queue of the system is full, and after the server has exited.
        let _ = client.send(&socket, &request);
        receive();
    }
    sleep(Duration::from_millis(100));
    receive();
    let Some(problem) = wrong else { return Ok(()) };
    Err(problem.with(&format!(" (one of {} replies to one of 4 clients)", grouped(replies))))
}

pub(super) fn own_address(target: &Target) -> Outcome {
    let port = target.client.address.port();
    let count = forge(target, port, 1, 0.5)?;
    // A reply to a reply, as with DNS, is not yet a loop.
    if count <= 10 {
        return ordinary_requests(target); // Any of several threads may have stopped.
    }
    // The datagram circulates until it meets a full queue.
    let stopped = (0..5).any(|_| flood(target).is_ok() && forge(target, port, 0, 0.3) == Ok(0));
    let advice = if stopped { "" } else { " and still does: restart it" };
    let details = format!("replied to itself {} times within 0.5 s{advice}", grouped(count - 1));
    Err(Fails("spins", details))
}

/// Forges datagrams to the server, and returns how many with these ports arrived.
pub(super) fn forge(target: &Target, port: u16, copies: usize, seconds: f64) -> Outcome<usize> {
    let address = target.client.address;
    let words = format!("{} {port} {} {copies} {seconds}", address.ip(), address.port());
    let payload = target.client.request(b"forged");
    let python = |command| python(command, include_str!("forge.py"), &words, &payload);
    let count = python("python3").or_else(|| python("sudo -n python3"));
    // Otherwise the datagrams were not sent.
    let count = count.and_then(|count| count.trim().parse().ok());
    count.ok_or(NotTried("needs IPv4, root and python3".into()))
}

/// Runs a script, whose arguments are the words and the bytes. Returns what it prints, if it succeeds.
fn python(program: &str, script: &str, words: &str, bytes: &[u8]) -> Option<String> {
    let mut program = program.split(' ');
    let mut python = Command::new(program.next()?);
    python.args(program).args(["-c", script]).args(words.split(' ')).stdin(Stdio::null());
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let output = python.arg(hex).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(super) fn disconnect(target: &Target) -> Outcome {
    ordinary_requests(target)?;
    target.assert_idle()
}

pub(super) fn empty_connection(target: &Target) -> Outcome {
    (0..10).try_for_each(|_| target.client.open().map(|stream| finish(&stream)))?;
    target.assert_idle()
}

pub(super) fn half_close(target: &Target) -> Outcome {
    let client = &target.client;
    let request = client.request(&lines(66_000));
    for round in 1..=10 {
        let mut stream = client.open()?;
        // An error also shows in the reply.
        let _ = stream.write_all(&request);
        let _ = stream.shutdown(Shutdown::Write);
        let reply = client.reply(&stream, &request);
        reply.map_err(|problem| problem.with(&format!(" (round {round} of 10)")))?;
        stream.set_read_timeout(Some(client.patience))?;
        match io::copy(&mut stream.take(1 << 20), &mut io::sink()) {
            Err(error) if is_timeout(&error) => {
                return Err(client.hangs("the connection stays open after the client's end for"));
            }
            Ok(length) if length == 1 << 20 => {
                return Err(Fails("loses data", "sent 1 MiB more after the reply".into()));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn one_byte_at_a_time(target: &Target) -> Outcome {
    let request = target.client.request(&lines(20));
    let mut stream = target.client.open()?;
    for bytes in request.chunks(request.len().div_ceil(200).max(1)) {
        let _ = stream.write_all(bytes);
        sleep(Duration::from_millis(10)); // The server reads each byte by itself.
    }
    target.client.reply(&stream, &request).map(|()| finish(&stream))
}

pub(super) fn invalid_utf8(target: &Target) -> Outcome {
    let request = [&target.client.half()[..], b"\xff\xfe\xc3\x28\r\n\r\n"].concat();
    (0..3).try_for_each(|_| no_reply_needed(target, &request))
}

pub(super) fn split_utf8(target: &Target) -> Outcome {
    let client = &target.client;
    // Of these characters, no other case exists.
    let request = client.request("5 €, 10 €\n".as_bytes());
    let first = request.iter().position(|byte| !byte.is_ascii());
    let (Ok(_), Some(first)) = (std::str::from_utf8(&request), first) else {
        return Err(NotTried("the request has no character of several bytes".into()));
    };
    if let Err(Fails("loses data", details)) = client.exchange(&request) {
        return Err(NotTried(format!("the same in one part: {details}")));
    }
    let parts = request.split_at(first + 1);
    for wait in [50, 100, 200].map(Duration::from_millis) {
        let mut stream = client.open()?;
        let _ = stream.write_all(parts.0);
        sleep(wait); // The server reads it by itself.
        let _ = stream.write_all(parts.1);
        client.reply(&stream, &request)?;
        if !target.client.once {
            let again = client.exchange_on(&stream, &request);
            again.map_err(|problem| problem.with(" to the next request"))?;
        }
        finish(&stream);
    }
    Ok(())
}

pub(super) fn line_without_an_end(target: &Target) -> Outcome {
    let before = target.memory()?;
    let mut stream = target.client.open()?;
    let _ = stream.write_all(&target.client.half());
    let taken = send_while_taken(&target.client, &stream, &[b'x'; 65_536], 100, true)?;
    let not_grown = assert_not_grown(target, before, taken, "for a line without an end");
    stream.set_nonblocking(false)?;
    finish(&stream);
    not_grown
}

pub(super) fn never_reads(target: &Target) -> Outcome {
    require(!target.client.options.no_reply, "the server never replies")?;
    require(!target.client.once, "the server replies once over each connection")?;
    let before = target.memory().unwrap_or_default();
    let stream = target.client.connect()?;
    let bulk = target.client.bulk(65_520);
    let taken = send_while_taken(&target.client, &stream, &bulk, 64, false)?;
    if target.serves_one_client {
        target.remark("no other client is served meanwhile: see silent-clients".into());
    } else {
        target.client.with_patience(2).probe()?; // It may still be at work on what it took.
    }
    assert_not_grown(target, before, taken, "although no reply was read")
}

/// Sends blocks until the server takes no more, or has taken this many MiB, which are returned.
fn send_while_taken(
    client: &Client,
    stream: &TcpStream,
    block: &[u8],
    limit: usize,
    reads: bool,
) -> Outcome<usize> {
    let (mut buffer, mut sent) = (vec![0; 1 << 16], 0);
    let (start, mut progress) = (Instant::now(), Instant::now());
    let pause = Duration::from_secs(2).max(2 * client.patience / 5);
    stream.set_nonblocking(true)?;
    while sent < limit << 20 {
        match (&*stream).write(&block[sent % block.len()..]) {
            Ok(length) => (sent, progress) = (sent + length, Instant::now()),
            Err(error) if is_timeout(&error) && progress.elapsed() < pause => {
                sleep(Duration::from_millis(1));
            }
            // The server no longer reads, or has closed the connection.
            Err(_) => return Ok(0),
        }
        if reads {
            let _ = (&*stream).read(&mut buffer); // Otherwise, the server might wait for it.
        }
        if start.elapsed() > Duration::from_secs(40) {
            return Err(NotTried(format!("{limit} MiB could not be sent within 40 s")));
        }
    }
    Ok(limit)
}

/// Fails if the memory of the server has grown by half of what it took.
fn assert_not_grown(target: &Target, before: usize, taken: usize, why: &str) -> Outcome {
    // The memory of a server that was already running is unknown.
    let unknown = if let Content::Function(_) = target.client.content { taken } else { 0 };
    let mut growth = 0;
    // The server may not yet have read the last bytes.
    let has_grown = || {
        growth = target.memory().map_or(unknown, |after| after.saturating_sub(before));
        growth >= taken / 2
    };
    if taken == 0 || !wait_until(Duration::from_secs(1), has_grown) {
        return Ok(());
    }
    Err(Fails("grows", format!("took {taken} MiB {why}, and its memory grew by {growth} MiB")))
}

pub(super) fn client_error_in_accept(target: &Target) -> Outcome {
    target.suspend()?;
    let reset = reset(target, 5, "0");
    target.resume();
    reset
}

/// Opens connections and sends requests over them while the server is suspended.
pub(super) fn requests_while_suspended(target: &Target) -> Outcome {
    let client = &target.client;
    target.suspend()?;
    let streams: Vec<_> = (0..5).map(|_| client.connect()).collect();
    target.resume();
    for stream in streams {
        let stream = stream?;
        client.read_greeting(&stream)?;
        client.exchange_on(&stream, &client.request(b"While suspended\n"))?;
        finish(&stream);
    }
    Ok(())
}

/// Resets connections over which no reply has been sent.
fn reset(target: &Target, count: usize, delay: &str) -> Outcome {
    let address = target.client.address;
    let words = format!("{} {} {count} {delay}", address.ip(), address.port());
    let reset = python("python3", include_str!("reset.py"), &words, &target.client.half());
    reset.map(drop).ok_or(NotTried("needs python3, and a backlog of 5 connections".into()))
}

pub(super) fn reset_while_reading(target: &Target) -> Outcome {
    if target.client.once || target.client.options.no_reply {
        return reset(target, 20, "0.02");
    }
    // Closing a socket with unread data sends a reset instead of the end of the stream.
    (0..20).try_for_each(|_| unread_reply(target).map(drop))
}

pub(super) fn reset_while_writing(target: &Target) -> Outcome {
    require(!target.client.options.no_reply, "the server never replies")?;
    let bulk = target.client.bulk(65_520);
    for number in 0..20 {
        // An early reset arrives before the first write, the others after it.
        let is_early = number % 2 == 0;
        let mut stream = if is_early { unread_reply(target)? } else { target.client.connect()? };
        // Every fifth sends more than a server can reply to before it has to wait, however fast it is.
        // After the end of the stream, the reset fails its write with EPIPE and SIGPIPE instead of
        // ECONNRESET.
        let (count, wait) = if number % 5 == 0 { (64, 100) } else { (1, 0) };
        stream.set_nonblocking(number % 5 > 0)?;
        stream.set_write_timeout(Some(Duration::from_millis(500)))?;
        let _ = (0..count).try_for_each(|_| stream.write_all(&bulk));
        let _ = stream.shutdown(Shutdown::Write);
        sleep(Duration::from_millis(wait));
    }
    Ok(())
}

/// Returns a connection over which a reply has arrived.
fn unread_reply(target: &Target) -> Outcome<TcpStream> {
    let start = Instant::now();
    loop {
        // It may still be at work on the connections before.
        let mut stream = target.client.with_patience(2).connect()?;
        let _ = stream.write_all(&target.client.request(b"Unread\n"));
        match retry_on_eintr(|| stream.peek(&mut [0])) {
            Ok(1..) => return Ok(stream),
            // It may limit connections, and not yet have closed the previous ones.
            Ok(0) if start.elapsed() < target.client.patience => sleep(TICK),
            Ok(0) => return Err(Fails("loses data", "closed without a reply".into())),
            Err(error) => return Err(error.into()),
        }
    }
}

pub(super) fn unfinished_requests(target: &Target, drip: Option<(u8, Duration)>) -> Outcome {
    let reason = "the server serves one client at a time: see silent-clients";
    require(!target.serves_one_client, reason)?;
    crowd(target, &target.client.half(), drip)
}

pub(super) fn slow_clients(target: &Target) -> Outcome {
    let (client, half) = (&target.client, target.client.half());
    // A request must not be complete before the end of the test.
    let rest = client.options.request.as_ref().map_or(1_000, |request| request.len() - half.len());
    let interval = (6 * client.patience / rest.max(1) as u32).max(Duration::from_millis(50));
    unfinished_requests(target, Some((half.last().copied().unwrap_or(b'x'), interval)))
}

/// Opens many connections, sends something over each, and perhaps a byte now and then. Meanwhile one
/// more client must be served.
pub(super) fn crowd(target: &Target, first: &[u8], drip: Option<(u8, Duration)>) -> Outcome {
    let streams = hold(&target.client, target.client.options.clients, first)?;
    let (other, (done, is_done)) = (target.client.with_patience(2), mpsc::channel::<()>());
    let request = other.request(b"One more\n");
    let one_more = thread::scope(|scope| {
        if let Some((byte, interval)) = drip {
            let streams = &streams;
            scope.spawn(move || {
                while is_done.recv_timeout(interval) == Err(Timeout) {
                    streams.iter().for_each(|mut stream| drop(stream.write(&[byte])));
                }
            });
        }
        let one_more = other.open().map(|stream| (other.exchange_on(&stream, &request), stream));
        drop(done);
        one_more
    });
    let count = grouped(streams.len());
    leave(streams);
    target.remark(format!("{count} clients"));
    let served = one_more.and_then(|(served, stream)| {
        if served.is_err() {
            // A late reply is read as well, lest its connection is reset.
            let _ = other.reply(&stream, &request);
        }
        finish(&stream);
        served
    });
    match served {
        Err(Fails(symptom, details)) if symptom != "exits" => {
            let symptom = if symptom == "hangs" { symptom } else { "drops clients" };
            Err(Fails(symptom, format!("one more client beside {count}: {details}")))
        }
        other => other,
    }
}

/// Opens connections until there are enough or the server accepts no more, and sends something over
/// each.
fn hold(client: &Client, count: usize, first: &[u8]) -> Outcome<Vec<TcpStream>> {
    let (start, limit, mut streams) = (Instant::now(), 3 * client.patience, Vec::new());
    let client = Client { patience: 2 * client.patience / 5, ..client.clone() };
    while streams.len() < count && start.elapsed() < limit {
        match client.connect() {
            Ok(mut stream) => {
                stream.set_nonblocking(true)?;
                let _ = stream.write_all(first);
                streams.push(stream);
            }
            Err(Fails(..)) => break,
            // The kit has used up its own descriptors. Some are given back for what follows.
            Err(NotTried(_)) if streams.len() > 8 => {
                streams.truncate(streams.len() - 8);
                break;
            }
            Err(other) => return Err(other),
        }
        sleep(Duration::from_millis(1)); // Even a small backlog does not overflow.
    }
    Ok(streams)
}

/// Closes non-blocking connections without resets: what has arrived is read.
fn leave(streams: Vec<TcpStream>) {
    streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Write)));
    sleep(Duration::from_millis(100));
    streams.iter().for_each(|mut stream| drop(io::copy(&mut stream, &mut io::sink())));
}

pub(super) fn burst_of_connections(target: &Target) -> Outcome {
    let (client, gate) = (target.client.with_patience(4), RwLock::new(()));
    let request = client.request(b"One of many\n");
    let exchange = || {
        drop(gate.read());
        client.exchange(&request)
    };
    let mut served: Vec<Outcome> = thread::scope(|scope| {
        let closed = gate.write();
        let spawn = |_| thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, exchange);
        let clients: Vec<_> = (0..client.options.clients).map_while(|n| spawn(n).ok()).collect();
        drop(closed);
        clients.into_iter().filter_map(|client| client.join().ok()).collect()
    });
    // The system of the kit may allow fewer connections.
    served.retain(|result| !matches!(result, Err(NotTried(_))));
    let count = grouped(served.len());
    let failed: Vec<_> = served.iter().filter_map(|result| result.as_ref().err()).collect();
    target.remark(format!("{count} clients"));
    require(!served.is_empty(), "the system allows no connections")?;
    let [Fails(_, first), ..] = failed[..] else { return Ok(()) };
    let text = format!("{} of {count} clients were not served", grouped(failed.len()));
    Err(Fails("drops clients", format!("{text}, the first: {first}")))
}

pub(super) fn descriptors_exhausted(target: &mut Target) -> Outcome {
    require(!target.is_known_to("spins"), "the server uses a whole core already")?;
    target.processes()?;
    // An odd and an even limit, since a server may need two descriptors for each connection.
    for limit in [128, 129] {
        let mut server = target.another(Some(limit), false)?;
        let outcome = exhaust(&server, limit);
        server.aftermath(outcome)?;
    }
    Ok(())
}

fn exhaust(server: &Target, limit: usize) -> Outcome {
    let client = &server.client;
    let first = client.open()?;
    let (processes, mut most) = (server.processes()?.len(), most_descriptors(server, limit)?);
    let mut streams = Vec::new();
    // Several processes may share the connections.
    loop {
        let (before, count) = (most, streams.len());
        streams.extend(hold(client, limit + 40, b"")?);
        most = most_descriptors(server, limit)?;
        if !(1..limit - 1).contains(&most) || server.assert_same_workers().is_err() {
            break;
        } else if server.processes()?.len() > processes + streams.len() / 2 {
            return Err(NotTried("the server starts a process per connection".into()));
        } else if most <= before || streams.len() < count + limit + 40 || streams.len() > 1_000 {
            let limits = "the server accepts fewer connections than it has descriptors";
            leave(streams);
            return Err(NotTried(limits.into()));
        }
    }
    let served = client.exchange_on(&first, &client.request(b"Still there?\n"));
    let idle = server.assert_idle();
    leave(streams);
    idle.and(served.map_err(|problem| problem.with(&format!(" (limit: {limit} descriptors)"))))
}

/// Waits until this number does not change any more, or is so high that the last free descriptor may
/// not suffice: how many descriptors that process has open that has most. One that has exited has none.
fn most_descriptors(server: &Target, limit: usize) -> Outcome<usize> {
    let (mut most, mut since) = (0, Instant::now());
    loop {
        let before = most;
        most = server.processes()?.into_iter().map(proc::descriptors).max().unwrap_or_default();
        since = if most == before { since } else { Instant::now() };
        if !(1..limit - 1).contains(&most) || since.elapsed() > Duration::from_secs(1) {
            return Ok(most);
        }
        sleep(TICK);
    }
}

/// Sends a request while the server is suspended. A receive with a timeout then fails with EINTR.
pub(super) fn suspend_and_resume(target: &Target) -> Outcome {
    let client = &target.client;
    let request = client.request(b"While suspended\n");
    let stream = (client.protocol == Tcp).then(|| client.open()).transpose()?;
    sleep(Duration::from_millis(100)); // The server accepts, and waits for the request.
    target.suspend()?;
    thread::scope(|scope| {
        scope.spawn(|| {
            sleep(Duration::from_millis(200));
            target.resume();
        });
        match &stream {
            Some(stream) => client.exchange_on(stream, &request).map(|()| finish(stream)),
            None => client.exchange(&request),
        }
    })
}

pub(super) fn closed_output(target: &mut Target) -> Outcome {
    let (mut server, output, ..) = tap(target, None)?;
    drop(output);
    let (start, limit) = (Instant::now(), Duration::from_secs(2));
    // Many, since a runtime may buffer 4,096 bytes.
    let mut requests = (0..400).take_while(|_| start.elapsed() < limit);
    let _ = requests.try_for_each(|_| server.client.probe());
    server.aftermath(Ok(()))
}

pub(super) fn unread_output(target: &mut Target) -> Outcome {
    const BOLD: &[u8] = b"\x1b[1m";
    let (mut server, _output, count, written) = tap(target, Some(BOLD))?;
    if written.windows(BOLD.len()).any(|bytes| bytes == BOLD) {
        target.remark("control characters of a request appear in its output".into());
    }
    let needed = 200_000 * count / written.len(); // A pipe has room for 64 KiB.
    let (start, limit) = (Instant::now(), 6 * server.client.patience);
    let (mut served, mut outcome) = (0, Ok(()));
    while outcome.is_ok() && served < needed && start.elapsed() < limit {
        outcome = server.client.probe();
        served += 1;
    }
    match (outcome, server.exit()) {
        (Err(_), Some(how)) => Err(Fails("exits", how)),
        (Err(problem), _) => Err(problem.with(" once the pipe is full")),
        _ if served < needed => Err(NotTried("the server is too slow to fill a pipe".into())),
        _ => server.aftermath(Ok(())),
    }
}

/// A server, its output, how many probes it has replied to, and what it wrote meanwhile. Further
/// output remains unread until it is received, and is closed when the receiver is dropped.
type Tapped = (Target, Receiver<Vec<u8>>, usize, Vec<u8>);

/// Starts one more server, and reads its output while it serves requests, at first one with a text.
fn tap(target: &mut Target, text: Option<&[u8]>) -> Outcome<Tapped> {
    const START: Duration = Duration::from_millis(200);
    let mut server = target.another(None, true)?;
    let pipes = server.server.as_mut().and_then(Process::take_output);
    let (stdout, stderr) = pipes.expect("it was started with pipes");
    let (sender, output) = mpsc::sync_channel(1);
    for mut pipe in [Box::new(stdout) as Box<dyn Read + Send>, Box::new(stderr)] {
        let (sender, mut buffer) = (sender.clone(), [0; 4_096]);
        thread::spawn(move || {
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
    }
    // What it writes at its start does not count.
    let start = Instant::now();
    while start.elapsed() < START {
        let _ = output.recv_timeout(START / 4);
    }
    let mut written = Vec::new();
    if let Some(text) = text {
        let _ = no_reply_needed(&server, &[&server.client.half(), text, b"\r\n\r\n"].concat());
    }
    let (start, mut count, limit) = (Instant::now(), 0, Duration::from_secs(2));
    while count < 400 && start.elapsed() < limit && server.client.probe().is_ok() {
        count += 1;
        written.extend(output.try_iter().flatten());
    }
    // Less may be about its start.
    require(written.len() > count, "the server writes nothing to its output for a request")?;
    Ok((server, output, count, written))
}

pub(super) fn restart(target: &mut Target) -> Outcome {
    let mut server = target.another(None, false)?;
    let stream = server.client.open()?;
    server.client.exchange_on(&stream, &server.client.request(b"Before\n"))?;
    server.server = None;
    // A descendant may still listen.
    wait_until(server.client.patience, || server.client.connect().is_err());
    server.spawn(None, false)?;
    server.wait_until_ready().map_err(|error| match server.exit() {
        Some(how) => Fails("exits", how),
        None => Fails("hangs", error.reason()),
    })?;
    server.usage = server.usage_at_start();
    drop(stream);
    server.aftermath(Ok(()))
}
