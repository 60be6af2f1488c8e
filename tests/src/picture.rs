//! Pictures of the survival table, as SVG: which server fails which fault, and how.

use crate::candidates::{CANDIDATES, Protocol};
use crate::survival::rows;
use std::cmp::Reverse;

/// The files of the pictures, and their widths: for a whole page, and for a telephone.
pub const PICTURES: [(&str, usize); 2] =
    [("docs/survival.svg", 1012), ("docs/survival-narrow.svg", 400)];

const TITLE: &str = "Faults that not every server survives";

const COLORS: &str = "\
    svg { fill: #1f2328 }\n\
    .paper { fill: #fff }\n\
    .survives { fill: #9bd3ae }\n\
    .fails { fill: #cf222e }\n\
    .symptom { fill: #fff; text-anchor: middle }\n\
    .untried { fill: #d8dee4 }\n\
    .ours, .protocol, .title { font-weight: bold }\n\
    .title { font-size: 16px }\n\
    @media (prefers-color-scheme: dark) {\n\
    svg { fill: #e6edf3 }\n\
    .paper { fill: #0d1117 }\n\
    .survives { fill: #1f6f3f }\n\
    .fails { fill: #da3633 }\n\
    .untried { fill: #30363d }\n\
    }\n";

/// Returns a picture of a table. TCP and UDP stand side by side if it is wide enough for both.
pub fn picture(table: &str, width: usize) -> String {
    let is_wide = width > 800;
    let (size, names, cell) = if is_wide { (13, 148, 43) } else { (11, 112, 34) };
    let (tcp, tcp_end) = grid(&rows(table, Protocol::Tcp), (12, 40), names, cell);
    let (place, names) = if is_wide { ((498, 40), 126) } else { ((12, tcp_end + 12), names) };
    let (udp, udp_end) = grid(&rows(table, Protocol::Udp), place, names, cell);
    let mut body = [text(12, 25, " class=\"title\"", TITLE), tcp, udp].concat();
    let mut height = tcp_end.max(udp_end);
    let system = table.lines().next().unwrap_or_default().replace(':', ".");
    let colors = "Green: survives. Red: fails, and how. Gray: not tried.";
    let ours = "Bold: the servers of this repository.";
    let exits = "exits: has exited or no longer listens.";
    let symptoms = "spins: uses a whole core when idle. hangs: no longer replies.";
    let rest = "loses: loses data. drops: drops clients.";
    let lines = if is_wide {
        vec![[colors, ours, &system].join(" "), [exits, symptoms, rest].join(" ")]
    } else {
        [colors, ours, exits, symptoms, rest, &system].map(String::from).to_vec()
    };
    for line in &lines {
        height += 16;
        body += &text(12, height, "", line);
    }
    height += 10;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{TITLE}</title>\n\
         <style>\nsvg {{ font: {size}px sans-serif }}\n{COLORS}</style>\n\
         <rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n{body}</svg>\n"
    )
}

/// Draws the rows in which a server fails, the worst first. `names` is the width of the names of the
/// faults, and `cell` that of a cell.
///
/// Returns where the grid ends.
fn grid(rows: &[Vec<&str>], (x, y): (usize, usize), names: usize, cell: usize) -> (String, usize) {
    const ROW: usize = 20;
    let failures = |row: &[&str]| row.iter().filter(|cell| cell.starts_with('*')).count();
    let mut failed: Vec<_> = rows.iter().filter(|row| failures(row) > 0).collect();
    failed.sort_by_key(|row| Reverse(failures(row)));
    let columns = || (x + names..).step_by(cell);
    let mut y = y + 86; // The names of the servers are above.
    let mut svg = text(x, y - 6, " class=\"protocol\"", rows[0][0]);
    for (x, label) in columns().zip(&rows[0][1..]) {
        svg += &server(x + cell / 2, y - 6, label);
    }
    for row in &failed {
        svg += &text(x, y + 14, "", row[0].split(['[', ']']).nth(1).unwrap_or_default());
        for (x, verdict) in columns().zip(&row[1..]) {
            let (width, height) = (cell - 1, ROW - 1);
            let (class, symptom) = match verdict.strip_prefix("**") {
                Some(symptom) => ("fails", symptom.split([' ', '*']).next().unwrap_or_default()),
                None if *verdict == "survives" => ("survives", ""),
                None => ("untried", ""),
            };
            let area = format!("x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"");
            svg += &format!("<rect class=\"{class}\" {area}/>\n");
            if class == "fails" {
                svg += &text(x + width / 2, y + 14, " class=\"symptom\"", symptom);
            }
        }
        y += ROW;
    }
    let rest = rows.len() - 2 - failed.len(); // without the head and the line below it
    svg += &text(x, y + 15, "", &format!("and {rest} faults that no server failed"));
    (svg, y + ROW)
}

/// Draws the name of a server upwards, in two lines if it has several words.
fn server(center: usize, y: usize, label: &str) -> String {
    let is_ours = CANDIDATES.iter().any(|server| server.is_ours() && server.label == label);
    let class = if is_ours { " class=\"ours\"" } else { "" };
    let lines = match label.split_once(' ') {
        Some((first, second)) => vec![(center - 3, first), (center + 11, second)],
        None => vec![(center + 4, label)],
    };
    let turned = |(x, line)| {
        format!("<text transform=\"translate({x} {y}) rotate(-90)\"{class}>{line}</text>\n")
    };
    lines.into_iter().map(turned).collect()
}

fn text(x: usize, y: usize, attributes: &str, text: &str) -> String {
    format!("<text x=\"{x}\" y=\"{y}\"{attributes}>{text}</text>\n")
}
