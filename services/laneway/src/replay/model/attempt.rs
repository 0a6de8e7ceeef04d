//! The workers of the model: each attempt does what the recorded one did, or what is typical.

use laneway_contract::{
    ATTEMPT_LEASE_MS, AttemptResult, Finish, MessageDraft, Outcome, RunId, Stop, StopCause, Timestamp, Usage,
};
use laneway_engine::{Claim, Command, Phase, Report};

use super::{LAST, Model, RENEWED, Step};
use crate::replay::workload::{Attempt, AttemptEnd, Dispatch, Order};

/// What the model keeps of a run that has not ended.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Decisions of persons that were carried out.
    pub(super) decisions: usize,
    plan: Option<Plan>,
}

/// What is left of an attempt.
#[derive(Debug)]
pub(super) struct Plan {
    epoch: u64,
    /// The recorded attempt, by the number of its dispatch; none for one of which nothing was recorded.
    nth: Option<usize>,
    /// When it ends; none when its worker is lost.
    ends_at: Option<Timestamp>,
    reports: u32,
    stopped: Option<Stop>,
}

impl Model<'_> {
    fn attempt(&self, run_id: RunId, nth: usize) -> Option<&Attempt> {
        match self.recorded(run_id)?.dispatches.get(nth)? {
            Dispatch::Claimed { attempt, .. } => Some(attempt),
            Dispatch::Ignored | Dispatch::Open { .. } => None,
        }
    }

    /// The pool takes a dispatch, as one worker that is called like it.
    pub(super) fn claim(&mut self, run_id: RunId, dispatch_no: u32) {
        let Some(Phase::Dispatched { pool, .. }) = self.state.run(run_id).map(|run| &run.phase) else { return };
        let worker_id = pool.clone();
        self.command(&Command::Claim(Claim { run_id, dispatch_no, worker_id, claim_id: u64::from(dispatch_no) }));
    }

    /// Plans the attempt.
    pub(super) fn claimed(&mut self, run_id: RunId, epoch: u64) {
        let Some(run) = self.state.run(run_id) else { return };
        let nth = run.dispatch_no as usize - 1;
        let typical = self.work.typical.attempt(&run.record.fields.model_id).0;
        let recorded = self.attempt(run_id, nth);
        let (takes_ms, order) = match recorded.map(|attempt| &attempt.end) {
            Some(AttemptEnd::Finished { after_ms, order, .. }) => (Some(*after_ms), *order),
            // It would have taken longer than it ran.
            Some(AttemptEnd::Stopped { ran_ms, order, .. }) => (Some(typical.max(*ran_ms)), *order),
            Some(AttemptEnd::Open { ran_ms }) => (Some(typical.max(*ran_ms)), LAST),
            Some(AttemptEnd::Lost { .. }) => (None, LAST),
            None => (Some(typical), LAST),
        };
        let lost_after = match recorded.map(|attempt| &attempt.end) {
            Some(AttemptEnd::Lost { after_ms }) => Some(*after_ms),
            Some(AttemptEnd::Finished { .. } | AttemptEnd::Stopped { .. } | AttemptEnd::Open { .. }) | None => None,
        };
        let parts: Vec<(u64, Order)> = recorded
            .map(|attempt| attempt.parts.iter().map(|part| (part.after_ms, part.order)).collect())
            .unwrap_or_default();
        let nth = recorded.is_some().then_some(nth);
        // The lease of a lost worker ends when it did; every other is renewed.
        let renewed = lost_after
            .map_or(RENEWED, |after_ms| self.now.plus_millis(after_ms as i64).plus_millis(-(ATTEMPT_LEASE_MS as i64)));
        self.hints.give_lease(run_id, epoch, renewed);
        for (part, (after_ms, order)) in parts.into_iter().enumerate() {
            self.schedule(after_ms, order, Step::Part { run_id, epoch, part });
        }
        let ends_at = takes_ms.map(|after_ms| self.now.plus_millis(after_ms as i64));
        if let Some(after_ms) = takes_ms {
            self.schedule(after_ms, order, Step::Finish { run_id, epoch });
        }
        let live = self.live.entry(run_id).or_default();
        live.plan = Some(Plan { epoch, nth, ends_at, reports: 0, stopped: None });
    }

    /// A cancel or a deadline ends the attempt sooner than by itself; a timeout it has felt when it was recorded.
    pub(super) fn told_to_stop(&mut self, run_id: RunId, cause: &StopCause) {
        let stop = match cause {
            StopCause::Cancel { .. } => Stop::Cancel,
            StopCause::Deadline => Stop::Timeout,
            StopCause::Timeout => return,
        };
        let Some(plan) = self.live.get(&run_id).and_then(|live| live.plan.as_ref()) else { return };
        let (epoch, nth) = (plan.epoch, plan.nth);
        let (after_ms, order) = match nth.and_then(|nth| self.attempt(run_id, nth)).map(|attempt| &attempt.end) {
            Some(AttemptEnd::Stopped { after_stop_ms, order, .. }) => (*after_stop_ms, *order),
            Some(AttemptEnd::Finished { .. } | AttemptEnd::Lost { .. } | AttemptEnd::Open { .. }) | None => (0, LAST),
        };
        let at = self.now.plus_millis(after_ms as i64);
        let Some(plan) = self.live.get_mut(&run_id).and_then(|live| live.plan.as_mut()) else { return };
        if plan.ends_at.is_some_and(|ends_at| at <= ends_at) {
            plan.ends_at = Some(at);
            plan.stopped = Some(stop);
            self.schedule(after_ms, order, Step::Finish { run_id, epoch });
        }
    }

    fn plan(&mut self, run_id: RunId, epoch: u64) -> Option<&mut Plan> {
        self.live.get_mut(&run_id)?.plan.as_mut().filter(|plan| plan.epoch == epoch)
    }

    /// A report before the last.
    pub(super) fn part(&mut self, run_id: RunId, epoch: u64, part: usize) {
        let Some(plan) = self.plan(run_id, epoch) else { return };
        let Some(nth) = plan.nth else { return };
        let Some(messages) =
            self.attempt(run_id, nth).and_then(|attempt| attempt.parts.get(part)).map(|part| part.messages.clone())
        else {
            return;
        };
        self.report(run_id, epoch, messages, None);
    }

    /// The last report, unless the end was moved forward and has been.
    pub(super) fn finish(&mut self, run_id: RunId, epoch: u64) {
        let now = self.now;
        let Some(plan) = self.plan(run_id, epoch) else { return };
        let (Some(ends_at), nth, stopped) = (plan.ends_at, plan.nth, plan.stopped) else { return };
        if now < ends_at {
            return;
        }
        plan.ends_at = None;
        let recorded = nth.and_then(|nth| self.attempt(run_id, nth)).map(|attempt| &attempt.end);
        let whole = AttemptResult::Completed { finish: Finish::Stop };
        let told = stopped.map(|stop| AttemptResult::Stopped { stop });
        let (messages, outcome) = match recorded {
            Some(AttemptEnd::Finished { messages, outcome, .. }) => {
                let result = told.unwrap_or_else(|| outcome.result.clone());
                (messages.clone(), Outcome { result, ..outcome.clone() })
            }
            Some(AttemptEnd::Stopped { messages, outcome, .. }) => {
                // One that nobody stops comes to an end.
                let result = if told.is_some() { outcome.result.clone() } else { whole };
                (messages.clone(), Outcome { result, ..outcome.clone() })
            }
            Some(AttemptEnd::Open { .. } | AttemptEnd::Lost { .. }) | None => {
                (Vec::new(), Outcome { result: told.unwrap_or(whole), ..self.typical(run_id) })
            }
        };
        self.report(run_id, epoch, messages, Some(outcome));
    }

    /// What an attempt comes to of which nothing was recorded.
    fn typical(&self, run_id: RunId) -> Outcome {
        let model = self.state.run(run_id).map(|run| &run.record.fields.model_id);
        let tokens = model.map_or(0, |model| self.work.typical.attempt(model).1);
        let usage = Usage { output_tokens: tokens, ..Usage::default() };
        let result = AttemptResult::Completed { finish: Finish::Stop };
        Outcome {
            result,
            usage,
            cost_usd: None,
            first_token_after_ms: None,
            told_after_ms: None,
            closed_after_ms: None,
            issues: Vec::new(),
        }
    }

    fn report(&mut self, run_id: RunId, epoch: u64, messages: Vec<MessageDraft>, outcome: Option<Outcome>) {
        let Some(plan) = self.plan(run_id, epoch) else { return };
        let report_no = plan.reports;
        plan.reports += 1;
        let report = Report { run_id, epoch, report_no, messages, artifacts: Vec::new(), outcome };
        self.command(&Command::Report(Box::new(report)));
    }
}
