//! The command line that all eight programs have in common.

use crate::support::*;
use std::ffi::OsString;

/// The programs, with the names of their options and of the values.
const PROGRAMS: [(&str, &[&str]); 8] = [
    ("udp-basic-server", &["--count N", "--quiet"]),
    ("udp-basic-client", &[]),
    ("udp-echo-server", &["--count N", "--quiet"]),
    ("udp-echo-client", &["--timeout SECS", "--attempts N"]),
    (
        "tcp-threaded-server",
        &["--workers N", "--idle-timeout SECS", "--count N", "--until-eof", "--quiet"],
    ),
    ("tcp-threaded-client", &["--timeout SECS"]),
    (
        "udp-threaded-server",
        &["--workers N", "--delay SECS", "--count N", "--until-eof", "--quiet"],
    ),
    ("udp-threaded-client", &["--timeout SECS", "--attempts N"]),
];

#[test]
fn help_explains_arguments_and_options() {
    for (name, options) in PROGRAMS {
        let help = output(name, &["--help"], "");
        assert_eq!(output(name, &["-h"], ""), help);
        let arguments = if name.ends_with("server") { "[ADDR]" } else { "[ADDR [MESSAGE...]]" };
        assert!(help.starts_with(&format!("Usage: {name} [OPTIONS] {arguments}\n\n")), "{help}");
        assert!(help.contains("\nArguments:\n  ADDR "), "{help}");
        assert_eq!(help.contains("\n  MESSAGE "), name.ends_with("client"), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        let (_, section) = help.split_once("\nOptions:\n").unwrap();
        let listed = section.lines().filter(|line| line.trim_start().starts_with('-'));
        let listed: Vec<&str> = listed.map(|line| line[2..].split("  ").next().unwrap()).collect();
        assert_eq!(listed, [options, &["-h, --help", "-V, --version"]].concat());
    }
}

#[test]
fn version_names_program() {
    for (name, _) in PROGRAMS {
        for flag in ["-V", "--version"] {
            let version = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
            assert_eq!(output(name, &[flag], ""), version);
        }
    }
}

#[test]
fn quiet_server_prints_only_its_address() {
    for name in servers() {
        let mut server = Server::start(&name, &["--quiet", "--count=1"]);
        request_any(&name, server.address());
        assert_eq!((server.exit_code(), server.stderr()), (0, String::new()));
        assert_eq!(server.stdout(), format!("listening on {}\n", server.address()));
    }
}

#[test]
fn last_occurrence_of_option_wins() {
    let mut server = Server::start("udp-echo-server", &["--count", "9", "--count=1"]);
    let address = server.address().to_string();
    let arguments = ["--timeout", "0.001", &address, "x", "--timeout=30"];
    assert_eq!(output("udp-echo-client", &arguments, ""), "X\n");
    assert_eq!(server.exit_code(), 0);
}

#[test]
fn messages_begin_with_dashes_after_double_dash() {
    let server = Server::start("udp-echo-server", &[]);
    let address = server.address().to_string();
    let arguments = ["--timeout=30", &address, "a", "--", "--attempts", "-b"];
    assert_eq!(output("udp-echo-client", &arguments, ""), "A\n--ATTEMPTS\n-B\n");
}

#[test]
fn cargo_run_starts_server() {
    for pair in PAIRS {
        let manifest = fs::read_to_string(repository(pair).join("Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("\ndefault-run = \"{pair}-server\"\n")), "{pair}");
    }
}

/// Returns invalid values for the option of this kind, and the errors.
fn invalid_values(option: &str) -> Vec<(&'static str, &'static str)> {
    let (values, error): (&[&str], _) = match option {
        "--count N" | "--attempts N" => (
            &["x", "", "0", "-1", "1.5", "1e3", " 1", "99999999999999999999", "--count"],
            "not a whole number above zero",
        ),
        "--workers N" => (&["x", "0", "10001"], "not a whole number from 1 to 10000"),
        _ if option.ends_with(" SECS") => (
            &["x", "", "-1", "nan", "NaN", "inf", "-inf", "1e300", "1,5", "1s", "--quiet"],
            "not a number of seconds",
        ),
        _ => (&[], ""),
    };
    let mut invalid: Vec<_> = values.iter().map(|value| (*value, error)).collect();
    if option == "--timeout SECS" {
        invalid.extend(["0", "1e-30"].map(|value| (value, "not a number of seconds above zero")));
    }
    invalid
}

/// One for each error: `common` tests the forms themselves.
const INVALID_ADDRESSES: [&str; 9] =
    ["", "host:65536", "host:+80", "[::1", "::1]:80", "[host]:80", "[::1]80", "127.1", "a\nb"];

#[test]
fn error_names_what_is_malformed() {
    thread::scope(|scope| {
        for (name, options) in PROGRAMS {
            scope.spawn(move || assert_malformed(name, options));
        }
    });
}

/// A command line on Windows has at most 32,767 characters.
fn assert_malformed(name: &str, options: &[&str]) {
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
    for option in options {
        let name = option.split(' ').next().unwrap();
        for (value, error) in invalid_values(option) {
            case(&[&format!("{name}={value}")], &format!("{name} \"{value}\": {error}"));
        }
        if let Some((value, error)) = invalid_values(option).last() {
            case(&[name, value], &format!("{name} \"{value}\": {error}"));
            case(&[name], &format!("{name} needs a value: {option} (see"));
        } else {
            case(&[&format!("{name}=yes")], &format!("{name} takes no value"));
            case(&[&format!("{name}=")], &format!("{name} takes no value"));
        }
    }
    if name.ends_with("server") {
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
    case(&[&format!("{long}:x")], "bytes omitted …");
    case(&[&format!("{long}:x")], "xxx:x\": the port is not a number");
    case(&[&format!("--{long}")], "unknown option \"--xxx");
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        malformed.push((vec![odd(b"\xff:80")], "ADDR \"\\xff:80\": not UTF-8".into()));
        malformed.push((vec![odd(b"--\xff")], "unknown option \"--\\xff\"".into()));
        if let Some((option, _)) = options.iter().find_map(|option| option.split_once(' ')) {
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
