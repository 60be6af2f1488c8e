//! The harness: runs the examples as processes, waits for their output, and ends them.
//!
//! It holds what the demo, the fault kit and the benchmark use. Everything that only the tests need
//! is in `tests/suite/support.rs`.
//!
//! - [`program`] returns the path of an example's binary, built from the current sources.
//! - [`Process`] is a running child whose output can be waited for.
//! - [`Server`] is a [`Process`] that has printed the address on which it listens.
//! - [`udp`] and [`tcp`] open a socket with a timeout on every call.
//! - [`unused_address`] returns an address on which no program listens.
//!
//! No call waits longer than [`DEADLINE`], no child outlives the value that represents it, and a
//! failed test prints the output of its processes.
//!
//! # Panics
//!
//! A call panics, with the reason, if what it waits for does not happen before the [`DEADLINE`], and
//! if the system refuses what it needs: a build, a process, a socket or a pipe.
//!
//! # Examples
//!
//! ```no_run
//! let mut server = tests::Server::start("udp-echo-server", &["--count", "1"]);
//! let socket = tests::udp(server.address());
//! socket.send(b"hello")?;
//! let mut reply = [0; 16];
//! let length = socket.recv(&mut reply)?;
//! assert_eq!(&reply[..length], b"HELLO");
//! assert_eq!(server.exit_code(), 0);
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod competitors;
pub mod faults;
pub mod survival;

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The longest time that a test waits for one event.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The packages that consist of a `NAME-server` and a `NAME-client`.
pub const PAIRS: [&str; 4] = ["udp-basic", "udp-echo", "tcp-threaded", "udp-threaded"];

/// The largest payload that a program can send in one datagram over IPv4 with default settings.
///
/// macOS limits it to `net.inet.udp.maxdgram`.
pub const LARGEST: usize = if cfg!(target_vendor = "apple") { 9_216 } else { 65_507 };

/// The folder of the examples' binaries, once it is known; an error if they do not build.
static BIN_DIR: OnceLock<Result<PathBuf, ()>> = OnceLock::new();

/// Returns the path of an example's binary.
///
/// `cargo test` builds only the package under test, so the binaries of the other packages may be
/// missing or out of date. The first call has Cargo build all of them, with the profile and the
/// target directory of the current program. No call runs Cargo after [`use_bin_dir`], or if the
/// environment variable `BIN_DIR` names the folder that contains the binaries.
pub fn program(name: &str) -> PathBuf {
    // The compiler's errors are printed once, not for every test.
    let directory = BIN_DIR.get_or_init(|| match env::var_os("BIN_DIR") {
        Some(directory) => Ok(directory.into()),
        None => build().map_err(|error| eprintln!("{error}")),
    });
    let Ok(directory) = directory else { panic!("the examples do not build; one test shows why") };
    directory.join(name).with_extension(env::consts::EXE_EXTENSION)
}

/// Has [`program`] return paths in this folder instead of calling Cargo. To be called first.
pub fn use_bin_dir(directory: PathBuf) {
    BIN_DIR.set(Ok(directory)).expect("the folder is not known yet");
}

/// Builds the examples; returns the folder of their binaries, or the compiler's errors.
fn build() -> Result<PathBuf, String> {
    // TARGET_DIRECTORY[/TRIPLE]/PROFILE[/deps]/NAME
    let this = env::current_exe().expect("the current program has a path");
    let mut directory = this.parent().expect("a file is in a folder");
    if directory.ends_with("deps") {
        directory = directory.parent().expect("`deps` is in a folder");
    }
    let name = |path: &Path| path.file_name().map(|name| name.to_os_string());
    let profile = name(directory).filter(|name| name != "debug").unwrap_or("dev".into());
    let mut root = directory.parent().expect("the profile's folder is in the target directory");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--workspace", "--exclude", "tests", "--bins"]);
    cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")]);
    // With `--target TRIPLE` there is one more level.
    let target = name(root).expect("a target directory has a name");
    let above = root.parent().expect("a target directory is in a folder");
    if above.join("CACHEDIR.TAG").exists() && target.to_string_lossy().matches('-').count() > 1 {
        cargo.arg("--target").arg(target);
        root = above;
    }
    cargo.arg("--profile").arg(profile).arg("--target-dir").arg(root);
    let output = cargo.output().map_err(|error| format!("cannot run Cargo: {error}"))?;
    match output.status.success() {
        true => Ok(directory.to_path_buf()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A child process whose output is captured as it arrives.
///
/// Dropping it kills the child. If the test has failed by then, the captured output is printed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Arc<CapturedOutput>,
    stderr: Arc<CapturedOutput>,
    limit: Option<Instant>,
}

impl Process {
    /// Starts a process with pipes for its three standard streams.
    pub fn spawn(command: &mut Command) -> Process {
        Process::spawn_with(command, None, |_| {})
    }

    /// Like [`spawn`](Process::spawn), and calls `on_line` with each line of either stream.
    ///
    /// If there is a `limit`, no call on this process waits beyond it.
    pub fn spawn_with(
        command: &mut Command,
        limit: Option<Instant>,
        on_line: impl Fn(&str) + Clone + Send + 'static,
    ) -> Process {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let stdin = child.stdin.take();
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let pipes = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        capture(pipes.0, Arc::clone(&stdout), on_line.clone());
        capture(pipes.1, Arc::clone(&stderr), on_line);
        Process { name, child, stdin, stdout, stderr, limit }
    }

    /// Returns the process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard output that contains `text`.
    ///
    /// Returns the first such line, or `None` if the output ends without it.
    pub fn wait_for(&self, text: &str) -> Option<String> {
        self.stdout.wait_for(text, self.deadline())
    }

    /// Like [`wait_for`](Process::wait_for), on standard error.
    pub fn wait_for_error(&self, text: &str) -> Option<String> {
        self.stderr.wait_for(text, self.deadline())
    }

    /// Returns what the process has written to standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout.lock().bytes).into_owned()
    }

    /// Returns what the process has written to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().bytes).into_owned()
    }

    /// Writes to the process's standard input.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(bytes).expect("the process reads");
    }

    /// Closes the process's standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Returns whether the process is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills the process, and waits until all of its output is captured.
    pub fn kill(&mut self) {
        // An error means that it has exited already.
        let _ = self.child.kill();
        self.exit_code();
    }

    /// Closes standard input, and waits until the process has exited and its output is captured.
    ///
    /// Returns the exit code, or -1 after a signal.
    pub fn exit_code(&mut self) -> i32 {
        self.close_stdin();
        let deadline = self.deadline();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is a child of this process") {
                let ended =
                    self.stdout.wait_for_end(deadline) && self.stderr.wait_for_end(deadline);
                assert!(ended, "{} has exited, but its output has not ended", self.name);
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "{} does not exit", self.name);
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn deadline(&self) -> Instant {
        let deadline = Instant::now() + DEADLINE;
        self.limit.map_or(deadline, |limit| limit.min(deadline))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            eprintln!("--- {}\n{}{}---", self.name, excerpt(&stdout), excerpt(&stderr));
        }
    }
}

/// Returns the first and the last lines of an output that may be long.
fn excerpt(output: &str) -> String {
    const LINES: usize = 50;
    let lines: Vec<&str> = output.lines().collect();
    match lines.len().saturating_sub(2 * LINES) {
        0 => output.to_string(),
        omitted => {
            let (first, last) = (&lines[..LINES], &lines[LINES + omitted..]);
            format!("{}\n[{omitted} lines omitted]\n{}\n", first.join("\n"), last.join("\n"))
        }
    }
}

/// What a pipe has delivered so far.
#[derive(Debug, Default)]
struct CapturedOutput {
    state: Mutex<CapturedState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct CapturedState {
    bytes: Vec<u8>,
    has_ended: bool,
}

impl CapturedOutput {
    fn lock(&self) -> MutexGuard<'_, CapturedState> {
        // A wait that panics poisons the lock, but leaves the state intact.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&self, text: &str, deadline: Instant) -> Option<String> {
        let mut state = self.lock();
        loop {
            let output = String::from_utf8_lossy(&state.bytes);
            if let Some(line) = output.lines().find(|line| line.contains(text)) {
                return Some(line.to_string());
            }
            if state.has_ended {
                return None;
            }
            let remaining = deadline.saturating_duration_since(Instant::now());
            assert!(!remaining.is_zero(), "timed out waiting for {text:?}: {}", excerpt(&output));
            let woken = self.changed.wait_timeout(state, remaining);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wait_for_end(&self, deadline: Instant) -> bool {
        let remaining = deadline.saturating_duration_since(Instant::now());
        let is_open = |state: &mut CapturedState| !state.has_ended;
        let woken = self.changed.wait_timeout_while(self.lock(), remaining, is_open);
        woken.unwrap_or_else(PoisonError::into_inner).0.has_ended
    }
}

/// Starts a thread that reads a pipe to its end.
fn capture(
    pipe: impl Read + Send + 'static,
    output: Arc<CapturedOutput>,
    on_line: impl Fn(&str) + Send + 'static,
) {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            let length = pipe.read_until(b'\n', &mut line).unwrap_or(0);
            if length > 0 {
                on_line(String::from_utf8_lossy(&line).trim_end_matches('\n'));
            }
            let mut state = output.lock();
            state.bytes.extend(line);
            state.has_ended = length == 0;
            output.changed.notify_all();
            if length == 0 {
                return;
            }
        }
    });
}

/// A running server and its address.
#[derive(Debug)]
pub struct Server {
    process: Process,
    address: SocketAddr,
}

impl Server {
    /// Starts an example's server on a free port of 127.0.0.1.
    pub fn start(name: &str, options: &[&str]) -> Server {
        Server::start_at(name, "127.0.0.1:0", options)
    }

    /// Starts an example's server on the given address.
    pub fn start_at(name: &str, address: &str, options: &[&str]) -> Server {
        Server::spawn(Command::new(program(name)).arg(address).args(options))
    }

    /// Starts any server that prints `listening on IP:PORT`.
    pub fn spawn(command: &mut Command) -> Server {
        Server::listening(Process::spawn(command))
    }

    /// Waits until a process prints `listening on IP:PORT`, which must be its first line.
    pub fn listening(process: Process) -> Server {
        let line = process.wait_for("").expect("a server prints its address");
        let address = line.strip_prefix("listening on ").and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("the first line is {line:?}"));
        Server { process, address }
    }

    /// Returns the address on which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
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
    let stream = TcpStream::connect_timeout(&peer, DEADLINE)
        .unwrap_or_else(|error| panic!("cannot connect to {peer}: {error}"));
    stream.set_read_timeout(Some(DEADLINE)).expect("the timeout is above zero");
    stream.set_write_timeout(Some(DEADLINE)).expect("the timeout is above zero");
    stream.set_nodelay(true).expect("it is a TCP socket");
    stream
}

/// Returns a loopback address on which no program listens.
///
/// Its port is below those that operating systems assign on their own, which start at 32,768 or
/// higher, so it stays free until it is used.
pub fn unused_address() -> SocketAddr {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    // Processes that run at the same time begin at different ports.
    let start = std::process::id().wrapping_mul(31);
    let candidate = || {
        let port = start.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % 12_000 + 20_000;
        SocketAddr::from(([127, 0, 0, 1], port as u16))
    };
    let is_free = |address: &SocketAddr| {
        UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
    };
    (0..12_000).map(|_| candidate()).find(is_free).expect("a port is free")
}
