//! What the streams hold, as a reader that trusts nobody sees it.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use laneway_bus::async_nats::jetstream::consumer::pull::OrderedConfig;
use laneway_bus::{Bus, async_nats};
use laneway_contract::{Event, Stream};
use laneway_flight_recorder::{EventHash, public_events};
use laneway_journal::{Body, Committed, Follower, Frame, Position};

/// The frames of the journal behind `position`, up to number `last`.
pub async fn committed(bus: &Bus, position: Position, last: u64) -> Vec<Committed<Event>> {
    let name = bus.prefix().stream(Stream::Journal);
    let mut follower = Follower::<Event>::new(bus.client().clone(), &name, position);
    let mut frames: Vec<Committed<Event>> = Vec::new();
    while position.number + (frames.len() as u64) < last {
        frames.extend(follower.next_batch(1_000).await.expect("a journal without a fault"));
    }
    frames.truncate(last.saturating_sub(position.number) as usize);
    frames
}

/// The frames of the journal up to `last`.
pub async fn frames(bus: &Bus, last: u64) -> Vec<Frame<Event>> {
    committed(bus, Position::START, last).await.into_iter().map(|committed| committed.frame).collect()
}

/// Epochs never fall, and each begins with its `Started`: a leader that was deposed writes nothing.
pub fn each_epoch_begins_once(frames: &[Frame<Event>]) {
    let mut epoch = 0;
    for frame in frames {
        match &frame.body {
            Body::Started { .. } => {
                assert_eq!(frame.epoch, epoch + 1, "frame {}: a leader begins", frame.number);
                epoch = frame.epoch;
            }
            Body::Stopped | Body::FormatRaised { .. } | Body::Turns(_) => {
                assert_eq!(frame.epoch, epoch, "frame {} is not of the leader that began last", frame.number);
            }
        }
    }
}

/// The public events so far, byte for byte. Asks again while the stream has no leader, as after a server has died.
pub async fn flight(bus: &Bus) -> Vec<Vec<u8>> {
    let mut last = None;
    let read = async {
        loop {
            match try_flight(bus).await {
                Ok(events) => return events,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(30), read).await.ok();
    read.unwrap_or_else(|| panic!("FLIGHT cannot be read: {last:?}"))
}

async fn try_flight(bus: &Bus) -> Result<Vec<Vec<u8>>, async_nats::Error> {
    let stream = bus.jetstream().get_stream(bus.prefix().stream(Stream::Flight)).await?;
    let total = stream.cached_info().state.messages as usize;
    let consumer = stream.create_consumer(OrderedConfig::default()).await?;
    let messages = consumer.messages().await?.take(total);
    Ok(messages.map_ok(|message| message.payload.to_vec()).try_collect().await?)
}

/// The public events that frames have, byte for byte.
#[must_use]
pub fn expected_flight(frames: &[Frame<Event>]) -> Vec<Vec<u8>> {
    let mut hash = EventHash::ZERO;
    let events = frames.iter().flat_map(public_events);
    events
        .map(|event| {
            let bytes = event.encode(hash).expect("an event");
            hash = EventHash::of(&bytes);
            bytes
        })
        .collect()
}
