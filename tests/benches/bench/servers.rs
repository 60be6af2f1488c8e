//! The servers that are measured, and what the kernel knows about their processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, fs, thread};
use tests::Server;

/// A server as it is started for one measurement.
#[derive(Clone, Copy)]
pub struct Contender {
    pub name: &'static str,
    kind: Kind,
    /// One of ours or a file in `peers/`, and its arguments.
    command: &'static str,
}

/// One of ours, by its command.
pub const fn ours(command: &'static str) -> Contender {
    Contender { name: command, kind: Kind::Ours, command }
}

/// One to compare with.
pub const fn peer(name: &'static str, kind: Kind, command: &'static str) -> Contender {
    Contender { name, kind, command }
}

/// What a server is written in.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Ours,
    C,
    /// C without the upper-casing: the system calls and nothing else.
    Floor,
    Rust,
    Python,
}

impl Contender {
    /// Whether it is one of the programs of this workspace.
    pub fn is_ours(&self) -> bool {
        self.kind == Kind::Ours
    }

    /// Whether it answers in upper case.
    pub fn is_upper(&self) -> bool {
        self.kind != Kind::Floor
    }

    /// Whether it has a thread for each request or connection.
    pub fn is_threaded(&self) -> bool {
        self.command.starts_with("thread") || self.command.starts_with("tcp.c")
    }

    /// Has it built, if it is not; says why that cannot be.
    pub fn build(&self) -> Result<(), String> {
        let path = self.path();
        match self.kind {
            Kind::Ours => Ok(()),
            Kind::Python => python().map(drop),
            Kind::C | Kind::Floor => {
                let mut cc = Command::new("cc");
                // The best that -O2 gives depends on the compiler's age: some use vectors, as Rust
                // does, and some keep a large array on the stack resident.
                cc.args(["-O2", "-ftree-vectorize", "-fno-stack-clash-protection", "-pthread"]);
                if self.kind == Kind::C {
                    cc.arg("-DUPPER");
                }
                run(cc.arg("-o").arg(path).arg(self.source())).map(drop)
            }
            Kind::Rust => {
                let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()));
                run(rustc.args(["-O", "--edition=2021", "-o"]).arg(path).arg(self.source()))
                    .map(drop)
            }
        }
    }

    /// Starts it on a free port; `more` comes after its own arguments.
    pub fn start(&self, more: &[&str]) -> Server {
        let arguments = self.command.split(' ').skip(1).chain(more.iter().copied());
        let mut command = match self.kind {
            Kind::Ours => {
                let arguments: Vec<_> = arguments.chain(["--quiet"]).collect();
                return Server::start(&format!("{}-server", self.program()), &arguments);
            }
            Kind::Python => Command::new(python().expect("it was there before")),
            _ => Command::new(self.path()),
        };
        if self.kind == Kind::Python {
            command.arg(self.source());
        }
        Server::spawn(command.args(arguments))
    }

    fn program(&self) -> &'static str {
        self.command.split(' ').next().unwrap_or(self.command)
    }

    fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(self.program())
    }

    /// Where a compiled peer is.
    fn path(&self) -> PathBuf {
        let floor = if self.kind == Kind::Floor { "-floor" } else { "" };
        let name = self.program().replace('.', "-") + floor;
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension(env::consts::EXE_EXTENSION)
    }
}

/// The interpreter itself: `python3` may be a script that takes its time to find it.
fn python() -> Result<String, String> {
    static PYTHON: OnceLock<Result<String, String>> = OnceLock::new();
    let ask = || run(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]));
    PYTHON.get_or_init(ask).clone()
}

/// What a command prints, or why it fails.
fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_string();
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(text(&output.stdout)),
        Ok(output) => Err(format!("{program}: {}", text(&output.stderr))),
        Err(why) => Err(format!("{program}: {why}")),
    }
}

/// The CPU time that a process has used, in seconds; counted in two ways, for neither is enough.
#[derive(Clone, Copy, PartialEq)]
pub struct Cpu {
    /// To the nanosecond, but only of the threads that live.
    living: f64,
    /// Of all threads that ever were, but in ticks of 10 ms.
    all: f64,
}

/// What a process has used so far. `None`: not on Linux, or it has ended.
pub fn cpu(id: u32) -> Option<Cpu> {
    let number = |text: &str| text.parse::<f64>().ok();
    let mut living = 0.0;
    for task in fs::read_dir(format!("/proc/{id}/task")).ok()? {
        // A thread may end meanwhile.
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).unwrap_or_default();
        living += text.split(' ').next().and_then(number).unwrap_or_default() / 1e9;
    }
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in parentheses, may contain anything; utime and stime are fields 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split(' ').skip(12).map(number);
    let all = (fields.next()?? + fields.next()??) / 100.0;
    Some(Cpu { living, all })
}

impl Cpu {
    /// Seconds used since `before`: the fine figure, unless threads have ended since.
    pub fn since(self, before: Cpu, threads_end: bool) -> f64 {
        if threads_end { self.all - before.all } else { self.living - before.living }
    }
}

/// A figure of `/proc/ID/status` in bytes: `VmRSS` is resident now, `VmHWM` was at most.
pub fn memory(id: u32, name: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse::<f64>().ok().map(|kilobytes| kilobytes * 1024.0)
}

/// Waits until a process does nothing: it has started all its threads, or closed all it had open.
pub fn settle(id: u32) -> Option<Cpu> {
    let start = Instant::now();
    let mut before = cpu(id);
    loop {
        thread::sleep(Duration::from_millis(5));
        let now = cpu(id);
        if now == before || start.elapsed() > Duration::from_secs(2) {
            return now;
        }
        before = now;
    }
}
