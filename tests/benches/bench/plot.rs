//! Plots as SVG, in one column that is as wide as a telephone. The picture has its own background, so
//! that it is readable on any page; it is dark where the reader prefers dark. No place in it depends
//! on the width of a text.

use std::fmt::Write;

/// The median of the rounds, the bounds of their middle half, and the text beside the bar.
pub struct Figure {
    pub label: String,
    pub ours: bool,
    pub median: f64,
    pub low: f64,
    pub high: f64,
    pub text: String,
}

const STYLE: &str = "<style>\n\
    svg { font: 12px sans-serif; fill: #1f2328 }\n\
    .paper, .cut { fill: #fff }\n\
    .bar { fill: #afb8c1 }\n\
    .ours { fill: #4593f8 }\n\
    .spread { stroke: #1f2328; stroke-width: 1.5 }\n\
    .grid { stroke: #d1d9e0 }\n\
    @media (prefers-color-scheme: dark) {\n\
    svg { fill: #e6edf3 }\n\
    .paper, .cut { fill: #0d1117 }\n\
    .bar { fill: #545d68 }\n\
    .ours { fill: #2f6fd0 }\n\
    .spread { stroke: #e6edf3 }\n\
    .grid { stroke: #3d444d }\n\
    }\n\
    </style>\n";

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

/// Returns a picture with one panel per work. A server with one figure has a bar; one with three
/// percentiles has a bar from the first to the last on a logarithmic scale.
pub fn plot(title: &str, panels: &[(&str, Vec<Vec<Figure>>)]) -> String {
    let (mut body, mut y) = (String::new(), 32.0);
    let is_range = panels.iter().any(|(_, servers)| servers.iter().any(|it| it.len() > 1));
    let draw = if is_range { percentiles } else { bars };
    for (work, servers) in panels {
        y += 1.5 * LINE;
        text(&mut body, 12.0, y, "font-weight=\"bold\"", work);
        y += if is_range { 0.7 * LINE } else { 0.0 };
        draw(&mut body, servers, y);
        for server in servers {
            y += LINE;
            let shown = &server[server.len() / 2];
            text(&mut body, LABEL, y, "text-anchor=\"end\"", &shown.label);
            text(&mut body, WIDTH - 8.0, y, "text-anchor=\"end\"", &shown.text);
        }
    }
    for note in if is_range { RANGE_NOTES } else { BAR_NOTES } {
        y += 1.2 * LINE;
        text(&mut body, 12.0, y, "", note);
    }
    let height = y + 14.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">\n<title>{title}</title>\n{STYLE}\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height:.0}\" rx=\"8\"/>\n\
         <text x=\"12\" y=\"28\" font-size=\"16\" font-weight=\"bold\">{title}</text>\n{body}</svg>\n"
    )
}

fn text(body: &mut String, x: f64, y: f64, attributes: &str, text: &str) {
    let _ = writeln!(body, "<text x=\"{x}\" y=\"{y:.1}\" {attributes}>{text}</text>");
}

fn bar(body: &mut String, figure: &Figure, from: f64, to: f64, y: f64) {
    let class = if figure.ours { "bar ours" } else { "bar" };
    let (width, top) = ((to - from).max(1.0), y - 10.0);
    let _ = writeln!(
        body,
        "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"12\"/>"
    );
}

fn path(body: &mut String, class: &str, path: &str) {
    let _ = writeln!(body, "<path class=\"{class}\" d=\"{path}\"/>");
}

fn bars(body: &mut String, servers: &[Vec<Figure>], mut y: f64) {
    let figures = || servers.iter().map(|server| &server[0]);
    let mut medians: Vec<f64> = figures().map(|figure| figure.median).collect();
    medians.sort_unstable_by(f64::total_cmp);
    // A bar that is much longer than most is cut, so that the others can be compared.
    let limit = 4.0 * medians.get(medians.len() / 2).copied().unwrap_or_default();
    let shown = figures().filter(|figure| figure.median <= limit);
    let scale = (END - START) / shown.map(|figure| figure.high).fold(0.0, f64::max);
    for figure in figures() {
        y += LINE;
        let at = |value: f64| (START + value * scale).min(END);
        bar(body, figure, START, at(figure.median), y);
        let (low, high, middle, cap) = (at(figure.low), at(figure.high), y - 4.0, y - 7.0);
        if figure.median > limit {
            path(body, "cut", &format!("M{} {:.1}h5l-6 14h-5z", END - 18.0, y - 11.0));
        } else {
            let lines =
                format!("M{low:.1} {middle:.1}H{high:.1}M{low:.1} {cap:.1}v6M{high:.1} {cap:.1}v6");
            path(body, "spread", &lines);
        }
    }
}

fn percentiles(body: &mut String, servers: &[Vec<Figure>], mut y: f64) {
    // From 30 µs to 300 ms.
    let at = |value: f64| START + (END - START) * ((value / 3e-5).log10() / 4.0).clamp(0.0, 1.0);
    let (top, bottom) = (y + 4.0, y + 4.0 + LINE * servers.len() as f64);
    for (value, name) in [(1e-4, "0.1 ms"), (1e-3, "1"), (1e-2, "10"), (1e-1, "100")] {
        path(body, "grid", &format!("M{:.1} {top:.1}V{bottom:.1}", at(value)));
        text(body, at(value), y, "text-anchor=\"middle\" font-size=\"10\"", name);
    }
    for server in servers {
        y += LINE;
        let [p50, p99, p999] = &server[..] else { continue };
        bar(body, p99, at(p50.median), at(p999.median), y);
        path(body, "spread", &format!("M{:.1} {:.1}v12", at(p99.median), y - 10.0));
    }
}
