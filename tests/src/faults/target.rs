//! The server under test: how to reach it, what its replies look like, what its processes do.

use super::Verdict::{self, Fails, NotTried};
use super::{Protocol, Symptom, grouped};
use crate::unused_address;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// How long a server may take until it replies, or until more of its reply arrives.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a server may take until it replies for the first time.
const STARTUP: Duration = Duration::from_secs(10);

/// Returns the command that starts a server on a port of 127.0.0.1.
type Launch = Arc<dyn Fn(u16) -> Command + Send + Sync>;

/// What the replies of a server look like. Line ends are not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replies {
    /// The request with its ASCII letters in upper case.
    UpperCase,
    /// The request.
    Echo,
    /// Anything else. Any reply is accepted, because none can be found to be incomplete.
    Other,
}

/// A server to inject faults into.
///
/// # Examples
///
/// ```no_run
/// use std::process::Command;
/// use tests::faults::{Protocol, Target, Verdict, inject};
///
/// let mut target = Target::start(Protocol::Tcp, |port| {
///     let mut command = Command::new("python3");
///     command.arg("server.py").arg(port.to_string());
///     command
/// })?;
/// assert!(matches!(inject("half-close", &mut target), Verdict::Survives(_)));
/// # Ok::<(), String>(())
/// ```
pub struct Target {
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
    pub(super) replies: Replies,
    /// Whether it closes a connection after its reply.
    pub(super) closes: bool,
    /// Whether the last fault broke it.
    pub(super) broken: bool,
    /// Whether it uses a whole core, or exits, as soon as a client has disconnected.
    pub(super) busy: bool,
    pub(super) dies: bool,
    /// `None` for a server that was already running.
    launch: Option<Launch>,
    server: Option<RunningServer>,
}

impl Target {
    /// A server that is already running.
    ///
    /// # Errors
    ///
    /// When it does not reply within 10 seconds.
    pub fn running(protocol: Protocol, address: SocketAddr) -> Result<Target, String> {
        Target::new(protocol, address).learn()
    }

    /// Starts a server by the command that `launch` returns for a port of 127.0.0.1. It is started
    /// again after a fault that it does not survive.
    ///
    /// # Errors
    ///
    /// When it does not start, or does not reply within 10 seconds.
    pub fn start(
        protocol: Protocol,
        launch: impl Fn(u16) -> Command + Send + Sync + 'static,
    ) -> Result<Target, String> {
        Target::launch(protocol, Arc::new(launch), None, Stdio::null())
    }

    /// Starts a server with this limit on its descriptors and with this standard output.
    fn launch(
        protocol: Protocol,
        launch: Launch,
        descriptors: Option<usize>,
        stdout: Stdio,
    ) -> Result<Target, String> {
        let address = unused_address();
        let server = RunningServer::spawn(launch(address.port()), descriptors, stdout)?;
        let (server, launch) = (Some(server), Some(launch));
        Target { server, launch, ..Target::new(protocol, address) }.learn()
    }

    /// Starts one more server by the same command.
    pub(super) fn another(
        &self,
        descriptors: Option<usize>,
        out: Stdio,
    ) -> Result<Target, Verdict> {
        let missing = || NotTried("needs the command that starts the server".into());
        let launch = self.launch.clone().ok_or_else(missing)?;
        Target::launch(self.protocol, launch, descriptors, out).map_err(NotTried)
    }

    fn new(protocol: Protocol, address: SocketAddr) -> Target {
        let (closes, broken, busy, dies) = (false, false, false, false);
        let (replies, launch, server) = (Replies::Other, None, None);
        Target { protocol, address, replies, closes, broken, busy, dies, launch, server }
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the server again if the last fault broke it.
    pub(super) fn mend(&mut self) -> Result<(), Verdict> {
        if self.broken && self.launch.is_some() {
            self.server = None;
            *self = self.another(None, Stdio::null())?;
        } else if self.broken {
            self.probe().map_err(|_| NotTried("the server no longer replies".into()))?;
        }
        Ok(())
    }

    /// The standard output of a server that was started with a pipe.
    pub(super) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.server.as_mut()?.child.stdout.take()
    }

    /// Makes the first exchange, which shows what the replies look like.
    fn learn(mut self) -> Result<Target, String> {
        let (start, request) = (Instant::now(), b"First request\n");
        loop {
            let first = match self.protocol {
                Protocol::Udp => self.exchange_udp(request),
                Protocol::Tcp => self.first_exchange(request),
            };
            if let Ok(reply) = first {
                self.replies = match text(&reply) {
                    reply if reply == text(&request.to_ascii_uppercase()) => Replies::UpperCase,
                    reply if reply == text(request) => Replies::Echo,
                    _ => Replies::Other,
                };
                self.busy = self.protocol == Protocol::Tcp && self.assert_idle("").is_err();
                return Ok(self);
            }
            if let Some(how) = self.exit() {
                return Err(format!("the server {how}"));
            }
            if start.elapsed() > STARTUP {
                return Err(format!("{} does not reply within 10 s", self.address));
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Reads until no more arrives, which also shows whether the server closes the connection.
    fn first_exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = self.connect(PATIENCE)?;
        stream.write_all(request)?;
        let (mut reply, mut buffer) = (Vec::new(), [0; 1024]);
        while let Ok(length) = retry(|| stream.read(&mut buffer)) {
            reply.extend(&buffer[..length]);
            self.closes = length == 0;
            if self.closes {
                break;
            }
            stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        }
        if reply.is_empty() { Err(ErrorKind::TimedOut.into()) } else { Ok(reply) }
    }

    /// Sends a request from a socket of its own and returns the reply. A request that is lost
    /// because the server's queue is full is sent again.
    pub(super) fn exchange_udp(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let socket = self.socket()?;
        let mut buffer = vec![0; 65_535];
        let start = Instant::now();
        loop {
            socket.send(request)?;
            match retry(|| socket.recv(&mut buffer)) {
                Ok(length) => return Ok(buffer[..length].to_vec()),
                Err(error) if is_timeout(&error) && start.elapsed() < PATIENCE => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A UDP socket that is connected to the server.
    pub(super) fn socket(&self) -> io::Result<UdpSocket> {
        let any = if self.address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(self.address)?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        Ok(socket)
    }

    /// A connection to the server, with this limit on each call.
    pub(super) fn connect(&self, limit: Duration) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Sends a request over a connection and checks the reply.
    pub(super) fn exchange_tcp(
        &self,
        mut stream: &TcpStream,
        request: &[u8],
    ) -> Result<(), Verdict> {
        // An error also shows in the reply.
        let _ = stream.write_all(request);
        self.reply(stream, request)
    }

    /// Checks the reply to a request that was sent.
    pub(super) fn reply(&self, mut stream: &TcpStream, request: &[u8]) -> Result<(), Verdict> {
        let mut missing = if self.replies == Replies::Other { 1 } else { text(request).len() };
        let (mut reply, mut buffer) = (Vec::new(), [0; 4096]);
        while missing > 0 {
            let fails = |symptom, details: &str| Err(Fails(symptom, details.into()));
            match retry(|| stream.read(&mut buffer)) {
                Ok(length @ 1..) => {
                    reply.extend(&buffer[..length]);
                    missing = missing.saturating_sub(text(&buffer[..length]).len());
                }
                _ if !reply.is_empty() => break,
                Err(error) if is_timeout(&error) => return fails(Symptom::Hangs, "no reply"),
                _ => return fails(Symptom::LosesData, "closed the connection without a reply"),
            }
        }
        self.verify(request, &reply)
    }

    /// Whether a reply is complete.
    pub(super) fn verify(&self, request: &[u8], reply: &[u8]) -> Result<(), Verdict> {
        let expected = match self.replies {
            Replies::Other => return Ok(()),
            Replies::Echo => text(request),
            Replies::UpperCase => text(&request.to_ascii_uppercase()),
        };
        let received = text(reply);
        if received == expected {
            return Ok(());
        }
        let details = match expected.len().saturating_sub(received.len()) {
            0 => format!("replied with other bytes to {} bytes", grouped(expected.len())),
            lost => format!("lost {} of {} bytes", grouped(lost), grouped(expected.len())),
        };
        Err(Fails(Symptom::LosesData, details))
    }

    /// Makes one exchange over a connection or socket of its own.
    pub(super) fn probe(&self) -> Result<(), Verdict> {
        let request = b"Are you there?\n";
        let refused = |error: io::Error| match error.kind() {
            ErrorKind::ConnectionRefused => Fails(Symptom::Exits, "no longer listens".into()),
            _ => Fails(Symptom::Hangs, "no reply".into()),
        };
        match self.protocol {
            Protocol::Udp => self.verify(request, &self.exchange_udp(request).map_err(refused)?),
            Protocol::Tcp => self.exchange_tcp(&self.connect(PATIENCE).map_err(refused)?, request),
        }
    }

    /// Whether the server still runs, replies, and is idle when nothing is sent to it.
    pub(super) fn aftermath(&mut self) -> Result<(), Verdict> {
        let probed = self.probe();
        // Also gives a process time to exit.
        let idle = if self.busy { Ok(()) } else { self.assert_idle("while idle") };
        if let Some(how) = self.exit() {
            return Err(Fails(Symptom::Exits, how));
        }
        idle?;
        probed.map_err(|verdict| match verdict {
            Fails(symptom, details) => Fails(symptom, details + " afterwards"),
            other => other,
        })
    }

    /// Fails if the server occupies a core for 3 seconds. A server that finishes its work within
    /// this time is idle.
    pub(super) fn assert_idle(&self, when: &str) -> Result<(), Verdict> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            let before = demand(&tasks(&self.processes()));
            sleep(Duration::from_millis(100));
            let tasks = tasks(&self.processes());
            // On a very busy machine, a busy loop may not run at all, but it is runnable.
            let runnable = tasks.iter().any(|task| stat(task).is_some_and(|stat| stat.0 == 'R'));
            if !runnable && demand(&tasks).saturating_sub(before) < 50_000_000 {
                return Ok(());
            }
        }
        Err(Fails(Symptom::Spins, format!("uses a whole core {when}")))
    }

    /// How the process of the server ended, if it has.
    pub(super) fn exit(&mut self) -> Option<String> {
        let server = self.server.as_mut()?;
        let status = server.child.try_wait().ok()??;
        sleep(Duration::from_millis(50)); // The last line may still be in the pipe.
        let line = server.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        let how = match status.code() {
            Some(code) => format!("exited with code {code}"),
            None => format!("exited by {status}"),
        };
        Some(if line.is_empty() { how } else { format!("{how}: {line}") })
    }

    /// The processes of the server, on Linux: the one that was started and its descendants.
    pub(super) fn processes(&self) -> Vec<u32> {
        self.server.as_ref().map_or(Vec::new(), |server| family(server.child.id()))
    }

    /// Suspends or resumes all threads of the server, and waits until this has happened.
    pub(super) fn signal(&self, name: &str, suspended: bool) -> Result<(), Verdict> {
        let processes = self.processes();
        if processes.is_empty() {
            return Err(NotTried("needs Linux and the command that starts the server".into()));
        }
        signal(name, &processes);
        let other = |task: &PathBuf| stat(task).is_some_and(|stat| (stat.0 == 'T') != suspended);
        let start = Instant::now();
        while tasks(&processes).iter().any(other) {
            if start.elapsed() > PATIENCE {
                return Err(NotTried(format!("SIG{name} cannot be sent by sh")));
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// A server process that the kit started. It is killed together with its descendants.
#[derive(Debug)]
struct RunningServer {
    child: Child,
    /// The last line of its standard error.
    last_error: Arc<Mutex<String>>,
}

impl RunningServer {
    fn spawn(
        mut command: Command,
        descriptors: Option<usize>,
        stdout: Stdio,
    ) -> Result<RunningServer, String> {
        if let Some(limit) = descriptors {
            let mut shell = Command::new("sh");
            // Sets both limits, since some runtimes raise the soft one.
            shell.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]);
            shell.arg(command.get_program()).args(command.get_args());
            shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            command = shell;
        }
        // The first line of a panic is enough, and output is not held back.
        command.env("RUST_BACKTRACE", "0").env("PYTHONUNBUFFERED", "1");
        // Standard input stays open until the child is dropped.
        command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(|e| format!("cannot start {program}: {e}"))?;
        let stderr = child.stderr.take().ok_or("no pipe")?;
        let last_error = Arc::<Mutex<String>>::default();
        let shared = last_error.clone();
        // Not joined: a descendant may hold the pipe open.
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim().to_string();
                let mut last = shared.lock().unwrap_or_else(PoisonError::into_inner);
                // Rust prints a note after the error, and Go a backtrace.
                if !(line.is_empty() || line.starts_with("note:") || last.starts_with("panic:")) {
                    *last = line;
                }
            }
        });
        Ok(RunningServer { child, last_error })
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        let family = family(self.child.id());
        if family.len() > 1 {
            signal("KILL", &family);
        }
        // Either fails if it has exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by the built-in of the shell; not every machine has a program for it.
fn signal(name: &str, processes: &[u32]) {
    let ids: Vec<String> = processes.iter().map(u32::to_string).collect();
    let command = format!("kill -{name} {}", ids.join(" "));
    // A failure shows in what the processes do.
    let _ = Command::new("sh").args(["-c", &command]).stderr(Stdio::null()).status();
}

/// A process and its descendants; empty where there is no `/proc`.
fn family(id: u32) -> Vec<u32> {
    let mut family = Vec::from_iter(stat(Path::new(&format!("/proc/{id}"))).map(|_| id));
    let parents: Vec<(u32, u32)> = entries("/proc")
        .filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, stat(&path)?.1)))
        .collect();
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|process| process.1 == parent).map(|child| child.0));
        next += 1;
    }
    family
}

/// The threads of processes, as folders below `/proc`.
fn tasks(processes: &[u32]) -> Vec<PathBuf> {
    processes.iter().flat_map(|id| entries(&format!("/proc/{id}/task"))).collect()
}

pub(super) fn entries(folder: &str) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// The state and the parent of a process or thread.
fn stat(folder: &Path) -> Option<(char, u32)> {
    let line = fs::read_to_string(folder.join("stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The nanoseconds for which threads ran or, on a busy machine, waited for a core.
fn demand(tasks: &[PathBuf]) -> u64 {
    let read = |task: &PathBuf| fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let sum = |text: String| text.split(' ').take(2).flat_map(str::parse::<u64>).sum::<u64>();
    tasks.iter().map(read).map(sum).sum()
}

/// The bytes without line ends, which some servers strip or add.
pub(super) fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect()
}

/// Repeats a call that a signal interrupted.
pub(super) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Unix and Windows report a timeout differently.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Whether an error comes from the server, and not from a lack of descriptors here, for example.
pub(super) fn is_remote(error: &io::Error) -> bool {
    let remote = [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset];
    is_timeout(error) || remote.contains(&error.kind())
}
