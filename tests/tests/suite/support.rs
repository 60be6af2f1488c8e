//! What the modules of the suite share: the harness, and helpers beyond it.
//!
//! [`run`], [`output`] and [`error`] run a program to its end; [`start_client`] and [`Process`] hold
//! one while the test does something else.

pub use tests::candidates::Protocol;
pub use tests::{DEADLINE, LARGEST, PAIRS, Pair, Process, closed_pipe, copying::programs, program};
#[cfg(target_os = "linux")]
pub use tests::{proc, signal};
pub use tests::{tcp, udp, unused_address};

use assert_cmd::assert::{Assert, OutputAssertExt};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{fs, thread};

/// Returns the pairs whose clients send datagrams and wait for replies.
pub fn udp_pairs() -> impl Iterator<Item = &'static Pair> {
    PAIRS.iter().filter(|pair| pair.replies() && pair.protocol() == Protocol::Udp)
}

/// The UDP servers that reply in upper case, and their clients.
pub const UDP_SERVERS: [&str; 2] = ["udp-echo-server", "udp-threaded-server"];
pub const UDP_CLIENTS: [&str; 2] = ["udp-echo-client", "udp-threaded-client"];

pub fn servers() -> impl Iterator<Item = String> {
    PAIRS.iter().map(Pair::server)
}

pub fn command(name: &str) -> Command {
    Command::new(program(name))
}

/// Runs a program to its end, even if it does not read its input, for which assert_cmd would wait.
#[track_caller]
pub fn run(command: &mut Command, input: impl AsRef<[u8]>) -> Assert {
    let mut process = Process::spawn(command);
    process.write(input.as_ref());
    process.output().assert().append_context("command", process.name.clone())
}

/// Asserts that an example succeeds without an error, and returns what it printed.
#[track_caller]
pub fn output(name: &str, arguments: &[&str], input: impl AsRef<[u8]>) -> String {
    let assert = run(command(name).args(arguments), input);
    String::from_utf8(assert.success().stderr("").get_output().stdout.clone()).unwrap()
}

/// Asserts that an example fails and prints nothing, and returns its error line.
#[track_caller]
pub fn error(name: &str, arguments: &[&str], input: impl AsRef<[u8]>) -> String {
    let assert = run(command(name).args(arguments), input);
    String::from_utf8(assert.code(1).stdout("").get_output().stderr.clone()).unwrap()
}

/// Runs a command that may take long, and returns its exit code and its output.
pub fn finish(command: &mut Command) -> (i32, String) {
    let mut process = Process::spawn(command);
    process.limit = Some(Instant::now() + 20 * DEADLINE);
    (process.exit_code(), process.stdout() + &process.stderr())
}

pub fn start_client(name: &str, arguments: &[&str]) -> Process {
    Process::spawn(command(name).args(arguments))
}

/// Asserts that a client exits without an error, and returns what it printed.
#[track_caller]
pub fn output_of(mut client: Process) -> String {
    assert_eq!((client.exit_code(), client.stderr()), (0, String::new()));
    client.stdout()
}

/// Returns whether the system has the address ::1. The gate says if it leaves out what needs it.
pub fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

/// Returns the loopback hosts, and how much a datagram between them carries: the header of IPv6 does
/// not count toward its length field.
pub fn hosts() -> Vec<(&'static str, usize)> {
    let max = if cfg!(target_vendor = "apple") { LARGEST } else { 65_527 };
    let hosts = [("127.0.0.1", LARGEST), ("[::1]", max)];
    hosts[..if has_ipv6() { 2 } else { 1 }].to_vec()
}

/// Waits for a condition that no line or byte announces.
#[track_caller]
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(tests::wait_until(DEADLINE, condition), "timed out waiting until {what}");
}

/// Serializes the tests that open many files where a process may open only a few hundred.
pub fn open_many_files() -> Option<MutexGuard<'static, ()>> {
    static LOCK: Mutex<()> = Mutex::new(());
    let few = Command::new("sh").args(["-c", "test $(ulimit -n) -lt 1000"]).status();
    let is_needed = few.is_ok_and(|status| status.success());
    is_needed.then(|| LOCK.lock().unwrap_or_else(PoisonError::into_inner))
}

#[track_caller]
pub fn request(socket: &UdpSocket, payload: &[u8]) -> Vec<u8> {
    socket.send(payload).unwrap();
    receive(socket).0
}

/// Returns the response, which is as long as the request.
#[track_caller]
pub fn exchange(mut stream: &TcpStream, payload: &[u8]) -> Vec<u8> {
    let mut response = vec![0; payload.len()];
    stream.write_all(payload).unwrap();
    stream.read_exact(&mut response).unwrap();
    response
}

/// Sends a request to any of the servers by its client, and checks the reply if there is one.
#[track_caller]
pub fn request_any(server: &str, address: SocketAddr) {
    let pair = PAIRS.iter().find(|pair| pair.server() == server).unwrap();
    // Without a reply, the test fails before a request is repeated.
    let timeout: &[&str] = if pair.replies() { &["--timeout=60"] } else { &[] };
    let (address, message) = (address.to_string(), pair.messages[0]);
    let output = output(&pair.client(), &[timeout, &[&address, message]].concat(), "");
    assert!(pair.prints(message, output.trim_end()), "{server} replied {output:?} to {message:?}");
}

/// Reads to the end of a connection, which is a reset if the peer did not read everything.
pub fn read_to_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut response = Vec::new();
    match stream.read_to_end(&mut response) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => response,
    }
}

/// Returns bytes among which no two nearby sections are equal.
pub fn letters(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|i| b'a' + ((i ^ (i >> 7) ^ (i >> 13)) % 26) as u8).collect()
}

/// Starts the TCP client, and returns its connection, by which the test acts as its server.
#[track_caller]
pub fn start_tcp_client(options: &[&str], messages: &[&str]) -> (Process, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // On a busy machine, the default would end the client while the test waits.
    let arguments = [&["--timeout", "60"], options, &[&address], messages].concat();
    let client = start_client("tcp-threaded-client", &arguments);
    (client, accept(&listener))
}

#[track_caller]
pub fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    wait_until("a client connects", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    tests::configured(stream)
}

pub fn fake_udp_server() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

#[track_caller]
pub fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut payload = vec![0; 65_535];
    loop {
        match socket.recv_from(&mut payload) {
            Ok((length, client)) => return (payload[..length].to_vec(), client),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Windows reports that the client of an earlier reply has closed its socket.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("no datagram at {socket:?}: {error}"),
        }
    }
}

pub fn count_waiting(socket: &UdpSocket) -> usize {
    socket.set_nonblocking(true).unwrap();
    (0..).take_while(|_| socket.recv(&mut [0; 1024]).is_ok()).count()
}

/// Writes a file of the test's own, but only if its content changes, so that Cargo rebuilds nothing.
pub fn write_file(path: &Path, content: &str) {
    if fs::read_to_string(path).ok().as_deref() != Some(content) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Other processes may be reading the file, and other threads writing it.
        let thread = thread::current().id();
        let new = path.with_extension(format!("{}-{thread:?}.new", std::process::id()));
        fs::write(&new, content).unwrap();
        fs::rename(new, path).unwrap();
    }
}

/// Returns an empty folder in the target directory.
pub fn empty_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

pub fn repository(path: &str) -> PathBuf {
    tests::copying::root().join(path)
}

/// Runs a program under a shell, which first redirects streams or sets limits.
#[cfg(unix)]
pub fn shell(script: &str, program: impl Into<PathBuf>) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{script}; exec \"$0\" \"$@\"")]).arg(program.into());
    shell
}

/// Returns the options with which a server handles one request at a time, and exits after `count` or,
/// if it does not count, after the end of its standard input.
pub fn one_at_a_time(name: &str, count: &'static str) -> [&'static str; 2] {
    if name.contains("threaded") { ["--workers=1", "--until-eof"] } else { ["--count", count] }
}

/// Runs a program that can open 4,096 files, if the system allows it: by default, macOS allows 256.
pub fn command_with_descriptors(program: &str) -> Command {
    #[cfg(unix)]
    return shell("ulimit -n 4096 2>/dev/null", program);
    #[cfg(not(unix))]
    Command::new(program)
}

#[cfg(target_os = "linux")]
pub use linux::*;

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    pub fn suspend_and_resume(process: u32) {
        signal("STOP", &[process]);
        wait_until("the process is suspended", || proc::state(process) == Some('T'));
        signal("CONT", &[process]);
    }

    /// Waits until a server that does not print its address listens on 127.0.0.1.
    #[track_caller]
    pub fn wait_until_listening(protocol: &str, address: SocketAddr) {
        let is_it = |it: &proc::Socket| (it.port, it.peer) == (address.port(), 0);
        wait_until("the server listens", || {
            proc::sockets_at(protocol, address.port()).iter().any(is_it)
        });
    }

    /// Waits until the peer, a process of this host, has read what was written to a connection.
    #[track_caller]
    pub fn wait_until_read(stream: &TcpStream) {
        let [own, peer] = [stream.local_addr(), stream.peer_addr()].map(|it| it.unwrap().port());
        let is_it = |it: &proc::Socket| (it.port, it.peer, it.unread) == (peer, own, 0);
        wait_until("the peer has read", || proc::sockets_at("tcp", peer).iter().any(is_it));
    }

    /// Returns a script that will run in a namespace of its own. Its arguments are to follow.
    pub fn unshare(namespace: &str, script: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args([namespace, "sh", "-c", script]);
        command
    }

    /// Returns a script that runs in a network of its own, with the paths of programs as arguments.
    pub fn in_network(script: &str, programs: &[&str]) -> Command {
        let script = format!("ip link set lo up && cd /proc/sys/net/ipv4 || exit 9; {script}");
        let mut command = unshare("--net", &script);
        command.args(programs.iter().map(|name| program(name)));
        command
    }

    /// Runs a program under strace, which makes its system calls fail as `inject` says.
    pub fn failing(inject: &str, name: &str) -> Command {
        let mut strace = strace(&["-o", "/dev/null", "-e", &format!("inject={inject}")]);
        strace.arg(program(name));
        strace
    }

    /// Returns strace with its arguments; the name of a program is to follow.
    pub fn strace(arguments: &[&str]) -> Command {
        let mut command = Command::new("strace");
        // With -D the program is the child of this process, and strace the child of the program:
        // both exit together.
        command.args(["-D", "-f", "-q", "-e", "signal=none"]).args(arguments);
        command
    }

    pub fn start_failing(inject: &str, name: &str, options: &[&str]) -> Process {
        Process::listening(failing(inject, name).arg(":0").args(options))
    }
}
