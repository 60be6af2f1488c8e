//! The figures as tables and, for docs/benchmarks.md, as plots.

use crate::plot::{Figure, plot};
use crate::{BUSY, MOSTLY_IDLE, ROWS, Row, SHORT, Table, candidate, label};
use std::error::Error;
use std::fs;
use tests::benchmark::{COLUMNS, quartiles};
use tests::grouped;

/// Formats the value of a figure with its unit and three significant digits.
fn format(figure: &str, value: f64) -> String {
    let (value, unit) = match figure {
        "requests" => (value, "/s"),
        "memory" | "RSS" => (value / 1e6, " MB"),
        "late or lost" => return grouped(value as usize),
        _ if value == f64::INFINITY => return "no reply".into(),
        _ if value >= 1.0 => (value, " s"),
        _ if value >= 1e-3 => (value * 1e3, " ms"),
        _ => (value * 1e6, " µs"),
    };
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    let decimals = (2 - rounded.log10().floor() as i32).max(0) as usize;
    match decimals {
        0 => grouped(rounded as usize) + unit,
        _ => format!("{rounded:.decimals$}{unit}"),
    }
}

/// Returns a server's figure of a row, if it was measured: a bar to the median of the rounds, and a
/// line over their middle half.
fn figure(csv: &str, row: &Row, server: &str, name: &str) -> Option<Figure> {
    let of = |name| quartiles(csv, row.title, server, name);
    let [min, low, median, high, max] = of(name)?;
    let spread = (high - low) / 2.0 / median * 100.0;
    let note = match name {
        "late or lost" if max == 0.0 => String::new(),
        "late or lost" => format!(" ({} to {})", format(name, min), format(name, max)),
        "requests" if of("lost")?[4] > 0.0 => format!(", up to {} lost", of("lost")?[4]),
        "requests" if of("busy")?[2] < 0.8 => format!(" ±{spread:.0}% *"),
        _ if high == f64::INFINITY => String::new(),
        _ => format!(" ±{spread:.0}%"),
    };
    Some(Figure {
        label: label(server),
        is_ours: candidate(server).is_ours(),
        bar: [0.0, median],
        line: [low, high],
        text: format(name, median) + &note,
    })
}

/// Returns p99 in a bar from p50 to p99.9.
fn percentiles(csv: &str, row: &Row, server: &str) -> Option<Figure> {
    let p99 = figure(csv, row, server, "p99")?;
    let [p50, p999] = [figure(csv, row, server, "p50")?, figure(csv, row, server, "p99.9")?];
    Some(Figure { bar: [p50.bar[1], p999.bar[1]], line: [p99.bar[1]; 2], ..p99 })
}

/// Returns the tables, in Markdown: one for the rows that have the same columns.
pub fn tables(csv: &str) -> String {
    let (mut text, mut above): (_, Table) = (String::new(), &[]);
    for row in &ROWS {
        let cells = |server| {
            let figures = row.table.iter().map(|column| figure(csv, row, server, column.1));
            let figures = figures.collect::<Option<Vec<Figure>>>()?;
            Some(line(&figures[0].label, figures.iter().map(|figure| &*figure.text)))
        };
        let lines: String = row.servers().filter_map(cells).collect();
        if lines.is_empty() {
            continue;
        }
        if row.table != above {
            above = row.table;
            text += "\n";
            text += &line("", above.iter().map(|column| column.0));
            text += &line("---", above.iter().map(|_| "--:"));
        }
        text += &line(&format!("**{}**", row.title), above.iter().map(|_| ""));
        text += &lines;
    }
    text
}

fn line<'a>(head: &str, cells: impl Iterator<Item = &'a str>) -> String {
    let cells: String = cells.map(|cell| format!(" {cell:>15} |")).collect();
    format!("| {head:30} |{cells}\n")
}

/// Writes the tables into the page of the same name as the CSV file, and the plots beside it.
pub fn write(file: &str) -> Result<(), Box<dyn Error>> {
    const BEGIN: &str = "<!-- tables -->\n";
    const END: &str = "<!-- end of the tables -->";
    let csv = fs::read_to_string(file)?;
    let mut lines = csv.lines();
    let machine = lines.next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
    if lines.next() != Some(COLUMNS) {
        return Err("this file was not written by --csv".into());
    }
    let stem = file.trim_end_matches(".csv");
    let page = format!("{stem}.md");
    let old = fs::read_to_string(&page)?;
    let (before, rest) = old.split_once(BEGIN).ok_or("the page has no tables")?;
    let (_, after) = rest.split_once(END).ok_or("the tables have no end")?;
    let (machine, tables) = (machine.replace("; ", ";\n"), tables(&csv));
    fs::write(page, format!("{before}{BEGIN}{machine}.\n{tables}{END}{after}"))?;
    let panel = |title, row: &Row, name: &str| {
        (title, row.servers().filter_map(|server| figure(&csv, row, server, name)).collect())
    };
    let range = |row: &'static Row| {
        (row.title, row.servers().filter_map(|server| percentiles(&csv, row, server)).collect())
    };
    // The rows that have a column.
    let rows = |name| ROWS.iter().filter(move |row| row.table.iter().any(|it| it.1 == name));
    let panels = |name| rows(name).map(|row| panel(row.title, row, name)).collect::<Vec<_>>();
    let summary = vec![
        panel("CPU time to accept, reply and close", &SHORT, "CPU"),
        panel("p99 of the time until a reply: 512 connections, all busy", &BUSY, "p99"),
        panel("Memory: 5,000 connections, mostly idle", &MOSTLY_IDLE, "memory"),
    ];
    let latency = [&BUSY].into_iter().chain(rows("p99.9")).map(range).collect();
    for (name, title, panels) in [
        ("latency", "Time until a reply", latency),
        ("requests", "Requests per second: longer is better", panels("requests")),
        ("cpu", "CPU time per request: shorter is better", panels("CPU")),
        ("memory", "Memory: shorter is better", panels("memory")),
        ("summary", "Shorter is better", summary),
    ] {
        fs::write(format!("{stem}-{name}.svg"), plot(title, name == "latency", &panels))?;
    }
    Ok(())
}
