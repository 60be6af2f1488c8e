//! The fault kit: each fault on a server that survives it, and on one with exactly this defect.

use crate::support::*;
use tests::candidates::CANDIDATES;
use tests::faults::Protocol::{Tcp, Udp};
use tests::faults::{FAULTS, Options, Protocol, Target, Verdict, inject};
use tests::survival::{column, column_of, committed, picture};

const SERVER: &str = env!("CARGO_BIN_EXE_flawed-server");

/// Injects faults into servers. A row is the fault, the server's defect or "", and the verdict.
#[track_caller]
fn assert_verdicts(protocol: Protocol, rows: &[[&str; 3]]) {
    let check = |[fault, defect, expected]: &[&str; 3]| {
        let verdict = verdict(fault, &mut server(protocol, defect));
        let failure = format!("{fault} with {defect:?}: expected {expected:?}: {verdict}");
        (!matches(&verdict, expected)).then_some(failure)
    };
    for rows in rows.chunks(4) {
        let wrong: Vec<String> = thread::scope(|scope| {
            let checks: Vec<_> = rows.iter().map(|row| scope.spawn(move || check(row))).collect();
            checks.into_iter().filter_map(|check| check.join().unwrap()).collect()
        });
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// Injects a fault and asserts that the verdict contains these parts, which "…" separates.
#[track_caller]
fn assert_verdict(fault: &str, target: &mut Target, expected: &str) {
    let verdict = verdict(fault, target);
    assert!(matches(&verdict, expected), "{fault}: expected {expected:?}: {verdict}");
}

fn matches(verdict: &str, expected: &str) -> bool {
    expected.split('…').all(|part| verdict.contains(part))
}

fn verdict(fault: &str, target: &mut Target) -> String {
    match inject(fault, target) {
        Verdict::Fails(symptom, details) => format!("{symptom}: {details}"),
        other => other.to_string(),
    }
}

/// Starts a server by its command, in which `{port}` stands for its port.
fn start(protocol: Protocol, mut options: Options, command: &[&str]) -> Result<Target, Verdict> {
    options.start = DEADLINE;
    let words: Vec<String> = command.iter().map(ToString::to_string).collect();
    Target::start(protocol, options, move |port: u16| {
        let mut command = Command::new(&words[0]);
        command.args(words[1..].iter().map(|word| word.replace("{port}", &port.to_string())));
        command
    })
}

fn server(protocol: Protocol, defect: &str) -> Target {
    with_options(protocol, Options::default(), defect)
}

#[track_caller]
fn with_options(protocol: Protocol, options: Options, defect: &str) -> Target {
    let started = start(protocol, options, &[SERVER, protocol.name(), "{port}", defect]);
    started.unwrap_or_else(|verdict| panic!("{protocol:?} with {defect:?}: {verdict}"))
}

#[test]
fn datagrams() {
    let rows = [
        ["empty-datagram", "", "survives"],
        ["empty-datagram", "needs 1 byte", "exits: …length >= 1"],
        ["one-byte-datagram", "", "survives"],
        ["one-byte-datagram", "needs 2 bytes", "exits: …length >= 2"],
        ["truncated-request", "", "survives"],
        ["truncated-request", "needs a line end", "exits: …ends_with"],
        ["largest-datagram", "cuts", "loses data: lost …,…of "],
        ["largest-datagram", "echoes", "survives"],
        ["flood", "", "survives"],
        ["flood", "queues", "hangs: no reply within 5 s afterwards"],
    ];
    assert_verdicts(Udp, &rows);
}

#[test]
fn connections() {
    // Windows discards what was sent before a close with unread bytes.
    let lost = if cfg!(windows) { "loses data: " } else { "loses data: lost " };
    let rows = [
        ["disconnect", "", "survives"],
        ["empty-connection", "", "survives"],
        ["empty-connection", "needs a byte", "exits: exited (…4)"],
        ["empty-connection", "closes all", "drops clients: a client that was connected before: "],
        ["half-close", "sends CR", "survives"],
        ["half-close", "reads once", lost],
        ["half-close", "stays at end", "hangs: the connection is open 5 s after"],
        ["one-byte-at-a-time", "", "survives"],
        ["one-byte-at-a-time", "acknowledges", "survives"],
        ["one-byte-at-a-time", "reads once", lost],
        ["invalid-utf-8", "", "survives"],
        ["invalid-utf-8", "needs UTF-8", "exits: …FromUtf8Error"],
        ["reset-while-reading", "exits on write error", "survives"],
        ["reset-while-reading", "exits on read error", "exits: exited"],
        ["reset-while-writing", "", "survives"],
        ["reset-while-writing", "exits on write error", "exits: exited"],
        ["client-that-never-reads", "reads once", "not tried: the server replies once"],
        ["client-that-never-reads", "", "survives"],
        ["client-that-never-reads", "serves in turn", "hangs: no reply"],
        [
            "client-that-never-reads",
            "queues",
            "grows: took 64 MiB although no reply was read, and …grew by",
        ],
    ];
    assert_verdicts(Tcp, &rows);
}

/// Each of these opens up to 1,000 connections, for which the kit needs descriptors of its own.
fn assert_kit_prints([fault, defect, expected]: [&str; 3]) {
    let code = if expected.starts_with("FAILS") { "1" } else { "0" };
    let output = kit(&["tcp", "--only", fault], &[SERVER, "tcp", "{port}", defect], code);
    assert!(matches(&output, expected), "{fault} with {defect:?}: {output}");
}

#[test]
fn many_connections_survived() {
    if can_open_files("faults::many_connections_survived") {
        assert_kit_prints(["silent-clients", "", "survives (1,000 clients)"]);
        assert_kit_prints(["unfinished-requests", "", "survives (1,000 clients)"]);
        assert_kit_prints(["slow-clients", "", "survives ("]);
    }
}

#[test]
fn many_connections() {
    if !can_open_files("faults::many_connections") {
        return;
    }
    let turns = "not tried: the server serves one client at a time";
    let hangs = "FAILS: one more client beside …: no … within 10 s";
    let rows = [
        ["silent-clients", "serves in turn", hangs],
        ["unfinished-requests", "waits for the rest", hangs],
        ["slow-clients", "has 32 workers", hangs],
        ["slow-clients", "serves in turn", turns],
        ["burst-of-connections", "refuses", "FAILS: …of 1,000 clients were not served within 20 s"],
    ];
    // The kit mostly waits.
    thread::scope(|scope| rows.map(|row| drop(scope.spawn(move || assert_kit_prints(row)))));
}

/// Runs the kit and returns what it prints, after asserting its exit code.
#[track_caller]
fn kit(arguments: &[&str], server: &[&str], code: &str) -> String {
    let separator: &[&str] = if server.is_empty() { &[] } else { &["--"] };
    let mut kit = Command::new(env!("CARGO_BIN_EXE_fault-kit"));
    let mut kit = Process::spawn(kit.args(arguments).args(separator).args(server));
    kit.limit = Some(Instant::now() + 4 * DEADLINE);
    let output = kit.output();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(output.status.code().unwrap_or(-1).to_string(), code, "{arguments:?}: {text}");
    text
}

#[test]
fn server_that_no_longer_replies_is_started_again_or_not_tried() {
    let mut exits = server(Tcp, "exits on read error");
    assert_verdict("reset-while-reading", &mut exits, "exits: exited (");
    assert_verdict("half-close", &mut exits, "survives");
    // The kit neither sees the process of this server nor starts it again.
    let exits = server(Tcp, "exits on read error");
    let mut target = Target::running(Tcp, exits.address(), Options::default()).unwrap();
    assert_verdict("half-close", &mut target, "survives");
    assert_verdict("reset-while-reading", &mut target, "exits: no longer listens");
    assert_verdict("half-close", &mut target, "not tried: the server no longer replies");
}

#[test]
fn replies_of_any_protocol_are_recognized() {
    let rows = [
        ["tcp", "", "replies to Abc with ABC."],
        ["tcp", "greets", "replies to Abc with ABC. It greets each client."],
        ["tcp", "reads once", "replies to Abc with ABC. It replies once over each connection."],
        ["tcp", "serves in turn", "replies to Abc with ABC. It serves one client at a time."],
        ["udp", "echoes", "replies to Abc with Abc."],
        [
            "tcp",
            "acknowledges",
            "Replies that are cut off go unnoticed. Pass --request and --reply.",
        ],
        ["tcp --request AB\\r\\n", "acknowledges", "replies with 8 bytes."],
        ["tcp --request ab\\r\\n --reply A\\x42", "", "replies as given."],
        ["tcp --request ab --reply AB", "ends late", "as given. It replies once"],
        ["tcp --request= --reply 220", "only greets", "replies as given. It replies once"],
        ["udp --request ping", "accepts pings only", "replies with 4 bytes."],
    ];
    thread::scope(|scope| {
        for [arguments, defect, expected] in rows {
            scope.spawn(move || {
                let mut words: Vec<&str> = arguments.split(' ').collect();
                if let Some(index) = words.iter().position(|word| *word == "--request=") {
                    words.splice(index..=index, ["--request", ""]);
                }
                let fault = if words[0] == "tcp" { "invalid-utf-8" } else { "flood" };
                words.extend(["--only", fault]);
                let output = kit(&words, &[SERVER, words[0], "{port}", defect], "0");
                assert!(output.contains(expected), "{arguments}, {defect}: {output}");
                let unchecked = output.contains("survives (content not checked)");
                assert_eq!(unchecked, output.contains("go unnoticed"), "{output}");
            });
        }
    });
    // An error reply is not the reply that the user has given.
    let reply = Some(b"AX".to_vec());
    let request = Some(b"ax".to_vec());
    let options = Options { request, reply, ..Options::default() };
    let mut target = with_options(Tcp, options, "");
    assert_verdict("invalid-utf-8", &mut target, "survives");
}

#[test]
fn server_that_cannot_be_checked_is_no_verdict() {
    let port = unused_address().port().to_string();
    let rows: &[(&[&str], &[&str], &str)] = &[
        (&["udp"], &["/no/such/program", "{port}"], "fault-kit: cannot start /no/such"),
        (&["tcp"], &[SERVER, "tcp", "99999", "{port}"], "fault-kit: the server exited ("),
        (&["udp", "--start", "1"], &[SERVER, "udp", "{port}", "never replies"], "pass --request"),
        (&["tcp", "--start", "1"], &[SERVER, "tcp", &port, "{port}"], "no reply from 127.0.0.1:"),
    ];
    for (arguments, server, expected) in rows {
        let output = kit(arguments, server, "3");
        assert!(output.contains(expected), "{output}");
    }
    let output = kit(&["tcp", "--start", "1"], &[SERVER, "tcp", &port, "{port}"], "3");
    let found = output.contains(&format!("listens on TCP port {port}: pass --port"));
    assert!(found || !cfg!(target_os = "linux"), "{output}");
    // It replies to the first client only.
    let output = kit(&["tcp"], &[SERVER, "tcp", "{port}", "exits soon"], "1");
    assert!(output.contains("ordinary requests          FAILS: exited ("), "{output}");
    assert!(output.contains("2 clients"), "{output}");
}

#[test]
fn command_line() {
    let run = |arguments: &str, code| kit(&arguments.split(' ').collect::<Vec<_>>(), &[], code);
    let list = run("--list", "0");
    let page = fs::read_to_string(repository("docs/pitfalls.md")).unwrap();
    for fault in FAULTS {
        assert!(list.contains(fault.name) && list.contains(fault.hint), "{list}");
        // That such a link leads to a heading is tested for all pages.
        assert!(page.contains(&format!("[{0}](#{0})", fault.name)), "{}", fault.name);
    }
    let list = run("--list udp", "0");
    assert!(list.contains("own-address") && !list.contains("half-close"), "{list}");
    assert!(run("udp --help", "0").contains("--only NAME"));
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
        "tcp 127.0.0.1:1 --only",
        "tcp --no-such-option 127.0.0.1:1",
        "tcp --request \\q 127.0.0.1:1",
        "tcp --request \\x+1 127.0.0.1:1",
        "tcp --request @/no/such/file 127.0.0.1:1",
        "tcp --port 0 -- server",
        "tcp --start -1 -- server {port}",
    ] {
        assert!(run(wrong, "2").starts_with("fault-kit: "), "{wrong}");
    }
    let server = server(Tcp, "reads once");
    let only_output = format!("tcp {} --only closed-output", server.address());
    let output = run(&only_output, "0");
    assert!(output.ends_with("\n0 survived, 0 failed, 1 not tried\n"), "{output}");
    let file = env::temp_dir().join(format!("fault-kit-{}.xml", std::process::id()));
    let both = format!("{only_output} --only half-close --only disconnect --skip disconnect");
    let output = run(&format!("{both} --junit {}", file.display()), "1");
    assert!(output.contains("FAILS: ") && output.contains("docs/pitfalls.md#half-close"));
    assert!(output.contains("not tried: needs the command"), "{output}");
    assert!(output.contains("disconnect                 not tried: skipped"), "{output}");
    let xml = fs::read_to_string(&file).unwrap();
    let unused = unused_address();
    run(&format!("tcp --start 0.1 {unused} --junit {}", file.display()), "3");
    let error = fs::read_to_string(&file).unwrap();
    let is_error =
        error.contains("errors=\"1\"") && error.contains("<error message=\"no reply from ");
    assert!(is_error, "{error}");
    fs::remove_file(file).unwrap();
    for part in [
        "<testsuite name=\"fault-kit\" tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"2\">",
        "name=\"disconnect\" time=\"0.000\"><skipped message=\"skipped\"/>",
        "name=\"half-close\" time=\"",
        "<failure type=\"loses data\" message=\"",
        "<skipped message=\"needs the command",
    ] {
        assert!(xml.contains(part), "{xml}");
    }
}

#[test]
fn picture_shows_the_committed_table() {
    let committed = committed();
    let svg = picture(&committed);
    if env::var_os("BLESS").is_some() {
        write_file(&repository("docs/survival.svg"), &svg);
    }
    assert!(fs::read_to_string(repository("docs/survival.svg")).unwrap() == svg);
    let cells = committed.matches("survives |").count();
    assert_eq!(svg.matches("<rect class=\"survives\"").count(), cells);
    assert_eq!(svg.matches("<rect class=\"fails\"").count(), committed.matches("** |").count());
}

#[test]
#[ignore = "needs python3"]
fn departed_client() {
    const SERVER: &str = "\
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
    let server = |ignored| {
        start(Udp, Options::default(), &["python3", "-c", SERVER, "{port}", ignored]).unwrap()
    };
    assert_verdict("departed-client", &mut server("ConnectionRefusedError"), "survives");
    assert_verdict("departed-client", &mut server("()"), "exits: …Connection refused");
}

#[test]
#[ignore = "needs python3"]
fn resets_without_reply() {
    let rows = [
        ["client-error-in-accept", "", "survives"],
        ["client-error-in-accept", "needs a peer", "exits: …NotConnected"],
        ["reset-while-reading", "reads once", "survives"],
    ];
    assert_verdicts(Tcp, &rows);
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    #[test]
    fn busy_processes() {
        let _lock = use_all_cores();
        if !can_open_files("faults::linux::busy_processes") {
            return;
        }
        let rows = [
            ["disconnect", "spins at end", "spins: uses a whole core while idle, for "],
            ["disconnect", "burns threads at end", "spins: uses a whole core while idle, for "],
            ["descriptors-exhausted", "spins on accept error", "spins: uses a whole core"],
        ];
        assert_verdicts(Tcp, &rows);
        let rows = [
            ["line-without-an-end", "", "survives"],
            [
                "line-without-an-end",
                "stores lines",
                "grows: took 100 MiB for a line without an end",
            ],
        ];
        assert_verdicts(Tcp, &rows);
    }

    #[test]
    fn processes() {
        if !can_open_files("faults::linux::processes") {
            return;
        }
        let rows = [
            ["disconnect", "leaks", "leaks: 1…more open descriptors, then 1"],
            ["descriptors-exhausted", "", "survives"],
            ["descriptors-exhausted", "serves in turn", "survives (it limits itself to fewer"],
            ["descriptors-exhausted", "exits on accept error", "exits: …os error 24"],
            ["suspend-and-resume", "", "survives"],
            ["suspend-and-resume", "times out", "loses data: closed without a reply"],
        ];
        assert_verdicts(Tcp, &rows);
        let rows = [
            ["suspend-and-resume", "", "survives"],
            ["suspend-and-resume", "times out", "exits: …Interrupted"],
            ["closed-output", "", "not tried: the server writes nothing"],
            ["closed-output", "logs", "survives"],
            ["closed-output", "prints", "exits: exited"],
            ["closed-output", "prints errors", "exits: exited"],
        ];
        assert_verdicts(Udp, &rows);
    }

    #[test]
    fn server_that_never_replies_must_read() {
        for protocol in [Udp, Tcp] {
            let silent = Options { no_reply: true, ..Options::default() };
            let mut target = with_options(protocol, silent.clone(), "never replies");
            let fault = if protocol == Udp { "flood" } else { "half-close" };
            assert_verdict(fault, &mut target, "survives");
        }
        let options = Options { no_reply: true, ..Options::default() };
        let mut target = with_options(Tcp, options, "serves in turn");
        assert_verdict(
            "silent-clients",
            &mut target,
            "hangs: one more client beside … within 10 s",
        );
    }

    #[test]
    fn server_on_port_of_its_own_is_started_again() {
        if !can_open_files("faults::linux::server_on_port_of_its_own_is_started_again") {
            return;
        }
        let port = unused_address().port();
        let options = Options { port: Some(port), ..Options::default() };
        let command = [SERVER, "tcp", &port.to_string(), "exits at end"];
        let broken = start(Tcp, options.clone(), &command).err().expect("it exits");
        assert!(matches!(broken, Verdict::Fails("exits", _)), "{broken}");
        let command = [SERVER, "tcp", &port.to_string(), "exits on read error"];
        let mut target = start(Tcp, options, &command).unwrap();
        for _ in 0..2 {
            assert_verdict("reset-while-reading", &mut target, "exits: exited (");
            assert_verdict("descriptors-exhausted", &mut target, "survives (it limits itself");
        }
    }

    /// Such as that of `go run`, which is not the process that was started.
    #[test]
    fn descendants_are_observed_and_killed() {
        let script = "\"$0\" tcp \"$1\" <&0; true";
        let command = ["sh", "-c", script, SERVER, "{port}"];
        let mut target = start(Tcp, Options::default(), &command).unwrap();
        assert_verdict("suspend-and-resume", &mut target, "survives");
        let address = target.address();
        drop(target);
        wait_until("the server is killed", || TcpStream::connect(address).is_err());
    }

    #[test]
    fn daemons_are_observed_and_killed() {
        let _lock = use_all_cores();
        let script = "sleep 600 | setsid \"$0\" tcp \"$1\" \"$2\" & exit 0";
        let command = |defect| ["sh", "-c", script, SERVER, "{port}", defect];
        let mut target = start(Tcp, Options::default(), &command("spins at end")).unwrap();
        let address = target.address();
        assert_verdict("disconnect", &mut target, "spins: uses a whole core");
        drop(target);
        wait_until("the server is killed", || TcpStream::connect(address).is_err());
    }

    #[test]
    fn server_ends_with_killed_kit() {
        for signal in ["KILL", "TERM"] {
            let mut kit = Command::new(env!("CARGO_BIN_EXE_fault-kit"));
            let script = "sleep 600 | \"$0\" tcp \"$1\"";
            kit.args(["tcp", "--", "sh", "-c", script, SERVER, "{port}"]);
            let mut kit = Process::spawn(&mut kit);
            let line = kit.wait_for(" replies to Abc").unwrap();
            let address: SocketAddr = line.split(' ').next().unwrap().parse().unwrap();
            crate::support::signal(signal, &[kit.id()]);
            assert_eq!(kit.exit_code(), -1);
            wait_until("the server is killed", || TcpStream::connect(address).is_err());
        }
    }
}

mod needs_root {
    use super::*;

    #[test]
    #[ignore = "needs root and python3"]
    fn forged_datagrams() {
        let rows = [
            ["source-port-0", "", "survives"],
            ["source-port-0", "exits on error", "exits: …Invalid argument"],
            ["own-address", "", "survives"],
        ];
        assert_verdicts(Udp, &rows);
        let mut server = server(Udp, "replies to itself");
        let mut target = Target::running(Udp, server.address(), Options::default()).unwrap();
        assert_verdict("own-address", &mut target, "spins: replied to itself … times within 0.5 s");
        // The kit has stopped the loop.
        assert_verdict("one-byte-datagram", &mut server, "survives");
    }

    /// The other columns depend on toolchains that are not everywhere.
    #[test]
    #[ignore = "needs root and python3"]
    fn our_columns_of_the_survival_table_are_current() {
        for candidate in CANDIDATES.iter().filter(|candidate| candidate.is_ours()) {
            let expected = column_of(&committed(), candidate);
            assert_eq!(column(candidate).unwrap(), expected, "{}", candidate.name);
        }
    }
}
