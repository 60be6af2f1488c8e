//! The figures in the text of the pages: those of the benchmark are medians of docs/benchmarks.csv.
//!
//! The comment `figures` in docs/benchmarks.md has a line for each: `PHRASE | METRIC | WORK | SERVER…`.
//! A metric is a column, or `CPU` per request, or `memory` per connection or in all. A phrase with a
//! unit has the smallest and the largest median of the servers. One without says in brackets how much
//! the first server of each pair `A / B` needs in comparison.

use crate::support::*;
use std::collections::BTreeMap;
use std::fs;

/// What a round measured, by the name of the column.
type Round = BTreeMap<String, f64>;

/// Returns the rounds by work and server.
fn rounds() -> BTreeMap<(String, String), Vec<Round>> {
    let csv = fs::read_to_string(repository("docs/benchmarks.csv")).unwrap();
    let mut lines = csv.lines().skip(1);
    let columns: Vec<&str> = lines.next().unwrap().split(',').skip(2).collect();
    let mut rounds = BTreeMap::<_, Vec<Round>>::new();
    for line in lines {
        let work = line.strip_prefix('"').and_then(|line| line.split_once("\","));
        let (work, rest) = work.or(line.split_once(',')).unwrap();
        let (server, values) = rest.split_once(',').unwrap();
        let values = values.split(',').map(|value| value.parse().unwrap_or(f64::INFINITY));
        let round = columns.iter().map(|column| column.to_string()).zip(values).collect();
        rounds.entry((work.into(), server.into())).or_default().push(round);
    }
    rounds
}

/// Returns the value of a metric in a round, in seconds, bytes, or requests per second.
fn value(round: &Round, metric: &str) -> f64 {
    match metric {
        "CPU" => round["server CPU"] / round["replies"],
        "requests" => round["replies"] / round["seconds"],
        "memory" => round["RSS"] + round["page tables"] + round["kernel stacks"],
        column => round[column],
    }
}

/// Returns the numbers of a phrase, scaled by the unit at its end.
fn numbers(phrase: &str) -> Vec<f64> {
    let scale = |unit| match unit {
        "µs" => 1e-6,
        "ms" => 1e-3,
        "KB" => 1e3,
        "MB" => 1e6,
        _ => 1.0,
    };
    let words: Vec<&str> = phrase.split(" of ").next().unwrap().split(' ').collect();
    let unit = words.iter().rev().map(|word| scale(word)).find(|scale| *scale != 1.0);
    let words = words.iter().map(|word| word.trim_matches(['(', ')']).replace(',', ""));
    words.filter_map(|word| word.parse().ok()).map(|n: f64| n * unit.unwrap_or(1.0)).collect()
}

#[test]
fn figures_are_those_of_benchmark() {
    let (rounds, benchmarks) = (rounds(), fs::read_to_string(repository("docs/benchmarks.md")));
    let benchmarks = benchmarks.unwrap();
    let (_, list) = benchmarks.split_once("<!-- figures\n").unwrap();
    let list: Vec<&str> = list.split("-->").next().unwrap().lines().collect();
    let mut wrong = Vec::new();
    for line in &list {
        let [phrase, metric, work, servers @ ..] = &line.split(" | ").collect::<Vec<_>>()[..]
        else {
            continue; // a figure that was not measured
        };
        let (metric, divisor) = metric.split_once('/').unwrap_or((metric, "1"));
        let median = |server: &str| {
            let rounds = rounds.get(&((*work).into(), server.into()));
            let rounds = rounds.unwrap_or_else(|| panic!("{line}: no such row in benchmarks.csv"));
            let mut values: Vec<f64> = rounds.iter().map(|round| value(round, metric)).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2] / divisor.parse::<f64>().unwrap()
        };
        let mut measured: Vec<f64> = (servers.iter())
            .map(|server| match server.split_once(" / ") {
                Some((first, second)) => median(first) / median(second),
                None => median(server),
            })
            .collect();
        measured.sort_by(f64::total_cmp);
        let stated = numbers(phrase);
        let bounds =
            [(measured[0], stated[0]), (*measured.last().unwrap(), stated[stated.len() - 1])];
        let is_right = bounds.iter().all(|(measured, stated)| match () {
            () if phrase.starts_with("below") => measured < stated,
            () if phrase.starts_with("more than") => measured > stated,
            () if phrase.ends_with(')') => (measured / stated - 1.0).abs() < 0.2,
            // Rounded to two digits.
            () => (measured / stated - 1.0).abs() <= 0.05,
        });
        let text = phrase.split(" (").next().unwrap();
        let is_there = prose().iter().any(|(_, prose)| prose.contains(text));
        if !is_right || !is_there {
            wrong.push(format!("{line}: measured: {measured:?}, on a page: {is_there}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // And no other figures are stated.
    let mut unlisted = Vec::new();
    for (page, text) in prose() {
        let words: Vec<&str> = text.split(' ').collect();
        for pair in words.windows(2) {
            let unit = pair[1].trim_end_matches([',', '.', ':', ';', ')']);
            let number = pair[0].trim_start_matches('(');
            let is_figure = ["µs", "ms", "KB", "MB"].contains(&unit);
            let figure = format!("{number} {unit}");
            if is_figure
                && !list.iter().any(|line| line.split(" | ").next().unwrap().contains(&figure))
            {
                unlisted.push(format!("{page}: {figure}"));
            }
        }
    }
    assert!(unlisted.is_empty(), "not in the comment `figures`:\n{}", unlisted.join("\n"));
}

/// Returns the text of the pages that quote the benchmark, each as one line: the sections about
/// performance, without tables.
fn prose() -> Vec<(&'static str, String)> {
    let section = |page, begin: &str, end: &str| {
        let text = fs::read_to_string(repository(page)).unwrap();
        let (_, text) = text.split_once(begin).unwrap_or_else(|| panic!("{page}: {begin}"));
        let text = text.split(end).next().unwrap();
        (page, text.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    vec![
        section("README.md", "\n## Performance\n", "\n## "),
        section("docs/benchmarks.md", "# Benchmarks\n", "\n## Plots"),
    ]
}
