//! Parts of SVG pictures. A picture has its own background, so that it is readable on any page; it is
//! dark where the reader prefers dark.

const STYLE: &str = "\
    svg { font-family: sans-serif; color: #1f2328; fill: currentColor }\n\
    .paper { fill: #fff }\n\
    .title { font-size: 16px }\n\
    .title, .heading, .ours { font-weight: bold }\n\
    .survives { fill: #9bd3ae }\n\
    .fails { fill: #cf222e }\n\
    .symptom { fill: #fff; text-anchor: middle }\n\
    .bar { opacity: 0.35 }\n\
    .our-bar { fill: #4593f8 }\n\
    .untried, .grid { opacity: 0.15 }\n\
    .spread, .grid { stroke: currentColor; stroke-width: 1.5 }\n\
    @media (prefers-color-scheme: dark) {\n\
    svg { color: #e6edf3 }\n\
    .paper { fill: #0d1117 }\n\
    .survives { fill: #1f6f3f }\n\
    .our-bar { fill: #2f6fd0 }\n\
    }\n";

/// Returns a picture with a title above its body, whose text has this size.
pub fn document(title: &str, (width, height): (f64, f64), text_size: f64, body: &str) -> String {
    let heading = text(12.0, 26.0, "class=\"title\"", title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width} {height:.0}\" font-size=\"{text_size}\" role=\"img\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{width}\" height=\"{height:.0}\" rx=\"8\"/>\n\
         {heading}{body}</svg>\n"
    )
}

/// Returns a line of text.
pub fn text(x: f64, y: f64, attributes: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{text}</text>\n")
}

/// Returns a rectangle.
pub fn rect(class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) -> String {
    format!(
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" \
         width=\"{width:.1}\" height=\"{height:.1}\"/>\n"
    )
}

/// Returns lines, or an area with the class `paper`.
pub fn path(class: &str, path: &str) -> String {
    format!("<path class=\"{class}\" d=\"{path}\"/>\n")
}
