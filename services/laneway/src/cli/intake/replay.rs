//! `intake rejects replay`: the same submit again. Its run is the one that the letter names unless the body names another, so
//! that a body that is sent twice is one run.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{ArgGroup, Args};
use laneway_bus::async_nats::HeaderMap;
use laneway_bus::{CONTENT_TYPE, RUN_ID, TRACEPARENT};
use laneway_contract::{ApiError, ErrorCode, Format, MAX_BODY_BYTES, Reject, RunId, Subject, too_large};
use serde::Serialize;

use super::code;
use super::letters::{self, Letter, Letters};
use crate::cli::Context;
use crate::cli::request::bytes_of;
use crate::client::Client;
use crate::exit::{CliError, Exit};

/// Arguments of `intake rejects replay`.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("which").required(true).args(["seqs", "all"]),
    after_help = "The run is the one that the body names, else the one of the list: replayed twice, it is one run.\n\
    A letter is removed when its body is stored on the intake. A body that is refused again comes back as a new letter.\n\
    Exits 0 when every body was published, 1 when one was not."
)]
pub struct ReplayArgs {
    /// These, by their numbers in the list.
    #[arg(value_name = "SEQ")]
    seqs: Vec<u64>,
    /// All that are there now.
    #[arg(long)]
    all: bool,
    /// Of all, those with this error code.
    #[arg(long, value_name = "CODE", value_parser = code, conflicts_with = "seqs")]
    code: Option<ErrorCode>,
    /// Publish this body instead, which is the one mended; `-` is stdin. For one letter.
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    with: Option<PathBuf>,
    /// The Content-Type of the body [default: the one that it came with].
    #[arg(long, value_name = "TYPE", value_parser = ["application/json", "application/msgpack"])]
    content_type: Option<String>,
    /// Leave the letters where they are.
    #[arg(long)]
    keep: bool,
}

/// What became of a letter.
#[derive(Debug, Serialize)]
struct Row {
    seq: u64,
    run_id: RunId,
    /// Its sequence in the stream of the intake; of a double, that of the first letter.
    intake_seq: Option<u64>,
    /// Whether the letter was taken out.
    removed: bool,
    error: Option<ApiError>,
}

/// How letters are sent again.
struct Replay<'a> {
    context: &'a Context,
    client: &'a Client,
    args: &'a ReplayArgs,
    mended: Option<Bytes>,
    /// The letters that were published, with their sequences.
    published: HashMap<u64, u64>,
    failed: usize,
}

pub(super) async fn run(context: &Context, client: &Client, args: ReplayArgs) -> Result<Exit, CliError> {
    if args.with.is_some() && args.seqs.len() > 1 {
        return Err(CliError::Usage("--with is the body of one letter: name one".to_owned()));
    }
    let mended = args.with.as_deref().map(mended).transpose()?;
    let mut replay = Replay { context, client, args: &args, mended, published: HashMap::new(), failed: 0 };
    for seq in args.seqs.iter().copied().collect::<BTreeSet<_>>() {
        let letter = letters::get(client, seq).await?;
        replay.take(&letter).await?;
    }
    if args.all {
        let mut letters = Letters::read(client, None, None).await?;
        while let Some(letter) = letters.next().await? {
            if args.code.is_none_or(|code| code == letter.reject.code) {
                replay.take(&letter).await?;
            }
        }
    }
    Ok(if replay.failed == 0 { Exit::Done } else { Exit::Refused })
}

/// The body in a file.
fn mended(file: &Path) -> Result<Bytes, CliError> {
    let body = bytes_of(file)?;
    if body.len() > MAX_BODY_BYTES {
        return Err(too_large(body.len()).into());
    }
    Ok(body.into())
}

impl Replay<'_> {
    /// Publishes the body of a letter and takes the letter out.
    async fn take(&mut self, letter: &Letter) -> Result<(), CliError> {
        let reject = &letter.reject;
        let body = match &self.mended {
            Some(mended) => Ok(mended.clone()),
            None => letters::body(self.client, reject).await?.kept(letter.seq),
        };
        let mut row = Row { seq: letter.seq, run_id: reject.run_id, intake_seq: None, removed: false, error: None };
        match body {
            Ok(body) => {
                let content_type = self.content_type(reject);
                row.run_id = Reject::run_named_in(content_type, &body).unwrap_or(reject.run_id);
                // A letter that was written twice about one message is one submit.
                let first = letter.repeats.and_then(|first| self.published.get(&first)).copied();
                let seq = match first {
                    Some(seq) => seq,
                    None => self.publish(reject, content_type, body).await?,
                };
                self.published.insert(letter.seq, seq);
                row.intake_seq = Some(seq);
                row.removed = !self.args.keep && letters::remove(self.client, letter.seq).await?;
            }
            Err(error) => {
                self.failed += 1;
                row.error = Some(error);
            }
        }
        Ok(self.context.out.reply(&row, line)?)
    }

    fn content_type<'a>(&'a self, reject: &'a Reject) -> Option<&'a str> {
        let came_with = reject.content_type.as_deref();
        // A mended body is not of a type that nobody reads.
        let came_with = came_with.filter(|_| self.mended.is_none() || Format::from_content_type(came_with).is_ok());
        self.args.content_type.as_deref().or(came_with)
    }

    /// Returns when it is stored: its sequence.
    async fn publish(&self, reject: &Reject, content_type: Option<&str>, body: Bytes) -> Result<u64, CliError> {
        let mut headers = HeaderMap::new();
        headers.insert(RUN_ID, reject.run_id.to_string());
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        if let Some(trace) = &reject.traceparent {
            headers.insert(TRACEPARENT, trace.as_str());
        }
        Ok(self.client.bus().publish_stored(&Subject::Intake, headers, body).await?)
    }
}

fn line(row: &Row) -> String {
    let Row { seq, run_id, .. } = row;
    match (&row.error, row.intake_seq) {
        (Some(error), _) => format!("{seq}: not replayed: {}", error.message),
        (None, Some(at)) => {
            let letter = if row.removed { "" } else { "; its letter stays" };
            format!("{seq}: message {at} of the intake, run {run_id}{letter}")
        }
        (None, None) => format!("{seq}: nothing was done"),
    }
}
