//! The server under test: how to reach it, what its replies look like, what its processes do.

use super::Verdict::{Fails, NotTried};
use super::{Outcome, Protocol, grouped};
use crate::{CapturedOutput, capture, proc, retry_on_eintr, unused_address};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a server may take until it replies, or until more of its reply arrives.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Returns the command that starts a server on a port of 127.0.0.1.
type Launch = Arc<dyn Fn(u16) -> Command + Send + Sync>;

/// Returns the reply to a request.
type ReplyTo = fn(&[u8]) -> Vec<u8>;

/// A server to inject faults into.
pub struct Target {
    pub(super) protocol: Protocol,
    /// The address on which the server listens.
    pub address: SocketAddr,
    /// `None` if any reply is accepted.
    pub(super) reply_to: Option<ReplyTo>,
    /// Whether it uses a whole core as soon as a client has disconnected.
    pub(super) busy: bool,
    /// Whether it is to be started again before the next fault.
    pub(super) broken: bool,
    /// `None` for a server that was already running.
    pub(super) server: Option<RunningServer>,
}

impl Target {
    /// Returns a server that is already running.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not reply within 10 seconds.
    pub fn running(protocol: Protocol, address: SocketAddr) -> Result<Target, String> {
        Target { protocol, address, reply_to: None, busy: false, broken: false, server: None }
            .learn()
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

    /// Describes the replies of the server in a sentence.
    pub fn summary(&self) -> String {
        let reply = self.reply_to.map_or(b"other bytes".to_vec(), |reply_to| reply_to(b"Abc"));
        format!("{} replies to Abc with {}.", self.address, reply.escape_ascii())
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
        let server = Some(RunningServer { launch, child, stderr });
        Target { protocol, address, reply_to: None, busy: false, broken: false, server }.learn()
    }

    /// Starts one more server by the same command, with this limit on its descriptors.
    pub(super) fn another(&self, limit: Option<usize>, stdout: Stdio) -> Outcome<Target> {
        let launch = self.started()?.launch.clone();
        Target::launch(self.protocol, launch, limit, stdout).map_err(NotTried)
    }

    fn started(&self) -> Outcome<&RunningServer> {
        let missing = || NotTried("needs the command that starts the server".into());
        self.server.as_ref().ok_or_else(missing)
    }

    /// Waits until the server replies, and finds out how.
    fn learn(mut self) -> Result<Target, String> {
        // No reply has fewer bytes, for which `exchange` would wait.
        let (start, request) = (Instant::now(), b"x\n");
        while self.exchange(request).is_err() {
            if let Some(how) = self.exit() {
                return Err(format!("the server {how}"));
            }
            if start.elapsed() > 2 * PATIENCE {
                let address = self.address;
                return Err(format!(
                    "no reply from {address} in 10 s; does the server listen there?"
                ));
            }
            sleep(Duration::from_millis(20));
        }
        self.reply_to = [<[u8]>::to_ascii_uppercase, <[u8]>::to_vec].into_iter().find(|reply_to| {
            self.reply_to = Some(*reply_to);
            self.exchange(request).is_ok()
        });
        self.busy = self.protocol == Protocol::Tcp && self.assert_idle().is_err();
        Ok(self)
    }

    /// Starts the server again if the last fault broke it.
    pub(super) fn mend(&mut self) -> Outcome {
        if self.broken {
            if self.server.is_some() {
                *self = Target { broken: true, ..self.another(None, Stdio::null())? };
            }
            self.probe().map_err(|_| NotTried("the server no longer replies".into()))?;
            self.broken = false;
        }
        Ok(())
    }

    /// Opens a connection to the server, with this limit on each call.
    pub(super) fn connect(&self, limit: Duration) -> Outcome<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub(super) fn probe(&self) -> Outcome {
        self.exchange(b"Are you there?\n")
    }

    /// Makes one exchange over a connection or socket of its own.
    pub(super) fn exchange(&self, request: &[u8]) -> Outcome {
        if self.protocol == Protocol::Tcp {
            return self.exchange_on(&self.connect(PATIENCE)?, request);
        }
        let (socket, mut reply) = (crate::udp(self.address), vec![0; 65_535]);
        socket.set_read_timeout(Some(PATIENCE / 10))?;
        let start = Instant::now();
        loop {
            // The server drops requests while its queue is full.
            socket.send(request)?;
            match retry_on_eintr(|| socket.recv(&mut reply)) {
                Err(error) if is_timeout(&error) && start.elapsed() < PATIENCE => {}
                received => return self.verify(request, &reply[..received?]),
            }
        }
    }

    /// Sends a request over a connection and checks the reply.
    pub(super) fn exchange_on(&self, mut stream: &TcpStream, request: &[u8]) -> Outcome {
        // An error also shows in the reply.
        let _ = stream.write_all(request);
        self.reply(stream, request)
    }

    /// Checks the reply to a request that was sent.
    pub(super) fn reply(&self, mut stream: &TcpStream, request: &[u8]) -> Outcome {
        let (mut reply, mut buffer) = (Vec::new(), [0; 4096]);
        while reply.len() < text(request).len() {
            match retry_on_eintr(|| stream.read(&mut buffer)) {
                Ok(1..) if self.reply_to.is_none() => return Ok(()),
                Ok(length @ 1..) => reply.extend(text(&buffer[..length])),
                _ if !reply.is_empty() => break,
                Err(error) if is_timeout(&error) => return Err(error.into()),
                _ => return Err(Fails("loses data", "closed without a reply".into())),
            }
        }
        self.verify(request, &reply)
    }

    /// Checks that a reply is complete.
    fn verify(&self, request: &[u8], reply: &[u8]) -> Outcome {
        let Some(reply_to) = self.reply_to else { return Ok(()) };
        let (expected, received) = (text(&reply_to(request)), text(reply));
        let length = grouped(expected.len());
        let details = match expected.len().saturating_sub(received.len()) {
            _ if received == expected => return Ok(()),
            0 => format!("replied with other bytes to {length} bytes"),
            lost => format!("lost {} of {length} bytes", grouped(lost)),
        };
        Err(Fails("loses data", details))
    }

    /// Checks that the server still runs, replies, and is idle when nothing is sent to it. Returns
    /// what explains most: `injected` is the result of the fault itself.
    pub(super) fn aftermath(&mut self, injected: Outcome) -> Outcome {
        let probed = self.probe();
        // Also gives a process time to exit.
        let idle = if self.busy { Ok(()) } else { self.assert_idle() };
        if let Some(how) = self.exit() {
            return Err(Fails("exits", how));
        }
        match (idle.and(probed), injected) {
            (exits @ Err(Fails("exits", _)), _) => exits,
            (_, failure @ Err(Fails(..))) => failure,
            (Err(Fails(symptom, details)), _) => Err(Fails(symptom, details + " afterwards")),
            (after, injected) => after.and(injected),
        }
    }

    /// Fails if the server occupies a core for 3 seconds. A server that finishes its work within
    /// this time is idle.
    pub(super) fn assert_idle(&self) -> Outcome {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            let before = demand(&self.threads());
            sleep(Duration::from_millis(100));
            let threads = self.threads();
            // On a very busy machine, a busy loop may not run at all, but it is runnable.
            let runnable = threads.iter().any(|id| proc::state(*id) == Some('R'));
            if !runnable && demand(&threads).saturating_sub(before) < 50_000_000 {
                return Ok(());
            }
        }
        Err(Fails("spins", "uses a whole core while idle".into()))
    }

    /// Returns how the process of the server ended, if it has.
    fn exit(&mut self) -> Option<String> {
        let server = self.server.as_mut()?;
        let status = server.child.try_wait().ok()??;
        // The last lines may still be in the pipe, and a descendant may hold it open.
        server.stderr.wait_for_end(Instant::now() + Duration::from_millis(200));
        let stderr = server.stderr.text();
        // Rust prints a note after the error, and Go a backtrace.
        let mut lines = stderr.lines().filter(|it| !it.is_empty() && !it.starts_with("note:"));
        let error = lines.clone().find(|line| line.starts_with("panic:")).or(lines.next_back());
        Some(format!("exited ({status}): {}", error.unwrap_or("no error message").trim()))
    }

    /// Returns the process of the server and its descendants, which Linux lists.
    pub(super) fn processes(&self) -> Outcome<Vec<u32>> {
        let family = proc::family(self.started()?.child.id());
        if family.is_empty() { Err(NotTried("needs Linux".into())) } else { Ok(family) }
    }

    /// Returns their threads.
    fn threads(&self) -> Vec<u32> {
        self.processes().unwrap_or_default().into_iter().flat_map(proc::threads).collect()
    }

    /// Suspends all threads of the server.
    pub(super) fn suspend(&self) -> Outcome {
        let start = Instant::now();
        signal("STOP", &self.processes()?);
        while self
            .threads()
            .iter()
            .any(|id| proc::state(*id).is_some_and(|state| !"TZ".contains(state)))
        {
            if start.elapsed() > PATIENCE {
                return Err(NotTried("SIGSTOP cannot be sent by sh".into()));
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// A server process that the kit started. It is killed together with its descendants.
pub(super) struct RunningServer {
    launch: Launch,
    pub(super) child: Child,
    stderr: Arc<CapturedOutput>,
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        // The id of a process that has exited may be in use again.
        if matches!(self.child.try_wait(), Ok(None)) {
            signal("KILL", &proc::family(self.child.id()));
            let _ = self.child.kill(); // On other systems.
            let _ = self.child.wait();
        }
    }
}

/// Sends a signal by the built-in of the shell; not every machine has a program for it.
pub(super) fn signal(name: &str, processes: &[u32]) {
    let ids: Vec<String> = processes.iter().map(u32::to_string).collect();
    let command = format!("kill -{name} {}", ids.join(" "));
    // A failure shows in what the processes do.
    let _ = Command::new("sh").args(["-c", &command]).stderr(Stdio::null()).status();
}

/// The nanoseconds for which threads ran or, on a busy machine, waited for a core.
fn demand(threads: &[u32]) -> u64 {
    threads.iter().filter_map(|id| proc::schedstat(*id)).map(|(ran, waited)| ran + waited).sum()
}

/// The bytes without line ends, which some servers strip or add.
fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect()
}

/// Unix and Windows report a timeout differently.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
