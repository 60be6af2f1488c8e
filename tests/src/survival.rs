//! The survival table of `docs/fault-kit.md`, and the pictures of it: every candidate under every fault.

use crate::candidates::{CANDIDATES, Candidate, Protocol};
use crate::copying::{read, root};
use crate::faults::Verdict::{Fails, Flaky, NotTried, Survives};
use crate::faults::{Options, Target, faults, inject};
use crate::picture::{PICTURES, picture};
use std::time::Duration;
use std::{env, fs};

const PAGE: &str = "docs/fault-kit.md";
const BEGIN: &str = "<!-- The output of `cargo run --bin survival`, begin -->\n\n";
const END: &str = "\n<!-- The output of `cargo run --bin survival`, end -->";

/// Makes the table. If `write` is set and all of it could be made, puts it into the page, and writes
/// the pictures.
///
/// Returns whether it is complete.
pub fn survival(write: bool) -> bool {
    let mut complete = true;
    let tables = [Protocol::Udp, Protocol::Tcp].map(|protocol| {
        let links = faults(protocol).map(|fault| format!("| [{0}](pitfalls.md#{0}) |", fault.name));
        let mut rows = vec![header(protocol), "| --- |".into()];
        rows.extend(links);
        for candidate in CANDIDATES.iter().filter(|candidate| candidate.protocol == protocol) {
            let cells = column(candidate).unwrap_or_else(|error| {
                eprintln!("{}: {error}", candidate.label);
                complete = false;
                vec![]
            });
            for (row, cell) in rows.iter_mut().zip(cells) {
                *row += &format!(" {cell} |");
            }
        }
        rows.join("\n") + "\n"
    });
    let kernel = crate::proc::read("sys/kernel/osrelease").unwrap_or_default();
    let version = kernel.split('.').take(2).collect::<Vec<&str>>().join(".");
    let system = format!("{} {version} ({})", env::consts::OS, env::consts::ARCH);
    let system = system.replace("linux", "Linux").replace("  ", " ");
    let table = format!("Measured on {system}:\n\n{}", tables.join("\n"));
    println!("{table}");
    if table.contains("needs root") || table.contains("**too busy**") {
        eprintln!("incomplete: some faults need root, or a machine that is less busy");
        complete = false;
    }
    if write && complete {
        let write = |file, content| fs::write(root().join(file), content).expect("it is writable");
        write(PAGE, read(PAGE).replace(&committed(), &table));
        for (file, width) in PICTURES {
            write(file, picture(&table, width));
        }
    }
    complete
}

fn header(protocol: Protocol) -> String {
    format!("| {protocol:?} |").to_uppercase()
}

/// Injects every fault into a candidate, and returns its column of the table.
fn column(candidate: &Candidate) -> Result<Vec<String>, String> {
    let command = candidate.command("{port}")?;
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let command = words.map(|word| word.to_string_lossy().into_owned()).collect();
    // The defaults of the command line.
    let options = Options {
        command,
        start: Duration::from_secs(10),
        patience: Duration::from_secs(5),
        clients: 1_000,
        ..Options::default()
    };
    let mut target = Target::new(candidate.protocol, options).map_err(|error| error.reason())?;
    let mut column = vec![candidate.label.to_string(), "---".into()];
    for fault in faults(candidate.protocol) {
        let verdict = inject(fault, &mut target);
        eprintln!("{}: {}: {verdict}", candidate.label, fault.name);
        column.push(match verdict {
            Survives(_) => "survives".into(),
            Fails(symptom, _) => format!("**{symptom}**"),
            Flaky(..) => "**too busy**".into(), // It failed once in two.
            NotTried(reason) if reason.contains("root") => "needs root".into(),
            NotTried(reason) if reason.contains("busy") => "**too busy**".into(),
            NotTried(_) => "–".into(),
        });
    }
    Ok(column)
}

/// Returns the committed table.
pub fn committed() -> String {
    let page = read(PAGE);
    let (_, rest) = page.split_once(BEGIN).expect("docs/fault-kit.md has a table");
    rest.split_once(END).expect("the table has an end").0.into()
}

/// Returns the cells of the rows of a protocol, without the links.
pub(crate) fn rows(table: &str, protocol: Protocol) -> Vec<Vec<&str>> {
    let rows = table.lines().skip_while(|line| !line.starts_with(&header(protocol)));
    rows.take_while(|line| line.starts_with('|'))
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// Returns the cell of a candidate and a fault in a table, if it has one.
pub fn cell<'a>(table: &'a str, candidate: &Candidate, fault: &str) -> Option<&'a str> {
    let rows = rows(table, candidate.protocol);
    let column = rows[0].iter().position(|label| *label == candidate.label)?;
    let row = rows.iter().find(|row| row[0].starts_with(&format!("[{fault}]")))?;
    Some(row[column])
}
