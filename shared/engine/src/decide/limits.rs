//! Limits and budgets.

use std::collections::BTreeSet;

use laneway_contract::{ApiError, BudgetOwner, ErrorCode, Event, LimitChange, Limits};

use super::open;
use crate::command::{LimitsChange, SetBudget, SetLimits};
use crate::state::State;

impl State {
    pub(super) fn set_limits(&self, command: &SetLimits) -> Result<Vec<Event>, ApiError> {
        let (limits, mut events) = match &command.change {
            LimitsChange::Configured(limits) if self.configured.as_ref() == Some(&**limits) => return Ok(Vec::new()),
            LimitsChange::Configured(limits) => {
                ((**limits).clone(), vec![Event::LimitsConfigured { limits: (**limits).clone() }])
            }
            LimitsChange::Single(changes) => {
                let mut limits = self.limits.clone();
                for (name, value) in changes {
                    limits.set(name.clone(), *value);
                }
                (limits, Vec::new())
            }
        };
        limits.check().map_err(|reason| ApiError::new(ErrorCode::BadRequest, reason))?;
        let changes = self.differences(&limits);
        if !changes.is_empty() {
            events.push(Event::LimitsChanged { changes, changed_by: command.actor.clone() });
        }
        Ok(events)
    }

    fn differences(&self, limits: &Limits) -> Vec<LimitChange> {
        let (old, new) = (self.limits.by_name(), limits.by_name());
        let names: BTreeSet<_> = old.keys().chain(new.keys()).cloned().collect();
        let changes = names.into_iter().map(|name| LimitChange {
            from: old.get(&name).copied(),
            to: new.get(&name).copied(),
            name,
        });
        changes.filter(|change| change.from != change.to).collect()
    }

    pub(super) fn set_budget(&self, command: &SetBudget) -> Result<Vec<Event>, ApiError> {
        let account = match &command.owner {
            BudgetOwner::Session(id) => self.known(*id)?.budget,
            BudgetOwner::WorkPacket(id) => self.work_packet_budget(id),
        };
        let (tokens, usd) = account.lines();
        if (tokens.limit, usd.limit) == (command.tokens, command.usd) {
            return Ok(Vec::new());
        }
        if let BudgetOwner::Session(id) = &command.owner {
            open(self.known(*id)?)?;
        }
        Ok(vec![Event::BudgetSet {
            owner: command.owner.clone(),
            tokens: command.tokens,
            usd: command.usd,
            tokens_before: tokens.limit,
            usd_before: usd.limit,
            changed_by: command.actor.clone(),
        }])
    }
}
