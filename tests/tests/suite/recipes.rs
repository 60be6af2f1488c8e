//! The snippets of docs/copying.md, docs/recipes.md and docs/from-python.md, each in a copy of the
//! program that the page names, built with warnings denied.

#[cfg(target_os = "linux")]
use crate::copying::copied;
use crate::copying::{head, start_copy, with_handler};
use crate::pages::block;
use crate::pitfalls::nesting;
use crate::support::*;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
#[cfg(target_os = "linux")]
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// Takes the place of the crate `ctrlc`: each line of standard input stands for a signal.
pub const CTRLC: &str = "
pub fn set_handler(mut handler: impl FnMut() + Send + 'static) -> Result<(), std::io::Error> {
    std::thread::spawn(move || std::io::stdin().lines().for_each(|_| handler()));
    Ok(())
}
";

/// Inserts a block of a page into a source.
fn insert(source: &str, after: &str, marker: &str) -> String {
    let (before, rest) = source.split_once(after).unwrap();
    [before, after, &block(marker), rest].concat()
}

/// Adds the field of a recipe, whose first value is the default.
fn with_field(source: &str, recipe: &str) -> String {
    let field = block(&format!("recipe: {recipe} field"));
    let (name, _) = field.split_once(':').unwrap();
    let source = source.replace("struct Server {\n", &format!("struct Server {{\n{field}"));
    source.replace("Ok(Server {\n", &format!("Ok(Server {{\n        {name}: Default::default(),\n"))
}

/// Calls the function of a recipe.
const CONNECT: &str = r#"
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

fn main() -> io::Result<()> {
    let addresses = std::env::args().skip(1).map(|address| address.parse().unwrap());
    let addresses: Vec<SocketAddr> = addresses.collect();
    let (timeout, start) = (Duration::from_secs(4), Instant::now());
    let stream = connect(&addresses[..], timeout)?;
    assert!(start.elapsed() < timeout);
    println!("{} {:?}", stream.peer_addr()?, stream.read_timeout()?);
    Ok(())
}
"#;

/// Returns the code of pitfalls.md that causes them, which compiles: no compiler prevents it.
fn causes() -> String {
    let page = fs::read_to_string(repository("docs/pitfalls.md")).unwrap();
    // The module `pitfalls` compiles the code of the others.
    let others = crate::pitfalls::headings();
    let entries =
        page.split("\n### ").filter(|entry| !others.contains(entry.lines().next().unwrap()));
    let entries: Vec<Vec<&str>> = entries.map(|entry| entry.split("\n```").collect()).collect();
    // Text and code take turns. A link to a line precedes code that prevents a pitfall.
    let pairs = entries.iter().flat_map(|blocks| blocks.chunks(2));
    let causes = pairs.filter_map(|pair| match pair {
        [text, code] if !text.contains(".rs#L") => code.strip_prefix("rust\n"),
        _ => None,
    });
    let functions = causes.enumerate().map(|(n, code)| {
        format!(
            "fn cause_{n}(context: Context) -> io::Result<()> {{\n{CONTEXT}{code}\nOk(())\n}}\n"
        )
    });
    let functions: Vec<String> = functions.collect();
    assert!(functions.len() > 25);
    format!("{CAUSES}{}", functions.join("\n"))
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
const CONTEXT: &str = "let (socket, listener, mut stream, stopping) = context;
let (mut buffer, request, mut response) = ([0; 1024], [0; 1024], Vec::<u8>::new());
";

/// Returns the names and the sources of all these programs.
pub fn sources() -> Vec<(String, String)> {
    let main = block("copy: main server");
    let copy = |name| head(name) + &main + &tests::copying::block("run", name).unwrap();
    let (tcp, udp) = (copy("tcp-threaded-server"), copy("udp-echo-server"));
    let with_tcp = |marker: &str| with_handler(&tcp, &block(marker));
    let macros = block("copy: macros std");
    let (error, _) = macros.split_once("macro_rules! warn").unwrap();
    let quiet = error.to_string() + &block("copy: macros quiet");
    let deadline = with_tcp("recipe: deadline handler") + "\n" + &block("recipe: deadline type");
    let default_workers = "if cfg!(target_vendor = \"apple\") { 240 } else { 1010 }";
    assert!(deadline.contains(default_workers));
    let deadline = deadline.replace(default_workers, "4");
    let with_state = |name: &str| {
        with_handler(&with_field(&tcp, name), &block(&format!("recipe: {name} handler")))
    };
    let chat = with_state("chat") + &block("recipe: chat type") + &block("recipe: on drop");
    let before_handler = |name: &str| {
        let source = with_field(&tcp, name) + &block("recipe: on drop");
        let handler = block(&format!("recipe: {name} handler"));
        let renamed = format!("{handler}\n    fn respond(");
        source.replace("    /// The function to replace.\n    fn handle(", &renamed)
    };
    let port = insert(&tcp, "struct Server {\n", "port: field");
    let port = insert(&port, "Ok(Server {\n", "port: value");
    let stop = head("tcp-threaded-server") + &main + &block("recipe: stop");
    // The program runs for longer than the limit after `run` has returned.
    let later = "?;\n    Ok(thread::sleep(Duration::from_secs(2)))\n}";
    let stop_soon = stop.replace("from_secs(10)", "from_secs(1)");
    let stop_soon = stop_soon.replace(".into()))\n}", &format!(".into())){later}"));
    let (before, rest) = stop.split_once("    ctrlc::set_handler").unwrap();
    let (_, after) = rest.split_once("    .map_err(io::Error::other)?;\n").unwrap();
    let stop_at_end = format!("{before}{}{after}", block("recipe: stop at end of input"));
    let stop_at_end = stop_at_end.split_inclusive('\n').filter(|line| !line.contains("RETURNED"));
    // The port of the page may be in use.
    let with_port = |source: String| source.replace(":8888\"", ":0\"");
    // The client of the test takes the address of the server from its command line.
    let broadcast = block("recipe: broadcast")
        .replace("\"255.255.255.255:8888\"", "std::env::args().nth(1).unwrap()");
    [
        ("reversing", with_handler(&udp, &block("copying: handler"))),
        ("lines", with_tcp("recipe: lines")),
        ("length-prefix", with_tcp("recipe: length prefix")),
        ("deadline", deadline.replace("from_secs(5)", "from_secs(2)")),
        ("state", with_state("state")),
        ("key-value", with_state("key-value")),
        ("chat", chat),
        ("limit", before_handler("limit")),
        ("hostile", before_handler("hostile").replace(default_workers, "8")),
        ("connect", CONNECT.to_string() + &block("recipe: connect")),
        ("port-of-python", with_handler(&port, &block("port: handler"))),
        ("quiet", tcp.replace(&macros, &quiet)),
        ("stop-soon", stop_soon),
        ("stop", stop),
        ("stop-at-end", stop_at_end.collect()),
        ("broadcast", broadcast),
        (
            "multicast",
            // On the interface of the test.
            with_port(head("udp-echo-server") + &block("recipe: multicast"))
                .replace("[0, 0, 0, 0]", "[127, 0, 0, 1]"),
        ),
        ("causes", causes()),
        ("nesting", nesting("pitfall: nesting", "parse(text.as_bytes())")),
        ("nesting-limited", nesting("pitfall: limited nesting", "parse(text.as_bytes(), 0)")),
        ("two-addresses", with_port(head("tcp-threaded-server") + &block("recipe: two addresses"))),
    ]
    .map(|(name, source)| (name.into(), source))
    .into()
}

/// Sends lines, each after the response to the one before, which is a line.
fn converse(mut stream: &TcpStream, lines: &[(&str, &str)]) {
    for (line, expected) in lines {
        writeln!(stream, "{line}").unwrap();
        let mut response = vec![0; expected.len() + 1];
        stream.read_exact(&mut response).unwrap();
        assert_eq!(response, format!("{expected}\n").as_bytes(), "{line}");
    }
}

#[test]
fn replaced_handler_replies() {
    let server = start_copy("reversing");
    assert_eq!(request(&udp(server.address()), b"hello"), b"olleh");
}

#[test]
fn lines_are_greeted_however_they_arrive() {
    let server = start_copy("lines");
    let mut stream = tcp(server.address());
    stream.write_all(b"a").unwrap();
    converse(&stream, &[("nn\nben", "hello, ann\nhello, ben")]);
    stream.write_all(b"c").unwrap();
    let error = "the line is too long or incomplete";
    let line = |client: &TcpStream| format!("{}: {error}", client.local_addr().unwrap());
    let incomplete = line(&stream);
    drop(stream);
    assert_eq!(server.wait_for_error(error), Some(incomplete));
    assert_eq!(response(server.address(), b""), b"");
    // A line has up to 64 KiB, newline included.
    let mut longest = vec![b'x'; 64 * 1024];
    longest[64 * 1024 - 1] = b'\n';
    assert_eq!(response(server.address(), &longest), [b"hello, ", &longest[..]].concat());
    let stream = tcp(server.address());
    (&stream).write_all(&[b'x'; 64 * 1024]).unwrap();
    assert_eq!(read_to_end(&stream), b"");
    assert!(server.wait_for_error(&line(&stream)).is_some());
}

#[test]
fn prefixed_messages_are_separated_by_length() {
    let server = start_copy("length-prefix");
    let messages = b"\0\0\0\x05hello\0\0\0\0\0\0\0\x01x";
    assert_eq!(response(server.address(), messages), messages.to_ascii_uppercase());
    let largest = [&(1024_u32 * 1024).to_be_bytes()[..], &vec![b'x'; 1024 * 1024]].concat();
    assert_eq!(exchange(&tcp(server.address()), &largest), largest.to_ascii_uppercase());
    let stream = tcp(server.address());
    (&stream).write_all(&(1024_u32 * 1024 + 1).to_be_bytes()).unwrap();
    assert_eq!(read_to_end(&stream), b"");
    assert!(server.wait_for_error("the message is too long").is_some());
    assert_eq!(response(server.address(), b"\0\0\0\x05hell"), b"");
    assert!(server.wait_for_error("failed to fill whole buffer").is_some());
    assert_eq!(response(server.address(), b"\0\0"), b"");
    assert!(server.wait_for_error("the prefix is incomplete").is_some());
}

#[test]
fn deadline_ends_request_of_one_byte_at_a_time() {
    let server = start_copy("deadline");
    assert_eq!(response(server.address(), b"in time\n"), b"IN TIME\n");
    let stream = tcp(server.address());
    let start = Instant::now();
    let line = |client: &TcpStream| format!("{}: timed out", client.local_addr().unwrap());
    let is_over = || server.stderr().contains(&line(&stream));
    // The server may reset the connection.
    while !is_over() && (&stream).write_all(b"x").is_ok() {
        assert!(start.elapsed() < DEADLINE);
        thread::sleep(Duration::from_millis(10));
    }
    assert!(server.wait_for_error(&line(&stream)).is_some());
    assert_eq!(response(server.address(), b"incomplete"), b"");
    assert!(server.wait_for_error("the line is too long or incomplete").is_some());
    // The shorter read timeout of the last worker remains.
    let connect = |_| {
        let silent = tcp(server.address());
        server.wait_for(&format!("{} connected", silent.local_addr().unwrap())).unwrap();
        silent
    };
    let silent: Vec<TcpStream> = (0..4).map(connect).collect();
    assert!(server.wait_for_error(&line(&silent[3])).is_some());
    assert!(!server.stderr().contains(&line(&silent[0])));
    assert!(server.wait_for_error(&line(&silent[0])).is_some());
}

#[test]
fn values_are_stored_by_key() {
    let server = start_copy("key-value");
    // What the page puts into the test of the copy.
    let stored = response(server.address(), b"set color green\nget color\n");
    assert_eq!(stored, b"ok\n= green\n");
    let commands = [
        ("get a", "missing"),
        ("set a 1", "ok"),
        ("set a 2", "ok"),
        ("get a", "= 2"),
        ("get", "error: expected get KEY, set KEY VALUE or delete KEY"),
        ("delete a", "ok"),
        ("delete a", "missing"),
    ];
    converse(&tcp(server.address()), &commands);
    // The number of values is limited; one that exists can be changed. Buffers hold the responses.
    let sets: String = (0..10_000).map(|n| format!("set {n} x\n")).collect();
    let expected = "ok\n".repeat(9_999) + "full\n";
    assert!(response(server.address(), sets.as_bytes()) == expected.as_bytes());
    converse(&tcp(server.address()), &[("set 1 y", "ok"), ("get 1", "= y")]);
}

#[test]
fn slow_member_does_not_block_others() {
    let server = start_copy("chat");
    // What the page puts into the test of the copy.
    assert_eq!(response(server.address(), b"hello"), b"");
    let (_silent, mut sender, mut receiver) =
        (tcp(server.address()), tcp(server.address()), tcp(server.address()));
    let name = sender.local_addr().unwrap();
    // The first messages may arrive before the receiver has entered.
    let expected = |number: usize| format!("{name}: {number:04000}\n").into_bytes();
    let (mut sent, mut message) = (0, expected(0));
    receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    wait_until("the receiver is a member", || {
        sent += 1;
        sender.write_all(format!("{sent:04000}\n").as_bytes()).unwrap();
        receiver.read(&mut message[..1]).is_ok()
    });
    receiver.set_read_timeout(Some(DEADLINE)).unwrap();
    receiver.read_exact(&mut message[1..]).unwrap();
    while message != expected(sent) {
        receiver.read_exact(&mut message).unwrap();
    }
    // More than the buffers and the channel of the silent member hold.
    for number in 0..4_000 {
        sender.write_all(format!("{number:04000}\n").as_bytes()).unwrap();
        receiver.read_exact(&mut message).unwrap();
        assert_eq!(message, expected(number));
    }
    // A burst from a single write, of more messages than the member's thread writes meanwhile.
    sender.write_all("burst\n".repeat(3_000).as_bytes()).unwrap();
    let expected = format!("{name}: burst\n").repeat(3_000);
    let mut burst = vec![0; expected.len()];
    receiver.read_exact(&mut burst).unwrap();
    assert!(burst == expected.as_bytes());
    // The worker of a member that leaves is free again.
    sender.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&sender), b"");
    assert!(!server.stderr().contains(&name.to_string()));
}

#[test]
fn client_has_limited_number_of_connections() {
    let server = start_copy("limit");
    let mut open: Vec<TcpStream> = (0..8).map(|_| tcp(server.address())).collect();
    for stream in &open {
        assert_eq!(exchange(stream, b"hello"), b"HELLO");
    }
    let ninth = tcp(server.address());
    assert_eq!(read_to_end(&ninth), b"");
    assert!(server.wait_for_error("too many connections of this client").is_some());
    let closed = open.pop().unwrap();
    let line = format!("{} closed after 5 bytes", closed.local_addr().unwrap());
    drop(closed);
    server.wait_for(&line).unwrap();
    wait_until("there is room for another connection", || {
        let mut stream = tcp(server.address());
        stream.write_all(b"hello").is_ok() && stream.read(&mut [0]).is_ok_and(|length| length == 1)
    });
}

#[test]
fn oldest_late_connection_makes_room() {
    let server = start_copy("hostile");
    let stop = AtomicBool::new(false);
    let hostile: Vec<TcpStream> = (0..24).map(|_| tcp(server.address())).collect();
    let served = thread::scope(|scope| {
        // Each sends a byte more often than any timeout.
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                hostile.iter().for_each(|mut stream| drop(stream.write(b"x")));
                thread::sleep(Duration::from_millis(20));
            }
        });
        let mut honest = tcp(server.address());
        let served = honest.write_all(b"hello").and_then(|()| honest.read(&mut [0]));
        stop.store(true, Relaxed);
        served
    });
    assert_eq!(served.unwrap(), 1);
}

/// On Linux, a full backlog drops further connections.
#[cfg(target_os = "linux")]
#[test]
fn connect_leaves_time_for_next_address() {
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    let full = full.local_addr().map(|address| (full, address)).unwrap();
    let connect = |_| TcpStream::connect_timeout(&full.1, Duration::from_millis(200)).ok();
    let backlog: Vec<TcpStream> = (0..1_000).map_while(connect).collect();
    assert!(backlog.len() < 1_000);
    let server = Process::start("tcp-threaded-server", &[]);
    let mut client = Command::new(copied("connect"));
    client.args([full.1, unused_address(), server.address()].map(|address| address.to_string()));
    run(&mut client, "").success().stdout(format!("{} Some(4s)\n", server.address()));
    let mut client = Command::new(copied("connect"));
    let assert = run(client.arg(full.1.to_string()), "").code(1);
    assert!(String::from_utf8_lossy(&assert.get_output().stderr).contains("TimedOut"));
}

#[test]
fn workers_share_state() {
    let server = start_copy("state");
    for visit in 1..=3 {
        assert_eq!(response(server.address(), b""), format!("{visit}\n").as_bytes());
    }
}

#[test]
fn signal_finishes_connections_until_limit_or_second_signal() {
    for (name, is_idle, signals, expected) in [
        ("stop", false, "signal\n", 0),
        ("stop-soon", true, "signal\n", 1),
        ("stop", true, "signal\nsignal\n", 130),
        ("stop-at-end", false, "", 0),
    ] {
        let mut server = start_copy(name);
        let client = tcp(server.address());
        assert_eq!(exchange(&client, b"hello"), b"HELLO");
        let _idle = is_idle.then_some(client);
        server.write(signals.as_bytes());
        assert_eq!(server.exit_code(), expected, "{name} with an idle client: {is_idle}");
    }
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
    // A server with one address does not receive it.
    let mut server = Process::start("udp-echo-server", &["--count", "1"]);
    socket.set_broadcast(true).unwrap();
    socket.send_to(b"lost", ("127.255.255.255", server.address().port())).unwrap();
    assert_eq!(request(&udp(server.address()), b"hello"), b"HELLO");
    assert_eq!(server.exit_code(), 0);
    assert_eq!(server.stdout().lines().count(), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn multicast_reaches_server() {
    let server = start_copy("multicast");
    let port = server.address().port();
    // Linux sends from the interface that has this address.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.send_to(b"hello", ("239.255.0.1", port)).unwrap();
    let mut reply = [0; 16];
    let (length, from) = socket.recv_from(&mut reply).unwrap();
    assert_eq!(&reply[..length], b"HELLO");
    assert_eq!(from, SocketAddr::from(([127, 0, 0, 1], port)));
}

#[test]
fn two_addresses_are_served() {
    if !has_ipv6() {
        return;
    }
    let server = start_copy("two-addresses");
    let line = server.wait_for("listening on [::1]:").unwrap();
    let v6: SocketAddr = line.strip_prefix("listening on ").unwrap().parse().unwrap();
    for address in [server.address(), v6] {
        assert_eq!(exchange(&tcp(address), b"hello"), b"HELLO");
    }
}

/// Numbers the lines of two clients, and stops the server.
fn number_lines(address: SocketAddr) {
    let (mut one, two) = (tcp(address), tcp(address));
    converse(&one, &[("hello", "1 hello")]);
    converse(&two, &[("hello", "2 hello")]);
    converse(&one, &[("again", "3 again")]);
    one.write_all(b"stop\n").unwrap();
    assert_eq!(read_to_end(&one), b"");
    // A connection in progress is finished.
    converse(&two, &[("last", "4 last")]);
}

#[test]
fn port_numbers_lines_and_stops() {
    let mut server = start_copy("port-of-python");
    // The end of a line that is too long is not taken for a line.
    let long = [&[b'x'; 64 * 1024][..], b"stop\n"].concat();
    tcp(server.address()).write_all(&long).unwrap();
    assert!(server.wait_for_error("the line is too long").is_some());
    number_lines(server.address());
    assert_eq!(server.exit_code(), 0);
}

#[test]
#[ignore = "needs python3"]
fn python_numbers_lines_and_stops() {
    let address = unused_address();
    let script = block("python: server").replace("8888", &address.port().to_string());
    let mut python = Process::spawn(Command::new("python3").args(["-c", &script]));
    wait_until("the server listens", || TcpStream::connect(address).is_ok());
    number_lines(address);
    assert_eq!((python.exit_code(), python.stderr()), (0, String::new()));
}

/// Prints the public names of `socketserver`: its own, those of its classes, and attributes.
const PUBLIC_NAMES: &str = "
import inspect, re, socketserver
for name in socketserver.__all__:
    public = getattr(socketserver, name)
    print(name, *vars(public), *re.findall(r'self\\.(\\w+)', inspect.getsource(public)))
";

#[test]
#[ignore = "needs python3"]
fn page_covers_public_names_of_socketserver() {
    let mut python = Process::spawn(Command::new("python3").args(["-c", PUBLIC_NAMES]));
    assert_eq!((python.exit_code(), python.stderr()), (0, String::new()));
    let names = python.stdout();
    let names: BTreeSet<&str> = names.split_whitespace().filter(|n| !n.starts_with('_')).collect();
    assert!(names.len() > 50, "{names:?}");
    let page = fs::read_to_string(repository("docs/from-python.md")).unwrap();
    let (_, tables) = page.split_once("\n## Direct equivalents").unwrap();
    let (tables, _) = tables.split_once("\n## A worked example").unwrap();
    // The first column.
    let rows = tables.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let covered = rows.collect::<Vec<&str>>().join(" ");
    for name in names {
        assert!(covered.contains(&format!("`{name}`")), "{name} is in no table");
    }
}
