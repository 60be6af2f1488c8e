//! The fault kit: injects faults into any UDP or TCP server and reports which it survives.
//!
//! [`inject`] injects one of the [`FAULTS`] into a [`Target`], and checks the server afterwards.
//! Every fault is bounded in count, bytes and seconds, and `docs/pitfalls.md` explains it under a
//! heading of its name.
//!
//! - `client.rs`: what the kit sends, and what a complete reply is.
//! - `target.rs`: how the server is started, and what its processes do.
//! - `injections.rs`: what each fault does. `forge.py` and `reset.py` send what std cannot.

mod client;
mod injections;
mod target;

pub use crate::candidates::Protocol;
pub use client::Options;
pub use target::Target;

use crate::grouped;
use Inject::{Another, Lasting, This};
use Protocol::{Tcp, Udp};
use Verdict::{Fails, Flaky, NotTried, Survives};
use client::{Client, finish, has_ended, is_timeout, lines};
use injections::*;
use std::io::ErrorKind::{ConnectionRefused, ConnectionReset};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

/// What became of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It replies and is idle afterwards. The remark may be empty.
    Survives(String),
    /// The symptom, in the words of the survival table, and the details.
    Fails(&'static str, String),
    /// It failed in this way once, but not when the fault was injected again.
    Flaky(&'static str, String),
    /// The fault was not injected, and why.
    NotTried(String),
}

/// A step of the kit. If it does not succeed, the verdict is that the server fails, or that the fault
/// was not tried.
type Outcome<T = ()> = Result<T, Verdict>;

/// Fails unless the fault can be tried; the reason says why it cannot.
fn require(is_possible: bool, reason: &str) -> Outcome {
    if is_possible { Ok(()) } else { Err(NotTried(reason.into())) }
}

impl Verdict {
    fn with(self, more: &str) -> Verdict {
        match self {
            Fails(symptom, details) => Fails(symptom, details + more),
            other => other,
        }
    }

    /// Returns the verdict without its first words.
    pub fn reason(&self) -> String {
        match self {
            Survives(reason) | NotTried(reason) => reason.clone(),
            Fails(symptom, details) | Flaky(symptom, details) => format!("{symptom}: {details}"),
        }
    }
}

/// A fault that the kit can inject.
pub struct Fault {
    /// The protocols of the servers that it is for.
    pub protocols: &'static [Protocol],
    /// Its name, which is also its anchor in `docs/pitfalls.md`.
    pub name: &'static str,
    /// What is injected.
    pub summary: &'static str,
    /// What to change in a server that does not survive it.
    pub hint: &'static str,
    inject: Inject,
}

/// The server into which a fault is injected.
#[derive(Clone, Copy)]
enum Inject {
    /// This one, beside a client that is connected meanwhile.
    This(fn(&Target) -> Outcome),
    /// This one, which may close idle connections meanwhile, and is started again afterwards: the fault
    /// may have an effect for longer.
    Lasting(fn(&Target) -> Outcome),
    /// One more, which is started for it.
    Another(fn(&mut Target) -> Outcome),
}

/// All faults, in the order in which they are injected.
#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    Fault { protocols: &[Udp, Tcp], name: "many-clients", inject: This(many_clients),
        summary: "1,000 ordinary clients, one after the other. Nothing of them must remain (Linux).",
        hint: "Release for each client what was opened or started for it." },
    Fault { protocols: &[Udp], name: "empty-datagram", inject: This(|it| no_reply_needed(it, b"")),
        summary: "A datagram without a payload.",
        hint: "A received length of 0 is not the end of anything. Handle it like any other." },
    Fault { protocols: &[Udp], name: "one-byte-datagram", inject: This(one_byte_datagram),
        summary: "A datagram with a payload of 1 byte, which is not valid UTF-8.",
        hint: "Check the length before you index or parse, and do not rely on valid UTF-8." },
    Fault { protocols: &[Udp], name: "truncated-request",
        inject: This(|it| no_reply_needed(it, &it.client.half())),
        summary: "The first half of a request.",
        hint: "Check the length before each field that you parse. Reply with an error, or not at all." },
    Fault { protocols: &[Udp], name: "largest-datagram", inject: This(largest_datagram),
        summary: "The largest datagram: 65,507 bytes over IPv4, 65,527 over IPv6.",
        hint: "Receive into 65,535 bytes. What does not fit is cut off without an error." },
    Fault { protocols: &[Udp], name: "departed-client", inject: This(departed_client),
        summary: "Clients that close their sockets before the replies arrive.",
        hint: "A receive or send can fail because of an earlier reply. Log the error and go on." },
    Fault { protocols: &[Udp], name: "flood", inject: This(flood),
        summary: "20,000 requests, of 100 to 1,000 bytes by default, from 4 clients as fast as possible.",
        hint: "Leave requests in the socket's queue, which is bounded, until a thread is free." },
    Fault { protocols: &[Udp], name: "source-port-0",
        inject: Lasting(|it| forge(it, 0, 4, 0.2).and_then(|_| ordinary_requests(it))),
        summary: "A datagram from port 0, to which no reply can be sent (needs root, python3).",
        hint: "Do not exit when a send fails. The error concerns one client only." },
    Fault { protocols: &[Udp], name: "own-address", inject: Lasting(own_address),
        summary: "A datagram whose source is the server's own address (needs root, python3).",
        hint: "Ignore datagrams from your own port, or you reply to your own replies endlessly." },
    Fault { protocols: &[Tcp], name: "disconnect", inject: This(disconnect),
        summary: "10 clients that disconnect after the reply.",
        hint: "The end of the stream is not an error: leave the loop, and keep on accepting." },
    Fault { protocols: &[Tcp], name: "empty-connection", inject: This(empty_connection),
        summary: "10 connections that are closed without a byte.",
        hint: "The end of the stream may come before the first byte. Close the connection." },
    Fault { protocols: &[Tcp], name: "half-close", inject: This(half_close),
        summary: "10 times a request of 66,000 bytes, then the end of the stream. The reply must be whole.",
        hint: "A read may return a part of what was sent. Read and reply until a read returns 0." },
    Fault { protocols: &[Tcp], name: "one-byte-at-a-time", inject: This(one_byte_at_a_time),
        summary: "A request, each byte in a segment of its own.",
        hint: "One read is not one message. Read on until the message is complete." },
    Fault { protocols: &[Tcp], name: "invalid-utf-8", inject: This(invalid_utf8),
        summary: "A request with bytes that are not valid UTF-8.",
        hint: "Decode per request and handle the error, or work on bytes." },
    Fault { protocols: &[Tcp], name: "split-utf-8", inject: This(split_utf8),
        summary: "Valid UTF-8, of which a character is cut between two segments.",
        hint: "Decode whole messages. The end of a read may be inside of a character." },
    Fault { protocols: &[Tcp], name: "line-without-an-end", inject: This(line_without_an_end),
        summary: "100 MiB without a line end (Linux, needs the command).",
        hint: "Limit the length of a line or a header, and close the connection beyond it." },
    Fault { protocols: &[Tcp], name: "client-error-in-accept", inject: This(client_error_in_accept),
        summary: "Connections that are reset before they are accepted (Linux, needs command, python3).",
        hint: "A call on an accepted connection may fail at once. Close it and keep on accepting." },
    Fault { protocols: &[Tcp], name: "reset-while-reading", inject: This(reset_while_reading),
        summary: "20 connections that are reset while the server waits for the next request.",
        hint: "A reset is an error of one connection. Close it and keep on accepting." },
    Fault { protocols: &[Tcp], name: "reset-while-writing", inject: This(reset_while_writing),
        summary: "20 connections that are reset while the server writes.",
        hint: "Handle errors of a write per connection. In C, also ignore SIGPIPE." },
    Fault { protocols: &[Tcp], name: "silent-clients", inject: Lasting(|it| crowd(it, b"", None)),
        summary: "1,000 silent connections, or as many as are accepted. One more must be served in 10 s.",
        hint: "Serve connections concurrently, and close those that are idle for too long." },
    Fault { protocols: &[Tcp], name: "unfinished-requests", inject: Lasting(|it| unfinished_requests(it, None)),
        summary: "The same with half a request over each connection.",
        hint: "Wait for the rest of a request without occupying what other clients need." },
    Fault { protocols: &[Tcp], name: "slow-clients", inject: Lasting(slow_clients),
        summary: "The same, and a byte every 50 ms over each connection.",
        hint: "Give a request a deadline, limit connections per client, or use an event loop." },
    Fault { protocols: &[Tcp], name: "client-that-never-reads", inject: This(never_reads),
        summary: "Up to 64 MiB of requests, replies unread. Another client must be served.",
        hint: "Stop reading while a write is pending, and give writes a timeout." },
    Fault { protocols: &[Tcp], name: "burst-of-connections", inject: Lasting(burst_of_connections),
        summary: "1,000 clients at once, or as many as the system allows. All must get replies.",
        hint: "Pass a larger backlog to `listen`, or accept in several threads." },
    Fault { protocols: &[Tcp], name: "descriptors-exhausted", inject: Another(descriptors_exhausted),
        summary: "More connections than the server has descriptors (Linux, needs the command).",
        hint: "When accept fails, log it, pause, and try again. Also time out idle clients." },
    Fault { protocols: &[Udp, Tcp], name: "suspend-and-resume", inject: This(suspend_and_resume),
        summary: "SIGSTOP before a request, SIGCONT after it (Linux, needs the command).",
        hint: "A receive or read with a timeout fails with EINTR after SIGCONT. Repeat it." },
    Fault { protocols: &[Udp, Tcp], name: "closed-output", inject: Another(closed_output),
        summary: "Standard output and standard error are closed (needs the command).",
        hint: "Ignore output errors (println! panics, print raises) and, in C and Go, SIGPIPE." },
    Fault { protocols: &[Udp, Tcp], name: "unread-output", inject: Another(unread_output),
        summary: "Standard output and standard error are open, but not read (needs the command).",
        hint: "A write to a full pipe blocks. Log to a file, or in a thread that drops lines." },
    Fault { protocols: &[Tcp], name: "restart", inject: Another(restart),
        summary: "The server is killed while a client is connected, and started again (needs the command).",
        hint: "Set SO_REUSEADDR before bind. Otherwise the port is in use for up to a minute." },
];

/// Returns the faults for servers of a protocol.
pub fn faults(protocol: Protocol) -> impl Iterator<Item = &'static Fault> + Clone {
    FAULTS.iter().filter(move |fault| fault.protocols.contains(&protocol))
}

/// Returns what to change in a server that does not survive a fault, and where to read more. Another
/// symptom than usual has another cause.
pub fn advice(fault: &str, verdict: &Verdict) -> Vec<String> {
    let (Fails(symptom, details) | Flaky(symptom, details)) = verdict else { return Vec::new() };
    let listed = FAULTS.iter().find(|it| it.name == fault);
    let is_about = |texts: &[&str]| texts.iter().any(|text| details.contains(text));
    let hint = match (fault, *symptom) {
        (_, "exits") if is_about(&["Error: read E", "Error: write E", "'error' event"]) => {
            "Handle the event `error` of each socket: in Node, socket.on(\"error\", …)."
        }
        ("client-that-never-reads", "exits") => {
            "The reset at the end is an error of one connection. In C, also ignore SIGPIPE."
        }
        ("half-close", "hangs") if is_about(&["stays open"]) => {
            "Close the connection when a read returns 0; after fork, in the parent as well."
        }
        ("half-close", "loses data") if is_about(&["closed without"]) => {
            "Reply although the client's end has come. In hyper: http1::Builder::half_close(true)."
        }
        ("line-without-an-end", "hangs") => {
            "While it writes, it does not read. Between pipes, read and write in two threads."
        }
        ("flood", "loses data") => {
            "A buffer belongs to one request until its reply is sent. Do not share it."
        }
        ("silent-clients" | "unfinished-requests" | "slow-clients", "drops clients") => {
            "Close connections that are idle for long, and limit them per client, not only in all."
        }
        ("descriptors-exhausted", "loses data") => {
            "Accept fewer connections, so that descriptors remain for what a request opens."
        }
        (_, "leaks") => {
            "Close connections on every path, after fork in the parent too, and reap children."
        }
        ("repeat", _) => "Each fault alone is survived. Look for what one of them leaves behind.",
        _ => listed.map_or("", |fault| fault.hint),
    };
    let link = listed.map(|_| format!("docs/pitfalls.md#{fault}"));
    [hint.to_string()].into_iter().chain(link).collect()
}

/// What a server that survives everything may still lack.
pub const LIMITS: &str =
    "The kit cannot show a missing timeout, threads without a limit, or an unwrap of a rare error.";

/// Injects a fault into a server and checks the server afterwards. A failure is confirmed on a server
/// that is started again, where ordinary requests alone do not cause it.
pub fn inject(fault: &Fault, target: &mut Target) -> Verdict {
    let verdict = match target.repair().and_then(|()| attempt(fault.inject, target)) {
        Ok(()) => Survives(target.remarks()),
        Err(Fails(symptom, details)) => confirm(fault, target, symptom, details),
        Err(verdict) => verdict,
    };
    target.needs_restart |= match verdict {
        Survives(_) => target.is_known_to("spins"),
        // What was begun may keep it busy.
        NotTried(_) => target.assert_idle().is_err(),
        Fails(..) | Flaky(..) => true,
    };
    verdict
}

/// Injects a fault that a server has failed once more.
fn confirm(fault: &Fault, target: &mut Target, symptom: &'static str, details: String) -> Verdict {
    target.needs_restart = true;
    // Ordinary requests had the same effect before, which confirms it as well.
    if target.is_known_to(symptom) || target.repair().is_err() {
        return Fails(symptom, details);
    }
    // What is like the fault, but without it. Some faults consist of ordinary requests.
    let control = match fault.name {
        "disconnect" | "many-clients" => None,
        "client-error-in-accept" => Some(This(requests_while_suspended)),
        _ => Some(This(ordinary_requests)),
    };
    if let Some(control) = control {
        let patience = target.client.patience;
        target.client.patience = 4 * patience; // A busy computer is no defect of the server.
        let outcome = match symptom {
            "leaks" => attempt(control, target),
            _ => inject_once(control, target),
        };
        target.client.patience = patience;
        match outcome {
            // It is not accused of the same in every row.
            Err(Fails(alone @ ("leaks" | "spins"), _)) => {
                target.known.push(alone);
                target.needs_restart = true;
                if target.repair().is_err() {
                    return Fails(symptom, details);
                }
            }
            Err(Fails(alone, details)) => {
                return NotTried(format!("it {alone} without the fault: {details}"));
            }
            _ => {}
        }
    }
    // Several rounds have confirmed it already.
    if symptom == "leaks" && !target.is_known_to(symptom) {
        target.known.push(symptom);
        return Fails(symptom, details);
    }
    match attempt(fault.inject, target) {
        Ok(()) if target.is_known_to(symptom) => Survives(target.remarks()),
        Ok(()) => Flaky(symptom, details),
        Err(verdict @ Fails(..)) => verdict,
        Err(_) => Fails(symptom, details),
    }
}

/// Injects a fault once, or more often if the server leaves something over.
fn attempt(inject: Inject, target: &mut Target) -> Outcome {
    target.forget_remarks();
    inject_once(inject, target)?;
    if matches!(inject, Another(_)) {
        return Ok(());
    }
    // It may still be at work on a crowd, and meanwhile allow other clients less, or lack a thread.
    target.needs_restart = matches!(inject, Lasting(_));
    let Some(first) = target.left_over() else { return Ok(()) };
    // It may have been opened once and for all. A leak grows with the number of rounds.
    target.usage = target.usage_now();
    inject_once(inject, target)?;
    let Some(second) = target.left_over() else { return Ok(()) };
    let (start, mut most) = (Instant::now(), 0);
    for round in 1.. {
        // Ruby, for example, lets several hundred descriptors wait for a garbage collection, which
        // requests cause.
        let (client, request) = (&target.client, target.client.request(b"One more\n"));
        let exchange = |_| match client.protocol {
            Udp => client.exchange(&request),
            Tcp => client.exchange_on(&client.open()?, &request),
        };
        let limit = start.elapsed() + client.patience;
        let mut requests = (0..100).take_while(|_| start.elapsed() < limit);
        let _ = requests.try_for_each(exchange); // there may be no descriptor for more
        if round > 5 && (most > 700 || start.elapsed() > 3 * client.patience) {
            break;
        }
        let before = target.usage_now().total();
        inject_once(inject, target)?;
        let after = target.usage_now().total();
        // It has collected garbage, or reuses what it has. Go, for example, keeps pipes in a pool.
        if before + 4 < most || after <= before {
            return Ok(());
        }
        most = after;
    }
    let third = target.left_over();
    let Some(third) = third.filter(|third| third.total() > second.total()) else { return Ok(()) };
    Err(Fails("leaks", format!("{first}, then {second}, then {third}")))
}

/// Injects a fault, in general while another client is connected, which must be served, and checks the
/// server afterwards.
fn inject_once(inject: Inject, target: &mut Target) -> Outcome {
    let (inject, is_lasting) = match inject {
        This(inject) => (inject, false),
        Lasting(inject) => (inject, true),
        Another(inject) => return inject(target),
    };
    let client = &target.client;
    let is_served = client.protocol == Tcp && !client.once && !target.serves_one_client;
    let injected = thread::scope(|scope| {
        let client = client.with_patience(2);
        let stream = if is_served { Some(client.open()?) } else { None };
        let (stop, stopped) = mpsc::channel();
        let other =
            stream.map(|stream| scope.spawn(move || client.stay(stream, is_lasting, &stopped)));
        let injected = inject(target);
        drop(stop);
        let served = other.and_then(|other| other.join().ok()).unwrap_or(Ok(()));
        injected.and(served)
    });
    target.aftermath(injected)
}

/// Injects faults one after the other until the time is up, while clients make requests of many
/// lengths and check the replies. Faults for which one more server is started are left out.
pub fn repeat(names: &[&str], target: &mut Target, limit: Duration) -> Verdict {
    let selected = faults(target.client.protocol).filter(|fault| names.contains(&fault.name));
    let selected = selected.filter(|fault| !matches!(fault.inject, Another(_)));
    let number = selected.clone().count();
    if target.serves_one_client || number == 0 {
        return NotTried("the server survives no fault beside other clients".into());
    }
    if let Err(verdict) = target.repair() {
        return verdict;
    }
    let (client, start) = (target.client.with_patience(2), Instant::now());
    let (stop, served, mut rounds) = (AtomicBool::new(false), AtomicUsize::new(0), 0);
    let memory = |target: &Target| target.memory().unwrap_or_default();
    let (mut first, mut once) = (memory(target), None);
    let outcome = thread::scope(|scope| {
        let work = || keep_asking(&client, &stop, &served);
        let clients = [scope.spawn(work), scope.spawn(work)];
        let mut outcome = Ok(());
        for fault in selected.cycle() {
            let is_over = start.elapsed() > limit || clients.iter().any(|it| it.is_finished());
            if outcome.is_err() || is_over {
                break;
            }
            let failed = attempt(fault.inject, target);
            if let Err(Fails(symptom, details)) = failed {
                let verdict = Fails(symptom, format!("{}: {details}", fault.name));
                match attempt(fault.inject, target) {
                    Err(Fails(..)) => outcome = Err(verdict),
                    _ => once = Some(verdict),
                }
            }
            rounds += 1;
            first = if rounds == number { memory(target) } else { first };
        }
        stop.store(true, Relaxed);
        clients.into_iter().filter_map(|it| it.join().ok()).fold(outcome, Outcome::and)
    });
    let [rounds, served] = [rounds, served.into_inner()].map(grouped);
    let count = format!("{rounds} faults among {served} honest requests");
    let after = |details| format!("{details} after {count}");
    match (outcome, once) {
        (Err(Fails(symptom, details)), _) => Fails(symptom, after(details)),
        (_, Some(Fails(symptom, details))) => Flaky(symptom, after(details)),
        _ => Survives(format!("{count}; memory {first} MiB, then {} MiB", memory(target))),
    }
}

/// Makes exchanges of many lengths, twenty over each connection if the protocol allows that.
fn keep_asking(client: &Client, stop: &AtomicBool, served: &AtomicUsize) -> Outcome {
    let keeps = client.protocol == Protocol::Tcp && !client.once;
    while !stop.load(Relaxed) {
        let stream = if keeps { Some(client.open()?) } else { None };
        for _ in 0..20 {
            let number = served.fetch_add(1, Relaxed);
            let text = [number.to_string().as_bytes(), &lines(1 + number * 997 % 10_000)].concat();
            let request = client.request(&text);
            match &stream {
                // At its own limit of connections, a server may close one that is idle.
                Some(stream) if has_ended(stream) => break,
                Some(stream) => client.exchange_on(stream, &request)?,
                None => client.exchange(&request)?,
            }
            thread::sleep(Duration::from_millis(20));
        }
        stream.iter().for_each(finish);
    }
    Ok(())
}

/// Tells errors that the server causes from those of the system on which the kit runs.
impl From<io::Error> for Verdict {
    fn from(error: io::Error) -> Verdict {
        match error.kind() {
            // Windows reports a datagram that is refused as a reset.
            ConnectionRefused | ConnectionReset => Fails("exits", "no longer listens".into()),
            _ if is_timeout(&error) => Fails("hangs", "no reply".into()),
            _ => NotTried(error.to_string()),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let reason = self.reason();
        match self {
            Survives(_) if reason.is_empty() => f.write_str("survives"),
            Survives(_) => write!(f, "survives ({reason})"),
            Fails(..) => write!(f, "FAILS: {reason}"),
            Flaky(..) => write!(f, "flaky: {reason} (once in two)"),
            NotTried(_) => write!(f, "not tried: {reason}"),
        }
    }
}
