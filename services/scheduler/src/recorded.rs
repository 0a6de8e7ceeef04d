//! How far the journal had come, by the public events: each is written only when its frame is durable. A scheduler that
//! starts has nothing of its own that would tell it of frames that the journal has lost since.

use std::time::Duration;

use laneway_bus::Bus;
use laneway_bus::async_nats::jetstream::stream::RawMessageErrorKind;
use laneway_contract::Stream;
use laneway_journal::Position;
use laneway_journal::place::Place;
use tokio::time::sleep;

/// How long to wait before the server is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// The end of the public events.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// The number of the last event; 0 when there never was one.
    last: u64,
    place: Option<Place>,
}

impl Recorded {
    /// Asks the server, as long as it takes.
    pub(crate) async fn read(bus: &Bus) -> Self {
        let name = bus.prefix().stream(Stream::Flight);
        loop {
            match Self::ask(bus, &name).await {
                Ok(recorded) => return recorded,
                Err(reason) => tracing::warn!(reason, stream = name, "waiting for the stream of public events"),
            }
            sleep(AGAIN).await;
        }
    }

    async fn ask(bus: &Bus, name: &str) -> Result<Self, String> {
        let stream = bus.jetstream().get_stream(name).await.map_err(|error| error.to_string())?;
        let last = stream.cached_info().state.last_sequence;
        if last == 0 {
            return Ok(Self { last, place: None });
        }
        match stream.get_raw_message(last).await {
            Ok(message) => Ok(Self { last, place: Place::from_headers(&message.headers) }),
            // That the event is gone is for the recorder to say.
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(Self { last, place: None }),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether there never was a public event, so that an empty journal is a new one.
    pub(crate) const fn is_nothing(&self) -> bool {
        self.last == 0
    }

    /// The frame that the last public event comes from.
    pub(crate) fn position(&self) -> Option<Position> {
        self.place.map(|place| place.frame)
    }
}
