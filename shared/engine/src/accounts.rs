//! Reservations: what a dispatch takes of buckets and budgets, and what comes back when it is known what was used.

use laneway_contract::{BudgetOwner, MicroUsd, RateKind, Reservation, RunId, Scope, SessionId, Timestamp, Usage};

use crate::admit::scopes;
use crate::budget::{Account, Amount};
use crate::digest::Key;
use crate::run::{Phase, Run, Taken};
use crate::state::State;

impl State {
    pub(crate) fn take_reservation(&mut self, id: RunId, reserved: Reservation, at: Timestamp) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.reserved = Taken { amounts: reserved, rates: self.rates.changes() };
        let (session, scopes) = (run.record.session_id, scopes(&run.record.fields.model_id));
        if self.limits.has_rates() {
            self.rates.reserve(&self.limits, scopes, &run.reserved, at);
        }
        self.change_accounts(session, |account| account.reserve(amount(&reserved)));
    }

    /// What a run has reserved comes back: none of it was used, or as many tokens and as much money.
    pub(crate) fn release(&mut self, id: RunId, used: Option<Amount>, at: Timestamp) {
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.holds_slot()) else { return };
        let reserved = std::mem::take(&mut run.reserved);
        let (session, scopes) = (run.record.session_id, scopes(&run.record.fields.model_id));
        if self.limits.has_rates() {
            self.rates.settle(&self.limits, scopes, &reserved, used.map(|used| used.tokens), at);
        }
        self.change_accounts(session, |account| account.settle(amount(&reserved.amounts), used.unwrap_or_default()));
    }

    /// The totals of a run are these: what the attempt has used is their growth.
    pub(crate) fn used(&mut self, id: RunId, usage: &Usage, cost: Option<MicroUsd>, at: Timestamp) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let status = &run.record.status;
        let used = Amount {
            tokens: usage.total().saturating_sub(status.usage.total()),
            usd: cost.unwrap_or_default().0.saturating_sub(status.cost_usd.unwrap_or_default().0),
        };
        if matches!(run.phase, Phase::Running { .. }) {
            self.release(id, Some(used), at);
            return;
        }
        // A late report says what the lost attempt has really used.
        if used != Amount::default() {
            let unknown = std::mem::take(&mut run.unknown);
            let (session, scopes) = (run.record.session_id, scopes(&run.record.fields.model_id));
            self.charged.remove(&id);
            if self.limits.has_rates() {
                self.rates.settle(&self.limits, scopes, &unknown, Some(used.tokens), at);
            }
            self.change_accounts(session, |account| account.correct(amount(&unknown.amounts), used));
        }
        self.release(id, None, at);
    }

    /// The worker of an attempt is lost: what it had reserved counts as used, since nobody knows.
    pub(crate) fn lose(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let reserved = std::mem::take(&mut run.reserved);
        run.unknown = reserved;
        let session = run.record.session_id;
        self.charged.insert(id);
        let amount = amount(&reserved.amounts);
        self.change_accounts(session, |account| account.settle(amount, amount));
    }

    /// What calls that run, and those whose worker was lost, can give back to a bucket at most.
    pub(crate) fn outstanding(&self, kind: RateKind, of: &Scope) -> i64 {
        if self.limits.rate(kind, of).is_none() {
            return 0;
        }
        let lost = self.charged.iter().filter_map(|id| self.runs.get(id)).filter(|run| !run.holds_slot());
        let calls = self.holding().chain(lost).filter(|run| of.covers(&run.record.fields.model_id));
        let taken = |run: &Run| match (kind, of) {
            (RateKind::Requests, _) => u64::from(run.holds_slot()),
            (RateKind::Tokens, Scope::Provider(_)) => {
                run.reserved.amounts.provider_tokens + run.unknown.amounts.provider_tokens
            }
            (RateKind::Tokens, Scope::Model(_)) => run.reserved.amounts.model_tokens + run.unknown.amounts.model_tokens,
        };
        calls.map(taken).sum::<u64>() as i64
    }

    /// Changes the budget of a session and of its work packet.
    fn change_accounts(&mut self, id: SessionId, change: impl Fn(&mut Account)) {
        let packet = self.sessions.get(&id).and_then(|session| session.creation.fields.wp_id.clone());
        self.change_session(id, |session| change(&mut session.budget));
        if let Some(packet) = packet {
            self.change_account(&BudgetOwner::WorkPacket(packet), change);
        }
    }

    /// Changes one budget, and looks again at the heads that it can hold.
    pub(crate) fn change_account(&mut self, owner: &BudgetOwner, change: impl FnOnce(&mut Account)) {
        match owner {
            BudgetOwner::Session(id) => self.change_session(*id, |session| change(&mut session.budget)),
            BudgetOwner::WorkPacket(id) => {
                let packet = self.work_packets.entry(id.clone()).or_default();
                let before = packet.account.left();
                change(&mut packet.account);
                let concerned = packet.between(before, packet.account.left());
                self.digests.touch(&mut packet.hashed, || Key::WorkPacket(id.clone()));
                for session in concerned {
                    self.reseat(session);
                }
            }
        }
    }
}

fn amount(reserved: &Reservation) -> Amount {
    Amount { tokens: reserved.tokens, usd: reserved.cost_usd.0 }
}
