//! The fault kit: injects faults into any UDP or TCP server and reports which it survives.
//!
//! - [`Target`]: the server, running already or started by its command.
//! - [`inject`]: injects one fault, and checks the server afterwards.
//! - [`FAULTS`]: all faults. `docs/pitfalls.md` explains each under a heading of its name.
//! - [`check`]: the subcommand `cargo run -p tests -- check --help`.
//!
//! Every fault is bounded in count, bytes and seconds, and closes what it opened.

mod target;
mod tcp;
mod udp;

pub use crate::competitors::Protocol;
pub use target::Target;

use Protocol::{Tcp, Udp};
use Verdict::{Fails, NotTried, Survives};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use target::Replies;

/// What became of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It replies and is idle afterwards. The remark may be empty.
    Survives(String),
    /// What went wrong, and the details.
    Fails(Symptom, String),
    /// The fault was not injected, and why.
    NotTried(String),
}

/// What a fault does to a server, in the words of the survival table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// The process exits, or no longer listens.
    Exits,
    /// The process uses a whole core while it has nothing to do.
    Spins,
    /// The server no longer replies, or not to other clients.
    Hangs,
    /// A reply is incomplete or wrong.
    LosesData,
    /// Some of many clients get no reply.
    DropsClients,
    /// The server stores what its client does not read.
    Grows,
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Symptom::Exits => "exits",
            Symptom::Spins => "spins",
            Symptom::Hangs => "hangs",
            Symptom::LosesData => "loses data",
            Symptom::DropsClients => "drops clients",
            Symptom::Grows => "grows",
        })
    }
}

/// A fault that the kit can inject.
#[derive(Debug)]
pub struct Fault {
    /// Which servers it is for.
    pub protocol: Protocol,
    /// Its name, which is also its anchor in `docs/pitfalls.md`.
    pub name: &'static str,
    /// What is injected.
    pub summary: &'static str,
    /// What to change in a server that does not survive it.
    pub hint: &'static str,
    inject: Inject,
}

/// Injects a fault. An error is the verdict; otherwise, how the server is afterwards decides.
type Inject = fn(&mut Target) -> Result<(), Verdict>;

const fn fault(
    protocol: Protocol,
    name: &'static str,
    inject: Inject,
    summary: &'static str,
    hint: &'static str,
) -> Fault {
    Fault { protocol, name, summary, hint, inject }
}

/// All faults, in the order in which they are injected.
#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    fault(Udp, "empty-datagram", udp::empty_datagram,
        "A datagram without a payload.",
        "A received length of 0 is not the end of anything. Handle it like any other."),
    fault(Udp, "one-byte-datagram", |target| udp::exchange(target, b"x"),
        "A datagram with a payload of 1 byte.",
        "Check the length before you index or parse."),
    fault(Udp, "largest-datagram", udp::largest_datagram,
        "The largest datagram: 65,507 bytes over IPv4, 65,527 over IPv6.",
        "Receive into a buffer of 65,535 bytes. What does not fit is cut off without an error."),
    fault(Udp, "departed-client", udp::departed_client,
        "Clients that close their sockets before the replies arrive.",
        "An error of a receive or send can come from an earlier reply. Log it and go on."),
    fault(Udp, "flood", udp::flood,
        "20,000 datagrams of 1,000 bytes, as fast as they can be sent.",
        "Leave requests in the socket's own queue, which is bounded, until a thread is free."),
    fault(Udp, "source-port-0", udp::source_port_0,
        "A datagram with source port 0, to which no reply can be sent (needs root, python3).",
        "Do not exit when a send fails. The error concerns one client only."),
    fault(Udp, "own-address", udp::own_address,
        "A datagram whose source is the server's own address (needs root, python3).",
        "Ignore datagrams from your own port, or you reply to your own replies endlessly."),
    fault(Tcp, "disconnect", tcp::disconnect,
        "5 clients that disconnect after the reply.",
        "The end of the stream is not an error: leave the loop, and keep on accepting."),
    fault(Tcp, "half-close", tcp::half_close,
        "66,000 bytes, then the end of the stream. The whole reply must arrive.",
        "A read returns any part of what was sent. Read and reply until a read returns 0."),
    fault(Tcp, "one-byte-at-a-time", tcp::one_byte_at_a_time,
        "A request of 20 bytes, each in a segment of its own.",
        "One read is not one message. Read on until the message is complete."),
    fault(Tcp, "reset-while-reading", tcp::reset_while_reading,
        "20 connections that are reset while the server waits for the next request.",
        "A reset is an error of one connection. Close it and keep on accepting."),
    fault(Tcp, "reset-while-writing", tcp::reset_while_writing,
        "20 connections that are reset while the server writes.",
        "Handle errors of a write per connection. In C, also ignore SIGPIPE."),
    fault(Tcp, "silent-clients", tcp::silent_clients,
        "200 connections over which nothing is sent. Another client must be served.",
        "Serve connections concurrently, and close those that are idle for too long."),
    fault(Tcp, "client-that-never-reads", tcp::client_that_never_reads,
        "Up to 64 MiB of requests whose replies are not read. Another client must be served.",
        "Stop reading while a write is pending, and give writes a timeout."),
    fault(Tcp, "burst-of-connections", tcp::burst_of_connections,
        "1,000 clients at once, or as many as the system allows. All must get their replies.",
        "Accept faster than the backlog fills up, or give `listen` a larger backlog."),
    fault(Tcp, "descriptors-exhausted", tcp::descriptors_exhausted,
        "More connections than the server has descriptors (Linux, needs the command).",
        "When accept fails, wait before you try again: neither exit nor spin."),
    fault(Udp, "suspend-and-resume", udp::suspend_and_resume,
        "SIGSTOP before a request, SIGCONT after it (Linux, needs the command).",
        "A receive with a timeout fails with EINTR after SIGCONT. Repeat it."),
    fault(Tcp, "suspend-and-resume", tcp::suspend_and_resume,
        "SIGSTOP before a request, SIGCONT after it (Linux, needs the command).",
        "A read with a timeout fails with EINTR after SIGCONT. Repeat it."),
    fault(Udp, "closed-output", closed_output,
        "Standard output is closed while the server runs (needs the command).",
        "Ignore errors of standard output: println! panics, print raises, and C ends by SIGPIPE."),
    fault(Tcp, "closed-output", closed_output,
        "Standard output is closed while the server runs (needs the command).",
        "Ignore errors of standard output: println! panics, print raises, and C ends by SIGPIPE."),
];

/// Injects a fault into a server and checks the server afterwards.
///
/// # Panics
///
/// When there is no such fault for the protocol of the server.
pub fn inject(name: &str, target: &mut Target) -> Verdict {
    let mut faults = FAULTS.iter().filter(|fault| fault.protocol == target.protocol);
    let fault = faults.find(|fault| fault.name == name).expect("a fault for this protocol");
    if target.dies {
        return NotTried("the server exits after any client".into());
    }
    if let Err(verdict) = target.mend() {
        return verdict;
    }
    let injected = (fault.inject)(target);
    if let Err(not_tried @ NotTried(_)) = injected {
        return not_tried;
    }
    let verdict = match (target.aftermath(), injected) {
        // That the server exited explains everything else.
        (Err(exits @ Fails(Symptom::Exits, _)), _) => exits,
        (_, Err(failure @ Fails(..))) | (Err(failure), _) => failure,
        (_, Err(verdict)) => verdict,
        _ => Survives(String::new()),
    };
    target.broken = target.busy || matches!(verdict, Fails(..));
    target.dies = name == "disconnect" && matches!(verdict, Fails(Symptom::Exits, _));
    verdict
}

/// Closes the standard output of a server that writes at least a byte per request to it.
fn closed_output(target: &mut Target) -> Result<(), Verdict> {
    let exchange = |server: &Target| {
        let start = Instant::now();
        let more = |_: &usize| start.elapsed() < Duration::from_secs(2) && server.probe().is_ok();
        // Many, since a runtime may buffer its output.
        (0..300).take_while(more).count()
    };
    let no_pipe = || NotTried("no pipe".into());
    let mut server = target.another(None, Stdio::piped())?;
    let output = server.take_stdout().ok_or_else(no_pipe)?;
    let requests = exchange(&server);
    drop(server); // It is killed, and the pipe ends.
    let mut written = Vec::new();
    output.take(1 << 20).read_to_end(&mut written)?;
    if written.len() < requests {
        return Err(NotTried("the server writes nothing to standard output for a request".into()));
    }
    let mut server = target.another(None, Stdio::piped())?;
    drop(server.take_stdout());
    exchange(&server);
    server.aftermath()
}

/// An error of the system of the kit, not of the server.
impl From<io::Error> for Verdict {
    fn from(error: io::Error) -> Verdict {
        NotTried(error.to_string())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Survives(remark) if remark.is_empty() => write!(f, "survives"),
            Survives(remark) => write!(f, "survives ({remark})"),
            Fails(_, details) => write!(f, "FAILS: {details}"),
            NotTried(reason) => write!(f, "not tried: {reason}"),
        }
    }
}

/// A number with a comma between thousands.
fn grouped(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}

const HELP: &str = "\
Injects faults into a server and reports which it survives.

Usage: cargo run -p tests -- check [OPTIONS] udp|tcp ADDR
       cargo run -p tests -- check [OPTIONS] udp|tcp -- COMMAND [ARGS...]

Arguments:
  ADDR         HOST:PORT of a server that is running; only loopback addresses
  COMMAND      starts the server on 127.0.0.1:{port}, where {port} in ARGS stands
               for a free port; the server must reply within 10 s, so build it
               first; standard input stays open

Options:
  --only NAME  inject only this fault
  --list       explain the faults
  -h, --help   print this help

The server may do anything that replies to a request: to a datagram, or to a
line over TCP. If the reply is the request, or the request in upper case, it must
be complete; line ends are not compared. Of any other server, any reply will do.
A TCP server that replies only after the end of the stream cannot be checked.

With COMMAND, the server is started again after a fault that it did not survive,
and more faults can be injected. On Linux, the kit also sees how much CPU time its
processes use, descendants included.

Exit code: 0 if the server survives every fault that was tried, 1 if not or if
it does not reply, 2 for a wrong command line.
";

/// The subcommand `check`.
pub fn check(arguments: &[String]) -> ExitCode {
    let usage = |error: &str| {
        eprintln!("check: {error}; see check --help");
        ExitCode::from(2)
    };
    let (mut words, mut operands, mut only) = (arguments.iter(), Vec::new(), None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-h" | "--help" => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            "--list" => {
                for Fault { protocol, name, summary, hint, .. } in FAULTS {
                    println!("{protocol:?} {name}\n    {summary}\n    {hint}");
                }
                return ExitCode::SUCCESS;
            }
            "--only" => match words.next() {
                Some(name) => only = Some(name),
                None => return usage("--only needs a NAME"),
            },
            operand => operands.push(operand),
        }
        if word == "--" {
            break; // The command follows.
        }
    }
    let protocol = match operands.first() {
        Some(&"udp") => Udp,
        Some(&"tcp") => Tcp,
        _ => return usage("udp or tcp is missing"),
    };
    let selected = |fault: &Fault| only.is_none_or(|name| *name == fault.name);
    let faults = FAULTS.iter().filter(|fault| fault.protocol == protocol && selected(fault));
    if faults.clone().count() == 0 {
        return usage("there is no such fault, see check --list");
    }
    let command: Vec<String> = words.cloned().collect();
    let target = match operands[1..] {
        ["--"] if command.iter().any(|word| word.contains("{port}")) => {
            Target::start(protocol, move |port| {
                let mut words =
                    command.iter().map(|word| word.replace("{port}", &port.to_string()));
                let mut command = Command::new(words.next().unwrap_or_default());
                command.args(words);
                command
            })
        }
        ["--"] => return usage("{port} is missing in the command"),
        [address] => match loopback(address) {
            Ok(address) => Target::running(protocol, address),
            Err(error) => return usage(&error),
        },
        _ => return usage("one ADDR is needed, or -- and a command"),
    };
    let mut target = match target {
        Ok(target) => target,
        Err(error) => {
            eprintln!("check: {error}");
            return ExitCode::FAILURE;
        }
    };
    let replies = match target.replies {
        Replies::UpperCase => "replies with the request in upper case",
        Replies::Echo => "replies with the request",
        Replies::Other => "replies otherwise, so any reply will do",
    };
    let mut output = io::stdout();
    // Standard output may be closed.
    let _ = writeln!(output, "The server at {} {replies}.", target.address);
    let mut failed = false;
    for Fault { name, hint, .. } in faults {
        let verdict = inject(name, &mut target);
        let _ = writeln!(output, "{name:<24}{verdict}");
        if let Fails(..) = verdict {
            let _ = writeln!(output, "{:24}{hint}\n{:24}docs/pitfalls.md#{name}", "", "");
            failed = true;
        }
    }
    ExitCode::from(u8::from(failed))
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let resolved = text.to_socket_addrs().map_err(|error| format!("{text:?}: {error}"))?;
    let mut addresses: Vec<SocketAddr> = resolved.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    match addresses.first() {
        Some(address) if addresses.iter().all(|a| a.ip().is_loopback()) => Ok(*address),
        _ => Err(format!("{text} is not a loopback address")),
    }
}
