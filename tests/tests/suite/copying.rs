//! The copies of the programs, and the command that writes them.

use crate::pages::block;
use crate::support::*;
use predicates::str::contains;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::{env, fs};
use tests::copying::{Copy, PAGES, read, recipes, replace, source};

/// Takes the place of the crate `ctrlc`: each line of standard input stands for a signal.
const CTRLC: &str = "
pub fn set_handler(mut handler: impl FnMut() + Send + 'static) -> Result<(), std::io::Error> {
    std::thread::spawn(move || std::io::stdin().lines().for_each(|_| handler()));
    Ok(())
}
";

/// Runs the module that the program is named after.
const MAIN: &str = "
use std::process::{ExitCode, Termination};

fn main() -> ExitCode {
    let path = std::env::current_exe().unwrap_or_default();
    match path.file_stem().and_then(|name| name.to_str()).unwrap_or_default() {
        ARMS
        _ => ExitCode::FAILURE,
    }
}
";

/// Returns a copy of a program, or of the TCP server with recipes.
pub fn copy(names: &[&str]) -> Copy {
    Copy::new(names, None).unwrap_or_else(|error| panic!("{names:?}: {error}"))
}

/// The errors of the nested workspace, which the first test that needs it builds.
static ERRORS: LazyLock<Option<String>> = LazyLock::new(build);

/// Returns the path of a binary of the nested workspace.
pub fn copied(name: &str) -> PathBuf {
    assert!(
        ERRORS.is_none(),
        "the copies do not build: see copying::copies_build_and_pass_their_own_tests"
    );
    binary(name)
}

fn binary(name: &str) -> PathBuf {
    nested().join("target/debug").join(name).with_extension(env::consts::EXE_EXTENSION)
}

fn nested() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("copies")
}

/// Builds the nested workspace with warnings denied. Cargo compiles only files that have changed.
fn build() -> Option<String> {
    let write = |file: &str, text: &str| write_file(&nested().join(file), text);
    write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"logging\", \"variants\"]\n\n\
         [profile.dev]\ndebug = false\n\n\
         [patch.crates-io]\nctrlc = { path = \"ctrlc\" }\nenv_logger = { path = \"env_logger\" }\n\
         log = { path = \"log\" }\n",
    );
    let log = ["info", "warn", "error"].map(|level| {
        let rule = "($($arg:tt)+) => { println!($($arg)+) }";
        format!("#[macro_export]\nmacro_rules! {level} {{ {rule} }}\n")
    });
    for (name, version, source) in [
        ("log", "0.4.99", &*log.concat()),
        ("env_logger", "0.11.99", "pub fn init() { println!(\"initialized\"); }\n"),
        ("ctrlc", "3.99.0", CTRLC),
    ] {
        let manifest = copy(&["udp-basic-server"]).manifest(name).replace("0.1.0", version);
        write(&format!("{name}/Cargo.toml"), &(manifest + "\n[features]\ntermination = []\n"));
        write(&format!("{name}/src/lib.rs"), source);
    }
    // All programs as modules beside a copied program, in a package of the older edition.
    let log = |program: &str| Copy::new(&[program], Some("log")).unwrap();
    let server = log("tcp-threaded-server");
    write("logging/Cargo.toml", &server.manifest("logging").replace("2024", "2021"));
    write("logging/src/main.rs", &server.main());
    for program in programs() {
        let name = program.replace('-', "_");
        write(&format!("logging/src/{name}.rs"), &log(&program).module());
    }
    let modules: String = programs().map(|name| format!("pub mod {name};\n")).collect();
    write("logging/src/lib.rs", &modules.replace('-', "_"));
    let test = block("copying: test in tests");
    let test = replace(&test, "my_app::server", "logging::tcp_threaded_server").unwrap();
    write("logging/tests/server.rs", &test);
    // All others as modules of one program, which links in a fifth of the time.
    let variants = [crate::handlers::sources(), crate::recipes::sources()].concat();
    let (mut main, mut arms) = (String::new(), String::new());
    for (name, source) in &variants {
        let module = name.replace('-', "_");
        let source = source.replace("\nfn main()", "\npub fn main()");
        write(&format!("variants/src/{module}.rs"), &source);
        main += &format!("mod {module};\n");
        arms += &format!("\"{name}\" => {module}::main().report(),\n");
    }
    main += &MAIN.replace("ARMS", &arms);
    write("variants/src/main.rs", &main);
    // In single quotes, because a path may contain backslashes.
    let common = format!("common = {{ path = '{}' }}\n", repository("common").display());
    write("variants/Cargo.toml", &(copy(&["stop"]).manifest("variants") + &common));
    let (code, output) = finish(cargo(&nested()).args(["build", "--quiet", "--workspace"]));
    if code != 0 {
        return Some(origins(&output) + &output);
    }
    for (name, _) in &variants {
        let _ = fs::remove_file(binary(name));
        fs::hard_link(binary("variants"), binary(name)).unwrap();
    }
    None
}

/// Returns where the pages and programs contain the lines that the compiler shows.
fn origins(errors: &str) -> String {
    let shown = errors.lines().filter_map(|line| Some(line.split_once(" | ")?.1.trim()));
    // Others, such as `}`, are everywhere.
    let shown: Vec<&str> = shown.filter(|code| code.len() > 8).collect();
    let programs = programs().map(|program| source(&program));
    let pages = PAGES.map(|page| (page.to_string(), read(page)));
    let mut origins = String::new();
    for (path, text) in programs.chain(pages) {
        for (number, line) in (1..).zip(text.lines()) {
            if shown.contains(&line.trim()) {
                origins += &format!("{path}:{number}: {}\n", line.trim());
            }
        }
    }
    origins
}

/// Returns the Cargo that runs this test for another workspace, with warnings denied.
fn cargo(workspace: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    // What a mutation leaves unused must not be what makes a test fail.
    let warnings = if env::var_os("MUTANTS").is_some() { "-Awarnings" } else { "-Dwarnings" };
    cargo.current_dir(workspace).env("CARGO_NET_OFFLINE", "true").env("RUSTFLAGS", warnings);
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
    cargo.env("CARGO_TARGET_DIR", nested().join("target"));
    cargo
}

/// Starts a server of the nested workspace, which takes its address from the command line.
pub fn start_copy(name: &str, options: &[&str]) -> Process {
    Process::listening(Command::new(copied(name)).arg("127.0.0.1:0").args(options))
}

#[test]
fn copied_pairs_exchange_messages() {
    for pair in PAIRS {
        let server = start_copy(&pair.server(), &[]);
        let message = pair.messages[0];
        let mut client = Command::new(copied(&pair.client()));
        client.arg(server.address().to_string()).args([message, message]);
        let output = output_of(Process::spawn(&mut client));
        let is_right = output.lines().all(|line| pair.prints(message, line));
        assert!(is_right && output.lines().count() == 2, "{}: {output}", pair.name);
        assert!(server.wait_for(&format!("\"{message}")).is_some());
        assert_eq!(server.stderr(), "");
    }
    // Without messages, standard input is sent.
    let server = start_copy("tcp-threaded-server", &[]);
    let mut client = Command::new(copied("tcp-threaded-client"));
    run(client.arg(server.address().to_string()), "from stdin").success().stdout("FROM STDIN");
}

/// Names the pages and recipes of code that does not compile.
#[test]
fn copies_build_and_pass_their_own_tests() {
    if let Some(errors) = &*ERRORS {
        panic!("{errors}");
    }
    let mut tests = cargo(&nested());
    // Each of their TCP servers holds 33 descriptors.
    let (code, output) = finish(tests.args(["test", "--workspace"]).env("RUST_TEST_THREADS", "4"));
    assert_eq!(code, 0, "{output}");
    // One of each server as a module, and of each server and recipe, with or without an edit.
    let passed = output.lines().filter_map(|line| {
        let (number, _) = line.strip_prefix("test result: ok. ")?.split_once(" passed")?;
        number.parse::<usize>().ok()
    });
    assert!(passed.sum::<usize>() > servers().count() * 2 + recipes().len(), "{output}");
}

#[test]
fn logger_is_installed_first() {
    let server = Process::spawn(Command::new(copied("logging")).arg("127.0.0.1:0"));
    server.wait_for("listening on 127.0.0.1:").unwrap();
    assert!(server.stdout().starts_with("initialized\n"));
}

fn copy_in(folder: &Path, arguments: &str) -> assert_cmd::assert::Assert {
    let mut command = Command::new(env!("CARGO_BIN_EXE_copy"));
    run(command.current_dir(folder).args(arguments.split(' ')), "")
}

#[test]
fn command_writes_packages_and_modules() {
    let folder = empty_folder("new");
    let manifest = "[package] # mine\nname = \"mine\"\n[dependencies]\ntracing.workspace = true\n";
    for (file, content) in [
        ("other/Cargo.toml", "[package]\n[workspace]\n"),
        ("mine/Cargo.toml", manifest),
        ("mine/src/main.rs", ""),
        ("key-value/Cargo.toml", "[package]"),
    ] {
        write_file(&folder.join(file), content);
    }
    let [udp, tcp] = ["udp-basic-server", "tcp-threaded-server"].map(|name| copy(&[name]));
    let client = Copy::new(&["udp-echo-client"], Some("log")).unwrap();
    let [module, other] = ["udp-threaded-server", "udp-threaded-client"]
        .map(|name| Copy::new(&[name], Some("tracing")).unwrap().module());
    assert!(module.contains("\nuse tracing::{error, info, warn};\n"));
    let kit = "fault-kit -- --request 'get color\\n' --reply 'missing\\n' --port 8888 tcp -- ";
    for (arguments, file, content, message) in [
        ("udp-basic-server a", "a/src/main.rs", udp.main(), "fault-kit -- --no-reply udp -- \\\n"),
        ("tcp-threaded-server b", "b/src/main.rs", tcp.main(), "\nNext, in b:\n  cargo run "),
        ("udp-echo-client other/c --log", "other/c/Cargo.toml", client.manifest("c"), "RUST_LOG"),
        ("udp-threaded-server mine", "mine/src/server.rs", module, "\n  mod server;\n"),
        ("udp-threaded-client mine", "mine/src/client.rs", other, "\n  client::run(\"127.0.0.1:8"),
        ("key-value key-value", "key-value/Cargo.toml", "[package]".into(), kit),
    ] {
        copy_in(&folder, arguments).success().stdout(contains(message)).stderr("");
        let written = fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(written, content, "{arguments}");
    }
    // Below the folder of this workspace it must not be taken for a member.
    let (code, output) = finish(cargo(&folder.join("b")).arg("test"));
    assert!(code == 0 && output.contains(" 1 passed;"), "{output}");
}

#[test]
fn command_rejects_wrong_arguments_and_overwrites_no_file() {
    let folder = empty_folder("wrong");
    let files = [
        ("file", ""),
        ("workspace/Cargo.toml", "[workspace]"),
        ("package/Cargo.toml", "[package]"),
        ("package/src/server.rs", "mine"),
        ("package/src/client/mod.rs", "mine"),
        ("main/src/main.rs", "mine"),
    ];
    for (file, content) in files {
        write_file(&folder.join(file), content);
    }
    let name = "a package name begins with a letter and has only letters, digits, - and _";
    for (arguments, code, error) in [
        ("udp-echo-server", 2, "expected a NAME and a FOLDER"),
        ("udp-echo x", 2, "\"udp-echo\" is neither a program nor a recipe"),
        ("udp-echo-server lines x", 2, "lines changes tcp-threaded-server, not udp-echo-server"),
        ("lines chat x", 2, "more than one of lines, chat has a handler"),
        ("udp-echo-server x --lgo", 2, "unknown option \"--lgo\""),
        ("udp-echo-server 2x", 2, &format!("the folder \"2x\": {name}")),
        ("udp-echo-server file", 2, "file is not a folder"),
        ("lines workspace", 2, "workspace/Cargo.toml has no [package]: name a member"),
        ("lines package/src", 2, "package/src is inside of the package "),
        ("lines package/new/server", 2, "package/new/server is inside of the package "),
        ("lines package", 1, "in the way: package/src/server.rs (delete or rename it"),
        ("udp-echo-client package", 1, "in the way: package/src/client/mod.rs (delete"),
        ("udp-echo-client main", 1, "in the way: main/src/main.rs (delete or rename it"),
    ] {
        let assert = copy_in(&folder, arguments).code(code).stdout("");
        let stderr = String::from_utf8_lossy(&assert.get_output().stderr).replace('\\', "/");
        assert!(stderr.starts_with(&format!("copy: {error}")), "{arguments}: {stderr}");
        assert_eq!(stderr.ends_with(" (see --help)\n"), code == 2, "{arguments}: {stderr}");
    }
    for (file, content) in files {
        assert_eq!(fs::read_to_string(folder.join(file)).unwrap(), content);
    }
    assert!(!folder.join("main/Cargo.toml").exists() && !folder.join("x").exists());
    copy_in(&folder, "--help").success().stdout(contains("udp-basic, udp-echo, "));
}
