//! The survival table of `docs/pitfalls.md`: every candidate under every fault.

use crate::candidates::{CANDIDATES, Candidate, Protocol};
use crate::faults::Verdict::{Fails, NotTried, Survives};
use crate::faults::{Target, faults, inject};
use std::fs;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pitfalls.md");
const BEGIN: &str = "<!-- The output of `cargo run --bin survival`, begin -->\n\n";
const END: &str = "\n<!-- The output of `cargo run --bin survival`, end -->";

/// Makes the table, and puts it into the page if `write` is set and all of it could be made.
///
/// Returns whether it is complete.
///
/// # Panics
///
/// Panics if the page is to be written, but cannot be, or has no markers.
pub fn survival(write: bool) -> bool {
    let mut complete = true;
    let tables = [Protocol::Udp, Protocol::Tcp].map(|protocol| {
        let mut rows = vec![header(protocol), "| --- |".into()];
        rows.extend(faults(protocol).map(|fault| format!("| [{0}](#{0}) |", fault.name)));
        for candidate in CANDIDATES.iter().filter(|candidate| candidate.protocol == protocol) {
            match column(candidate) {
                Ok(cells) => {
                    let cells = rows.iter_mut().zip(cells);
                    cells.for_each(|(row, cell)| *row += &format!(" {cell} |"));
                }
                Err(error) => {
                    eprintln!("{}: {error}", candidate.label);
                    complete = false;
                }
            }
        }
        rows.join("\n") + "\n"
    });
    let table = tables.join("\n");
    println!("{table}");
    if table.contains("needs root") {
        eprintln!("incomplete: some faults need root");
        complete = false;
    }
    if write && complete {
        let page = fs::read_to_string(PAGE).expect("docs/pitfalls.md is readable");
        let (before, rest) = page.split_once(BEGIN).expect("docs/pitfalls.md has a table");
        let (_, after) = rest.split_once(END).expect("the table has an end");
        let page = [before, BEGIN, &table, END, after].concat();
        fs::write(PAGE, page).expect("docs/pitfalls.md is writable");
    }
    complete
}

fn header(protocol: Protocol) -> String {
    format!("| {protocol:?} |").to_uppercase()
}

/// Injects every fault into a candidate, and returns its column of the table.
///
/// # Errors
///
/// Returns an error if it cannot be built or started.
pub fn column(candidate: &Candidate) -> Result<Vec<String>, String> {
    let candidate = *candidate;
    candidate.command(0)?;
    let launch = move |port| candidate.command(port).expect("it was built before");
    let mut target = Target::start(candidate.protocol, launch)?;
    let mut column = vec![candidate.label.to_string(), "---".into()];
    for fault in faults(candidate.protocol) {
        let verdict = inject(fault.name, &mut target);
        eprintln!("{}: {}: {verdict}", candidate.label, fault.name);
        column.push(match verdict {
            Survives(_) => "survives".into(),
            Fails(symptom, _) => format!("**{symptom}**"),
            NotTried(reason) if reason.contains("root") => "needs root".into(),
            NotTried(_) => "–".into(),
        });
    }
    Ok(column)
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
    let mut rows = rows.take_while(|line| line.starts_with('|')).peekable();
    let mut labels = rows.peek().expect("a table for this protocol").split('|').map(str::trim);
    let index = labels.position(|label| label == candidate.label).expect("a column");
    rows.map(|row| row.split('|').nth(index).expect("a cell").trim().into()).collect()
}
