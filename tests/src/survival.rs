//! The survival table of `docs/fault-kit.md`, and the picture of it: every candidate under every fault.

use crate::candidates::{CANDIDATES, Candidate, Protocol};
use crate::faults::Verdict::{Fails, NotTried, Survives};
use crate::faults::{Options, Target, faults, inject};
use std::{env, fs};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fault-kit.md");
const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/survival.svg");
const BEGIN: &str = "<!-- The output of `cargo run --bin survival`, begin -->\n\n";
const END: &str = "\n<!-- The output of `cargo run --bin survival`, end -->";

/// Makes the table. If `write` is set and all of it could be made, puts it into the page, and writes
/// the picture.
///
/// Returns whether it is complete.
///
/// # Panics
///
/// Panics if the page or the picture cannot be written, or if the page has no markers.
pub fn survival(write: bool) -> bool {
    let mut complete = true;
    let tables = [Protocol::Udp, Protocol::Tcp].map(|protocol| {
        let mut rows = vec![header(protocol), "| --- |".into()];
        let links = faults(protocol).map(|fault| format!("| [{0}](pitfalls.md#{0}) |", fault.name));
        rows.extend(links);
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
    let kernel = crate::proc::read("sys/kernel/osrelease").unwrap_or_default();
    let version: Vec<&str> = kernel.split('.').take(2).collect();
    let system = format!("{} {} ({})", env::consts::OS, version.join("."), env::consts::ARCH);
    let system = system.replace("linux", "Linux").replace("  ", " ");
    let table = format!("Measured on {system}:\n\n{}", tables.join("\n"));
    println!("{table}");
    if table.contains("needs root") || table.contains("**too busy**") {
        eprintln!("incomplete: some faults need root, or a machine that is less busy");
        complete = false;
    }
    if write && complete {
        let page = fs::read_to_string(PAGE).expect("docs/fault-kit.md is readable");
        let (before, rest) = page.split_once(BEGIN).expect("docs/fault-kit.md has a table");
        let (_, after) = rest.split_once(END).expect("the table has an end");
        fs::write(PICTURE, picture(&table)).expect("docs/survival.svg is writable");
        let page = [before, BEGIN, &table, END, after].concat();
        fs::write(PAGE, page).expect("docs/fault-kit.md is writable");
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
    let mut target = Target::start(candidate.protocol, Options::default(), launch)
        .map_err(|error| error.to_string())?;
    let mut column = vec![candidate.label.to_string(), "---".into()];
    for fault in faults(candidate.protocol) {
        let verdict = inject(fault.name, &mut target);
        eprintln!("{}: {}: {verdict}", candidate.label, fault.name);
        column.push(match verdict {
            Survives(_) => "survives".into(),
            Fails(symptom, _) => format!("**{symptom}**"),
            NotTried(reason) if reason.contains("root") => "needs root".into(),
            NotTried(reason) if reason.contains("busy") => "**too busy**".into(),
            NotTried(_) => "–".into(),
        });
    }
    Ok(column)
}

/// Returns the committed table.
///
/// # Panics
///
/// Panics if there is none.
pub fn committed() -> String {
    let page = fs::read_to_string(PAGE).expect("docs/fault-kit.md is readable");
    let (_, table) = page.split_once(BEGIN).expect("docs/fault-kit.md has a table");
    table.split_once(END).expect("the table has an end").0.into()
}

/// Returns the cells of the rows of a protocol, without the links.
fn rows(table: &str, protocol: Protocol) -> Vec<Vec<&str>> {
    let rows = table.lines().skip_while(|line| !line.starts_with(&header(protocol)));
    rows.take_while(|line| line.starts_with('|'))
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// Returns the column of a candidate in a table.
///
/// # Panics
///
/// Panics if there is none.
pub fn column_of(table: &str, candidate: &Candidate) -> Vec<String> {
    let rows = rows(table, candidate.protocol);
    let index = rows[0].iter().position(|label| *label == candidate.label).expect("a column");
    rows.iter().map(|row| row[index].into()).collect()
}

const STYLE: &str = "<style>\n\
    svg { font: 11px sans-serif; fill: #1f2328 }\n\
    .paper { fill: #fff }\n\
    .survives { fill: #9bd3ae }\n\
    .fails { fill: #d1242f }\n\
    .symptom { fill: #fff; font-size: 9px }\n\
    .untried { fill: #d8dee4 }\n\
    @media (prefers-color-scheme: dark) {\n\
    svg { fill: #e6edf3 }\n\
    .paper { fill: #0d1117 }\n\
    .survives { fill: #1f6f3f }\n\
    .fails { fill: #da3633 }\n\
    .untried { fill: #30363d }\n\
    }\n\
    </style>\n";

/// Returns a picture of a table as SVG: a grid for each protocol, which can be read when it is 400
/// pixels wide.
pub fn picture(table: &str) -> String {
    let line = |x: usize, y: usize, style: &str, text: &str| {
        format!("<text x=\"{x}\" y=\"{y}\"{style}>{text}</text>\n")
    };
    let (bold, title) = (" font-weight=\"bold\"", "Which server survives which fault");
    let mut body = line(20, 28, " font-size=\"16\" font-weight=\"bold\"", title);
    let (mut y, x_of) = (46, |column: usize| 131 + 29 * column);
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let rows = rows(table, protocol);
        y += 122; // the height of the labels
        body += &line(20, y - 6, " font-size=\"14\" font-weight=\"bold\"", rows[0][0]);
        for (column, label) in rows[0].iter().enumerate().skip(1) {
            let turn = format!("translate({} {}) rotate(-90)", x_of(column) + 18, y - 6);
            let ours = if label.contains('-') { bold } else { "" };
            body += &format!("<text transform=\"{turn}\"{ours}>{label}</text>\n");
        }
        for cells in &rows[2..] {
            body +=
                &line(20, y + 12, "", cells[0].trim_matches(['[', ')']).split(']').next().unwrap());
            for (column, cell) in cells.iter().enumerate().skip(1) {
                let (x, symptom) = (x_of(column), cell.trim_matches('*'));
                let class = match symptom {
                    "survives" => "survives",
                    _ if cell.starts_with('*') => "fails",
                    _ => "untried",
                };
                body += &format!(
                    "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"28\" height=\"15\"/>\n"
                );
                if class == "fails" {
                    let symptom = symptom.split(' ').next().unwrap_or(symptom);
                    let style = " class=\"symptom\" text-anchor=\"middle\"";
                    body += &line(x + 14, y + 11, style, symptom);
                }
            }
            y += 16;
        }
        y += 16;
    }
    let system = table.lines().next().unwrap_or_default().trim_end_matches(':');
    body += &line(20, y + 8, "", &format!("Green: survives. Gray: not tried. {system}."));
    body += &line(20, y + 24, "", "loses: loses data. drops: drops clients. Ours are bold.");
    let (width, height) = (410, y + 40);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{title}</title>\n{STYLE}\
         <rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n{body}</svg>\n"
    )
}
