//! `laneway top`: the live screen of a deployment.
//!
//! | part | what it is |
//! |---|---|
//! | `source` | asks the scheduler and listens to the token streams |
//! | `oldest` | finds the runs that have waited longest |
//! | `model` | what is on the screen, as plain data |
//! | `view` | draws it |
//! | `screen` | the terminal: refresh each second, keys, and the way back to the shell |
//! | `svg` | a drawn frame as a picture |
#![allow(clippy::doc_markdown, reason = "the docs of arguments are what --help shows")]

mod model;
mod oldest;
mod screen;
mod source;
mod svg;
mod view;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::text::Span;

use crate::cli::Context;
use crate::exit::{CliError, Exit};
use model::Model;
use source::Source;

/// From one look to the next.
const REFRESH: Duration = Duration::from_secs(1);

/// Arguments of `top`.
#[derive(Args, Debug)]
#[command(after_help = "q, Esc or Ctrl-C leaves. With --json, --once writes what is on the screen as one value.")]
pub struct TopArgs {
    /// Write one frame as plain text, and end.
    #[arg(long)]
    once: bool,
    /// With --once: how long to look before, at most 60; speeds are known from 1 on, their curves grow longer.
    #[arg(long, value_name = "N", requires = "once", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=60))]
    seconds: u8,
    /// Columns and rows of the frame of --once [default: the terminal's, or 80x24].
    #[arg(long, value_name = "COLSxROWS", requires = "once", value_parser = size)]
    size: Option<(u16, u16)>,
    /// With --once: write the frame as a picture to this file.
    #[arg(long, value_name = "FILE", requires = "once")]
    svg: Option<PathBuf>,
}

impl TopArgs {
    /// Whether the terminal becomes the screen.
    pub(crate) const fn is_live(&self) -> bool {
        !self.once
    }
}

/// A size on the command line: at least what the smallest terminal has, at most what a picture needs.
fn size(raw: &str) -> Result<(u16, u16), String> {
    let parsed = raw.split_once('x').and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)));
    match parsed {
        Some((columns @ 40..=400, rows @ 12..=200)) => Ok((columns, rows)),
        Some(_) | None => Err("expected columns and rows as in 80x24, at least 40x12 and at most 400x200".to_owned()),
    }
}

pub(crate) async fn run(context: &Context, args: &TopArgs) -> Result<Exit, CliError> {
    if args.once {
        return once(context, args).await;
    }
    if context.out.is_json() || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(CliError::Usage("top needs a terminal: use `laneway top --once` for one frame".to_owned()));
    }
    let source = Source::open(context.client().await?).await?;
    screen::run(source).await
}

async fn once(context: &Context, args: &TopArgs) -> Result<Exit, CliError> {
    let mut source = Source::open(context.client().await?).await?;
    let mut model = Model::default();
    model.take(source.look().await?);
    for _ in 0..args.seconds {
        tokio::time::sleep(REFRESH).await;
        model.take(source.look().await?);
    }
    if context.out.is_json() {
        context.out.value(&model)?;
    }
    let terminal = || std::io::stdout().is_terminal().then(|| ratatui::crossterm::terminal::size().ok()).flatten();
    let frame = frame_of(&model, args.size.or_else(terminal).unwrap_or((80, 24)));
    match &args.svg {
        Some(file) => {
            let failed = |source| CliError::File { what: file.display().to_string(), source };
            std::fs::write(file, svg::picture(&frame)).map_err(failed)?;
        }
        None if context.out.is_json() => {}
        None => context.out.line(text_of(&frame))?,
    }
    Ok(Exit::Done)
}

/// One frame of this many columns and rows.
fn frame_of(model: &Model, (columns, rows): (u16, u16)) -> Buffer {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(columns, rows));
    let Ok(frame) = terminal.draw(|frame| view::draw(frame, model));
    frame.buffer.clone()
}

/// The symbols of a frame, row by row, without the blanks at their ends.
fn text_of(frame: &Buffer) -> String {
    let rows = (frame.area.top()..frame.area.bottom()).map(|y| {
        let mut row = String::new();
        let mut x = frame.area.left();
        while x < frame.area.right() {
            let symbol = frame[(x, y)].symbol();
            row.push_str(symbol);
            x += columns_of(symbol);
        }
        row.truncate(row.trim_end().len());
        row
    });
    rows.collect::<Vec<_>>().join("\n")
}

/// Cells that a symbol takes: the cell behind a wide one is part of it.
fn columns_of(symbol: &str) -> u16 {
    (Span::raw(symbol).width() as u16).max(1)
}
