//! The figures of the benchmark, in the lines of the CSV file that `cargo bench -- --csv FILE` writes.

use std::collections::BTreeMap;

/// The second line of the file. Times are in seconds, and memory is in bytes.
pub const COLUMNS: &str = "work,server,round,replies,lost,late,seconds,p50,p99,p99.9,\
    server CPU,server waited,RSS,page tables,kernel stacks";

/// Returns a column of a line, or what is derived from several.
pub fn value(line: &str, figure: &str) -> f64 {
    let values = line.rsplit(',').map(|value| value.parse().unwrap_or(f64::NAN));
    let columns: BTreeMap<&str, f64> = COLUMNS.rsplit(',').zip(values).collect();
    match figure {
        "requests" => columns["replies"] / columns["seconds"],
        "CPU" => columns["server CPU"] / columns["replies"],
        "busy" => (columns["server CPU"] + columns["server waited"]) / columns["seconds"],
        "late or lost" => columns["late"] + columns["lost"],
        "memory" => columns["RSS"] + columns["page tables"] + columns["kernel stacks"],
        column => columns[column],
    }
}

/// Returns the least value of a figure in the rounds of a server, the quartiles, and the greatest.
/// Returns `None` if it was not measured.
pub fn quartiles(csv: &str, work: &str, server: &str, figure: &str) -> Option<[f64; 5]> {
    let begin = format!("\"{work}\",{server},");
    let rounds = csv.lines().filter(|line| line.starts_with(&begin));
    let mut values: Vec<f64> = rounds.map(|line| value(line, figure)).collect();
    values.retain(|value| !value.is_nan());
    values.sort_unstable_by(f64::total_cmp);
    let (last, quarter) = (values.len().checked_sub(1)?, values.len() / 4);
    let median = (values[last / 2] + values[last.div_ceil(2)]) / 2.0;
    Some([values[0], values[quarter], median, values[last - quarter], values[last]])
}
