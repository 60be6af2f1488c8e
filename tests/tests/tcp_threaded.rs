//! Concurrent connections.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use support::{Killed, client, exchange, in_time};
use tests::{Process, Server, program, tcp};

#[test]
fn two_clients_make_progress_in_turn_while_both_stay_connected() {
    let server = Server::start("tcp-threaded-server", &["--workers", "2"]);
    let (one, two) = (tcp(server.address()), tcp(server.address()));
    for _ in 0..3 {
        assert_eq!(exchange(&one, b"first"), b"FIRST");
        assert_eq!(exchange(&two, b"second"), b"SECOND");
    }
}

#[test]
fn when_all_workers_are_busy_a_connection_waits_in_the_backlog() {
    let server = Server::start("tcp-threaded-server", &["--workers", "1"]);
    let (one, mut two) = (tcp(server.address()), tcp(server.address()));
    assert_eq!(exchange(&one, b"first"), b"FIRST");
    two.write_all(b"second").unwrap();
    assert_eq!(exchange(&one, b"again"), b"AGAIN");
    thread::sleep(Duration::from_millis(500)); // what is tested: nothing happens
    two.set_nonblocking(true).unwrap();
    assert_eq!(two.peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    two.set_nonblocking(false).unwrap();
    drop(one);
    let mut answer = [0; 6];
    two.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"SECOND");
}

#[test]
fn every_byte_value_is_answered_in_upper_case() {
    let server = Server::start("tcp-threaded-server", &[]);
    let every: Vec<u8> = (0..=255).collect();
    assert_eq!(exchange(&tcp(server.address()), &every), every.to_ascii_uppercase());
}

#[test]
fn a_client_that_closes_its_half_still_gets_the_whole_answer() {
    let server = Server::start("tcp-threaded-server", &["--count", "1"]);
    let mut stream = tcp(server.address());
    let request: Vec<u8> = (0..100_000).map(|i| b'a' + (i % 26) as u8).collect();
    stream.write_all(&request).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, request.to_ascii_uppercase());
    assert_eq!(server.finish(), 0);
}

#[test]
fn the_output_of_both_sides_is_the_contract_to_the_letter() {
    let mut server = Server::start("tcp-threaded-server", &["--workers", "1", "--count", "1"]);
    client("tcp-threaded-client")
        .args([&server.address().to_string(), "hello"])
        .assert()
        .success()
        .stdout("HELLO\n")
        .stderr("");
    assert_eq!(server.process().exit_code(), 0);
    let output = server.stdout();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], format!("listening on {}", server.address()));
    let client = lines[1].strip_suffix(" connected (worker 1)").unwrap();
    assert!(client.strip_prefix("127.0.0.1:").unwrap().parse::<u16>().is_ok(), "{client}");
    assert_eq!(lines[2], format!("\"hello\" from {client}"));
    assert_eq!(lines[3], format!("{client} closed after 5 bytes"));
    assert_eq!(lines.len(), 4);
    assert_eq!(server.stderr(), "");
}

#[test]
fn a_quiet_server_says_only_where_it_listens() {
    let mut server = Server::start("tcp-threaded-server", &["--quiet", "--count", "1"]);
    client("tcp-threaded-client").arg(server.address().to_string()).assert().stdout("HELLO\n");
    assert_eq!(server.process().exit_code(), 0);
    assert_eq!(server.stdout(), format!("listening on {}\n", server.address()));
}

#[test]
fn count_serves_so_many_connections_to_their_end() {
    let server = Server::start("tcp-threaded-server", &["--workers", "2", "--count", "3"]);
    let streams = [tcp(server.address()), tcp(server.address()), tcp(server.address())];
    for stream in streams {
        assert_eq!(exchange(&stream, b"x"), b"X");
    }
    assert_eq!(server.finish(), 0);
}

#[test]
fn messages_are_answered_one_a_line_whatever_the_reads_are() {
    let server = Server::start("tcp-threaded-server", &["--count", "1"]);
    client("tcp-threaded-client")
        .args([&server.address().to_string(), "one", "", "two\nlines", "three"])
        .assert()
        .success()
        .stdout("ONE\n\nTWO\nLINES\nTHREE\n");
    assert_eq!(server.finish(), 0);
}

#[test]
fn standard_input_goes_through_as_it_is() {
    let server = Server::start("tcp-threaded-server", &[]);
    for input in ["", "one line\n", "no newline", "\n\n"] {
        client("tcp-threaded-client")
            .args([&server.address().to_string(), "-"])
            .write_stdin(input)
            .assert()
            .success()
            .stdout(input.to_uppercase());
    }
}

#[test]
fn an_answer_that_ends_early_is_told_with_its_bytes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"HEL").unwrap();
    });
    client("tcp-threaded-client").args([&address, "hello"]).assert().code(1).stdout("").stderr(
        format!(
            "tcp-threaded-client: 3 of 5 bytes came from {address}: the connection was closed\n"
        ),
    );
    server.join().unwrap();
}

#[test]
fn without_a_server_the_client_says_so() {
    let address = tests::unused_address().to_string();
    client("tcp-threaded-client").args([&address]).assert().code(1).stderr(
        predicates::str::starts_with(format!("tcp-threaded-client: cannot connect to {address}: ")),
    );
}

#[test]
fn names_and_ipv6_work_as_well() {
    for (listen, ask) in
        [("localhost:0", "localhost"), ("127.0.0.1:0", "localhost"), ("[::1]:0", "[::1]")]
    {
        let server = Server::start_at("tcp-threaded-server", listen, &["--count", "1"]);
        let address = format!("{ask}:{}", server.address().port());
        client("tcp-threaded-client").args([&address, "x"]).assert().success().stdout("X\n");
        assert_eq!(server.finish(), 0);
    }
}

#[test]
fn what_the_client_sends_and_receives_at_the_same_time_has_no_limit() {
    let server = Server::start("tcp-threaded-server", &["--quiet", "--count", "1"]);
    let mut command = Command::new(program("tcp-threaded-client"));
    command.args([&server.address().to_string(), "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = Killed(command.spawn().unwrap());
    let (mut input, mut output) = (child.0.stdin.take().unwrap(), child.0.stdout.take().unwrap());
    let block = |number: usize| -> Vec<u8> {
        (0..1 << 20).map(|i| ((i * 7 + number * 13 + i / 251) % 256) as u8).collect()
    };
    let writer = thread::spawn(move || (0..64).for_each(|n| input.write_all(&block(n)).unwrap()));
    in_time(move || {
        for number in 0..64 {
            let mut answer = vec![0; 1 << 20];
            output.read_exact(&mut answer).unwrap();
            assert!(answer == block(number).to_ascii_uppercase(), "block {number}");
        }
        assert_eq!(output.read(&mut [0]).unwrap(), 0);
    });
    writer.join().unwrap();
    assert_eq!(child.exit_code(), 0);
    assert_eq!(server.finish(), 0);
}

#[test]
fn reads_grow_from_1_to_64_kib_for_a_client_that_sends_a_lot() {
    let mut server = Server::start("tcp-threaded-server", &[]);
    let mut stream = tcp(server.address());
    for _ in 0..3 {
        assert_eq!(exchange(&stream, b"not a lot"), b"NOT A LOT");
    }
    let mut sender = stream.try_clone().unwrap();
    let sent = thread::spawn(move || sender.write_all(&vec![b'x'; 16 << 20]));
    let mut answer = vec![0; 16 << 20];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer.iter().all(|&byte| byte == b'X'));
    sent.join().unwrap().unwrap();
    drop(stream);
    server.process().wait_for("closed after ").unwrap();
    let said = server.process().stdout();
    let lengths = said.lines().filter_map(|line| line.split_once("... (")?.1.split_once(" bytes)"));
    let lengths: Vec<usize> = lengths.map(|(length, _)| length.parse().unwrap()).collect();
    assert_eq!(lengths[0], 1 << 10);
    let largest = *lengths.iter().max().unwrap();
    assert!((16 << 10..=64 << 10).contains(&largest), "{largest}");
}

#[test]
fn the_client_ends_when_the_answer_has_ended_though_more_could_be_typed() {
    let server = Server::start("tcp-threaded-server", &["--idle-timeout", "1", "--quiet"]);
    let mut command = Command::new(program("tcp-threaded-client"));
    let mut client = Process::spawn(command.args([&server.address().to_string(), "-"]));
    client.write(b"hello\n");
    assert_eq!(client.wait_for("HELLO").as_deref(), Some("HELLO"));
    // The server ends the connection after its idle timeout; standard input stays open.
    assert_eq!(client.wait_for("nothing more"), None);
    assert_eq!(client.finish(), 0);
}
