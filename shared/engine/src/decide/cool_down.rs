//! Cool-down: what the answers of a provider mean for the other runs of it.
//!
//! A circuit breaker (Nygard, Release It!, 2007) with a slow start: a refusal with 429 holds all runs of the model for as
//! long as the provider asks, several server errors in a row hold all runs of the provider, and then one run goes ahead,
//! two after its success, four after those, so that what has waited does not come back all at once.

use laneway_contract::{
    AttemptResult, COOL_DOWN_AFTER, CoolDown, ErrorClass, Event, MAX_COOL_DOWN_MS, Outcome, Scope, Timestamp,
};

use crate::admit::scopes;
use crate::run::Run;
use crate::state::State;

impl State {
    /// What the result of an attempt changes for the runs of its provider and model.
    pub(super) fn cool_down(&self, run: &Run, outcome: &Outcome, now: Timestamp) -> Vec<Event> {
        let [provider, model] = scopes(&run.record.fields.model_id);
        // An answer that came without a call, as when the prompt alone is over the run's budget, says nothing.
        let called = outcome.usage.total() > 0 || outcome.first_token_after_ms.is_some();
        match &outcome.result {
            AttemptResult::Failed { error } if error.class == ErrorClass::RateLimit => {
                let wait_ms = error.retry_after_ms.unwrap_or_else(|| run.backoff_ms(None));
                let until = now.plus_millis(wait_ms as i64);
                let known = self.cool_downs.get(&model);
                // Several runs that were under way together are refused together: the longest wait counts.
                let until = known.map_or(until, |known| known.until.max(until));
                let failures = known.map_or(0, |known| known.failures) + 1;
                vec![changed(model, Some(CoolDown { until, allowed: Some(1), failures }))]
            }
            AttemptResult::Failed { error } if error.class == ErrorClass::Server => {
                let known = self.cool_downs.get(&provider);
                let failures = known.map_or(0, |known| known.failures) + 1;
                let in_a_row = failures.checked_sub(COOL_DOWN_AFTER);
                let stepped = in_a_row.map(|more| (1_000_u64 << more.min(6)).min(MAX_COOL_DOWN_MS));
                let cool_down = match stepped.max(error.retry_after_ms) {
                    None => CoolDown {
                        failures,
                        ..known.copied().unwrap_or(CoolDown { until: now, allowed: None, failures })
                    },
                    Some(wait_ms) => {
                        let until = now.plus_millis(wait_ms as i64);
                        let until = known.map_or(until, |known| known.until.max(until));
                        CoolDown { until, allowed: Some(1), failures }
                    }
                };
                vec![changed(provider, Some(cool_down))]
            }
            AttemptResult::Completed { .. } if called => {
                let open = |scope| self.cool_downs.get(&scope).and_then(|known| self.opened(run, scope, *known));
                [provider, model].into_iter().filter_map(open).collect()
            }
            AttemptResult::Failed { .. }
            | AttemptResult::Completed { .. }
            | AttemptResult::Stopped { .. }
            | AttemptResult::AwaitingApproval { .. }
            | AttemptResult::HandedBack => Vec::new(),
        }
    }

    /// A success lets twice as many go, until that is as many as the limit does.
    fn opened(&self, run: &Run, scope: Scope, known: CoolDown) -> Option<Event> {
        let Some(allowed) = known.allowed else { return Some(changed(scope, None)) };
        // One that was under way when the others were refused says nothing about what comes after.
        if run.record.status.dispatched_at.is_none_or(|at| at < known.until) {
            return None;
        }
        let limit = match &scope {
            Scope::Provider(name) => self.limits.provider(name),
            Scope::Model(id) => self.limits.model(id),
        };
        let allowed = allowed.saturating_mul(2);
        Some(changed(scope, (allowed < limit).then_some(CoolDown { allowed: Some(allowed), ..known })))
    }
}

fn changed(scope: Scope, cool_down: Option<CoolDown>) -> Event {
    Event::CoolDownChanged { scope, cool_down }
}
