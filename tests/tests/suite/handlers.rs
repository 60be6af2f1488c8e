//! The servers with other handlers: whatever stands in `handle`, the code around it protects the
//! server from its clients and from `handle` itself.

use crate::command_line::default_of;
use crate::copying::copied;
use crate::support::*;

/// Servers with code before the first statement of `handle`: name, origin, code.
const EXTENDED: [[&str; 3]; 5] = [
    ["udp-echo-faulty", "udp-echo-server", FAULTY_DATAGRAM],
    ["udp-threaded-faulty", "udp-threaded-server", FAULTY_DATAGRAM],
    ["tcp-threaded-faulty", "tcp-threaded-server", FAULTY_STREAM],
    ["udp-threaded-stopping", "udp-threaded-server", STOPPING_DATAGRAM],
    [
        "tcp-threaded-stopping",
        "tcp-threaded-server",
        "if stream.peek(&mut [0; 5])? == 4 { self.stop(); }",
    ],
];

/// The first request waits until the test closes a connection.
const STOPPING_DATAGRAM: &str = r#"
        if let Some(address) = request.strip_prefix(b"wait for ") {
            let address = String::from_utf8_lossy(address).into_owned();
            std::io::Read::read(&mut std::net::TcpStream::connect(address)?, &mut [0])?;
        } else if request == b"stop" {
            self.stop();
        }
"#;

/// Sending to port 0 fails, as does replying to a spoofed datagram from port 0.
const FAULTY_DATAGRAM: &str = r#"
        if request == b"panic" {
            panic!("panic on request");
        }
        if request == b"fail" {
            self.socket.send_to(request, (std::net::Ipv4Addr::LOCALHOST, 0))?;
        }
"#;

const FAULTY_STREAM: &str = r#"
        let mut start = [0; 5];
        let start = stream.peek(&mut start).map(|length| &start[..length])?;
        if start == b"panic" {
            panic!("panic on request");
        }
        if start == b"fail" {
            return Err(io::Error::other("failure on request"));
        }
"#;

/// Servers with another body of `handle`.
const REPLACED: [[&str; 3]; 6] = [
    ["udp-basic-lengths", "udp-basic-server", "info!(\"{} bytes\", request.len());"],
    ["udp-echo-twice", "udp-echo-server", TWICE],
    ["udp-threaded-twice", "udp-threaded-server", TWICE],
    [
        "tcp-threaded-options",
        "tcp-threaded-server",
        "let (read, write) = (stream.read_timeout()?, stream.write_timeout()?);
         write!(stream, \"{read:?} {write:?} {:?}\", stream.nodelay()?)",
    ],
    [
        "tcp-threaded-reading",
        "tcp-threaded-server",
        "let length = stream.read_to_end(&mut Vec::new())?;
         write!(stream, \"{length}\")",
    ],
    ["tcp-threaded-writing", "tcp-threaded-server", "loop { stream.write_all(&[0; 65_536])?; }"],
];

const TWICE: &str = "
        request.make_ascii_uppercase();
        self.socket.send_to(request, client)?;
        self.socket.send_to(request, client)?;
        Ok(())";

/// Returns the names and sources of all these servers.
pub fn sources() -> Vec<(String, String)> {
    let extended = EXTENDED.iter().map(|variant| (variant, false));
    let variants = extended.chain(REPLACED.iter().map(|variant| (variant, true)));
    let source = |[name, origin, code]: &[&'static str; 3], is_replaced| {
        let (_, source) = tests::copying::source(origin).unwrap();
        let (before, handle) = source.split_once("    fn handle(").expect("it has a handler");
        let (signature, rest) = handle.split_once(" {\n").expect("the handler has a body");
        let (body, after) = rest.split_once("\n    }\n").expect("the body ends");
        let body = if is_replaced { "" } else { body };
        // A replaced handler leaves names unused.
        let allow = "#![allow(unused)]\n";
        let handle = format!("    fn handle({signature} {{\n{code}\n{body}\n    }}\n");
        (format!("bin/{name}.rs"), format!("{allow}{before}{handle}{after}"))
    };
    variants.map(|(variant, is_replaced)| source(variant, is_replaced)).collect()
}

fn start(name: &str, options: &[&str]) -> Server {
    Server::listening(Command::new(copied(name)).arg("127.0.0.1:0").args(options))
}

/// Returns the options by which losing a worker of a threaded server stops it from serving.
fn one_worker(name: &str) -> &'static [&'static str] {
    if name.contains("threaded") { &["--workers", "1"] } else { &[] }
}

/// How often std has printed that the handler panicked.
fn panics(server: &Server) -> usize {
    server.stderr().lines().filter(|line| *line == "panic on request").count()
}

#[test]
fn panic_costs_datagram_but_no_worker() {
    for [name, origin, _] in &EXTENDED[..2] {
        let mut server = start(name, &[one_worker(name), &["--count", "7"]].concat());
        let socket = udp(server.address());
        let client = socket.local_addr().unwrap();
        for round in 1..=2 {
            socket.send(b"panic").unwrap();
            socket.send(b"fail").unwrap();
            let message = format!("round {round}");
            // It is the first reply.
            let reply = request(&socket, message.as_bytes());
            assert_eq!(reply, message.to_uppercase().as_bytes(), "{name}");
        }
        socket.send(b"panic").unwrap();
        // Every datagram counts, and a panic in the last one changes nothing.
        assert_eq!(server.exit_code(), 0, "{name}");
        assert_eq!(panics(&server), 3, "{name}");
        let line = format!("{origin}: {client}: ");
        // The second failure gives the same line, which is logged once per minute.
        assert_eq!(server.stderr().matches(&line).count(), 1, "{}", server.stderr());
    }
}

#[test]
fn panic_costs_connection_but_no_worker() {
    let mut server = start("tcp-threaded-faulty", &["--workers", "1", "--count", "7"]);
    for _ in 0..2 {
        for request in ["panic", "fail"] {
            let mut stream = tcp(server.address());
            stream.write_all(request.as_bytes()).unwrap();
            let client = stream.local_addr().unwrap();
            assert_eq!(read_to_end(&stream), b"");
            if request == "fail" {
                let line = format!("tcp-threaded-server: {client}: failure on request");
                assert_eq!(server.wait_for_error(&format!("{client}: ")), Some(line));
            }
        }
        assert_eq!(response(server.address(), b"hello"), b"HELLO");
    }
    tcp(server.address()).write_all(b"panic").unwrap();
    assert_eq!(server.exit_code(), 0);
    assert_eq!(panics(&server), 3);
}

#[test]
fn panic_leaves_no_worker_busy() {
    let server = start("tcp-threaded-faulty", &["--workers", "4", "--idle-timeout", "600"]);
    for _ in 0..4 {
        let mut stream = tcp(server.address());
        stream.write_all(b"panic").unwrap();
        assert_eq!(read_to_end(&stream), b"");
    }
    // It would be the fifth, and have to send at once.
    let stream = tcp(server.address());
    thread::sleep(Duration::from_millis(600)); // what is tested: nothing happens
    assert_eq!(exchange(&stream, b"hello"), b"HELLO");
}

#[test]
fn quiet_server_logs_no_failed_request() {
    for [name, origin, _] in &EXTENDED[..3] {
        let mut server = start(name, &[one_worker(name), &["--count", "2", "--quiet"]].concat());
        for request in ["panic", "fail"] {
            if name.starts_with("tcp") {
                tcp(server.address()).write_all(request.as_bytes()).unwrap();
            } else {
                udp(server.address()).send(request.as_bytes()).unwrap();
            }
        }
        assert_eq!(server.exit_code(), 0, "{name}");
        // What std prints about a panic remains.
        assert_eq!(panics(&server), 1, "{name}");
        assert!(!server.stderr().contains(&format!("{origin}: ")), "{name}");
    }
}

#[test]
fn handler_gets_timeouts_and_nodelay() {
    let default = default_of("tcp-threaded-server", "--idle-timeout");
    let default_shown = format!("Some({default}s) Some({default}s) true");
    for (option, expected) in [
        ("--idle-timeout=1.5", "Some(1.5s) Some(1.5s) true"),
        ("--idle-timeout=0", "None None true"),
        ("--quiet", &default_shown),
    ] {
        let mut server = start("tcp-threaded-options", &[option, "--count", "1"]);
        let shown = response(server.address(), b"");
        assert_eq!(String::from_utf8_lossy(&shown), expected, "{option}");
        assert_eq!(server.exit_code(), 0);
    }
}

#[test]
fn silent_client_blocks_no_handler() {
    // One waits for the end of the request, the other writes forever to a client that never reads.
    for name in ["tcp-threaded-reading", "tcp-threaded-writing"] {
        let options = ["--workers", "1", "--idle-timeout", "1", "--count", "2"];
        let mut server = start(name, &options);
        let silent = tcp(server.address());
        let line = format!("tcp-threaded-server: {}: timed out: ", silent.local_addr().unwrap());
        assert!(server.wait_for_error("").unwrap().starts_with(&line));
        let mut newcomer = tcp(server.address());
        newcomer.shutdown(Shutdown::Write).unwrap();
        newcomer.read_exact(&mut [0]).unwrap();
        drop(newcomer);
        assert_eq!(server.exit_code(), 0);
    }
}

#[test]
fn clients_ignore_second_reply() {
    let lines: String = (0..100).map(|number| format!("line {number}\n")).collect();
    for [name, origin, _] in &REPLACED[1..3] {
        let mut server = start(name, &[one_worker(name), &["--count", "101"]].concat());
        let socket = udp(server.address());
        assert_eq!(request(&socket, b"hello"), b"HELLO");
        assert_eq!(receive(&socket).0, b"HELLO");
        let arguments = ["--timeout=30", &server.address().to_string(), "-"];
        let output = output(&origin.replace("server", "client"), &arguments, &*lines);
        let mut replies: Vec<&str> = output.lines().collect();
        // Messages in flight at the same time are replied to in any order.
        if origin.starts_with("udp-threaded") {
            replies.sort_by_key(|reply| reply[5..].parse::<u32>().unwrap());
        }
        assert!(replies.join("\n") + "\n" == lines.to_uppercase(), "{name}: {output}");
        // A datagram counts once, whatever the number of replies.
        assert_eq!(server.exit_code(), 0);
    }
}
