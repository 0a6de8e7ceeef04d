//! Runs that had not ended where the journal is cut.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::{Event, RunId, RunRecord, SessionId, SessionState, Timestamp};
use laneway_journal::{Body, Frame};

use crate::view::Claim;

/// What frames say of runs that have not ended.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) runs: BTreeMap<RunId, Run>,
    /// Sessions of which a run was ever claimed.
    pub(super) claimed: BTreeSet<SessionId>,
    /// How often the leader gave up something of what it holds in memory.
    pub(super) evictions: u64,
}

/// A run that has not ended.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) record: RunRecord,
    /// Whether its session works on it: dispatched, executing, waiting for its next attempt or for a person.
    is_current: bool,
    /// The state that it gives to its session.
    gives: Option<SessionState>,
}

impl Live {
    pub(super) fn fold(&mut self, frame: &Frame<Event>) {
        let Body::Turns(turns) = &frame.body else { return };
        for turn in turns {
            turn.events.iter().for_each(|event| self.event(event, turn.at));
        }
    }

    /// The current run of a session and the state that it gives, as far as the journal has kept them.
    pub(super) fn current(&self, session: SessionId) -> Option<(RunId, Option<SessionState>)> {
        let current = self.runs.values().find(|run| run.record.session_id == session && run.is_current);
        current.map(|run| (run.record.run_id, run.gives))
    }

    /// Whether a run was never claimed, so that its first claim brings its input.
    pub(super) fn brings_input(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|run| run.record.status.epoch == 0)
    }

    /// Takes a claim of which only a view tells. None when the run is not known.
    pub(super) fn claim(&mut self, run: RunId, claim: Claim) -> Option<&RunRecord> {
        let run = self.runs.get_mut(&run)?;
        self.claimed.insert(claim.session_id);
        (run.is_current, run.gives) = (true, Some(SessionState::Active));
        let status = &mut run.record.status;
        if status.epoch != claim.epoch {
            status.worker_id = None;
        }
        (status.attempt, status.epoch) = (claim.attempt, claim.epoch);
        Some(&run.record)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the other events are about no run, or change nothing here")]
    fn event(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::RunQueued { run, .. } => {
                let record = (**run).clone();
                self.runs.insert(run.run_id, Run { record, is_current: false, gives: None });
            }
            Event::RunDispatched { run_id, queue_wait_ms, .. } => self.change(*run_id, |run| {
                run.is_current = true;
                run.record.status.dispatched_at = Some(at);
                run.record.status.queue_wait_ms.get_or_insert(*queue_wait_ms);
            }),
            Event::RunReturned { run_id, .. } | Event::RunDecided { run_id, .. } => self.change(*run_id, |run| {
                (run.is_current, run.gives) = (false, None);
            }),
            Event::RunClaimed { run_id, session_id, attempt, epoch, worker_id, .. } => {
                self.claimed.insert(*session_id);
                self.change(*run_id, |run| {
                    (run.is_current, run.gives) = (true, Some(SessionState::Active));
                    let status = &mut run.record.status;
                    (status.attempt, status.epoch) = (*attempt, *epoch);
                    status.started_at.get_or_insert(at);
                    status.worker_id = Some(worker_id.clone());
                });
            }
            Event::RunRetryScheduled { run_id, usage, cost_usd, .. } => self.change(*run_id, |run| {
                run.gives = None;
                (run.record.status.usage, run.record.status.cost_usd) = (*usage, *cost_usd);
            }),
            Event::RunStalled { run_id, usage, cost_usd, .. } | Event::RunParked { run_id, usage, cost_usd, .. } => {
                self.change(*run_id, |run| {
                    run.gives = Some(SessionState::Blocked);
                    (run.record.status.usage, run.record.status.cost_usd) = (*usage, *cost_usd);
                });
            }
            Event::MessageAppended(message) if message.attempt.is_some() => {
                let produced = |run: &mut Run| run.record.status.output_message_ids.push(message.message_id);
                message.run_id.into_iter().for_each(|run| self.change(run, produced));
            }
            Event::SessionsEvicted { number, .. } | Event::KeysEvicted { number, .. } => self.evictions = *number,
            Event::RunSettled { run, .. } => drop(self.runs.remove(&run.run_id)),
            _ => {}
        }
    }

    fn change(&mut self, run: RunId, change: impl FnOnce(&mut Run)) {
        if let Some(run) = self.runs.get_mut(&run) {
            change(run);
        }
    }
}
