//! Why a run waits: its place, what holds it, when it can start, and what would start it now.

use std::collections::BTreeMap;

use laneway_contract::{Counterfactual, Explanation, Hold, LimitName, Scope, Timestamp, WaitReason};

use crate::admit::Admission;
use crate::hints::Hints;
use crate::run::{Phase, Run};
use crate::state::State;

impl State {
    /// Explains a live run.
    #[must_use]
    pub fn explain(&self, run: &Run, hints: &Hints, now: Timestamp) -> Explanation {
        let admission = Admission::new(self, hints, now);
        let holds = admission.holds(run);
        let lane = run.record.fields.lane;
        let place = matches!(run.phase, Phase::Queued).then(|| self.place(run));
        let counterfactual = self.counterfactual(run, &holds, &admission, hints);
        Explanation {
            state: run.state(),
            lane,
            place,
            reason: holds.first().map_or(WaitReason::None, |hold| hold.reason),
            earliest_start: admission.earliest_start(run),
            summary: summary(run, place, &holds, counterfactual.as_ref()),
            counterfactual,
            holds,
        }
    }

    /// Runs of its lane that would go before it, and itself: all that are more urgent, then turn by turn.
    fn place(&self, run: &Run) -> u64 {
        let level = (run.record.fields.lane, run.record.fields.priority);
        let nth = self.turns.before_in_key(run.turn, run.place());
        1 + self.turns.more_urgent(level) + self.turns.ahead(run.turn, nth)
    }

    /// One more slot of each limit that holds the run, if that starts it.
    fn counterfactual(
        &self,
        run: &Run,
        holds: &[Hold],
        admission: &Admission<'_>,
        hints: &Hints,
    ) -> Option<Counterfactual> {
        if !matches!(run.phase, Phase::Queued) || holds.is_empty() {
            return None;
        }
        let mut changes = BTreeMap::new();
        let mut limits = self.limits.clone();
        for hold in holds {
            let name = limit_of(hold)?;
            // A lane that is not PRIMARY needs as much more as leaves it one slot beside the reserve.
            let gauge = self.slots.all().find(|gauge| gauge.what.to_string() == hold.name)?;
            let mut gauge = gauge.clone();
            while gauge.is_full(run.record.fields.lane) {
                gauge.limit = Some(gauge.limit?.checked_add(1)?);
            }
            let value = u64::from(gauge.limit?);
            limits.set(name, Some(value));
            changes.insert(hold.name.clone(), value);
        }
        let mut slots = self.slots.clone();
        slots.relimit(&limits);
        let chosen = admission.under(&slots, &limits, hints).choose().next?;
        if chosen.run != run.record.run_id {
            return None;
        }
        let parts: Vec<String> = changes.iter().map(|(name, value)| format!("{name} at {value}")).collect();
        let text = format!("with {} it would start now", parts.join(" and "));
        Some(Counterfactual { changes, text })
    }
}

/// The limit that a hold is about, if it is one of concurrency.
fn limit_of(hold: &Hold) -> Option<LimitName> {
    match hold.reason {
        WaitReason::Global => Some(LimitName::Global),
        WaitReason::Provider | WaitReason::Model => Scope::parse(&hold.name).ok().map(LimitName::Scope),
        WaitReason::Group => hold.name.strip_prefix("group:").map(|name| LimitName::Group(name.to_owned())),
        WaitReason::None
        | WaitReason::SessionBusy
        | WaitReason::Paused
        | WaitReason::RequestsPerMinute
        | WaitReason::TokensPerMinute
        | WaitReason::CoolDown
        | WaitReason::Budget
        | WaitReason::NotBefore
        | WaitReason::Turn
        | WaitReason::RetryBackoff
        | WaitReason::NoWorker
        | WaitReason::WorkersBusy => None,
    }
}

fn summary(run: &Run, place: Option<u64>, holds: &[Hold], counterfactual: Option<&Counterfactual>) -> String {
    let lane = run.record.fields.lane;
    let mut text = match (&run.phase, place) {
        (_, Some(place)) => format!("number {place} in {lane}"),
        (Phase::Dispatched { .. }, _) => "dispatched: waits for a worker of its pool to claim it".to_owned(),
        (Phase::Running { .. }, _) => "executing".to_owned(),
        (Phase::Stalled, _) => {
            "stalled: its worker was lost after a tool was called; decide with runs.decide".to_owned()
        }
        (Phase::AwaitingUser, _) => "waits for a person's approval: decide with runs.decide".to_owned(),
        (Phase::Delayed { .. } | Phase::Backoff { .. } | Phase::Queued, None) => format!("not queued in {lane} yet"),
    };
    if !holds.is_empty() {
        let held: Vec<String> = holds.iter().map(describe).collect();
        text = format!("{text}; held by {}", held.join(", "));
    }
    if let Some(counterfactual) = counterfactual {
        text = format!("{text}; {}", counterfactual.text);
    }
    text
}

fn describe(hold: &Hold) -> String {
    let mut text = format!("{} ({}", hold.reason, hold.name);
    if let (Some(level), Some(limit)) = (hold.level, hold.limit) {
        text = match hold.reason {
            WaitReason::RequestsPerMinute | WaitReason::TokensPerMinute | WaitReason::Budget => {
                format!("{text}: {level} left, {} needed", hold.needs.unwrap_or(1))
            }
            WaitReason::None
            | WaitReason::SessionBusy
            | WaitReason::Paused
            | WaitReason::Global
            | WaitReason::Provider
            | WaitReason::Model
            | WaitReason::Group
            | WaitReason::CoolDown
            | WaitReason::NotBefore
            | WaitReason::Turn
            | WaitReason::RetryBackoff
            | WaitReason::NoWorker
            | WaitReason::WorkersBusy => format!("{text}: {level} of {limit} taken"),
        };
    }
    if let Some(until) = hold.until {
        text = format!("{text}, until {until}");
    }
    text + ")"
}
