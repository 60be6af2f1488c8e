//! The command line that all programs have in common.

use crate::support::*;
use std::time::{Duration, Instant};

#[test]
fn help_and_version_name_program() {
    for name in programs() {
        let help = output(&name, &["--help"], "");
        assert_eq!(output(&name, &["-h"], ""), help);
        let version = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(output(&name, &["-V"], ""), version);
        assert_eq!(output(&name, &["--version"], ""), version);
        let arguments = if name.ends_with("server") { "[ADDR]" } else { "[ADDR [MESSAGE...]]" };
        assert!(help.starts_with(&format!("Usage: {name} [OPTIONS] {arguments}\n\n")), "{help}");
        assert!(help.contains("\nArguments:\n  ADDR ") && help.contains("\nOptions:\n"), "{help}");
        assert_eq!(help.contains("\n  MESSAGE "), name.ends_with("client"), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    }
}

#[test]
fn quiet_server_prints_only_its_address() {
    for name in servers() {
        let options = [&["--quiet"][..], &one_at_a_time(&name, "1")].concat();
        let mut server = Process::start(&name, &options);
        request_any(&name, server.address());
        assert_eq!((server.exit_code(), server.stderr()), (0, String::new()));
        assert_eq!(server.stdout(), format!("listening on {}\n", server.address()));
    }
}

/// `common` tests more kinds of malformed arguments.
#[test]
fn error_names_what_is_malformed() {
    for name in programs() {
        let help = output(&name, &["--help"], "");
        for (option, value, error) in [
            ("--workers", "10001", "not a whole number from 1 to 10000"),
            ("--count", "0", "not a whole number above zero"),
            ("--attempts", "0", "not a whole number above zero"),
            ("--timeout", "0", "not a number of seconds above zero"),
            ("--idle-timeout", "-1", "not a number of seconds"),
            ("--delay", "-1", "not a number of seconds"),
        ] {
            let error = match help.contains(&format!("\n  {option} ")) {
                true => format!("{name}: {option} \"{value}\": {error} (see --help)\n"),
                false => format!("{name}: unknown option \"{option}\" (see --help)\n"),
            };
            run(command(&name).args([option, value]), "").code(2).stdout("").stderr(error);
        }
    }
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
    let mut server = Process::start("udp-basic-server", &[]);
    (0..count).for_each(|_| request_any("udp-basic-server", server.address()));
    assert_eq!(server.exit_code(), 0);
    assert_eq!(server.stdout().lines().count(), 1 + count);
    for pair in udp_pairs() {
        let name = &pair.client();
        let attempts = default_of(name, "--attempts");
        let (server, address) = fake_udp_server();
        let error = error(name, &["--timeout=0.02", &address], "");
        assert!(error.contains(&format!(" after {attempts} attempts: ")), "{error}");
        assert_eq!(count_waiting(&server).to_string(), attempts, "{name}");
    }
}

/// That of the TCP client, `limits::client_sets_options` tests.
#[test]
fn default_timeout_is_that_of_help() {
    let (_server, address) = fake_udp_server();
    for pair in udp_pairs() {
        let name = &pair.client();
        let seconds: f64 = default_of(name, "--timeout").parse().unwrap();
        let client =
            |options: &[&str]| start_client(name, &[options, &["--attempts=1", &address]].concat());
        let started = Instant::now();
        let mut longer = client(&[&format!("--timeout={}", 1.9 * seconds)]);
        assert_eq!(client(&[]).exit_code(), 1);
        assert!(started.elapsed() >= Duration::from_secs_f64(seconds), "{name}");
        assert!(longer.is_running(), "{name}");
    }
}

#[test]
fn default_delay_is_that_of_help() {
    let name = "udp-threaded-server";
    assert_eq!(default_of(name, "--delay"), "0");
    let (server, late) = (Process::start(name, &[]), Process::start(name, &["--delay=5"]));
    let (socket, late) = (udp(server.address()), udp(late.address()));
    late.send(b"x").unwrap();
    (0..20).for_each(|_| assert_eq!(request(&socket, b"x"), b"X"));
    assert_eq!(count_waiting(&late), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn number_of_workers_is_that_of_help() {
    assert_eq!(default_of("udp-threaded-server", "--workers"), "one per core, at least 2");
    let cores = std::thread::available_parallelism().unwrap().get().max(2);
    let server = Process::start("udp-threaded-server", &[]);
    let threads = || proc::status(server.id(), "Threads").unwrap();
    wait_until("all workers run", || threads() >= cores);
    request_any("udp-threaded-server", server.address());
    assert_eq!(threads(), cores);
    // Not by as many connections: on a busy system, the server closes the last before they send.
    let workers = default_of("tcp-threaded-server", "--workers").replace("; macOS: ", " ");
    let (workers, on_macos) = workers.split_once(' ').unwrap();
    let (_, source) = tests::copying::source("tcp-threaded-server");
    assert!(source.contains(&format!(" {{ {on_macos} }} else {{ {workers} }},")));
}
