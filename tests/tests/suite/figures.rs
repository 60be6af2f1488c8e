//! The figures in the text of docs/benchmarks.md are medians of docs/benchmarks.csv.
//!
//! The comment `figures` in docs/benchmarks.md has a line for each: `PHRASE | METRIC | WORK | SERVER…`.
//! A metric may be divided by a number. A phrase with a unit states the smallest and the largest median
//! of the servers. One without says in brackets how much the first server of each pair `A / B` needs in
//! comparison.

use tests::benchmark::quartiles;
use tests::copying::read;

/// Returns the first and the last number of a phrase, scaled by its unit.
fn stated(phrase: &str) -> (f64, f64) {
    let units = [(" µs", 1e-6), (" ms", 1e-3), (" KB", 1e3), (" MB", 1e6)];
    let unit = units.iter().find(|(unit, _)| phrase.ends_with(unit));
    let scale = unit.map_or(1.0, |(_, scale)| *scale);
    let words = phrase.split([' ', '(', ')']).map(|word| word.replace(',', ""));
    let numbers: Vec<f64> = words.filter_map(|word| word.parse().ok()).collect();
    (numbers[0] * scale, numbers[numbers.len() - 1] * scale)
}

#[test]
fn figures_are_those_of_benchmark() {
    let (page, csv) = (read("docs/benchmarks.md"), read("docs/benchmarks.csv"));
    let (prose, rest) = page.split_once("\n<!-- figures\n").unwrap();
    let text = prose.split_whitespace().collect::<Vec<&str>>().join(" ");
    let mut wrong = Vec::new();
    for line in rest.lines().take_while(|line| *line != "-->") {
        let line: Vec<&str> = line.split(" | ").collect();
        let [phrase, metric, work, servers @ ..] = &line[..] else { panic!("{line:?}") };
        let (metric, divisor) = metric.split_once('/').unwrap_or((metric, "1"));
        let median = |server: &str| {
            let quartiles = quartiles(&csv, work, server, metric);
            quartiles.unwrap_or_else(|| panic!("benchmarks.csv: {work}, {server}"))[2]
        };
        let measured = servers.iter().map(|server| match server.split_once(" / ") {
            Some((first, second)) => median(first) / median(second),
            None => median(server) / divisor.parse::<f64>().unwrap(),
        });
        let least = measured.clone().fold(f64::INFINITY, f64::min);
        let most = measured.fold(0.0, f64::max);
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
            wrong.push(format!(
                "{line:?}: measured {least} to {most}, or the page lacks the phrase"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
