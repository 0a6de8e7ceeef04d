//! Takes the workload down while frames go by.

use std::collections::{BTreeSet, HashMap, HashSet};

use laneway_contract::{
    Actor, Event, JobState, MessageDraft, MessageRecord, PoolId, RunId, RunRecord, SessionId, StopCause, Timestamp,
};
use laneway_engine::{EndSession, PauseSession};
use laneway_journal::{Body, Committed};

use super::attempt::{self, Live, Stage};
use super::{
    Asked, Attempt, AttemptEnd, Decided, Dispatch, Input, LiveRuns, Order, Part, RecordedRun, Silence, Typical,
    Workload,
};

/// Makes a [`Workload`] of frames, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    work: Workload,
    order: Order,
    at: Timestamp,
    live: HashMap<RunId, Live>,
    of_session: LiveRuns,
    pools: BTreeSet<PoolId>,
    turn: Turn,
}

/// What has been seen of the turn so far.
#[derive(Debug, Default)]
struct Turn {
    facts: Vec<Event>,
    limits: Vec<Event>,
    asked: Vec<Asked>,
    /// Messages of attempts, until what they were reported with comes.
    said: HashMap<RunId, Vec<MessageDraft>>,
    /// Runs that a person has decided about, so that their end is no cancel of its own.
    decided: HashSet<RunId>,
    paused: HashSet<SessionId>,
}

impl Recorder {
    /// Takes a frame in.
    pub(crate) fn take(&mut self, committed: &Committed<Event>) {
        let frame = &committed.frame;
        match &frame.body {
            Body::Started { .. } => self.leader_began(frame.time, committed.gap_ms),
            Body::Stopped | Body::FormatRaised { .. } => {}
            Body::Turns(turns) => {
                for turn in turns {
                    self.begin(turn.at);
                    turn.events.iter().for_each(|event| self.event(event));
                    self.end_turn();
                }
            }
        }
    }

    /// The workload up to here.
    pub(crate) fn finish(mut self) -> Workload {
        self.at = self.work.ended;
        for id in self.live.keys().copied().collect::<Vec<_>>() {
            self.leave_open(id);
            let at = self.at;
            let Some((live, run)) = self.of(id) else { continue };
            if let (Stage::Running { since }, Some(Dispatch::Claimed { attempt, .. })) =
                (live.stage, run.dispatches.last_mut())
            {
                attempt.end = AttemptEnd::Open { ran_ms: at.millis_since(since) };
            }
        }
        self.work.typical = Typical::of(&self.work.runs);
        self.work
    }

    fn begin(&mut self, at: Timestamp) {
        self.order += 1;
        self.at = at;
        if self.order == 1 {
            self.work.began = at;
        }
        self.work.ended = at;
    }

    fn leader_began(&mut self, at: Timestamp, gap_ms: u64) {
        self.begin(at);
        let from = at.plus_millis(-(gap_ms as i64));
        self.work.silences.push(Silence { from, until: at, order: self.order });
        self.push(Asked::Leader { gap_ms });
    }

    fn push(&mut self, what: Asked) {
        self.work.inputs.push(Input { at: self.at, order: self.order, what });
    }

    fn end_turn(&mut self) {
        let Turn { facts, limits, asked, .. } = std::mem::take(&mut self.turn);
        // A pool was there before it was dispatched to, a session before its run.
        let (pools, others): (Vec<_>, Vec<_>) = asked.into_iter().partition(|asked| matches!(asked, Asked::Pool(_)));
        for pool in pools {
            self.push(pool);
        }
        if !limits.is_empty() {
            self.push(Asked::Limits(limits));
        }
        if !facts.is_empty() {
            self.push(Asked::Facts(facts));
        }
        for other in others {
            self.push(other);
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not named here follows from what is")]
    fn event(&mut self, event: &Event) {
        match event {
            Event::SessionCreated { .. } | Event::BudgetSet { .. } => self.turn.facts.push(event.clone()),
            Event::MessageAppended(message) => self.message(message),
            Event::LimitsChanged { .. } | Event::LimitsConfigured { .. } => self.turn.limits.push(event.clone()),
            Event::SessionPauseSet { session_id, paused, actor, reason } => {
                self.turn.paused.insert(*session_id);
                let (session_id, actor, reason) = (*session_id, actor.clone(), reason.clone());
                // An interrupted run has a cancel of its own in the same turn.
                let pause = PauseSession { session_id, paused: *paused, interrupt: false, actor, reason };
                self.turn.asked.push(Asked::Pause(pause));
            }
            // The end of a session without runs holds nobody, and in the model it may have some left.
            Event::SessionEndRequested { session_id, end, actor, reason }
                if self.of_session.get(session_id).is_some_and(|live| *live > 0) =>
            {
                let (actor, reason) = (actor.clone(), reason.clone());
                let end = EndSession { session_id: *session_id, end: *end, cancel_runs: true, actor, reason };
                self.turn.asked.push(Asked::End(end));
            }
            Event::RunQueued { run, fingerprint, estimate } => {
                self.queued(run);
                let submit = attempt::submit(run, *fingerprint, *estimate);
                self.turn.asked.push(Asked::Submit(Box::new(submit)));
            }
            _ => self.run_event(event),
        }
    }

    fn message(&mut self, message: &MessageRecord) {
        match (message.run_id, message.attempt) {
            // The input of a run enters again with its first claim.
            (Some(_), None) => {}
            (Some(run), Some(_)) => self.turn.said.entry(run).or_default().push(attempt::draft(message)),
            (None, _) => self.turn.facts.push(Event::MessageAppended(Box::new(message.clone()))),
        }
    }

    fn queued(&mut self, run: &RunRecord) {
        self.work.index.insert(run.run_id, self.work.runs.len());
        self.work.runs.push(RecordedRun {
            lane: run.fields.lane,
            fairness_key: run.fields.fairness_key.clone(),
            model_id: run.fields.model_id.clone(),
            submitted_at: run.status.submitted_at,
            wait_ms: None,
            dispatches: Vec::new(),
            decisions: Vec::new(),
        });
        self.live.insert(run.run_id, Live::default());
        *self.of_session.entry(run.session_id).or_default() += 1;
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`event` has named the others that matter")]
    fn run_event(&mut self, event: &Event) {
        match event {
            Event::RunDispatched { run_id, pool, queue_wait_ms, .. } => {
                if self.pools.insert(pool.clone()) {
                    self.turn.asked.push(Asked::Pool(pool.clone()));
                }
                self.dispatched(*run_id, *queue_wait_ms);
            }
            Event::RunClaimed { run_id, .. } => self.claimed(*run_id),
            Event::RunReturned { run_id, session_id, .. } => self.returned(*run_id, *session_id),
            Event::RunStopRequested { run_id, cause, .. } => self.stop_requested(*run_id, cause),
            Event::ReportTaken { run_id, .. } => self.part(*run_id),
            Event::LeaseExpired { run_id, .. } => self.lost(*run_id),
            Event::RunRetryScheduled { run_id, error, usage, cost_usd, .. } => {
                self.concluded(*run_id, |live| live.failed(error, *usage, *cost_usd));
            }
            Event::RunStalled { run_id, usage, cost_usd, .. } => {
                self.concluded(*run_id, |live| live.failed(&attempt::worker_lost(), *usage, *cost_usd));
                self.waits_for_person(*run_id);
            }
            Event::RunParked { run_id, approval_id, usage, cost_usd, .. } => {
                self.concluded(*run_id, |live| live.parked(approval_id, *usage, *cost_usd));
                self.waits_for_person(*run_id);
            }
            Event::RunDecided { run_id, decision, decided_by, reason, .. } => {
                self.turn.decided.insert(*run_id);
                let (at, order) = (self.at, self.order);
                let Some((live, run)) = self.of(*run_id) else { return };
                let after_ms = live.asked_at.map_or(0, |asked| at.millis_since(asked));
                let (actor, reason) = (decided_by.clone(), reason.clone());
                run.decisions.push(Decided { after_ms, order, decision: *decision, actor, reason });
            }
            Event::RunSettled { run, .. } => self.settled(run),
            _ => {}
        }
    }

    fn of(&mut self, id: RunId) -> Option<(&mut Live, &mut RecordedRun)> {
        let live = self.live.get_mut(&id)?;
        let run = self.work.index.get(&id).and_then(|index| self.work.runs.get_mut(*index))?;
        Some((live, run))
    }

    fn dispatched(&mut self, id: RunId, wait_ms: u64) {
        let at = self.at;
        let Some((live, run)) = self.of(id) else { return };
        live.stage = Stage::Dispatched { since: at };
        run.wait_ms.get_or_insert(wait_ms);
        run.dispatches.push(Dispatch::Open { unclaimed_ms: 0 });
    }

    fn claimed(&mut self, id: RunId) {
        let (at, order) = (self.at, self.order);
        let Some((live, run)) = self.of(id) else { return };
        let Stage::Dispatched { since } = live.stage else { return };
        live.stage = Stage::Running { since: at };
        live.stop = None;
        let attempt = Box::new(Attempt { parts: Vec::new(), end: AttemptEnd::Open { ran_ms: 0 } });
        if let Some(last) = run.dispatches.last_mut() {
            *last = Dispatch::Claimed { after_ms: at.millis_since(since), order, attempt };
        }
    }

    /// Back in the queue: nobody claimed it, its worker handed it back, or a wait is over.
    fn returned(&mut self, id: RunId, session: SessionId) {
        let (at, paused) = (self.at, self.turn.paused.contains(&session));
        let Some((live, run)) = self.of(id) else { return };
        match live.stage {
            Stage::Dispatched { since } => {
                live.stage = Stage::Waiting;
                if let Some(last) = run.dispatches.last_mut() {
                    let unclaimed_ms = at.millis_since(since);
                    *last = if paused { Dispatch::Open { unclaimed_ms } } else { Dispatch::Ignored };
                }
            }
            Stage::Running { .. } => self.concluded(id, Live::handed_back),
            Stage::Waiting => {}
        }
    }

    fn stop_requested(&mut self, id: RunId, cause: &StopCause) {
        let at = self.at;
        if let StopCause::Cancel { by, reason } = cause {
            self.cancel(id, by, reason);
        }
        // A timeout counts from the claim, so the attempt would have been told the same at any other time.
        if let (Some((live, _)), StopCause::Cancel { .. } | StopCause::Deadline) = (self.of(id), cause) {
            live.stop = Some(at);
        }
    }

    /// What Laneway cancels by itself follows from something else.
    fn cancel(&mut self, run_id: RunId, by: &Actor, reason: &str) {
        if *by != Actor::runtime() {
            self.turn.asked.push(Asked::Cancel { run_id, actor: by.clone(), reason: reason.to_owned() });
        }
    }

    fn part(&mut self, id: RunId) {
        let (at, order) = (self.at, self.order);
        let messages = self.turn.said.remove(&id).unwrap_or_default();
        let Some((live, run)) = self.of(id) else { return };
        if let (Stage::Running { since }, Some(Dispatch::Claimed { attempt, .. })) =
            (live.stage, run.dispatches.last_mut())
        {
            attempt.parts.push(Part { after_ms: at.millis_since(since), order, messages });
        }
    }

    fn lost(&mut self, id: RunId) {
        let at = self.at;
        let Some((live, run)) = self.of(id) else { return };
        if let (Stage::Running { since }, Some(Dispatch::Claimed { attempt, .. })) =
            (live.stage, run.dispatches.last_mut())
        {
            attempt.end = AttemptEnd::Lost { after_ms: at.millis_since(since) };
            live.lost_since = Some(since);
        }
        live.stage = Stage::Waiting;
    }

    /// The attempt is over with what `outcome` says, unless it was before.
    fn concluded(&mut self, id: RunId, outcome: impl FnOnce(&mut Live) -> laneway_contract::Outcome) {
        let (at, order) = (self.at, self.order);
        let messages = self.turn.said.remove(&id).unwrap_or_default();
        let Some((live, run)) = self.of(id) else { return };
        let outcome = outcome(live);
        if let (Stage::Running { since }, Some(Dispatch::Claimed { attempt, .. })) =
            (live.stage, run.dispatches.last_mut())
        {
            let ran_ms = at.millis_since(since);
            attempt.end = match live.stop {
                Some(stopped) => {
                    let after_stop_ms = at.millis_since(stopped);
                    AttemptEnd::Stopped { ran_ms, after_stop_ms, order, messages, outcome }
                }
                None => AttemptEnd::Finished { after_ms: ran_ms, order, messages, outcome },
            };
        }
        live.stage = Stage::Waiting;
    }

    fn waits_for_person(&mut self, id: RunId) {
        let at = self.at;
        if let Some((live, _)) = self.of(id) {
            live.asked_at = Some(at);
        }
    }

    fn settled(&mut self, record: &RunRecord) {
        let id = record.run_id;
        let executed = self.live.get(&id).is_some_and(|live| matches!(live.stage, Stage::Running { .. }));
        self.leave_open(id);
        if executed {
            self.concluded(id, |live| live.settled(record));
        } else if matches!(record.status.state, JobState::Completed | JobState::CompletedWithIssues) {
            self.answered_late(record);
        } else if let Some(cancel) = record.status.cancel.as_ref().filter(|cancel| cancel.requested_at == self.at)
            && record.status.state == JobState::Cancelled
            && !self.turn.decided.contains(&id)
        {
            self.cancel(id, &cancel.by, &cancel.reason);
        }
        self.live.remove(&id);
        if let Some(live) = self.of_session.get_mut(&record.session_id) {
            *live = live.saturating_sub(1);
        }
    }

    /// A dispatch that nobody has taken ends with its run, or with the journal.
    fn leave_open(&mut self, id: RunId) {
        let at = self.at;
        let Some((live, run)) = self.of(id) else { return };
        if let (Stage::Dispatched { since }, Some(last)) = (live.stage, run.dispatches.last_mut()) {
            *last = Dispatch::Open { unclaimed_ms: at.millis_since(since) };
        }
    }

    /// A complete answer after the lease had ended: the attempt took until then.
    fn answered_late(&mut self, record: &RunRecord) {
        let (at, order) = (self.at, self.order);
        let messages = self.turn.said.remove(&record.run_id).unwrap_or_default();
        let Some((live, run)) = self.of(record.run_id) else { return };
        let Some(since) = live.lost_since else { return };
        let outcome = live.settled(record);
        let claimed = run.dispatches.iter_mut().rev().find_map(|dispatch| match dispatch {
            Dispatch::Claimed { attempt, .. } => Some(attempt),
            Dispatch::Ignored | Dispatch::Open { .. } => None,
        });
        if let Some(attempt) = claimed {
            attempt.end = AttemptEnd::Finished { after_ms: at.millis_since(since), order, messages, outcome };
        }
    }
}
