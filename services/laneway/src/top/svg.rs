//! A drawn frame as a picture: its cells with their colours, without fonts of its own.

use std::fmt::Write;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use super::columns_of;

/// A cell of the usual monospace fonts at 14 pixels.
const CELL: (f64, f64) = (8.4, 18.0);
const FONT_SIZE: u16 = 14;
const MARGIN: f64 = 12.0;
const PAPER: &str = "#0d1117";
const INK: &str = "#d6dde6";

/// The picture of a frame.
pub(super) fn picture(frame: &Buffer) -> String {
    let area = frame.area;
    let (width, height) =
        (f64::from(area.width) * CELL.0 + 2.0 * MARGIN, f64::from(area.height) * CELL.1 + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"{FONT_SIZE}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{PAPER}\"/>\n"
    );
    for y in area.top()..area.bottom() {
        let mut x = area.left();
        while x < area.right() {
            let run = Run::at(frame, x, y);
            run.write(&mut svg, f64::from(x - area.left()), f64::from(y - area.top()));
            x += run.columns;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Neighbouring cells that are drawn as one.
struct Run<'a> {
    first: &'a Cell,
    text: String,
    columns: u16,
}

impl<'a> Run<'a> {
    fn at(frame: &'a Buffer, x: u16, y: u16) -> Self {
        let first = &frame[(x, y)];
        let mut run = Run { first, text: first.symbol().to_owned(), columns: columns_of(first.symbol()) };
        while x + run.columns < frame.area.right() {
            let next = &frame[(x + run.columns, y)];
            let is_like_first = (next.fg, next.bg, next.modifier) == (first.fg, first.bg, first.modifier);
            // Blocks are drawn as boxes, each like its neighbours or alone.
            let is_one = if block(first.symbol()).is_some() {
                next.symbol() == first.symbol()
            } else {
                block(next.symbol()).is_none()
            };
            if !is_like_first || !is_one {
                break;
            }
            run.text.push_str(next.symbol());
            run.columns += columns_of(next.symbol());
        }
        run
    }

    fn write(&self, svg: &mut String, column: f64, row: f64) {
        let (x, y) = (MARGIN + column * CELL.0, MARGIN + row * CELL.1);
        let width = f64::from(self.columns) * CELL.0;
        let ink = hex(self.first.fg).unwrap_or(INK);
        if let Some(paper) = hex(self.first.bg) {
            rectangle(svg, x, y, width, CELL.1, paper, 1.0);
        }
        if let Some(Block { top, height, opacity }) = block(self.first.symbol()) {
            rectangle(svg, x, y + top * CELL.1, width, height * CELL.1, ink, opacity);
            return;
        }
        let text = self.text.trim_end();
        if text.is_empty() {
            return;
        }
        let indent = self.text.chars().take_while(|c| *c == ' ').count() as f64;
        let bold = if self.first.modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
        let columns = f64::from(self.columns) - (self.text.len() - text.len()) as f64 - indent;
        // The length keeps columns in line, whatever font there is.
        let written = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" textLength=\"{:.1}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{ink}\"{bold} \
             xml:space=\"preserve\">{}</text>",
            x + indent * CELL.0,
            y + 0.76 * CELL.1,
            columns * CELL.0,
            escaped(text.trim_start()),
        );
        written.unwrap_or_default();
    }
}

/// A symbol that is a box: where it begins below the top of its cell and how high it is, in parts of the cell.
struct Block {
    top: f64,
    height: f64,
    opacity: f64,
}

fn block(symbol: &str) -> Option<Block> {
    let of_bar = |opacity| Some(Block { top: 0.15, height: 0.7, opacity });
    let c = symbol.chars().next()?;
    match c {
        '─' => Some(Block { top: 0.5, height: 0.06, opacity: 1.0 }),
        '█' => of_bar(1.0),
        '▒' => of_bar(0.65),
        '░' => of_bar(0.3),
        '▁'..='▇' => {
            let height = f64::from(c as u32 - '▁' as u32 + 1) / 8.0 * 0.8;
            Some(Block { top: 0.85 - height, height, opacity: 1.0 })
        }
        _ => None,
    }
}

fn rectangle(svg: &mut String, x: f64, y: f64, width: f64, height: f64, fill: &str, opacity: f64) {
    let opacity = if opacity < 1.0 { format!(" fill-opacity=\"{opacity}\"") } else { String::new() };
    let written = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"{opacity}/>"
    );
    written.unwrap_or_default();
}

/// The colours of the view.
const fn hex(colour: Color) -> Option<&'static str> {
    match colour {
        Color::Black => Some(PAPER),
        Color::Red | Color::LightRed => Some("#ff6b6b"),
        Color::Green | Color::LightGreen => Some("#4ec986"),
        Color::Yellow | Color::LightYellow => Some("#e6b450"),
        Color::Blue | Color::LightBlue => Some("#539bf5"),
        Color::Magenta | Color::LightMagenta => Some("#c297ff"),
        Color::Cyan | Color::LightCyan => Some("#56c2d6"),
        Color::DarkGray => Some("#768390"),
        Color::Gray | Color::White => Some(INK),
        Color::Reset | Color::Rgb(..) | Color::Indexed(_) => None,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests;
