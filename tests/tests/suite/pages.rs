//! The pages: their commands are run, their output is compared, their links are followed.

use crate::command_line::default_of;
use crate::support::*;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};
use tests::candidates::{CANDIDATES, Protocol};
use tests::faults::faults;
use tests::survival::{cell, committed};

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
    let marker = format!("<!-- {marker} -->\n```");
    let pages = pages();
    let after = pages.iter().find_map(|(_, text)| Some(text.split_once(&marker)?.1));
    let after = after.unwrap_or_else(|| panic!("no page contains {marker}"));
    let (_language, code) = after.split_once('\n').unwrap();
    format!("{}\n", code.split_once("\n```").unwrap().0)
}

/// Makes outputs comparable: ports, workers and times are replaced, and lines are sorted, because
/// datagrams may be reordered.
fn comparable(output: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in output.lines() {
        let mut words = Vec::new();
        for word in line.split(' ') {
            words.push(match word.split_once("127.0.0.1:") {
                Some((before, _port)) => format!("{before}127.0.0.1:PORT"),
                None if word.ends_with(')') => "N)".into(),
                None if word.parse::<f64>().is_ok_and(|_| word.contains('.')) => "TIME".into(),
                None => word.into(),
            });
        }
        lines.push(words.join(" "));
    }
    lines.sort();
    lines
}

#[cfg(unix)]
fn bin_dir() -> PathBuf {
    tests::program("udp-echo-server").parent().unwrap().to_path_buf()
}

fn demo(arguments: &[&str]) -> Process {
    Process::spawn(Command::new(env!("CARGO_BIN_EXE_demo")).args(arguments))
}

#[test]
fn demo_prints_what_page_shows() {
    let block = block("demo");
    let (command, shown) = block.split_once('\n').unwrap();
    let arguments = command.strip_prefix("$ cargo run -q -p tests -- ").unwrap();
    let mut demo = demo(&arguments.split(' ').collect::<Vec<_>>());
    assert_eq!(demo.exit_code(), 0);
    assert_eq!(comparable(&demo.stdout()), comparable(shown));
}

#[test]
fn demo_runs_all_pairs_by_default() {
    let mut demo = demo(&[]);
    assert_eq!(demo.exit_code(), 0);
    let end: String = PAIRS.iter().map(|pair| format!("{}: ok\n", pair.name)).collect();
    assert!(demo.stdout().ends_with(&format!("\n\n{end}")), "{}", demo.stdout());
}

#[test]
fn demo_reports_failed_pair_and_wrong_arguments() {
    let mut failed = Command::new(env!("CARGO_BIN_EXE_demo"));
    let mut failed = Process::spawn(failed.arg("udp-echo").env("BIN_DIR", "/nonexistent"));
    assert_eq!(failed.exit_code(), 1);
    assert!(failed.stdout().ends_with("udp-echo: FAILED: see above\n"), "{}", failed.stdout());
    let mut wrong = demo(&["udp-ecko"]);
    assert_eq!(wrong.exit_code(), 2);
    assert_eq!(wrong.stderr(), "demo: unknown pair \"udp-ecko\" (see --help)\n");
}

/// Returns the program that the command of a block runs, its arguments, and its output.
fn session(block: &str) -> (String, Vec<&str>, &str) {
    let (command, output) = block.split_once('\n').unwrap();
    let (cargo, arguments) = command.split_once(" -- ").unwrap_or((command, ""));
    let words: Vec<&str> = cargo.split(' ').collect();
    let program = match words[..] {
        ["$", "cargo", "run", "-q", "-p", package] => format!("{package}-server"),
        ["$", "cargo", "run", "-q", "-p", _, "--bin", program] => program.into(),
        _ => panic!("{command}"),
    };
    (program, arguments.split_whitespace().collect(), output)
}

#[test]
fn sessions_print_what_pages_show() {
    let mut sessions = 0;
    for (_, page) in pages() {
        let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
        let is_session = |block: &&str| !block.contains("-p tests") && !block.contains("fault-kit");
        let blocks: Vec<&str> = blocks.filter(is_session).collect();
        for pair in blocks.chunks(2) {
            run_session(pair);
            sessions += 1;
        }
    }
    assert!(sessions >= 4);
}

/// Runs a server and its client as two blocks show them.
fn run_session(blocks: &[&str]) {
    let (name, options, server_shown) = session(blocks[0]);
    let pair = PAIRS.iter().find(|pair| pair.server() == name).unwrap();
    let mut server = Process::start(&name, &options);
    let (name, mut arguments, client_shown) = session(blocks[1]);
    assert_eq!(name, pair.client());
    let mut messages: Vec<String> = arguments.iter().skip(1).map(|it| it.to_string()).collect();
    if messages.is_empty() {
        messages.push(default_of(&name, "MESSAGE"));
    }
    // The port that the page shows may be in use.
    let address = server.address().to_string();
    match arguments.first_mut() {
        Some(shown) => assert_eq!(std::mem::replace(shown, &address), ":8888"),
        None => arguments.push(&address),
    }
    if pair.replies() {
        arguments.push("--timeout=30");
    }
    // Of a reply that differs each time, such as the time, it matters only that it is one.
    let replies = |output: &str| match pair.is_reply {
        Some(is_reply) => {
            let is_reply = |line: &str| messages.iter().any(|message| is_reply(message, line));
            output.lines().map(|line| if is_reply(line) { "REPLY" } else { line }.into()).collect()
        }
        None => comparable(output),
    };
    let output = output(&name, &arguments, "");
    assert_eq!(replies(&output), replies(client_shown));
    let last = if pair.protocol() == Protocol::Tcp { "closed" } else { " from " };
    assert!(server.wait_for(last).is_some());
    // Without options, it exits after the messages.
    if pair.options.is_empty() {
        assert_eq!(server.exit_code(), 0);
    } else {
        server.kill();
    }
    assert_eq!(comparable(&server.stdout()), comparable(server_shown));
}

#[cfg(unix)]
#[test]
fn ci_script_passes() {
    let mut sh = Command::new("sh");
    sh.arg("-c").arg(block("ci script")).current_dir(repository(""));
    sh.env("CARGO_TARGET_DIR", bin_dir().parent().unwrap());
    let mut sh = Process::spawn(&mut sh);
    assert_eq!(sh.exit_code(), 0);
    assert!(sh.stdout().ends_with("passed\n"));
}

/// Returns the anchor that GitHub gives a heading.
pub fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == ' ';
    heading.chars().filter(|c| kept(*c)).collect::<String>().replace(' ', "-")
}

/// Returns the anchors of a page: its headings, and those that lead on to where a section is now.
fn anchors(page: &str) -> impl Iterator<Item = String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(anchor);
    let others = page.split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next());
    headings.chain(others.map(Into::into))
}

/// Returns the links of a page: where their targets begin, and the targets.
fn links(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let starts = page.match_indices("](").map(|(index, _)| index + 2);
    starts.filter_map(|start| Some((start, page[start..].split(')').next()?)))
}

/// Returns a line of a page as `PATH:LINE`.
fn place(path: &Path, page: &str, index: usize) -> String {
    let path = path.strip_prefix(repository("")).unwrap_or(path);
    format!("{}:{}", path.display(), page[..index].lines().count())
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut errors = Vec::new();
    for (path, page) in pages() {
        for (start, link) in links(&page).filter(|(_, link)| !link.starts_with("http")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            let has_heading = || {
                let text = fs::read_to_string(&target).unwrap_or_default();
                heading.is_empty()
                    || heading.starts_with('L')
                    || anchors(&text).any(|it| it == heading)
            };
            if !target.exists() || !has_heading() {
                errors.push(format!("{}: {link} does not exist", place(&path, &page, start)));
            }
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// Checks that a link `FILE.rs#LNUMBER` leads to the lines that the next block of code quotes, and
/// that its text, if it is a name, is that of the function or stands in the quotation.
///
/// With `BLESS=1`, updates the numbers.
#[test]
fn links_to_lines_lead_to_code_beside_them() {
    let (mut count, mut errors, is_blessed) = (0, Vec::new(), env::var_os("BLESS").is_some());
    for (path, page) in pages() {
        let mut blessed = page.clone();
        // From the end, so that what is before a link stays in its place.
        for (start, link) in links(&page).collect::<Vec<_>>().into_iter().rev() {
            let Some((file, line)) = link.split_once(".rs#L") else { continue };
            match number_of_quoted_line(&path, &page, start, file) {
                Ok(number) if is_blessed => {
                    let new = format!("{file}.rs#L{number}");
                    blessed.replace_range(start..start + link.len(), &new);
                }
                Ok(number) if number.to_string() == line => {}
                Ok(number) => errors.push(format!(
                    "{}: {link}: the code is at L{number}; tests/README.md explains BLESS=1",
                    place(&path, &page, start)
                )),
                Err(error) => {
                    errors.push(format!("{}: {link}: {error}", place(&path, &page, start)));
                }
            }
            count += 1;
        }
        if blessed != page {
            fs::write(&path, blessed).unwrap();
        }
    }
    errors.sort();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    assert!(count > 20);
}

/// Returns the number of the first line that the next block of code quotes, or what is wrong.
fn number_of_quoted_line(
    page_path: &Path,
    page: &str,
    link: usize,
    file: &str,
) -> Result<usize, String> {
    let source = fs::read_to_string(page_path.with_file_name(format!("{file}.rs")))
        .map_err(|error| error.to_string())?;
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let (_, block) = page[link..].split_once("```rust\n").ok_or("no code follows")?;
    let block = block.split("\n```").next().unwrap();
    let quoted: Vec<&str> = block.lines().map(str::trim_start).collect();
    let is_quoted = |lines: &[&str]| lines == quoted;
    let start = lines.windows(quoted.len()).position(is_quoted).ok_or_else(|| {
        let missing = quoted.iter().find(|line| !lines.contains(line)).unwrap_or(&quoted[0]);
        format!("the quoted code is not there, such as: {missing}")
    })?;
    let above = lines[..start + quoted.len()].iter().rev();
    let function = above.filter_map(|line| line.split_once("fn ")).next().unwrap().1;
    let text = page[..link - 2].strip_suffix('`').and_then(|text| text.rsplit_once('`'));
    let name = text.map_or("", |(_, name)| name);
    let function = function.split(['(', '<']).next().unwrap();
    let is_right = function == name || block.contains(name);
    let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_right || !is_name { Ok(start + 1) } else { Err(format!("the code is in {function}")) }
}

#[test]
fn every_pair_is_listed() {
    let mut errors = Vec::new();
    for (file, before, after) in [
        ("README.md", "| [", "]("),
        ("docs/design.md", "[", "](../"),
        ("docs/copying.md", "`", "`"),
        (".github/ISSUE_TEMPLATE/fault.yml", "", ","),
    ] {
        let text = fs::read_to_string(repository(file)).unwrap();
        for pair in PAIRS {
            let entry = [before, pair.name, after].concat();
            if !text.contains(&entry) {
                errors.push(format!("{file} does not list {} as {entry:?}", pair.name));
            }
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn headers_and_changelog_name_version() {
    let line = concat!("\n//! Version ", env!("CARGO_PKG_VERSION"), ". `docs/changelog.md`");
    for program in programs() {
        let (path, source) = tests::copying::source(&program).unwrap();
        assert!(source.contains(line), "{path}: the header has no line{line}");
    }
    let changelog = fs::read_to_string(repository("docs/changelog.md")).unwrap();
    let newest = changelog.split("\n## ").nth(1).and_then(|section| section.lines().next());
    assert_eq!(newest, Some(env!("CARGO_PKG_VERSION")));
}

#[test]
fn front_page_quotes_benchmarks_and_names_faults() {
    let page = |path| fs::read_to_string(repository(path)).unwrap();
    let benchmarks = page("docs/benchmarks.md");
    let (_, quoted) = benchmarks.split_once("<!-- front page -->\n").unwrap();
    let quoted = quoted.split("<!-- end").next().unwrap();
    assert!(page("README.md").contains(quoted), "README.md does not contain:\n{quoted}");
    for (picture, _) in tests::picture::PICTURES {
        assert!(page("README.md").contains(&format!("=\"{picture}\"")), "{picture}");
    }
    assert!(page("README.md").lines().count() <= 150);
    // The output of the kit shows what the survival table says of the same server.
    let (output, table) = (block("fault kit"), committed());
    let textbook = CANDIDATES.iter().find(|candidate| candidate.name == "rust-udp").unwrap();
    let names: Vec<&str> = faults(Protocol::Udp).map(|fault| fault.name).collect();
    let mut lines = output.lines().filter(|line| line.contains(" s  "));
    for name in names {
        let expected = match cell(&table, textbook, name).unwrap().trim_matches('*') {
            "survives" => "survives".to_string(),
            "–" => "not tried: ".into(),
            symptom => format!("FAILS: {symptom}: "),
        };
        let line = lines.next().unwrap_or_default();
        let is_right =
            line.starts_with(&format!("{name} ")) && line.contains(&format!("  {expected}"));
        assert!(is_right, "README.md: {name}, {expected:?}: {line}");
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn pictures_show_failures_of_committed_table() {
    let table = tests::survival::committed();
    for (file, width) in tests::picture::PICTURES {
        let svg = tests::picture::picture(&table, width);
        if env::var_os("BLESS").is_some() {
            write_file(&repository(file), &svg);
        }
        assert!(
            fs::read_to_string(repository(file)).unwrap() == svg,
            "{file}: see tests/README.md"
        );
        assert_eq!(svg.matches("<rect class=\"fails\"").count(), table.matches("** |").count());
        let height = svg.split("height=\"").nth(1).and_then(|rest| rest.split('"').next());
        assert!(width < 1000 || height.is_some_and(|height| height.parse::<u32>().unwrap() <= 400));
    }
}

#[test]
fn every_pitfall_is_listed_and_names_its_fault() {
    let page = fs::read_to_string(repository("docs/pitfalls.md")).unwrap();
    let (contents, _) = page.split_once("\n## ").unwrap();
    let sections: Vec<&str> = page.split("\n### ").skip(1).collect();
    assert!(sections.len() > 25);
    let shown = crate::pitfalls::headings();
    let tests = fs::read_to_string(repository("tests/tests/suite/pitfalls.rs")).unwrap();
    let lines: Vec<&str> = tests.lines().map(str::trim_start).collect();
    for section in sections {
        let heading = section.lines().next().unwrap();
        let link = format!("](#{})", anchor(heading));
        assert!(contents.contains(&link), "{heading}: not in the list at the top");
        if let Some((_, fault)) = section.split_once("Fault: `--only ") {
            assert_eq!(fault.split('`').next(), Some(anchor(heading).as_str()));
        }
        if shown.contains(heading) {
            let blocks = section.split("\n```").collect::<Vec<&str>>();
            for pair in blocks.chunks(2) {
                // A link to a line precedes code of a program.
                if pair[0].ends_with("-->") || pair[0].contains(".rs#L") {
                    continue;
                }
                let Some(code) = pair.get(1).and_then(|code| code.strip_prefix("rust\n")) else {
                    continue;
                };
                let code: Vec<&str> = code.lines().map(str::trim_start).collect();
                let is_there = lines.windows(code.len()).any(|lines| lines == code);
                assert!(is_there, "{heading}: suite/pitfalls.rs lacks {code:?}");
            }
        }
    }
}

/// The index of errors.md contains the texts that Linux and std really print.
#[cfg(target_os = "linux")]
#[test]
fn index_contains_error_texts_of_linux() {
    use std::io::{self, Read};
    use std::net::{TcpListener, ToSocketAddrs, UdpSocket};
    use std::time::Duration;
    let page = fs::read_to_string(repository("docs/errors.md")).unwrap();
    let mut tables = page.split("| error text |").skip(1);
    let mut table = || tables.next().and_then(|table| table.split("\n\n").next());
    let index = table().expect("the index comes first");
    let column: Vec<&str> = index.lines().filter_map(|row| row.split(" | ").next()).collect();
    let others = table().expect("the texts of other systems come second");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for error in [
        udp.set_read_timeout(Some(Duration::ZERO)).unwrap_err(),
        "localhost:port".to_socket_addrs().unwrap_err(),
        "nosuch.invalid:80".to_socket_addrs().unwrap_err(),
        TcpListener::bind("localhost").unwrap_err(),
        io::empty().read_exact(&mut [0]).unwrap_err(),
        io::Cursor::new(b"\xff").read_to_string(&mut String::new()).unwrap_err(),
    ] {
        assert!(column.iter().any(|cell| cell.contains(&format!("`{error}`"))), "{error}");
    }
    let poisoned = format!("`{:?}`", std::sync::PoisonError::new(()));
    assert!(index.contains(&poisoned), "{poisoned}");
    // The texts of all numbers are those of the system.
    let mut numbers = 0;
    for text in column.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
        let number = text.split_once(" (os error ").map(|(_, number)| number.trim_end_matches(')'));
        if let Some(number @ 1..1000) = number.and_then(|number| number.parse().ok()) {
            let expected = io::Error::from_raw_os_error(number).to_string();
            assert!(text.ends_with(&expected), "{text}");
            numbers += 1;
        }
    }
    assert!(numbers > 10);
    for row in others.lines().skip(2) {
        let same = row.split(" | ").last().unwrap();
        let text = match same.split(|c: char| !c.is_ascii_digit()).next() {
            Some("") => same.trim_matches([' ', '|', '`']).into(),
            number => format!("(os error {})", number.unwrap()),
        };
        assert!(column.iter().any(|cell| cell.contains(&text)), "{row}");
    }
}

#[cfg(target_os = "linux")]
#[path = "nginx.rs"]
mod nginx;
