//! The fold of a journal up to a time, with what the state itself does not keep: ends, pools, and who led.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::{BudgetOwner, CoolDown, Event, JobState, Lane, Scope, SessionState, Timestamp};
use laneway_engine::State;
use laneway_journal::{Body, Committed, Position};

use super::ReplayError;
use super::pools::Pools;
use super::workload::Recorder;

/// A journal, folded.
#[derive(Default)]
pub(crate) struct Past {
    until: Option<Timestamp>,
    /// What the frames fold into.
    pub(crate) state: State,
    /// What the journal shows of the workers.
    pub(crate) pools: Pools,
    /// What was counted on the way.
    pub(crate) counts: Counts,
    /// The last frame of which something was folded.
    pub(crate) position: Position,
    /// The journal's own id.
    pub(crate) journal_id: Option<String>,
    /// The epoch of the last leader.
    pub(crate) epoch: u64,
    /// The last leader; none after it has gone in good order.
    pub(crate) leader: Option<String>,
    /// When the first frame was written.
    pub(crate) began: Option<Timestamp>,
    /// The time up to which all is folded.
    pub(crate) time: Timestamp,
    /// Takes the workload down, where a model is to be made of it.
    pub(crate) recorder: Option<Recorder>,
}

/// Counts of what has happened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Events.
    pub(crate) events: u64,
    /// Sessions by their states, those that have ended included.
    pub(crate) sessions: BTreeMap<SessionState, u64>,
    /// Runs that have ended.
    pub(crate) ended: BTreeMap<(Lane, JobState), u64>,
    /// Work packets that were named.
    pub(crate) work_packets: BTreeSet<String>,
    /// Cool-downs that hold.
    pub(crate) cool_downs: BTreeMap<Scope, CoolDown>,
}

impl Past {
    /// Before the first frame. Nothing behind `until` will be folded.
    pub(crate) fn new(until: Option<Timestamp>, recorder: Option<Recorder>) -> Self {
        Self { until, recorder, ..Self::default() }
    }

    /// Folds a frame. False when the time is reached, so that no further frame is needed.
    pub(crate) fn take(&mut self, mut committed: Committed<Event>) -> Result<bool, ReplayError> {
        let more = self.cut(&mut committed);
        if !more && !matches!(&committed.frame.body, Body::Turns(turns) if !turns.is_empty()) {
            self.reached();
            return Ok(false);
        }
        let number = committed.position.number;
        if !laneway_scheduler::fold(&mut self.state, &committed) {
            return Err(ReplayError::Diverged { number });
        }
        self.look_at(&committed);
        if !more {
            self.reached();
        }
        Ok(more)
    }

    /// Takes out what lies behind the time. Whether the whole frame lies before it.
    fn cut(&self, committed: &mut Committed<Event>) -> bool {
        let Some(until) = self.until.filter(|until| committed.frame.time > *until) else { return true };
        if let Body::Turns(turns) = &mut committed.frame.body {
            turns.retain(|turn| turn.at <= until);
        }
        false
    }

    fn reached(&mut self) {
        self.time = self.until.unwrap_or(self.time).max(self.time);
    }

    fn look_at(&mut self, committed: &Committed<Event>) {
        let frame = &committed.frame;
        self.position = committed.position;
        self.epoch = frame.epoch;
        self.time = self.until.map_or(frame.time, |until| frame.time.min(until));
        self.began.get_or_insert(self.time);
        self.journal_id.get_or_insert_with(|| frame.journal_id.to_string());
        if let Some(recorder) = &mut self.recorder {
            recorder.take(committed);
        }
        match &frame.body {
            Body::Started { instance, .. } => self.leader = Some(instance.clone()),
            Body::Stopped => self.leader = None,
            Body::FormatRaised { .. } => {}
            Body::Turns(turns) => {
                for event in turns.iter().flat_map(|turn| &turn.events) {
                    self.pools.observe(event);
                    self.counts.observe(event);
                }
                if let Some(last) = turns.last() {
                    self.pools.look(&self.state, last.at);
                }
            }
        }
    }
}

impl Counts {
    #[expect(clippy::wildcard_enum_match_arm, reason = "an event that is not named here counts as an event alone")]
    fn observe(&mut self, event: &Event) {
        self.events += 1;
        match event {
            Event::SessionCreated { session, .. } => {
                *self.sessions.entry(SessionState::Created).or_default() += 1;
                self.work_packets.extend(session.fields.wp_id.clone());
            }
            Event::SessionStateChanged { from, status, .. } => {
                if let Some(count) = self.sessions.get_mut(from) {
                    *count = count.saturating_sub(1);
                }
                *self.sessions.entry(status.state).or_default() += 1;
            }
            Event::RunSettled { run, .. } => {
                *self.ended.entry((run.fields.lane, run.status.state)).or_default() += 1;
            }
            Event::BudgetSet { owner: BudgetOwner::WorkPacket(id), .. } => {
                self.work_packets.insert(id.clone());
            }
            Event::CoolDownChanged { scope, cool_down: Some(cool_down) } => {
                self.cool_downs.insert(scope.clone(), *cool_down);
            }
            Event::CoolDownChanged { scope, cool_down: None } => {
                self.cool_downs.remove(scope);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
