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
    case(
        &["::1]:80"],
        "ADDR \"::1]:80\": not an IPv6 address; with a port, write [V6]:PORT".into(),
    );
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

/// Returns the default that the help of a program shows for an option.
pub fn default_of(name: &str, option: &str) -> String {
    let help = output(name, &["--help"], "");
    let (_, description) = help.split_once(&format!("\n  {option} ")).unwrap();
    let (_, default) = description.split_once("[default: ").unwrap();
    default.split(']').next().unwrap().into()
}

#[test]
fn default_count_and_attempts_are_those_of_help() {
    let count = default_of("udp-basic-server", "--count").parse().unwrap();
    let mut server = Server::start("udp-basic-server", &[]);
    (0..count).for_each(|_| request_any("udp-basic-server", server.address()));
    assert_eq!(server.exit_code(), 0);
    assert_eq!(server.stdout().lines().count(), 1 + count);
    for name in UDP_CLIENTS {
        let attempts = default_of(name, "--attempts");
        let (server, address) = fake_udp_server();
        let error = error(name, &["--timeout=0.02", &address], "");
        assert!(error.contains(&format!(" after {attempts} attempts: ")), "{error}");
        server.set_nonblocking(true).unwrap();
        let requests = (0..).take_while(|_| server.recv(&mut [0; 9]).is_ok()).count();
        assert_eq!(requests.to_string(), attempts, "{name}");
    }
}

/// That of the TCP client, `limits::linux::client_sets_options` tests.
#[test]
fn default_timeout_is_that_of_help() {
    let (_server, address) = fake_udp_server();
    thread::scope(|scope| {
        for name in UDP_CLIENTS {
            let seconds: f64 = default_of(name, "--timeout").parse().unwrap();
            let client =
                |options: &[&str]| start(name, &[options, &["--attempts=1", &address]].concat());
            scope.spawn(move || {
                // They exit in the opposite order.
                let mut longer = client(&[&format!("--timeout={}", 1.5 * seconds)]);
                let mut default = client(&[]);
                let mut shorter = client(&[&format!("--timeout={}", 0.5 * seconds)]);
                assert_eq!(shorter.exit_code(), 1);
                assert!(default.is_running(), "{name}");
                assert_eq!(default.exit_code(), 1);
                assert!(longer.is_running(), "{name}");
            });
        }
    });
}

#[test]
fn default_delay_is_that_of_help() {
    let name = "udp-threaded-server";
    assert_eq!(default_of(name, "--delay"), "0");
    let (server, late) = (Server::start(name, &[]), Server::start(name, &["--delay=5"]));
    let (socket, late) = (udp(server.address()), udp(late.address()));
    late.send(b"x").unwrap();
    (0..20).for_each(|_| assert_eq!(request(&socket, b"x"), b"X"));
    late.set_nonblocking(true).unwrap();
    assert_eq!(late.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[cfg(target_os = "linux")]
#[test]
fn default_number_of_workers_is_that_of_help() {
    assert_eq!(default_of("udp-threaded-server", "--workers"), "one per core, at least 2");
    let cores = thread::available_parallelism().unwrap().get().max(2);
    let workers = default_of("tcp-threaded-server", "--workers").parse().unwrap();
    for (name, workers) in [("udp-threaded-server", cores), ("tcp-threaded-server", workers)] {
        let server = Server::start(name, &[]);
        wait_until("all workers run", || status(server.id(), "Threads") >= workers);
        request_any(name, server.address());
        assert_eq!(status(server.id(), "Threads"), workers, "{name}");
    }
}
