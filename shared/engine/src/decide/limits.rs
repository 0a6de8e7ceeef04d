//! Limits and budgets.

use std::collections::BTreeSet;

use laneway_contract::{ApiError, BudgetOwner, ErrorCode, Event, Limits};

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
        events.extend(self.changed_limits(&limits, command));
        Ok(events)
    }

    /// An event for each limit that differs. All of them hold the same whole, so that applying any is applying all.
    fn changed_limits(&self, limits: &Limits, command: &SetLimits) -> Vec<Event> {
        let (old, new) = (self.limits.by_name(), limits.by_name());
        let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        let changed = names.into_iter().filter(|name| old.get(name) != new.get(name));
        changed
            .map(|name| Event::LimitsChanged {
                limits: limits.clone(),
                from: old.get(name).copied(),
                to: new.get(name).copied(),
                name: name.to_string(),
                changed_by: command.actor.clone(),
            })
            .collect()
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
        Ok(vec![Event::BudgetSet {
            owner: command.owner.clone(),
            tokens: command.tokens,
            usd: command.usd,
            changed_by: command.actor.clone(),
        }])
    }
}
