//! Damage to the journal, as disks, servers and people do it: the stream is made again, and is then what it should not be.

use bytes::Bytes;
use laneway_bus::async_nats::jetstream::stream::{Config, SubjectTransform};
use laneway_bus::{Bus, stream_config};
use laneway_contract::{Event, Stream, Subject};
use laneway_journal::{Frame, FrameHash};
use uuid::Uuid;

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The second half of the frames is gone.
    CutShort,
    /// Every frame is gone.
    Emptied,
    /// The fifth and sixth frame are gone.
    Hole,
    /// As many frames of another journal.
    Swapped,
    /// The last frame is another.
    LastChanged,
    /// A byte of the fourth frame is another.
    Changed,
    /// The fourth frame cannot be read.
    Unreadable,
}

impl Damage {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::CutShort, Self::Emptied, Self::Hole, Self::Swapped, Self::LastChanged, Self::Changed, Self::Unreadable];

    /// Does the damage; gives the number that the last frame had before.
    pub async fn befall(self, bus: &Bus) -> u64 {
        let mut frames = frames(bus).await;
        let last = frames.len();
        match self {
            Self::CutShort => frames.truncate(last / 2),
            Self::Emptied => frames.clear(),
            Self::Hole => {}
            Self::Swapped => frames = of_another_journal(&frames),
            Self::LastChanged => frames[last - 1] = later(&frames[last - 1]),
            Self::Changed => frames[3] = later(&frames[3]),
            Self::Unreadable => frames[3] = cut(&frames[3]),
        }
        let holes: &[u64] = if self == Self::Hole { &[5, 6] } else { &[] };
        put(bus, &frames, holes).await;
        last as u64
    }
}

/// The number of the journal's last frame.
pub async fn last_number(bus: &Bus) -> u64 {
    let stream = bus.jetstream().get_stream(bus.prefix().stream(Stream::Journal)).await.expect("the stream");
    stream.get_info().await.expect("its state").state.last_sequence
}

/// The frames of the journal as they are stored.
pub async fn frames(bus: &Bus) -> Vec<Bytes> {
    let stream = bus.jetstream().get_stream(bus.prefix().stream(Stream::Journal)).await.expect("the stream");
    let last = last_number(bus).await;
    let mut frames = Vec::new();
    for number in 1..=last {
        frames.push(stream.get_raw_message(number).await.expect("a frame").payload);
    }
    frames
}

/// Makes the stream again with these frames, and with holes in it. Nobody else writes into it meanwhile.
pub async fn put(bus: &Bus, frames: &[Bytes], holes: &[u64]) {
    let right = stream_config(bus.prefix(), Stream::Journal, 1);
    let subject = bus.prefix().subject(&Subject::Journal);
    let side = format!("{subject}.damaged");
    let transform = SubjectTransform { source: side.clone(), destination: subject };
    let open = Config {
        subjects: vec![side.clone()],
        subject_transform: Some(transform),
        deny_delete: false,
        ..right.clone()
    };
    bus.jetstream().delete_stream(&right.name).await.expect("the stream goes");
    let stream = bus.jetstream().create_stream(open).await.expect("a stream");
    for frame in frames {
        let stored = bus.jetstream().publish(side.clone(), frame.clone()).await.expect("sent");
        stored.await.expect("stored");
    }
    for hole in holes {
        stream.delete_message(*hole).await.expect("a hole");
    }
    bus.jetstream().update_stream(right).await.expect("the settings as they were");
}

/// The frame with a later time: it can be read, and is another.
fn later(bytes: &Bytes) -> Bytes {
    let mut frame = Frame::<Event>::decode(bytes).expect("a frame");
    frame.time = frame.time.plus_millis(1);
    rmp_serde::to_vec(&frame).expect("bytes").into()
}

/// The frame without its last byte.
fn cut(bytes: &Bytes) -> Bytes {
    bytes.slice(..bytes.len() - 1)
}

/// The same frames as another journal has them.
fn of_another_journal(frames: &[Bytes]) -> Vec<Bytes> {
    let (journal_id, mut prev) = (Uuid::now_v7(), FrameHash::ZERO);
    let other = |bytes: &Bytes| {
        let mut frame = Frame::<Event>::decode(bytes).expect("a frame");
        (frame.journal_id, frame.prev) = (journal_id, prev);
        let bytes = Bytes::from(rmp_serde::to_vec(&frame).expect("bytes"));
        prev = FrameHash::of(&bytes);
        bytes
    };
    frames.iter().map(other).collect()
}
