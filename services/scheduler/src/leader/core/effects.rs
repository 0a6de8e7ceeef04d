//! What a turn does outside, once its events are in the journal.

use std::sync::Arc;

use laneway_contract::{Artifact, ArtifactId, ControlMessage, DispatchMessage, Event, PoolId, ReturnCause};
use laneway_engine::{Run, State};
use tokio::sync::oneshot;

use crate::desk::{Release, stop_of};
use crate::publisher::Outgoing;
use crate::waiters::{Ended, Ending, Waiters};

/// The effects of one turn. The journal gives them back when the turn, and all before it, are durable.
#[derive(Default)]
pub(crate) struct Effects {
    replies: Vec<Release>,
    outgoing: Vec<Outgoing>,
    endings: Vec<(Arc<Ending>, Vec<oneshot::Sender<Ended>>)>,
}

impl Effects {
    /// What the events of a turn, which `state` has applied, ask for.
    #[expect(clippy::wildcard_enum_match_arm, reason = "an event that is not named here has no effect outside")]
    pub(super) fn of(events: &[Event], state: &State, waiters: &mut Waiters) -> Self {
        let (mut effects, mut mends) = (Self::default(), false);
        for event in events {
            match event {
                Event::RunDispatched { run_id, session_id, dispatch_no, pool, .. } => {
                    let (run_id, session_id, dispatch_no) = (*run_id, *session_id, *dispatch_no);
                    let message = DispatchMessage { run_id, session_id, dispatch_no };
                    effects.outgoing.push(Outgoing::Dispatch(pool.clone(), message));
                }
                // Workers are there and have not got it.
                Event::RunReturned { cause: ReturnCause::Unclaimed, .. } => mends = true,
                Event::RunStopRequested { run_id, cause, .. } => {
                    if let Some(run) = state.run(*run_id) {
                        let (run_id, epoch) = (*run_id, run.record.status.epoch);
                        effects.outgoing.push(Outgoing::Control(ControlMessage {
                            run_id,
                            epoch,
                            stop: stop_of(cause),
                        }));
                    }
                }
                Event::RunSettled { run, output, .. } => {
                    let waiting = waiters.take(run.run_id);
                    if !waiting.is_empty() {
                        let output = output.as_ref().and_then(|output| text_of(events, output.artifact_id));
                        effects.endings.push((Arc::new(Ending { record: (**run).clone(), output }), waiting));
                    }
                }
                _ => {}
            }
        }
        effects.outgoing.extend(mends.then_some(Outgoing::Mend));
        effects
    }

    /// Adds the answer of the order that the turn was decided for.
    pub(super) fn with_reply(mut self, reply: Release) -> Self {
        self.replies.push(reply);
        self
    }

    /// Adds a message.
    pub(super) fn send(&mut self, message: Outgoing) {
        self.outgoing.push(message);
    }

    /// Lets everything leave: messages to `send`, answers to those who wait for them. `number` is the frame that holds the
    /// turn.
    pub(crate) fn release(self, number: u64, send: impl FnMut(Outgoing)) {
        self.outgoing.into_iter().for_each(send);
        for (ending, waiting) in self.endings {
            for waiter in waiting {
                // Who has gone away needs no answer.
                drop(waiter.send(Ended { ending: Arc::clone(&ending), journal_seq: number }));
            }
        }
        for reply in self.replies {
            reply(number);
        }
    }
}

/// The dispatch of a run that nobody has claimed, to be sent again.
pub(super) fn dispatch_of(run: &Run, pool: &PoolId) -> Outgoing {
    let (run_id, session_id, dispatch_no) = (run.record.run_id, run.record.session_id, run.dispatch_no);
    Outgoing::Dispatch(pool.clone(), DispatchMessage { run_id, session_id, dispatch_no })
}

/// The text of an artifact that these events store.
#[expect(clippy::wildcard_enum_match_arm, reason = "only one event stores an artifact")]
fn text_of(events: &[Event], id: ArtifactId) -> Option<String> {
    let artifact = events.iter().find_map(|event| match event {
        Event::ArtifactStored(artifact) if artifact.id == id => Some(artifact),
        _ => None,
    })?;
    let Artifact { bytes, .. } = artifact;
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests;
