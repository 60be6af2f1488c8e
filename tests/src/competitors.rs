//! The servers that are compared: ours, and those that people write in other languages and libraries.
//!
//! The sources of the competitors are in `tests/competitors/`; the header of each says where its
//! pattern is documented. Every candidate takes a port of 127.0.0.1 as its first argument, replies
//! with the ASCII letters of a request in upper case, and is ready as soon as it replies.
//!
//! ```no_run
//! use tests::competitors::CANDIDATES;
//!
//! for candidate in CANDIDATES {
//!     match candidate.command(20_000) {
//!         Ok(command) => println!("{}: {command:?}", candidate.label),
//!         Err(error) => println!("{}: not built: {error}", candidate.label),
//!     }
//! }
//! ```

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::{env, fs};

/// All candidates: UDP before TCP, and ours before the competitors.
pub const CANDIDATES: [Candidate; 15] = [
    ours("udp-echo", Protocol::Udp),
    ours("udp-threaded", Protocol::Udp),
    competitor("rust-udp", "textbook Rust", Protocol::Udp, Build::Rustc, "rust/udp.rs"),
    competitor("c-udp", "C", Protocol::Udp, Build::Gcc, "c/udp.c"),
    competitor("go-udp", "Go", Protocol::Udp, Build::Go, "go/udp.go"),
    competitor("tokio-udp", "tokio", Protocol::Udp, Build::Cargo, "tokio/src/bin/udp.rs"),
    competitor("python-udp", "Python socketserver", Protocol::Udp, Build::Python, "python/udp.py"),
    competitor(
        "article-udp",
        "Python, the article",
        Protocol::Udp,
        Build::Python,
        "python/article_udp.py",
    ),
    ours("tcp-threaded", Protocol::Tcp),
    competitor("rust-tcp", "textbook Rust", Protocol::Tcp, Build::Rustc, "rust/tcp.rs"),
    competitor("c-tcp", "C", Protocol::Tcp, Build::Gcc, "c/tcp.c"),
    competitor("go-tcp", "Go", Protocol::Tcp, Build::Go, "go/tcp.go"),
    competitor("tokio-tcp", "tokio", Protocol::Tcp, Build::Cargo, "tokio/src/bin/tcp.rs"),
    competitor("python-tcp", "Python socketserver", Protocol::Tcp, Build::Python, "python/tcp.py"),
    competitor(
        "article-tcp",
        "Python, the article",
        Protocol::Tcp,
        Build::Python,
        "python/article_tcp.py",
    ),
];

/// The protocol of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One reply per datagram.
    Udp,
    /// Any number of bytes per connection.
    Tcp,
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
    build: Build,
    source: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Build {
    Ours,
    Rustc,
    Gcc,
    Go,
    Cargo,
    Python,
}

const fn ours(name: &'static str, protocol: Protocol) -> Candidate {
    Candidate { name, label: name, protocol, build: Build::Ours, source: "" }
}

const fn competitor(
    name: &'static str,
    label: &'static str,
    protocol: Protocol,
    build: Build,
    source: &'static str,
) -> Candidate {
    Candidate { name, label, protocol, build, source }
}

impl Candidate {
    /// Returns the candidate with this name.
    ///
    /// # Panics
    ///
    /// Panics if there is none.
    pub fn named(name: &str) -> Candidate {
        let candidate = CANDIDATES.into_iter().find(|candidate| candidate.name == name);
        candidate.unwrap_or_else(|| panic!("no candidate is named {name:?}"))
    }

    /// Returns whether the candidate is a program of this workspace.
    pub fn is_ours(&self) -> bool {
        self.build == Build::Ours
    }

    /// Builds the candidate if it is older than its source, and returns the command that starts it on
    /// `port`. More arguments may be added: the options of ours, and for `tokio-udp` the number of
    /// its tasks.
    ///
    /// # Errors
    ///
    /// Returns one line if the toolchain is missing (`go: not found`), and what the compiler printed
    /// if the build fails.
    ///
    /// # Panics
    ///
    /// Panics if the programs of this workspace do not build.
    pub fn command(&self, port: u16) -> Result<Command, String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("competitors").join(self.source);
        Ok(match self.build {
            Build::Ours => {
                let mut command = Command::new(crate::program(&format!("{}-server", self.name)));
                command.arg(format!("127.0.0.1:{port}"));
                command
            }
            _ => {
                let program = self.program(&source)?;
                let mut command = Command::new(program);
                if self.build == Build::Python {
                    command.arg(source);
                }
                command.arg(port.to_string());
                command
            }
        })
    }

    /// Returns the path of the built program, or of the interpreter.
    fn program(&self, source: &Path) -> Result<PathBuf, String> {
        static BUILT: Mutex<BTreeMap<&str, Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        built.entry(self.name).or_insert_with(|| self.build(source)).clone()
    }

    fn build(&self, source: &Path) -> Result<PathBuf, String> {
        if self.build == Build::Python {
            // `python3` may be a script that takes a while to find the interpreter.
            let script = "import sys; print(sys.executable)";
            return output(Command::new("python3").args(["-c", script])).map(PathBuf::from);
        }
        let folder = target_directory().join("competitors");
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        if self.build == Build::Cargo {
            let package = source.ancestors().nth(3).expect("PACKAGE/src/bin/FILE");
            let target = folder.join("tokio");
            let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
            cargo.args(["build", "--release", "--locked", "--quiet", "--manifest-path"]);
            cargo.arg(package.join("Cargo.toml")).arg("--target-dir").arg(&target);
            output(cargo.env_remove("CARGO_BUILD_TARGET"))?;
            let program = target.join("release").join(source.file_stem().expect("a file"));
            return Ok(program.with_extension(env::consts::EXE_EXTENSION));
        }
        let program = folder.join(self.name).with_extension(env::consts::EXE_EXTENSION);
        let modified = |path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        if modified(program.as_path()) > modified(source) {
            return Ok(program);
        }
        let mut compiler = match self.build {
            Build::Rustc => Command::new(env::var_os("RUSTC").unwrap_or("rustc".into())),
            Build::Gcc => Command::new("gcc"),
            _ => Command::new("go"),
        };
        match self.build {
            Build::Rustc => compiler.args(["-O", "--edition=2024"]),
            Build::Gcc => compiler.args(["-O2", "-pthread"]),
            _ => compiler.arg("build"),
        };
        // Another process may be starting the program, or building it as well.
        let unfinished = program.with_extension(std::process::id().to_string());
        output(compiler.arg("-o").arg(&unfinished).arg(source))?;
        let renamed = fs::rename(&unfinished, &program);
        renamed.map_err(|error| format!("{}: {error}", program.display()))?;
        Ok(program)
    }
}

/// Returns what a command prints, or why it failed.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_string();
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(text(&output.stdout)),
        Ok(output) => Err(format!("{program}: {}", text(&output.stderr))),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(format!("{program}: not found")),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// Returns Cargo's target directory: the running program is TARGET/PROFILE[/deps]/PROGRAM.
fn target_directory() -> PathBuf {
    let this = env::current_exe().expect("the running program has a path");
    let levels = if this.parent().is_some_and(|folder| folder.ends_with("deps")) { 3 } else { 2 };
    this.ancestors().nth(levels).expect("a program is in a target directory").to_path_buf()
}
