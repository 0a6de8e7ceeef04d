//! Where in the journal a stored public event has its origin, as headers of its message: the recorder goes on from there,
//! and a scheduler that starts learns from it which frames there have been.

use async_nats::HeaderMap;
use laneway_contract::FlightSource;

use crate::frame::{FrameHash, Position};

/// The header with the number of the frame.
pub const FRAME: &str = "Laneway-Frame";
/// The header with the hash of the frame, 64 hexadecimal digits.
pub const FRAME_HASH: &str = "Laneway-Frame-Hash";
/// The header with the hash of the frame before it.
pub const FRAME_BEFORE: &str = "Laneway-Frame-Before";
/// The header with the event's place among the public events of its frame, from 0.
pub const INDEX: &str = "Laneway-Index";

/// Where in the journal an event has its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The frame.
    pub frame: Position,
    /// The hash of the frame before it, which is where a start reads on: the frame may hold further events.
    pub before: FrameHash,
    /// The event's place among the public events of its frame, from 0.
    pub index: u32,
}

impl Place {
    /// The position from which the frame is read again.
    #[must_use]
    pub fn position_before(&self) -> Position {
        Position { number: self.frame.number.saturating_sub(1), hash: self.before }
    }

    /// Whether an event is this one or stands before it.
    #[must_use]
    pub fn covers(&self, source: FlightSource) -> bool {
        (source.seq, source.index) <= (self.frame.number, self.index)
    }

    /// Writes the headers.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(FRAME, self.frame.number.to_string());
        headers.insert(FRAME_HASH, self.frame.hash.to_string());
        headers.insert(FRAME_BEFORE, self.before.to_string());
        headers.insert(INDEX, self.index.to_string());
        headers
    }

    /// Reads the headers. None when one is missing or malformed: the message is not the recorder's.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
        let hash = |name: &str| FrameHash::from_hex(text(name)?);
        let frame = Position { number: text(FRAME)?.parse().ok()?, hash: hash(FRAME_HASH)? };
        Some(Self { frame, before: hash(FRAME_BEFORE)?, index: text(INDEX)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests;
