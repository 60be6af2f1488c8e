//! Pictures of the survival table, as SVG: which server fails which fault, and how.

use crate::candidates::{CANDIDATES, Protocol};
use crate::survival::rows;
use std::cmp::Reverse;

/// The files of the pictures, and their widths: for a page beside which nothing stands, and for a
/// telephone.
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

/// Where a grid stands, and how wide its parts are.
struct Grid {
    x: usize,
    y: usize,
    /// The width of the names of the faults.
    names: usize,
    /// The width of a cell.
    cell: usize,
}

const ROW: usize = 20;
/// The height of the names of the servers.
const SERVERS: usize = 86;

/// Returns a picture of a table. TCP and UDP stand side by side if it is wide enough for both.
pub fn picture(table: &str, width: usize) -> String {
    let is_wide = width > 800;
    let (size, names, cell) = if is_wide { (13, 148, 43) } else { (11, 112, 34) };
    let tcp = Grid { x: 12, y: 40, names, cell };
    let (mut body, mut height) = tcp.draw(table, Protocol::Tcp);
    let (x, y) = if is_wide { (498, 40) } else { (12, height + 12) };
    let names = if is_wide { 126 } else { names };
    let (grid, udp_height) = Grid { x, y, names, cell }.draw(table, Protocol::Udp);
    body += &grid;
    height = height.max(udp_height);
    let system = table.lines().next().unwrap_or_default().trim_end_matches(':');
    let colors = "Green: survives. Red: fails, and how. Gray: not tried.";
    let ours = "Bold: the servers of this repository.";
    let exits = "exits: has exited or no longer listens.";
    let symptoms = "spins: uses a whole core when idle. hangs: no longer replies.";
    let rest = "loses: loses data. drops: drops clients.";
    let lines = if is_wide {
        vec![format!("{colors} {ours} {system}."), format!("{exits} {symptoms} {rest}")]
    } else {
        let lines = [colors, ours, exits, symptoms, rest].map(String::from);
        lines.into_iter().chain([format!("{system}.")]).collect()
    };
    for line in &lines {
        height += 16;
        body += &text(12, height, "", line);
    }
    height += 10;
    let title = text(12, 25, " class=\"title\"", TITLE);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{TITLE}</title>\n\
         <style>\nsvg {{ font: {size}px sans-serif }}\n{COLORS}</style>\n\
         <rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n{title}{body}</svg>\n"
    )
}

impl Grid {
    /// Draws the rows of a protocol in which a server fails, the worst first.
    ///
    /// Returns where the grid ends.
    fn draw(&self, table: &str, protocol: Protocol) -> (String, usize) {
        let rows = rows(table, protocol);
        let (head, faults) = (&rows[0], &rows[2..]);
        let failures = |row: &[&str]| row.iter().filter(|cell| cell.starts_with('*')).count();
        let mut failed: Vec<_> = faults.iter().filter(|row| failures(row) > 0).collect();
        failed.sort_by_key(|row| Reverse(failures(row)));
        let mut y = self.y + SERVERS;
        let mut svg = text(self.x, y - 6, " class=\"protocol\"", head[0]);
        for (column, label) in head.iter().enumerate().skip(1) {
            svg += &self.server(column, y - 6, label);
        }
        for row in &failed {
            let name = row[0].trim_start_matches('[').split(']').next().unwrap_or_default();
            svg += &text(self.x, y + 14, "", name);
            for (column, cell) in row.iter().enumerate().skip(1) {
                svg += &self.cell(column, y, cell);
            }
            y += ROW;
        }
        let rest = faults.len() - failed.len();
        svg += &text(self.x, y + 15, "", &format!("and {rest} faults that no server failed"));
        (svg, y + ROW)
    }

    fn column(&self, column: usize) -> usize {
        self.x + self.names + self.cell * (column - 1)
    }

    /// Draws the name of a server upwards, in two lines if it has several words.
    fn server(&self, column: usize, y: usize, label: &str) -> String {
        let is_ours = CANDIDATES.iter().any(|server| server.is_ours() && server.label == label);
        let class = if is_ours { " class=\"ours\"" } else { "" };
        let (center, lines) = (self.column(column) + self.cell / 2, label.split_once(' '));
        let lines = lines.map_or(vec![(center + 4, label)], |(first, second)| {
            vec![(center - 3, first), (center + 11, second)]
        });
        let turned = |(x, line)| {
            format!("<text transform=\"translate({x} {y}) rotate(-90)\"{class}>{line}</text>\n")
        };
        lines.into_iter().map(turned).collect()
    }

    fn cell(&self, column: usize, y: usize, cell: &str) -> String {
        let (class, symptom) = match cell.strip_prefix("**") {
            Some(symptom) => ("fails", symptom.split([' ', '*']).next().unwrap_or_default()),
            None if cell == "survives" => ("survives", ""),
            None => ("untried", ""),
        };
        let (x, width, height) = (self.column(column), self.cell - 1, ROW - 1);
        let area = format!("x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"");
        let symptom = match symptom {
            "" => String::new(),
            _ => text(x + width / 2, y + 14, " class=\"symptom\"", symptom),
        };
        format!("<rect class=\"{class}\" {area}/>\n{symptom}")
    }
}

fn text(x: usize, y: usize, attributes: &str, text: &str) -> String {
    format!("<text x=\"{x}\" y=\"{y}\"{attributes}>{text}</text>\n")
}
