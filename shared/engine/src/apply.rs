//! The fold: one event after the other, deciding nothing.

use laneway_contract::{
    CancelReceipt, CoolDown, Event, MessageRecord, RunId, RunRecord, Scope, SessionId, StopCause, Timestamp,
};

use crate::admit::bit;
use crate::digest::{Hashed, Key};
use crate::queue::ClassName;
use crate::run::{EndedRun, Phase, Requeued, Run, Taken};
use crate::session::{AppendKey, Seat, Session};
use crate::state::{State, tokens_of};

impl State {
    /// Folds one event that was decided at `at`.
    pub fn apply(&mut self, event: &Event, at: Timestamp) {
        self.at = at;
        match event {
            Event::HashKeyCreated { key } => self.hash_key = Some(key.clone()),
            Event::LimitsChanged { changes, .. } => {
                let mut limits = self.limits.clone();
                for change in changes {
                    limits.set(change.name.clone(), change.to);
                }
                self.rates.relimit(&self.limits, &limits, at);
                self.slots.relimit(&limits);
                self.limits = limits;
                self.quiet = false;
            }
            Event::LimitsConfigured { limits } => self.configured = Some(limits.clone()),
            Event::BudgetSet { owner, tokens, usd, .. } => {
                self.change_account(owner, |account| account.set(*tokens, *usd));
            }
            Event::BudgetWarned { owner, budget_type, .. } => {
                self.change_account(owner, |account| account.warned(*budget_type));
            }
            Event::CoolDownChanged { scope, cool_down } => self.set_cool_down(scope, *cool_down),
            Event::StateDigest { .. }
            | Event::SnapshotTaken(_)
            | Event::IncidentNoted(_)
            | Event::ArtifactStored(_) => {}
            Event::SessionsEvicted { number, sessions } => self.evict(*number, sessions),
            Event::SessionLoaded { session, record, .. } => self.load(session, record),
            Event::KeysEvicted { number, before } => self.drop_keys(*number, *before),
            Event::RunsForgotten { before } => self.drop_runs(*before),
            Event::SessionCreated { .. }
            | Event::SessionStateChanged { .. }
            | Event::SessionTouched { .. }
            | Event::SessionPauseSet { .. }
            | Event::SessionEndRequested { .. }
            | Event::MessageAppended(_)
            | Event::AppendKeyTaken { .. } => self.apply_to_session(event, at),
            Event::RunQueued { .. }
            | Event::RunDispatched { .. }
            | Event::RunReturned { .. }
            | Event::RunClaimed { .. }
            | Event::RunStopRequested { .. }
            | Event::ReportTaken { .. }
            | Event::LeaseExpired { .. }
            | Event::LateAnswerTaken { .. }
            | Event::RunRateLimited { .. }
            | Event::RunRetryScheduled { .. }
            | Event::RunStalled { .. }
            | Event::RunParked { .. }
            | Event::RunDecided { .. }
            | Event::RunSettled { .. } => self.apply_to_run(event, at),
        }
    }

    fn set_cool_down(&mut self, scope: &Scope, cool_down: Option<CoolDown>) {
        match cool_down {
            Some(cool_down) => drop(self.cool_downs.insert(scope.clone(), cool_down)),
            None => drop(self.cool_downs.remove(scope)),
        }
        self.quiet = false;
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`apply` has matched exhaustively")]
    fn apply_to_session(&mut self, event: &Event, at: Timestamp) {
        if let Event::SessionCreated { session, fingerprint } = event {
            let parent = session.fields.parent_session_id.and_then(|parent| self.sessions.get(&parent));
            let root = parent.map_or(session.session_id, |parent| parent.root);
            self.hold(Session::new((**session).clone(), *fingerprint, root));
            return;
        }
        let Some(id) = event.session_id() else { return };
        if let Event::AppendKeyTaken { key, .. } = event {
            self.forgotten.keys_taken += 1;
            self.givable.keys.insert(self.forgotten.keys_taken, (id, key.clone()));
        }
        let number = self.forgotten.keys_taken;
        self.change_session(id, |session| match event {
            Event::SessionStateChanged { status, .. } | Event::SessionTouched { status, .. } => {
                session.status = status.clone();
            }
            Event::SessionPauseSet { paused, reason, .. } => session.paused = paused.then(|| reason.clone()),
            Event::SessionEndRequested { end, reason, .. } => session.ending = Some((*end, reason.clone())),
            Event::MessageAppended(message) => {
                session.tail = message.seq;
                session.last_message_at = Some(at);
                if message.finish.is_none_or(laneway_contract::Finish::in_later_windows) {
                    let tokens = tokens_of(message.token_count, message.size);
                    session.window_tokens = session.window_tokens.saturating_add(tokens);
                }
            }
            Event::AppendKeyTaken { key, fingerprint, first_seq, last_seq, .. } => {
                let (first_seq, last_seq) = (*first_seq, *last_seq);
                let taken = AppendKey { fingerprint: *fingerprint, first_seq, last_seq, number, taken_at: at };
                session.keys.insert(key.clone(), taken);
            }
            _ => {}
        });
        if let Event::MessageAppended(message) = event {
            self.produced(message);
        }
        let Some(session) = self.sessions.get(&id) else { return };
        if session.status.state.is_terminal() {
            let parent = session.creation.fields.parent_session_id;
            self.ending_sessions.remove(&id);
            self.unlist(id, parent);
        } else if session.ending.is_some() && session.has_runs() {
            self.ending_sessions.insert(id);
        }
    }

    /// A message of an attempt belongs to its run, which remembers the tool calls that nobody has answered.
    fn produced(&mut self, message: &MessageRecord) {
        let (Some(run_id), Some(_)) = (message.run_id, message.attempt) else { return };
        self.change_run(run_id, |run| {
            run.produced(message.message_id, message.role, message.tool_call_id.as_deref());
        });
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`apply` has matched exhaustively")]
    fn apply_to_run(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::RunQueued { run, fingerprint, estimate } => self.queue_run(run, *fingerprint, *estimate),
            Event::RunSettled { run, reports, .. } => self.settle_run(run, *reports, at),
            Event::RunDispatched { run_id, dispatch_no, pool, claim_by, lane, queue_wait_ms, reserved, .. } => {
                self.queues.lanes.took(*lane, &self.limits);
                self.take_turn(*run_id);
                self.take_reservation(*run_id, *reserved, at);
                self.change_run(*run_id, |run| {
                    run.dispatch_no = *dispatch_no;
                    run.phase = Phase::Dispatched { pool: pool.clone(), claim_by: *claim_by };
                    run.record.status.dispatched_at = Some(at);
                    run.record.status.queue_wait_ms.get_or_insert(*queue_wait_ms);
                });
            }
            Event::RunReturned { run_id, reports, .. } => {
                self.release(*run_id, None, at);
                self.change_run(*run_id, |run| {
                    if matches!(run.phase, Phase::Running { .. }) {
                        run.reports = *reports;
                        // What was to go on after an approval still is; as the same attempt it counts once anyway.
                        if run.record.status.approval_id.is_some() {
                            run.decided = Some(Requeued::GoOn);
                        } else {
                            run.uncounted += 1;
                        }
                    }
                    run.phase = Phase::Queued;
                });
            }
            Event::RunClaimed { run_id, session_id, epoch, .. } => {
                self.last_epoch = self.last_epoch.max(*epoch);
                self.charged.remove(run_id);
                self.change_session(*session_id, |session| session.ever_claimed = true);
                self.change_run(*run_id, |run| claimed(run, event, at));
            }
            Event::RunStopRequested { run_id, cause, .. } => self.change_run(*run_id, |run| {
                if let StopCause::Cancel { by, reason } = cause {
                    run.record.status.cancel = Some(Box::new(CancelReceipt::requested(by.clone(), reason.clone(), at)));
                }
                if let Phase::Running { stop, .. } = &mut run.phase {
                    *stop = Some(Box::new(cause.clone()));
                }
            }),
            Event::ReportTaken { run_id, report_no, .. } => {
                self.change_run(*run_id, |run| run.reports = report_no + 1);
            }
            Event::LeaseExpired { run_id, .. } => {
                self.lose(*run_id);
                self.change_run(*run_id, |run| run.lost += 1);
            }
            Event::RunRateLimited { run_id, cause, .. } => {
                self.change_run(*run_id, |run| run.rates_recorded |= bit(*cause));
            }
            Event::RunRetryScheduled { run_id, error, usage, cost_usd, reports, not_before, .. } => {
                self.used(*run_id, usage, *cost_usd, at);
                self.change_run(*run_id, |run| {
                    run.reports = *reports;
                    run.phase = Phase::Backoff { until: *not_before };
                    run.record.status.error = Some(Box::new(error.clone()));
                    run.record.status.usage = *usage;
                    run.record.status.cost_usd = *cost_usd;
                });
            }
            Event::RunStalled { run_id, usage, cost_usd, reports, .. } => {
                self.used(*run_id, usage, *cost_usd, at);
                self.change_run(*run_id, |run| {
                    run.reports = *reports;
                    run.phase = Phase::Stalled;
                    run.record.status.usage = *usage;
                    run.record.status.cost_usd = *cost_usd;
                });
            }
            Event::RunParked { run_id, approval_id, usage, cost_usd, reports, .. } => {
                self.used(*run_id, usage, *cost_usd, at);
                self.change_run(*run_id, |run| {
                    run.reports = *reports;
                    run.phase = Phase::AwaitingUser;
                    run.record.status.usage = *usage;
                    run.record.status.cost_usd = *cost_usd;
                    run.record.status.approval_id = Some(approval_id.clone());
                });
            }
            Event::RunDecided { run_id, decision, .. } => self.change_run(*run_id, |run| decided(run, *decision)),
            _ => {}
        }
    }

    fn queue_run(
        &mut self,
        record: &RunRecord,
        fingerprint: laneway_contract::Fingerprint,
        estimate: laneway_contract::Estimate,
    ) {
        self.last_order += 1;
        let fields = &record.fields;
        let name =
            ClassName { lane: fields.lane, model: fields.model_id.clone(), group: fields.concurrency_group.clone() };
        let class = self.queues.join(name, &mut self.slots, &self.limits);
        let turn = self.turns.join((fields.lane, fields.priority), &fields.fairness_key, &mut self.digests);
        let late = fields.not_before.filter(|until| *until > record.status.submitted_at);
        let run = Run {
            record: Box::new(record.clone()),
            phase: late.map_or(Phase::Queued, |until| Phase::Delayed { until }),
            order: self.last_order,
            dispatch_no: 0,
            upto_seq: None,
            reports: 0,
            past_reports: Vec::new(),
            uncounted: 0,
            lost: 0,
            rates_recorded: 0,
            fingerprint,
            estimate,
            reserved: Taken::default(),
            unknown: Taken::default(),
            called_tool: false,
            decided: None,
            class,
            turn,
            hashed: Hashed::default(),
        };
        let id = record.run_id;
        if let Some(token) = &fields.cancellation_token {
            self.by_token.entry(token.clone()).or_default().insert(id);
        }
        self.runs.insert(id, run);
        self.live_runs.insert(id);
        let replaces = fields.on_busy == laneway_contract::OnBusy::ReplaceQueued;
        let order = self.last_order;
        self.change_session(record.session_id, |session| {
            session.ever_queued = true;
            if replaces && session.queued() > 0 {
                session.replaced_below = order;
            }
        });
        self.index_run(id);
        self.look_at_replaced(record.session_id);
    }

    fn settle_run(&mut self, record: &RunRecord, reports: u32, at: Timestamp) {
        let id = record.run_id;
        self.used(id, &record.status.usage, record.status.cost_usd, at);
        self.unindex_run(id);
        let Some(mut run) = self.runs.remove(&id) else { return };
        self.live_runs.remove(&id);
        self.charged.remove(&id);
        self.digests.touch(&mut run.hashed, || Key::Run(id));
        self.turns.leave(run.turn, &mut self.digests);
        self.queues.leave(run.class, &mut self.slots);
        if let Some(token) = &run.record.fields.cancellation_token
            && let Some(runs) = self.by_token.get_mut(token)
        {
            runs.remove(&id);
            if runs.is_empty() {
                self.by_token.remove(token);
            }
        }
        let mut taken = run.past_reports;
        taken.push((record.status.epoch, reports));
        self.forgotten.runs_ended += 1;
        self.givable.runs.push_back(id);
        let ended = EndedRun {
            number: self.forgotten.runs_ended,
            run_id: id,
            session_id: record.session_id,
            state: record.status.state,
            reports: taken,
            ended_at: at,
            fingerprint: run.fingerprint,
        };
        self.ended.insert(id, ended);
        self.change_session(record.session_id, |session| {
            session.total_tokens += record.status.usage.total();
            session.total_cost.0 += record.status.cost_usd.unwrap_or_default().0;
            if let Some(end) = session.end_after(record.status.state) {
                session.ending = Some((end, format!("its run is {}", record.status.state)));
            }
        });
        self.look_at_replaced(record.session_id);
    }

    /// Whether runs of a session still have to give way to one that replaces them.
    fn look_at_replaced(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.replaced_below == 0 {
            return;
        }
        if self.replaced_run(session).is_some() {
            self.replacing_sessions.insert(id);
        } else {
            self.replacing_sessions.remove(&id);
            self.change_session(id, |session| session.replaced_below = 0);
        }
    }

    /// A waiting run of a session that gives way to a newer one.
    pub(crate) fn replaced_run(&self, session: &Session) -> Option<&Run> {
        let below = session.replaced_below;
        let seated = session.queue.iter().filter(|(seat, _)| !matches!(seat, Seat::Decided(_))).map(|(_, id)| id);
        let waiting = session.delayed.values().chain(seated);
        waiting.filter_map(|id| self.runs.get(id)).find(|run| run.order < below)
    }

    /// The run's key takes a turn.
    fn take_turn(&mut self, id: RunId) {
        let Some(run) = self.runs.get(&id) else { return };
        self.turns.touch(run.turn, &mut self.digests);
        self.queues.serve(run.record.fields.priority, run.turn, &mut self.turns);
    }
}

fn claimed(run: &mut Run, event: &Event, at: Timestamp) {
    let Event::RunClaimed { attempt, epoch, worker_id, claim_id, upto_seq, stop_at, .. } = event else { return };
    if run.record.status.epoch > 0 {
        run.past_reports.push((run.record.status.epoch, run.reports));
    }
    run.phase = Phase::Running { worker_id: worker_id.clone(), claim_id: *claim_id, stop_at: *stop_at, stop: None };
    run.upto_seq = Some(*upto_seq);
    run.reports = 0;
    run.unknown = Taken::default();
    // What goes on after an approval is the same attempt, with the tools that it has called.
    let goes_on = run.decided.take() == Some(Requeued::GoOn);
    if !goes_on {
        run.called_tool = false;
        run.record.status.pending_tool_call_ids.clear();
        run.record.status.approval_id = None;
    }
    let status = &mut run.record.status;
    status.attempt = *attempt;
    status.epoch = *epoch;
    status.started_at.get_or_insert(at);
    status.worker_id = Some(worker_id.clone());
}

/// Only a decision that goes on changes the run here; the others end it in the event behind.
fn decided(run: &mut Run, decision: laneway_contract::Decision) {
    use laneway_contract::Decision;
    run.decided = match decision {
        Decision::Approve => Some(Requeued::GoOn),
        Decision::Retry => Some(Requeued::Again),
        Decision::Fail | Decision::Cancel => return,
    };
    run.phase = Phase::Queued;
    if decision == Decision::Retry {
        run.record.status.approval_id = None;
    }
}
