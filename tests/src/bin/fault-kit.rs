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
  --patience SECONDS
                   how long it may take until any other reply [default: 5]
  --only NAME      inject only this fault; may be repeated
  --skip NAME      do not inject this fault; may be repeated
  --junit FILE     also write the verdicts as JUnit XML
  --list           explain the faults, of udp or tcp only if this is given
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
    let (mut only, mut skipped, mut junit, mut lists) = (Vec::new(), Vec::new(), None, false);
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
            "--start" => options.start = seconds(value()?).map_err(usage)?,
            "--patience" => options.patience = seconds(value()?).map_err(usage)?,
            "--only" => only.push(value()?),
            "--skip" => skipped.push(value()?),
            "--junit" => junit = Some(value()?),
            "-h" | "--help" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--list" => lists = true,
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
    let protocol = if operands.first() == Some(&"udp") { Udp } else { Tcp };
    if lists {
        for Fault { protocols, name, summary, hint, .. } in FAULTS {
            if operands.iter().all(|operand| protocols.iter().any(|it| it.name() == *operand)) {
                println!("{name} {protocols:?}\n    {summary}\n    {hint}");
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let is_unknown = |name: &&&str| faults(protocol).all(|fault| fault.name != **name);
    if let Some(name) = only.iter().chain(&skipped).find(is_unknown) {
        return Err(usage(&format!("--list {} has no {name:?}", protocol.name())));
    }
    let write_junit = |cases: &str| match junit.map(|file| (file, fs::write(file, xml(cases)))) {
        Some((file, Err(error))) => Err((2, format!("cannot write {file}: {error}"))),
        _ => Ok(()),
    };
    write_junit("")?;
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
    let (mut cases, mut counts) = (String::new(), [0; 3]);
    let mut report = |name: &str, hint: &str, verdict: Verdict, start: Instant| {
        println(&format!("{name:<27}{verdict}"));
        if let Fails(..) = verdict {
            println(&format!("{:27}{hint}", ""));
        }
        let (index, result) = match verdict {
            Survives(_) => (0, String::new()),
            Fails(symptom, text) => (1, format!("<failure type=\"{symptom}\"{}", message(&text))),
            NotTried(reason) => (2, format!("<skipped{}", message(&reason))),
        };
        counts[index] += 1;
        cases += &case(name, start.elapsed(), &result);
    };
    match target {
        Ok(mut target) => {
            println(&target.summary());
            let is_selected = |fault: &&Fault| only.is_empty() || only.contains(&fault.name);
            for Fault { name, hint, .. } in faults(protocol).filter(is_selected) {
                let start = Instant::now();
                let verdict = match skipped.contains(name) {
                    true => NotTried("skipped".into()),
                    false => inject(name, &mut target),
                };
                let hint = format!("{hint}\n{:27}docs/pitfalls.md#{name}", "");
                report(name, &hint, verdict, start);
            }
        }
        Err(failure @ Fails(..)) => {
            let hint = "The requests by which the kit learns how the server replies broke it.";
            report("ordinary requests", hint, failure, Instant::now());
        }
        Err(reason) => {
            let reason = reason.to_string().replace("not tried: ", "");
            let error = format!("<error{}", message(&reason));
            write_junit(&case("start", Duration::ZERO, &error))?;
            return Err((3, reason));
        }
    }
    write_junit(&cases)?;
    let [survived, failed, not_tried] = counts;
    println(&format!("{survived} survived, {failed} failed, {not_tried} not tried"));
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// Prints a line. Standard output may be closed.
fn println(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    seconds.filter(|time| !time.is_zero()).ok_or("SECONDS is not a number above zero")
}

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
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let byte = digit().zip(digit()).map(|(high, low)| (16 * high + low) as u8);
                byte.ok_or(format!("\\x without two hexadecimal digits in {text:?}"))?
            }
            (b'\\', _) => return Err(format!("unknown escape in {text:?}")),
            _ => byte,
        });
    }
    Ok(bytes)
}

/// Returns a test case of JUnit XML.
fn case(name: &str, time: Duration, result: &str) -> String {
    let time = time.as_secs_f64();
    format!(
        "<testcase classname=\"fault-kit\" name=\"{name}\" time=\"{time:.3}\">{result}</testcase>\n"
    )
}

/// Returns the rest of an element of JUnit XML.
fn message(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    format!(" message=\"{text}\"/>")
}

/// Returns test cases as JUnit XML.
fn xml(cases: &str) -> String {
    let [tests, failures, errors, skipped] =
        ["<testcase", "<failure", "<error", "<skipped"].map(|tag| cases.matches(tag).count());
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"fault-kit\" tests=\"{tests}\" \
         failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\">\n{cases}</testsuite>\n"
    )
}
