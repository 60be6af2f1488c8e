//! The snippets of docs/copying.md, docs/recipes.md and docs/from-python.md, each in a copy of the
//! program that the page names, built with warnings denied.

#[cfg(target_os = "linux")]
use crate::copying::copied;
use crate::copying::{copy, start_copy};
use crate::pages::block;
use crate::pitfalls::{nesting, snippets};
use crate::support::*;
#[cfg(target_os = "linux")]
use predicates::str::contains;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
#[cfg(target_os = "linux")]
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use tests::copying::{HANDLER, recipes, replace, replace_function};

/// Calls the function of a recipe.
const CONNECT: &str = r#"
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

fn main() -> io::Result<()> {
    let addresses = std::env::args().skip(1).map(|address| address.parse().unwrap());
    let start = Instant::now();
    let stream = connect(&*addresses.collect::<Vec<SocketAddr>>(), Duration::from_secs(4))?;
    println!("{} {}", stream.peer_addr()?, start.elapsed() < stream.read_timeout()?.unwrap());
    Ok(())
}
"#;

/// Returns the code of pitfalls.md that causes them, which compiles: no compiler prevents it.
fn causes() -> String {
    // The module `pitfalls` compiles the others.
    let causes = snippets(false).into_iter().map(|code| CAUSE.replace("CODE", &code));
    let causes: Vec<String> = causes.collect();
    assert!(causes.len() > 25);
    CAUSES.to_string() + &causes.concat()
}

/// What the causes are made of.
const CAUSES: &str = "#![allow(unused, unreachable_code)]
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{thread, time::Duration};

fn main() {}
fn handle(_: TcpStream) -> io::Result<()> { Ok(()) }
type Context<'a> = (&'a UdpSocket, &'a TcpListener, TcpStream, &'a AtomicBool);
";
const CAUSE: &str = "
const _: fn(Context) -> io::Result<()> = |context| {
    let (socket, listener, mut stream, stopping) = context;
    let (mut buffer, request, mut response) = ([0; 1024], [0; 1024], Vec::<u8>::new());
    CODE
    Ok(())
};
";

/// Returns the names and the sources of the copied programs, with recipes or other edits of the pages.
pub fn sources() -> Vec<(String, String)> {
    let main = |names: &[&str]| copy(names).main();
    let head = |program: &str| copy(&[program]).head;
    let [tcp, udp] = ["tcp-threaded-server", "udp-echo-server"];
    let macros = block("copy: macros std");
    let (error, _) = macros.split_once("macro_rules! warn").unwrap();
    let quiet = [error, &block("copy: macros quiet")].concat();
    let reversing = replace_function(&main(&[udp]), HANDLER, &block("copying: handler")).unwrap();
    let stop_udp = head("udp-threaded-server") + &block("copy: main server");
    let copies = recipes().into_iter().chain(programs());
    let copies = copies.map(|name| (name.clone(), main(&[&name])));
    let others = [
        ("echo", main(&[tcp])),
        ("quiet", main(&[tcp])),
        ("reversing", reversing),
        ("chat-limit", main(&["chat", "limit"])),
        ("lines-stop", main(&["lines", "stop"])),
        ("stop-soon", main(&["stop"])),
        ("stop-udp", stop_udp + &block("copy: run stop")),
        ("connect", CONNECT.to_string() + &block("recipe: connect")),
        ("broadcast", block("recipe: broadcast")),
        ("multicast", head(udp) + &block("recipe: multicast")),
        ("two-addresses", head(tcp) + &block("recipe: two addresses")),
        ("causes", causes()),
        ("nesting", nesting("pitfall: nesting", "parse(text.as_bytes())")),
        ("nesting-limited", nesting("pitfall: limited nesting", "parse(text.as_bytes(), 0)")),
    ];
    let others = others.map(|(name, source)| (name.to_string(), source));
    let mut sources = BTreeMap::from_iter(copies.chain(others));
    let workers = "workers: if cfg!(target_vendor = \"apple\") { 240 } else { 1010 }";
    // Texts, and others in their place. The ports of the pages may be in use.
    for (name, from, to) in [
        ("echo", "            request.make_ascii_uppercase();\n", ""),
        ("echo", "b\"hello\"), b\"HELLO\"", "b\"hello\"), b\"hello\""),
        ("quiet", &macros, &quiet),
        ("reversing", "&b\"HELLO\"[..]", "&b\"olleh\"[..]"),
        ("deadline", "from_secs(5)", "from_secs(2)"),
        ("deadline", workers, "workers: 4"),
        ("hostile", workers, "workers: 8"),
        ("stop-soon", "limit = Duration::from_secs(10)", "limit = Duration::from_secs(1)"),
        ("stop-udp", "TcpListener::bind", "UdpSocket::bind"),
        ("stop-udp", "server.listener.local_addr()?", "server.address"),
        ("stop-udp", ", {} connections open\", stopper.busy.load(SeqCst)", "\""),
        ("broadcast", "\"255.255.255.255:8888\"", "std::env::args().nth(1).unwrap()"),
        ("multicast", ":8888\"", ":0\""),
        ("multicast", "[0, 0, 0, 0]", "[127, 0, 0, 1]"), // the interface of the test
        ("two-addresses", ".1:8888\"", ".1:0\""),
        ("two-addresses", "::1]:8888\"", "::1]:0\""),
    ] {
        let source = sources.get_mut(name).unwrap();
        *source = replace(source, from, to).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    sources.into_iter().collect()
}

#[test]
fn respond_or_report_invalid_requests() {
    let error = "the line is too long or incomplete";
    // The limits include the newline, but not the prefix.
    let longest = "x".repeat(64 * 1024 - 1) + "\n";
    let largest = "\0\x10\0\0".to_string() + &"x".repeat(1024 * 1024);
    // The number of values is limited; one that exists can be changed.
    let sets: String = (0..10_001).map(|n| format!("set {n} x\n")).collect();
    let mut servers = BTreeMap::new();
    for (recipe, request, expected) in [
        ("lines", "ann\nben\n", Ok("hello, ann\nhello, ben\n")),
        ("lines", "ann", Err(error)),
        ("lines", &longest, Ok(&*format!("hello, {longest}"))),
        ("lines", &format!("x{longest}"), Err(error)),
        ("deadline", "hello", Err(error)),
        ("chat", &longest, Err("the line is too long")),
        // The end of a line that is too long is not taken for a line.
        ("numbers", &format!("x{}stop\n", longest.trim_end()), Err("the line is too long")),
        ("state", "", Ok("1\n")),
        ("state", "", Ok("2\n")),
        ("length-prefix", &largest, Ok(&largest.to_uppercase())),
        ("length-prefix", "\0\x10\0\x01", Err("the message is too long")),
        ("length-prefix", "\0\0\0\x02h", Err("failed to fill whole buffer")),
        ("length-prefix", "\0\0", Err("the prefix is incomplete")),
        ("key-value", "get a\nset a 1\nget a\n", Ok("missing\nok\n= 1\n")),
        ("key-value", "delete a\ndelete a\n", Ok("ok\nmissing\n")),
        ("key-value", "get\n", Ok("error: expected get KEY, set KEY VALUE or delete KEY\n")),
        ("key-value", &sets, Ok(&("ok\n".repeat(10_000) + "full\n"))),
        ("key-value", "set 1 y\nget 1\n", Ok("ok\n= y\n")),
    ] {
        let server = servers.entry(recipe).or_insert_with(|| start_copy(recipe, &[]));
        let mut stream = tcp(server.address());
        // The first byte arrives alone. The server may reset the connection before the last.
        let (first, rest) = request.as_bytes().split_at(request.len().min(1));
        let _ = stream.write_all(first).and_then(|()| stream.write_all(rest));
        let _ = stream.shutdown(Shutdown::Write);
        let response = String::from_utf8(read_to_end(&stream)).unwrap();
        assert!(response == expected.unwrap_or_default(), "{recipe}: {expected:?}: {response:?}");
        if let Err(error) = expected {
            let line = format!("{}: {error}", stream.local_addr().unwrap());
            assert_eq!(server.wait_for_error(&line), Some(line), "{recipe}");
        }
    }
}

#[test]
fn deadline_ends_request_of_one_byte_at_a_time() {
    let server = start_copy("deadline", &[]);
    let slow = tcp(server.address());
    let line = |client: &TcpStream| format!("{}: timed out", client.local_addr().unwrap());
    // The server may reset the connection.
    wait_until("the deadline is over", || {
        (&slow).write_all(b"x").is_err() || server.stderr().contains(&line(&slow))
    });
    assert!(server.wait_for_error(&line(&slow)).is_some());
    // The shorter read timeout of the last worker remains.
    let silent = [(); 4].map(|()| {
        let client = tcp(server.address());
        server.wait_for(&format!("{} connected", client.local_addr().unwrap())).unwrap();
        client
    });
    assert!(server.wait_for_error(&line(&silent[3])).is_some());
    assert!(!server.stderr().contains(&line(&silent[0])));
    assert!(server.wait_for_error(&line(&silent[0])).is_some());
}

#[test]
fn slow_member_does_not_block_others() {
    let server = start_copy("chat", &[]);
    let silent = tcp(server.address());
    let [mut sender, receiver] = chat(server.address());
    let name = sender.local_addr().unwrap();
    let mut lines = BufReader::new(&receiver).lines().map(Result::unwrap);
    // More than the buffers and the channel of the silent member hold.
    for number in 0..4_000 {
        sender.write_all(format!("{number:04000}\n").as_bytes()).unwrap();
        assert_eq!(lines.next().unwrap(), format!("{name}: {number:04000}"));
    }
    // A burst from a single write, of more messages than the member's thread writes meanwhile.
    sender.write_all("burst\n".repeat(3_000).as_bytes()).unwrap();
    let burst = format!("{name}: burst");
    assert_eq!(lines.take(3_000).filter(|line| *line == burst).count(), 3_000);
    let missed = server.wait_for_error(" reads too slowly: 1 messages missed").unwrap();
    assert!(missed.starts_with(&silent.local_addr().unwrap().to_string()), "{missed}");
    // The worker of a member that leaves is free again.
    sender.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&sender), b"");
    server.wait_for(&format!("{name} left")).unwrap();
    assert!(!server.stderr().contains(&name.to_string()));
}

/// Sends messages from one member to another, until that has joined, and returns both.
fn chat(address: SocketAddr) -> [TcpStream; 2] {
    let [mut sender, receiver] = [tcp(address), tcp(address)];
    receiver.set_nonblocking(true).unwrap();
    wait_until("the receiver is a member", || {
        sender.write_all(b"hello\n").unwrap();
        receiver.peek(&mut [0]).is_ok()
    });
    receiver.set_nonblocking(false).unwrap();
    // More than one may be in flight.
    sender.write_all(b"ready\n").unwrap();
    let name = sender.local_addr().unwrap();
    let mut lines = BufReader::new(&receiver).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == format!("{name}: ready")));
    [sender, receiver]
}

#[test]
fn signal_ends_chat_with_idle_members() {
    let mut server = start_copy("chat", &[]);
    let members = chat(server.address());
    server.write(b"signal\n");
    // After the limit of the recipe, the code is 1.
    assert_eq!((server.exit_code(), server.stderr()), (0, String::new()));
    for mut member in &members {
        assert!(member.read_to_end(&mut Vec::new()).is_ok());
        for event in ["joined", "left"] {
            let line = format!("{} {event}", member.local_addr().unwrap());
            assert!(server.stdout().contains(&line), "{line}: {}", server.stdout());
        }
    }
    assert!(server.wait_for("stopping, ").unwrap().ends_with(" connections open"));
}

#[test]
fn client_has_limited_number_of_connections() {
    let server = start_copy("limit", &[]);
    let mut open: Vec<TcpStream> = (0..8).map(|_| tcp(server.address())).collect();
    for stream in &open {
        assert_eq!(exchange(stream, b"hello"), b"HELLO");
    }
    let ninth = tcp(server.address());
    assert_eq!(read_to_end(&ninth), b"");
    assert!(server.wait_for_error("too many connections of this client").is_some());
    open.pop();
    wait_until("there is room for another connection", || {
        let mut stream = tcp(server.address());
        stream.write_all(b"hello").is_ok() && stream.read(&mut [0]).is_ok_and(|length| length == 1)
    });
}

#[test]
fn oldest_late_connection_makes_room() {
    let server = start_copy("hostile", &[]);
    let hostile: Vec<TcpStream> = (0..24).map(|_| tcp(server.address())).collect();
    let mut honest = tcp(server.address());
    honest.write_all(b"hello").unwrap();
    honest.set_nonblocking(true).unwrap();
    wait_until("the honest client is served", || {
        // Each sends a byte more often than any timeout.
        hostile.iter().for_each(|mut stream| drop(stream.write(b"x")));
        honest.read(&mut [0]).is_ok_and(|length| length == 1)
    });
}

/// On Linux, a full backlog drops further connections.
#[cfg(target_os = "linux")]
#[test]
fn connect_leaves_time_for_next_address() {
    let _lock = open_many_files();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let full = listener.local_addr().unwrap();
    let timeout = std::time::Duration::from_millis(200);
    let connect = |_| TcpStream::connect_timeout(&full, timeout).ok();
    let backlog: Vec<TcpStream> = (0..1_000).map_while(connect).collect();
    assert!(backlog.len() < 1_000);
    let server = Process::start("tcp-threaded-server", &[]);
    let mut client = Command::new(copied("connect"));
    client.args([full, unused_address(), server.address()].map(|address| address.to_string()));
    run(&mut client, "").success().stdout(format!("{} true\n", server.address()));
    let mut client = Command::new(copied("connect"));
    run(client.arg(full.to_string()), "").code(1).stderr(contains("TimedOut"));
}

#[test]
fn signal_finishes_connections_until_limit_or_second_signal() {
    for (name, is_idle, signals, expected) in [
        ("stop", false, "signal\n", 0),
        ("stop-soon", true, "signal\n", 1),
        ("stop", true, "signal\nsignal\n", 130),
        ("stop-at-end", false, "", 0),
    ] {
        let mut server = start_copy(name, &[]);
        let client = tcp(server.address());
        assert_eq!(exchange(&client, b"hello"), b"HELLO");
        let _idle = is_idle.then_some(client);
        server.write(signals.as_bytes());
        assert_eq!(server.exit_code(), expected, "{name} with an idle client: {is_idle}");
        assert!(server.stdout().contains("\nstopping, "), "{name}: {}", server.stdout());
    }
    let mut server = start_copy("stop-udp", &[]);
    assert_eq!(request(&udp(server.address()), b"hello"), b"HELLO");
    server.write(b"signal\n");
    assert_eq!(server.exit_code(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn broadcast_reaches_server() {
    let server = Process::start_at("udp-echo-server", "0.0.0.0:0", &[]);
    let port = server.address().port();
    // The broadcast address of the loopback network.
    let broadcast = format!("127.255.255.255:{port}");
    let reply = format!("127.0.0.1:{port}: HELLO\n");
    run(Command::new(copied("broadcast")).arg(&broadcast), "").success().stdout(reply);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = socket.send_to(b"hello", &broadcast).unwrap_err();
    assert_eq!(error.to_string(), "Permission denied (os error 13)");
}

#[cfg(target_os = "linux")]
#[test]
fn multicast_reaches_server() {
    let server = start_copy("multicast", &[]);
    let port = server.address().port();
    // Linux sends from the interface that has this address.
    let (socket, _) = fake_udp_server();
    socket.send_to(b"hello", ("239.255.0.1", port)).unwrap();
    assert_eq!(receive(&socket), (b"HELLO".to_vec(), ([127, 0, 0, 1], port).into()));
}

#[test]
fn two_addresses_are_served() {
    if !has_ipv6() {
        return;
    }
    let server = start_copy("two-addresses", &[]);
    let line = server.wait_for("listening on [::1]:").unwrap();
    let v6: SocketAddr = line.strip_prefix("listening on ").unwrap().parse().unwrap();
    for address in [server.address(), v6] {
        assert_eq!(exchange(&tcp(address), b"hello"), b"HELLO");
    }
}

/// Numbers the lines of two clients, and stops the server.
fn number_lines(address: SocketAddr) {
    let [one, two] = [tcp(address), tcp(address)];
    let send = |mut stream: &TcpStream, line: &str| {
        let mut response = String::new();
        stream.write_all(line.as_bytes()).unwrap();
        BufReader::new(stream).read_line(&mut response).unwrap();
        response
    };
    assert_eq!(send(&one, "hello\n"), "1 hello\n");
    assert_eq!(send(&two, "hello\n"), "2 hello\n");
    assert_eq!(send(&one, "again\n"), "3 again\n");
    assert_eq!(send(&one, "stop\n"), ""); // the end of the connection
    // A connection in progress is finished.
    assert_eq!(send(&two, "last\n"), "4 last\n");
}

#[test]
fn port_numbers_lines_and_stops() {
    let mut server = start_copy("numbers", &[]);
    number_lines(server.address());
    assert_eq!(server.exit_code(), 0);
}

/// Starts a server of the page in Python.
fn start_python(marker: &str) -> (Process, SocketAddr) {
    let address = unused_address();
    let script = replace(&block(marker), "8888", &address.port().to_string()).unwrap();
    let python = Process::spawn(Command::new("python3").args(["-c", &script]));
    wait_until("the server listens", || TcpStream::connect(address).is_ok());
    (python, address)
}

#[test]
#[ignore = "needs python3"]
fn python_servers_do_what_their_ports_do() {
    let (mut numbers, address) = start_python("python: server");
    number_lines(address);
    assert_eq!((numbers.exit_code(), numbers.stderr()), (0, String::new()));
    let (_echo, address) = start_python("python: echo");
    assert_eq!(exchange(&tcp(address), b"hello"), b"hello");
    let (_chat, address) = start_python("python: chat");
    chat(address);
}
