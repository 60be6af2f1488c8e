//! Bar charts as SVG. The picture has its own background, so that it is readable on any page; it is
//! dark where the reader prefers dark. No place in it depends on the width of a text.

use crate::report::Figure;
use std::fmt::Write;

const STYLE: &str = "<style>\n\
    svg { font: 12px sans-serif; fill: #1f2328 }\n\
    .paper, .cut { fill: #fff }\n\
    .bar { fill: #afb8c1 }\n\
    .ours { fill: #4593f8 }\n\
    .spread { stroke: #1f2328; stroke-width: 1.5 }\n\
    @media (prefers-color-scheme: dark) {\n\
    svg { fill: #e6edf3 }\n\
    .paper, .cut { fill: #0d1117 }\n\
    .bar { fill: #545d68 }\n\
    .ours { fill: #2f6fd0 }\n\
    .spread { stroke: #e6edf3 }\n\
    }\n\
    </style>\n";

/// The width of a column, and of the labels and the bars in it; the values follow.
const COLUMN: f64 = 455.0;
const LABEL: f64 = 190.0;
const BAR: f64 = 150.0;
const LINE: f64 = 18.0;

/// Returns a picture with one panel per work, in one or two columns.
pub fn plot(title: &str, panels: &[(&str, Vec<Figure>)], columns: usize) -> String {
    let mut body = String::new();
    let mut heights = [60.0; 2];
    let height = |figures: &[Figure]| (figures.len() as f64 + 2.0) * LINE;
    let total: f64 = panels.iter().map(|(_, figures)| height(figures)).sum();
    let limit = heights[0] + total / columns as f64;
    for (work, figures) in panels {
        let column = usize::from(heights[0] + height(figures) > limit);
        let x = 20.0 + column as f64 * (COLUMN + 30.0);
        panel(&mut body, work, figures, x, heights[column]);
        heights[column] += height(figures);
    }
    let width = columns as f64 * (COLUMN + 30.0) + 10.0;
    let height = heights[0].max(heights[1]) + 30.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>{title}</title>\n{STYLE}\
         <rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n\
         <text x=\"20\" y=\"30\" font-size=\"16\" font-weight=\"bold\">{title}</text>\n{body}\
         <text x=\"20\" y=\"{}\">Bars: median of the rounds; a cut bar is longer than drawn.</text>\n\
         <text x=\"20\" y=\"{}\">Lines: middle half of the rounds.</text>\n\
         </svg>\n",
        height - 28.0,
        height - 10.0
    )
}

fn panel(body: &mut String, work: &str, figures: &[Figure], x: f64, y: f64) {
    let mut medians: Vec<f64> = figures.iter().map(|figure| figure.median).collect();
    medians.sort_unstable_by(f64::total_cmp);
    // A bar that is much longer than most is cut, so that the others can be compared.
    let limit = 4.0 * medians.get(medians.len() / 2).copied().unwrap_or_default();
    let shown = figures.iter().filter(|figure| figure.median <= limit);
    let scale = BAR / shown.map(|figure| figure.high).fold(0.0, f64::max);
    let _ = writeln!(body, "<text x=\"{x}\" y=\"{y}\" font-weight=\"bold\">{work}</text>");
    for (line, figure) in (1..).zip(figures) {
        let y = y + f64::from(line) * LINE;
        let (label, start, end) = (x + LABEL - 8.0, x + LABEL, x + COLUMN);
        let (middle, bar, top, cap) = (y - 4.0, y - 10.0, y - 11.0, y - 7.0);
        let class = if figure.ours { "bar ours" } else { "bar" };
        let length = (figure.median * scale).min(BAR);
        let cut = format!("M{} {top}h5l-6 14h-5z", start + BAR - 24.0);
        let (low, high) = (start + figure.low * scale, start + figure.high * scale);
        let spread =
            format!("M{low:.1} {middle}H{high:.1}M{low:.1} {cap:.1}v6M{high:.1} {cap:.1}v6");
        let (mark, path) = if figure.median > limit { ("cut", cut) } else { ("spread", spread) };
        let _ = writeln!(
            body,
            "<text x=\"{label:.1}\" y=\"{y}\" text-anchor=\"end\">{}</text>\n\
             <rect class=\"{class}\" x=\"{start}\" y=\"{bar:.1}\" width=\"{length:.1}\" height=\"12\"/>\n\
             <path class=\"{mark}\" d=\"{path}\"/>\n\
             <text x=\"{end}\" y=\"{y}\" text-anchor=\"end\">{}</text>",
            figure.label, figure.text
        );
    }
}
