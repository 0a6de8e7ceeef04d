//! A model of one JetStream stream: stores a message only behind the sequence it expects.

use bytes::Bytes;

use crate::node::{PublishOutcome, ReadOutcome};

/// Messages, numbered from 1.
#[derive(Debug)]
pub struct Stream {
    messages: Vec<Bytes>,
    /// Three replicas answer the repeat of a stored message with `duplicate`; one answers `wrong last sequence`.
    knows_duplicates: bool,
}

impl Stream {
    /// An empty stream.
    #[must_use]
    pub fn new(knows_duplicates: bool) -> Self {
        Self { messages: Vec::new(), knows_duplicates }
    }

    /// Stores a message, if `expected_last` is the last sequence.
    pub fn publish(&mut self, expected_last: u64, bytes: &Bytes) -> PublishOutcome {
        let last = self.last();
        if expected_last == last {
            self.messages.push(bytes.clone());
            return PublishOutcome::Acked { seq: last + 1 };
        }
        if self.knows_duplicates && self.get(expected_last + 1) == Some(bytes) {
            return PublishOutcome::Acked { seq: expected_last + 1 };
        }
        PublishOutcome::WrongLast { last }
    }

    /// What a server answers that is behind by `lag` messages.
    #[must_use]
    pub fn read(&self, number: u64, lag: u64) -> ReadOutcome {
        let last = self.last().saturating_sub(lag);
        match self.get(number) {
            Some(bytes) if number <= last => ReadOutcome::Found(bytes.clone()),
            Some(_) | None => ReadOutcome::Missing { last },
        }
    }

    /// The message with this number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Bytes> {
        self.messages.get(number.checked_sub(1)? as usize)
    }

    /// The number of the last message; 0 before the first.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.messages.len() as u64
    }
}
