//! Replies that end early instead of growing too large.

use laneway_contract::{Format, MAX_BODY_BYTES};
use serde::Serialize;

use super::ReadError;

/// Bytes kept free for what stands around the rows of a reply.
const ENVELOPE_BYTES: usize = 1024;
/// The most bytes of the rows of a reply.
pub(crate) const ROWS_BYTES: usize = MAX_BODY_BYTES - ENVELOPE_BYTES;

/// Room in a reply, measured in the format that it will be written in.
pub(super) struct Room {
    format: Format,
    left: usize,
}

impl Room {
    pub(super) fn new(format: Format) -> Self {
        Self { format, left: ROWS_BYTES }
    }

    /// Takes the room of `rows`, or none of it when there is not enough for all of them.
    pub(super) fn take<T: Serialize>(&mut self, rows: &[T]) -> Result<bool, ReadError> {
        let mut bytes = 0;
        for row in rows {
            // One more for the comma of JSON.
            bytes += self.format.encode(row).map_err(ReadError::Encoding)?.len() + 1;
        }
        let fits = bytes <= self.left;
        if fits {
            self.left -= bytes;
        }
        Ok(fits)
    }
}
