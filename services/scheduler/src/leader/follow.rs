//! What the journal and the workers say.

use laneway_bus::async_nats::Message;
use laneway_bus::{CONTENT_TYPE, header};
use laneway_contract::{ANNOUNCE_VALID_MS, Announcement, ApiError, Event, Format};
use laneway_engine::WorkerHint;
use laneway_journal::clock::wall_now;
use laneway_journal::{Body, Committed, Progress};

use super::Leader;
use super::effects::Effects;
use crate::{SchedulerError, fold};

/// A standby has caught up when the frame that it reads was written so recently, in milliseconds.
const FRESH_MS: u64 = 5_000;

impl Leader {
    /// Goes on with what happened to the journal. True when it was left in good order.
    pub(super) fn progressed(&mut self, progress: Progress<Event, Effects>) -> Result<bool, SchedulerError> {
        match progress {
            Progress::Followed(committed) => self.follow(&committed)?,
            Progress::Leading { epoch, .. } => self.elected = Some(epoch),
            Progress::Released(released) => {
                // IMPORTANT: before the answers, so that none of them meets a gate that has not heard of its frame.
                self.look_at_lease();
                for effects in released.effects {
                    effects.release(released.number, &self.publisher);
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
            Body::Turns(_) => {}
        }
        if !fold(&mut self.state, committed) {
            tracing::error!(number, "the fold of the journal differs from its leader's");
            return Err(SchedulerError::Diverged { number });
        }
        if matches!(frame.body, Body::Turns(_)) && wall_now().millis_since(frame.time) < FRESH_MS {
            self.say_ready("standby");
        }
        Ok(())
    }

    /// Takes a worker's announcement in. Only a leader needs them, and a new one begins without any.
    pub(super) fn heard(&mut self, message: &Message) {
        let Some(leadership) = &mut self.leadership else { return };
        let announcement = match decode(message) {
            Ok(announcement) => announcement,
            Err(error) => {
                tracing::warn!(subject = %message.subject, %error, "an announcement cannot be read");
                return;
            }
        };
        let now = self.journal.now();
        let Announcement { worker_id, pool, models, slots } = announcement;
        let valid_until = now.plus_millis(ANNOUNCE_VALID_MS as i64);
        self.hints.workers.retain(|_, worker| worker.valid_until > now);
        self.hints.workers.insert(worker_id, WorkerHint { pool, models, slots, valid_until });
        leadership.more = true;
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
