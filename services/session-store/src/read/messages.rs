//! `sessions.messages`, and the thread that the window is taken from.

use laneway_contract::{
    Format, MessagePage, MessageRecord, MessageView, PageOf, ReadMessages, SessionId, WindowMessage,
};
use serde::Serialize;

use super::page::Room;
use super::{ReadError, first_seq, limit, no_session};
use crate::view::{Reading, Space, decode, message_key};

impl Reading {
    /// A range of a thread.
    pub(crate) fn read_messages(&self, request: &ReadMessages, format: Format) -> Result<MessagePage, ReadError> {
        let rows = limit(request.limit)?;
        let first = first_seq(request.from_seq)?;
        let last = request.to_seq.unwrap_or(u64::MAX);
        if last < first {
            let expected = "must not be below from_seq".to_owned();
            return Err(ReadError::Malformed { field: "to_seq", expected });
        }
        self.creation(request.session_id)?.ok_or_else(|| no_session(request.session_id))?;
        let mut page = Pages::new(format, self.journal_seq());
        for message in self.thread(request.session_id, first, last) {
            let message = message?;
            let seq = message.seq;
            if page.len() == rows {
                return Ok(page.ends_before(seq));
            }
            let content = if request.with_content { self.content(&message)? } else { None };
            if !page.add(vec![MessageView { message, content }])? {
                return Ok(page.ends_before(seq));
            }
        }
        Ok(page.ends())
    }

    /// Messages from `first` to `last`, both included, in order.
    pub(super) fn thread(
        &self,
        session: SessionId,
        first: u64,
        last: u64,
    ) -> impl Iterator<Item = Result<MessageRecord, ReadError>> + use<> {
        self.range(Space::Messages, message_key(session, first), message_key(session, last))
            .map(|entry| Ok(decode(Space::Messages, &entry.value()?)?))
    }

    /// The end of a thread.
    pub(super) fn last_message(&self, session: SessionId) -> Result<Option<MessageRecord>, ReadError> {
        let last = self.range(Space::Messages, message_key(session, 0), message_key(session, u64::MAX)).next_back();
        last.map(|entry| Ok(decode(Space::Messages, &entry.value()?)?)).transpose()
    }

    /// The content of a message, when it is text and was not taken out.
    pub(super) fn content(&self, message: &MessageRecord) -> Result<Option<String>, ReadError> {
        if message.redacted {
            return Ok(None);
        }
        self.text(message.content_artifact_id, &message.content_type)
    }
}

/// A message as a page shows it.
pub(super) trait Shown: Serialize {
    fn leave_content_out(&mut self);
}

impl Shown for MessageView {
    fn leave_content_out(&mut self) {
        self.content = None;
    }
}

impl Shown for WindowMessage {
    fn leave_content_out(&mut self) {
        self.content = None;
    }
}

/// A page of messages while it is filled.
pub(super) struct Pages<M> {
    room: Room,
    page: PageOf<M>,
}

impl<M: Shown> Pages<M> {
    pub(super) fn new(format: Format, journal_seq: u64) -> Self {
        Self { room: Room::new(format), page: PageOf { messages: Vec::new(), next_seq: None, journal_seq } }
    }

    pub(super) fn len(&self) -> usize {
        self.page.messages.len()
    }

    /// Takes messages that stay together; says no when the page is full. What is too large even for a page of its own
    /// is given without content: the artifact holds it.
    pub(super) fn add(&mut self, mut messages: Vec<M>) -> Result<bool, ReadError> {
        let mut fits = self.room.take(&messages)?;
        if !fits && self.len() == 0 {
            for at in (0..messages.len()).rev() {
                messages[at].leave_content_out();
                fits = self.room.take(&messages)?;
                if fits {
                    break;
                }
            }
        }
        if fits {
            self.page.messages.append(&mut messages);
        }
        Ok(fits)
    }

    pub(super) fn ends(self) -> PageOf<M> {
        self.page
    }

    pub(super) fn ends_before(mut self, seq: u64) -> PageOf<M> {
        self.page.next_seq = Some(seq);
        self.page
    }
}
