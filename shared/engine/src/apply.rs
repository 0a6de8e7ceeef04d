//! The fold: one event after the other, deciding nothing.

use laneway_contract::{Event, RunId, SessionId, StopCause, Timestamp};

use crate::decide::receipt;
use crate::queue::class_of;
use crate::run::{EndedRun, Phase, Run};
use crate::session::{AppendKey, Session};
use crate::state::State;

impl State {
    /// Folds one event that was decided at `at`.
    pub fn apply(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::HashKeyCreated { key } => self.hash_key = Some(key.clone()),
            Event::LimitsChanged { limits, .. } => self.limits = limits.clone(),
            Event::StateDigest { .. } | Event::ArtifactStored(_) => {}
            Event::SessionCreated { .. }
            | Event::SessionStateChanged { .. }
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
            | Event::RunRateLimited { .. }
            | Event::RunRetryScheduled { .. }
            | Event::RunSettled { .. } => self.apply_to_run(event, at),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`apply` has matched exhaustively")]
    fn apply_to_session(&mut self, event: &Event, at: Timestamp) {
        if let Event::SessionCreated { session, fingerprint } = event {
            let id = session.session_id;
            if let Some(parent) = session.fields.parent_session_id {
                self.change_session(parent, |parent| {
                    parent.children.insert(id);
                });
            }
            self.sessions.insert(id, Session::new((**session).clone(), *fingerprint));
            self.live_sessions.insert(id);
            self.digests.touch_session(id);
            return;
        }
        let Some(id) = event.session_id() else { return };
        self.change_session(id, |session| match event {
            Event::SessionStateChanged { status, .. } => session.status = status.clone(),
            Event::SessionPauseSet { paused, reason, .. } => session.paused = paused.then(|| reason.clone()),
            Event::SessionEndRequested { end, reason, .. } => session.ending = Some((*end, reason.clone())),
            Event::MessageAppended(message) => {
                session.tail = message.seq;
                session.last_message_at = Some(at);
            }
            Event::AppendKeyTaken { key, fingerprint, first_seq, last_seq, .. } => {
                let taken = AppendKey { fingerprint: *fingerprint, first_seq: *first_seq, last_seq: *last_seq };
                session.keys.insert(key.clone(), taken);
            }
            _ => {}
        });
        if let Event::MessageAppended(message) = event
            && let (Some(run_id), Some(_)) = (message.run_id, message.attempt)
        {
            self.change_run(run_id, |run| run.record.status.output_message_ids.push(message.message_id));
        }
        let Some(session) = self.sessions.get(&id) else { return };
        if session.status.state.is_terminal() {
            self.live_sessions.remove(&id);
            self.ending_sessions.remove(&id);
            if let Some(parent) = session.creation.fields.parent_session_id {
                self.change_session(parent, |parent| {
                    parent.children.remove(&id);
                });
            }
        } else if session.ending.is_some() && session.has_runs() {
            self.ending_sessions.insert(id);
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`apply` has matched exhaustively")]
    fn apply_to_run(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::RunQueued { run, fingerprint } => self.queue_run(run, *fingerprint),
            Event::RunSettled { run, reports, .. } => self.settle_run(run, *reports, at),
            Event::RunDispatched { run_id, dispatch_no, pool, claim_by, lane, queue_wait_ms, .. } => {
                self.queues.took(*lane);
                self.change_run(*run_id, |run| {
                    run.dispatch_no = *dispatch_no;
                    run.phase = Phase::Dispatched { pool: pool.clone(), claim_by: *claim_by };
                    run.record.status.dispatched_at = Some(at);
                    run.record.status.queue_wait_ms.get_or_insert(*queue_wait_ms);
                });
            }
            Event::RunReturned { run_id, .. } => self.change_run(*run_id, |run| {
                if matches!(run.phase, Phase::Running { .. }) {
                    run.uncounted += 1;
                }
                run.phase = Phase::Queued;
            }),
            Event::RunClaimed {
                run_id, attempt, epoch, worker_id, claim_id, upto_seq, stop_at, session_id, ..
            } => {
                self.last_epoch = self.last_epoch.max(*epoch);
                self.change_session(*session_id, |session| session.ever_claimed = true);
                self.change_run(*run_id, |run| {
                    run.phase = Phase::Running {
                        worker_id: worker_id.clone(),
                        claim_id: *claim_id,
                        stop_at: *stop_at,
                        stop: None,
                    };
                    run.upto_seq = Some(*upto_seq);
                    run.reports = 0;
                    let status = &mut run.record.status;
                    status.attempt = *attempt;
                    status.epoch = *epoch;
                    status.started_at.get_or_insert(at);
                    status.worker_id = Some(worker_id.clone());
                });
            }
            Event::RunStopRequested { run_id, cause, .. } => self.change_run(*run_id, |run| {
                if let StopCause::Cancel { by, reason } = cause {
                    run.record.status.cancel = Some(receipt(by, reason, at));
                }
                if let Phase::Running { stop, .. } = &mut run.phase {
                    *stop = Some(cause.clone());
                }
            }),
            Event::ReportTaken { run_id, report_no, .. } => {
                self.change_run(*run_id, |run| run.reports = report_no + 1);
            }
            Event::LeaseExpired { run_id, .. } => self.change_run(*run_id, |run| run.lost += 1),
            Event::RunRateLimited { run_id, .. } => self.change_run(*run_id, |run| run.rate_recorded = true),
            Event::RunRetryScheduled { run_id, error, usage, cost_usd, reports, not_before, .. } => {
                self.change_run(*run_id, |run| {
                    run.reports = *reports;
                    run.phase = Phase::Backoff { until: *not_before };
                    run.record.status.error = Some(error.clone());
                    run.record.status.usage = *usage;
                    run.record.status.cost_usd = *cost_usd;
                });
            }
            _ => {}
        }
    }

    fn queue_run(&mut self, record: &laneway_contract::RunRecord, fingerprint: laneway_contract::Fingerprint) {
        self.last_order += 1;
        let run = Run {
            record: record.clone(),
            phase: Phase::Queued,
            order: self.last_order,
            dispatch_no: 0,
            upto_seq: None,
            reports: 0,
            uncounted: 0,
            lost: 0,
            rate_recorded: false,
            fingerprint,
        };
        let id = record.run_id;
        if let Some(token) = &record.fields.cancellation_token {
            self.by_token.entry(token.clone()).or_default().insert(id);
        }
        self.runs.insert(id, run);
        self.change_session(record.session_id, |session| session.ever_queued = true);
        self.index_run(id);
    }

    fn settle_run(&mut self, record: &laneway_contract::RunRecord, reports: u32, at: Timestamp) {
        let id = record.run_id;
        self.unindex_run(id);
        let Some(run) = self.runs.remove(&id) else { return };
        if let Some(token) = &run.record.fields.cancellation_token
            && let Some(runs) = self.by_token.get_mut(token)
        {
            runs.remove(&id);
            if runs.is_empty() {
                self.by_token.remove(token);
            }
        }
        let ended = EndedRun {
            run_id: id,
            session_id: record.session_id,
            state: record.status.state,
            epoch: record.status.epoch,
            reports,
            ended_at: at,
            fingerprint: run.fingerprint,
        };
        self.ended.insert(id, ended);
        self.digests.touch_run(id);
        self.change_session(record.session_id, |session| {
            session.total_tokens += record.status.usage.total();
            session.total_cost.0 += record.status.cost_usd.unwrap_or_default().0;
            if let Some(end) = session.end_after(record.status.state) {
                session.ending = Some((end, format!("its run is {}", record.status.state)));
            }
        });
    }

    /// Changes a run, keeping every index in step.
    fn change_run(&mut self, id: RunId, change: impl FnOnce(&mut Run)) {
        self.unindex_run(id);
        if let Some(run) = self.runs.get_mut(&id) {
            change(run);
            run.record.status.state = run.state();
        }
        self.index_run(id);
    }

    fn index_run(&mut self, id: RunId) {
        let Some(run) = self.runs.get(&id) else { return };
        self.slots.add(run);
        if let Some(due) = run.due() {
            self.due.insert((due, id));
        }
        let (session_id, order, lane) = (run.record.session_id, run.order, run.record.fields.lane);
        let waits = matches!(run.phase, Phase::Queued);
        if waits {
            self.queues.count(lane, 1);
        }
        self.digests.touch_run(id);
        self.change_session(session_id, |session| {
            if waits {
                session.queue.insert(order, id);
            } else {
                session.current = Some(id);
            }
        });
    }

    fn unindex_run(&mut self, id: RunId) {
        let Some(run) = self.runs.get(&id) else { return };
        self.slots.remove(run);
        if let Some(due) = run.due() {
            self.due.remove(&(due, id));
        }
        let (session_id, order, lane) = (run.record.session_id, run.order, run.record.fields.lane);
        let waited = matches!(run.phase, Phase::Queued);
        if waited {
            self.queues.count(lane, -1);
        }
        self.change_session(session_id, |session| {
            if waited {
                session.queue.remove(&order);
            } else if session.current == Some(id) {
                session.current = None;
            }
        });
    }

    /// Changes a session, keeping its head in the queues in step.
    fn change_session(&mut self, id: SessionId, change: impl FnOnce(&mut Session)) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let before = session.head();
        change(session);
        let after = session.head();
        self.digests.touch_session(id);
        if before == after {
            return;
        }
        for (head, insert) in [(before, false), (after, true)] {
            let Some((order, run_id)) = head else { continue };
            let Some(run) = self.runs.get(&run_id) else { continue };
            let (class, place) = (class_of(&run.record.fields), (run.record.fields.priority, order));
            if insert {
                self.queues.insert(class, place, run_id);
            } else {
                self.queues.remove(&class, place);
            }
        }
    }
}
