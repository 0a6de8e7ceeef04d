//! `laneway events …`.

use std::collections::VecDeque;

use clap::{Args, Subcommand};
use futures::stream::StreamExt;
use laneway_bus::async_nats::jetstream::consumer::DeliverPolicy;
use laneway_contract::{Family, FlightEvent, FlightKind, SessionId, Stream, Subject};
use laneway_flight_recorder::{Report, verify};

use super::Context;
use crate::client::{Client, Stored};
use crate::exit::{CliError, Exit};

/// Verbs about the public events.
#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// Shows the last events, then new ones as they come.
    Tail(TailArgs),
    /// Checks that no event is missing, altered or out of order: sequences, hash chain, sources, types and payload keys.
    Verify {
        /// Begin at this sequence; what stands before it is not looked at.
        #[arg(long, value_name = "SEQ")]
        from: Option<u64>,
    },
}

/// Arguments of `events tail`.
#[derive(Args, Debug)]
pub struct TailArgs {
    /// Only events of this session.
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// Only events of this type, as run.completed.
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: Option<FlightKind>,
    /// How many past events to show.
    #[arg(long, value_name = "N", default_value_t = 20)]
    count: usize,
    /// End after the past events.
    #[arg(long)]
    no_follow: bool,
}

fn kind(raw: &str) -> Result<FlightKind, String> {
    let known = || FlightKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    FlightKind::ALL
        .iter()
        .copied()
        .find(|kind| kind.as_str() == raw)
        .ok_or_else(|| format!("expected one of {}", known()))
}

pub(super) async fn run(context: &Context, command: EventsCommand) -> Result<Exit, CliError> {
    let client = context.client().await?;
    match command {
        EventsCommand::Tail(args) => tail(context, &client, &args).await,
        EventsCommand::Verify { from } => check(context, &client, from).await,
    }
}

async fn tail(context: &Context, client: &Client, args: &TailArgs) -> Result<Exit, CliError> {
    let mut events = client.read(Stream::Flight, filter(client, args), DeliverPolicy::All).await?;
    let mut past = VecDeque::with_capacity(args.count.min(1_000));
    let mut pending = events.pending;
    while pending > 0
        && let Some(stored) = events.messages.next().await
    {
        let stored = stored?;
        pending = stored.pending;
        past.push_back(stored);
        if past.len() > args.count {
            past.pop_front();
        }
    }
    past.iter().try_for_each(|stored| show(context, stored))?;
    while !args.no_follow
        && let Some(stored) = events.messages.next().await
    {
        show(context, &stored?)?;
    }
    Ok(Exit::Done)
}

/// The subject filter that lets NATS do the choosing.
fn filter(client: &Client, args: &TailArgs) -> String {
    let prefix = client.bus().prefix();
    match (args.session, args.kind) {
        (None, None) => prefix.all(Family::Flight),
        (Some(session), Some(kind)) => prefix.subject(&Subject::Flight { session: Some(session), kind }),
        (Some(session), None) => format!("{}.flight.{session}.>", prefix.as_str()),
        (None, Some(kind)) => format!("{}.flight.*.{kind}", prefix.as_str()),
    }
}

fn show(context: &Context, stored: &Stored) -> Result<(), CliError> {
    if context.out.is_json() {
        // The bytes as they are stored: they are what the hash chain is made of.
        return Ok(context.out.line(String::from_utf8_lossy(&stored.payload))?);
    }
    let line = match serde_json::from_slice::<FlightEvent>(&stored.payload) {
        Ok(event) => line(&event),
        Err(error) => format!("event {} cannot be read: {error}", stored.sequence),
    };
    Ok(context.out.line(line)?)
}

/// An event for people: time, type, where it belongs, and what the payload says beyond that.
fn line(event: &FlightEvent) -> String {
    let place = match (event.run_id, event.session_id) {
        (Some(run), _) => format!("run {run}"),
        (None, Some(session)) => format!("session {session}"),
        (None, None) => "system".to_owned(),
    };
    format!("{}  {:28} {place}  {}", event.timestamp, event.event_type, payload_text(event))
}

/// The payload of an event as `key=value`, without the ids that stand beside it, the message's, and what is not set.
pub(crate) fn payload_text(event: &FlightEvent) -> String {
    let said = |key: &str| matches!(key, "session_id" | "job_id" | "run_id" | "message_id");
    let payload = event.payload.as_object().into_iter().flatten();
    payload
        .filter(|(key, value)| !said(key) && !value.is_null())
        .map(|(key, value)| format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect::<Vec<_>>()
        .join(" ")
}

async fn check(context: &Context, client: &Client, from: Option<u64>) -> Result<Exit, CliError> {
    let report = verify(client.bus(), from)
        .await
        .map_err(|error| CliError::Stream { doing: "events verify".to_owned(), reason: error.to_string() })?;
    context.out.reply(&report, verdict)?;
    Ok(if report.is_whole() { Exit::Done } else { Exit::CheckFailed })
}

/// The breaks, then one line about the whole.
pub(crate) fn verdict(report: &Report) -> String {
    let mut lines: Vec<_> =
        report.breaks.iter().map(|found| format!("event {}: {}", found.sequence, found.breach)).collect();
    let whole = if report.is_whole() {
        "whole: none is missing, altered or out of order".to_owned()
    } else {
        format!("NOT whole: {} breaks", report.broken)
    };
    lines.push(format!("{} events, {} to {}: {whole}", report.events, report.first, report.last));
    lines.join("\n")
}
