//! The survival table of `docs/pitfalls.md`: every candidate under every fault.

use crate::competitors::{CANDIDATES, Candidate, Protocol};
use crate::faults::Verdict::{Fails, NotTried, Survives};
use crate::faults::{Target, faults, inject};
use std::fs;
use std::process::ExitCode;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pitfalls.md");
const BEGIN: &str = "<!-- The output of `cargo run -p tests -- survival`, begin -->\n\n";
const END: &str = "\n<!-- The output of `cargo run -p tests -- survival`, end -->";

/// Runs the subcommand `survival`: prints the table, and with `--write` puts it into the page.
pub fn survival(arguments: &[String]) -> ExitCode {
    let write = match arguments {
        [] => false,
        [option] if option == "--write" => true,
        _ => {
            eprintln!("Usage: cargo run -p tests -- survival [--write]");
            return ExitCode::from(2);
        }
    };
    let mut missing = false;
    let mut tables = Vec::new();
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let mut columns = Vec::new();
        for candidate in CANDIDATES.iter().filter(|candidate| candidate.protocol == protocol) {
            match column(candidate) {
                Ok(cells) => columns.push((candidate.label, cells)),
                Err(error) => {
                    eprintln!("{}: {error}", candidate.label);
                    missing = true;
                }
            }
        }
        tables.push(table(protocol, &columns));
    }
    let table = tables.join("\n");
    println!("{table}");
    if write && !missing {
        let page = fs::read_to_string(PAGE).unwrap_or_default();
        let parts = page.split_once(BEGIN).and_then(|(before, rest)| {
            rest.split_once(END).map(|(_, after)| [before, BEGIN, &table, END, after].concat())
        });
        if parts.is_some_and(|page| fs::write(PAGE, page).is_ok()) {
            return ExitCode::SUCCESS;
        }
        eprintln!("{PAGE}: cannot be written, or has no markers");
    }
    ExitCode::from(u8::from(write || missing))
}

/// Injects every fault into a candidate, and returns a cell of the table for each.
///
/// # Errors
///
/// Returns an error if it cannot be built or started.
pub fn column(candidate: &Candidate) -> Result<Vec<String>, String> {
    let candidate = *candidate;
    candidate.command(0)?;
    let launch = move |port| candidate.command(port).expect("it was built before");
    let mut target = Target::start(candidate.protocol, launch)?;
    let cells = faults(candidate.protocol).map(|fault| {
        let verdict = inject(fault.name, &mut target);
        eprintln!("{}: {}: {verdict}", candidate.label, fault.name);
        match verdict {
            Survives(_) => "survives".into(),
            Fails(symptom, _) => format!("**{symptom}**"),
            NotTried(_) => "–".into(),
        }
    });
    Ok(cells.collect())
}

fn table(protocol: Protocol, columns: &[(&str, Vec<String>)]) -> String {
    let mut rows = vec![header(protocol), "| --- |".into()];
    rows.extend(faults(protocol).map(|fault| format!("| [{0}](#{0}) |", fault.name)));
    for (label, cells) in columns {
        let column = [label, "---"].into_iter().chain(cells.iter().map(String::as_str));
        rows.iter_mut().zip(column).for_each(|(row, cell)| *row += &format!(" {cell} |"));
    }
    rows.join("\n") + "\n"
}

fn header(protocol: Protocol) -> String {
    format!("| {protocol:?} |").to_uppercase()
}

/// Returns the column of a candidate in the committed table.
///
/// # Panics
///
/// Panics if there is none.
pub fn committed(candidate: &Candidate) -> Vec<String> {
    let page = fs::read_to_string(PAGE).expect("docs/pitfalls.md is readable");
    let header = header(candidate.protocol);
    let rows = page.lines().skip_while(|line| !line.starts_with(&header));
    let mut rows = rows.take_while(|line| line.starts_with('|')).map(|row| row.split(" | "));
    let labels = rows.next().expect("a table for this protocol");
    let labels: Vec<&str> = labels.map(|label| label.trim_end_matches(" |")).collect();
    let index = labels.iter().position(|label| *label == candidate.label).expect("a column");
    let cell = |mut row: std::str::Split<'_, &str>| row.nth(index).expect("a cell").to_string();
    rows.skip(1).map(cell).map(|cell| cell.trim_end_matches(" |").to_string()).collect()
}
