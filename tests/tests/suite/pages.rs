//! The pages: their commands are run, their output is compared, their links are followed.

use crate::command_line::default_of;
use crate::faults::survival::assert_verdict;
use crate::mutations::tests_of;
use crate::support::*;
use predicates::str::ends_with;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};
use tests::candidates::CANDIDATES;
use tests::copying::{blocks, read, source};
use tests::faults::faults;
use tests::picture::{PICTURES, picture};

/// Returns the paths and texts of all pages: README.md and those in the folders.
fn pages() -> Vec<(PathBuf, String)> {
    let others = ["", ".github", "common", "docs", "tests", "tests/competitors"];
    let folders = PAIRS.iter().map(|pair| pair.name).chain(others);
    let entries = folders.flat_map(|folder| fs::read_dir(repository(folder)).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let pages = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.map(|page| (page.clone(), fs::read_to_string(page).unwrap())).collect()
}

/// Returns the code block that follows `<!-- marker -->` on one of the pages.
pub fn block(marker: &str) -> String {
    let pages = pages();
    let mut blocks = pages.iter().flat_map(|(_, text)| blocks(text));
    let block = blocks.find(|(name, _)| *name == marker);
    block.unwrap_or_else(|| panic!("no page contains <!-- {marker} -->")).1.into()
}

/// Makes outputs comparable: ports, workers and times differ each time, and datagrams may be
/// reordered.
fn comparable(output: &str) -> Vec<String> {
    let without_numbers = output.replace(|c: char| c.is_ascii_digit(), "");
    let mut lines: Vec<String> = without_numbers.lines().map(Into::into).collect();
    lines.sort();
    lines
}

/// Returns the folder of the examples, which are built by then.
fn bin_dir() -> PathBuf {
    program("udp-echo-server").parent().unwrap().into()
}

/// Returns the command of the demo. It must not build the examples before the deadline.
fn demo(arguments: &[&str]) -> Command {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.args(arguments).env("BIN_DIR", bin_dir());
    demo
}

#[test]
fn demo_prints_what_page_shows() {
    let block = block("demo");
    let (command, shown) = block.split_once('\n').unwrap();
    let arguments = command.strip_prefix("$ cargo run -q -p tests -- ").unwrap();
    let mut demo = Process::spawn(&mut demo(&arguments.split(' ').collect::<Vec<_>>()));
    assert_eq!(demo.exit_code(), 0);
    assert_eq!(comparable(&demo.stdout()), comparable(shown));
}

#[test]
fn demo_runs_all_pairs_and_reports_errors() {
    let end: String = PAIRS.iter().map(|pair| format!("{}: ok\n", pair.name)).collect();
    run(&mut demo(&[]), "").code(0).stdout(ends_with(format!("\n\n{end}")));
    let failed = run(demo(&["udp-echo"]).env("BIN_DIR", "/nonexistent"), "");
    failed.code(1).stdout(ends_with("udp-echo: FAILED: see above\n"));
    let wrong = run(&mut demo(&["udp-ecko"]), "");
    wrong.code(2).stderr("demo: unknown pair \"udp-ecko\" (see --help)\n");
}

#[test]
fn sessions_print_what_pages_show() {
    let mut sessions = 0;
    for (_, page) in pages() {
        let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
        let is_session = |block: &&str| !block.contains("-p tests") && !block.contains("fault-kit");
        let blocks: Vec<&str> = blocks.filter(is_session).collect();
        for pair in blocks.chunks(2) {
            run_session(pair[0], pair[1]);
            sessions += 1;
        }
    }
    assert!(sessions > PAIRS.len());
}

/// Returns the program that the command of a block runs, its arguments, and its output.
fn session(block: &str) -> (String, Vec<&str>, &str) {
    let (command, output) = block.split_once('\n').unwrap();
    let (cargo, arguments) = command.split_once(" -- ").unwrap_or((command, ""));
    let package = cargo.strip_prefix("$ cargo run -q -p ").unwrap();
    let program = match package.split_once(" --bin ") {
        Some((_, program)) => program.into(),
        None => {
            let manifest = read(&format!("{package}/Cargo.toml"));
            let (_, program) = manifest.split_once("\ndefault-run = \"").unwrap();
            program.split('"').next().unwrap().into()
        }
    };
    (program, arguments.split_whitespace().collect(), output)
}

/// Runs a server and its client as two blocks show them.
fn run_session(server: &str, client: &str) {
    let (name, options, server_shown) = session(server);
    let pair = PAIRS.iter().find(|pair| pair.server() == name).unwrap();
    let mut server = Process::start(&name, &options);
    let (name, arguments, client_shown) = session(client);
    assert_eq!(name, pair.client());
    // The port that the page shows may be in use.
    let address = server.address().to_string();
    let messages = arguments.get(1..).unwrap_or_default();
    let timeout = if pair.replies() { &["--timeout=30"][..] } else { &[] };
    let output = output(&name, &[&[&*address], messages, timeout].concat(), "");
    // A reply may differ each time, as that of a clock does.
    let is_reply = |line: &str| {
        let default = default_of(&name, "MESSAGE");
        let mut messages = messages.iter().copied().chain([&*default]);
        pair.replies() && messages.any(|message| pair.prints(message, line))
    };
    let replies = |output: &str| {
        let lines = output.lines().map(|line| if is_reply(line) { "REPLY" } else { line });
        comparable(&lines.collect::<Vec<&str>>().join("\n"))
    };
    assert_eq!(replies(&output), replies(client_shown));
    let lines = server_shown.lines().count();
    wait_until("the server prints as many lines", || server.stdout().lines().count() >= lines);
    server.kill();
    assert_eq!(comparable(&server.stdout()), comparable(server_shown));
}

#[cfg(unix)]
#[test]
fn ci_script_passes() {
    let mut sh = Command::new("sh");
    sh.arg("-c").arg(block("ci script")).current_dir(repository(""));
    sh.env("CARGO_TARGET_DIR", bin_dir().parent().unwrap());
    run(&mut sh, "").success().stdout(ends_with("passed\n"));
}

/// Returns the anchor that GitHub gives a heading.
pub fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == ' ';
    heading.chars().filter(|c| kept(*c)).collect::<String>().replace(' ', "-")
}

/// Checks that each link leads to a file and a heading that exist, and a link `FILE.rs#LNUMBER` to
/// the lines that the next block of code quotes.
#[test]
fn links_lead_to_files_headings_and_quoted_lines() {
    let mut errors = Vec::new();
    for (path, page) in pages() {
        let mut right = page.clone();
        // From the end, so that what is before a link stays in its place.
        for (index, _) in page.rmatch_indices("](") {
            let (text, rest) = (&page[..index], &page[index + 2..]);
            let link = rest.split(')').next().unwrap();
            match right_link(&path, text, link, rest) {
                Ok(right_link) => {
                    right.replace_range(index + 2..index + 2 + link.len(), &right_link)
                }
                Err(error) => {
                    let line = text.lines().count();
                    errors.push(format!("{}:{line}: {link}: {error}", path.display()));
                }
            }
        }
        errors.extend(differences(&path, &right));
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// Returns the lines in which a file differs from its right content, which it gets with `BLESS=1`.
fn differences(path: &Path, right: &str) -> Vec<String> {
    if env::var_os("BLESS").is_some() {
        write_file(path, right);
    }
    let content = fs::read_to_string(path).unwrap();
    let lines = (1..).zip(content.lines().zip(right.lines()));
    let different = lines.filter(|(_, (line, right))| line != right).map(|(number, (_, right))| {
        format!("{}:{number}: is now {right}; tests/README.md explains BLESS=1", path.display())
    });
    different.collect()
}

/// Returns what a link of a page should be, or why it leads nowhere.
fn right_link(path: &Path, before: &str, link: &str, after: &str) -> Result<String, String> {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { path.into() } else { path.with_file_name(file) };
    if link.starts_with("http") {
        return Ok(link.into());
    } else if !target.exists() {
        return Err("there is no such file".into());
    }
    let text = fs::read_to_string(&target).unwrap_or_default();
    if file.ends_with(".rs") && heading.starts_with('L') {
        return Ok(format!("{file}#L{}", quoted_line(&text, before, after)?));
    }
    // Some anchors lead on to where a section is now.
    let mut headings = text.lines().filter(|line| line.starts_with('#'));
    let is_there = headings.any(|line| anchor(line) == heading)
        || text.contains(&format!("<a id=\"{heading}\""))
        || heading.is_empty();
    if is_there { Ok(link.into()) } else { Err("there is no such heading".into()) }
}

/// Returns the number of the first line of a program that the block of code after a link quotes.
///
/// The text of the link, if it is a name, must be that of the function or stand in the quotation.
fn quoted_line(program: &str, before: &str, after: &str) -> Result<usize, String> {
    let lines: Vec<&str> = program.lines().map(str::trim_start).collect();
    let (_, block) = after.split_once("```rust\n").ok_or("no code follows")?;
    let (block, _) = block.split_once("\n```").unwrap();
    let quoted: Vec<&str> = block.lines().map(str::trim_start).collect();
    let start = lines.windows(quoted.len()).position(|lines| lines == quoted).ok_or_else(|| {
        let missing = quoted.iter().find(|line| !lines.contains(line)).unwrap_or(&quoted[0]);
        format!("the quoted code is not there, such as: {missing}")
    })?;
    let above = lines[..start + quoted.len()].iter().rev();
    let (_, function) = above.filter_map(|line| line.split_once("fn ")).next().unwrap();
    let function = function.split(['(', '<']).next().unwrap();
    let text = before.strip_suffix('`').and_then(|text| text.rsplit_once('`'));
    let name = text.map_or("", |(_, name)| name);
    let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    let is_right = !is_name || function == name || block.contains(name);
    if is_right { Ok(start + 1) } else { Err(format!("the code is in {function}")) }
}

#[test]
fn every_pair_is_listed() {
    for (file, before, after) in [
        ("README.md", "| [", "]("),
        ("docs/design.md", "[", "](../"),
        ("docs/copying.md", "`", "`"),
        ("docs/recipes.md", "<!-- copy: test ", "-server -->"),
        (".github/ISSUE_TEMPLATE/fault.yml", "", ","),
    ] {
        let text = read(file);
        for Pair { name, .. } in PAIRS {
            let entry = [before, name, after].concat();
            assert!(text.contains(&entry), "{file} does not list {name} as {entry:?}");
        }
    }
}

#[test]
fn headers_and_changelog_name_version() {
    let line = concat!("\n//! Version ", env!("CARGO_PKG_VERSION"), ". `docs/changelog.md`");
    for program in programs() {
        let (path, source) = source(&program);
        assert!(source.contains(line), "{path}: the header has no line{line}");
    }
    let changelog = read("docs/changelog.md");
    let newest = changelog.split("\n## ").nth(1).and_then(|section| section.lines().next());
    assert_eq!(newest, Some(env!("CARGO_PKG_VERSION")));
}

#[test]
fn front_page_quotes_benchmarks_and_verdicts() {
    let (readme, benchmarks) = (read("README.md"), read("docs/benchmarks.md"));
    let length = readme.lines().count();
    assert!(length <= 150, "README.md may have 150 lines, and has {length}");
    let (_, quoted) = benchmarks.split_once("<!-- front page -->\n").unwrap();
    let (quoted, _) = quoted.split_once("<!-- end").unwrap();
    assert!(readme.contains(quoted), "README.md does not contain:\n{quoted}");
    // The output of the kit shows what the survival table says of the same server.
    let (output, name) = (block("fault kit"), "rust-udp");
    let textbook = CANDIDATES.iter().find(|candidate| candidate.name == name);
    for fault in faults(Protocol::Udp) {
        assert_verdict(&output, name, textbook, fault.name);
    }
}

#[test]
fn pictures_show_failures_of_committed_table() {
    let table = tests::survival::committed();
    for (file, width) in PICTURES {
        let svg = picture(&table, width);
        assert_eq!(differences(&repository(file), &svg), [""; 0]);
        assert_eq!(svg.matches("<rect class=\"fails\"").count(), table.matches("** |").count());
        assert!(read("README.md").contains(&format!("=\"{file}\"")), "README.md lacks {file}");
    }
}

#[test]
fn every_pitfall_is_listed_and_tested() {
    let page = read("docs/pitfalls.md");
    let (contents, _) = page.split_once("\n## ").unwrap();
    let mut errors = Vec::new();
    for section in page.split("\n### ").skip(1) {
        let heading = section.lines().next().unwrap();
        let anchor = anchor(heading);
        let fault = section.split("Fault: `--only ").nth(1);
        let is_right = fault.is_none_or(|fault| fault.starts_with(&format!("{anchor}`")));
        for (is_error, error) in [
            (!contents.contains(&format!("](#{anchor})")), "not in the list at the top"),
            (tests_of(heading).is_empty(), "tests/mutations.txt names no test"),
            (!is_right, "the fault has another name"),
        ] {
            errors.extend(is_error.then(|| format!("{heading}: {error}")));
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[cfg(target_os = "linux")]
#[path = "nginx.rs"]
mod nginx;
