//! The command line of the fault kit.
//!
//! ```sh
//! cargo run --bin fault-kit -- tcp -- ./my-server "{port}"
//! cargo install --path tests --bin fault-kit
//! ```

use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use std::{env, fs};
use tests::faults::Protocol::{Tcp, Udp};
use tests::faults::Verdict::{self, Fails, NotTried, Survives};
use tests::faults::{FAULTS, Fault, Options, Target, faults, inject};

const HELP: &str = "\
Injects faults into a server and reports which it survives.

Usage: fault-kit [OPTIONS] udp|tcp ADDR
       fault-kit [OPTIONS] udp|tcp -- COMMAND [ARGS...]

ADDR is the HOST:PORT of a server that is running, which must be on loopback.
COMMAND starts a server on 127.0.0.1:{port}, where {port} in ARGS stands for a
free port, and again after a fault that it does not survive. Its standard input
stays open. With COMMAND, more faults are tried, and on Linux the CPU time, the
memory and the descriptors of the server's processes are observed.

Options:
  --request BYTES  send this instead of lines of text. BYTES is @FILE, or text
                   in which \\r \\n \\t \\0 \\\\ \\' \\\" and \\xHH stand for bytes.
                   With '' nothing is sent: the server speaks first
  --reply BYTES    a reply is complete when it contains this. Without it, when
                   it is as long as the first ones, if these are equally long
  --no-reply       the server never replies: check that it reads (Linux)
  --port N         the command's server listens on this port, which it does not
                   take from its arguments
  --start SECONDS  how long the server may take until its first reply
                   [default: 10]
  --only NAME      inject only this fault; may be repeated
  --skip NAME      do not inject this fault; may be repeated
  --junit FILE     also write the verdicts as JUnit XML
  --list           explain the faults
  -h, --help       print this help

Without --request, a reply that repeats the request, as it is or in upper case,
must be complete except for line ends. Any other reply will do.

Exit code: 0 if the server survives every fault that was tried, 1 if not, 2 for
a wrong command line, 3 if the server could not be checked.
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
    let (mut words, mut operands) = (arguments[..end].iter().map(String::as_str), Vec::new());
    let (mut only, mut skipped, mut junit) = (Vec::new(), Vec::new(), None);
    let mut options = Options::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(usage(&format!("{word} needs a value")));
        match word {
            "--request" => options.request = Some(bytes(value()?).map_err(|e| usage(&e))?),
            "--reply" => options.reply = Some(bytes(value()?).map_err(|e| usage(&e))?),
            "--no-reply" => options.no_reply = true,
            "--port" => match value()?.parse() {
                Ok(port @ 1..) => options.port = Some(port),
                _ => return Err(usage("--port is not a number from 1 to 65535")),
            },
            "--start" => match value()?.parse().map(Duration::try_from_secs_f64) {
                Ok(Ok(start)) if !start.is_zero() => options.start = start,
                _ => return Err(usage("--start is not a number of seconds above zero")),
            },
            "--only" => only.push(value()?),
            "--skip" => skipped.push(value()?),
            "--junit" => junit = Some(value()?),
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
            option if option.starts_with('-') => {
                return Err(usage(&format!("unknown option {option:?}")));
            }
            operand => operands.push(operand),
        }
    }
    match &options.reply {
        Some(_) if options.no_reply => return Err(usage("--no-reply excludes --reply")),
        Some(reply) if reply.is_empty() => return Err(usage("--reply is empty")),
        _ => {}
    }
    if let Some(file) = junit {
        fs::write(file, "").map_err(|error| (2, format!("cannot write {file}: {error}")))?;
    }
    let protocol = if operands.first() == Some(&"udp") { Udp } else { Tcp };
    let is_unknown = |name: &&&str| faults(protocol).all(|fault| fault.name != **name);
    if let Some(name) = only.iter().chain(&skipped).find(is_unknown) {
        return Err(usage(&format!("--list has no {name:?} for this protocol")));
    }
    if protocol == Udp && options.request.as_deref() == Some(b"") {
        return Err(usage("a UDP server cannot speak first"));
    }
    let command = arguments[end..].to_vec();
    let has_port = options.port.is_some() || command.iter().any(|word| word.contains("{port}"));
    let target = match (&operands[..], &command[..]) {
        (["udp" | "tcp", address], []) => {
            let resolved = address.to_socket_addrs().into_iter().flatten();
            let loopback = resolved.filter(|address| address.ip().is_loopback());
            let address = loopback.min_by_key(SocketAddr::is_ipv6);
            let address = address.ok_or(usage("ADDR is not HOST:PORT of loopback"))?;
            Target::running(protocol, address, options)
        }
        (["udp" | "tcp"], [_, program, args @ ..]) if has_port => {
            let (program, args) = (program.clone(), args.to_vec());
            Target::start(protocol, options, move |port| {
                let mut server = Command::new(&program);
                server.args(args.iter().map(|word| word.replace("{port}", &port.to_string())));
                server
            })
        }
        (["udp" | "tcp"], [_, _, ..]) => {
            return Err(usage("the command has no {port}: add it, or pass --port"));
        }
        _ => return Err(usage("expected udp or tcp, and ADDR or -- COMMAND with {port}")),
    };
    let mut output = io::stdout(); // It may be closed.
    let mut rows = Vec::new();
    match target {
        Err(Fails(symptom, details)) => {
            let verdict = Fails(symptom, details);
            let _ = writeln!(output, "{:<27}{verdict}\n{:27}{}", "ordinary requests", "", LEARNING);
            rows.push(("ordinary requests", verdict, 0.0));
        }
        Err(reason) => return Err((3, reason.to_string().replace("not tried: ", ""))),
        Ok(mut target) => {
            let _ = writeln!(output, "{}", target.summary());
            let is_selected = |fault: &&Fault| only.is_empty() || only.contains(&fault.name);
            let is_skipped = |fault: &Fault| skipped.contains(&fault.name);
            let selected = faults(protocol).filter(is_selected);
            for Fault { name, hint, .. } in selected.filter(|fault| !is_skipped(fault)) {
                let start = Instant::now();
                let verdict = match inject(name, &mut target) {
                    Survives(_) if !target.checks_content() => {
                        Survives(" (content not checked)".into())
                    }
                    verdict => verdict,
                };
                let _ = writeln!(output, "{name:<27}{verdict}");
                if let Fails(..) = verdict {
                    let _ = writeln!(output, "{:27}{hint}\n{:27}docs/pitfalls.md#{name}", "", "");
                }
                rows.push((name, verdict, start.elapsed().as_secs_f64()));
            }
        }
    }
    let count = |is: fn(&Verdict) -> bool| rows.iter().filter(|(_, it, _)| is(it)).count();
    let survived = count(|it| matches!(it, Survives(_)));
    let (failed, not_tried) =
        (count(|it| matches!(it, Fails(..))), count(|it| matches!(it, NotTried(_))));
    let _ = writeln!(output, "{survived} survived, {failed} failed, {not_tried} not tried");
    if let Some(file) = junit {
        let written = fs::write(file, xml(&rows, failed, not_tried));
        written.map_err(|error| (2, format!("cannot write {file}: {error}")))?;
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}

const LEARNING: &str = "The requests by which the kit learns how the server replies broke it.";

/// Returns the bytes that an argument stands for.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    if let Some(file) = text.strip_prefix('@') {
        return fs::read(file).map_err(|error| format!("cannot read {file}: {error}"));
    }
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, if byte == b'\\' { rest.next() } else { None }) {
            (b'\\', Some(b'r')) => b'\r',
            (b'\\', Some(b'n')) => b'\n',
            (b'\\', Some(b't')) => b'\t',
            (b'\\', Some(b'0')) => 0,
            (b'\\', Some(escaped @ (b'\\' | b'\'' | b'"'))) => escaped,
            (b'\\', Some(b'x')) => {
                let digits = rest.next().zip(rest.next()).map(|(a, b)| [a, b]);
                let byte = digits
                    .filter(|it| it.iter().all(u8::is_ascii_hexdigit))
                    .and_then(|it| u8::from_str_radix(std::str::from_utf8(&it).ok()?, 16).ok());
                byte.ok_or(format!("\\x without two hexadecimal digits in {text:?}"))?
            }
            (b'\\', _) => return Err(format!("unknown escape in {text:?}")),
            _ => byte,
        });
    }
    Ok(bytes)
}

/// Returns the verdicts as JUnit XML.
fn xml(rows: &[(&str, Verdict, f64)], failed: usize, not_tried: usize) -> String {
    let escape = |text: String| {
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
    };
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"fault-kit\" tests=\"{}\" \
         failures=\"{failed}\" errors=\"0\" skipped=\"{not_tried}\">\n",
        rows.len()
    );
    for (name, verdict, seconds) in rows {
        xml += &format!("<testcase classname=\"fault-kit\" name=\"{name}\" time=\"{seconds:.3}\">");
        xml += &match verdict {
            Survives(_) => String::new(),
            Fails(symptom, details) => {
                format!("<failure type=\"{symptom}\" message=\"{}\"/>", escape(details.clone()))
            }
            NotTried(reason) => format!("<skipped message=\"{}\"/>", escape(reason.clone())),
        };
        xml += "</testcase>\n";
    }
    xml + "</testsuite>\n"
}
