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
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use target::{PATIENCE, is_timeout, retry};

/// What became of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It replies and is idle afterwards. The remark may be empty.
    Survives(String),
    /// The [`symptom`], and the details.
    Fails(&'static str, String),
    /// The fault was not injected, and why.
    NotTried(String),
}

/// What a fault does to a server; the texts are those of the survival table.
pub mod symptom {
    /// The process exits, or no longer listens.
    pub const EXITS: &str = "exits";
    /// The process uses a whole core while it has nothing to do.
    pub const SPINS: &str = "spins";
    /// The server no longer replies, or not to other clients.
    pub const HANGS: &str = "hangs";
    /// A reply is incomplete or wrong.
    pub const LOSES_DATA: &str = "loses data";
    /// Some of many clients get no reply.
    pub const DROPS_CLIENTS: &str = "drops clients";
    /// The server stores what its client does not read.
    pub const GROWS: &str = "grows";
}

/// The result of a step. An error is the verdict; otherwise, how the server is afterwards decides.
type Outcome<T = ()> = Result<T, Verdict>;

/// A fault that the kit can inject.
#[derive(Debug)]
pub struct Fault {
    /// The protocols of the servers that it is for.
    pub protocols: &'static [Protocol],
    /// Its name, which is also its anchor in `docs/pitfalls.md`.
    pub name: &'static str,
    /// What is injected.
    pub summary: &'static str,
    /// What to change in a server that does not survive it.
    pub hint: &'static str,
    inject: fn(&mut Target) -> Outcome,
}

/// All faults, in the order in which they are injected.
#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    Fault { protocols: &[Udp], name: "empty-datagram", inject: udp::empty_datagram,
        summary: "A datagram without a payload.",
        hint: "A received length of 0 is not the end of anything. Handle it like any other." },
    Fault { protocols: &[Udp], name: "one-byte-datagram", inject: |target| target.exchange(b"\xff"),
        summary: "A datagram with a payload of 1 byte, which is not valid UTF-8.",
        hint: "Check the length before you index or parse, and do not rely on valid UTF-8." },
    Fault { protocols: &[Udp], name: "largest-datagram", inject: udp::largest_datagram,
        summary: "The largest datagram: 65,507 bytes over IPv4, 65,527 over IPv6.",
        hint: "Receive into 65,535 bytes. What does not fit is cut off without an error." },
    Fault { protocols: &[Udp], name: "departed-client", inject: udp::departed_client,
        summary: "Clients that close their sockets before the replies arrive.",
        hint: "A receive or send can fail because of an earlier reply. Log the error and go on." },
    Fault { protocols: &[Udp], name: "flood", inject: udp::flood,
        summary: "20,000 datagrams of 1,000 bytes, as fast as they can be sent.",
        hint: "Leave requests in the socket's queue, which is bounded, until a thread is free." },
    Fault { protocols: &[Udp], name: "source-port-0", inject: udp::source_port_0,
        summary: "A datagram from port 0, to which no reply can be sent (needs root, python3).",
        hint: "Do not exit when a send fails. The error concerns one client only." },
    Fault { protocols: &[Udp], name: "own-address", inject: udp::own_address,
        summary: "A datagram whose source is the server's own address (needs root, python3).",
        hint: "Ignore datagrams from your own port, or you reply to your own replies endlessly." },
    Fault { protocols: &[Tcp], name: "disconnect", inject: tcp::disconnect,
        summary: "5 clients that disconnect after the reply.",
        hint: "The end of the stream is not an error: leave the loop, and keep on accepting." },
    Fault { protocols: &[Tcp], name: "half-close", inject: tcp::half_close,
        summary: "66,000 bytes, then the end of the stream. The whole reply must arrive.",
        hint: "A read may return a part of what was sent. Read and reply until a read returns 0." },
    Fault { protocols: &[Tcp], name: "one-byte-at-a-time", inject: tcp::one_byte_at_a_time,
        summary: "A request of 20 bytes, each in a segment of its own.",
        hint: "One read is not one message. Read on until the message is complete." },
    Fault { protocols: &[Tcp], name: "reset-while-reading", inject: tcp::reset_while_reading,
        summary: "20 connections that are reset while the server waits for the next request.",
        hint: "A reset is an error of one connection. Close it and keep on accepting." },
    Fault { protocols: &[Tcp], name: "reset-while-writing", inject: tcp::reset_while_writing,
        summary: "20 connections that are reset while the server writes.",
        hint: "Handle errors of a write per connection. In C, also ignore SIGPIPE." },
    Fault { protocols: &[Tcp], name: "silent-clients", inject: tcp::silent_clients,
        summary: "200 connections over which nothing is sent. Another client must be served.",
        hint: "Serve connections concurrently, and close those that are idle for too long." },
    Fault { protocols: &[Tcp], name: "client-that-never-reads", inject: tcp::never_reads,
        summary: "Up to 64 MiB of requests, replies unread. Another client must be served.",
        hint: "Stop reading while a write is pending, and give writes a timeout." },
    Fault { protocols: &[Tcp], name: "burst-of-connections", inject: tcp::burst_of_connections,
        summary: "1,000 clients at once, or as many as the system allows. All must get replies.",
        hint: "Pass a larger backlog to `listen`, or accept in several threads." },
    Fault { protocols: &[Tcp], name: "descriptors-exhausted", inject: tcp::descriptors_exhausted,
        summary: "More connections than the server has descriptors (Linux, needs the command).",
        hint: "When accept fails, log it, sleep briefly, and try again. Also time out idle clients." },
    Fault { protocols: &[Udp, Tcp], name: "suspend-and-resume", inject: suspend_and_resume,
        summary: "SIGSTOP before a request, SIGCONT after it (Linux, needs the command).",
        hint: "A receive or read with a timeout fails with EINTR after SIGCONT. Repeat it." },
    Fault { protocols: &[Udp, Tcp], name: "closed-output", inject: closed_output,
        summary: "Standard output is closed while the server runs (needs the command).",
        hint: "Ignore errors of standard output: println! panics, print raises, and C ends by SIGPIPE." },
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
    target.dies = name == "disconnect" && matches!(verdict, Fails(symptom::EXITS, _));
    verdict
}

/// Sends a request while the server is suspended. A receive with a timeout then fails with EINTR.
fn suspend_and_resume(target: &mut Target) -> Outcome {
    let request = b"While suspended\n";
    let replied = if target.protocol == Udp {
        let socket = target.socket(PATIENCE)?;
        target.signal("STOP", true)?;
        let _ = socket.send(request); // An error also shows in the reply.
        target.signal("CONT", false)?;
        let mut reply = [0; 1024];
        let received = retry(|| socket.recv(&mut reply)).map_err(Verdict::from);
        received.and_then(|length| target.verify(request, &reply[..length]))
    } else {
        let stream = target.connect(PATIENCE)?;
        sleep(Duration::from_millis(100)); // The server accepts, and waits for the request.
        target.signal("STOP", true)?;
        let _ = (&stream).write_all(request);
        target.signal("CONT", false)?;
        target.reply(&stream, request)
    };
    replied.map_err(|verdict| verdict.during("after SIGCONT"))
}

/// Closes the standard output of a server that writes at least a byte per request to it.
fn closed_output(target: &mut Target) -> Outcome {
    let exchange = |server: &Target| {
        let start = Instant::now();
        let more = |_: &usize| start.elapsed() < Duration::from_secs(2) && server.probe().is_ok();
        // Many, since a runtime may buffer its output.
        (0..300).take_while(more).count()
    };
    let mut server = target.another(None, Stdio::piped())?;
    let output = server.take_stdout();
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
    server.aftermath(Ok(()))
}

impl Verdict {
    /// Adds to the details of a failure when it happened.
    fn during(self, when: &str) -> Verdict {
        match self {
            Fails(symptom, details) => Fails(symptom, format!("{details} {when}")),
            other => other,
        }
    }
}

/// Tells errors that the server causes from those of the system on which the kit runs.
impl From<io::Error> for Verdict {
    fn from(error: io::Error) -> Verdict {
        match error.kind() {
            // Windows reports a datagram that is refused as a reset.
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => {
                Fails(symptom::EXITS, "no longer listens".into())
            }
            _ if is_timeout(&error) => Fails(symptom::HANGS, "no reply".into()),
            _ => NotTried(error.to_string()),
        }
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

/// Returns a number with a comma between thousands.
pub fn grouped(number: usize) -> String {
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
               first; standard input stays open; a server that did not survive a
               fault is started again

Options:
  --only NAME  inject only this fault; may be repeated
  --list       explain the faults
  -h, --help   print this help

The server may do anything that replies to a request: to a datagram, or to a
line over TCP. If the reply is the request, or the request in upper case, it must
be complete; line ends are not compared. For any other server, only the arrival of
a reply is checked.
A TCP server that replies only after the end of the stream cannot be checked.

With COMMAND, more faults can be injected. On Linux, the kit also sees how much
CPU time the processes of the server use, descendants included.

Exit code: 0 if the server survives every fault that was tried, 1 if not or if
it does not reply, 2 for a wrong command line.
";

/// Runs the subcommand `check`.
pub fn check(arguments: &[String]) -> ExitCode {
    run(arguments).unwrap_or_else(|error| {
        eprintln!("check: {error}; see check --help");
        ExitCode::from(2)
    })
}

/// Checks a server; an error is one of the command line.
fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let (mut words, mut operands, mut only) = (arguments.iter(), Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        match word.as_str() {
            "-h" | "--help" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--list" => {
                for Fault { protocols, name, summary, hint, .. } in FAULTS {
                    println!("{name} {protocols:?}\n    {summary}\n    {hint}");
                }
                return Ok(ExitCode::SUCCESS);
            }
            "--only" => only.push(words.next().ok_or("--only needs a NAME")?.as_str()),
            operand => operands.push(operand),
        }
        if word == "--" {
            break; // The command follows.
        }
    }
    let protocol = match operands.first() {
        Some(&"udp") => Udp,
        Some(&"tcp") => Tcp,
        _ => return Err("udp or tcp is missing".into()),
    };
    if let Some(name) = only.iter().find(|name| faults(protocol).all(|it| it.name != **name)) {
        return Err(format!("{name:?} is not a fault for {protocol:?} servers"));
    }
    let command: Vec<String> = words.cloned().collect();
    let target = match operands[1..] {
        ["--"] if command.iter().any(|word| word.contains("{port}")) => {
            Target::start(protocol, move |port| {
                let port = port.to_string();
                let mut words = command.iter().map(|word| word.replace("{port}", &port));
                let mut command = Command::new(words.next().unwrap_or_default());
                command.args(words);
                command
            })
        }
        ["--"] => return Err("{port} is missing in the command".into()),
        [address] => Target::running(protocol, loopback(address)?),
        _ => return Err("one ADDR is needed, or -- before a command".into()),
    };
    let mut target = match target {
        Ok(target) => target,
        Err(error) => {
            eprintln!("check: {error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let replies =
        target.replies.map_or("other bytes; their content is not checked", |replies| replies.0);
    let mut output = io::stdout();
    // Standard output may be closed.
    let _ = writeln!(output, "The server at {} replies with {replies}.", target.address);
    let (mut survived, mut failed, mut not_tried) = (0, 0, 0);
    let selected = |name: &str| only.is_empty() || only.contains(&name);
    for Fault { name, hint, .. } in faults(protocol).filter(|fault| selected(fault.name)) {
        let verdict = inject(name, &mut target);
        let _ = writeln!(output, "{name:<24}{verdict}");
        match verdict {
            Survives(_) => survived += 1,
            NotTried(_) => not_tried += 1,
            Fails(..) => {
                let _ = writeln!(output, "{:24}{hint}\n{:24}docs/pitfalls.md#{name}", "", "");
                failed += 1;
            }
        }
    }
    let _ = writeln!(output, "{survived} survived, {failed} failed, {not_tried} not tried");
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// Resolves an address, which must be one of loopback.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let resolved = text.to_socket_addrs().map_err(|error| format!("{text:?}: {error}"))?;
    let mut addresses: Vec<SocketAddr> = resolved.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    match addresses.first() {
        Some(address) if addresses.iter().all(|a| a.ip().is_loopback()) => Ok(*address),
        _ => Err(format!("{text} is not a loopback address")),
    }
}
