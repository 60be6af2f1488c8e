//! What all eight programs have in common.

mod support;

use support::client;
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
fn help_goes_to_standard_output_and_explains_each_word_of_the_usage() {
    for usage in USAGES {
        let name = usage.split(' ').next().unwrap();
        for flag in ["-h", "--help"] {
            let assert = client(name).arg(flag).assert().success().stderr("");
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
fn version_goes_to_standard_output() {
    for usage in USAGES {
        let name = usage.split(' ').next().unwrap();
        for flag in ["-V", "--version"] {
            let version = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
            client(name).arg(flag).assert().success().stdout(version).stderr("");
        }
    }
}

#[test]
fn the_last_of_a_repeated_option_holds() {
    let server = Server::start("udp-echo-server", &["--count", "9", "--count=1"]);
    client("udp-echo-client")
        .args(["--attempts", "1", &server.address().to_string(), "x", "--attempts=4"])
        .arg("--timeout=30")
        .assert()
        .success()
        .stdout("X\n");
    assert_eq!(server.finish(), 0);
}

#[test]
fn a_message_may_begin_with_a_dash_behind_two() {
    let server = Server::start("udp-echo-server", &["--count", "3"]);
    client("udp-echo-client")
        .args(["--timeout=30", &server.address().to_string(), "a", "--", "--attempts", "-b"])
        .assert()
        .success()
        .stdout("A\n--ATTEMPTS\n-B\n");
    assert_eq!(server.finish(), 0);
}

#[test]
fn a_server_listens_on_the_default_host_when_only_a_port_is_given() {
    for address in ["0", ":0"] {
        for name in PAIRS {
            let server = Server::start_at(&format!("{name}-server"), address, &[]);
            assert_eq!(server.address().ip().to_string(), "127.0.0.1");
            assert_ne!(server.address().port(), 0);
        }
    }
}
