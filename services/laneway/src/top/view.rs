//! Draws the model into a frame. Fits into 80 columns and 24 rows, and uses more where there is more.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::model::{BucketRow, Curve, LaneRow, Model, SlotRow, WaitRow, WorkerRow};
use crate::output;

const QUIET: Style = Style::new().fg(Color::DarkGray);
const FINE: Color = Color::Green;
const HIGH: Color = Color::Yellow;
const FULL: Color = Color::Red;
const ONLY_PRIMARY: Color = Color::Blue;
/// Eighths of a row, for curves.
const STEPS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    let limits = model.slots.len().max(model.buckets.len()).max(1) as u16;
    let workers = (model.workers.len() as u16).clamp(model.lanes.len() as u16, (area.height / 6).max(4));
    // Below the fixed rows, limits take what they need and at most a little less than half.
    let rest = area.height.saturating_sub(HEAD + (1 + workers) + FOOT + 2 + 1);
    let limits = limits.min(rest * 9 / 20).max(1);
    let [head, top, middle, bottom, foot] = Layout::vertical([
        Constraint::Length(HEAD),
        Constraint::Length(1 + workers),
        Constraint::Length(1 + limits),
        Constraint::Fill(1),
        Constraint::Length(FOOT),
    ])
    .areas(area);
    let out = frame.buffer_mut();
    draw_head(out, head, model);
    let [left, right] = halves(top);
    draw_lanes(out, left, &model.lanes);
    draw_workers(out, right, &model.workers);
    if model.buckets.is_empty() {
        draw_slots(out, middle, &model.slots);
    } else {
        let [left, right] = halves(middle);
        draw_slots(out, left, &model.slots);
        draw_buckets(out, right, &model.buckets);
    }
    draw_waits(out, bottom, model);
    draw_foot(out, foot, model);
}

const HEAD: u16 = 2;
const FOOT: u16 = 1;

fn halves(area: Rect) -> [Rect; 2] {
    Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(area)
}

fn draw_head(out: &mut Buffer, area: Rect, model: &Model) {
    let Some(head) = &model.head else {
        put(out, area, 0, "Laneway: waiting for the scheduler".bold());
        return;
    };
    let name = " Laneway ".black().on_cyan().bold();
    let place =
        format!(" {} · epoch {} · journal {} · {} sessions", head.leader, head.epoch, head.journal_seq, head.sessions);
    put(out, area, 0, Line::from(vec![name, place.into()]));
    let time = head.time.to_string();
    // Of 2026-01-31T12:00:00.000Z, the time of day.
    put_right(out, area, 0, Span::styled(format!(" {}Z", time.get(11..19).unwrap_or(&time)), QUIET));
    // What texts and figures leave is for the two curves.
    let seconds = (area.width.saturating_sub(62) as usize / 2).clamp(4, 30);
    let mut speeds = speed("tokens/s", &model.tokens, seconds);
    speeds.extend(speed("   ended/s", &model.ended, seconds));
    put(out, area, 1, Line::from(speeds));
    let load = vec![
        Span::raw(format!(" {}", head.queued)).bold(),
        " queued  ".into(),
        Span::raw(head.executing.to_string()).bold(),
        " executing".into(),
    ];
    put_right(out, area, 1, Line::from(load));
}

fn speed<'a>(name: &'a str, curve: &Curve, seconds: usize) -> Vec<Span<'a>> {
    let now = curve.now().map_or_else(|| "-".to_owned(), |now| format!("{now:.1}"));
    vec![format!("{name} ").into(), format!("{now:>7} ").bold(), bars(curve, seconds).fg(Color::Cyan)]
}

/// The last seconds as a curve, scaled to their largest value.
fn bars(curve: &Curve, seconds: usize) -> String {
    let most = curve.last(seconds).fold(0.0, f64::max);
    let step = |value: f64| if most > 0.0 { (value / most * 7.0).round() as usize } else { 0 };
    let text: String = curve.last(seconds).map(|value| STEPS[step(value).min(7)]).collect();
    format!("{text:>seconds$}")
}

fn draw_lanes(out: &mut Buffer, area: Rect, lanes: &[LaneRow]) {
    title(out, area, "lanes", "weight   queued");
    let most = lanes.iter().map(|lane| lane.queued).max().unwrap_or_default().max(1);
    for (row, lane) in rows(area, lanes) {
        put(out, area, row, lane.lane.to_string());
        let figures = format!("{:>4} {:>8}", lane.weight, figure(lane.queued));
        let bar = Rect { x: area.x + 11, width: area.width.saturating_sub(11 + 14), ..area };
        level_bar(out, bar, row, lane.queued, most, 0, Color::Cyan);
        put_right(out, area, row, figures);
    }
}

fn draw_workers(out: &mut Buffer, area: Rect, workers: &[WorkerRow]) {
    let more = more(area, workers.len());
    title(out, area, &format!("workers{more}"), "slots taken");
    if workers.is_empty() {
        put(out, area, 1, "none: start `laneway serve worker`".fg(FULL));
    }
    let name = name_width(area);
    let bar = bar_area(area, name, 10);
    // Where there is room, what a worker serves stands beside its bar.
    let has_models = bar.width >= 20;
    let [bar, models] = if has_models { halves(bar) } else { [bar, Rect { width: 0, ..bar }] };
    for (row, worker) in rows(area, workers) {
        let (used, slots) = (u64::from(worker.executing), u64::from(worker.slots));
        put(out, area, row, fit(&worker.name, name));
        level_bar(out, bar, row, used, slots, 0, FINE);
        put(out, models, row, Span::styled(fit(&worker.models, models.width as usize), QUIET));
        put_right(out, area, row, format!("{used:>5}/{slots:<4}"));
    }
}

fn draw_slots(out: &mut Buffer, area: Rect, slots: &[SlotRow]) {
    let more = more(area, slots.len());
    title(out, area, &format!("limits{more}"), "▒ only PRIMARY");
    let name = name_width(area);
    for (row, slot) in rows(area, slots) {
        put(out, area, row, fit_both_ends(&slot.name, name));
        level_bar(
            out,
            bar_area(area, name, 10),
            row,
            slot.used,
            slot.limit,
            slot.reserve,
            colour(slot.used, slot.limit),
        );
        let figures = format!("{:>5}/{:<4}", figure(slot.used), figure(slot.limit));
        put_right(out, area, row, figures.fg(if slot.used >= slot.limit { FULL } else { Color::Reset }));
    }
}

fn draw_buckets(out: &mut Buffer, area: Rect, buckets: &[BucketRow]) {
    let more = more(area, buckets.len());
    title(out, area, &format!("in a minute{more}"), "left in the bucket");
    let name = name_width(area);
    for (row, bucket) in rows(area, buckets) {
        put(out, area, row, fit_both_ends(&bucket.name, name));
        let left = u64::try_from(bucket.level).unwrap_or_default();
        let colour = colour(bucket.capacity.saturating_sub(left), bucket.capacity);
        level_bar(out, bar_area(area, name, 14), row, left, bucket.capacity, 0, colour);
        let sign = if bucket.level < 0 { "-" } else { "" };
        let level = format!("{sign}{}", figure(bucket.level.unsigned_abs()));
        put_right(out, area, row, format!("{level:>7}/{:<6}", figure(bucket.capacity)).fg(text_colour(colour)));
    }
}

fn draw_waits(out: &mut Buffer, area: Rect, model: &Model) {
    title(out, area, "longest waits", "laneway run explain RUN");
    let is_wide = area.width >= 110;
    if area.height > 1 {
        let model_heading = if is_wide { format!("{:25}", "MODEL") } else { String::new() };
        let place_heading = if is_wide { "PLACE  " } else { "" };
        let headings = format!("{:9}{:37}{:11}{model_heading}{place_heading}WHY", "WAITED", "RUN", "LANE");
        put(out, area, 1, Span::styled(headings, QUIET));
    }
    let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    if model.waits.is_empty() && model.head.is_some() {
        put(out, below, 1, Span::styled("nothing waits", QUIET));
    }
    for (row, wait) in rows(below, &model.waits) {
        put(out, below, row, wait_line(wait, below.width as usize, is_wide));
    }
}

fn wait_line(wait: &WaitRow, width: usize, is_wide: bool) -> Line<'static> {
    let waited = format!("{:9}", long(wait.waited_ms));
    let mut line =
        vec![waited.bold(), format!("{:37}", wait.run_id.to_string()).into(), format!("{:11}", wait.lane).into()];
    if is_wide {
        line.push(format!("{:25}", fit_both_ends(wait.model_id.as_str(), 24)).into());
        line.push(format!("{:>5}  ", output::or_dash(wait.place)).into());
    }
    let taken: usize = line.iter().map(Span::width).sum();
    line.push(fit(&wait.why, width.saturating_sub(taken)).fg(HIGH));
    Line::from(line)
}

fn draw_foot(out: &mut Buffer, area: Rect, model: &Model) {
    match &model.trouble {
        Some(trouble) => put(out, area, 0, format!("not up to date: {trouble}").fg(FULL).bold()),
        None => put(out, area, 0, Span::styled("q leaves", QUIET)),
    }
}

/// The heading of a part: its name, a rule, and what its figures are.
fn title(out: &mut Buffer, area: Rect, name: &str, figures: &str) {
    let used = name.chars().count() + figures.chars().count() + 2;
    let rule = "─".repeat((area.width as usize).saturating_sub(used));
    let spans = vec![
        Span::styled(format!("{name} "), Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD)),
        Span::styled(rule, QUIET),
        Span::styled(format!(" {figures}"), QUIET),
    ];
    put(out, area, 0, Line::from(spans));
}

/// The rows of a part that fit under its heading, with their places.
fn rows<T>(area: Rect, all: &[T]) -> impl Iterator<Item = (u16, &T)> {
    (1..area.height).zip(all)
}

/// How many rows of a part do not fit.
fn more(area: Rect, all: usize) -> String {
    match all.saturating_sub(area.height.saturating_sub(1) as usize) {
        0 => String::new(),
        more => format!(" ({more} more)"),
    }
}

/// The width of the names in a part.
const fn name_width(area: Rect) -> usize {
    area.width as usize / 2
}

/// Where the bars of a part are, between names and figures.
fn bar_area(area: Rect, name: usize, figures: u16) -> Rect {
    let name = name as u16 + 1;
    Rect { x: area.x + name, width: area.width.saturating_sub(name + figures), ..area }
}

/// A bar that is filled to `used` of `limit`; its last part is marked for the reserve.
fn level_bar(out: &mut Buffer, area: Rect, row: u16, used: u64, limit: u64, reserve: u64, colour: Color) {
    let width = u64::from(area.width);
    let cells =
        |part: u64| if limit == 0 { 0 } else { (u128::from(part) * u128::from(width)).div_ceil(u128::from(limit)) };
    // What is taken is seen, also when it is little; what is free is seen, unless nothing is.
    let filled = cells(used).min(u128::from(width - u64::from(used < limit && width > 0))) as u16;
    let reserved = cells(reserve).min(u128::from(width)) as u16;
    for x in 0..area.width {
        let (symbol, style) = if x < filled {
            ("█", Style::new().fg(colour))
        } else if x + reserved >= area.width {
            ("▒", Style::new().fg(ONLY_PRIMARY))
        } else {
            ("░", QUIET)
        };
        put_at(out, area, x, row, Span::styled(symbol, style));
    }
}

/// How serious it is that so much of a limit is taken.
fn colour(used: u64, limit: u64) -> Color {
    if used >= limit {
        FULL
    } else if used.saturating_mul(4) >= limit.saturating_mul(3) {
        HIGH
    } else {
        FINE
    }
}

const fn text_colour(colour: Color) -> Color {
    if matches!(colour, Color::Green) { Color::Reset } else { colour }
}

/// A length of time in at most six characters, unless it is years.
fn long(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0..10 => format!("{seconds}.{}s", millis % 1_000 / 100),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A number in at most six characters.
fn figure(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{}.{}k", number / 1_000, number % 1_000 / 100),
        1_000_000..1_000_000_000 => format!("{}.{}M", number / 1_000_000, number % 1_000_000 / 100_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}

/// A name that is no wider than this, cut in the middle: what tells names apart is often at their end.
fn fit_both_ends(text: &str, width: usize) -> String {
    if Span::raw(text).width() <= width || width < 3 {
        return fit(text, width);
    }
    let mut end = String::new();
    for c in text.chars().rev() {
        if Span::raw(format!("{c}{end}")).width() > (width - 1) / 2 {
            break;
        }
        end.insert(0, c);
    }
    format!("{}{end}", fit(text, width - Span::raw(end.as_str()).width()))
}

/// A text that is no wider than this, cut at its end.
fn fit(text: &str, width: usize) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        if Span::raw(format!("{short}{c}")).width() + 1 > width {
            break;
        }
        short.push(c);
    }
    if width > 0 {
        short.push('…');
    }
    short
}

fn put<'a>(out: &mut Buffer, area: Rect, row: u16, line: impl Into<Line<'a>>) {
    put_at(out, area, 0, row, line);
}

fn put_at<'a>(out: &mut Buffer, area: Rect, column: u16, row: u16, line: impl Into<Line<'a>>) {
    let place = Rect { x: area.x + column, y: area.y + row, width: area.width.saturating_sub(column), height: 1 };
    line.into().render(place.intersection(area).intersection(out.area), out);
}

fn put_right<'a>(out: &mut Buffer, area: Rect, row: u16, line: impl Into<Line<'a>>) {
    let line = line.into();
    let column = area.width.saturating_sub(line.width() as u16);
    put_at(out, area, column, row, line);
}

#[cfg(test)]
mod tests;
