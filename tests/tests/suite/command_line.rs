//! The command line that all programs have in common.

use crate::support::*;

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
fn help_and_version_name_program_and_options() {
    for (name, options) in PROGRAMS {
        let help = output(name, &["--help"], "");
        assert_eq!(output(name, &["-h"], ""), help);
        let version = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(output(name, &["-V"], ""), version);
        assert_eq!(output(name, &["--version"], ""), version);
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
fn quiet_server_prints_only_its_address() {
    for name in servers() {
        let mut server = Server::start(&name, &["--quiet", "--count=1"]);
        request_any(&name, server.address());
        assert_eq!((server.exit_code(), server.stderr()), (0, String::new()));
        assert_eq!(server.stdout(), format!("listening on {}\n", server.address()));
    }
}

#[test]
fn cargo_run_starts_server() {
    for pair in PAIRS {
        let manifest = fs::read_to_string(repository(pair).join("Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("\ndefault-run = \"{pair}-server\"\n")), "{pair}");
    }
}

#[test]
fn error_names_what_is_malformed() {
    thread::scope(|scope| {
        for (name, options) in PROGRAMS {
            scope.spawn(move || {
                for (arguments, error) in malformed(name, options) {
                    let error = format!("{name}: {error} (see --help)\n");
                    run(command(name).args(arguments), "").code(2).stdout("").stderr(error);
                }
            });
        }
    });
}

/// Returns malformed command lines of a program, and the errors. `common` tests more of each kind.
fn malformed(name: &str, options: &[&str]) -> Vec<(Vec<String>, String)> {
    let mut malformed = Vec::new();
    let mut case = |arguments: &[&str], error: String| {
        malformed.push((arguments.iter().map(ToString::to_string).collect(), error));
    };
    case(&["--bogus"], "unknown option \"--bogus\"".into());
    case(&["::1]:80"], "ADDR \"::1]:80\": the opening bracket is missing".into());
    if name.ends_with("server") {
        case(&["127.0.0.1:0", "more"], "unexpected argument \"more\"".into());
    }
    for option in options {
        let Some((name, kind)) = option.split_once(' ') else {
            case(&[&format!("{option}=yes")], format!("{option} takes no value"));
            continue;
        };
        case(&[name], format!("{name} needs a value: {option}"));
        let (value, error) = match (name, kind) {
            ("--workers", _) => ("10001", "not a whole number from 1 to 10000"),
            ("--timeout", _) => ("0", "not a number of seconds above zero"),
            (_, "N") => ("0", "not a whole number above zero"),
            _ => ("-1", "not a number of seconds"),
        };
        case(&[name, value], format!("{name} \"{value}\": {error}"));
    }
    malformed
}
