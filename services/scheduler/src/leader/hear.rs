//! What the journal and the workers say.

use laneway_bus::async_nats::Message;
use laneway_bus::{CONTENT_TYPE, header};
use laneway_contract::{Announcement, ApiError, Event, Format};
use laneway_journal::clock::wall_now;
use laneway_journal::{Body, Committed, Progress};

use super::Leader;
use super::core::Effects;
use crate::SchedulerError;
use crate::start::taken_in;

/// A standby has caught up when the frame that it reads was written so recently, in milliseconds.
const FRESH_MS: u64 = 5_000;

impl Leader {
    /// Goes on with what happened to the journal. True when it was left in good order.
    pub(super) fn progressed(&mut self, progress: Progress<Event, Effects>) -> Result<bool, SchedulerError> {
        match progress {
            Progress::Followed(committed) => self.follow(&committed)?,
            Progress::Leading { epoch, .. } => self.core.elected(epoch),
            Progress::Released(released) => {
                // IMPORTANT: before the answers, so that none of them meets a gate that has not heard of its frame.
                self.look_at_lease();
                for effects in released.effects {
                    effects.release(released.number, |message| self.publisher.send(message));
                }
            }
            Progress::Deposed => self.deposed(),
            // It goes on leading as long as its lease holds, and tries again by itself.
            Progress::ClockOff { .. } => {}
            Progress::Stopped => return Ok(true),
            Progress::Fault(fault) => return Err(SchedulerError::Journal(fault)),
        }
        Ok(false)
    }

    /// Folds a frame of another leader, or of this process's own past.
    fn follow(&mut self, committed: &Committed<Event>) -> Result<(), SchedulerError> {
        let (number, frame) = (committed.position.number, &committed.frame);
        match &frame.body {
            Body::Started { instance, .. } => tracing::info!(instance, epoch = frame.epoch, number, "a leader begins"),
            Body::Stopped => tracing::info!(epoch = frame.epoch, number, "the leader has gone"),
            Body::FormatRaised { to } => {
                tracing::info!(format = to, number, "the journal has a newer format from here");
            }
            Body::Turns(_) => {}
        }
        self.core.follow(committed)?;
        self.replay.followed(number);
        if frame.snapshot == number
            && let Some(taken) = taken_in(frame)
        {
            self.snapshots.followed(number, taken, frame.time, self.core.journal.read_bytes());
        }
        if matches!(frame.body, Body::Turns(_)) && wall_now().millis_since(frame.time) < FRESH_MS {
            self.say_ready("standby");
        }
        Ok(())
    }

    /// Takes a worker's announcement in.
    pub(super) fn heard(&mut self, message: &Message) {
        // Only a leader needs them.
        if !self.core.leads() {
            return;
        }
        match decode(message) {
            Ok(announcement) => self.core.heard(announcement),
            Err(error) => tracing::warn!(subject = %message.subject, %error, "an announcement cannot be read"),
        }
    }
}

fn decode(message: &Message) -> Result<Announcement, ApiError> {
    // Without a header, JSON begins with a brace: an announcement is a map.
    let format = match header(message.headers.as_ref(), CONTENT_TYPE) {
        Some(value) => Format::from_content_type(Some(value))?,
        None if message.payload.first() == Some(&b'{') => Format::Json,
        None => Format::MessagePack,
    };
    format.decode(&message.payload)
}
