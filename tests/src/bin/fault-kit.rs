//! The command line of the fault kit.
//!
//! ```sh
//! cargo run --bin fault-kit -- tcp -- ./my-server "{port}"
//! cargo install --path tests --bin fault-kit
//! ```

use common::{Args, Error, error, info};
use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use tests::faults::Protocol::{self, Tcp, Udp};
use tests::faults::Verdict::{self, Fails, Flaky, NotTried, Survives};
use tests::faults::{FAULTS, Fault, LIMITS, Options, Target, advice, faults, inject, repeat};

const HELP: &str = "\
Usage: fault-kit [OPTIONS] udp|tcp -- COMMAND...
       fault-kit [OPTIONS] udp|tcp ADDR

Injects faults into a server and reports which it survives.

Arguments:
  COMMAND...        starts a server on 127.0.0.1:{port}, where {port} stands for
                    a free port, and again after a fault that it does not
                    survive. Its standard input stays open. On Linux, its CPU
                    time, memory, descriptors and processes are observed
  ADDR              HOST:PORT of a server that is running, which must be on
                    loopback. Fewer faults are tried

Options:
  --request BYTES   send this instead of lines of text. BYTES is @FILE, or text
                    in which \\r \\n \\t \\0 \\\\ \\' \\\" and \\xHH stand for bytes.
                    With '' nothing is sent: the server speaks first
  --reply BYTES     a reply is complete when it contains this. Without it, when
                    it is as long as the first ones, if these are equally long
  --no-reply        the server never replies: check that it reads (Linux)
  --port N          the command's server listens on this port, which it does
                    not take from its arguments
  --start SECS      how long the server may take until its first reply
                    [default: 10]
  --patience SECS   how long it may take until any other reply [default: 5]
  --clients N       how many clients connect at the same time [default: 1000]
  --only NAMES      inject only these faults. NAMES is NAME[,NAME...], and the
                    option may be repeated
  --skip NAMES      do not inject these faults
  --expect NAMES    these faults are known to fail, and if one does not fail any
                    more, this is the failure
  --repeat SECS     then repeat those that the server survives for SECS, beside
                    clients whose replies are checked
  --strict          what is flaky or could not be tried is a failure, unless it
                    is skipped
  --junit FILE      also write the verdicts as JUnit XML
  --list            explain the faults, of udp or tcp only if this is given
  -h, --help        print this help
  -V, --version     print the version

Without --request, a reply that repeats the request, as it is or in upper case,
must be complete except for line ends. Any other reply will do.

Exit code: 0 if the server survives every fault that was tried, 1 if not, 2 for
a wrong command line, 3 if the server could not be checked.

Examples:
  fault-kit tcp -- ./my-server \"{port}\"
  fault-kit tcp --request 'PING\\r\\n' --reply '+PONG\\r\\n' 127.0.0.1:6379
";

fn main() -> ExitCode {
    common::main(HELP, env!("CARGO_PKG_VERSION"), run)
}

fn run(args: &Args) -> Result<ExitCode, Error> {
    let (operands, command) = args.positionals()?;
    let mut protocols = [Udp, Tcp].into_iter();
    let protocol = protocols.find(|it| operands.first() == Some(&it.name()));
    if args.flag("--list") {
        for Fault { protocols, name, summary, hint, .. } in FAULTS {
            if protocol.is_none_or(|protocol| protocols.contains(&protocol)) {
                info!("{name} {protocols:?}\n    {summary}\n    {hint}");
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let protocol = protocol.ok_or_else(|| usage("the first argument is udp or tcp"))?;
    let options = options(args, protocol)?;
    let names = |option| names(args, option, protocol);
    let (only, skipped, expected) = (names("--only")?, names("--skip")?, names("--expect")?);
    let strict = args.flag("--strict");
    let limit = args.seconds("--repeat", 0)?;
    let junit = args.values("--junit")?.last().map(|file| PathBuf::from(*file));
    let suite = xml(&[&["fault-kit"], &operands[..], &command].concat().join(" "));
    let mut report = Report { suite, junit, strict, expected, ..Report::default() };
    // What remains if the kit is killed.
    report.write_error("the kit has not finished")?;
    let mut target = match Target::new(protocol, options) {
        Ok(target) => target,
        Err(problem) => return report.cannot_check(&problem.reason()),
    };
    info!("{}", target.summary());
    for fault in faults(protocol).filter(|it| only.is_empty() || only.contains(&it.name)) {
        report.add(fault.name, || match skipped.contains(&fault.name) {
            true => NotTried(SKIPPED.into()),
            false => inject(fault, &mut target),
        });
    }
    if !limit.is_zero() {
        let survived = std::mem::take(&mut report.survived);
        report.add("repeat", || repeat(&survived, &mut target, limit));
    }
    target.warning().iter().for_each(|warning| info!("{warning}"));
    match &target.ordinary {
        Some(how) if report.count("survived") + report.count("failed") == 0 => {
            report.cannot_check(&format!("ordinary requests break the server: {how}"))
        }
        _ => report.finish(),
    }
}

fn usage(error: impl Into<String>) -> Error {
    Error::Usage(error.into())
}

/// Returns the values of an option that takes the names of faults.
fn names<'a>(args: &'a Args, option: &str, protocol: Protocol) -> Result<Vec<&'a str>, Error> {
    let values = args.values(option)?;
    let names: Vec<&str> = values.iter().flat_map(|names| names.split(',')).collect();
    match names.iter().find(|name| faults(protocol).all(|fault| fault.name != **name)) {
        Some(name) => Err(usage(format!("{option}: --list {} has no {name:?}", protocol.name()))),
        None => Ok(names),
    }
}

fn options(args: &Args, protocol: Protocol) -> Result<Options, Error> {
    let given = |option| -> Result<Option<Vec<u8>>, Error> {
        let value = args.values(option)?.last().map(|text| bytes(text)).transpose();
        value.map_err(|error| usage(format!("{option}: {error}")))
    };
    let (operands, command) = args.positionals()?;
    let port = args.number("--port", 65_535)?.map(|port| port as u16);
    let address = match (&operands[1..], &command[..], port) {
        ([address], [], _) => Some(resolve(address)?),
        ([], [_, ..], Some(port)) => Some(SocketAddr::from(([127, 0, 0, 1], port))),
        ([], [_, args @ ..], _) if args.iter().any(|word| word.contains("{port}")) => None,
        ([], [_, ..], _) => return Err(usage("the command has no {port}: add it, or pass --port")),
        _ => return Err(usage("expected udp or tcp, and ADDR or -- COMMAND with {port}")),
    };
    let options = Options {
        command: command.into_iter().map(String::from).collect(),
        address,
        request: given("--request")?,
        reply: given("--reply")?,
        no_reply: args.flag("--no-reply"),
        start: args.timeout("--start", 10)?,
        patience: args.timeout("--patience", 5)?,
        clients: args.number("--clients", 10_000)?.unwrap_or(1_000) as usize,
    };
    match &options {
        Options { no_reply: true, reply: Some(_), .. } => Err(usage("--no-reply excludes --reply")),
        Options { reply: Some(reply), .. } if reply.is_empty() => Err(usage("--reply is empty")),
        Options { request: Some(request), .. } if request.is_empty() && protocol == Udp => {
            Err(usage("--request is empty, but a UDP server cannot speak first"))
        }
        _ => Ok(options),
    }
}

/// Returns the bytes that the value of an option stands for.
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

fn resolve(address: &str) -> Result<SocketAddr, Error> {
    let resolved = address.to_socket_addrs().into_iter().flatten();
    let loopback = resolved.filter(|address| address.ip().is_loopback());
    let address = loopback.min_by_key(SocketAddr::is_ipv6);
    address.ok_or_else(|| usage("ADDR is not HOST:PORT of loopback"))
}

/// The reason why a fault was not tried that the user of the kit does not want.
const SKIPPED: &str = "skipped";

const EXPECTED: &str = "failed as expected";

/// What is printed, and written as JUnit XML.
#[derive(Default)]
struct Report<'a> {
    /// The command line, as XML.
    suite: String,
    junit: Option<PathBuf>,
    strict: bool,
    expected: Vec<&'a str>,
    survived: Vec<&'static str>,
    /// Under which word each fault is counted.
    results: Vec<&'static str>,
    is_failure: bool,
    cases: String,
}

impl Report<'_> {
    /// Prints and counts a verdict, and what to do about it.
    fn add(&mut self, name: &'static str, inject: impl FnOnce() -> Verdict) {
        let start = Instant::now();
        let verdict = inject();
        let seconds = start.elapsed().as_secs_f64();
        let is_expected = self.expected.contains(&name);
        let (result, is_failure, note) = match &verdict {
            Survives(_) if is_expected => ("failed", true, "It did not fail: remove --expect."),
            Survives(_) => ("survived", false, ""),
            Fails(..) | Flaky(..) if is_expected => (EXPECTED, false, "This was expected."),
            Fails(..) => ("failed", true, ""),
            Flaky(..) => ("flaky", self.strict, ""),
            NotTried(reason) if self.strict && reason != SKIPPED => {
                ("not tried", true, "--strict: this is a failure.")
            }
            NotTried(_) => ("not tried", false, ""),
        };
        let notes = if note.is_empty() { advice(name, &verdict) } else { vec![note.into()] };
        info!("{name:<24}{seconds:>5.1} s  {verdict}");
        notes.iter().for_each(|note| info!("{:33}{note}", ""));
        self.results.push(result);
        self.is_failure |= is_failure;
        self.survived.extend(matches!(verdict, Survives(_)).then_some(name));
        let (text, notes) = (xml(&verdict.to_string()), xml(&notes.join("\n")));
        let result = match &verdict {
            _ if is_failure => {
                let symptom = if let Fails(symptom, _) = verdict { symptom } else { "unexpected" };
                format!("<failure type=\"{symptom}\" message=\"{text}\">{notes}</failure>")
            }
            Survives(_) => format!("<system-out>{text}</system-out>"),
            _ => format!("<skipped message=\"{text}\"/>"),
        };
        self.cases += &self.case(name, seconds, &result);
    }

    fn count(&self, result: &str) -> usize {
        self.results.iter().filter(|it| **it == result).count()
    }

    /// Prints and writes why the server could not be checked.
    fn cannot_check(&self, reason: &str) -> Result<ExitCode, Error> {
        self.write_error(reason)?;
        error!("{reason}");
        Ok(ExitCode::from(3))
    }

    fn finish(self) -> Result<ExitCode, Error> {
        self.write(&self.cases)?;
        let untried = self.count("not tried");
        if self.count("survived") > 0 && self.count("survived") + untried == self.results.len() {
            info!("{LIMITS}");
        }
        let is_shown =
            |result: &&str| self.count(result) > 0 || ![EXPECTED, "flaky"].contains(result);
        let results = ["survived", "failed", EXPECTED, "flaky", "not tried"].into_iter();
        let counts = results.filter(is_shown).map(|it| format!("{} {it}", self.count(it)));
        let is_strict = self.is_failure && self.count("failed") == 0;
        let strict = if is_strict { " (a failure by --strict)" } else { "" };
        info!("{}{strict}", counts.collect::<Vec<_>>().join(", "));
        Ok(ExitCode::from(u8::from(self.is_failure)))
    }

    fn case(&self, name: &str, seconds: f64, result: &str) -> String {
        let names = format!("classname=\"{}\" name=\"{name}\"", self.suite);
        format!("<testcase {names} time=\"{seconds:.3}\">{result}</testcase>\n")
    }

    fn write_error(&self, reason: &str) -> Result<(), Error> {
        let error = format!("<error message=\"{}\"/>", xml(reason));
        self.write(&self.case("start", 0.0, &error))
    }

    fn write(&self, cases: &str) -> Result<(), Error> {
        let Some(file) = &self.junit else { return Ok(()) };
        let [tests, failures, errors, skipped] =
            ["<testcase", "<failure", "<error", "<skipped"].map(|tag| cases.matches(tag).count());
        let suite = &self.suite;
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{suite}\" tests=\"{tests}\" \
             failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\">\n{cases}</testsuite>\n"
        );
        let cannot = |error| usage(format!("--junit: cannot write {}: {error}", file.display()));
        fs::write(file, text).map_err(cannot)
    }
}

fn xml(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}
