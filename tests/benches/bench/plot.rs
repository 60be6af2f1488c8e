//! Plots, in one column that is as wide as a telephone. No place in them depends on the width of a text.

use tests::svg::{document, path, rect, text};

/// What a plot shows of one server.
pub struct Figure {
    pub label: String,
    pub is_ours: bool,
    /// Where the bar begins and ends.
    pub bar: [f64; 2],
    /// Where the line over the bar begins and ends.
    pub line: [f64; 2],
    /// The text beside the bar.
    pub text: String,
}

/// Where the labels end, the bars begin and end, and the values end.
const LABEL: f64 = 174.0;
const START: f64 = 182.0;
const END: f64 = 284.0;
const WIDTH: f64 = 400.0;
const LINE: f64 = 18.0;

const RANGE_NOTES: [&str; 2] = ["Bar: p50 to p99.9. Mark and number: p99.", "Medians of rounds."];
const BAR_NOTES: [&str; 2] = [
    "Bar: median of the rounds. Line: their middle half.",
    "A cut bar is longer than drawn. *: limited by the load.",
];

/// Returns a picture with one panel per work. `is_logarithmic` is for times from 30 µs to 300 ms.
pub fn plot(title: &str, is_logarithmic: bool, panels: &[(&str, Vec<Figure>)]) -> String {
    let (mut body, mut y) = (String::new(), 32.0);
    for (work, figures) in panels {
        y += 1.5 * LINE;
        body += &text(12.0, y, "class=\"heading\"", work);
        // A bar that is much longer than most is cut, so that the others can be compared.
        let mut ends: Vec<f64> = figures.iter().map(|figure| figure.bar[1]).collect();
        ends.sort_unstable_by(f64::total_cmp);
        let median = ends.get(ends.len() / 2).copied().unwrap_or_default();
        let limit = if is_logarithmic { f64::INFINITY } else { 4.0 * median };
        let whole = figures.iter().filter(|figure| figure.bar[1] <= limit);
        let longest = whole.map(|figure| figure.line[1]).fold(0.0, f64::max);
        let at = |value: f64| {
            let part = if is_logarithmic { (value / 3e-5).log10() / 4.0 } else { value / longest };
            START + (END - START) * part.clamp(0.0, 1.0)
        };
        if is_logarithmic {
            y += 0.7 * LINE;
            let (top, height) = (y + 4.0, LINE * figures.len() as f64);
            for (value, name) in [(1e-4, "0.1 ms"), (1e-3, "1"), (1e-2, "10"), (1e-1, "100")] {
                body += &path("grid", &format!("M{:.1} {top:.1}v{height:.1}", at(value)));
                body += &text(at(value), y, "text-anchor=\"middle\" font-size=\"10\"", name);
            }
        }
        for figure in figures {
            y += LINE;
            body += &text(LABEL, y, "text-anchor=\"end\"", &figure.label);
            body += &text(WIDTH - 8.0, y, "text-anchor=\"end\"", &figure.text);
            let class = if figure.is_ours { "our-bar" } else { "bar" };
            let ([from, to], [low, high]) = (figure.bar.map(at), figure.line.map(at));
            body += &rect(class, (from, y - 10.0), ((to - from).max(1.0), 12.0));
            let top = y - 8.0;
            body += &if figure.bar[1] > limit {
                path("paper", &format!("M{} {:.1}h5l-6 14h-5z", END - 18.0, y - 11.0))
            } else {
                let line = format!("M{low:.1} {top:.1}v8m0-4H{high:.1}M{high:.1} {top:.1}v8");
                path("spread", &line)
            };
        }
    }
    for note in if is_logarithmic { RANGE_NOTES } else { BAR_NOTES } {
        y += 1.2 * LINE;
        body += &text(12.0, y, "", note);
    }
    document(title, (WIDTH, y + 14.0), 12.0, &body)
}
