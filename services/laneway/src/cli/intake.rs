//! `laneway intake …`.

mod letters;
mod replay;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use laneway_contract::{ErrorCode, MAX_PAGE, Timestamp};
use serde::Serialize;

use super::Context;
use super::request::time;
use crate::client::Client;
use crate::exit::{CliError, Exit};
use crate::output;
use letters::{Body, Letter, Letters};
use replay::ReplayArgs;

/// Verbs about submits that wait in a stream.
#[derive(Debug, Subcommand)]
pub enum IntakeCommand {
    /// Shows submits of the intake that were refused, and sends them again.
    #[command(subcommand)]
    Rejects(RejectsCommand),
}

/// Verbs about refused submits.
#[derive(Debug, Subcommand)]
pub enum RejectsCommand {
    /// Lists refused submits, oldest first.
    List(ListArgs),
    /// Shows a refused submit with its body.
    Show {
        /// Its number, as `list` shows it.
        seq: u64,
        /// Write the body alone, byte for byte, into this file; `-` is stdout.
        #[arg(long, value_name = "FILE")]
        raw: Option<PathBuf>,
    },
    /// Publishes the body of refused submits on the intake again, then takes them from the list.
    Replay(ReplayArgs),
}

/// Arguments of `intake rejects list`.
#[derive(Args, Debug)]
#[command(after_help = "Refused submits are kept for 7 days, the last 1,000,000 of them.")]
pub struct ListArgs {
    /// The most rows, 1 to 1,000.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PAGE)))]
    limit: u32,
    /// Begin behind this number, as the page before says.
    #[arg(long, value_name = "SEQ")]
    cursor: Option<u64>,
    /// Only those with this error code, as unknown_model.
    #[arg(long, value_name = "CODE", value_parser = code)]
    code: Option<ErrorCode>,
    /// Only those refused at this time or later, as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
}

/// A page of the list.
#[derive(Debug, Serialize)]
struct Page {
    rejects: Vec<Letter>,
    /// Where the next page begins; none behind the last.
    cursor: Option<u64>,
}

/// A refused submit with its body.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    letter: &'a Letter,
    /// `text`, `binary`, `too_large` (it was not kept) or `gone`.
    body_is: &'static str,
    /// The body where it is text.
    body: Option<&'a str>,
}

/// An error code on the command line.
fn code(raw: &str) -> Result<ErrorCode, String> {
    let known = || ErrorCode::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>().join(", ");
    let found = ErrorCode::ALL.iter().copied().find(|code| code.as_str() == raw);
    found.ok_or_else(|| format!("expected one of {}", known()))
}

pub(super) async fn run(context: &Context, command: IntakeCommand) -> Result<Exit, CliError> {
    let IntakeCommand::Rejects(command) = command;
    let client = context.client().await?;
    match command {
        RejectsCommand::List(args) => list(context, &client, &args).await,
        RejectsCommand::Show { seq, raw } => show(context, &client, seq, raw.as_deref()).await,
        RejectsCommand::Replay(args) => replay::run(context, &client, args).await,
    }
}

async fn list(context: &Context, client: &Client, args: &ListArgs) -> Result<Exit, CliError> {
    let mut letters = Letters::read(client, args.cursor, args.since).await?;
    let mut page = Page { rejects: Vec::new(), cursor: None };
    while let Some(letter) = letters.next().await? {
        if letter.repeats.is_some() || args.code.is_some_and(|code| code != letter.reject.code) {
            continue;
        }
        if page.rejects.len() == args.limit as usize {
            page.cursor = page.rejects.last().map(|last| last.seq);
            break;
        }
        page.rejects.push(letter);
    }
    context.out.reply(&page, |page| table(&page.rejects))?;
    if let Some(cursor) = page.cursor {
        context.out.note(format!("there are more: --cursor {cursor}"))?;
    }
    Ok(Exit::Done)
}

fn table(letters: &[Letter]) -> String {
    output::table(
        ["SEQ", "REJECTED", "CODE", "BYTES", "RUN", "WHY"],
        letters.iter().map(|letter| {
            let reject = &letter.reject;
            [
                letter.seq.to_string(),
                letter.rejected_at.to_string(),
                reject.code.to_string(),
                reject.size.to_string(),
                reject.run_id.to_string(),
                reject.message.clone(),
            ]
        }),
    )
}

async fn show(context: &Context, client: &Client, seq: u64, raw: Option<&Path>) -> Result<Exit, CliError> {
    let letter = letters::get(client, seq).await?;
    let body = letters::body(client, &letter.reject).await?;
    let Some(file) = raw else {
        context.out.reply(&shown(&letter, &body), |_| for_people(&letter, &body))?;
        return Ok(Exit::Done);
    };
    let bytes = body.kept(seq)?;
    if file.as_os_str() == "-" {
        context.out.bytes(&bytes)?;
    } else {
        let failed = |source| CliError::File { what: file.display().to_string(), source };
        std::fs::write(file, &bytes).map_err(failed)?;
    }
    Ok(Exit::Done)
}

fn shown<'a>(letter: &'a Letter, body: &'a Body) -> Shown<'a> {
    let (body_is, body) = match body {
        Body::Kept(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => ("text", Some(text)),
            Err(_) => ("binary", None),
        },
        Body::TooLarge => ("too_large", None),
        Body::Gone => ("gone", None),
    };
    Shown { letter, body_is, body }
}

/// The letter, then the body, or why there is none and what to do.
fn for_people(letter: &Letter, body: &Body) -> String {
    let body = match body {
        Body::Kept(bytes) => text_of(bytes, letter.seq),
        Body::TooLarge | Body::Gone => body.missing(letter.seq).unwrap_or_default(),
    };
    format!("{}\n\n{body}", output::fields(letter))
}

/// A body as text that does nothing to a terminal: somebody sent it who is not known.
fn text_of(bytes: &Bytes, seq: u64) -> String {
    let visible = |c: char| if c.is_control() && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().map(visible).collect(),
        Err(_) => format!("the body is no text: laneway intake rejects show {seq} --raw FILE writes it"),
    }
}

#[cfg(test)]
mod tests;
