//! Pictures of the survival table, as SVG: which server fails which fault, and how.

use crate::candidates::{CANDIDATES, Protocol};
use crate::survival::rows;
use crate::svg::{document, rect, text};
use std::cmp::Reverse;

/// The files of the pictures, and their widths: for a whole page, and for a telephone.
pub const PICTURES: [(&str, f64); 2] =
    [("docs/survival.svg", 1012.0), ("docs/survival-narrow.svg", 400.0)];

/// Returns a picture of a table. TCP and UDP stand side by side if it is wide enough for both.
pub fn picture(table: &str, width: f64) -> String {
    let is_wide = width > 800.0;
    let (text_size, names, cell) = if is_wide { (13.0, 148.0, 43.0) } else { (11.0, 112.0, 34.0) };
    let (tcp, tcp_end) = grid(&rows(table, Protocol::Tcp), (12.0, 40.0), names, cell);
    let (place, names) =
        if is_wide { ((498.0, 40.0), 126.0) } else { ((12.0, tcp_end + 12.0), names) };
    let (udp, udp_end) = grid(&rows(table, Protocol::Udp), place, names, cell);
    let (mut body, mut y) = (tcp + &udp, tcp_end.max(udp_end));
    let notes = [
        "Green: survives. Red: fails, and how. Gray: not tried.",
        "Bold: the servers of this repository.",
        &table.lines().next().unwrap_or_default().replace(':', "."),
        "exits: has exited or no longer listens.",
        "spins: uses a whole core when idle. hangs: no longer replies.",
        "loses: loses data. drops: drops clients.",
    ];
    for line in notes.chunks(if is_wide { 3 } else { 1 }) {
        y += 16.0;
        body += &text(12.0, y, "", &line.join(" "));
    }
    document("Faults that not every server survives", (width, y + 10.0), text_size, &body)
}

/// Draws the rows in which a server fails, the worst first. `names` is the width of the names of the
/// faults, and `cell` that of a cell.
///
/// Returns where the grid ends.
fn grid(rows: &[Vec<&str>], (x, y): (f64, f64), names: f64, cell: f64) -> (String, f64) {
    const ROW: f64 = 20.0;
    let failures = |row: &[&str]| row.iter().filter(|cell| cell.starts_with('*')).count();
    let mut failed: Vec<_> = rows.iter().filter(|row| failures(row) > 0).collect();
    failed.sort_by_key(|row| Reverse(failures(row)));
    let column = |index: usize| x + names + cell * index as f64;
    let mut y = y + 86.0; // The names of the servers are above.
    let mut svg = text(x, y - 6.0, "class=\"heading\"", rows[0][0]);
    for (index, label) in rows[0][1..].iter().enumerate() {
        svg += &server(column(index) + cell / 2.0, y - 6.0, label);
    }
    for row in &failed {
        svg += &text(x, y + 14.0, "", row[0].split(['[', ']']).nth(1).unwrap_or_default());
        for (index, verdict) in row[1..].iter().enumerate() {
            let (class, symptom) = match verdict.strip_prefix("**") {
                Some(symptom) => ("fails", symptom.split([' ', '*']).next().unwrap_or_default()),
                None if *verdict == "survives" => ("survives", ""),
                None => ("untried", ""),
            };
            svg += &rect(class, (column(index), y), (cell - 1.0, ROW - 1.0));
            if class == "fails" {
                let middle = column(index) + cell / 2.0;
                svg += &text(middle, y + 14.0, "class=\"symptom\"", symptom);
            }
        }
        y += ROW;
    }
    let rest = rows.len() - 2 - failed.len(); // without the head and the line below it
    svg += &text(x, y + 15.0, "", &format!("and {rest} faults that no server failed"));
    (svg, y + ROW)
}

/// Draws the name of a server upwards, in two lines if it has several words.
fn server(center: f64, y: f64, label: &str) -> String {
    let is_ours = CANDIDATES.iter().any(|server| server.is_ours() && server.label == label);
    let class = if is_ours { "ours" } else { "" };
    let mut x = if label.contains(' ') { center - 3.0 } else { center + 4.0 };
    let mut svg = String::new();
    for line in label.splitn(2, ' ') {
        svg += &text(x, y, &format!("class=\"{class}\" transform=\"rotate(-90 {x} {y})\""), line);
        x += 14.0;
    }
    svg
}
