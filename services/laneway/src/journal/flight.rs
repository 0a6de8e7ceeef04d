//! The public events against the frames that they come from.

use std::fmt;
use std::sync::Arc;

use laneway_bus::Bus;
use laneway_contract::{Event, FlightSource, Stream};
use laneway_flight_recorder::{EventHash, public_events};
use laneway_journal::audit::Witness;
use laneway_journal::place::Place;
use laneway_journal::{Frame, FrameHash, Position};
use serde::Serialize;

use super::raw::{self, Raw};
use crate::exit::CliError;
use crate::output::Output;

/// The last public events that are made again from the journal.
const COMPARED: u64 = 64;

/// A public event that is not the one that its frame has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// The sequence of the event.
    sequence: u64,
    /// The frame that it comes from.
    frame: u64,
    /// What differs.
    reason: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sequence, frame, reason } = self;
        write!(
            f,
            "public event {sequence}, of frame {frame}: {reason}\n  look at all of them with: laneway events verify"
        )
    }
}

/// The frames that public events come from, and those before them, as headers of events say: each only once.
#[derive(Debug, Default)]
pub(super) struct Sources {
    positions: Vec<Position>,
}

impl Sources {
    /// Takes the next event.
    pub(super) fn take(&mut self, event: &Raw) {
        let Some(place) = Place::from_headers(&event.headers) else { return };
        for position in [place.position_before(), place.frame] {
            if position.number > 0 && self.positions.last().is_none_or(|last| last.number < position.number) {
                self.positions.push(position);
            }
        }
    }

    /// What these frames tell of the journal.
    pub(super) fn witnesses(self) -> Vec<Witness> {
        let name: Arc<str> = Arc::from("the stream of public events");
        self.positions.into_iter().map(|position| Witness { name: name.clone(), position }).collect()
    }
}

/// Makes the last public events again from the frames up to `right`, and compares them byte for byte.
pub(super) async fn compare(bus: &Bus, right: u64) -> Result<Vec<Difference>, CliError> {
    let Some(found) = raw::find(bus, Stream::Flight).await? else { return Ok(Vec::new()) };
    let first = found.last.saturating_sub(COMPARED).max(1);
    let mut events = Vec::new();
    raw::each(bus, Stream::Flight, first, Output::new(true), |event| {
        events.push(event);
        Ok(())
    })
    .await?;
    let mut differences = Vec::new();
    let mut frame: Option<(FrameHash, Frame<Event>)> = None;
    for pair in events.windows(2) {
        let [before, event] = pair else { continue };
        let Some(place) = Place::from_headers(&event.headers) else { continue };
        // What is behind the damage has no frame to be compared with.
        if place.frame.number > right || event.sequence != before.sequence + 1 {
            continue;
        }
        if frame.as_ref().is_none_or(|(_, frame)| frame.number != place.frame.number) {
            frame = read(bus, place.frame.number).await?;
        }
        let Some((hash, frame)) = &frame else { continue };
        if let Some(reason) = difference(before, event, place, *hash, frame) {
            differences.push(Difference { sequence: event.sequence, frame: place.frame.number, reason });
        }
    }
    Ok(differences)
}

async fn read(bus: &Bus, number: u64) -> Result<Option<(FrameHash, Frame<Event>)>, CliError> {
    let message = raw::get(bus, Stream::Journal, number).await?;
    Ok(message.and_then(|message| Some((FrameHash::of(&message.payload), Frame::decode(&message.payload).ok()?))))
}

pub(super) fn difference(
    before: &Raw,
    event: &Raw,
    place: Place,
    hash: FrameHash,
    frame: &Frame<Event>,
) -> Option<&'static str> {
    if place.frame.hash != hash {
        return Some("it was made from another frame");
    }
    let source = FlightSource { seq: place.frame.number, index: place.index };
    let events = public_events(frame);
    let Some(again) = events.iter().find(|event| event.source() == source) else {
        return Some("its frame has no such event");
    };
    let bytes = again.encode(EventHash::of(&before.payload)).ok()?;
    (bytes != event.payload).then_some("its frame has another")
}
