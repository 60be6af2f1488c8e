//! The servers that are compared: ours, and those that people write in other languages and libraries.
//!
//! The sources of the competitors are in `tests/competitors/`; the header of each says where its
//! pattern is documented. Every candidate takes a port of 127.0.0.1 as its first argument, replies
//! with the ASCII letters of a request in upper case, and is ready as soon as it replies.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::{env, fs};

/// All candidates: UDP before TCP, and ours before the competitors.
pub const CANDIDATES: [Candidate; 15] = [
    udp("udp-echo", "udp-echo", ""),
    udp("udp-threaded", "udp-threaded", ""),
    udp("rust-udp", "textbook Rust", "rust/udp.rs"),
    udp("c-udp", "C", "c/udp.c"),
    udp("go-udp", "Go", "go/udp.go"),
    udp("tokio-udp", "tokio", "tokio/src/bin/udp.rs"),
    udp("python-udp", "Python socketserver", "python/udp.py"),
    udp("article-udp", "Python, a tutorial", "python/article_udp.py"),
    tcp("tcp-threaded", "tcp-threaded", ""),
    tcp("rust-tcp", "textbook Rust", "rust/tcp.rs"),
    tcp("c-tcp", "C", "c/tcp.c"),
    tcp("go-tcp", "Go", "go/tcp.go"),
    tcp("tokio-tcp", "tokio", "tokio/src/bin/tcp.rs"),
    tcp("python-tcp", "Python socketserver", "python/tcp.py"),
    tcp("article-tcp", "Python, a tutorial", "python/article_tcp.py"),
];

/// The protocol of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One reply per datagram.
    Udp,
    /// Any number of bytes per connection.
    Tcp,
}

impl Protocol {
    /// Returns its name in lower case.
    pub fn name(self) -> &'static str {
        if self == Protocol::Udp { "udp" } else { "tcp" }
    }
}

/// A server that can be started.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// A short name that does not change, such as `go-udp`; that of ours is the package's.
    pub name: &'static str,
    /// The name in tables.
    pub label: &'static str,
    /// What it speaks.
    pub protocol: Protocol,
    /// The file in `tests/competitors`; empty for ours.
    source: &'static str,
}

const fn udp(name: &'static str, label: &'static str, source: &'static str) -> Candidate {
    Candidate { name, label, protocol: Protocol::Udp, source }
}

const fn tcp(name: &'static str, label: &'static str, source: &'static str) -> Candidate {
    Candidate { name, label, protocol: Protocol::Tcp, source }
}

impl Candidate {
    /// Returns whether the candidate is a program of this workspace.
    pub fn is_ours(&self) -> bool {
        self.source.is_empty()
    }

    /// Builds the candidate if it is older than its source, and returns the command that starts it
    /// on `port`. More arguments may follow: options of ours, a number of tasks for `tokio-udp`, the
    /// size of the buffer for a TCP server, and after that the backlog for `python-tcp`.
    ///
    /// # Errors
    ///
    /// Returns an error if the toolchain is missing or the build fails.
    pub fn command(&self, port: impl Display) -> Result<Command, String> {
        static BUILT: Mutex<BTreeMap<&str, Result<Vec<PathBuf>, String>>> =
            Mutex::new(BTreeMap::new());
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        let words = built.entry(self.name).or_insert_with(|| self.build()).clone()?;
        let mut command = Command::new(&words[0]);
        let host = if self.is_ours() { "127.0.0.1:" } else { "" };
        command.args(&words[1..]).arg(format!("{host}{port}"));
        Ok(command)
    }

    /// Returns the path of the program, or those of the interpreter and of the script.
    fn build(&self) -> Result<Vec<PathBuf>, String> {
        let executable = |path: PathBuf| path.with_extension(env::consts::EXE_EXTENSION);
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("competitors");
        let source = sources.join(self.source);
        let folder = crate::profile_directory().with_file_name("competitors");
        let program = executable(folder.join(self.name));
        let (compiler, args): (_, &[_]) = match self.source.split('/').next() {
            Some("") => return Ok(vec![crate::program(&format!("{}-server", self.name))]),
            Some("python") => {
                // `python3` may be a script that takes a while to find the interpreter.
                let script = "import sys; print(sys.executable)";
                let python = output(Command::new("python3").args(["-c", script]))?;
                return Ok(vec![python.into(), source]);
            }
            Some("tokio") => {
                let target = folder.join("tokio");
                let mut cargo = Command::new(env!("CARGO"));
                cargo.args(["build", "--release", "--locked", "--quiet", "--manifest-path"]);
                cargo.arg(sources.join("tokio/Cargo.toml")).arg("--target-dir").arg(&target);
                output(cargo.env_remove("CARGO_BUILD_TARGET"))?;
                let name = source.file_name().unwrap_or_default();
                return Ok(vec![executable(target.join("release").join(name))]);
            }
            Some("rust") => ("rustc", &["-O", "--edition=2024"]),
            Some("c") => ("gcc", &["-O2", "-pthread"]),
            _ => ("go", &["build"]),
        };
        let modified = |path: &Path| fs::metadata(path).and_then(|it| it.modified()).ok();
        if modified(&program) <= modified(&source) {
            // Another process may be starting the program, or building it as well.
            let unfinished = program.with_extension(std::process::id().to_string());
            fs::create_dir_all(&folder).expect("the target directory is writable");
            output(Command::new(compiler).args(args).arg("-o").arg(&unfinished).arg(source))?;
            fs::rename(&unfinished, &program).expect("the target directory is writable");
        }
        Ok(vec![program])
    }
}

/// Returns what a command prints, or why it failed.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_string();
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(text(&output.stdout)),
        Ok(output) => Err(format!("{program}: {}", text(&output.stderr))),
        Err(error) => Err(format!("cannot run {program}: {error}")),
    }
}
