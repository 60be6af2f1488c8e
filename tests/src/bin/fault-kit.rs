//! The command line of the fault kit.
//!
//! ```sh
//! cargo run --bin fault-kit -- tcp -- ./my-server "{port}"
//! cargo install --path tests --bin fault-kit
//! ```

use std::env;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::{Command, ExitCode};
use tests::faults::Protocol::{Tcp, Udp};
use tests::faults::Verdict::{Fails, NotTried, Survives};
use tests::faults::{FAULTS, Fault, Target, faults, inject};

const HELP: &str = "\
Injects faults into a server and reports which it survives.

Usage: fault-kit [OPTIONS] udp|tcp ADDR
       fault-kit [OPTIONS] udp|tcp -- COMMAND [ARGS...]

ADDR is the HOST:PORT of a server that is running, which must be on loopback.
COMMAND starts a server on 127.0.0.1:{port}, where {port} in ARGS stands for a
free port, and again after a fault that it does not survive. The server must
reply within 10 s, so build it first. Its standard input stays open. With
COMMAND, more faults are tried, and on Linux the CPU time of the server's
processes is observed.

Options:
  --only NAME  inject only this fault; may be repeated
  --list       explain the faults
  -h, --help   print this help

The server may be any that replies to a datagram or, over TCP, to a line while
the stream is open. A reply that repeats the request, as it is or in upper case,
must be complete except for line ends. Any other reply will do.

Exit code: 0 if the server survives every fault that was tried, 1 if not or if
it does not reply, 2 for a wrong command line.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    run(&arguments).unwrap_or_else(|(code, error)| {
        eprintln!("fault-kit: {error}");
        ExitCode::from(code)
    })
}

/// Checks a server; an error is an exit code and a message.
fn run(arguments: &[String]) -> Result<ExitCode, (u8, String)> {
    let usage = |error: &str| (2, format!("{error}; see --help"));
    let end = arguments.iter().position(|word| word == "--").unwrap_or(arguments.len());
    let (mut words, mut operands, mut only) = (arguments[..end].iter(), Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        match word.as_str() {
            "--only" => only.push(words.next().ok_or(usage("--only needs a NAME"))?.as_str()),
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
            operand => operands.push(operand),
        }
    }
    let protocol = if operands.first() == Some(&"udp") { Udp } else { Tcp };
    if let Some(name) = only.iter().find(|name| faults(protocol).all(|it| it.name != **name)) {
        return Err(usage(&format!("--list has no {name:?} for this protocol")));
    }
    let command = arguments[end..].to_vec();
    let target = match (&operands[..], &command[..]) {
        (["udp" | "tcp", address], []) => {
            let resolved = address.to_socket_addrs().into_iter().flatten();
            let loopback = resolved.filter(|address| address.ip().is_loopback());
            let address = loopback.min_by_key(SocketAddr::is_ipv6);
            Target::running(protocol, address.ok_or(usage("ADDR is not HOST:PORT of loopback"))?)
        }
        (["udp" | "tcp"], [_, _, args @ ..]) if args.iter().any(|arg| arg.contains("{port}")) => {
            Target::start(protocol, move |port| {
                let mut server = Command::new(&command[1]);
                let fill = |argument: &String| argument.replace("{port}", &port.to_string());
                server.args(command[2..].iter().map(fill));
                server
            })
        }
        _ => return Err(usage("expected udp or tcp, and ADDR or -- COMMAND with {port}")),
    };
    let mut target = target.map_err(|error| (1, error))?;
    let mut output = io::stdout(); // It may be closed.
    let _ = writeln!(output, "{}", target.summary());
    let (mut survived, mut failed, mut not_tried) = (0, 0, 0);
    let selected = |fault: &&Fault| only.is_empty() || only.contains(&fault.name);
    for Fault { name, hint, .. } in faults(protocol).filter(selected) {
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
