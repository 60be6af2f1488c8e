//! The table `tests/mutations.txt`: each of its edits makes the tests fail that it names.

use crate::pages::anchor;
use crate::support::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fmt, fs};
use tests::copying::replace;

const TABLE: &str = "tests/mutations.txt";
const CONTENT: &str = include_str!("../../mutations.txt");

/// An edit of a program.
struct Mutation {
    /// Headings of docs/pitfalls.md, or other subjects.
    pitfalls: &'static str,
    file: &'static str,
    /// The texts to replace, and the texts in their place.
    edits: Vec<[String; 2]>,
    tests: Vec<&'static str>,
    /// Its first line in the table.
    line: usize,
}

impl Mutation {
    /// Returns the content of the file after the edit, or why it does not fit.
    fn apply(&self, folder: &Path) -> Result<String, String> {
        let source = fs::read_to_string(folder.join(self.file)).unwrap();
        self.edits.iter().try_fold(source, |source, [old, new]| replace(&source, old, new))
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [old, new] = self.edits[0].each_ref().map(|text| text.lines().next().unwrap_or(""));
        write!(f, "{}: {}: {} ==> {}", self.pitfalls, self.file, old.trim(), new.trim())
    }
}

/// Reads the table, whose head explains the signs.
fn table() -> Vec<Mutation> {
    let mut mutations = Vec::<Mutation>::new();
    let (mut pitfalls, mut files) = ("", "");
    let lines: Vec<&str> = CONTENT.lines().collect();
    let is_edit = |line: &str| line.starts_with(['-', '+']);
    let mut next = 1;
    for block in lines.chunk_by(|above, below| is_edit(above) && is_edit(below)) {
        let line = next;
        next += block.len();
        let (sign, text) = block[0].split_once(' ').unwrap_or((block[0], ""));
        match sign {
            "" | "#" => {}
            "==" => (pitfalls, files) = (text, ""),
            "@" => files = text,
            "-" => {
                // A - after a + begins another replacement.
                let is_same =
                    |above: &&str, below: &&str| above.starts_with('-') || below.starts_with('+');
                let mut edits = Vec::new();
                for lines in block.chunk_by(is_same) {
                    edits.push(["- ", "+ "].map(|sign| {
                        let lines = lines.iter().filter_map(|line| line.strip_prefix(sign));
                        lines.collect::<Vec<&str>>().join("\n")
                    }));
                }
                mutations.extend(files.split(' ').map(|file| Mutation {
                    pitfalls,
                    file,
                    edits: edits.clone(),
                    tests: vec![],
                    line,
                }));
            }
            "?" => {
                for mutation in mutations.iter_mut().filter(|mutation| mutation.tests.is_empty()) {
                    mutation.tests = text.split(' ').collect();
                }
            }
            _ => panic!("{}", block[0]),
        }
    }
    mutations
}

/// Returns the tests of the suite that prove a pitfall or show it.
pub fn tests_of(pitfall: &str) -> Vec<&'static str> {
    let mut tests = Vec::new();
    for section in CONTENT.split("\n== ") {
        let (pitfalls, rest) = section.split_once('\n').unwrap();
        if pitfalls.split("; ").any(|it| it == pitfall) {
            tests.extend(rest.lines().filter_map(|line| line.strip_prefix("? ")));
        }
    }
    tests.into_iter().flat_map(|tests| tests.split(' ')).collect()
}

#[test]
fn table_fits_programs_and_tests() {
    let mut errors = Vec::new();
    for mutation in table() {
        let mut error = mutation.apply(&repository("")).err();
        if mutation.tests.is_empty() {
            error = Some("no test follows".into());
        }
        errors.extend(error.map(|error| format!("{TABLE}:{}: {mutation}: {error}", mutation.line)));
    }
    let this = env::current_exe().unwrap();
    let list = output_of(Process::spawn(Command::new(this).arg("--list")));
    for (number, line) in (1..).zip(CONTENT.lines()) {
        for test in line.strip_prefix("? ").iter().flat_map(|tests| tests.split(' ')) {
            let exists = list.lines().any(|listed| listed == format!("{test}: test"));
            // Some tests exist only on Linux.
            if cfg!(target_os = "linux") && !exists {
                errors.push(format!("{TABLE}:{number}: there is no test {test}"));
            }
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
#[ignore = "needs an hour, root, strace, unshare and python3"]
fn every_mutation_fails_its_tests() {
    let folder = copy_of_repository();
    let selected = env::var("MUTATIONS").unwrap_or_default();
    let mut mutations = table();
    mutations.retain(|edit| format!("{edit} {}", edit.tests.join(" ")).contains(&selected));
    let tests: BTreeSet<&str> = mutations.iter().flat_map(|edit| edit.tests.clone()).collect();
    let failed = failed_tests(&folder, &Vec::from_iter(tests), None);
    assert_eq!(failed, [""; 0], "without a mutation");
    let mut survived = Vec::new();
    for mutation in &mutations {
        let path = folder.join(mutation.file);
        let original = fs::read_to_string(&path).unwrap();
        fs::write(&path, mutation.apply(&folder).unwrap()).unwrap();
        let start = Instant::now();
        let mut build = cargo(&folder);
        let (exit_code, output) = finish(build.args(["build", "--quiet", "--workspace", "--bins"]));
        if exit_code != 0 {
            survived.push(format!("{mutation}: {output}"));
        }
        let faults: Vec<String> = mutation.pitfalls.split("; ").map(anchor).collect();
        let failed = failed_tests(&folder, &mutation.tests, Some(faults.join(" ")));
        println!("{mutation} ({:.0?}): {}", start.elapsed(), failed.join(" "));
        let passed = mutation.tests.iter().filter(|test| !failed.contains(test));
        survived.extend(passed.map(|test| format!("{mutation}: {test}")));
        fs::write(&path, original).unwrap();
        kill_programs_in(&folder);
    }
    assert_eq!(survived, [""; 0]);
}

/// Returns a copy of the files of this checkout, in which the checkout's own are never touched.
fn copy_of_repository() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutations");
    let mut git = Command::new("git");
    git.current_dir(repository(""))
        .args("ls-files --cached --others --exclude-standard".split(' '));
    for file in output_of(Process::spawn(&mut git)).lines() {
        // A file may have been deleted.
        if let Ok(content) = fs::read_to_string(repository(file)) {
            write_file(&folder.join(file), &content);
        }
    }
    folder
}

/// Returns those of the tests that fail, and panics if one of them is not run. Those of the fault kit
/// inject only these `faults`.
fn failed_tests<'a>(folder: &Path, tests: &[&'a str], faults: Option<String>) -> Vec<&'a str> {
    let mut cargo = cargo(folder);
    cargo.args(["test", "--package", "tests", "--test", "suite", "--", "--include-ignored"]);
    cargo.arg("--exact").args(tests).envs(faults.map(|faults| ("FAULTS", faults)));
    let (_, output) = finish(&mut cargo);
    let has = |test: &str, result| output.contains(&format!("\ntest {test} ... {result}\n"));
    let has_failed = |test: &&str| {
        assert!(has(test, "ok") || has(test, "FAILED"), "{test} was not run: {output}");
        has(test, "FAILED")
    };
    tests.iter().copied().filter(has_failed).collect()
}

/// Kills what a test that failed has left behind, such as a server that spins.
fn kill_programs_in(folder: &Path) {
    let is_inside = |id: &u32| {
        fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|program| program.starts_with(folder))
    };
    // Process 0 is the ancestor of all others.
    let programs: Vec<u32> = tests::proc::family(0).into_iter().filter(is_inside).collect();
    tests::signal("KILL", &programs);
}

fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(folder).env_remove("BIN_DIR").env_remove("RUST_TEST_THREADS");
    cargo.env("CARGO_TARGET_DIR", folder.join("target"));
    cargo.env("MUTANTS", "1"); // Most of these tests fail at their deadline, which is then shorter.
    cargo
}
