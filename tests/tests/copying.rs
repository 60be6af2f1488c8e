//! What the README says of copying a file, followed to the letter outside of this workspace.

#![cfg(unix)]

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tests::{PAIRS, Process, Server};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(Path::new(REPOSITORY).join(path)).expect("the file is there")
}

/// The code block behind its marker in the README.
fn block(name: &str) -> String {
    let (readme, marker) = (read("README.md"), format!("<!-- copying: {name} -->\n```"));
    let marked = readme.split_once(&marker).unwrap_or_else(|| panic!("no {marker} in the README"));
    let (_language, code) = marked.1.split_once('\n').expect("a block has a first line");
    format!("{}\n", code.split_once("\n```\n").expect("a block ends").0)
}

/// Applies a diff: in each part, what the lines with `-` and those with neither sign are together
/// becomes what the lines with `+` and those with neither are.
fn patch(mut source: String, diff: &str) -> String {
    let lines: Vec<&str> = diff.lines().collect();
    for part in lines.split(|line| line.starts_with("@@")).filter(|part| !part.is_empty()) {
        let without = |sign| {
            let lines = part.iter().filter(|line| !line.starts_with(sign));
            lines.map(|line| format!("{}\n", line.get(1..).unwrap_or_default())).collect::<String>()
        };
        let (old, new) = (without('+'), without('-'));
        assert_eq!(source.matches(&old).count(), 1, "this is in the file once:\n{old}");
        source = source.replace(&old, &new);
    }
    source
}

/// Puts a handler in place of the one in a file, and its imports in place of those there.
fn replace_handler(mut source: String, code: &str) -> String {
    let (imports, handler) = code.split_at(code.find("    ///").expect("a handler has a comment"));
    for import in imports.lines().filter(|line| !line.is_empty()) {
        let start = import.split_once('{').expect("it imports several").0;
        let old = source.lines().find(|line| line.starts_with(start)).expect("it is there");
        source = source.replace(old, import);
    }
    let first = handler.lines().next().expect("a handler has a comment");
    let (before, replaced) = source.split_once(first).expect("it is there");
    assert_eq!(replaced.matches("fn ").count(), 1, "the handler comes last");
    format!("{before}{handler}}}\n")
}

/// Runs a command to its end, with this Cargo.
fn run(directory: &Path, program: impl AsRef<OsStr>, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory);
    // The Cargo that runs this test, without what the settings of this build would change.
    if let Some(folder) =
        env::var_os("CARGO").as_deref().and_then(|cargo| Path::new(cargo).parent())
    {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = [folder.to_path_buf()].into_iter().chain(env::split_paths(&path));
        command.env("PATH", env::join_paths(folders).expect("no colons"));
    }
    command.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
    // A copied file is no trouble in a project that wants no warnings.
    command.env("RUSTFLAGS", "-Dwarnings").env("CARGO_PROFILE_DEV_DEBUG", "false");
    command.env("CARGO_TARGET_DIR", scratch().join("target")).env("CARGO_NET_OFFLINE", "true");
    command.env("CARGO_CARGO_NEW_VCS", "none").env("EXAMPLES", REPOSITORY);
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn scratch() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("copying")
}

/// Copies everything, builds it at once, and returns where a binary is:
/// - `my-server`, which the README makes, with the first handler that it shows;
/// - in the same project, all eight files as they are in the repository, and `lines`, the second;
/// - `without-common`.
fn copied(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(copy).join(name)
}

fn copy() -> PathBuf {
    let scratch = scratch();
    let (project, other) = (scratch.join("my-server"), scratch.join("without-common"));
    for old in [&project, &other] {
        let _ = fs::remove_dir_all(old);
    }
    fs::create_dir_all(&scratch).unwrap();
    // A workspace of its own: `cargo new` would add the projects to that of the repository.
    fs::write(scratch.join("Cargo.toml"), "[workspace]\nresolver = \"3\"\n").unwrap();

    run(&scratch, "sh", &["-eu", "-c", &block("project")]);
    let file = fs::read_to_string(project.join("src/main.rs")).unwrap();
    assert_eq!(file, read("udp-echo/src/server.rs"));
    fs::write(project.join("src/main.rs"), replace_handler(file, &block("handler"))).unwrap();

    fs::create_dir(project.join("src/bin")).unwrap();
    for pair in PAIRS {
        for side in ["server", "client"] {
            let file = project.join(format!("src/bin/{pair}-{side}.rs"));
            fs::write(file, read(format!("{pair}/src/{side}.rs"))).unwrap();
        }
    }
    let file = replace_handler(read("tcp-threaded/src/server.rs"), &block("lines"));
    fs::write(project.join("src/bin/lines.rs"), file).unwrap();

    run(&scratch, "cargo", &["new", "--quiet", "without-common"]);
    let file = patch(read("udp-echo/src/server.rs"), &block("without common"));
    assert!(!file.contains("common"), "{file}");
    fs::write(other.join("src/main.rs"), file).unwrap();

    run(&scratch, "cargo", &["build", "--quiet", "--workspace"]);
    scratch.join("target/debug")
}

fn start(server: &str, options: &[&str]) -> Server {
    Server::spawn(Command::new(copied(server)).arg("127.0.0.1:0").args(options))
}

/// Runs a client and returns what it printed, line by line and sorted.
fn ask(client: &str, server: &Server, messages: &[&str]) -> Vec<String> {
    let mut command = Command::new(copied(client));
    let mut client = Process::spawn(command.arg(server.address().to_string()).args(messages));
    assert_eq!(client.exit_code(), 0);
    let mut lines: Vec<String> = client.stdout().lines().map(String::from).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn every_file_works_as_it_is_in_a_project_of_its_own() {
    let server = start("udp-basic-server", &[]);
    assert_eq!(ask("udp-basic-client", &server, &[]).len(), 3);
    assert!(server.wait_for("\"sdfas\" from ").is_some());
    assert_eq!(server.finish(), 0);
    for (pair, count) in [("udp-echo", "2"), ("tcp-threaded", "1"), ("udp-threaded", "2")] {
        let server = start(&format!("{pair}-server"), &["--count", count]);
        let client = format!("{pair}-client");
        assert_eq!(ask(&client, &server, &["hello", "world"]), ["HELLO", "WORLD"]);
        assert_eq!(server.finish(), 0);
    }
}

#[test]
fn to_replace_the_handler_is_all_it_takes_to_make_another_server() {
    let server = start("my-server", &["--count", "1"]);
    assert_eq!(ask("udp-echo-client", &server, &["hello"]), ["olleh"]);
    assert_eq!(server.finish(), 0);
}

#[test]
fn a_handler_may_read_line_by_line() {
    let server = start("lines", &["--count", "1"]);
    let mut stream = tests::tcp(server.address());
    let long = "x".repeat(70_000);
    stream.write_all(format!("hello\nab\r\n\n{long}\n\u{e9}\nlast").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "6\n4\n1\n65536\n4465\n3\n4\n");
    assert_eq!(server.finish(), 0);
}

#[test]
fn a_copied_server_without_common_serves_and_fails_as_it_should() {
    let server = Server::spawn(Command::new(copied("without-common")).env("LISTEN", "127.0.0.1:0"));
    assert_eq!(ask("udp-echo-client", &server, &["hello", "", "world"]), ["", "HELLO", "WORLD"]);
    let taken = server.address().to_string();
    let mut second = Process::spawn(Command::new(copied("without-common")).env("LISTEN", taken));
    assert_eq!(second.exit_code(), 1);
    assert!(second.stderr().contains("AddrInUse"));
}
