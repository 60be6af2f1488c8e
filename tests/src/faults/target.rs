//! The server under test: how to reach it, what its replies look like, what its processes do.

use super::Verdict::{Fails, NotTried};
use super::{Outcome, Protocol, grouped, symptom};
use crate::{CapturedOutput, capture, unused_address};
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a server may take until it replies, or until more of its reply arrives.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Returns the command that starts a server on a port of 127.0.0.1.
type Launch = Arc<dyn Fn(u16) -> Command + Send + Sync>;

/// What is known about replies: a description, and how a request becomes its reply.
type Replies = (&'static str, fn(&[u8]) -> Vec<u8>);

const REPLIES: [Replies; 2] = [
    ("the request in upper case", |request| request.to_ascii_uppercase()),
    ("the request", |request| request.to_vec()),
];

/// A server to inject faults into.
pub struct Target {
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
    /// `None` if any reply is accepted, because none can be found to be incomplete.
    pub(super) replies: Option<Replies>,
    /// Whether it closes a connection after its reply.
    pub(super) closes: bool,
    /// Whether the last fault broke it.
    pub(super) broken: bool,
    /// Whether it uses a whole core, or exits, as soon as a client has disconnected.
    pub(super) busy: bool,
    pub(super) dies: bool,
    /// `None` for a server that was already running.
    server: Option<RunningServer>,
}

impl Target {
    /// Returns a server that is already running.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not reply within 10 seconds.
    pub fn running(protocol: Protocol, address: SocketAddr) -> Result<Target, String> {
        Target::learn(protocol, address, None)
    }

    /// Starts a server by the command that `launch` returns for a port of 127.0.0.1. It is started
    /// again after a fault that it does not survive.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not start, or does not reply within 10 seconds.
    pub fn start(
        protocol: Protocol,
        launch: impl Fn(u16) -> Command + Send + Sync + 'static,
    ) -> Result<Target, String> {
        Target::launch(protocol, Arc::new(launch), None, Stdio::null())
    }

    fn launch(
        protocol: Protocol,
        launch: Launch,
        descriptors: Option<usize>,
        stdout: Stdio,
    ) -> Result<Target, String> {
        let address = unused_address();
        let mut command = launch(address.port());
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
        // Not joined: a descendant may hold the pipe open.
        let stderr = capture(child.stderr.take().expect("piped"));
        Target::learn(protocol, address, Some(RunningServer { launch, child, stderr }))
    }

    /// Starts one more server by the same command, with this limit on its descriptors.
    pub(super) fn another(&self, limit: Option<usize>, stdout: Stdio) -> Outcome<Target> {
        let missing = || NotTried("needs the command that starts the server".into());
        let launch = self.server.as_ref().ok_or_else(missing)?.launch.clone();
        Target::launch(self.protocol, launch, limit, stdout).map_err(NotTried)
    }

    /// Returns the address on which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the server again if the last fault broke it.
    pub(super) fn mend(&mut self) -> Outcome {
        if self.dies {
            return Err(NotTried("the server exits after any client".into()));
        }
        if self.broken && self.server.is_some() {
            *self = self.another(None, Stdio::null())?;
        } else if self.broken {
            self.probe().map_err(|_| NotTried("the server no longer replies".into()))?;
        }
        Ok(())
    }

    /// Returns the standard output of a server that was started with a pipe.
    pub(super) fn take_stdout(&mut self) -> ChildStdout {
        let server = self.server.as_mut().expect("the kit started the server");
        server.child.stdout.take().expect("standard output is a pipe, and not taken yet")
    }

    /// Makes the first exchange, which shows what the replies look like.
    fn learn(
        protocol: Protocol,
        address: SocketAddr,
        server: Option<RunningServer>,
    ) -> Result<Target, String> {
        let (replies, closes, broken, busy, dies) = (None, false, false, false, false);
        let mut target = Target { protocol, address, replies, closes, broken, busy, dies, server };
        let (start, request) = (Instant::now(), b"First request\n");
        let reply = loop {
            if let Ok(reply) = target.first_reply(request) {
                break text(&reply);
            }
            if let Some(how) = target.exit() {
                return Err(format!("the server {how}"));
            }
            if start.elapsed() > 2 * PATIENCE {
                return Err(format!("{address} does not reply within 10 s"));
            }
            sleep(Duration::from_millis(20));
        };
        target.replies = REPLIES.into_iter().find(|replies| text(&replies.1(request)) == reply);
        target.busy = protocol == Protocol::Tcp && target.assert_idle("").is_err();
        Ok(target)
    }

    fn first_reply(&mut self, request: &[u8]) -> Outcome<Vec<u8>> {
        if self.protocol == Protocol::Udp {
            return self.exchange_datagrams(request);
        }
        let (mut stream, mut reply) = (self.connect(PATIENCE)?, Vec::new());
        stream.write_all(request)?;
        retry(|| stream.peek(&mut [0]))?;
        // Reads until no more arrives, which also shows whether the server closes the connection.
        stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        self.closes = stream.read_to_end(&mut reply).is_ok();
        if reply.is_empty() { Err(NotTried("no reply".into())) } else { Ok(reply) }
    }

    /// Sends a request from a socket of its own and returns the reply. A request that is lost
    /// because the server's queue is full is sent again.
    fn exchange_datagrams(&self, request: &[u8]) -> Outcome<Vec<u8>> {
        let socket = self.socket(PATIENCE / 10)?;
        let (start, mut reply) = (Instant::now(), vec![0; 65_535]);
        loop {
            socket.send(request)?;
            match retry(|| socket.recv(&mut reply)) {
                Ok(length) => return Ok(reply[..length].to_vec()),
                Err(error) if is_timeout(&error) && start.elapsed() < PATIENCE => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Opens a UDP socket that is connected to the server, with this limit on each receive.
    pub(super) fn socket(&self, limit: Duration) -> Outcome<UdpSocket> {
        let any = if self.address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(self.address)?;
        socket.set_read_timeout(Some(limit))?;
        Ok(socket)
    }

    /// Opens a connection to the server, with this limit on each call.
    pub(super) fn connect(&self, limit: Duration) -> Outcome<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Sends a request over a connection and checks the reply.
    pub(super) fn exchange_on(&self, mut stream: &TcpStream, request: &[u8]) -> Outcome {
        // An error also shows in the reply.
        let _ = stream.write_all(request);
        self.reply(stream, request)
    }

    /// Checks the reply to a request that was sent.
    pub(super) fn reply(&self, mut stream: &TcpStream, request: &[u8]) -> Outcome {
        let mut missing = if self.replies.is_none() { 1 } else { text(request).len() };
        let (mut reply, mut buffer) = (Vec::new(), [0; 4096]);
        while missing > 0 {
            match retry(|| stream.read(&mut buffer)) {
                Ok(length @ 1..) => {
                    reply.extend(&buffer[..length]);
                    missing = missing.saturating_sub(text(&buffer[..length]).len());
                }
                _ if !reply.is_empty() => break,
                Err(error) if is_timeout(&error) => return Err(error.into()),
                _ => {
                    let details = "closed the connection without a reply";
                    return Err(Fails(symptom::LOSES_DATA, details.into()));
                }
            }
        }
        self.verify(request, &reply)
    }

    /// Checks that a reply is complete.
    pub(super) fn verify(&self, request: &[u8], reply: &[u8]) -> Outcome {
        let Some((_, reply_to)) = self.replies else { return Ok(()) };
        let expected = text(&reply_to(request));
        let (length, received) = (expected.len(), text(reply));
        let details = match length.saturating_sub(received.len()) {
            _ if received == expected => return Ok(()),
            0 => format!("replied with other bytes to {} bytes", grouped(length)),
            lost => format!("lost {} of {} bytes", grouped(lost), grouped(length)),
        };
        Err(Fails(symptom::LOSES_DATA, details))
    }

    /// Makes one exchange over a connection or socket of its own.
    pub(super) fn exchange(&self, request: &[u8]) -> Outcome {
        match self.protocol {
            Protocol::Udp => self.verify(request, &self.exchange_datagrams(request)?),
            Protocol::Tcp => self.exchange_on(&self.connect(PATIENCE)?, request),
        }
    }

    /// Checks that the server serves a client.
    pub(super) fn probe(&self) -> Outcome {
        self.exchange(b"Are you there?\n")
    }

    /// Checks that the server still runs, replies, and is idle when nothing is sent to it. Returns
    /// what explains most: `injected` is the result of the fault itself.
    pub(super) fn aftermath(&mut self, injected: Outcome) -> Outcome {
        let probed = self.probe();
        // Also gives a process time to exit.
        let idle = if self.busy { Ok(()) } else { self.assert_idle("while idle") };
        if let Some(how) = self.exit() {
            return Err(Fails(symptom::EXITS, how));
        }
        match (idle.and(probed.map_err(|verdict| verdict.during("afterwards"))), injected) {
            (exits @ Err(Fails(symptom::EXITS, _)), _) => exits,
            (Err(_), failure @ Err(Fails(..))) | (Ok(()), failure) => failure,
            (failure, _) => failure,
        }
    }

    /// Fails if the server occupies a core for 3 seconds. A server that finishes its work within
    /// this time is idle.
    pub(super) fn assert_idle(&self, when: &str) -> Outcome {
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
        Err(Fails(symptom::SPINS, format!("uses a whole core {when}")))
    }

    /// Returns how the process of the server ended, if it has.
    fn exit(&mut self) -> Option<String> {
        let server = self.server.as_mut()?;
        let status = server.child.try_wait().ok()??;
        let how = match status.code() {
            Some(code) => format!("exited with code {code}"),
            None => format!("exited by {status}"),
        };
        // The last lines may still be in the pipe, and a descendant may hold it open.
        server.stderr.wait_for_end(Instant::now() + Duration::from_millis(200));
        let stderr = server.stderr.text();
        // Rust prints a note after the error, and Go a backtrace.
        let is_error = |line: &&str| !line.is_empty() && !line.starts_with("note:");
        let mut lines = stderr.lines().map(str::trim).filter(is_error);
        let error = lines.clone().find(|line| line.starts_with("panic:")).or(lines.next_back());
        Some(error.map_or(how.clone(), |error| format!("{how}: {error}")))
    }

    /// Returns the processes of the server, on Linux: the one that was started and its descendants.
    pub(super) fn processes(&self) -> Vec<u32> {
        self.server.as_ref().map_or(Vec::new(), |server| family(server.child.id()))
    }

    /// Suspends or resumes all threads of the server, and waits until this has happened.
    pub(super) fn signal(&self, name: &str, suspended: bool) -> Outcome {
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
struct RunningServer {
    launch: Launch,
    child: Child,
    stderr: Arc<CapturedOutput>,
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
