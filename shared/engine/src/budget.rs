//! Budgets of sessions and work packets: what may be used, what was, and what running calls have reserved.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::{BUDGET_WARNS_AT_PERCENT, BudgetLine, BudgetType, EvictedBudget, MicroUsd, SessionId};
use serde::{Deserialize, Serialize};

use crate::digest::Hashed;

/// Tokens and money together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Input and output tokens.
    pub tokens: u64,
    /// Millionths of a US dollar.
    pub usd: u64,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self { tokens: self.tokens.saturating_add(other.tokens), usd: self.usd.saturating_add(other.usd) }
    }

    fn minus(self, other: Self) -> Self {
        Self { tokens: self.tokens.saturating_sub(other.tokens), usd: self.usd.saturating_sub(other.usd) }
    }
}

/// A budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    tokens: Option<u64>,
    usd: Option<MicroUsd>,
    used: Amount,
    reserved: Amount,
    warned_tokens: bool,
    warned_usd: bool,
}

impl Account {
    /// A budget of which nothing is used.
    #[must_use]
    pub const fn new(tokens: Option<u64>, usd: Option<MicroUsd>) -> Self {
        let zero = Amount { tokens: 0, usd: 0 };
        Self { tokens, usd, used: zero, reserved: zero, warned_tokens: false, warned_usd: false }
    }

    /// A budget as it was kept elsewhere.
    pub(crate) const fn of_evicted(kept: &EvictedBudget) -> Self {
        let used = Amount { tokens: kept.used_tokens, usd: kept.used_usd.0 };
        let EvictedBudget { tokens, usd, warned_tokens, warned_usd, .. } = *kept;
        Self { tokens, usd, used, reserved: Amount { tokens: 0, usd: 0 }, warned_tokens, warned_usd }
    }

    /// What is kept of it elsewhere while nothing is reserved.
    pub(crate) const fn evicted(&self) -> EvictedBudget {
        EvictedBudget {
            tokens: self.tokens,
            usd: self.usd,
            used_tokens: self.used.tokens,
            used_usd: MicroUsd(self.used.usd),
            warned_tokens: self.warned_tokens,
            warned_usd: self.warned_usd,
        }
    }

    pub(crate) fn set(&mut self, tokens: Option<u64>, usd: Option<MicroUsd>) {
        *self = Self { tokens, usd, warned_tokens: false, warned_usd: false, ..*self };
    }

    pub(crate) fn is_bounded(&self) -> bool {
        self.tokens.is_some() || self.usd.is_some()
    }

    /// What is left for new reservations.
    pub(crate) fn left(&self) -> Amount {
        let taken = self.used.plus(self.reserved);
        let most = Amount { tokens: self.tokens.unwrap_or(u64::MAX), usd: self.usd.map_or(u64::MAX, |usd| usd.0) };
        most.minus(taken)
    }

    /// Whether an estimate has room. Where no tokens are left, no call has.
    pub(crate) fn fits(&self, estimate: Amount) -> bool {
        let left = self.left();
        estimate.tokens <= left.tokens && left.tokens > 0 && estimate.usd <= left.usd
    }

    pub(crate) fn reserve(&mut self, estimate: Amount) {
        self.reserved = self.reserved.plus(estimate);
    }

    /// A reservation becomes what was used.
    pub(crate) fn settle(&mut self, reserved: Amount, used: Amount) {
        self.reserved = self.reserved.minus(reserved);
        self.used = self.used.plus(used);
    }

    /// What was charged as unknown becomes what was used.
    pub(crate) fn correct(&mut self, charged: Amount, used: Amount) {
        self.used = self.used.minus(charged).plus(used);
    }

    /// The amounts whose warning is due: what, used, threshold.
    pub(crate) fn warnings(&self) -> Vec<(BudgetType, u64, u64)> {
        let at = |most: u64| most - (u128::from(most) * u128::from(100 - BUDGET_WARNS_AT_PERCENT) / 100) as u64;
        let tokens =
            self.tokens.filter(|_| !self.warned_tokens).map(|most| (BudgetType::Tokens, self.used.tokens, at(most)));
        let usd = self.usd.filter(|_| !self.warned_usd).map(|most| (BudgetType::Usd, self.used.usd, at(most.0)));
        [tokens, usd].into_iter().flatten().filter(|(_, used, at)| used >= at && *at > 0).collect()
    }

    pub(crate) fn warned(&mut self, kind: BudgetType) {
        match kind {
            BudgetType::Tokens => self.warned_tokens = true,
            BudgetType::Usd => self.warned_usd = true,
        }
    }

    /// The budget as callers see it.
    #[must_use]
    pub fn lines(&self) -> (BudgetLine<u64>, BudgetLine<MicroUsd>) {
        let tokens = BudgetLine { limit: self.tokens, used: self.used.tokens, reserved: self.reserved.tokens };
        let usd = BudgetLine { limit: self.usd, used: MicroUsd(self.used.usd), reserved: MicroUsd(self.reserved.usd) };
        (tokens, usd)
    }
}

/// A work packet with its budget, and the sessions of it whose next run it could hold, by their estimates.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkPacket {
    pub(crate) account: Account,
    by_tokens: ByEstimate,
    by_usd: ByEstimate,
    pub(crate) hashed: Hashed,
}

type ByEstimate = BTreeMap<u64, BTreeSet<SessionId>>;

impl WorkPacket {
    pub(crate) fn insert(&mut self, estimate: Amount, session: SessionId) {
        self.by_tokens.entry(estimate.tokens).or_default().insert(session);
        self.by_usd.entry(estimate.usd).or_default().insert(session);
    }

    pub(crate) fn remove(&mut self, estimate: Amount, session: SessionId) {
        for (by, estimate) in [(&mut self.by_tokens, estimate.tokens), (&mut self.by_usd, estimate.usd)] {
            let Some(sessions) = by.get_mut(&estimate) else { continue };
            sessions.remove(&session);
            if sessions.is_empty() {
                by.remove(&estimate);
            }
        }
    }

    /// The sessions for which it is another answer with this much left than with that.
    pub(crate) fn between(&self, before: Amount, after: Amount) -> BTreeSet<SessionId> {
        let tokens = crossed(&self.by_tokens, before.tokens, after.tokens);
        tokens.chain(crossed(&self.by_usd, before.usd, after.usd)).collect()
    }
}

fn crossed(by: &ByEstimate, before: u64, after: u64) -> impl Iterator<Item = SessionId> {
    let (low, high) = (before.min(after), before.max(after));
    // Where nothing is left, even an estimate of nothing has no room.
    let from = if low == 0 { 0 } else { low.saturating_add(1) };
    let changed = (low < high).then(|| by.range(from..=high));
    changed.into_iter().flatten().flat_map(|(_, sessions)| sessions.iter().copied())
}

/// Work packets by name.
pub(crate) type WorkPackets = BTreeMap<String, WorkPacket>;
