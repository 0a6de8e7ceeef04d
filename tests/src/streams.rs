//! What the streams hold, as a reader that trusts nobody sees it.

use futures::StreamExt;
use laneway_bus::Bus;
use laneway_bus::async_nats::jetstream::consumer::pull::OrderedConfig;
use laneway_contract::{Event, Stream};
use laneway_flight_recorder::{EventHash, public_events};
use laneway_journal::{Follower, Frame, Position};

/// The frames of the journal up to `last`.
pub async fn frames(bus: &Bus, last: u64) -> Vec<Frame<Event>> {
    let name = bus.prefix().stream(Stream::Journal);
    let mut follower = Follower::<Event>::new(bus.client().clone(), &name, Position::default());
    let mut frames: Vec<Frame<Event>> = Vec::new();
    while (frames.len() as u64) < last {
        let batch = follower.next_batch(1_000).await.expect("a journal without a fault");
        frames.extend(batch.into_iter().map(|committed| committed.frame));
    }
    frames.truncate(last as usize);
    frames
}

/// The public events so far, byte for byte.
pub async fn flight(bus: &Bus) -> Vec<Vec<u8>> {
    let stream = bus.jetstream().get_stream(bus.prefix().stream(Stream::Flight)).await.expect("the stream");
    let total = stream.cached_info().state.messages as usize;
    let consumer = stream.create_consumer(OrderedConfig::default()).await.expect("a consumer");
    let messages = consumer.messages().await.expect("messages").take(total);
    messages.map(|message| message.expect("a message").payload.to_vec()).collect().await
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
