//! The figures in the text of the pages: those of the benchmark are medians of docs/benchmarks.csv.
//!
//! The comment `figures` in docs/benchmarks.md has a line for each: `PHRASE | METRIC | WORK | SERVER…`.
//! A metric is a column, or `CPU` per request, or `memory`, and may be divided by a number. A phrase
//! with a unit states the smallest and the largest median of the servers. One without says in brackets
//! how much the first server of each pair `A / B` needs in comparison. A line that has only a phrase
//! names a figure that was not measured.

use crate::support::*;
use std::collections::BTreeMap;
use std::fs;

/// Returns a median for each line of the CSV file's work and server.
fn median(csv: &str, metric: &str, work: &str, server: &str) -> f64 {
    let columns: Vec<&str> = csv.lines().nth(1).unwrap().split(',').skip(2).collect();
    let begin = [format!("\"{work}\",{server},"), format!("{work},{server},")];
    let rounds = csv.lines().filter_map(|line| begin.iter().find_map(|it| line.strip_prefix(it)));
    let mut values: Vec<f64> = rounds
        .map(|round| {
            let values = round.split(',').map(|value| value.parse().unwrap_or(f64::INFINITY));
            let round: BTreeMap<_, f64> = columns.iter().copied().zip(values).collect();
            match metric {
                "CPU" => round["server CPU"] / round["replies"],
                "memory" => round["RSS"] + round["page tables"] + round["kernel stacks"],
                column => round[column],
            }
        })
        .collect();
    assert!(!values.is_empty(), "benchmarks.csv: {work}, {server}");
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the first and the last number of a phrase, scaled by its unit.
fn stated(phrase: &str) -> (f64, f64) {
    let phrase = phrase.split(" of ").next().unwrap();
    let units = [(" µs", 1e-6), (" ms", 1e-3), (" KB", 1e3), (" MB", 1e6)];
    let scale =
        units.iter().find(|(unit, _)| phrase.ends_with(unit)).map_or(1.0, |(_, scale)| *scale);
    let words = phrase.split(' ').map(|word| word.trim_matches(['(', ')']).replace(',', ""));
    let numbers: Vec<f64> = words.filter_map(|word| word.parse().ok()).collect();
    (numbers[0] * scale, numbers[numbers.len() - 1] * scale)
}

#[test]
fn figures_are_those_of_benchmark() {
    let page = |path: &str| fs::read_to_string(repository(path)).unwrap();
    let (csv, benchmarks, readme) =
        (page("docs/benchmarks.csv"), page("docs/benchmarks.md"), page("README.md"));
    let list = benchmarks.split("<!-- figures\n").nth(1).unwrap().split("-->").next().unwrap();
    let list: Vec<Vec<&str>> = list.lines().map(|line| line.split(" | ").collect()).collect();
    let (_, performance) = readme.split_once("\n## Performance\n").unwrap();
    let prose = [benchmarks.split("\n<!-- figures").next(), performance.split("\n## ").next()];
    let prose: Vec<&str> = prose.into_iter().flatten().flat_map(str::split_whitespace).collect();
    let text = prose.join(" ");
    let mut wrong = Vec::new();
    for line in &list {
        let [phrase, metric, work, servers @ ..] = &line[..] else { continue };
        let (metric, divisor) = metric.split_once('/').unwrap_or((metric, "1"));
        let median = |server: &str| median(&csv, metric, work, server);
        let measured = servers.iter().map(|server| match server.split_once(" / ") {
            Some((first, second)) => median(first) / median(second),
            None => median(server) / divisor.parse::<f64>().unwrap(),
        });
        let (least, most) =
            measured.fold((f64::INFINITY, 0_f64), |(a, b), it| (a.min(it), b.max(it)));
        let (first, last) = stated(phrase);
        // Figures are rounded to two digits.
        let tolerance = if phrase.ends_with(')') { 0.2 } else { 0.05 };
        let is_near = |measured: f64, stated: f64| (measured / stated - 1.0).abs() <= tolerance;
        let is_right = match phrase {
            below if below.starts_with("below") => most < last,
            above if above.starts_with("more than") => least > first,
            _ => is_near(least, first) && is_near(most, last),
        };
        if !is_right || !text.contains(phrase.split(" (").next().unwrap()) {
            wrong.push(format!("{line:?}: measured {least} to {most}, or no page has the phrase"));
        }
    }
    for pair in prose.windows(2) {
        let figure = format!("{} {}", pair[0].trim_start_matches('('), pair[1]);
        let figure = figure.trim_end_matches([',', '.', ':', ';', ')']);
        let has_unit = [" µs", " ms", " KB", " MB"].iter().any(|unit| figure.ends_with(unit));
        if has_unit && !list.iter().any(|line| line[0].contains(figure)) {
            wrong.push(format!("{figure}: not in the comment `figures`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
