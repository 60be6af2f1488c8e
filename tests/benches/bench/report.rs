//! The figures as a CSV file, as tables and, for docs/benchmarks.md, as plots.

use crate::load::{FIGURES, Sample};
use crate::plot::{Figure, plot};
use crate::{BUSY, IDLE, Kind, ROWS, Row, SHORT, candidate, label};
use std::error::Error;
use std::fs;
use tests::grouped;

/// One round of one server.
pub struct Record {
    pub work: String,
    pub server: String,
    pub sample: Sample,
}

/// A figure in a table or a plot.
#[derive(Clone, Copy, PartialEq)]
pub enum Metric {
    Rate,
    Cpu,
    /// A percentile, or the time that the work took.
    Seconds(&'static str),
    Memory,
    Rss,
    /// The number of late or lost replies.
    Late,
}

use Metric::{Cpu, Late, Memory, Rate, Rss, Seconds};

impl Metric {
    fn value(self, sample: &Sample) -> f64 {
        let get = |figure| sample.get(figure);
        match self {
            Rate => get("replies") / get("seconds"),
            Cpu => get("server CPU") / get("replies"),
            Seconds(figure) => get(figure),
            Memory => get("RSS") + get("page tables") + get("kernel stacks"),
            Rss => get("RSS"),
            Late => get("late") + get("lost") + get("wrong"),
        }
    }

    /// Formats a value with its unit and three significant digits.
    fn format(self, value: f64) -> String {
        let (value, unit) = match self {
            Rate => (value, "/s"),
            Memory | Rss => (value / 1e6, " MB"),
            Late => return grouped(value as usize),
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
}

/// Returns the columns of a row in the tables.
fn columns(kind: Kind) -> &'static [(&'static str, Metric)] {
    const P50: (&str, Metric) = ("p50", Seconds("p50"));
    const P99: (&str, Metric) = ("p99", Seconds("p99"));
    match kind {
        Kind::Exchange => &[("Requests", Rate), ("CPU per request", Cpu), P99],
        Kind::Rate => &[P50, P99, ("p99.9", Seconds("p99.9")), ("Late or lost", Late)],
        Kind::Idle => &[("Memory", Memory), ("of that RSS", Rss), P50, P99],
        Kind::Rest => &[("Memory at rest", Memory), ("of that RSS", Rss)],
        Kind::Burst => &[("All served after", Seconds("seconds")), ("Waited > 0.9 s", Late)],
        Kind::Start => &[("Time", Seconds("seconds"))],
    }
}

/// Returns the least of the rounds' values, their quartiles, and the greatest.
fn quartiles(samples: &[&Sample], value: impl Fn(&Sample) -> f64) -> Option<[f64; 5]> {
    let mut values: Vec<f64> = samples.iter().map(|sample| value(sample)).collect();
    values.retain(|value| !value.is_nan());
    values.sort_unstable_by(f64::total_cmp);
    let (last, quarter) = (values.len().checked_sub(1)?, values.len() / 4);
    let median = (values[last / 2] + values[last.div_ceil(2)]) / 2.0;
    Some([values[0], values[quarter], median, values[last - quarter], values[last]])
}

/// Returns a server's figure of a row, if it was measured.
fn figure(records: &[Record], row: &Row, server: &str, metric: Metric) -> Option<Figure> {
    let records = records.iter().filter(|it| it.work == row.title && it.server == server);
    let samples: Vec<&Sample> = records.map(|it| &it.sample).collect();
    let [min, low, median, high, max] = quartiles(&samples, |sample| metric.value(sample))?;
    let spread = (high - low) / 2.0 / median * 100.0;
    let lost: f64 = samples.iter().map(|it| it.get("lost") + it.get("wrong")).sum();
    let busy = |it: &Sample| (it.get("server CPU") + it.get("server waited")) / it.get("seconds");
    let text = metric.format(median)
        + &match metric {
            Late if max == 0.0 => String::new(),
            Late => format!(" ({} to {})", metric.format(min), metric.format(max)),
            Rate if lost > 0.0 => format!(", {lost} lost"),
            Rate if quartiles(&samples, busy)?[2] < 0.8 => format!(" ±{spread:.0}% *"),
            _ if high == f64::INFINITY => String::new(),
            _ => format!(" ±{spread:.0}%"),
        };
    let (label, ours) = (label(server), candidate(server).is_ours());
    Some(Figure { label, ours, median, low, high, text })
}

/// Returns the tables, in Markdown: one for the rows that have the same columns.
pub fn tables(records: &[Record]) -> String {
    let (mut text, mut above) = (String::new(), "");
    for row in &ROWS {
        let columns = columns(row.kind);
        let cells = |server| {
            let figure = |column: &(_, Metric)| figure(records, row, server, column.1);
            let figures = columns.iter().map(figure).collect::<Option<Vec<_>>>()?;
            Some(line(&label(server), figures.iter().map(|figure| &*figure.text)))
        };
        let lines: String = row.servers().filter_map(cells).collect();
        if lines.is_empty() {
            continue;
        }
        if columns[0].0 != above {
            above = columns[0].0;
            text += "\n";
            text += &line("", columns.iter().map(|column| column.0));
            text += &line("---", columns.iter().map(|_| "--:"));
        }
        text += &line(&format!("**{}**", row.title), columns.iter().map(|_| ""));
        text += &lines;
    }
    text
}

fn line<'a>(head: &str, cells: impl Iterator<Item = &'a str>) -> String {
    let cells: String = cells.map(|cell| format!(" {cell:>15} |")).collect();
    format!("| {head:30} |{cells}\n")
}

impl Record {
    /// Returns a line of a CSV file.
    pub fn to_csv(&self, round: u32) -> String {
        let figures: String = self.sample.0.iter().map(|figure| format!(",{figure}")).collect();
        format!("\"{}\",{},{round}{figures}", self.work, self.server)
    }

    fn from_csv(line: &str) -> Option<Record> {
        let (work, rest) = line.strip_prefix('"')?.split_once("\",")?;
        let (server, rest) = rest.split_once(',')?;
        let sample = Sample(rest.split(',').skip(1).flat_map(str::parse).collect());
        let is_complete = sample.0.len() == FIGURES.len();
        is_complete.then(|| Record { work: work.into(), server: server.into(), sample })
    }
}

/// Writes the tables into the page of the same name as the CSV file, and the plots beside it.
pub fn write(csv: &str) -> Result<(), Box<dyn Error>> {
    const BEGIN: &str = "<!-- tables -->\n";
    const END: &str = "<!-- end of the tables -->";
    let text = fs::read_to_string(csv)?;
    let mut lines = text.lines();
    let machine = lines.next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
    let records: Option<Vec<_>> = lines.skip(1).map(Record::from_csv).collect();
    let records = records.ok_or("this file was not written by --csv")?;
    let stem = csv.trim_end_matches(".csv");
    let page = format!("{stem}.md");
    let old = fs::read_to_string(&page)?;
    let (before, rest) = old.split_once(BEGIN).ok_or("the page has no tables")?;
    let (_, after) = rest.split_once(END).ok_or("the tables have no end")?;
    let (machine, tables) = (machine.replace("; ", ";\n"), tables(&records));
    fs::write(page, format!("{before}{BEGIN}{machine}.\n{tables}{END}{after}"))?;
    let panel = |title: &'static str, row: &str, metrics: &[Metric]| {
        let row = ROWS.iter().find(|it| it.title == row).expect("it is the title of a row");
        let figures =
            |server| metrics.iter().map(|it| figure(&records, row, server, *it)).collect();
        (title, row.servers().filter_map(figures).collect())
    };
    // The panels of every row that has this column.
    let panels = |column, metrics: &[Metric]| -> Vec<_> {
        let rows = ROWS.iter().filter(|row| columns(row.kind).iter().any(|it| it.1 == column));
        rows.map(|row| panel(row.title, row.title, metrics)).collect()
    };
    let percentiles = ["p50", "p99", "p99.9"].map(Seconds);
    let summary = vec![
        panel("CPU time to accept, reply and close", SHORT, &[Cpu]),
        panel("p99 of the time until a reply: 512 connections, all busy", BUSY, &[Seconds("p99")]),
        panel("Memory: 5,000 connections, mostly idle", IDLE, &[Memory]),
    ];
    let mut latency = vec![panel(BUSY, BUSY, &percentiles)];
    latency.extend(panels(Seconds("p99.9"), &percentiles));
    for (name, title, panels) in [
        ("latency", "Time until a reply", latency),
        ("requests", "Requests per second: longer is better", panels(Rate, &[Rate])),
        ("cpu", "CPU time per request: shorter is better", panels(Cpu, &[Cpu])),
        ("memory", "Memory: shorter is better", panels(Memory, &[Memory])),
        ("summary", "Shorter is better", summary),
    ] {
        fs::write(format!("{stem}-{name}.svg"), plot(title, &panels))?;
    }
    Ok(())
}
