//! What was measured, for people: tables with bars, then sentences; and for programs: a CSV file.

use crate::Row;
use crate::load::{Sample, Work};
use crate::servers::Contender;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Instant;

/// What is told about a server.
#[derive(Clone, Copy, PartialEq)]
enum Metric {
    Rate,
    Median,
    P99,
    Cpu,
    Busy,
    Peak,
    Elapsed,
    Held,
}

use Metric::{Busy, Cpu, Elapsed, Held, Median, P99, Peak, Rate};

impl Metric {
    /// What is told of this work. The first is the one that the bars show.
    fn of(work: Work) -> &'static [Metric] {
        match work {
            Work::Bulk => &[Rate, Cpu, Busy, Peak],
            Work::Storm { .. } => &[Elapsed, Median, P99, Cpu, Peak],
            Work::Idle { .. } => &[Held, Peak],
            Work::Start => &[Elapsed, Peak],
            _ => &[Rate, Median, P99, Cpu, Busy, Peak],
        }
    }

    fn title(self) -> &'static str {
        match self {
            Rate => "requests/s",
            Median => "median",
            P99 => "99th pct",
            Cpu => "CPU/request",
            Busy => "busy",
            Peak => "peak memory",
            Elapsed => "time",
            Held => "per connection",
        }
    }

    fn value(self, sample: &Sample) -> Option<f64> {
        match self {
            Rate => Some(sample.answered as f64 / sample.elapsed),
            Median => sample.percentile(50),
            P99 => sample.percentile(99),
            Cpu => sample.cpu.map(|cpu| cpu / sample.answered as f64),
            Busy => sample.cpu.map(|cpu| cpu / sample.elapsed),
            Peak => sample.memory,
            Elapsed => Some(sample.elapsed),
            Held => sample.held,
        }
        .filter(|value| value.is_finite())
    }

    fn show(self, value: f64) -> String {
        match self {
            Rate => grouped(value),
            Busy => format!("{:.0} %", value * 100.0),
            Peak | Held if value >= 1e6 => format!("{:.1} MB", value / 1e6),
            Peak | Held => format!("{:.1} KB", value / 1e3),
            _ if value >= 1.0 => format!("{value:.2} s"),
            _ if value >= 1e-3 => format!("{:.2} ms", value * 1e3),
            _ => format!("{:.2} µs", value * 1e6),
        }
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The median of the rounds, and half of the range that the middle half of them fills: one round in
/// which the machine did something else shows in neither. With up to three rounds that is all of them.
struct Figure {
    median: f64,
    spread: f64,
}

impl Figure {
    fn of(rounds: impl Iterator<Item = Option<f64>>) -> Option<Figure> {
        let mut values = rounds.collect::<Option<Vec<f64>>>()?;
        values.sort_unstable_by(f64::total_cmp);
        let quartile = |quarters| values.get(values.len() * quarters / 4);
        let (low, high) = (*quartile(1)?, *quartile(3)?);
        let middle = values.len() / 2;
        let median = (values[middle] + values[values.len() - 1 - middle]) / 2.0;
        Some(Figure { median, spread: (high - low) / 2.0 })
    }

    /// `13.2 ± 0.6`: as many decimals as mean something.
    fn ratio(&self) -> String {
        let decimals = if self.median < 5.0 { 2 } else { usize::from(self.median < 50.0) };
        format!("{:.decimals$} ± {:.decimals$}", self.median, self.spread)
    }
}

/// One server's rounds at one work.
pub struct Measured {
    pub contender: Contender,
    pub rounds: Vec<Sample>,
}

impl Measured {
    fn figure(&self, metric: Metric) -> Option<Figure> {
        Figure::of(self.rounds.iter().map(|sample| metric.value(sample)))
    }

    /// This one's figure as a multiple of another's, round by round: what slowed a round down slowed
    /// both.
    fn against(&self, other: &Measured, metric: Metric) -> Option<Figure> {
        let rounds = self.rounds.iter().zip(&other.rounds);
        let ratio = |(one, other)| Some(metric.value(one)? / metric.value(other)?);
        Figure::of(rounds.map(ratio).map(|ratio| ratio.filter(|ratio| ratio.is_finite())))
    }
}

/// The table of one work.
pub fn table(row: &Row, results: &[Measured]) -> String {
    const BAR: usize = 16;
    let metrics = Metric::of(row.work);
    let has_bars = io::stdout().is_terminal();
    let width = results.iter().map(|result| result.contender.name.len()).max().unwrap_or(0);
    let mut text = format!("\n{}\n{:width$}", row.title, "");
    for (column, metric) in metrics.iter().enumerate() {
        let bar = if column == 0 && has_bars { BAR + 2 } else { 0 };
        let _ = write!(text, "  {:>width$}{:bar$}", metric.title(), "", width = cell(*metric));
    }
    text.push('\n');
    let longest = results.iter().filter_map(|result| result.figure(metrics[0]));
    let longest = longest.map(|figure| figure.median).fold(0.0, f64::max);
    for result in results {
        let _ = write!(text, "{:width$}", result.contender.name);
        for (column, metric) in metrics.iter().enumerate() {
            let figure = result.figure(*metric);
            let shown = match &figure {
                Some(figure) if cell(*metric) > 11 => {
                    let spread = (100.0 * figure.spread / figure.median).ceil();
                    let spread = if spread.is_nan() { 0.0 } else { spread };
                    format!("{} ±{spread:>3.0} %", metric.show(figure.median))
                }
                Some(figure) => metric.show(figure.median),
                None => "-".into(),
            };
            let _ = write!(text, "  {shown:>width$}", width = cell(*metric));
            if column == 0 && has_bars {
                let part = figure.map_or(0.0, |figure| figure.median / longest);
                let _ = write!(text, "  {:BAR$}", bar(part * BAR as f64));
            }
        }
        let sum = |count: fn(&Sample) -> usize| result.rounds.iter().map(count).sum::<usize>();
        for (count, what) in [(sum(|s| s.wrong), "wrong"), (sum(|s| s.lost), "lost")] {
            if count > 0 {
                let _ = write!(text, "  {} {what}", grouped(count as f64));
            }
        }
        text.push('\n');
    }
    text
}

/// How wide a column is; those above 11 also show the spread.
fn cell(metric: Metric) -> usize {
    match metric {
        Rate | Cpu | Elapsed | Held => 16,
        Median | P99 => 9,
        Busy => 5,
        Peak => 11,
    }
}

/// A bar as long as that, to an eighth of a character.
fn bar(length: f64) -> String {
    let eighths = (length * 8.0).round() as usize;
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + rest
}

/// What is worth saying about one work.
pub fn sentences(row: &Row, results: &[Measured]) -> String {
    let find = |name| results.iter().find(|result| result.contender.name == name);
    let mut text = String::new();
    for (ours, theirs) in row.claims {
        if let (Some(ours), Some(theirs)) = (find(ours.name), find(theirs.name)) {
            if let Some(sentence) = sentence(row.work, ours, theirs) {
                let _ = writeln!(text, "  {sentence}");
            }
        }
    }
    if text.is_empty() { text } else { format!("{}\n{text}", row.title) }
}

fn sentence(work: Work, ours: &Measured, theirs: &Measured) -> Option<String> {
    let headline = Metric::of(work)[0];
    let (name, other) = (ours.contender.name, theirs.contender.name);
    let ratio = ours.against(theirs, headline)?.ratio();
    let absolute = ours.figure(headline)?;
    let absolute = format!(
        "{} ± {:.0} %",
        headline.show(absolute.median),
        (100.0 * absolute.spread / absolute.median).ceil()
    );
    let sooner = theirs.against(ours, headline)?.ratio();
    Some(match work {
        Work::Idle { .. } => {
            format!("{name} holds an idle connection in {absolute}, {ratio} times that of {other}")
        }
        Work::Start => {
            format!("{name} listens after {absolute}, {sooner} times sooner than {other}")
        }
        Work::Storm { .. } => {
            format!(
                "{name} has answered them all after {absolute}, {sooner} times sooner than {other}"
            )
        }
        _ => {
            let cpu = match ours.against(theirs, Cpu) {
                Some(cpu) if cpu.median < 0.5 => {
                    format!(", with 1/{:.0} of its CPU", 1.0 / cpu.median)
                }
                Some(cpu) => format!(", with {} times its CPU for each", cpu.ratio()),
                None => String::new(),
            };
            format!("{name} answers {ratio} times as many requests a second as {other}{cpu}")
        }
    })
}

/// One line for each round; seconds, bytes and counts.
pub fn csv(row: &Row, results: &[Measured]) -> String {
    let mut text = String::new();
    for Measured { contender, rounds } in results {
        for (round, sample) in rounds.iter().enumerate() {
            let Sample { answered, wrong, lost, elapsed, .. } = sample;
            let _ = write!(text, "{},\"{}\",\"{}\"", row.part, row.title, contender.name);
            let _ = write!(text, ",{},{answered},{wrong},{lost},{elapsed}", round + 1);
            let median_and_99th = [sample.percentile(50), sample.percentile(99)];
            let of_process = [sample.cpu, sample.own_cpu, sample.memory, sample.held];
            for figure in median_and_99th.into_iter().chain(of_process) {
                let _ =
                    write!(text, ",{}", figure.map_or(String::new(), |figure| figure.to_string()));
            }
            text.push('\n');
        }
    }
    text
}

pub const CSV_HEADER: &str = "part,work,server,round,answered,wrong,lost,elapsed,median,\
    99th percentile,server CPU,load CPU,peak memory,memory per idle connection\n";

/// What is being done, and how much is left; on standard error.
pub struct Progress {
    start: Instant,
    steps: usize,
    done: usize,
}

impl Progress {
    pub fn new(steps: usize) -> Progress {
        Progress { start: Instant::now(), steps, done: 0 }
    }

    /// The next step begins. Where nothing can be overwritten, only the first of a row is told.
    pub fn step(&mut self, row: &Row, contender: &Contender, round: usize, is_first: bool) {
        let (done, steps) = (self.done, self.steps);
        let left = self.start.elapsed().as_secs_f64() / done.max(1) as f64 * (steps - done) as f64;
        let left = if done > 0 { format!(", {left:.0} s left") } else { String::new() };
        let mut error = io::stderr();
        let _ = if error.is_terminal() {
            let name = contender.name;
            write!(error, "\r\x1b[K[{done}/{steps}{left}] {}: {name}, round {round}", row.title)
        } else if is_first {
            writeln!(error, "[{done}/{steps}{left}] {}", row.title)
        } else {
            Ok(())
        };
        self.done += 1;
    }

    /// Makes room for a table.
    pub fn clear(&self) {
        if io::stderr().is_terminal() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
