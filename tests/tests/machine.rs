//! Neither the machine nor the pipes nor the command line stop a server or make anything panic.

mod support;

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{iter, thread};
use support::{Killed, exchange, resumed};
use tests::{DEADLINE, PAIRS, Process, Server, program, run, tcp, udp};

fn servers() -> impl Iterator<Item = String> {
    PAIRS.iter().map(|pair| format!("{pair}-server"))
}

fn clients() -> impl Iterator<Item = String> {
    PAIRS.iter().map(|pair| format!("{pair}-client"))
}

/// Nothing on standard output and one line on standard error, which begins with the program's name.
fn assert_one_line(name: &str, output: &str, error: &str) {
    assert_eq!(output, "", "{name}: {error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.ends_with('\n') && error.starts_with(&format!("{name}: ")), "{error}");
}

/// Asks a server once; `udp-basic-server` does not answer.
fn ask(server: &str, address: SocketAddr) {
    let answer = if server.starts_with("tcp") {
        exchange(&tcp(address), b"hello")
    } else if server.starts_with("udp-basic") {
        udp(address).send(b"hello").unwrap();
        return;
    } else {
        support::ask(&udp(address), b"hello")
    };
    assert_eq!(answer, b"HELLO");
}

fn stderr(child: &mut Killed) -> String {
    let mut said = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

/// A program that starts when its standard input is closed, so that a pipe can be closed before it
/// writes. Without a shell, on Windows, it starts at once, and may have written by then.
fn held(name: &str) -> Command {
    if !cfg!(unix) {
        return Command::new(program(name));
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", "read go; exec \"$0\" \"$@\""]).arg(program(name));
    shell
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_address() {
    for name in servers() {
        let server = Server::start(&name, &[]);
        let address = server.address().to_string();
        let (code, output, error) = run(&name, [&address]);
        assert_one_line(&name, &output, &error);
        assert!(error.starts_with(&format!("{name}: cannot bind {address}: Address")), "{error}");
        assert_eq!(code, 1);
    }
}

#[test]
fn an_address_that_is_not_ours_is_an_error_that_names_it() {
    for name in servers() {
        // RFC 5737: for documentation only.
        let (code, output, error) = run(&name, ["192.0.2.1:0"]);
        assert_one_line(&name, &output, &error);
        assert!(error.starts_with(&format!("{name}: cannot bind 192.0.2.1:0: ")), "{error}");
        assert_eq!(code, 1);
    }
}

#[test]
fn a_name_that_does_not_resolve_is_an_error_that_names_it() {
    thread::scope(|scope| {
        for name in servers().chain(clients()) {
            scope.spawn(move || {
                // RFC 6761: no name ends so.
                let (code, output, error) = run(&name, ["nosuch.invalid:80"]);
                assert_one_line(&name, &output, &error);
                assert!(error.contains("nosuch.invalid:80: "), "{error}");
                assert_eq!(code, 1);
            });
        }
    });
}

/// Starts a server whose standard output is closed after so many lines, and asks it more often.
fn close_output_after(lines: usize, name: &str) {
    let per_request = if name.starts_with("tcp") { 3 } else { 1 };
    let read = (lines - 1) / per_request;
    let count = read + 20;
    let mut command = Command::new(program(name));
    command.args([":0", "--count", &count.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Killed(command.spawn().unwrap());
    let mut output = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let first = output.next().unwrap().unwrap();
    let address = first.strip_prefix("listening on ").unwrap().parse().unwrap();
    for _ in 0..read {
        ask(name, address);
        for _ in 0..per_request {
            assert_ne!(output.next().unwrap().unwrap(), "", "{name}");
        }
    }
    drop(output);
    for _ in 0..20 {
        ask(name, address);
    }
    assert_eq!(server.exit_code(), 0, "{name}");
    assert_eq!(stderr(&mut server), "", "{name}");
}

#[test]
fn a_server_serves_on_when_its_output_is_closed_at_the_first_line() {
    servers().for_each(|name| close_output_after(1, &name));
}

#[test]
fn a_server_serves_on_when_its_output_is_closed_at_the_hundredth_line() {
    servers().for_each(|name| close_output_after(100, &name));
}

/// Starts a client with endless standard input, reads so many lines and closes its output.
fn stop_reading_after(lines: usize, name: &str, address: SocketAddr) {
    let mut command = Command::new(program(name));
    command.args([&address.to_string(), "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = Killed(command.spawn().unwrap());
    let mut input = client.0.stdin.take().unwrap();
    // Until it has left.
    let writer = thread::spawn(move || while input.write_all(b"hello\n").is_ok() {});
    let mut output = BufReader::with_capacity(64, client.0.stdout.take().unwrap()).lines();
    for _ in 0..lines {
        let line = output.next().unwrap().unwrap();
        assert!(line == "HELLO" || line.starts_with("sent \"hello\" to "), "{line}");
    }
    drop(output);
    assert_eq!(client.exit_code(), 0, "{name}");
    assert_eq!(stderr(&mut client), "", "{name}");
    writer.join().unwrap();
}

#[test]
fn a_client_stops_quietly_when_its_output_is_closed() {
    for pair in PAIRS {
        let server = Server::start(&format!("{pair}-server"), &["--quiet", "--count", "10000000"]);
        for lines in [0, 1, 100] {
            stop_reading_after(lines, &format!("{pair}-client"), server.address());
        }
    }
}

#[test]
fn help_and_version_stop_quietly_when_their_output_is_closed() {
    for name in servers().chain(clients()) {
        for flag in ["--help", "--version"] {
            let mut command = held(&name);
            command.arg(flag).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = Killed(command.spawn().unwrap());
            drop(child.0.stdout.take());
            drop(child.0.stdin.take());
            assert_eq!(child.exit_code(), 0);
            assert_eq!(stderr(&mut child), "");
        }
    }
}

#[test]
fn a_closed_standard_error_changes_no_exit_code() {
    let nobody = tests::unused_address().to_string();
    for name in servers().chain(clients()) {
        for (argument, code) in [("--bogus", 2), ("192.0.2.1:0", 1)] {
            // A client of nobody fails as well, but those that send and wait for nothing.
            let argument = match argument {
                "192.0.2.1:0" if name.ends_with("client") => nobody.as_str(),
                argument => argument,
            };
            let mut command = held(&name);
            command.arg(argument);
            if name.starts_with("udp") && name.ends_with("client") && code == 1 {
                if name.starts_with("udp-basic") {
                    continue;
                }
                command.args(["--attempts", "1", "--timeout", "0.2"]);
            }
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = Killed(command.spawn().unwrap());
            drop(child.0.stderr.take());
            drop(child.0.stdin.take());
            let mut output = String::new();
            child.0.stdout.take().unwrap().read_to_string(&mut output).unwrap();
            assert_eq!(output, "", "{name} {argument}");
            assert_eq!(child.exit_code(), code, "{name} {argument}");
        }
    }
}

#[test]
fn a_server_serves_on_when_its_standard_error_is_closed() {
    let mut command = Command::new(program("tcp-threaded-server"));
    command.args([":0", "--workers", "1", "--idle-timeout", "1", "--count", "3"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Killed(command.spawn().unwrap());
    drop(server.0.stderr.take());
    let mut output = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let first = output.next().unwrap().unwrap();
    let address: SocketAddr = first.strip_prefix("listening on ").unwrap().parse().unwrap();
    for _ in 0..2 {
        // Silent, which is something to complain about.
        let mut silent = tcp(address);
        assert_eq!(resumed(|| silent.read(&mut [0])), 0);
    }
    let mut stream = tcp(address);
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    drop(stream);
    assert_eq!(server.exit_code(), 0);
}

/// Ports of a server are reused at once on Unix: std asks for it (`SO_REUSEADDR`).
#[cfg(unix)]
#[test]
fn a_server_that_was_terminated_is_started_again_on_its_port_at_once() {
    let name = "tcp-threaded-server";
    let mut server = Server::start(name, &["--idle-timeout", "1"]);
    let address = server.address();
    // Who closes first keeps the connection in TIME_WAIT: the server, for these are idle.
    let idle: Vec<TcpStream> = (0..5).map(|_| tcp(address)).collect();
    for mut stream in &idle {
        assert_eq!(resumed(|| stream.read(&mut [0])), 0);
    }
    drop(idle);
    // This one the server leaves half-closed.
    let _open = tcp(address);
    #[cfg(target_os = "linux")]
    wait_for_a_time_wait(address.port());
    let id = server.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(server.process().exit_code(), -1);
    let server = Server::start_at(name, &address.to_string(), &["--count", "1"]);
    ask(name, address);
    assert_eq!(server.finish(), 0);
}

/// Waits until a connection of a local port of 127.0.0.1 is in TIME_WAIT.
#[cfg(target_os = "linux")]
fn wait_for_a_time_wait(port: u16) {
    let local = format!(" 0100007F:{port:04X} ");
    let start = Instant::now();
    loop {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let waiting =
            |line: &str| line.contains(&local) && line.split_whitespace().nth(3) == Some("06");
        if table.lines().any(waiting) {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "no connection is in TIME_WAIT");
        thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(target_os = "linux")]
mod on_linux {
    use super::*;

    /// A program with a redirection of the shell's.
    fn redirected(redirection: &str, name: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec \"$0\" \"$@\" {redirection}")]).arg(program(name));
        shell
    }

    /// Asks a server that may not listen yet, and cannot say when it does.
    fn ask_when_it_listens(server: &str, address: SocketAddr) {
        let start = Instant::now();
        let socket = udp(address);
        let listens = || match server.starts_with("tcp") {
            true => TcpStream::connect(address).is_ok(),
            // On loopback the news that nobody listens is there when `send` returns.
            false => socket.send(b"hello").is_ok() && socket.take_error().unwrap().is_none(),
        };
        while !listens() {
            assert!(start.elapsed() < DEADLINE, "{server} does not listen");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn programs_that_never_had_a_standard_stream_work_all_the_same() {
        for redirection in [">&-", "2>&-", "<&-", "<&- >&- 2>&-"] {
            for pair in PAIRS {
                let (server, client) = (format!("{pair}-server"), format!("{pair}-client"));
                let address = tests::unused_address();
                let mut command = redirected(redirection, &server);
                command.args([&address.to_string(), "--count", "4"]);
                let mut serving = Process::spawn(&mut command);
                ask_when_it_listens(&server, address);
                ask(&server, address);
                ask(&server, address);
                let mut command = redirected(redirection, &client);
                let mut asking = Process::spawn(command.args([&address.to_string(), "hello"]));
                assert_eq!(asking.exit_code(), 0, "{client} {redirection}");
                assert_eq!(asking.stderr(), "", "{client} {redirection}");
                assert_eq!(serving.exit_code(), 0, "{server} {redirection}");
                assert_eq!(serving.stderr(), "", "{server} {redirection}");
            }
        }
    }

    #[test]
    fn a_full_disk_stops_a_client_with_a_sentence_and_no_server() {
        for pair in PAIRS {
            let (server, client) = (format!("{pair}-server"), format!("{pair}-client"));
            let address = tests::unused_address();
            let mut command = redirected(">/dev/full", &server);
            command.args([&address.to_string(), "--count", "4"]);
            let mut serving = Process::spawn(&mut command);
            ask_when_it_listens(&server, address);
            ask(&server, address);
            ask(&server, address);
            let mut command = redirected(">/dev/full", &client);
            let mut asking = Process::spawn(command.args([&address.to_string(), "hello"]));
            let code = asking.exit_code();
            let full = "standard output: No space left on device (os error 28)";
            assert_eq!(asking.stderr(), format!("{client}: {full}\n"));
            assert_eq!(code, 1);
            assert_eq!(serving.exit_code(), 0, "{server}");
            assert_eq!(serving.stderr(), "", "{server}");
        }
    }
}

const NUMBER: &str = "not a whole number above zero";
const SECONDS: &str = "not a number of seconds";

/// The options of each program that take a value, and what is wrong with some values.
fn wrong_values(name: &str) -> Vec<(&'static str, &'static str, &'static str)> {
    let mut wrong = Vec::new();
    let counts: &[&str] = match name {
        "udp-basic-server" | "udp-echo-server" => &["--count"],
        "tcp-threaded-server" | "udp-threaded-server" => &["--count", "--workers"],
        "udp-echo-client" | "udp-threaded-client" => &["--attempts"],
        _ => &[],
    };
    let seconds: &[&str] = match name {
        "tcp-threaded-server" => &["--idle-timeout"],
        "udp-threaded-server" => &["--delay"],
        "udp-echo-client" | "tcp-threaded-client" | "udp-threaded-client" => &["--timeout"],
        _ => &[],
    };
    for option in counts {
        for value in ["x", "", "0", "-1", "1.5", "1e3", " 1", "99999999999999999999", "--count"] {
            wrong.push((*option, value, NUMBER));
        }
    }
    for option in seconds {
        for value in ["x", "", "-1", "nan", "NaN", "inf", "-inf", "1e300", "1,5", "1s", "--quiet"] {
            wrong.push((*option, value, SECONDS));
        }
        if *option == "--timeout" {
            wrong.push((option, "0", "not a number of seconds above zero"));
            wrong.push((option, "1e-30", "not a number of seconds above zero"));
        }
    }
    wrong
}

const WRONG_ADDRESSES: [&str; 22] = [
    "",
    ":",
    "65536",
    ":65536",
    "host:65536",
    "host:",
    "host:-1",
    "host:+80",
    "host:http",
    "host:80:",
    "a:b:c",
    "[::1",
    "::1]:80",
    "[]:80",
    "[host]:80",
    "[::1]80",
    "[::1]:",
    "256.0.0.1",
    "127.1",
    "a b",
    "a\nb",
    "user@host",
];

#[test]
fn every_malformed_command_line_is_one_line_that_names_the_culprit() {
    thread::scope(|scope| {
        for name in servers().chain(clients()) {
            scope.spawn(move || assert_malformed(&name));
        }
    });
}

/// A command line on Windows has at most 32,767 characters.
fn assert_malformed(name: &str) {
    let mut wrong: Vec<(Vec<OsString>, String)> = Vec::new();
    let mut case = |arguments: &[&str], culprit: &str| {
        wrong.push((arguments.iter().map(OsString::from).collect(), culprit.to_string()));
    };
    for option in ["--bogus", "--bogus=1", "-x", "-hV", "---", "--=", "-=1", "--\u{1b}[2J"] {
        let shown = option.as_bytes().escape_ascii();
        case(&[option], &format!("unknown option \"{shown}\" "));
        case(&["127.0.0.1:1", option], &format!("unknown option \"{shown}\" "));
    }
    // Another program's.
    let foreign = if name == "udp-threaded-server" { "--idle-timeout" } else { "--delay" };
    case(&[foreign, "1"], &format!("unknown option \"{foreign}\" "));
    for (option, value, why) in wrong_values(name) {
        let shown = format!("{option} \"{value}\": {why}");
        case(&[option, value], &shown);
        case(&[&format!("{option}={value}")], &shown);
        case(&[option], &format!("{option} needs a value: {option} "));
    }
    if name.ends_with("server") {
        case(&["--quiet=yes"], "--quiet takes no value");
        case(&["--quiet="], "--quiet takes no value");
        case(&["127.0.0.1:0", "more"], "unexpected argument \"more\"");
        case(&["--", "127.0.0.1:0", "--count"], "unexpected argument \"--count\"");
        let many = if cfg!(windows) { 5_000 } else { 10_000 };
        let many: Vec<String> = (0..many).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        case(&many, "unexpected argument \"1\"");
    }
    for address in WRONG_ADDRESSES {
        case(&[address], &format!("ADDR \"{}\": ", address.as_bytes().escape_ascii()));
    }
    case(&["--", "--count"], "ADDR \"--count\": ");
    case(&["-"], "ADDR \"-\": ");
    let long = "x".repeat(if cfg!(windows) { 30_000 } else { 100_000 });
    let shown = format!("\"... ({} bytes)", long.len() + 2);
    case(&[&format!("{long}:x")], &format!("{shown}: the port is not a number"));
    case(&[&format!("--{long}")], &shown);
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        wrong.push((vec![odd(b"\xff:80")], "ADDR \"\\xff:80\": not UTF-8".into()));
        wrong.push((vec![odd(b"--\xff")], "unknown option \"--\\xff\"".into()));
        if let Some((option, ..)) = wrong_values(name).first() {
            let culprit = format!("{option} \"\\xff\": not a ");
            wrong.push((vec![option.into(), odd(b"\xff")], culprit));
        }
    }
    for (arguments, culprit) in wrong {
        let (code, output, error) = run(name, &arguments);
        let shown = format!("{arguments:.200?}");
        assert_one_line(name, &output, &error);
        assert!(error.contains(&culprit), "{name} {shown:.200}: {error} lacks {culprit}");
        assert!(error.ends_with(" (see --help)\n"), "{name} {shown:.200}: {error}");
        assert!(error.len() < 700, "{error}");
        assert_eq!(code, 2, "{name} {shown:.200}: {error}");
    }
}

#[test]
fn ten_thousand_messages_are_ten_thousand_messages() {
    let server = Server::start("tcp-threaded-server", &["--quiet"]);
    let messages = iter::repeat_n("m".to_string(), 10_000);
    let (code, output, error) =
        run("tcp-threaded-client", iter::once(server.address().to_string()).chain(messages));
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(output == "M\n".repeat(10_000));
}
