//! The table `tests/mutations.txt`: each of its edits makes the tests fail that it names.

use crate::pages::anchor;
use crate::support::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs};

/// An edit of a program.
struct Mutation {
    /// Headings of docs/pitfalls.md, or other subjects.
    pitfalls: String,
    file: String,
    /// The texts to replace, and the texts in their place.
    edits: Vec<(String, String)>,
    tests: Vec<String>,
    /// Its first line in the table.
    line: usize,
}

impl Mutation {
    /// Returns the content of the file after the edit, or why it does not fit.
    fn apply(&self, folder: &Path) -> Result<String, String> {
        let mut source = fs::read_to_string(folder.join(&self.file)).unwrap();
        for (old, new) in &self.edits {
            let count = source.matches(old).count();
            if count != 1 {
                let Mutation { file, line, .. } = self;
                return Err(format!("{TABLE}:{line}: {file} contains {count} times:\n{old}"));
            }
            source = source.replace(old, new);
        }
        Ok(source)
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (old, new) = &self.edits[0];
        let [old, new] = [old, new].map(|text| text.lines().next().unwrap_or("").trim());
        write!(f, "{}: {}: {old} ==> {new}", self.pitfalls, self.file)
    }
}

const TABLE: &str = "tests/mutations.txt";

/// The content of the table.
#[derive(Default)]
struct Table {
    mutations: Vec<Mutation>,
    /// The tests of each subject, with their lines.
    tests: BTreeMap<String, Vec<(String, usize)>>,
}

/// Reads the table, whose head explains the signs.
fn table() -> Table {
    let text = fs::read_to_string(repository(TABLE)).unwrap();
    let (mut table, mut pitfalls, mut files) = (Table::default(), "", "");
    // The first of the mutations of this block, and the sign of the line before.
    let (mut first, mut before) = (0, "");
    for (line, text) in (1..).zip(text.lines()) {
        let (sign, text) = text.split_once(' ').unwrap_or((text, ""));
        match sign {
            "" | "#" => {}
            "==" => (pitfalls, files) = (text, ""),
            "@" => files = text,
            "-" if !["-", "+"].contains(&before) => {
                first = table.mutations.len();
                table.mutations.extend(files.split(' ').map(|file| Mutation {
                    pitfalls: pitfalls.into(),
                    file: file.into(),
                    edits: vec![(text.into(), String::new())],
                    tests: vec![],
                    line,
                }));
            }
            "-" | "+" => {
                for Mutation { edits, .. } in &mut table.mutations[first..] {
                    match (before, sign, edits.last_mut()) {
                        ("-", "-", Some((old, _))) => *old += &format!("\n{text}"),
                        ("-", "+", Some((_, new))) => *new = text.into(),
                        ("+", "+", Some((_, new))) => *new += &format!("\n{text}"),
                        _ => edits.push((text.into(), String::new())),
                    }
                }
            }
            "?" => {
                let tests = || text.split_whitespace().map(String::from);
                for subject in pitfalls.split("; ") {
                    let of_subject = table.tests.entry(subject.into()).or_default();
                    of_subject.extend(tests().map(|test| (test, line)));
                }
                let untested = table.mutations.iter_mut().filter(|edit| edit.tests.is_empty());
                untested.for_each(|mutation| mutation.tests = tests().collect());
            }
            _ => panic!("{TABLE}:{line}: {sign} {text}"),
        }
        before = sign;
    }
    table
}

/// Returns the tests of the suite by the subject that they prove or show.
pub fn tests_by_pitfall() -> BTreeMap<String, BTreeSet<String>> {
    let names = |tests: Vec<(String, usize)>| tests.into_iter().map(|(test, _)| test).collect();
    table().tests.into_iter().map(|(subject, tests)| (subject, names(tests))).collect()
}

#[test]
fn table_fits_programs_and_tests() {
    let Table { mutations, tests } = table();
    let root = repository("");
    let mut errors: Vec<String> =
        mutations.iter().filter_map(|mutation| mutation.apply(&root).err()).collect();
    let untested = mutations.iter().filter(|mutation| mutation.tests.is_empty());
    errors.extend(untested.map(|Mutation { line, .. }| format!("{TABLE}:{line}: no test follows")));
    let this = env::current_exe().unwrap();
    let list = output_of(Process::spawn(Command::new(this).arg("--list")));
    for (test, line) in tests.into_values().flatten() {
        if !list.lines().any(|listed| listed == format!("{test}: test")) {
            errors.push(format!("{TABLE}:{line}: there is no test {test}"));
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn every_pitfall_has_test() {
    let page = fs::read_to_string(repository("docs/pitfalls.md")).unwrap();
    let table = tests_by_pitfall();
    let headings = page.split("\n### ").skip(1).filter_map(|entry| entry.lines().next());
    let untested: Vec<&str> = headings.filter(|heading| !table.contains_key(*heading)).collect();
    assert_eq!(untested, [""; 0], "{TABLE} has no test of these entries");
}

#[test]
#[ignore = "needs an hour, root, strace, unshare and python3"]
fn every_mutation_fails_its_tests() {
    let folder = copy_of_repository();
    let selected = env::var("MUTATIONS").unwrap_or_default();
    let is_selected = |mutation: &Mutation| {
        format!("{mutation} {}", mutation.tests.join(" ")).contains(&selected)
    };
    let table: Vec<Mutation> = table().mutations.into_iter().filter(is_selected).collect();
    let tests: BTreeSet<&String> = table.iter().flat_map(|mutation| &mutation.tests).collect();
    let (failed, output) = run_tests(&folder, &Vec::from_iter(tests), None);
    assert!(failed.is_empty(), "without a mutation: {output}");
    let mut survived = Vec::new();
    for mutation in &table {
        let path = folder.join(&mutation.file);
        let original = fs::read_to_string(&path).unwrap();
        fs::write(&path, mutation.apply(&folder).unwrap()).unwrap();
        let start = Instant::now();
        let mut build = cargo(&folder);
        let build = build.args(["build", "--quiet", "--workspace", "--bins"]);
        let (exit_code, output) = finish(build);
        assert_eq!(exit_code, 0, "{mutation}: {output}");
        let built = start.elapsed();
        let faults: Vec<String> = mutation.pitfalls.split("; ").map(anchor).collect();
        let tests = Vec::from_iter(&mutation.tests);
        let (failed, _) = run_tests(&folder, &tests, Some(faults.join(" ")));
        println!("{mutation} ({built:.0?} of {:.0?} to build)", start.elapsed());
        for test in tests {
            let failed = failed.contains(&test);
            println!("    {test}: {}", if failed { "fails" } else { "PASSES" });
            if !failed {
                survived.push(format!("{mutation}: {test}"));
            }
        }
        fs::write(&path, original).unwrap();
        kill_programs_in(&folder);
    }
    assert_eq!(survived, [""; 0]);
}

/// Returns a copy of the files of this checkout, in which the checkout's own are never touched.
fn copy_of_repository() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutations");
    let mut git = Command::new("git");
    git.current_dir(repository("")).arg("ls-files");
    git.args(["--cached", "--others", "--exclude-standard"]);
    for file in output_of(Process::spawn(&mut git)).lines() {
        // A file may have been deleted.
        if let Ok(content) = fs::read(repository(file)) {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if fs::read(&path).ok().as_ref() != Some(&content) {
                fs::write(path, content).unwrap();
            }
        }
    }
    folder
}

/// Runs tests, and returns those that fail, and the output. Panics if one of them is not run. Those
/// of the fault kit inject only these `faults`.
fn run_tests<'a>(
    folder: &Path,
    tests: &[&'a String],
    faults: Option<String>,
) -> (Vec<&'a String>, String) {
    let mut cargo = cargo(folder);
    cargo.args(["test", "--package", "tests", "--test", "suite", "--", "--include-ignored"]);
    cargo.arg("--exact").args(tests).envs(faults.map(|faults| ("FAULTS", faults)));
    let (_, output) = finish(&mut cargo);
    let has = |test: &String, result| output.contains(&format!("\ntest {test} ... {result}\n"));
    for test in tests {
        assert!(has(test, "ok") || has(test, "FAILED"), "{test} was not run: {output}");
    }
    (tests.iter().copied().filter(|test| has(test, "FAILED")).collect(), output)
}

/// Kills what a test that failed has left behind, such as a server that spins.
fn kill_programs_in(folder: &Path) {
    for process in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let program = fs::read_link(process.path().join("exe")).unwrap_or_default();
        if program.starts_with(folder) {
            let kill = format!("kill -KILL {}", process.file_name().to_string_lossy());
            // An error means that it has exited by itself.
            Process::spawn(Command::new("sh").args(["-c", &kill])).exit_code();
        }
    }
}

fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(folder).env_remove("BIN_DIR").env_remove("RUST_TEST_THREADS");
    cargo.env("CARGO_TARGET_DIR", folder.join("target"));
    cargo.env("MUTANTS", "1"); // Most of these tests fail at their deadline, which is then shorter.
    cargo
}
