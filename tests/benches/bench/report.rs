//! The figures as a CSV file, as a table and, for docs/benchmarks.md, as plots.

use crate::load::{Sample, Work};
use crate::plot::plot;
use crate::{ROWS, Row, candidate, label};
use std::error::Error;
use std::fs;
use tests::faults::grouped;

/// One round of one server.
pub struct Record {
    pub work: String,
    pub server: String,
    pub sample: Sample,
}

/// What a figure of a row is.
#[derive(Clone, Copy, PartialEq)]
pub enum Metric {
    Rate,
    Seconds,
    Memory,
    Cpu,
}

impl Metric {
    /// The result of a work.
    fn of(work: Work) -> Metric {
        match work {
            Work::Idle { .. } => Metric::Memory,
            Work::Burst { .. } | Work::Start { .. } => Metric::Seconds,
            _ => Metric::Rate,
        }
    }

    fn value(self, sample: &Sample) -> f64 {
        match self {
            Metric::Rate => sample.replies / sample.seconds,
            Metric::Seconds => sample.seconds,
            Metric::Memory => sample.memory,
            Metric::Cpu => sample.cpu / sample.replies,
        }
    }

    /// Formats a value with its unit and three significant digits.
    fn format(self, value: f64) -> String {
        let (value, unit) = match self {
            Metric::Rate => (value, "/s"),
            Metric::Memory => (value / 1e6, " MB"),
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

/// The median of the rounds, and the bounds of their middle half.
pub struct Figure {
    pub label: String,
    pub ours: bool,
    pub median: f64,
    pub low: f64,
    pub high: f64,
    pub text: String,
    lost: f64,
}

/// Returns the figure of a server in a row, if it was measured.
fn figure(records: &[Record], row: &Row, server: &str, metric: Metric) -> Option<Figure> {
    let records = records.iter().filter(|it| it.work == row.title && it.server == server);
    let samples = records.map(|it| &it.sample);
    let lost: f64 = samples.clone().map(|sample| sample.lost + sample.wrong).sum();
    let mut values: Vec<f64> = samples.map(|sample| metric.value(sample)).collect();
    values.retain(|value| value.is_finite() && *value > 0.0);
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let (low, high) = (values[(last + 1) / 4], values[last - (last + 1) / 4]);
    let median = (values[last / 2] + values[last.div_ceil(2)]) / 2.0;
    let spread = (high - low) / 2.0 / median * 100.0;
    let text = format!("{} ±{spread:.0}%", metric.format(median));
    let ours = candidate(server).is_ours();
    Some(Figure { label: label(server), ours, median, low, high, text, lost })
}

/// Returns a table, in Markdown.
pub fn table(records: &[Record]) -> String {
    let line = |[work, server, result, cpu]: [&str; 4]| {
        format!("| {work:34} | {server:27} | {result:>14} | {cpu:>15} |\n")
    };
    let mut table = line(["Work", "Server", "Result", "CPU per request"]);
    table += &line(["---", "---", "--:", "--:"]);
    for row in &ROWS {
        let mut title = row.title;
        let metric = Metric::of(row.work);
        for server in row.servers {
            let Some(mut result) = figure(records, row, server, metric) else { continue };
            if result.lost > 0.0 {
                result.text += &format!(", {} lost", result.lost);
            }
            let cpu = figure(records, row, server, Metric::Cpu);
            let cpu = cpu.filter(|_| metric == Metric::Rate).map_or(String::new(), |cpu| cpu.text);
            table += &line([title, &result.label, &result.text, &cpu]);
            title = "";
        }
    }
    table
}

/// The first line of a CSV file after the comment that describes the machine.
pub const HEADER: &str = "work,server,round,replies,wrong,lost,seconds,CPU seconds,bytes resident";

impl Record {
    /// Returns a line of a CSV file.
    pub fn to_csv(&self, round: u32) -> String {
        let Record { work, server, sample } = self;
        let Sample { replies, wrong, lost, seconds, cpu, memory } = sample;
        format!("\"{work}\",{server},{round},{replies},{wrong},{lost},{seconds},{cpu},{memory}")
    }

    fn from_csv(line: &str) -> Option<Record> {
        let (work, rest) = line.strip_prefix('"')?.split_once("\",")?;
        let (server, rest) = rest.split_once(',')?;
        let numbers = rest.split(',').map(|number| number.parse().unwrap_or(f64::NAN));
        let numbers: Vec<f64> = numbers.collect();
        let [_, replies, wrong, lost, seconds, cpu, memory] = numbers[..] else { return None };
        let sample = Sample { replies, wrong, lost, seconds, cpu, memory };
        Some(Record { work: work.into(), server: server.into(), sample })
    }
}

/// Writes the table into the page of the same name as the CSV file, and the plots beside it.
pub fn write(csv: &str) -> Result<(), Box<dyn Error>> {
    const BEGIN: &str = "<!-- table -->\n";
    const END: &str = "<!-- end of the table -->";
    let text = fs::read_to_string(csv)?;
    let mut lines = text.lines();
    let machine = lines.next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
    let records: Option<Vec<_>> = lines.skip(1).map(Record::from_csv).collect();
    let records = records.ok_or("this file was not written by --csv")?;
    let stem = csv.trim_end_matches(".csv");
    let page = format!("{stem}.md");
    let old = fs::read_to_string(&page)?;
    let (before, rest) = old.split_once(BEGIN).ok_or("the page has no table")?;
    let (_, after) = rest.split_once(END).ok_or("the table has no end")?;
    fs::write(page, format!("{before}{BEGIN}{machine}.\n\n{}{END}{after}", table(&records)))?;
    let cpu = "Server CPU time per request: shorter is better";
    // The last plot is for README.md, which must be readable on a narrow screen.
    let summary =
        ["UDP, 64 B, 64 clients", "TCP, connect, 5 B each way, close", "TCP, 64 B, 64 connections"];
    for (name, title, metric, columns) in [
        ("requests", "Requests per second: longer is better", Metric::Rate, 2),
        ("cpu", cpu, Metric::Cpu, 2),
        ("summary", cpu, Metric::Cpu, 1),
    ] {
        let rows = ROWS.iter().filter(|row| Metric::of(row.work) == Metric::Rate);
        let rows = rows.filter(|row| columns == 2 || summary.contains(&row.title));
        let panels = rows.map(|row| {
            let figure = |server: &&str| figure(&records, row, server, metric);
            (row.title, row.servers.iter().filter_map(figure).collect())
        });
        let plot = plot(title, &panels.collect::<Vec<_>>(), columns);
        fs::write(format!("{stem}-{name}.svg"), plot)?;
    }
    Ok(())
}
