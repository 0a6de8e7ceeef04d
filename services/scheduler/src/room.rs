//! Replies that end early instead of growing too large.

use laneway_contract::{ApiError, Format, MAX_BODY_BYTES};
use serde::Serialize;

/// Bytes kept free for what stands around the rows of a reply.
const ENVELOPE_BYTES: usize = 4 * 1024;

/// Room in a reply, measured in the format that it will be written in.
pub(crate) struct Room {
    format: Format,
    left: usize,
}

impl Room {
    /// The room of a whole reply.
    pub(crate) fn new(format: Format) -> Self {
        Self { format, left: MAX_BODY_BYTES - ENVELOPE_BYTES }
    }

    /// Takes the room of a row, or none of it when there is not enough.
    pub(crate) fn take<T: Serialize>(&mut self, row: &T) -> Result<bool, ApiError> {
        // One more for the comma of JSON.
        let bytes = self.format.encode(row)?.len() + 1;
        let fits = bytes <= self.left;
        if fits {
            self.left -= bytes;
        }
        Ok(fits)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn rows_end_before_the_reply_is_too_large() {
        let mut room = Room::new(Format::Json);
        let row = "x".repeat(100_000);
        let mut rows = Vec::new();
        while room.take(&row).unwrap() {
            rows.push(row.clone());
        }
        assert_eq!(rows.len(), 7);
        assert!(Format::Json.encode(&rows).unwrap().len() <= MAX_BODY_BYTES);
    }
}
