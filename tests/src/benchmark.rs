//! The figures of the benchmark, which `cargo bench -- --csv FILE` writes.

use std::collections::BTreeMap;

/// The columns behind those of the work, the server and the number of the round: first what the load
/// prints. Times are in seconds, and memory is in bytes.
#[rustfmt::skip]
pub const COLUMNS: [&str; 12] = [
    "replies", "lost", "late", "seconds", "p50", "p99", "p99.9",
    "server CPU", "server waited", "RSS", "page tables", "kernel stacks",
];

/// One round of one server.
pub struct Round {
    work: String,
    server: String,
    columns: BTreeMap<&'static str, f64>,
}

impl Round {
    /// Parses a line of a CSV file. Returns `None` if it has other columns.
    pub fn parse(line: &str) -> Option<Round> {
        let (work, rest) = line.strip_prefix('"')?.split_once("\",")?;
        let (server, rest) = rest.split_once(',')?;
        let values: Vec<f64> = rest.split(',').skip(1).flat_map(str::parse).collect();
        let columns = BTreeMap::from_iter(COLUMNS.into_iter().zip(values));
        let is_complete = columns.len() == COLUMNS.len();
        is_complete.then(|| Round { work: work.into(), server: server.into(), columns })
    }

    /// Returns the value of a column, or of what is derived from several.
    pub fn get(&self, figure: &str) -> f64 {
        let column = |name| self.columns[name];
        match figure {
            "requests" => column("replies") / column("seconds"),
            "CPU" => column("server CPU") / column("replies"),
            "busy" => (column("server CPU") + column("server waited")) / column("seconds"),
            "late or lost" => column("late") + column("lost"),
            "memory" => column("RSS") + column("page tables") + column("kernel stacks"),
            name => column(name),
        }
    }
}

/// Returns the least value of a figure in the rounds of a server, the quartiles, and the greatest.
/// Returns `None` if it was not measured.
pub fn quartiles(rounds: &[Round], work: &str, server: &str, figure: &str) -> Option<[f64; 5]> {
    let rounds = rounds.iter().filter(|round| round.work == work && round.server == server);
    let mut values: Vec<f64> = rounds.map(|round| round.get(figure)).collect();
    values.retain(|value| !value.is_nan());
    values.sort_unstable_by(f64::total_cmp);
    let (last, quarter) = (values.len().checked_sub(1)?, values.len() / 4);
    let median = (values[last / 2] + values[last.div_ceil(2)]) / 2.0;
    Some([values[0], values[quarter], median, values[last - quarter], values[last]])
}
