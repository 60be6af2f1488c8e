//! The harness: starts the examples as processes, waits for what they say, ends them.
//!
//! - [`program`]: where an example's binary is, built as the sources are now.
//! - [`Process`]: a child whose output can be waited for.
//! - [`Server`]: a [`Process`] that said where it listens.
//! - [`run`]: a program that is run to its end.
//! - [`udp`] and [`tcp`]: sockets of a test, with a deadline on every call.
//! - [`unused_address`]: where nobody listens.
//!
//! The program of this package, `cargo run -p tests`, is the smoke run: each pair once.
//!
//! Nothing here waits longer than [`DEADLINE`], no child outlives the value that stands for it, and
//! when a test fails, what its processes said is printed.
//!
//! ```no_run
//! let server = tests::Server::start("udp-echo-server", &["--count", "1"]);
//! let socket = tests::udp(server.address());
//! socket.send(b"hello")?;
//! let mut answer = [0; 16];
//! let length = socket.recv(&mut answer)?;
//! assert_eq!(&answer[..length], b"HELLO");
//! assert_eq!(server.finish(), 0);
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod competitors;

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The most that a test waits for anything.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The pairs of a server and a client: the packages with a `NAME-server` and a `NAME-client`.
pub const PAIRS: [&str; 4] = ["udp-basic", "udp-echo", "tcp-threaded", "udp-threaded"];

/// The largest payload that a datagram over IPv4 can have here: macOS sends none above
/// `net.inet.udp.maxdgram` unless it is told to.
pub const LARGEST: usize = if cfg!(target_vendor = "apple") { 9_216 } else { 65_507 };

/// Where the binary of an example is, built from the sources as they are now.
///
/// `cargo test` builds only the package under test, so the binaries of the other packages may be
/// missing or stale. The first call has Cargo build them all, for the profile and into the target
/// directory of the running test.
///
/// # Panics
///
/// When they do not build.
///
/// # Examples
///
/// ```no_run
/// let mut server = std::process::Command::new(tests::program("udp-echo-server"));
/// assert!(server.arg("--help").status()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<Result<PathBuf, ()>> = OnceLock::new();
    // What the compiler says is not repeated, nor is it asked again, for each test.
    let directory = DIRECTORY.get_or_init(|| build().map_err(|why| eprintln!("{why}")));
    let Ok(directory) = directory else { panic!("the examples do not build: one test shows why") };
    directory.join(name).with_extension(env::consts::EXE_EXTENSION)
}

/// Builds the examples and returns the folder of their binaries, or what the compiler says.
fn build() -> Result<PathBuf, String> {
    // TARGET_DIRECTORY[/TRIPLE]/PROFILE[/deps]/this
    let this = env::current_exe().expect("the running test has a path");
    let mut directory = this.parent().expect("it is in a folder");
    if directory.ends_with("deps") {
        directory = directory.parent().expect("it is in a target directory");
    }
    let name = |path: &Path| path.file_name().map(|name| name.to_os_string());
    let profile = name(directory).filter(|name| name != "debug").unwrap_or("dev".into());
    let mut root = directory.parent().expect("a profile is in a target directory");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--workspace", "--exclude", "tests", "--bins"]);
    cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")]);
    // Cargo puts what it builds with --target into a folder of that name below.
    let target = name(root).expect("a target directory has a name");
    let above = root.parent().expect("a target directory is in a folder");
    if above.join("CACHEDIR.TAG").exists() && target.to_string_lossy().matches('-').count() > 1 {
        cargo.arg("--target").arg(target);
        root = above;
    }
    cargo.arg("--profile").arg(profile).arg("--target-dir").arg(root);
    let built = cargo.output().expect("cargo runs");
    match built.status.success() {
        true => Ok(directory.to_path_buf()),
        false => Err(String::from_utf8_lossy(&built.stderr).into_owned()),
    }
}

/// A child process whose output is read all the time and can be waited for.
///
/// It is killed when it is dropped; when that is because a test failed, what it said is printed.
///
/// # Examples
///
/// ```no_run
/// let mut command = std::process::Command::new(tests::program("udp-basic-client"));
/// let client = tests::Process::spawn(command.args([":9", "hello"]));
/// assert_eq!(client.wait_for("sent").as_deref(), Some(r#"sent "hello" to 127.0.0.1:9"#));
/// assert_eq!(client.finish(), 0);
/// ```
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Heard>,
    error: Arc<Heard>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a process, with pipes for all three standard streams.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn spawn(command: &mut Command) -> Process {
        Process::spawn_and_tell(command, |_| {})
    }

    /// Like [`spawn`](Process::spawn), and tells each line as it comes, of either stream.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn spawn_and_tell(
        command: &mut Command,
        tell: impl Fn(&str) + Clone + Send + 'static,
    ) -> Process {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|why| panic!("{name}: {why}"));
        let stdin = child.stdin.take();
        let (output, error) = (Arc::new(Heard::default()), Arc::new(Heard::default()));
        let readers = vec![
            hear(child.stdout.take().expect("it is piped"), output.clone(), tell.clone()),
            hear(child.stderr.take().expect("it is piped"), error.clone(), tell),
        ];
        Process { name, child, stdin, output, error, readers }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard output that contains `text`, and returns the first; `None`: the
    /// output ended without it.
    ///
    /// # Panics
    ///
    /// When neither comes before the [`DEADLINE`].
    pub fn wait_for(&self, text: &str) -> Option<String> {
        self.output.wait_for(text)
    }

    /// Likewise on standard error.
    ///
    /// # Panics
    ///
    /// When neither comes before the [`DEADLINE`].
    pub fn wait_for_error(&self, text: &str) -> Option<String> {
        self.error.wait_for(text)
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.state().0).into_owned()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.error.state().0).into_owned()
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    ///
    /// When it does not take it.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(bytes).expect("the process reads");
        stdin.flush().expect("the process reads");
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Ends it, and waits until all its output was read.
    ///
    /// # Panics
    ///
    /// When its output does not end by the [`DEADLINE`]: it has left a child that holds the pipe.
    pub fn kill(&mut self) {
        // It may have ended, and then there is nothing to kill.
        let _ = self.child.kill();
        self.exit_code();
    }

    /// Closes its standard input, and waits until it has ended and all its output was read; returns
    /// the exit code, -1 for a signal.
    ///
    /// # Panics
    ///
    /// When it, or its output, has not ended by the [`DEADLINE`].
    pub fn exit_code(&mut self) -> i32 {
        self.close_stdin();
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                let left = || DEADLINE.saturating_sub(start.elapsed());
                let ended = self.output.wait_for_end(left()) && self.error.wait_for_end(left());
                assert!(ended, "{} has ended, but not its output", self.name);
                for reader in self.readers.drain(..) {
                    reader.join().expect("a reader does not fail");
                }
                return status.code().unwrap_or(-1);
            }
            assert!(start.elapsed() < DEADLINE, "{} does not end", self.name);
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// [`exit_code`](Process::exit_code) for a process that is not needed any more; it too closes
    /// standard input.
    ///
    /// # Panics
    ///
    /// When it, or its output, has not ended by the [`DEADLINE`].
    pub fn finish(mut self) -> i32 {
        self.exit_code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended, and then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let (output, error) = (self.stdout(), self.stderr());
            eprintln!("--- {}\n{}{}---", self.name, excerpt(&output), excerpt(&error));
        }
    }
}

/// The first and the last lines of an output that may be very long.
fn excerpt(output: &str) -> String {
    const LINES: usize = 50;
    let lines: Vec<&str> = output.lines().collect();
    match lines.len().saturating_sub(2 * LINES) {
        0 => output.to_string(),
        left_out => {
            let (first, last) = (&lines[..LINES], &lines[LINES + left_out..]);
            format!("{}\n[{left_out} lines]\n{}\n", first.join("\n"), last.join("\n"))
        }
    }
}

/// What came out of a pipe so far, and whether it has ended.
#[derive(Debug, Default)]
struct Heard(Mutex<(Vec<u8>, bool)>, Condvar);

impl Heard {
    fn state(&self) -> MutexGuard<'_, (Vec<u8>, bool)> {
        // A wait that fails does so with the lock; what was heard is still right.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&self, text: &str) -> Option<String> {
        let start = Instant::now();
        let mut state = self.state();
        loop {
            let heard = String::from_utf8_lossy(&state.0);
            if let Some(line) = heard.lines().find(|line| line.contains(text)) {
                return Some(line.to_string());
            }
            if state.1 {
                return None;
            }
            let left = DEADLINE.saturating_sub(start.elapsed());
            assert!(!left.is_zero(), "no {text:?} in time; so far:\n{}", excerpt(&heard));
            state = self.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits so long for the end; returns whether it came.
    fn wait_for_end(&self, limit: Duration) -> bool {
        let waited = self.1.wait_timeout_while(self.state(), limit, |state| !state.1);
        waited.unwrap_or_else(PoisonError::into_inner).0.1
    }
}

fn hear(
    pipe: impl Read + Send + 'static,
    heard: Arc<Heard>,
    tell: impl Fn(&str) + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            let length = pipe.read_until(b'\n', &mut line).unwrap_or(0);
            if length > 0 {
                tell(String::from_utf8_lossy(&line).trim_end_matches('\n'));
            }
            let mut state = heard.state();
            state.0.extend(line);
            state.1 = length == 0;
            heard.1.notify_all();
            if length == 0 {
                return;
            }
        }
    })
}

/// A server that is running, and where.
///
/// # Examples
///
/// ```no_run
/// let server = tests::Server::start("tcp-threaded-server", &["--workers", "2"]);
/// let stream = tests::tcp(server.address());
/// assert!(server.wait_for("connected").is_some());
/// ```
#[derive(Debug)]
pub struct Server {
    process: Process,
    address: SocketAddr,
}

impl Server {
    /// Starts an example's server on a free port of 127.0.0.1 and waits until it listens.
    ///
    /// # Panics
    ///
    /// When it does not say where it listens.
    pub fn start(name: &str, options: &[&str]) -> Server {
        Server::start_at(name, "127.0.0.1:0", options)
    }

    /// Likewise, at an address.
    ///
    /// # Panics
    ///
    /// When it does not say where it listens.
    pub fn start_at(name: &str, address: &str, options: &[&str]) -> Server {
        Server::spawn(Command::new(program(name)).arg(address).args(options))
    }

    /// Starts any server that says `listening on IP:PORT`.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn spawn(command: &mut Command) -> Server {
        Server::listening(Process::spawn(command))
    }

    /// Waits until a process says `listening on IP:PORT`.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn listening(process: Process) -> Server {
        let line = process.wait_for("").expect("a server says where it listens");
        let address = line.strip_prefix("listening on ").and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("the first line is {line:?}"));
        Server { process, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes its standard input, waits until it has ended by itself and returns the exit code.
    ///
    /// # Panics
    ///
    /// When it, or its output, has not ended by the [`DEADLINE`].
    pub fn finish(self) -> i32 {
        self.process.finish()
    }

    /// The process itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

/// Runs a program to its end: exit code, standard output, standard error.
///
/// # Panics
///
/// When it does not start, or has not ended by the [`DEADLINE`].
///
/// # Examples
///
/// ```no_run
/// let (code, output, _error) = tests::run("udp-echo-client", ["--version"]);
/// assert_eq!(code, 0);
/// assert!(output.starts_with("udp-echo-client "));
/// ```
pub fn run<A: AsRef<OsStr>>(
    name: &str,
    arguments: impl IntoIterator<Item = A>,
) -> (i32, String, String) {
    let mut process = Process::spawn(Command::new(program(name)).args(arguments));
    let code = process.exit_code();
    (code, process.stdout(), process.stderr())
}

/// A UDP socket that is connected to `peer` and waits no longer than the [`DEADLINE`].
///
/// # Panics
///
/// When the machine does not give one.
///
/// # Examples
///
/// ```
/// let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// tests::udp(peer.local_addr()?).send(b"hello")?;
/// assert_eq!(peer.recv(&mut [0; 5])?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn udp(peer: SocketAddr) -> UdpSocket {
    let any = if peer.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).expect("a free port");
    socket.connect(peer).expect("to connect sends nothing");
    socket.set_read_timeout(Some(DEADLINE)).expect("it is above zero");
    socket
}

/// A TCP connection to `peer` that waits no longer than the [`DEADLINE`].
///
/// # Panics
///
/// When nobody listens there.
///
/// # Examples
///
/// ```
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let stream = tests::tcp(listener.local_addr()?);
/// assert_eq!(listener.accept()?.1, stream.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn tcp(peer: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&peer, DEADLINE).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("it is above zero");
    stream.set_write_timeout(Some(DEADLINE)).expect("it is above zero");
    stream.set_nodelay(true).expect("it is a TCP socket");
    stream
}

/// A loopback address where nobody listens, and that nobody is given who asks for any free port:
/// the kernels give those out from 32,768 on, or from higher up. It stays free until it is used.
///
/// # Panics
///
/// When nothing is free.
///
/// # Examples
///
/// ```
/// let address = tests::unused_address();
/// assert!(std::net::TcpStream::connect(address).is_err());
/// ```
pub fn unused_address() -> SocketAddr {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    // Test processes that run at the same time begin at different places.
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
