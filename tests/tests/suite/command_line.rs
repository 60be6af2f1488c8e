//! The command line that all eight programs have in common.

use crate::support::{cargo, clients, command, repository, servers};
use std::ffi::OsString;
use std::thread;
use tests::{PAIRS, Server};

const USAGES: [&str; 8] = [
    "udp-basic-server [--count N] [--quiet] [ADDR]",
    "udp-basic-client [ADDR [MESSAGE...]]",
    "udp-echo-server [--count N] [--quiet] [ADDR]",
    "udp-echo-client [--timeout S] [--attempts N] [ADDR [MESSAGE...]]",
    "tcp-threaded-server [--workers N] [--idle-timeout S] [--count N] [--quiet] [ADDR]",
    "tcp-threaded-client [--timeout S] [ADDR [MESSAGE...]]",
    "udp-threaded-server [--workers N] [--delay S] [--count N] [--quiet] [ADDR]",
    "udp-threaded-client [--timeout S] [--attempts N] [ADDR [MESSAGE...]]",
];

#[test]
fn help_explains_each_word_of_usage() {
    for usage in USAGES {
        let name = usage.split(' ').next().unwrap();
        for flag in ["-h", "--help"] {
            let assert = command(name).arg(flag).assert().success().stderr("");
            let help = String::from_utf8_lossy(&assert.get_output().stdout);
            assert!(help.starts_with(&format!("Usage: {usage}\n\n")), "{help}");
            let words = usage.split(['[', ']']).skip(1).map(|word| word.trim_matches([' ', '.']));
            for word in words.filter(|word| !word.is_empty()) {
                assert!(help.contains(&format!("\n  {word} ")), "{word} in {help}");
            }
        }
    }
}

#[test]
fn version_names_program() {
    for usage in USAGES {
        let name = usage.split(' ').next().unwrap();
        for flag in ["-V", "--version"] {
            let version = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
            command(name).arg(flag).assert().success().stdout(version).stderr("");
        }
    }
}

#[test]
fn last_occurrence_of_option_wins() {
    let mut server = Server::start("udp-echo-server", &["--count", "9", "--count=1"]);
    command("udp-echo-client")
        .args(["--timeout", "0.001", &server.address().to_string(), "x", "--timeout=30"])
        .assert()
        .success()
        .stdout("X\n");
    assert_eq!(server.exit_code(), 0);
}

#[test]
fn messages_begin_with_dashes_after_double_dash() {
    let server = Server::start("udp-echo-server", &[]);
    command("udp-echo-client")
        .args(["--timeout=30", &server.address().to_string(), "a", "--", "--attempts", "-b"])
        .assert()
        .success()
        .stdout("A\n--ATTEMPTS\n-B\n");
}

#[test]
fn cargo_run_starts_server() {
    let mut metadata = cargo(&repository(""));
    metadata.args(["metadata", "--no-deps", "--offline", "--locked", "--format-version=1"]);
    let output = metadata.output().unwrap();
    let packages = String::from_utf8_lossy(&output.stdout);
    for pair in PAIRS {
        assert!(packages.contains(&format!("\"default_run\":\"{pair}-server\"")), "{pair}");
    }
}

const NUMBER: &str = "not a whole number above zero";
const SECONDS: &str = "not a number of seconds";

/// Returns the options of a program that take a value, with invalid values and the errors.
fn invalid_values(name: &str) -> Vec<(&'static str, &'static str, &'static str)> {
    let mut invalid = Vec::new();
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
            invalid.push((*option, value, NUMBER));
        }
    }
    for option in seconds {
        for value in ["x", "", "-1", "nan", "NaN", "inf", "-inf", "1e300", "1,5", "1s", "--quiet"] {
            invalid.push((*option, value, SECONDS));
        }
        if *option == "--timeout" {
            invalid.push((option, "0", "not a number of seconds above zero"));
            invalid.push((option, "1e-30", "not a number of seconds above zero"));
        }
    }
    invalid
}

const INVALID_ADDRESSES: [&str; 22] = [
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
fn error_names_what_is_malformed() {
    thread::scope(|scope| {
        for name in servers().chain(clients()) {
            scope.spawn(move || assert_malformed(&name));
        }
    });
}

/// A command line on Windows has at most 32,767 characters.
fn assert_malformed(name: &str) {
    let mut malformed: Vec<(Vec<OsString>, String)> = Vec::new();
    let mut case = |arguments: &[&str], culprit: &str| {
        malformed.push((arguments.iter().map(OsString::from).collect(), culprit.to_string()));
    };
    for option in ["--bogus", "--bogus=1", "-x", "-hV", "---", "--=", "-=1", "--\u{1b}[2J"] {
        let shown = option.as_bytes().escape_ascii();
        case(&[option], &format!("unknown option \"{shown}\" "));
    }
    case(&["127.0.0.1:1", "--bogus"], "unknown option \"--bogus\" ");
    // An option of another program.
    let foreign = if name == "udp-threaded-server" { "--idle-timeout" } else { "--delay" };
    case(&[foreign, "1"], &format!("unknown option \"{foreign}\" "));
    for (option, value, error) in invalid_values(name) {
        case(&[&format!("{option}={value}")], &format!("{option} \"{value}\": {error}"));
    }
    if let Some((option, value, error)) = invalid_values(name).last() {
        case(&[option, value], &format!("{option} \"{value}\": {error}"));
        case(&[option], &format!("{option} needs a value: {option} "));
    }
    if name.ends_with("server") {
        case(&["--quiet=yes"], "--quiet takes no value");
        case(&["--quiet="], "--quiet takes no value");
        case(&["127.0.0.1:0", "more"], "unexpected argument \"more\"");
        case(&["--", "127.0.0.1:0", "--count"], "unexpected argument \"--count\"");
        let many: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        case(&many, "unexpected argument \"1\"");
    }
    for address in INVALID_ADDRESSES {
        case(&[address], &format!("ADDR \"{}\": ", address.as_bytes().escape_ascii()));
    }
    case(&["--", "--count"], "ADDR \"--count\": ");
    case(&["-"], "ADDR \"-\": ");
    let long = "x".repeat(30_000);
    let shown = format!("\"... ({} bytes)", long.len() + 2);
    case(&[&format!("{long}:x")], &format!("{shown}: the port is not a number"));
    case(&[&format!("--{long}")], &shown);
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        malformed.push((vec![odd(b"\xff:80")], "ADDR \"\\xff:80\": not UTF-8".into()));
        malformed.push((vec![odd(b"--\xff")], "unknown option \"--\\xff\"".into()));
        if let Some((option, ..)) = invalid_values(name).first() {
            let culprit = format!("{option} \"\\xff\": not a ");
            malformed.push((vec![option.into(), odd(b"\xff")], culprit));
        }
    }
    for (arguments, culprit) in malformed {
        let output = command(name).args(&arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        let shown = format!("{arguments:.200?}");
        assert_eq!(output.status.code(), Some(2), "{name} {shown:.200}: {error}");
        assert!(output.stdout.is_empty(), "{name} {shown:.200}");
        assert!(error.starts_with(&format!("{name}: ")), "{error}");
        assert!(error.contains(&culprit), "{name} {shown:.200}: {error} lacks {culprit}");
        assert!(error.ends_with(" (see --help)\n"), "{name} {shown:.200}: {error}");
        assert!(error.lines().count() == 1 && error.len() < 700, "{error}");
    }
}
