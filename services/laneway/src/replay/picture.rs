//! The comparison as an SVG: for each lane, and for each fairness key of the table, the mean wait of the runs submitted in each
//! interval, one curve for each column.

use std::fmt::Write;

use super::compare::{Column, Comparison, Curve, Group, INTERVALS};
use crate::output::span;

const WIDTH: f64 = 960.0;
const HEAD: f64 = 106.0;
const PANEL: f64 = 190.0;
const PLOT: Plot = Plot { left: 96.0, right: 24.0, top: 34.0, height: 112.0 };
const PAPER: &str = "#0d1117";
const INK: &str = "#d6dde6";
const FAINT: &str = "#768390";
const GRID: &str = "#222a35";

/// Where in a panel the curves are.
struct Plot {
    left: f64,
    right: f64,
    top: f64,
    height: f64,
}

impl Plot {
    const fn width(&self) -> f64 {
        WIDTH - self.left - self.right
    }
}

const fn colour(column: Column) -> &'static str {
    match column {
        Column::Recorded => "#768390",
        Column::AsItWas => "#539bf5",
        Column::Policy => "#e6b450",
    }
}

/// Curves that lie on each other stay visible.
const fn dashes(column: Column) -> &'static str {
    match column {
        Column::Recorded => " stroke-width=\"4\" stroke-opacity=\"0.6\"",
        Column::AsItWas => " stroke-width=\"1.6\" stroke-dasharray=\"5 3\"",
        Column::Policy => " stroke-width=\"2\"",
    }
}

/// The picture.
pub(crate) fn picture(comparison: &Comparison, policy: &str) -> String {
    let height = HEAD + PANEL * (comparison.lanes.len() + comparison.keys.len()) as f64 + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
         font-family=\"ui-sans-serif, 'DejaVu Sans', Helvetica, Arial, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{PAPER}\"/>\n"
    );
    let title = format!("Queue waits as recorded, and modelled under {policy}");
    text(&mut svg, (24.0, 30.0), &title, INK, "font-size=\"17\" font-weight=\"bold\"");
    let (began, ended) = (comparison.began, comparison.ended);
    let subtitle =
        format!("a model of what was recorded from {began} to {ended}: arrivals, durations and workers as they were");
    text(&mut svg, (24.0, 50.0), &subtitle, FAINT, "");
    if let Some((first, _)) = comparison.submits {
        let axes = format!("mean wait, by the time of the submit after {first}");
        text(&mut svg, (24.0, 94.0), &axes, FAINT, "");
    }
    legend(&mut svg);
    let mut top = HEAD;
    for group in &comparison.lanes {
        panel(&mut svg, comparison, group.name.as_str(), group, top);
        top += PANEL;
    }
    for group in &comparison.keys {
        panel(&mut svg, comparison, &format!("key {}", group.name), group, top);
        top += PANEL;
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String) {
    let mut x = 24.0;
    for column in Column::ALL {
        line(svg, (x, 68.0), (x + 26.0, 68.0), colour(column), dashes(column));
        text(svg, (x + 33.0, 72.0), column.as_str(), INK, "");
        x += 60.0 + 7.0 * column.as_str().len() as f64;
    }
}

fn panel<N>(svg: &mut String, comparison: &Comparison, name: &str, group: &Group<N>, top: f64) {
    let curves = &group.curves;
    let p95 = group.waits.iter().map(|(column, waits)| format!("{} {}", column.as_str(), span(waits.p95_ms)));
    let heading = format!("{name}: {} runs compared; p95 {}", group.compared, p95.collect::<Vec<_>>().join(", "));
    text(svg, (24.0, top + 18.0), &heading, INK, "font-weight=\"bold\"");
    let top = top + PLOT.top;
    let most = curves.iter().flatten().flatten().max().copied().unwrap_or(0);
    let step = step_of(most);
    let scale = step * most.div_ceil(step).max(1);
    let mut value = 0;
    while value <= scale {
        let y = y_of(top, value, scale);
        line(svg, (PLOT.left, y), (WIDTH - PLOT.right, y), GRID, "");
        text(svg, (PLOT.left - 8.0, y + 4.0), &span(value), FAINT, "text-anchor=\"end\"");
        value += step;
    }
    times(svg, comparison, top + PLOT.height);
    for (column, curve) in Column::ALL.into_iter().zip(curves) {
        draw(svg, curve, column, top, scale);
    }
}

/// Four or five steps of a round length in milliseconds.
fn step_of(most: u64) -> u64 {
    const STEPS: [u64; 22] = [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000,
        600_000, 1_800_000, 3_600_000, 14_400_000,
    ];
    let wanted = most.div_ceil(4).max(1);
    // Days of waiting take steps of whole days.
    STEPS.into_iter().find(|step| *step >= wanted).unwrap_or_else(|| wanted.div_ceil(86_400_000) * 86_400_000)
}

/// When the runs were submitted, counted from the first.
fn times(svg: &mut String, comparison: &Comparison, y: f64) {
    let took = comparison.submits.map_or(0, |(first, last)| last.millis_since(first));
    for quarter in 0..=4_u64 {
        let x = PLOT.left + PLOT.width() * quarter as f64 / 4.0;
        let anchor = match quarter {
            0 => "text-anchor=\"start\"",
            4 => "text-anchor=\"end\"",
            _ => "text-anchor=\"middle\"",
        };
        let label = format!("+ {}", span((u128::from(took) * u128::from(quarter) / 4) as u64));
        text(svg, (x, y + 17.0), &label, FAINT, anchor);
    }
}

fn x_of(interval: usize) -> f64 {
    PLOT.left + PLOT.width() * (interval as f64 + 0.5) / INTERVALS as f64
}

fn y_of(top: f64, value: u64, scale: u64) -> f64 {
    top + PLOT.height * (1.0 - value as f64 / scale as f64)
}

/// A line through the intervals that have runs, or a point where only one has.
fn draw(svg: &mut String, curve: &Curve, column: Column, top: f64, scale: u64) {
    let place = |(interval, mean): (usize, &Option<u64>)| Some((x_of(interval), y_of(top, (*mean)?, scale)));
    let points: Vec<(f64, f64)> = curve.iter().enumerate().filter_map(place).collect();
    let (stroke, dashes) = (colour(column), dashes(column));
    match points.as_slice() {
        [] => {}
        [(x, y)] => {
            let radius = if column == Column::Recorded { 3.5 } else { 2.2 };
            put(svg, format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{stroke}\"/>"));
        }
        many => {
            let path: Vec<_> = many.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let (path, shape) = (path.join(" "), "fill=\"none\" stroke-linejoin=\"round\"");
            put(svg, format_args!("<polyline points=\"{path}\" {shape} stroke=\"{stroke}\"{dashes}/>"));
        }
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), text: &str, fill: &str, more: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    put(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{fill}\" {more}>{text}</text>"));
}

fn line(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), stroke: &str, more: &str) {
    put(
        svg,
        format_args!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{stroke}\"{more}/>"),
    );
}

fn put(svg: &mut String, element: std::fmt::Arguments<'_>) {
    // A text can always be written to.
    writeln!(svg, "{element}").unwrap_or_default();
}

#[cfg(test)]
mod tests;
