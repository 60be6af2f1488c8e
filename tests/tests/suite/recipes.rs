//! The snippets of docs/copying.md, docs/recipes.md and docs/from-python.md, each in a copy of the
//! program that the page names, built with warnings denied.

#[cfg(target_os = "linux")]
use crate::copying::copied;
use crate::copying::{copy, start_copy};
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
use tests::copying::{recipes, replace, replace_handler};

/// Takes the place of the crate `ctrlc`: each line of standard input stands for a signal.
pub const CTRLC: &str = "
pub fn set_handler(mut handler: impl FnMut() + Send + 'static) -> Result<(), std::io::Error> {
    std::thread::spawn(move || std::io::stdin().lines().for_each(|_| handler()));
    Ok(())
}
";

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

/// The default of the TCP server.
const WORKERS: &str = "workers: if cfg!(target_vendor = \"apple\") { 240 } else { 1010 }";

type Edits<'a> = &'a [(&'a str, &'a str)];

/// What the tests change: the name of the variant, those of the copy, and texts with others in their
/// place. The ports of the pages may be in use.
const VARIANTS: &[(&str, &[&str], Edits)] = &[
    (
        "echo",
        &["tcp-threaded-server"],
        &[
            ("            request.make_ascii_uppercase();\n", ""),
            ("b\"hello\"), b\"HELLO\"", "b\"hello\"), b\"hello\""),
        ],
    ),
    ("chat-limit", &["chat", "limit"], &[]),
    ("lines-stop", &["lines", "stop"], &[]),
    ("deadline", &["deadline"], &[("from_secs(5)", "from_secs(2)"), (WORKERS, "workers: 4")]),
    ("hostile", &["hostile"], &[(WORKERS, "workers: 8")]),
    (
        "stop-soon",
        &["stop"],
        &[
            ("limit = Duration::from_secs(10)", "limit = Duration::from_secs(1)"),
            // The program runs for longer than the limit after `run` has returned.
            (".into()))\n}", ".into()))?;\n    Ok(thread::sleep(Duration::from_secs(2)))\n}"),
        ],
    ),
];

/// Returns the names and the sources of all these programs.
pub fn sources() -> Vec<(String, String)> {
    let change = |name: &str, source: &str, edits: Edits| {
        let edit = |source: String, (from, to): &(&str, &str)| {
            replace(&source, from, to).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        (name.to_string(), edits.iter().fold(source.into(), edit))
    };
    let mut sources: Vec<(String, String)> = VARIANTS
        .iter()
        .map(|(name, names, edits)| change(name, &copy(names).main(), edits))
        .collect();
    for recipe in recipes().unwrap() {
        if sources.iter().all(|(name, _)| *name != recipe) {
            sources.push((recipe.clone(), copy(&[&recipe]).main()));
        }
    }
    let [tcp, udp] = ["tcp-threaded-server", "udp-echo-server"].map(|program| copy(&[program]));
    let macros = block("copy: macros std");
    let (error, _) = macros.split_once("macro_rules! warn").unwrap();
    let quiet = [error, &block("copy: macros quiet")].concat();
    let stop_udp = copy(&["udp-threaded-server"]).head + &block("copy: main server");
    let stop_udp = stop_udp + &block("copy: run stop");
    let multicast = udp.head.clone() + &block("recipe: multicast");
    let two_addresses = tcp.head.clone() + &block("recipe: two addresses");
    for (name, source, edits) in [
        (
            "reversing",
            &*replace_handler(&udp.main(), &block("copying: handler")).unwrap(),
            &[("&b\"HELLO\"[..]", "&b\"olleh\"[..]")][..],
        ),
        ("quiet", &tcp.main(), &[(&*macros, &*quiet)]),
        (
            "stop-udp",
            &stop_udp,
            &[
                ("TcpListener::bind", "UdpSocket::bind"),
                ("server.listener.local_addr()?", "server.address"),
                ("stopping, {} connections open\", stopper.busy.load(SeqCst)", "stopping\""),
            ],
        ),
        ("connect", &(CONNECT.to_string() + &block("recipe: connect")), &[]),
        (
            "broadcast",
            &block("recipe: broadcast"),
            &[("\"255.255.255.255:8888\"", "std::env::args().nth(1).unwrap()")],
        ),
        // On the interface of the test.
        ("multicast", &multicast, &[(":8888\"", ":0\""), ("[0, 0, 0, 0]", "[127, 0, 0, 1]")]),
        ("two-addresses", &two_addresses, &[(".1:8888\"", ".1:0\""), ("::1]:8888\"", "::1]:0\"")]),
        ("causes", &causes(), &[]),
        ("nesting", &nesting("pitfall: nesting", "parse(text.as_bytes())"), &[]),
        ("nesting-limited", &nesting("pitfall: limited nesting", "parse(text.as_bytes(), 0)"), &[]),
    ] {
        sources.push(change(name, source, edits));
    }
    sources
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
    let sets: String = (0..10_001).map(|n| format!("set {n} x\n")).collect();
    let expected = "ok\n".repeat(10_000) + "full\n";
    assert!(response(server.address(), sets.as_bytes()) == expected.as_bytes());
    converse(&tcp(server.address()), &[("set 1 y", "ok"), ("get 1", "= y")]);
}

#[test]
fn slow_member_does_not_block_others() {
    let server = start_copy("chat");
    let silent = tcp(server.address());
    let [mut sender, mut receiver] = chat(server.address());
    let name = sender.local_addr().unwrap();
    let expected = |number: usize| format!("{name}: {number:04000}\n").into_bytes();
    let mut message = expected(0);
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
    let [mut sender, mut receiver] = [tcp(address), tcp(address)];
    receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let name = sender.local_addr().unwrap();
    let [hello, ready] = ["hello", "ready"].map(|text| format!("{name}: {text}\n").into_bytes());
    let mut message = vec![0; hello.len()];
    wait_until("the receiver is a member", || {
        sender.write_all(b"hello\n").unwrap();
        receiver.read(&mut message[..1]).is_ok_and(|length| length == 1)
    });
    receiver.set_read_timeout(Some(DEADLINE)).unwrap();
    receiver.read_exact(&mut message[1..]).unwrap();
    assert_eq!(message, hello);
    // More of them may be in flight.
    sender.write_all(b"ready\n").unwrap();
    while message != ready {
        receiver.read_exact(&mut message).unwrap();
    }
    [sender, receiver]
}

#[test]
fn chat_reports_line_that_is_too_long() {
    let server = start_copy("chat");
    tcp(server.address()).write_all(&[b'x'; 4 * 1024]).unwrap();
    assert!(server.wait_for_error("the line is too long").is_some());
}

#[test]
fn signal_ends_chat_with_idle_members() {
    let mut server = start_copy("chat");
    let members = chat(server.address());
    let left = tcp(server.address());
    let names = [&members[0], &members[1], &left].map(|member| member.local_addr().unwrap());
    for name in names {
        server.wait_for(&format!("{name} joined")).unwrap();
    }
    drop(left);
    server.wait_for(&format!("{} left", names[2])).unwrap();
    server.write(b"signal\n");
    // After the limit of the recipe, the code is 1.
    assert_eq!((server.exit_code(), server.stderr()), (0, String::new()));
    for (mut member, name) in members.iter().zip(names) {
        assert!(member.read_to_end(&mut Vec::new()).is_ok());
        assert!(server.stdout().contains(&format!("{name} left")), "{}", server.stdout());
    }
    assert!(server.wait_for("stopping, ").unwrap().ends_with(" connections open"));
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
        assert!(server.stdout().contains("\nstopping, "), "{name}: {}", server.stdout());
    }
    let mut server = start_copy("stop-udp");
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
    let mut server = start_copy("numbers");
    // The end of a line that is too long is not taken for a line.
    let long = [&[b'x'; 64 * 1024][..], b"stop\n"].concat();
    tcp(server.address()).write_all(&long).unwrap();
    assert!(server.wait_for_error("the line is too long").is_some());
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
    // The first column.
    let rows = tables.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let covered = rows.collect::<Vec<&str>>().join(" ");
    for name in names {
        assert!(covered.contains(&format!("`{name}`")), "{name} is in no table");
    }
}
