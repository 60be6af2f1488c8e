//! The fault kit: each fault on a server with exactly this defect. The module `survival` injects all of
//! them into our own servers.

pub mod survival;

use crate::support::*;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::{env, fs, iter, thread};
use tests::faults::{FAULTS, Verdict, advice};

const SERVER: &str = env!("CARGO_BIN_EXE_flawed-server");

/// Words for the kit, the defect of the server or "", and what the kit prints: parts that "…"
/// separates, the last of which may be the exit code. After the protocol, words without dashes are
/// faults.
type Row<'a> = [&'a str; 3];

#[rustfmt::skip]
const EVERYWHERE: &[Row] = &[
    // The slowest rows begin first.
    ["tcp silent-clients --clients 90", "serves in turn", "FAILS: hangs: one more client beside …: no … within 2 s"],
    ["tcp slow-clients --clients 90", "has 32 workers", "FAILS: hangs: one more client beside …: no … within 2 s"],
    ["tcp unfinished-requests --clients 90", "waits for the rest",
        "FAILS: hangs: one more client beside …: no … within 2 s"],
    ["tcp slow-clients --clients 50 --request abcdefghijklmnopqrstuvwxyz", "has 32 workers for 26 bytes",
        "FAILS: hangs: one more client beside …: no … within 2 s"],
    ["udp many-clients --clients 90", "amplifies",
        "survives (content not checked; amplifies: a spoofed source would get 600 bytes for 12; …clients in turn)"],
    ["udp empty-datagram", "needs 1 byte", "FAILS: exits: …length >= 1"],
    ["udp one-byte-datagram", "needs 2 bytes", "FAILS: exits: …length >= 2"],
    ["udp truncated-request", "needs a line end", "FAILS: exits: …ends_with"],
    ["udp largest-datagram", "cuts", "FAILS: loses data: lost …,…of "],
    ["udp largest-datagram", "echoes", "survives…replies to Abc with Abc."],
    ["udp flood", "queues", "FAILS: hangs: no reply within 1 s afterwards"],
    ["udp flood", "mixes clients", "FAILS: loses data: …one of …replies to one of 4 clients"],
    ["udp flood", "replies from another port", "survives…from another port."],
    ["udp empty-datagram", "replies late at first", "replies to Abc with ABC.\n"],
    ["udp largest-datagram --request abc", "cuts", "FAILS: loses data: lost …,…of "],
    ["udp many-clients --clients 90 largest-datagram --request abc", "",
        "many-clients survives (90 clients in turn)…datagram survives\n"],
    ["udp largest-datagram flood --request ping", "accepts pings only",
        "datagram survives (reply not checked)…flood survives…replies with 4 bytes."],
    ["udp --start 5 --request ab --reply xyz", "", "fault-kit: …\"AB\", which does not contain --reply"],
    ["udp --start 1", "never replies", "fault-kit: …pass --request"],
    ["tcp disconnect unfinished-requests slow-clients --clients 90", "",
        "disconnect survives…requests survives (90 clients)…\
         slow-clients survives (90 clients)…replies to Abc with ABC."],
    ["tcp empty-connection", "needs a byte", "FAILS: exits: …4"],
    ["tcp empty-connection", "closes all", "FAILS: drops clients: a client that was connected before: "],
    ["tcp half-close", "sends CR", "survives"],
    ["tcp half-close", "reads once", if cfg!(windows) { "FAILS: loses data: " } else { "FAILS: loses data: lost " }],
    ["tcp one-byte-at-a-time client-that-never-reads", "reads once",
        "FAILS: loses data…not tried: the server replies once…It replies once over each connection."],
    ["tcp half-close", "stays at end", "FAILS: hangs: the connection stays open after the client's end for 1 s"],
    ["tcp one-byte-at-a-time", "acknowledges",
        "survives (content not checked)…go unnoticed. Pass --request and --reply."],
    ["tcp invalid-utf-8 split-utf-8", "needs UTF-8", "invalid-utf-8 FAILS: exits: …FromUtf8Error…split-utf-8 FAILS: "],
    ["tcp invalid-utf-8", "greets", "survives…It greets each client."],
    ["tcp split-utf-8", "decodes each read", "FAILS: loses data: replied with other bytes"],
    ["tcp split-utf-8 --patience 1", "drops what is not ASCII", "not tried: the same in one part: lost 6 of 13 bytes"],
    ["tcp split-utf-8 --request ab\\n", "", "not tried: the request has no character of several bytes"],
    ["tcp invalid-utf-8 --request AB\\r\\n", "acknowledges", "survives…replies with 8 bytes."],
    ["tcp invalid-utf-8 --request ab\\r\\n --reply A\\x42", "", "survives…replies as given."],
    ["tcp invalid-utf-8 --request ab --reply AB", "ends late", "survives…as given. It replies once"],
    ["tcp invalid-utf-8 --request ax --reply AX", "", "survives"], // the reply to an error is none
    ["tcp invalid-utf-8 --request ab --reply bytes", "acknowledges",
        "survives…\nThe reply to \"????????\\r\\n\\r\\n\" contains"],
    ["tcp invalid-utf-8 --reply 220 --request ", "only greets", "survives…as given. It replies once"],
    ["tcp reset-while-reading reset-while-writing --patience 5", "exits on write error",
        "reading survives…writing FAILS: exits: "],
    ["tcp reset-while-reading", "exits on read error", "FAILS: exits: "],
    ["tcp invalid-utf-8", "replies once after invalid UTF-8",
        "FAILS: loses data: closed without a reply to the second request"],
    ["tcp reset-while-reading --request ab\\n", "replies with errors after a reset",
        "FAILS: …replied with \"error 500"],
    ["tcp reset-while-reading --request ab\\n --patience 1", "counts", "survives"],
    ["tcp silent-clients --clients 20 --patience 1", "replies to one request",
        "survives…replies once over each connection."],
    ["tcp invalid-utf-8 --reply 220 --patience 2", "greets",
        "fault-kit: its greeting …contains the reply: pass --request ''"],
    ["tcp client-that-never-reads", "queues", "FAILS: grows: took 64 MiB although no reply was read, and …grew by"],
    ["tcp burst-of-connections --clients 200", "refuses",
        "FAILS: drops clients: …of 200 clients were not served, the first: "],
    ["tcp burst-of-connections --clients 9", "refuses", "survives (9 clients)"],
    ["tcp disconnect half-close", "exits soon", "FAILS: exits: …2 clients…not tried: it exits without the fault"],
    ["tcp half-close --expect half-close", "reads once",
        "FAILS: loses data…  This was expected.…\n0 survived, 0 failed, 1 failed as expected, 0 not tried…exit code 0"],
    ["tcp half-close --expect half-close", "",
        "half-close survives\n…It did not fail: remove --expect.\n0 survived, 1 failed, 0 not tried…exit code 1"],
    ["tcp --strict client-that-never-reads", "reads once",
        "not tried: …--strict: this is a failure.\n\
         0 survived, 0 failed, 1 not tried (a failure by --strict)\n…exit code 1"],
    ["tcp --strict --only half-close,disconnect --skip disconnect", "",
        "disconnect not tried: skipped\nhalf-close survives\nThe kit cannot show …\n1 survived"],
];

#[cfg(target_os = "linux")]
#[rustfmt::skip]
const LINUX: &[Row] = &[
    // The slowest rows begin first.
    ["tcp descriptors-exhausted half-close --repeat 1 --patience 5", "serves in turn",
        "not tried: the server accepts fewer connections…repeat not tried: the server survives no fault beside"],
    // Under Wine, its write does not end when the client resets the connection.
    ["tcp invalid-utf-8 client-that-never-reads slow-clients --patience 5", "serves in turn",
        "invalid-utf-8 survives…reads survives…see silent-clients…\
         slow-clients not tried: the server serves one client at a time…It serves one client at a time."],
    ["tcp descriptors-exhausted", "spins on accept error", "FAILS: spins: uses a whole core"],
    ["tcp reset-while-reading", "leaks after a reset", "FAILS: leaks: 2…more open descriptors, then 2"],
    ["tcp reset-while-reading --patience 1", "collects garbage", "survives"],
    ["tcp reset-while-reading --patience 1", "fills a pool", "survives"],
    ["udp empty-datagram", "leaks", "survives"],
    ["tcp disconnect", "burns threads at end", "FAILS: spins: uses a whole core while idle, for "],
    ["tcp line-without-an-end", "stores lines", "FAILS: grows: took 100 MiB for a line without an end"],
    ["tcp descriptors-exhausted", "exits on accept error", "FAILS: exits: …os error 24"],
    ["tcp descriptors-exhausted", "starts processes", "not tried: the server starts a process per connection"],
    ["tcp reset-while-reading", "in 4 processes, exits on read error", "FAILS: exits: …of 5 processes: "],
    ["tcp reset-while-reading", "in 4 processes, echoes", "survives"],
    ["tcp suspend-and-resume --patience 5", "times out", "FAILS: loses data: closed without a reply"],
    // It is started again.
    ["tcp reset-while-reading suspend-and-resume --patience 5", "exits on read error",
        "FAILS: exits: …resume survives"],
    ["udp suspend-and-resume", "times out", "FAILS: exits: …Interrupted"],
    ["udp closed-output", "logs", "survives"],
    ["udp closed-output unread-output", "prints",
        "FAILS: exits: …FAILS: hangs: no reply within 1 s once the pipe is full"],
    ["udp closed-output", "prints errors", "FAILS: exits: "],
    ["udp closed-output flood --repeat 1", "",
        "not tried: the server writes nothing…flood survives…repeat survives (…faults among …honest requests; memory "],
    ["tcp many-clients --clients 90 half-close --repeat 1", "",
        "many-clients survives (…repeat survives (…faults among …honest requests; memory "],
    ["tcp half-close --repeat 60", "wears out", "half-close survives…repeat FAILS: exits: …Each fault alone"],
    ["udp unread-output", "prints once", "not tried: the server writes nothing"],
    ["udp unread-output", "logs text", "survives (control characters of a request appear in its output)"],
    ["tcp many-clients --clients 90", "leaks threads", "FAILS: leaks: its threads and processes become more: ["],
    ["udp flood --no-reply", "never replies", "survives…never replies."],
    ["tcp half-close --no-reply", "never replies", "survives"],
    ["tcp half-close --no-reply", "stops reading", "FAILS: hangs: a request is unread after 1 s"],
];

#[rustfmt::skip]
const PYTHON: &[Row] = &[
    ["tcp client-error-in-accept", "needs a peer", "FAILS: exits: …NotConnected"],
    ["tcp client-error-in-accept --patience 1", "exits when resumed", "not tried: it exits without the fault"],
    ["tcp reset-while-reading", "reads once", "survives"],
];

/// Python's `socketserver` does not set SO_REUSEADDR unless it is told to.
const RESTARTED: &str = "\
import socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while request := self.request.recv(1024):
            self.request.sendall(request)
socketserver.TCPServer.allow_reuse_address = sys.argv[2] == 'True'
socketserver.ThreadingTCPServer(('127.0.0.1', int(sys.argv[1])), Echo).serve_forever()
";

/// It ends on the errors of earlier replies unless it ignores them.
const REFUSED: &str = "\
import sys; from socket import *
server = socket(AF_INET, SOCK_DGRAM)
server.bind(('127.0.0.1', int(sys.argv[1])))
server.setsockopt(IPPROTO_IP, 11, 1)  # IP_RECVERR: ICMP errors are reported, as on Windows
while True:
    try:
        server.sendto(*server.recvfrom(1024))
    except eval(sys.argv[2]):
        pass
";

/// Runs the kit, and asserts what it prints, which is returned, and its exit code: 0 without a failure,
/// unless `expected` has another. `arguments` and `expected` are as in a [`Row`].
#[track_caller]
fn assert_kit(arguments: &str, server: &[&str], expected: &str) -> String {
    let mut kit = command_with_descriptors(env!("CARGO_BIN_EXE_fault-kit"));
    kit.args(["--start", "60"]); // on a busy machine
    let mut is_value = true;
    for word in arguments.split(' ') {
        let is_fault = !is_value && FAULTS.iter().any(|fault| fault.name == word);
        kit.args(is_fault.then_some("--only")).arg(word);
        is_value = word.starts_with("--") && !["--no-reply", "--strict"].contains(&word);
    }
    kit.args((!server.is_empty()).then_some("--")).args(server);
    let (code, text) = finish(&mut kit);
    let without_duration = |line: &str| match line.split_once(" s  ") {
        Some((name, verdict)) => format!("{} {verdict}\n", name.split(' ').next().unwrap()),
        None => format!("{line}\n"),
    };
    let output: String = text.lines().map(without_duration).collect();
    let is_code = match expected.split_once("…exit code ") {
        Some((_, expected)) => expected == code.to_string(),
        None if expected.starts_with("fault-kit:") => code == 3,
        None => code == i32::from(expected.contains("FAILS")),
    };
    let mut parts = expected.split('…').filter(|part| !part.starts_with("exit code "));
    assert!(
        is_code && parts.all(|part| output.contains(part)),
        "{arguments} with {server:?}: expected {expected:?}: exit code {code}, {output}"
    );
    output
}

/// Returns the command for a server with a defect.
fn flawed<'a>(protocol: &'a str, defect: &'a str) -> [&'a str; 4] {
    [SERVER, protocol, "{port}", defect]
}

/// Starts a server with a defect.
fn start_flawed(protocol: &str, defect: &str) -> (Process, SocketAddr) {
    let address = unused_address();
    let mut server = Command::new(SERVER);
    (Process::spawn(server.args([protocol, &address.port().to_string(), defect])), address)
}

/// Checks rows, several at a time, since a kit mostly waits.
fn check(rows: &[Row]) {
    let at_a_time = 8; // each kit takes several descriptors of this process
    let check = |[words, defect, expected]: &Row| {
        let protocol = words.split(' ').next().unwrap();
        // Most failures are waited for. An exit, or none, is not, however busy the system is.
        let is_fast = |failure: &str| failure.starts_with("exits");
        let patience = if expected.split("FAILS: ").skip(1).all(is_fast) { 20 } else { 1 };
        let arguments = words.replacen(protocol, &format!("{protocol} --patience {patience}"), 1);
        assert_kit(&arguments, &flawed(protocol, defect), expected);
    };
    let rows = Mutex::new(rows.iter());
    let next = || rows.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| iter::from_fn(next).for_each(check));
        }
    });
}

#[test]
fn faults_that_every_system_has() {
    check(EVERYWHERE);
}

#[test]
fn server_that_cannot_be_checked_is_no_verdict() {
    let port = unused_address().port().to_string();
    assert_kit("udp", &["/no/such", "{port}"], "fault-kit: cannot start /no/such");
    assert_kit("tcp", &[SERVER, "tcp", "99999", "{port}"], "fault-kit: the server exited: ");
    let hint = format!("…listens on TCP port {port}: pass --port {port}");
    let hint = if cfg!(target_os = "linux") { hint } else { String::new() };
    let expected = format!("fault-kit: no reply from 127.0.0.1:{hint}");
    assert_kit("tcp --start 1", &[SERVER, "tcp", &port, "{port}"], &expected);
}

#[test]
fn running_server_is_not_started_again() {
    let (_server, address) = start_flawed("tcp", "exits on read error");
    assert_kit(&format!("tcp closed-output {address}"), &[], "not tried: needs the command");
    let faults = "half-close reset-while-reading reset-while-writing";
    let expected = "half-close survives\n…\
        reset-while-reading FAILS: exits: no longer listens\n…\
        reset-while-writing not tried: the server no longer replies\n…\
        \n1 survived, 1 failed, 1 not tried\n";
    assert_kit(&format!("tcp --patience 2 {faults} {address}"), &[], expected);
}

#[test]
fn failure_that_does_not_repeat_itself_is_flaky() {
    let folder = empty_folder("flaky");
    let file = folder.join("exited");
    let defect = format!("exits once {}", file.display());
    for (option, code) in [("", 0), (" --strict", 1)] {
        let words = format!("tcp{option} --patience 20 reset-while-reading");
        let expected = format!("flaky: exits: exit …: 6: …exit code {code}");
        assert_kit(&words, &flawed("tcp", &defect), &expected);
        fs::remove_file(&file).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn server_starts_on_another_port_if_first_is_in_use() {
    let used = empty_folder("used-port").join("used");
    let script = "test -e \"$0\" && exec \"$@\"; touch \"$0\"; echo Address in use >&2; exit 1";
    let file = used.display().to_string();
    let server = ["sh", "-c", script, &file, SERVER, "tcp", "{port}"];
    assert_kit("tcp disconnect", &server, "disconnect survives");
    assert!(used.exists());
}

#[test]
fn command_line() {
    let list = assert_kit("--list", &[], "");
    let page = fs::read_to_string(repository("docs/fault-kit.md")).unwrap();
    for fault in FAULTS {
        assert!(list.contains(fault.name) && list.contains(fault.hint), "{list}");
        // That such a link leads to a heading is tested for all pages.
        assert!(page.contains(&format!("[{0}](pitfalls.md#{0})", fault.name)), "{}", fault.name);
    }
    let list = assert_kit("--list udp", &[], "own-address");
    assert!(!list.contains("half-close"), "{list}");
    assert_kit("udp --help", &[], "--only NAME");
    for wrong in [
        "udp",
        "sctp 127.0.0.1:1",
        "tcp 192.0.2.1:80",
        "tcp 0.0.0.0:80",
        "tcp 127.0.0.1",
        "tcp 127.0.0.1:1 127.0.0.1:2",
        "tcp -- server",
        "--only half-close --only own-address tcp 127.0.0.1:1",
        "--skip own-address tcp 127.0.0.1:1",
        "tcp --request \\q 127.0.0.1:1",
        "tcp --request \\x+1 127.0.0.1:1",
        "tcp --request @/no/such/file 127.0.0.1:1",
        "tcp --port 0 -- server",
        "tcp --start -1 -- server {port}",
        "tcp --patience 0 -- server {port}",
        "tcp --clients 0 -- server {port}",
        "tcp --repeat -1 -- server {port}",
        "tcp --expect own-address 127.0.0.1:1",
    ] {
        assert_kit(wrong, &[], "fault-kit: …exit code 2");
    }
}

/// A fault, a symptom, the details, and a part of the advice.
#[rustfmt::skip]
const ADVICE: &[[&str; 4]] = &[
    ["half-close", "loses data", "lost 9 of 10 bytes", "Read and reply until a read returns 0."],
    ["half-close", "loses data", "closed without a reply", "http1::Builder::half_close(true)"],
    ["half-close", "hangs", "the connection stays open", "after fork, in the parent as well"],
    ["disconnect", "leaks", "9 more open descriptors", "reap children"],
    ["disconnect", "exits", "exit status: 1: Error: read ECONNRESET", "socket.on(\"error\""],
    ["client-that-never-reads", "exits", "signal: 13 (SIGPIPE)", "The reset at the end"],
    ["client-that-never-reads", "hangs", "no reply", "Stop reading while a write is pending"],
    ["line-without-an-end", "hangs", "no reply", "Between pipes, read and write in two threads"],
];

#[test]
fn advice_depends_on_symptom() {
    for [fault, symptom, details, expected] in ADVICE {
        let advice = advice(fault, &Verdict::Fails(symptom, details.to_string()));
        assert!(advice[0].contains(expected), "{fault}: {symptom}: {details}: {advice:?}");
        assert_eq!(advice[1], format!("docs/pitfalls.md#{fault}"));
    }
}

#[test]
fn junit() {
    let folder = empty_folder("junit");
    let file = folder.join("kit.xml");
    let report = |words: &str, server: &[&str], code, parts: &[&str]| {
        let words = format!("{words} --junit {}", file.display());
        assert_kit(&words, server, &format!("…exit code {code}"));
        let xml = fs::read_to_string(&file).unwrap();
        assert!(parts.iter().all(|part| xml.contains(part)), "{parts:?}: {xml}");
    };
    let suite = format!("name=\"fault-kit tcp {SERVER} tcp {{port}} reads once\"");
    let verdicts = [
        &*format!("<testsuite {suite} tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\">"),
        &format!("<testcase class{suite} name=\"half-close\" time=\""),
        "never-reads\" time=\"0.000\"><skipped message=\"not tried: skipped\"/>",
        "<failure type=\"loses data\" message=\"FAILS: loses data: ",
        "until a read returns 0.\ndocs/pitfalls.md#half-close</failure>",
    ];
    let skips = "tcp half-close client-that-never-reads --skip client-that-never-reads disconnect";
    let (reads_once, acknowledges) = (flawed("tcp", "reads once"), flawed("tcp", "acknowledges"));
    report(skips, &reads_once, 1, &verdicts);
    report("tcp --strict client-that-never-reads", &reads_once, 1, &["failures=\"1\""]);
    let unchecked = "<system-out>survives (content not checked)</system-out>";
    report("tcp one-byte-at-a-time", &acknowledges, 0, &[unchecked]);
    let error = ["errors=\"1\"", "<error message=\"no reply from "];
    report(&format!("tcp --start 0.1 {}", unused_address()), &[], 3, &error);
    fs::remove_file(&file).unwrap();
    let no_port = format!("tcp --junit {}", file.display());
    assert_kit(&no_port, &["server"], "…exit code 2");
    assert!(!file.exists());
}

#[test]
#[ignore = "needs python3"]
fn faults_by_python() {
    check(PYTHON);
    for (words, script, argument, expected) in [
        ("tcp restart", RESTARTED, "True", "survives"),
        ("tcp restart", RESTARTED, "False", "FAILS: exits: …in use"),
        ("udp departed-client", REFUSED, "ConnectionRefusedError", "survives"),
        ("udp departed-client", REFUSED, "()", "FAILS: …Connection refused"),
    ] {
        assert_kit(words, &["python3", "-c", script, "{port}", argument], expected);
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn faults_of_processes() {
        check(LINUX);
    }

    #[test]
    fn server_on_port_of_its_own_is_started_again() {
        let port = unused_address().port().to_string();
        let arguments = format!("tcp --port {port} half-close");
        let server = [SERVER, "tcp", &port, "exits at end"];
        assert_kit(&arguments, &server, "fault-kit:…after a request and a disconnect");
        let faults = "reset-while-reading descriptors-exhausted suspend-and-resume";
        let server = [SERVER, "tcp", &port, "exits on read error"];
        let expected = "FAILS…\n1 survived, 1 failed, 1 not tried\n";
        assert_kit(&format!("tcp --port {port} {faults}"), &server, expected);
    }

    /// The kit needs as many as the processes together.
    #[test]
    #[ignore = "needs 1,024 descriptors"]
    fn descriptors_of_several_processes_are_exhausted() {
        let defect = "in 4 processes, exits on accept error";
        check(&[["tcp descriptors-exhausted", defect, "FAILS: exits: …os error 24"]]);
    }

    /// Descendants such as that of `go run` are not the process that was started; nor are daemons.
    #[test]
    fn descendants_and_daemons_are_observed_and_killed() {
        const CHILD: &str = r#""$0" tcp "$1" <&0; true"#;
        const DAEMON: &str = r#"sleep 600 | setsid "$0" tcp "$1" "$2" & exit 0"#;
        for (script, words, defect, expected) in [
            (CHILD, "tcp suspend-and-resume", "", "survives"),
            (DAEMON, "tcp --patience 1 disconnect", "spins at end", "FAILS: spins: "),
        ] {
            let server = ["sh", "-c", script, SERVER, "{port}", defect];
            let output = assert_kit(words, &server, expected);
            let address: SocketAddr = output.split(' ').next().unwrap().parse().unwrap();
            wait_until("the server is killed", || TcpStream::connect(address).is_err());
        }
    }

    #[test]
    fn server_ends_with_killed_kit() {
        let folder = empty_folder("killed-kit");
        let file = folder.join("kit.xml");
        for signal in ["KILL", "TERM"] {
            let mut kit = Command::new(env!("CARGO_BIN_EXE_fault-kit"));
            let script = "sleep 600 | \"$0\" tcp \"$1\"";
            kit.arg("--junit").arg(&file).args(["tcp", "--", "sh", "-c", script, SERVER, "{port}"]);
            let mut kit = Process::spawn(&mut kit);
            let line = kit.wait_for(" replies to Abc").unwrap();
            let address: SocketAddr = line.split(' ').next().unwrap().parse().unwrap();
            crate::support::signal(signal, &[kit.id()]);
            assert_eq!(kit.exit_code(), -1);
            let report = fs::read_to_string(&file).unwrap();
            assert!(report.contains("<error message=\"the kit has not finished\"/>"), "{report}");
            wait_until("the server is killed", || TcpStream::connect(address).is_err());
        }
    }
}

mod needs_root {
    use super::*;

    #[test]
    #[ignore = "needs root and python3"]
    fn forged_datagrams() {
        check(&[["udp source-port-0", "exits on error", "FAILS: exits: …Invalid argument"]]);
        let (_server, address) = start_flawed("udp", "replies to itself");
        let expected = "FAILS: spins: replied to itself ";
        assert_kit(&format!("udp own-address {address}"), &[], expected);
        // The kit has stopped the loop.
        assert_kit(&format!("udp one-byte-datagram {address}"), &[], "survives");
    }
}
