//! The files, copied into a project of their own with two edits: the block from `HELP` to `run` is
//! replaced, and the macros come from a crate named `log`.

use crate::pages::block;
use crate::support::*;
use std::sync::OnceLock;

/// The programs for which copying.md shows no `main`, and theirs.
const MAINS: [(&str, &str); 3] = [
    (
        "udp-basic-server",
        r#"fn main() -> std::io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:8888")?;
    info!("listening on {}", socket.local_addr()?);
    Server { count: 3, ..Server::new(socket) }.serve();
    Ok(())
}"#,
    ),
    (
        "udp-basic-client",
        r#"fn main() {
    let server = std::env::args().nth(1).unwrap().parse().unwrap();
    let client = Client::new(&[server]).unwrap();
    for message in ["one", "two", "three"] {
        println!("sent {message} to {}", client.send(message.as_bytes()).unwrap());
    }
}"#,
    ),
    (
        "udp-threaded-client",
        r#"fn main() {
    let server = std::env::args().nth(1).unwrap();
    let client = Client::new(&server, vec![server.parse().unwrap()]);
    let messages = ["one", "two"].map(|message| Ok(message.as_bytes().to_vec()));
    for reply in client.start(Box::new(messages.into_iter())).unwrap() {
        println!("{}", reply.unwrap().escape_ascii());
    }
}"#,
    ),
];

/// The programs for which copying.md shows a `main`, and the names of the blocks.
const SHOWN: [(&str, &str); 5] = [
    ("udp-echo-server", "copying: udp server"),
    ("udp-echo-client", "copying: udp client"),
    ("udp-threaded-server", "copying: threaded udp server"),
    ("tcp-threaded-server", "copying: tcp server"),
    ("tcp-threaded-client", "copying: tcp client"),
];

const LOG: &str = r#"//! Three macros with the names and the syntax of the `log` crate.
#[macro_export]
macro_rules! info { ($($arg:tt)+) => { println!($($arg)+) } }
#[macro_export]
macro_rules! warn { ($($arg:tt)+) => { eprintln!($($arg)+) } }
#[macro_export]
macro_rules! error { ($($arg:tt)+) => { eprintln!($($arg)+) } }
"#;

/// Returns the source of a program.
pub fn source(program: &str) -> String {
    let (pair, side) = program.rsplit_once('-').unwrap();
    fs::read_to_string(repository(pair).join("src").join(side).with_extension("rs")).unwrap()
}

/// Returns the source of a program in which `main` replaces everything from `HELP` on.
pub fn copy(program: &str, main: &str) -> String {
    let source = source(program);
    let (before, _) = source.split_once("const HELP").expect("the command line comes last");
    // Another server may be using the port that the page shows. The clients of the tests have the
    // address as their first argument.
    let main = match program.ends_with("client") {
        true => main
            .replace("nth(1) {", "nth(2) {")
            .replace("\"localhost:8888\"", "&std::env::args().nth(1).unwrap()"),
        false => main.replace(":8888\"", ":0\""),
    };
    format!("{before}{main}\n")
}

/// Returns the path of a binary of the nested workspace, which the first call builds.
pub fn copied(name: &str) -> PathBuf {
    static BIN_DIR: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let directory = BIN_DIR.get_or_init(build).as_ref().unwrap_or_else(|error| panic!("{error}"));
    directory.join(name).with_extension(env::consts::EXE_EXTENSION)
}

fn nested() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("nested")
}

/// Builds the nested workspace with warnings denied. Cargo compiles only files that have changed.
fn build() -> Result<PathBuf, String> {
    let workspace = nested();
    write_file(
        &workspace.join("Cargo.toml"),
        "[workspace]\nresolver = \"3\"\nmembers = [\"copies\", \"handlers\", \"log\", \"recipes\"]\n\n\
         [profile.dev]\ndebug = false\n",
    );
    let package = |name: &str, dependencies: &str, sources: Vec<(String, String)>| {
        let edition = if name == "copies" { "2021" } else { "2024" };
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"9.8.7\"\nedition = \"{edition}\"\n\n\
             [dependencies]\n{dependencies}\n"
        );
        write_file(&workspace.join(name).join("Cargo.toml"), &manifest);
        // Programs of an earlier run.
        for entry in fs::read_dir(workspace.join(name).join("src/bin")).into_iter().flatten() {
            let path = entry.unwrap().path();
            if !sources.iter().any(|(file, _)| path.ends_with(file)) {
                fs::remove_file(path).unwrap();
            }
        }
        for (file, source) in sources {
            write_file(&workspace.join(name).join("src").join(file), &source);
        }
    };
    let shown = SHOWN.map(|(program, marker)| (program, block(marker)));
    let mains = MAINS.map(|(program, main)| (program, main.to_string()));
    let copies = shown.into_iter().chain(mains).map(|(program, main)| {
        let source = copy(program, &main).replace("use common::", "use log::");
        assert!(!source.contains("common"), "{program}: {source}");
        (format!("bin/{program}.rs"), source)
    });
    package("copies", "log = { path = '../log' }", copies.collect());
    package("log", "", vec![("lib.rs".into(), LOG.into())]);
    // In single quotes, because a path may contain backslashes.
    let common = format!("common = {{ path = '{}' }}", repository("common").display());
    package("handlers", &common, crate::handlers::sources());
    package("recipes", "", crate::recipes::sources());
    let mut cargo = Process::spawn(cargo(&workspace).args(["build", "--quiet", "--workspace"]));
    cargo.limit = Some(Instant::now() + 10 * DEADLINE);
    match cargo.exit_code() {
        0 => Ok(workspace.join("target/debug")),
        _ => Err(cargo.stderr()),
    }
}

/// Returns the Cargo that runs this test for the nested workspace, with warnings denied.
fn cargo(workspace: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(workspace).env("CARGO_NET_OFFLINE", "true").env("RUSTFLAGS", "-Dwarnings");
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
    cargo.env_remove("RUST_TEST_THREADS"); // it changes what a test prints
    cargo.env("CARGO_TARGET_DIR", workspace.join("target"));
    cargo
}

/// Returns Cargo for the nested workspace once that is built.
pub fn nested_cargo() -> Command {
    copied("");
    cargo(&nested())
}

/// Starts a server of the nested workspace that has no options.
pub fn start(name: &str) -> Server {
    Server::listening(&mut Command::new(copied(name)))
}

/// Returns the sorted lines of a copied client.
fn lines_of(client: &str, server: &Server, arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new(copied(client));
    command.arg(server.address().to_string()).args(arguments);
    let output = output_of(Process::spawn(&mut command));
    let mut lines: Vec<String> = output.lines().map(Into::into).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn copied_udp_basic_sends_and_receives() {
    let mut server = start("udp-basic-server");
    assert_eq!(lines_of("udp-basic-client", &server, &[]).len(), 3);
    assert_eq!((server.exit_code(), server.stderr()), (0, String::new()));
    for message in ["one", "two", "three"] {
        assert!(server.wait_for(&format!("\"{message}\" from 127.0.0.1:")).is_some());
    }
}

#[test]
fn copied_udp_echo_replies() {
    let server = start("udp-echo-server");
    assert_eq!(lines_of("udp-echo-client", &server, &[]), ["HELLO"]);
}

#[test]
fn copied_udp_threaded_replies_and_stops() {
    let mut server = start("udp-threaded-server");
    assert_eq!(lines_of("udp-threaded-client", &server, &[]), ["ONE", "TWO"]);
    // Its standard input ends, and `stop` is called.
    assert_eq!((server.exit_code(), server.stderr()), (0, String::new()));
}

#[test]
fn copied_tcp_threaded_responds_and_stops() {
    let mut server = start("tcp-threaded-server");
    assert_eq!(lines_of("tcp-threaded-client", &server, &["hello"]), ["HELLO"]);
    assert_eq!(lines_of("tcp-threaded-client", &server, &[]), [""; 0]);
    assert_eq!((server.exit_code(), server.stderr()), (0, String::new()));
}

#[test]
fn version_is_that_of_copying_package() {
    let mut command = Command::new(copied("udp-echo-faulty"));
    run(command.arg("--version"), "").success().stdout("udp-echo-server 9.8.7\n");
}
