//! The fault kit: injects faults into any UDP or TCP server and reports which it survives.
//!
//! [`inject`] injects one of the [`FAULTS`] into a [`Target`], and checks the server afterwards.
//! Every fault is bounded in count, bytes and seconds, and `docs/pitfalls.md` explains it under a
//! heading of its name.

mod injections;
mod target;

pub use crate::candidates::Protocol;
pub use target::Target;

use Protocol::{Tcp, Udp};
use Verdict::{Fails, NotTried, Survives};
use injections::*;
use std::fmt;
use std::io;
use std::io::ErrorKind::{ConnectionRefused, ConnectionReset};
use target::is_timeout;

/// What became of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It replies and is idle afterwards. The remark may be empty.
    Survives(String),
    /// The symptom, in the words of the survival table, and the details.
    Fails(&'static str, String),
    /// The fault was not injected, and why.
    NotTried(String),
}

/// The result of a step. An error is the verdict; otherwise, how the server is afterwards decides.
type Outcome<T = ()> = Result<T, Verdict>;

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
    inject: fn(&Target) -> Outcome,
}

/// All faults, in the order in which they are injected.
#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    Fault { protocols: &[Udp], name: "empty-datagram", inject: empty_datagram,
        summary: "A datagram without a payload.",
        hint: "A received length of 0 is not the end of anything. Handle it like any other." },
    Fault { protocols: &[Udp], name: "one-byte-datagram", inject: |target| target.exchange(b"\xff"),
        summary: "A datagram with a payload of 1 byte, which is not valid UTF-8.",
        hint: "Check the length before you index or parse, and do not rely on valid UTF-8." },
    Fault { protocols: &[Udp], name: "largest-datagram", inject: largest_datagram,
        summary: "The largest datagram: 65,507 bytes over IPv4, 65,527 over IPv6.",
        hint: "Receive into 65,535 bytes. What does not fit is cut off without an error." },
    Fault { protocols: &[Udp], name: "departed-client", inject: departed_client,
        summary: "Clients that close their sockets before the replies arrive.",
        hint: "A receive or send can fail because of an earlier reply. Log the error and go on." },
    Fault { protocols: &[Udp], name: "flood", inject: flood,
        summary: "20,000 datagrams of 1,000 bytes, as fast as they can be sent.",
        hint: "Leave requests in the socket's queue, which is bounded, until a thread is free." },
    Fault { protocols: &[Udp], name: "source-port-0", inject: |it| forge(it, 0, 4, 0.2).map(drop),
        summary: "A datagram from port 0, to which no reply can be sent (needs root, python3).",
        hint: "Do not exit when a send fails. The error concerns one client only." },
    Fault { protocols: &[Udp], name: "own-address", inject: own_address,
        summary: "A datagram whose source is the server's own address (needs root, python3).",
        hint: "Ignore datagrams from your own port, or you reply to your own replies endlessly." },
    Fault { protocols: &[Tcp], name: "disconnect", inject: disconnect,
        summary: "5 clients that disconnect after the reply.",
        hint: "The end of the stream is not an error: leave the loop, and keep on accepting." },
    Fault { protocols: &[Tcp], name: "half-close", inject: half_close,
        summary: "66,000 bytes, then the end of the stream. The whole reply must arrive.",
        hint: "A read may return a part of what was sent. Read and reply until a read returns 0." },
    Fault { protocols: &[Tcp], name: "one-byte-at-a-time", inject: one_byte_at_a_time,
        summary: "A request of 20 bytes, each in a segment of its own.",
        hint: "One read is not one message. Read on until the message is complete." },
    Fault { protocols: &[Tcp], name: "reset-while-reading", inject: reset_while_reading,
        summary: "20 connections that are reset while the server waits for the next request.",
        hint: "A reset is an error of one connection. Close it and keep on accepting." },
    Fault { protocols: &[Tcp], name: "reset-while-writing", inject: reset_while_writing,
        summary: "20 connections that are reset while the server writes.",
        hint: "Handle errors of a write per connection. In C, also ignore SIGPIPE." },
    Fault { protocols: &[Tcp], name: "silent-clients", inject: silent_clients,
        summary: "200 connections over which nothing is sent. Another client must be served.",
        hint: "Serve connections concurrently, and close those that are idle for too long." },
    Fault { protocols: &[Tcp], name: "client-that-never-reads", inject: never_reads,
        summary: "Up to 64 MiB of requests, replies unread. Another client must be served.",
        hint: "Stop reading while a write is pending, and give writes a timeout." },
    Fault { protocols: &[Tcp], name: "burst-of-connections", inject: burst_of_connections,
        summary: "1,000 clients at once, or as many as the system allows. All must get replies.",
        hint: "Pass a larger backlog to `listen`, or accept in several threads." },
    Fault { protocols: &[Tcp], name: "descriptors-exhausted", inject: descriptors_exhausted,
        summary: "More connections than the server has descriptors (Linux, needs the command).",
        hint: "When accept fails, log it, pause, and try again. Also time out idle clients." },
    Fault { protocols: &[Udp, Tcp], name: "suspend-and-resume", inject: suspend_and_resume,
        summary: "SIGSTOP before a request, SIGCONT after it (Linux, needs the command).",
        hint: "A receive or read with a timeout fails with EINTR after SIGCONT. Repeat it." },
    Fault { protocols: &[Udp, Tcp], name: "closed-output", inject: closed_output,
        summary: "Standard output is closed while the server runs (needs the command).",
        hint: "Ignore output errors (println! panics, print raises) and, in C and Go, SIGPIPE." },
];

/// Returns the faults for servers of a protocol.
pub fn faults(protocol: Protocol) -> impl Iterator<Item = &'static Fault> + Clone {
    FAULTS.iter().filter(move |fault| fault.protocols.contains(&protocol))
}

/// Injects a fault into a server and checks the server afterwards.
///
/// # Panics
///
/// Panics if there is no such fault for the protocol of the server.
pub fn inject(name: &str, target: &mut Target) -> Verdict {
    let fault = faults(target.protocol).find(|fault| fault.name == name);
    let fault = fault.unwrap_or_else(|| panic!("{name} is no fault for {:?}", target.protocol));
    let verdict = match target.mend().and_then(|()| (fault.inject)(target)) {
        Err(not_tried @ NotTried(_)) => return not_tried,
        injected => target.aftermath(injected).err().unwrap_or(Survives(String::new())),
    };
    target.broken = target.busy || matches!(verdict, Fails(..));
    verdict
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
        match self {
            Survives(remark) => write!(f, "survives{remark}"),
            Fails(_, details) => write!(f, "FAILS: {details}"),
            NotTried(reason) => write!(f, "not tried: {reason}"),
        }
    }
}

/// Returns a number with a comma between thousands.
pub fn grouped(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}
