//! What is left of it all: the runs, the threads and the events, as they are stored.

use std::time::Duration;

use futures::stream::StreamExt;
use laneway_bus::async_nats::jetstream::consumer::DeliverPolicy;
use laneway_contract::{
    Endpoint, Family, FlightEvent, FlightKind, MessagePage, ReadMessages, RunId, SessionId, Stream, Timestamp,
};

use super::stage::Stage;
use super::story::{Played, coloured};
use crate::cli::{Context, payload_text, verdict};
use crate::exit::CliError;
use crate::output;

/// The recorder is at most this far behind.
const EVENTS: Duration = Duration::from_secs(10);
/// Characters of a message or event that are shown.
const WIDTH: usize = 78;

/// The table of runs.
pub(super) fn runs(played: &[Played]) -> String {
    let rows = played.iter().flat_map(|part| part.runs.iter().map(move |reply| (part.letter, &reply.run)));
    output::table(
        ["SESSION", "RUN", "STATE", "FINISH", "QUEUE WAIT", "FIRST TOKEN", "TOKENS IN/OUT", "DURATION"],
        rows.map(|(letter, run)| {
            let status = &run.status;
            let first = status.first_token_at.zip(status.started_at).map(|(first, start)| first.millis_since(start));
            [
                letter.to_string(),
                run.run_id.to_string(),
                status.state.to_string(),
                output::or_dash(status.finish),
                output::or_dash(status.queue_wait_ms.map(output::span)),
                output::or_dash(first.map(output::span)),
                format!("{}/{}", status.usage.input_tokens, status.usage.output_tokens),
                output::or_dash(output::took(run).map(output::span)),
            ]
        }),
    )
}

/// The threads, one message a line.
pub(super) async fn threads(context: &Context, stage: &Stage, played: &[Played]) -> Result<(), CliError> {
    for part in played {
        let journal_seq = part.runs.iter().map(|reply| reply.journal_seq).max();
        let request = ReadMessages {
            session_id: part.session_id,
            from_seq: None,
            to_seq: None,
            with_content: true,
            limit: None,
            min_seq: journal_seq,
        };
        let page: MessagePage = stage.client.ask(Endpoint::SessionsMessages, &request).await?;
        for view in &page.messages {
            let message = &view.message;
            let finish = message.finish.map(|finish| format!(" ({finish})")).unwrap_or_default();
            let head = format!("{} {}{finish}", message.seq, message.role);
            let text = cut(view.content.as_deref().unwrap_or_default(), WIDTH - 24);
            context.out.line(format!("{} │ {head:24}{text}", coloured(context, part.letter)))?;
        }
    }
    Ok(())
}

/// The events of the sessions, as soon as the end of every run is among them, and whether their chain is whole.
pub(super) async fn events(context: &Context, stage: &Stage, played: &[Played]) -> Result<(), CliError> {
    let all = stage.client.bus().prefix().all(Family::Flight);
    let mut reading = stage.client.read(Stream::Flight, all, DeliverPolicy::All).await?;
    let mut open: Vec<RunId> = played.iter().flat_map(|part| part.runs.iter().map(|reply| reply.run.run_id)).collect();
    let show = async {
        let mut pending = reading.pending;
        while !open.is_empty() || pending > 0 {
            let Some(stored) = reading.messages.next().await else { break };
            let stored = stored?;
            pending = stored.pending;
            let Ok(event) = serde_json::from_slice::<FlightEvent>(&stored.payload) else { continue };
            if ends_run(event.event_type) {
                open.retain(|run| Some(*run) != event.run_id);
            }
            let letter = letter(played, event.session_id).map_or_else(|| "·".to_owned(), |l| coloured(context, l));
            let text = cut(&payload_text(&event), WIDTH);
            let time = time_of_day(event.timestamp);
            context.out.line(format!("{letter} │ {time} {:27} {text}", event.event_type))?;
        }
        Ok::<_, CliError>(())
    };
    tokio::time::timeout(EVENTS, show).await.map_err(|_| CliError::Demo("the events did not come".to_owned()))??;
    let report = laneway_flight_recorder::verify(stage.client.bus(), None)
        .await
        .map_err(|error| CliError::Stream { doing: "events".to_owned(), reason: error.to_string() })?;
    Ok(context.out.line(verdict(&report))?)
}

/// Whether nothing more is expected of a run after this event.
const fn ends_run(kind: FlightKind) -> bool {
    matches!(
        kind,
        FlightKind::RunCompleted | FlightKind::RunFailed | FlightKind::RunPoisoned | FlightKind::SchedulerCancelled
    )
}

fn letter(played: &[Played], session: Option<SessionId>) -> Option<char> {
    played.iter().find(|part| Some(part.session_id) == session).map(|part| part.letter)
}

/// `12:00:00.000` of a time.
fn time_of_day(time: Timestamp) -> String {
    let text = time.to_string();
    text.split_once('T').map_or(text.as_str(), |(_, clock)| clock).trim_end_matches('Z').to_owned()
}

/// The first characters, on one line.
fn cut(text: &str, width: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(width) {
        Some((at, _)) => format!("{}…", &words[..at]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_at_characters() {
        assert_eq!(cut("a\n b", 5), "a b");
        assert_eq!(cut("ääää", 2), "ää…");
    }

    #[test]
    fn the_time_of_day_is_cut_out() {
        assert_eq!(time_of_day(Timestamp::ZERO), "00:00:00.000");
    }
}
