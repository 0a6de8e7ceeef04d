//! What the journal and the workers say.

use laneway_bus::async_nats::Message;
use laneway_bus::{CONTENT_TYPE, header};
use laneway_contract::{ANNOUNCE_VALID_MS, Announcement, ApiError, Event, Format};
use laneway_engine::{State, WorkerHint};
use laneway_journal::clock::wall_now;
use laneway_journal::{Body, Committed, Progress};

use super::Leader;
use super::effects::Effects;
use crate::SchedulerError;
use crate::start::taken_in;

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
        self.replay.followed(number);
        if frame.snapshot == number
            && let Some(taken) = taken_in(frame)
        {
            self.snapshots.followed(taken, frame.time, self.journal.read_bytes());
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

/// Folds a frame. False when its leader's digest is not that of this fold.
pub(crate) fn fold(state: &mut State, committed: &Committed<Event>) -> bool {
    match &committed.frame.body {
        // Nobody could write since the frame before, so nothing came back into a bucket.
        Body::Started { .. } => state.stood_still(committed.gap_ms),
        Body::Stopped => {}
        Body::Turns(turns) => {
            for turn in turns {
                for event in &turn.events {
                    state.apply(event, turn.at);
                    if diverges(state, event) {
                        return false;
                    }
                }
            }
        }
    }
    true
}

/// Whether a leader's digest is not that of this fold.
fn diverges(state: &mut State, event: &Event) -> bool {
    matches!(event, Event::StateDigest { digest } if *digest != state.digest())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use laneway_contract::{
        Actor, Catalog, HashKey, LimitName, PoolId, RateKind, Scope, SubmitRun, Timestamp, WorkerId,
    };
    use laneway_engine::{Command, Hints, LimitsChange, SetLimits};
    use laneway_journal::frame::FORMAT;
    use laneway_journal::{Frame, FrameHash, Position};

    use super::*;
    use crate::edge::{Edge, KnownArtifacts};

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    /// A state in which two runs were just dispatched, under a rate of one run a second.
    fn two_dispatched(scope: &Scope) -> State {
        let (mut state, mut hints) = (State::default(), Hints::default());
        let rate = vec![(LimitName::RequestsPerMinute(scope.clone()), Some(60))];
        let rate = SetLimits { change: LimitsChange::Single(rate), actor: Actor::runtime() };
        state.turn(&Command::SetLimits(Box::new(rate)), &hints, START).unwrap();
        let models = vec!["echo/*".to_owned()];
        let worker =
            WorkerHint { pool: PoolId::parse("p").unwrap(), models, slots: 8, valid_until: START.plus_millis(9) };
        hints.workers.insert(WorkerId::parse("w").unwrap(), worker);
        let edge = Edge::new(HashKey::from_bytes([1; 32]), Arc::new(Catalog::built_in().unwrap()));
        for _ in 0..2 {
            let request: SubmitRun = Format::Json.decode(br#"{"model_id": "echo/a", "input": "hi"}"#).unwrap();
            let submit = edge.submit(request, &KnownArtifacts::new(), None).unwrap().submit;
            state.turn(&Command::Submit(submit), &hints, START).unwrap();
        }
        assert_eq!(state.dispatched().count(), 2);
        state
    }

    fn committed(number: u64, after_ms: i64, gap_ms: u64, body: Body<Event>) -> Committed<Event> {
        let (time, prev) = (START.plus_millis(after_ms), FrameHash::ZERO);
        let (journal_id, snapshot) = (uuid::Uuid::nil(), 0);
        let frame = Frame { format: FORMAT, journal_id, epoch: 1, number, prev, time, snapshot, body };
        Committed { position: Position { number, hash: FrameHash::ZERO }, gap_ms, frame }
    }

    #[test]
    fn nothing_comes_back_into_a_bucket_while_nobody_leads() {
        let scope = Scope::Provider("echo".to_owned());
        let mut state = two_dispatched(&scope);
        let level = |state: &State, after_ms| {
            state.bucket_level(RateKind::Requests, &scope, START.plus_millis(after_ms)).unwrap()
        };
        assert_eq!((level(&state, 0), level(&state, 1_000)), (58, 59));
        let body = Body::Started { instance: "b".to_owned(), process: uuid::Uuid::nil(), attempt: 1 };
        assert!(fold(&mut state, &committed(7, 4_000, 4_000, body)));
        assert_eq!((level(&state, 4_000), level(&state, 5_000)), (58, 59));
        // Between the frames of a leader time goes on.
        assert!(fold(&mut state, &committed(8, 5_000, 1_000, Body::Turns(Vec::new()))));
        assert_eq!(level(&state, 5_000), 59);
    }

    #[test]
    fn another_digest_is_noticed() {
        let mut state = State::default();
        let key = Event::HashKeyCreated { key: HashKey::from_bytes([1; 32]) };
        let before = state.digest();
        state.apply(&key, Timestamp::ZERO);
        let digest = state.digest();
        assert!(!diverges(&mut state, &Event::StateDigest { digest }));
        assert!(diverges(&mut state, &Event::StateDigest { digest: before }));
        assert!(!diverges(&mut state, &key));
    }
}
