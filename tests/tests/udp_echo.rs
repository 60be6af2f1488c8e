//! One request, one answer.

mod support;

use predicates::str::{contains, starts_with};
use std::net::UdpSocket;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use support::{ask, client};
use tests::{LARGEST, Process, Server, program, udp};

#[test]
fn the_answer_is_the_request_with_its_ascii_letters_in_upper_case() {
    let server = Server::start("udp-echo-server", &[]);
    let every: Vec<u8> = (0..=255).collect();
    assert_eq!(ask(&udp(server.address()), &every), every.to_ascii_uppercase());
}

#[test]
fn the_output_of_both_sides_is_the_contract_to_the_letter() {
    let server = Server::start("udp-echo-server", &["--count", "2"]);
    client("udp-echo-client")
        .args(["--timeout=30", &server.address().to_string(), "hello", "W\u{f6}rld\t"])
        .assert()
        .success()
        .stdout("HELLO\nW\u{f6}RLD\t\n")
        .stderr("");
    server.wait_for("W").unwrap();
    let output = server.stdout();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], format!("listening on {}", server.address()));
    let rest = lines[1].strip_prefix("\"hello\" from 127.0.0.1:").unwrap();
    assert!(rest.parse::<u16>().is_ok(), "{rest}");
    assert!(lines[2].starts_with("\"W\\xc3\\xb6rld\\t\" from 127.0.0.1:"), "{}", lines[2]);
    assert_eq!(lines.len(), 3);
    assert_eq!(server.stderr(), "");
    assert_eq!(server.finish(), 0);
}

#[test]
fn a_quiet_server_says_only_where_it_listens() {
    let mut server = Server::start("udp-echo-server", &["--count=1", "--quiet"]);
    client("udp-echo-client")
        .args(["--timeout=30", &server.address().to_string()])
        .assert()
        .stdout("HELLO\n");
    let address = server.address();
    assert_eq!(server.process().exit_code(), 0);
    assert_eq!(server.stdout(), format!("listening on {address}\n"));
}

#[test]
fn count_answers_so_many_and_no_more() {
    let server = Server::start("udp-echo-server", &["--count", "3"]);
    // Not connected: the kernel would tell a connected one that the last two found nobody.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(tests::DEADLINE)).unwrap();
    for _ in 0..5 {
        socket.send_to(b"x", server.address()).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 1);
    }
    assert_eq!(server.finish(), 0);
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(socket.recv(&mut [0; 9]).is_err());
}

#[test]
fn a_client_started_before_its_server_gets_its_answer() {
    let early = |name: &str| {
        let address = tests::unused_address().to_string();
        let mut command = Command::new(program(&format!("{name}-client")));
        let client = Process::spawn(command.args([&address, "early", "--attempts", "8"]));
        thread::sleep(Duration::from_secs(2)); // what is tested: the server comes later
        let server = Server::start_at(&format!("{name}-server"), &address, &["--count", "1"]);
        assert_eq!(client.wait_for("EARLY").as_deref(), Some("EARLY"));
        assert_eq!(client.finish(), 0);
        assert_eq!(server.finish(), 0);
    };
    thread::scope(|scope| {
        scope.spawn(|| early("udp-echo"));
        early("udp-threaded");
    });
}

#[test]
fn without_a_server_the_client_gives_up_after_its_attempts() {
    let address = tests::unused_address().to_string();
    for name in ["udp-echo-client", "udp-threaded-client"] {
        let start = Instant::now();
        client(name)
            .args([&address, "--timeout", "0.1", "--attempts", "3"])
            .assert()
            .code(1)
            .stdout("")
            .stderr(starts_with(format!("{name}: no answer from {address} after 3 attempts: ")));
        // It waits before the second attempt and the third.
        assert!(start.elapsed() >= Duration::from_millis(100 + 200));
        // There is nothing to wait for behind the last one.
        let (start, last) = (Instant::now(), ["--timeout", "50", "--attempts", "1"]);
        client(name).arg(&address).args(last).assert().code(1);
        assert!(start.elapsed() < Duration::from_secs(50));
    }
}

#[test]
#[cfg_attr(windows, ignore = "a command line has at most 32,767 characters there")]
fn a_message_too_long_is_refused_by_size_and_nothing_of_it_is_sent() {
    for name in ["udp-echo", "udp-threaded"] {
        let mut server = Server::start(&format!("{name}-server"), &["--count", "1"]);
        client(&format!("{name}-client"))
            .args([&server.address().to_string(), &"y".repeat(65_508)])
            .assert()
            .code(1)
            .stdout("")
            .stderr(starts_with(format!("{name}-client: \"yyy")))
            .stderr(contains("(65508 bytes): a datagram carries at most 65507"));
        client(&format!("{name}-client"))
            .args(["--timeout=30", &server.address().to_string(), &"y".repeat(LARGEST)])
            .assert()
            .success()
            .stdout(format!("{}\n", "Y".repeat(LARGEST)));
        assert_eq!(server.process().exit_code(), 0);
        assert_eq!(server.stdout().lines().count(), 2);
    }
}

#[test]
fn lines_of_standard_input_are_messages_in_turn() {
    let server = Server::start("udp-echo-server", &[]);
    let lines: String = (0..200).map(|number| format!("line {number}\n")).collect();
    client("udp-echo-client")
        .args([&server.address().to_string(), "-"])
        .write_stdin(format!("{lines}\nend"))
        .assert()
        .success()
        .stdout(format!("{lines}\nend\n").to_uppercase());
}

#[cfg(unix)]
#[test]
fn a_message_that_is_not_utf8_is_sent_as_it_is() {
    use std::os::unix::ffi::OsStrExt;
    let server = Server::start("udp-echo-server", &["--count", "1"]);
    client("udp-echo-client")
        .args(["--timeout=30", &server.address().to_string()])
        .arg(std::ffi::OsStr::from_bytes(b"a\xffz"))
        .assert()
        .success()
        .stdout(&b"A\xffZ\n"[..]);
    assert!(server.wait_for(r#""a\xffz" from"#).is_some());
    assert_eq!(server.finish(), 0);
}

#[test]
fn the_client_finds_the_server_behind_any_address_of_a_name() {
    for host in ["127.0.0.1", "localhost"] {
        let server = Server::start_at("udp-echo-server", &format!("{host}:0"), &[]);
        let address = format!("localhost:{}", server.address().port());
        for name in ["udp-echo-client", "udp-threaded-client"] {
            client(name)
                .args([&address, "--attempts=1", "--timeout=30"])
                .assert()
                .success()
                .stdout("HELLO\n");
        }
    }
}

#[test]
fn ipv6_works_as_well() {
    for (listen, ask) in [("[::1]:0", "[::1]"), ("[::]:0", "127.0.0.1"), ("[::]:0", "[::1]")] {
        // A socket at [::] takes IPv4 too on Linux and macOS, but not on Windows.
        if cfg!(windows) && ask == "127.0.0.1" {
            continue;
        }
        let server = Server::start_at("udp-echo-server", listen, &[]);
        let address = format!("{ask}:{}", server.address().port());
        client("udp-echo-client").args([&address, "six"]).assert().success().stdout("SIX\n");
    }
}
