//! Runs the examples, and other servers, as processes.
//!
//! This file is the harness. The helpers that only the tests need are in `tests/suite/support.rs`, and
//! `README.md` has a map of the package.
//!
//! # Panics
//!
//! A call panics, with the reason, if what it waits for does not happen before the [`DEADLINE`], and
//! if the system refuses what it needs: a build, a process, a socket or a pipe. No child outlives
//! the value that represents it, and a failed test prints the output of its processes.

pub mod benchmark;
pub mod candidates;
pub mod copying;
pub mod faults;
pub mod picture;
pub mod proc;
pub mod survival;
pub mod svg;

use candidates::Protocol;
use std::env;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{self, Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The longest time that a test waits for one event; less if it was compiled to fail.
pub const DEADLINE: Duration =
    Duration::from_secs(if option_env!("MUTANTS").is_some() { 20 } else { 60 });

/// The pairs, and what the demo, `copy` and the suite must know about each.
pub const PAIRS: &[Pair] = &[
    Pair {
        name: "udp-basic",
        messages: &["hello", "world", "sdfas"],
        is_reply: None,
        options: &[],
    },
    Pair {
        name: "udp-echo",
        messages: &["hello", "world"],
        is_reply: Some(is_upper_case),
        options: &["--count=2"],
    },
    Pair {
        name: "tcp-threaded",
        messages: &["hello world"],
        is_reply: Some(is_upper_case),
        options: &["--until-eof"],
    },
    Pair {
        name: "udp-threaded",
        messages: &["one", "two", "three", "four"],
        is_reply: Some(is_upper_case),
        options: &["--until-eof", "--workers=4", "--delay=0.5"],
    },
];

/// A package that consists of a server and a client.
#[derive(Debug)]
pub struct Pair {
    /// The name of the package and of its folder. It begins with the protocol.
    pub name: &'static str,
    /// What the demo sends, and of which the tests send the first.
    pub messages: &'static [&'static str],
    /// Returns whether the second text is a reply to the first. `None` if the server does not reply.
    pub is_reply: Option<fn(&str, &str) -> bool>,
    /// The server's options for the demo, with which it exits after the messages or at end of input.
    pub options: &'static [&'static str],
}

fn is_upper_case(message: &str, reply: &str) -> bool {
    reply == message.to_ascii_uppercase()
}

impl Pair {
    /// Returns the name of the server's binary.
    pub fn server(&self) -> String {
        format!("{}-server", self.name)
    }

    /// Returns the name of the client's binary.
    pub fn client(&self) -> String {
        format!("{}-client", self.name)
    }

    /// Returns the protocol, with which the name begins.
    pub fn protocol(&self) -> Protocol {
        if self.name.starts_with("tcp-") { Protocol::Tcp } else { Protocol::Udp }
    }

    /// Returns whether the server replies.
    pub fn replies(&self) -> bool {
        self.is_reply.is_some()
    }

    /// Returns whether the client prints a line for a message: the reply, or that it has sent it.
    pub fn prints(&self, message: &str, line: &str) -> bool {
        match self.is_reply {
            Some(is_reply) => is_reply(message, line),
            None => line.starts_with(&format!("sent \"{message}\" to ")),
        }
    }
}

/// The largest payload of a datagram over IPv4, which macOS limits to `net.inet.udp.maxdgram`.
pub const LARGEST: usize = if cfg!(target_vendor = "apple") { 9_216 } else { 65_507 };

/// Returns the path of an example's binary.
///
/// `cargo test` builds only the package under test. Therefore the first call makes Cargo build the
/// others, with the profile and the target directory of the current program, unless the environment
/// variable `BIN_DIR` names the folder that contains the binaries.
pub fn program(name: &str) -> PathBuf {
    static BIN_DIR: OnceLock<Option<PathBuf>> = OnceLock::new();
    let directory = BIN_DIR.get_or_init(|| env::var_os("BIN_DIR").map(Into::into).or_else(build));
    let directory = directory.as_ref().expect("the examples do not build");
    directory.join(name).with_extension(env::consts::EXE_EXTENSION)
}

/// Returns the folder that Cargo names after the profile: TARGET_DIRECTORY[/TRIPLE]/PROFILE.
fn profile_directory() -> PathBuf {
    let this = env::current_exe().expect("the current program has a path");
    let levels = if this.parent().is_some_and(|folder| folder.ends_with("deps")) { 2 } else { 1 };
    this.ancestors().nth(levels).expect("a program is in a target directory").to_path_buf()
}

/// Builds the examples and returns the folder of their binaries. Cargo prints what fails.
fn build() -> Option<PathBuf> {
    let directory = profile_directory();
    let profile = directory.file_name().filter(|name| *name != "debug").unwrap_or("dev".as_ref());
    let mut root = directory.parent()?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--workspace", "--exclude", "tests", "--bins"]);
    cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")]);
    // With `--target TRIPLE` there is one more level.
    let (target, above) = (root.file_name()?, root.parent()?);
    if above.join("CACHEDIR.TAG").exists() && target.to_string_lossy().matches('-').count() > 1 {
        cargo.arg("--target").arg(target);
        root = above;
    }
    cargo.arg("--profile").arg(profile).arg("--target-dir").arg(root);
    cargo.status().expect("Cargo can be run").success().then_some(directory)
}

/// Held while a socket is open that no process must inherit, as it does until it executes its program.
static SPAWN: Mutex<()> = Mutex::new(());

fn spawn(command: &mut Command) -> io::Result<Child> {
    let _lock = SPAWN.lock();
    command.spawn()
}

/// Returns a pipe whose reader has exited, to be a standard stream of another process.
pub fn closed_pipe() -> Stdio {
    let mut reader = Command::new(program("udp-basic-client"));
    reader.arg("--version").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut reader = spawn(&mut reader).expect("an example can be run");
    let pipe = reader.stdin.take().expect("piped");
    reader.wait().expect("it is a child of this process");
    pipe.into()
}

/// Sends a signal by the built-in of the shell; not every system has a program for it.
pub fn signal(name: &str, processes: &[u32]) {
    let ids: Vec<String> = processes.iter().map(u32::to_string).collect();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("kill -{name} {}", ids.join(" "))]).stderr(Stdio::null());
    let _ = spawn(&mut shell).and_then(|mut shell| shell.wait());
}

/// A child process whose output is captured as it arrives.
///
/// Dropping it kills the child. If the test has failed by then, the captured output is printed.
#[derive(Debug)]
pub struct Process {
    /// The command that started it, shortened.
    pub name: String,
    child: Child,
    /// `None` once standard input is closed.
    stdin: Option<Sender<Vec<u8>>>,
    stdout: Mutex<Captured>,
    stderr: Mutex<Captured>,
    /// If set, no call on this process waits beyond it, instead of the [`DEADLINE`].
    pub limit: Option<Instant>,
    /// A process that kills this one and its descendants when its own standard input ends.
    guard: Option<Child>,
    /// The descendant that does the work, if the process has exited and left it in the background.
    daemon: Option<u32>,
}

impl Process {
    /// Starts a process with pipes for its three standard streams.
    pub fn spawn(command: &mut Command) -> Process {
        Process::with_streams(command, [(); 3].map(|()| Stdio::piped()))
    }

    /// Starts a process with these standard streams. What it writes is captured if it is a pipe.
    pub fn with_streams(command: &mut Command, [stdin, stdout, stderr]: [Stdio; 3]) -> Process {
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let process = Process::new(command, None, true);
        process.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Starts any server. It is killed together with its descendants, even if this process is killed.
    ///
    /// Its standard output is discarded and its standard error captured, unless both are to be
    /// [taken](Process::take_output).
    ///
    /// # Errors
    ///
    /// Returns why it cannot be started.
    pub fn guarded(command: &mut Command, takes_output: bool) -> io::Result<Process> {
        let guard = guard(command);
        // Standard input stays open until the process is dropped.
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        command.stdout(if takes_output { Stdio::piped() } else { Stdio::null() });
        Process::new(command, guard, !takes_output)
    }

    fn new(command: &mut Command, guard: Option<Child>, captures: bool) -> io::Result<Process> {
        let name = format!("{command:?}").chars().take(4_000).collect();
        let mut child = spawn(command)?;
        let stdin = child.stdin.take().map(|mut pipe| {
            let (sender, chunks) = mpsc::channel::<Vec<u8>>();
            thread::spawn(move || chunks.iter().try_for_each(|chunk| pipe.write_all(&chunk)));
            sender
        });
        let stdout = Captured::new(child.stdout.take_if(|_| captures));
        let stderr = Captured::new(child.stderr.take_if(|_| captures));
        Ok(Process { name, child, stdin, stdout, stderr, limit: None, guard, daemon: None })
    }

    /// Returns standard output and standard error, if they were left to the caller.
    pub fn take_output(&mut self) -> Option<(ChildStdout, ChildStderr)> {
        self.child.stdout.take().zip(self.child.stderr.take())
    }

    /// Starts an example's server on a free port of 127.0.0.1.
    pub fn start(name: &str, options: &[&str]) -> Process {
        Process::start_at(name, "127.0.0.1:0", options)
    }

    /// Starts an example's server on the given address.
    pub fn start_at(name: &str, address: &str, options: &[&str]) -> Process {
        Process::listening(Command::new(program(name)).arg(address).args(options))
    }

    /// Starts a server, and waits until it prints its [`address`](Process::address).
    pub fn listening(command: &mut Command) -> Process {
        let process = Process::spawn(command);
        process.address();
        process
    }

    /// Returns the address that a server prints as its first line: `listening on IP:PORT`.
    pub fn address(&self) -> SocketAddr {
        let line = self.wait_for("").expect("a server prints its address");
        let address = line.strip_prefix("listening on ").and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("the first line is {line:?}"))
    }

    /// Returns the process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard output that contains `text`.
    ///
    /// Returns the first such line, or `None` if the output ends without it.
    pub fn wait_for(&self, text: &str) -> Option<String> {
        lock(&self.stdout).wait_for(text, self.deadline())
    }

    /// Like [`wait_for`](Process::wait_for), on standard error.
    pub fn wait_for_error(&self, text: &str) -> Option<String> {
        lock(&self.stderr).wait_for(text, self.deadline())
    }

    /// Returns what the process has written to standard output so far.
    pub fn stdout(&self) -> String {
        lock(&self.stdout).text()
    }

    /// Returns what the process has written to standard error so far.
    pub fn stderr(&self) -> String {
        lock(&self.stderr).text()
    }

    /// Writes to the process's standard input, on a thread: the process may not read it.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_ref().expect("standard input is open");
        // An error means that the process has closed its end, which shows in what it does next.
        let _ = stdin.send(bytes.to_vec());
    }

    /// Closes the process's standard input after what has been written.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Returns whether the process is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Returns how a server of this port has ended, if it has. It has not if it went on in the
    /// background.
    pub fn exit(&mut self, protocol: &str, port: u16) -> Option<String> {
        if let Some(id) = self.daemon {
            return proc::state(id).is_none().then(|| "the daemon is gone".into());
        }
        let status = self.child.try_wait().ok().flatten()?;
        // The last lines may still be in the pipe, and a descendant may hold that open.
        lock(&self.stderr).wait(Instant::now() + Duration::from_millis(200), |_| false);
        self.daemon = if status.success() { proc::listener(protocol, port) } else { None };
        let Some(id) = self.daemon else { return Some(format!("{status}: {}", self.cause())) };
        if let Some(pipe) = self.guard.as_mut().and_then(|guard| guard.stdin.as_mut()) {
            let _ = writeln!(pipe, "{id}"); // It is no longer of the same process group.
        }
        None
    }

    /// Returns the line of standard error that names the cause of an exit.
    pub fn cause(&self) -> String {
        // Notes, the frames of a backtrace, and what Node.js prints around them.
        let others = ["note:", "Emitted ", "Node.js v", "node:", "goroutine ", "at "];
        let is_other = |line: &str| {
            line.starts_with([' ', '\t', '{', '}', '^'])
                || others.iter().any(|other| line.starts_with(other))
        };
        let stderr = self.stderr();
        let mut lines = stderr.lines().filter(|line| !line.is_empty() && !is_other(line));
        let panic = lines.clone().skip_while(|line| !line.contains(" panicked at ")).nth(1);
        let is_go = |line: &&str| line.starts_with("panic:") || line.starts_with("fatal error:");
        let is_error = |line: &&str| line.contains("Error: ") || line.contains("Exception: ");
        let cause = panic.or(lines.clone().find(is_go)).or(lines.clone().rfind(is_error));
        cause.or(lines.next_back()).map_or("no error message", str::trim).into()
    }

    /// Returns the ids of the process, or of what it left in the background, and of its descendants.
    pub fn family(&self) -> Vec<u32> {
        proc::family(self.daemon.unwrap_or(self.child.id()))
    }

    /// Kills the process, and waits until all of its output is captured.
    pub fn kill(&mut self) {
        // An error means that it has exited already.
        let _ = self.child.kill();
        self.exit_code();
    }

    /// Returns the exit code, or -1 after a signal, as soon as [`output`](Process::output) returns.
    pub fn exit_code(&mut self) -> i32 {
        self.output().status.code().unwrap_or(-1)
    }

    /// Closes standard input, and waits until the process has exited and its output is captured.
    pub fn output(&mut self) -> Output {
        self.close_stdin();
        let deadline = self.deadline();
        wait_until(deadline.saturating_duration_since(Instant::now()), || !self.is_running());
        let status = self.child.try_wait().expect("it is a child of this process");
        let status = status.unwrap_or_else(|| panic!("{} does not exit", self.name));
        let [stdout, stderr] = [&self.stdout, &self.stderr].map(|output| {
            let mut output = lock(output);
            let has_ended = output.wait(deadline, |_| false);
            assert!(has_ended, "{} has exited, but its output has not ended", self.name);
            output.bytes.clone()
        });
        Output { status, stdout, stderr }
    }

    fn deadline(&self) -> Instant {
        self.limit.unwrap_or_else(|| Instant::now() + DEADLINE)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            // The id of a process that has exited may be in use again.
            if self.is_running() || self.daemon.is_some() {
                signal("KILL", &self.family());
            }
            let _ = guard.wait(); // closes its standard input
        }
        // An error means that it has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let output = self.stdout() + &self.stderr();
            // The cause is in the last lines.
            let start = output.char_indices().nth_back(4_000).map_or(0, |(index, _)| index);
            eprintln!("--- {}\n{}---", self.name, &output[start..]);
        }
    }
}

/// Starts a process that, as soon as its input ends, kills the processes whose ids it has read and
/// its own process group, which the command will be in.
#[cfg(unix)]
fn guard(command: &mut Command) -> Option<Child> {
    use std::os::unix::process::CommandExt;
    let script = "while read -r id; do ids=\"$ids $id\"; done; kill -KILL $ids 0";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let guard = spawn(shell.process_group(0)).ok()?;
    command.process_group(guard.id() as i32);
    Some(guard)
}

#[cfg(not(unix))]
fn guard(_: &mut Command) -> Option<Child> {
    None
}

/// The output of a process, which a thread reads line by line.
#[derive(Debug)]
struct Captured {
    lines: Receiver<Vec<u8>>,
    /// Those received so far.
    bytes: Vec<u8>,
}

fn lock(output: &Mutex<Captured>) -> MutexGuard<'_, Captured> {
    // A wait that panics poisons the lock, but leaves the output intact.
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Captured {
    fn new(pipe: Option<impl Read + Send + 'static>) -> Mutex<Captured> {
        let (sender, lines) = mpsc::channel();
        if let Some(pipe) = pipe {
            thread::spawn(move || {
                let (mut pipe, mut line) = (BufReader::new(pipe), Vec::new());
                while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                    let _ = sender.send(std::mem::take(&mut line));
                }
            });
        }
        Mutex::new(Captured { lines, bytes: Vec::new() })
    }

    fn text(&mut self) -> String {
        self.lines.try_iter().for_each(|line| self.bytes.extend(line));
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Waits for a line that contains `text`. Returns `None` if the output ends without it.
    fn wait_for(&mut self, text: &str, deadline: Instant) -> Option<String> {
        let find = |output: &[u8]| {
            let output = String::from_utf8_lossy(output);
            output.lines().find(|line| line.contains(text)).map(String::from)
        };
        let in_time = self.wait(deadline, |output| find(output).is_some());
        assert!(in_time, "timed out waiting for a line that contains {text:?}");
        find(&self.bytes)
    }

    /// Returns whether the output is enough, or ends, before the deadline.
    fn wait(&mut self, deadline: Instant, is_enough: impl Fn(&[u8]) -> bool) -> bool {
        while !is_enough(&self.bytes) {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.bytes.extend(line),
                Err(error) => return error == RecvTimeoutError::Disconnected,
            }
            self.lines.try_iter().for_each(|line| self.bytes.extend(line));
        }
        true
    }
}

/// Opens a UDP socket that is connected to `peer`, with the [`DEADLINE`] as its read timeout.
pub fn udp(peer: SocketAddr) -> UdpSocket {
    let local = if peer.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(local).expect("a port is free");
    socket.connect(peer).expect("connecting a UDP socket sends nothing");
    socket.set_read_timeout(Some(DEADLINE)).expect("the timeout is above zero");
    socket
}

/// Opens a TCP connection to `peer`, with the [`DEADLINE`] as its timeouts.
pub fn tcp(peer: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&peer, DEADLINE);
    configured(stream.unwrap_or_else(|error| panic!("cannot connect to {peer}: {error}")))
}

/// Sets the [`DEADLINE`] as the timeouts of a connection, and sends each write at once.
pub fn configured(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).expect("the timeout is above zero");
    stream.set_write_timeout(Some(DEADLINE)).expect("the timeout is above zero");
    stream.set_nodelay(true).expect("it is a TCP socket");
    stream
}

/// Repeats a check until it succeeds, which is returned, or has not within the limit.
pub fn wait_until(limit: Duration, mut is_true: impl FnMut() -> bool) -> bool {
    let (start, mut pause) = (Instant::now(), Duration::from_millis(1));
    while !is_true() {
        if start.elapsed() > limit {
            return false;
        }
        thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_millis(50)); // Listing sockets or threads takes long.
    }
    true
}

/// Repeats a call that is interrupted because this process was suspended, as by a debugger.
///
/// On Linux this happens to calls with a timeout, but not to loops such as `read_exact`.
///
/// # Errors
///
/// Returns any other error of the call.
pub fn retry_on_eintr<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Returns a loopback address on which no program listens, and that stays free until it is used.
///
/// Its port is below those that operating systems assign on their own, which start at 32,768 or
/// higher. It belongs to a block of ports that no other process of this package uses.
pub fn unused_address() -> SocketAddr {
    const SIZE: u16 = 128;
    static CALLS: AtomicU16 = AtomicU16::new(0);
    // A process has the block of whose ports it has bound the first.
    static BLOCK: LazyLock<(u16, UdpSocket)> = LazyLock::new(|| {
        let mut blocks = (0..93).map(|n| 20_000 + SIZE * ((process::id() + n) % 93) as u16);
        let bound =
            blocks.find_map(|port| Some((port, UdpSocket::bind(("127.0.0.1", port)).ok()?)));
        bound.expect("a block is unused")
    });
    // Other processes have recently used other ports of the block.
    let start = (process::id() / 93) as u16;
    let mut addresses = (1..SIZE).map(|_| {
        let number = start.wrapping_add(CALLS.fetch_add(1, Relaxed));
        SocketAddr::from(([127, 0, 0, 1], BLOCK.0 + 1 + number % (SIZE - 1)))
    });
    let is_free = |address: &SocketAddr| {
        // Not by listening: a process that another thread starts inherits a listener for a moment.
        let connected = TcpStream::connect_timeout(address, Duration::from_millis(50));
        let _lock = SPAWN.lock();
        connected.is_err() && UdpSocket::bind(address).is_ok()
    };
    addresses.find(is_free).expect("a port is free")
}

/// Returns a number with a comma between thousands.
pub fn grouped(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}
