//! One send is one receive, and the sender does not wait.

mod support;

use predicates::str::{contains, starts_with};
use support::client;
use tests::{LARGEST, Server, udp};

#[test]
fn three_datagrams_are_three_and_then_the_server_ends() {
    let server = Server::start("udp-basic-server", &[]);
    let address = server.address();
    client("udp-basic-client").arg(address.to_string()).assert().success().stdout(format!(
        "sent \"hello\" to {address}\nsent \"world\" to {address}\nsent \"sdfas\" to {address}\n"
    ));
    for message in ["hello", "world", "sdfas"] {
        let line = server.wait_for(message).unwrap();
        assert!(line.starts_with(&format!("\"{message}\" from 127.0.0.1:")), "{line}");
    }
    assert_eq!(server.stdout().lines().count(), 4);
    assert_eq!(server.finish(), 0);
}

#[test]
fn datagrams_sent_at_once_are_neither_joined_nor_split() {
    let server = Server::start("udp-basic-server", &["--count", "100"]);
    let socket = udp(server.address());
    for number in 0..100 {
        socket.send(&vec![b'x'; number]).unwrap();
    }
    for number in 0..100 {
        let sent = format!("\"{}\" from {}", "x".repeat(number), socket.local_addr().unwrap());
        assert!(server.wait_for(&sent).is_some());
    }
    assert_eq!(server.finish(), 0);
}

#[test]
fn the_largest_datagram_arrives_whole() {
    let server = Server::start("udp-basic-server", &["--count", "2"]);
    let socket = udp(server.address());
    socket.send(&[b'x'; LARGEST]).unwrap();
    socket.send(b"").unwrap();
    assert!(server.wait_for(&format!("xxx\"... ({LARGEST} bytes) from")).is_some());
    assert!(server.wait_for("\"\" from").is_some());
    assert_eq!(server.finish(), 0);
}

#[test]
fn the_sender_does_not_care_whether_anybody_listens() {
    let address = tests::unused_address();
    for _ in 0..3 {
        client("udp-basic-client")
            .args([&address.to_string(), "a", "b"])
            .assert()
            .success()
            .stdout(format!("sent \"a\" to {address}\nsent \"b\" to {address}\n"))
            .stderr("");
    }
}

#[test]
fn lines_of_standard_input_are_datagrams() {
    let server = Server::start("udp-basic-server", &["--count", "5"]);
    client("udp-basic-client")
        .args([&server.address().to_string(), "first", "-", "last"])
        .write_stdin("one\n\ntwo words")
        .assert()
        .success();
    assert!(server.wait_for("\"last\" from").is_some());
    let output = server.stdout();
    let shown: Vec<&str> =
        output.lines().skip(1).filter_map(|l| l.split(" from ").next()).collect();
    assert_eq!(shown, [r#""first""#, r#""one""#, r#""""#, r#""two words""#, r#""last""#]);
    assert_eq!(server.finish(), 0);
}

#[test]
#[cfg_attr(windows, ignore = "a command line has at most 32,767 characters there")]
fn a_message_too_long_is_refused_and_nothing_of_it_is_sent() {
    let server = Server::start("udp-basic-server", &["--count", "2"]);
    client("udp-basic-client")
        .args([&server.address().to_string(), "before", &"y".repeat(65_508), "behind"])
        .assert()
        .code(1)
        .stderr(starts_with("udp-basic-client: \"yyy"))
        .stderr(contains("(65508 bytes): a datagram carries at most 65507"));
    udp(server.address()).send(b"next").unwrap();
    assert!(server.wait_for("\"next\" from").is_some());
    assert_eq!(server.stdout().lines().count(), 3);
    assert_eq!(server.finish(), 0);
}

#[test]
fn a_name_is_as_good_as_an_address_even_where_it_has_several() {
    let server = Server::start_at("udp-basic-server", "localhost:0", &["--count", "1"]);
    let port = server.address().port();
    client("udp-basic-client").args([&format!("localhost:{port}"), "named"]).assert().success();
    assert!(server.wait_for("\"named\" from").is_some());
    assert_eq!(server.finish(), 0);
}

#[test]
fn ipv6_works_as_well() {
    let server = Server::start_at("udp-basic-server", "[::1]:0", &["--count", "1"]);
    client("udp-basic-client").args([&server.address().to_string(), "six"]).assert().success();
    let line = server.wait_for("six").unwrap();
    assert!(line.starts_with("\"six\" from [::1]:"), "{line}");
    assert_eq!(server.finish(), 0);
}
