//! The fold of the journal's frames into the engine's state.

use laneway_contract::Event;
use laneway_engine::State;
use laneway_journal::{Body, Committed};

/// Folds a frame. False when its leader's digest is not that of this fold: the state is then another than the leader had.
#[must_use]
pub fn fold(state: &mut State, committed: &Committed<Event>) -> bool {
    match &committed.frame.body {
        // Nobody could write since the frame before, so nothing came back into a bucket.
        Body::Started { .. } => state.stood_still(committed.gap_ms),
        Body::Stopped | Body::FormatRaised { .. } => {}
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use laneway_contract::{
        Actor, Catalog, Format, HashKey, LimitName, PoolId, RateKind, Scope, SubmitRun, Timestamp, WorkerId,
    };
    use laneway_engine::{Command, Hints, LimitsChange, SetLimits, WorkerHint};
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
