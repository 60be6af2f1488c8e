//! What the README shows is what happens: its commands are run, its output compared, its links
//! followed.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::{Process, Server};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The text of the code block behind `<!-- marker -->`.
fn block(marker: &str) -> String {
    let readme = readme();
    let (_, behind) = readme.split_once(&format!("<!-- {marker} -->\n```")).expect(marker);
    let (block, _) = behind.split_once("\n```").unwrap();
    format!("{}\n", block.split_once('\n').unwrap().1)
}

/// What differs from run to run made equal: ports and workers; lines in order of the alphabet, for
/// datagrams may overtake each other.
fn comparable(output: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in output.lines() {
        let mut words = Vec::new();
        for word in line.split(' ') {
            words.push(match word.split_once("127.0.0.1:") {
                Some((before, _port)) => format!("{before}127.0.0.1:PORT"),
                None if word.ends_with(')') => "N)".into(),
                None => word.into(),
            });
        }
        lines.push(words.join(" "));
    }
    lines.sort();
    lines
}

/// Shows the lines that differ, and not all of both.
#[track_caller]
fn assert_same_lines(about: &str, printed: &str, shown: &str) {
    let (mut extra, mut missing) = (comparable(printed), comparable(shown));
    extra.retain(|line| match missing.iter().position(|shown| shown == line) {
        Some(index) => {
            missing.remove(index);
            false
        }
        None => true,
    });
    let same = extra.is_empty() && missing.is_empty();
    assert!(same, "{about}: prints {extra:#?}\nand not, as the README shows, {missing:#?}");
}

#[test]
fn the_smoke_run_prints_what_the_readme_shows() {
    let block = block("smoke run");
    let (command, shown) = block.split_once('\n').unwrap();
    assert_eq!(command, "$ cargo run -q -p tests");
    let mut smoke = Process::spawn(&mut Command::new(env!("CARGO_BIN_EXE_tests")));
    assert_eq!(smoke.exit_code(), 0);
    assert_same_lines("the smoke run", &smoke.stdout(), shown);
}

#[test]
fn the_smoke_run_of_one_pair_runs_that_one() {
    let mut smoke = Process::spawn(Command::new(env!("CARGO_BIN_EXE_tests")).arg("udp-echo"));
    assert_eq!(smoke.exit_code(), 0);
    assert!(smoke.stdout().ends_with("\nudp-echo: ok\n"), "{}", smoke.stdout());
    assert!(!smoke.stdout().contains("udp-basic"));
    let mut smoke = Process::spawn(Command::new(env!("CARGO_BIN_EXE_tests")).arg("udp-ecko"));
    assert_eq!(smoke.exit_code(), 2);
    assert!(smoke.stderr().starts_with("tests: unknown pair \"udp-ecko\"\n"));
}

/// A block of a session: the program that `cargo run` names, its arguments, and what it printed.
fn session(block: &str) -> (String, Vec<String>, String) {
    let (command, output) = block.split_once('\n').unwrap();
    let (cargo, arguments) = command.split_once(" -- ").unwrap_or((command, ""));
    let words: Vec<&str> = cargo.split(' ').collect();
    let program = match words[..] {
        ["$", "cargo", "run", "-q", "-p", package] => format!("{package}-server"),
        ["$", "cargo", "run", "-q", "-p", _, "--bin", program] => program.into(),
        _ => panic!("{command}"),
    };
    (program, arguments.split_whitespace().map(Into::into).collect(), output.into())
}

#[test]
fn each_pair_in_two_terminals_prints_what_the_readme_shows() {
    let readme = readme();
    let blocks: Vec<&str> = readme
        .split("```console\n")
        .skip(2) // the text before the first block, and the smoke run
        .map(|block| block.split_once("```").unwrap().0)
        .collect();
    assert_eq!(blocks.len(), 8);
    for pair in blocks.chunks(2) {
        let (name, options, server_shown) = session(pair[0]);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        // The README's default port may be taken on this machine.
        let mut server = Server::start(&name, &options);
        let (name, mut arguments, client_shown) = session(pair[1]);
        match arguments.first_mut() {
            Some(address) => {
                assert_eq!(address, ":8888");
                *address = server.address().to_string();
            }
            None => arguments.push(server.address().to_string()),
        }
        // On a busy machine it must not ask twice.
        arguments.extend(
            ["udp-echo-client", "udp-threaded-client"]
                .contains(&&*name)
                .then(|| "--timeout=30".into()),
        );
        let (code, output, error) = tests::run(&name, &arguments);
        assert_eq!((code, error.as_str()), (0, ""), "{name}");
        assert_same_lines(&name, &output, &client_shown);
        let last = if name.starts_with("tcp") { "closed" } else { " from " };
        assert!(server.wait_for(last).is_some());
        if name.starts_with("udp-basic") {
            assert_eq!(server.process().exit_code(), 0);
        } else {
            server.process().kill();
        }
        assert_same_lines(&name, &server.stdout(), &server_shown);
    }
}

#[cfg(unix)]
#[test]
fn the_script_for_ci_passes_as_it_stands() {
    let mut sh = Command::new("sh");
    sh.arg("-c").arg(block("ci script")).current_dir(root());
    sh.env("CARGO_TARGET_DIR", env!("CARGO_TARGET_TMPDIR"));
    let mut sh = Process::spawn(&mut sh);
    assert_eq!(sh.exit_code(), 0);
    assert!(sh.stdout().ends_with("passed\n"));
}

#[test]
fn links_lead_to_files_and_test_names_to_tests() {
    let readme = readme();
    let mut files = BTreeMap::new();
    for link in readme.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        if let Some(heading) = link.strip_prefix('#') {
            let slug =
                |line: &str| line.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-");
            let mut headings = readme.lines().filter(|line| line.starts_with('#'));
            assert!(headings.any(|line| slug(line) == heading), "no heading for #{heading}");
        } else if !link.starts_with("https://") {
            let path = root().join(link);
            assert!(path.exists(), "{link} is not there");
            files.insert(link.to_string(), fs::read_to_string(path).unwrap_or_default());
        }
    }
    // [`name`](tests/tests/file.rs) is a test of that name in that file.
    for link in readme.split("[`").skip(1) {
        let (name, rest) = link.split_once('`').unwrap();
        let file = rest.strip_prefix("](").and_then(|rest| rest.split(')').next()).unwrap_or("");
        if file.starts_with("tests/tests/") && name.contains('_') {
            assert!(files[file].contains(&format!("fn {name}()")), "no {name} in {file}");
        }
    }
    let (_, traps) = readme.split_once("\n| trap |").unwrap();
    let traps: Vec<&str> = traps.lines().skip(2).take_while(|row| row.starts_with('|')).collect();
    let tested = |row: &&&str| row.rsplit(" | ").next().unwrap().contains("](tests/tests/");
    assert!(!traps.is_empty());
    assert_eq!(traps.iter().find(|row| !tested(row)), None, "each trap has a test");
}

#[cfg(target_os = "linux")]
mod on_linux {
    use super::*;
    use std::net::TcpStream;
    use std::panic::{self, AssertUnwindSafe};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
    use std::thread;
    use std::time::{Duration, Instant};
    use tests::DEADLINE;

    #[test]
    fn the_nginx_configuration_balances_and_survives_the_restart_of_a_server() {
        let version = support::said(Command::new("nginx").arg("-v"));
        if !version.starts_with("nginx version") {
            support::not_run("nginx", &version);
            return;
        }
        let [front, one, two] = [(); 3].map(|()| tests::unused_address().to_string());
        let mut configuration = block("nginx");
        for (shown, free) in [("8000", &front), ("8001", &one), ("8002", &two)] {
            configuration = configuration.replace(&format!("127.0.0.1:{shown}"), free);
        }
        // The distribution's nginx may have the module as a file to load.
        let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
        if module.exists() {
            configuration.insert_str(0, &format!("load_module {};\n", module.display()));
        }
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nginx");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("nginx.conf"), configuration).unwrap();

        let tcp = |address: &str| Server::start_at("tcp-threaded-server", address, &[]);
        let udp = |address: &str| Server::start_at("udp-threaded-server", address, &[]);
        let (tcp_one, tcp_two, udp_one, udp_two) = (tcp(&one), tcp(&two), udp(&one), udp(&two));
        let mut nginx = Command::new("nginx");
        nginx.arg("-p").arg(&directory).args([
            "-c",
            "nginx.conf",
            "-e",
            "stderr",
            "-g",
            "daemon off;",
        ]);
        // It has worker processes, which end when their master is told to, and not when it is
        // killed.
        let nginx = Quit(Process::spawn(&mut nginx));
        let start = Instant::now();
        while TcpStream::connect(&front).is_err() {
            assert!(start.elapsed() < DEADLINE, "nginx does not listen");
            assert!(nginx.0.stderr().is_empty(), "{}", nginx.0.stderr());
            thread::sleep(Duration::from_millis(5));
        }

        let (done, lost, answered) =
            (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for name in ["tcp-threaded-client", "udp-threaded-client"] {
                let (front, done, lost, answered) = (&front, &done, &lost, &answered);
                scope.spawn(move || {
                    let time = Instant::now();
                    while !done.load(SeqCst) && time.elapsed() < DEADLINE {
                        let (code, output, error) = tests::run(name, [front.as_str(), "balanced"]);
                        if output == "BALANCED\n" && code == 0 {
                            answered.fetch_add(1, SeqCst);
                        } else {
                            // What is under way when the servers are stopped, and what nginx
                            // tries again with the one that is down, each second in each of its
                            // processes.
                            assert!(
                                lost.fetch_add(1, SeqCst) < 20,
                                "{code}, {output:?}, {error:?}"
                            );
                        }
                    }
                });
            }
            let wait_for_answers = |more: usize| {
                let (time, start) = (Instant::now(), answered.load(SeqCst));
                while answered.load(SeqCst) < start + more {
                    assert!(time.elapsed() < DEADLINE, "no answers any more");
                    thread::sleep(Duration::from_millis(5));
                }
            };
            let load = panic::catch_unwind(AssertUnwindSafe(|| {
                wait_for_answers(80);
                assert!(tcp_one.wait_for("connected").is_some());
                assert!(tcp_two.wait_for("connected").is_some());
                assert!(udp_one.wait_for("balanced").is_some());
                assert!(udp_two.wait_for("balanced").is_some());
                drop((tcp_one, udp_one));
                wait_for_answers(80);
                let (tcp_one, udp_one) = (tcp(&one), udp(&one));
                assert!(tcp_one.wait_for("connected").is_some());
                assert!(udp_one.wait_for("balanced").is_some());
            }));
            done.store(true, SeqCst);
            load.unwrap();
        });
    }

    /// An nginx that is told to quit.
    struct Quit(Process);

    impl Drop for Quit {
        fn drop(&mut self) {
            let _ = Command::new("kill").arg(self.0.id().to_string()).status();
            self.0.exit_code();
        }
    }
}
