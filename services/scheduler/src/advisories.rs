//! Advisories, in the journal: messages that the server does not deliver any more, and messages that this connection lost.
//!
//! The leader alone listens, so each is noted once. They are plain messages: what is said while nobody leads is not heard.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use laneway_bus::{Advisory, Bus};
use laneway_contract::{DispatchMessage, Format, Incident, Stream, Token};
use laneway_engine::Command;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::desk::Desk;
use crate::intake::Intake;

/// What is heard in this time of one kind at one place is noted as one.
const EVERY: Duration = Duration::from_secs(1);
/// Advisories about which something is done at a time.
const AT_A_TIME: usize = 64;
/// Places that wait to be noted at a time. What is heard of others meanwhile stands in the log alone.
const MAX_PLACES: usize = 32;
/// Before something is tried again that NATS refused.
const PAUSE: Duration = Duration::from_secs(1);
/// The most characters of the name of an instance.
const MAX_INSTANCE_CHARS: usize = 48;

/// Listens until dropped.
pub(crate) async fn listen(bus: &Bus, desk: &Desk, intake: &Intake, instance: &str) {
    let instance: String = instance.chars().take(MAX_INSTANCE_CHARS).collect();
    loop {
        match bus.advisories().await {
            Ok(mut advisories) => {
                let mut heard = Heard::default();
                // What is done about one takes its time, and the others do not wait for that.
                let mut under_way = FuturesUnordered::new();
                let mut due = interval(EVERY);
                due.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        advisory = advisories.next(), if under_way.len() < AT_A_TIME => match advisory {
                            Some(advisory) => under_way.push(incident(bus, intake, &instance, advisory)),
                            None => break,
                        },
                        Some(incident) = under_way.next(), if !under_way.is_empty() => heard.take(incident),
                        _ = due.tick(), if !heard.is_empty() => note(desk, heard.drain()).await,
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "advisories cannot be listened to"),
        }
        sleep(PAUSE).await;
    }
}

/// What has been heard and is not noted yet.
#[derive(Debug, Default)]
struct Heard(BTreeMap<(String, String), Incident>);

impl Heard {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, incident: Incident) {
        tracing::warn!(action = incident.action, run_id = ?incident.run_id, "{incident}");
        let full = self.0.len() >= MAX_PLACES;
        match self.0.entry((incident.found.clone(), incident.place.clone())) {
            Entry::Occupied(mut known) => {
                let count = known.get().count.saturating_add(incident.count);
                known.insert(Incident { count, ..incident });
            }
            Entry::Vacant(new) if !full => {
                new.insert(incident);
            }
            Entry::Vacant(_) => {}
        }
    }

    fn drain(&mut self) -> Vec<Incident> {
        std::mem::take(&mut self.0).into_values().collect()
    }
}

async fn note(desk: &Desk, incidents: Vec<Incident>) {
    for incident in incidents {
        // Silent when the leadership ends: the log has it.
        if desk.decide(Command::Note(incident), |_| Ok(())).await.is_err() {
            tracing::debug!("an incident was not noted");
        }
    }
}

/// What was found, after what can be done about it is done.
async fn incident(bus: &Bus, intake: &Intake, instance: &str, advisory: Advisory) -> Incident {
    match advisory {
        Advisory::SlowConsumer { dropped } => Incident {
            found: "slow_consumer".to_owned(),
            place: instance.to_owned(),
            stream_seq: None,
            count: dropped,
            // Requests are sent again by their senders, and announcements come every second.
            action: "none".to_owned(),
            run_id: None,
            session_id: None,
        },
        Advisory::MaxDeliveries { stream, consumer, stream_seq, deliveries: _ } => {
            let found = undelivered(bus, stream, consumer.as_ref().map_or("-", Token::as_str), stream_seq);
            match stream {
                Stream::Intake => Incident { run_id: given_up(intake, stream_seq).await, ..found },
                Stream::Dispatch => match dispatched(bus, stream_seq).await {
                    Some(DispatchMessage { run_id, session_id, .. }) => {
                        Incident { run_id: Some(run_id), session_id: Some(session_id), ..found }
                    }
                    None => found,
                },
                Stream::Journal
                | Stream::Control
                | Stream::Rejects
                | Stream::Tokens
                | Stream::Flight
                | Stream::Snapshots => found,
            }
        }
    }
}

/// A message of a stream that its consumer does not deliver any more.
pub(crate) fn undelivered(bus: &Bus, stream: Stream, consumer: &str, stream_seq: u64) -> Incident {
    let action = match stream {
        Stream::Intake => "dead_letter",
        // By itself, when it is not claimed in time.
        Stream::Dispatch => "return_to_queue",
        // Views of the journal, read by others with consumers of their own: the message stays where it is.
        Stream::Journal | Stream::Control | Stream::Rejects | Stream::Tokens | Stream::Flight | Stream::Snapshots => {
            "none"
        }
    };
    Incident {
        found: "max_deliveries".to_owned(),
        place: format!("{}/{consumer}", bus.prefix().stream(stream)),
        stream_seq: Some(stream_seq),
        count: 1,
        action: action.to_owned(),
        run_id: None,
        session_id: None,
    }
}

/// Makes a dead letter of a message of the intake, however often that takes: nobody else will. Its run.
async fn given_up(intake: &Intake, stream_seq: u64) -> Option<laneway_contract::RunId> {
    loop {
        match intake.give_up(stream_seq).await {
            Ok(run_id) => return run_id,
            Err(reason) => tracing::warn!(reason, stream_seq, "a message of the intake is not kept yet"),
        }
        sleep(PAUSE).await;
    }
}

/// The dispatch that a message of the work queue holds, while it is there.
async fn dispatched(bus: &Bus, stream_seq: u64) -> Option<DispatchMessage> {
    let stream = bus.jetstream().get_stream_no_info(bus.prefix().stream(Stream::Dispatch)).await.ok()?;
    let message = stream.get_raw_message(stream_seq).await.ok()?;
    Format::MessagePack.decode(&message.payload).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn found(place: &str, stream_seq: u64) -> Incident {
        Incident {
            found: "max_deliveries".to_owned(),
            place: place.to_owned(),
            stream_seq: Some(stream_seq),
            count: 1,
            action: "none".to_owned(),
            run_id: None,
            session_id: None,
        }
    }

    #[test]
    fn a_storm_is_one_incident_for_each_place_and_places_are_bounded() {
        let mut heard = Heard::default();
        for seq in 1..=10_000 {
            heard.take(found("LANEWAY_REJECTS/probe", seq));
        }
        for place in 0..1_000 {
            heard.take(found(&format!("LANEWAY_REJECTS/probe-{place}"), 1));
        }
        let noted = heard.drain();
        assert!(heard.is_empty());
        assert_eq!(noted.len(), MAX_PLACES);
        assert_eq!(noted[0], Incident { count: 10_000, ..found("LANEWAY_REJECTS/probe", 10_000) });
        assert_eq!(noted[0].to_string(), "max_deliveries LANEWAY_REJECTS/probe message 10000, 10000 times");
    }
}
