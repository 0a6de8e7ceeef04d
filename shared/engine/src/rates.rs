//! Token buckets, in exact integers.
//!
//! A bucket counts in units of a 60,000th, so that a rate of N in a minute gives back N units in each millisecond and
//! nothing is ever rounded. Its clock stands still between the last frame of a leader and the start of the next.

use std::collections::BTreeMap;

use laneway_contract::{Limits, Rate, RateKind, Scope, Timestamp};
use serde::{Deserialize, Serialize};

use crate::run::Taken;

/// Units of one request or token.
const UNITS: i64 = 60_000;

/// The longest wait that is said: ten years, so that the time of its end can be written.
const MAX_WAIT_MS: u64 = 10 * 365 * 86_400_000;

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bucket {
    units: i64,
    at: i64,
    /// The change of limits that made it.
    made: u64,
}

/// The buckets of all limits that have a rate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rates {
    buckets: BTreeMap<(RateKind, Scope), Bucket>,
    /// How often limits were changed.
    changes: u64,
    /// Milliseconds of journal time in which no leader could write: nothing came back in them.
    stood_still_ms: i64,
}

fn full(rate: Rate) -> i64 {
    i64::try_from(rate.capacity).unwrap_or(i64::MAX).saturating_mul(UNITS)
}

impl Bucket {
    fn units_at(self, rate: Rate, clock: i64) -> i64 {
        let per_ms = i64::try_from(rate.per_minute).unwrap_or(i64::MAX);
        let back = per_ms.saturating_mul(clock.saturating_sub(self.at).max(0));
        self.units.saturating_add(back).min(full(rate))
    }
}

impl Rates {
    fn clock(&self, now: Timestamp) -> i64 {
        now.millis() - self.stood_still_ms
    }

    /// Nothing was written for this long.
    pub(crate) fn stand_still(&mut self, gap_ms: u64) {
        self.stood_still_ms = self.stood_still_ms.saturating_add(gap_ms as i64);
    }

    /// Takes new limits over: what is new begins full, what is smaller holds no more than it can.
    pub(crate) fn relimit(&mut self, old: &Limits, new: &Limits, now: Timestamp) {
        let clock = self.clock(now);
        self.changes += 1;
        let before = std::mem::take(&mut self.buckets);
        for (kind, scope) in new.rates() {
            let Some(rate) = new.rate(kind, &scope) else { continue };
            let key = (kind, scope);
            let known = before.get(&key).zip(old.rate(kind, &key.1));
            let units = known.map_or(full(rate), |(bucket, old)| bucket.units_at(old, clock)).min(full(rate));
            let made = known.map_or(self.changes, |(bucket, _)| bucket.made);
            self.buckets.insert(key, Bucket { units, at: clock, made });
        }
    }

    /// Whole requests or tokens that a bucket holds, rounded down.
    pub(crate) fn level(&self, limits: &Limits, kind: RateKind, scope: &Scope, now: Timestamp) -> Option<i64> {
        let rate = limits.rate(kind, scope)?;
        let bucket = self.buckets.get(&(kind, scope.clone()))?;
        Some(bucket.units_at(rate, self.clock(now)).div_euclid(UNITS))
    }

    /// What a call with this estimate takes of a bucket: at most what it can hold.
    pub(crate) fn needs(limits: &Limits, kind: RateKind, scope: &Scope, tokens: u64) -> u64 {
        match (limits.rate(kind, scope), kind) {
            (None, _) => 0,
            (Some(_), RateKind::Requests) => 1,
            (Some(rate), RateKind::Tokens) => tokens.min(rate.capacity),
        }
    }

    /// Milliseconds until a bucket holds `needs`, which is below zero where more than that comes back; 0 when it does.
    pub(crate) fn wait_ms(&self, limits: &Limits, kind: RateKind, scope: &Scope, needs: i64, now: Timestamp) -> u64 {
        let Some(rate) = limits.rate(kind, scope) else { return 0 };
        let Some(bucket) = self.buckets.get(&(kind, scope.clone())) else { return 0 };
        let missing = needs.saturating_mul(UNITS).saturating_sub(bucket.units_at(rate, self.clock(now)));
        if missing <= 0 { 0 } else { (missing as u64).div_ceil(rate.per_minute.max(1)).min(MAX_WAIT_MS) }
    }

    /// How often limits were changed.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Adds to a bucket what comes back, or takes from it with a negative `amount`. It may go below zero. A call that
    /// began before the bucket was made concerns it in nothing.
    fn change(&mut self, limits: &Limits, name: &(RateKind, Scope), amount: i64, taken: &Taken, now: Timestamp) {
        let Some(rate) = limits.rate(name.0, &name.1) else { return };
        let clock = self.clock(now);
        if let Some(bucket) = self.buckets.get_mut(name).filter(|bucket| bucket.made <= taken.rates) {
            let units = bucket.units_at(rate, clock).saturating_add(amount.saturating_mul(UNITS));
            (bucket.units, bucket.at) = (units.min(full(rate)), clock);
        }
    }

    /// A dispatch takes what it has reserved.
    pub(crate) fn reserve(&mut self, limits: &Limits, scopes: [Scope; 2], taken: &Taken, now: Timestamp) {
        for scope in &scopes {
            self.change(limits, &(RateKind::Requests, scope.clone()), -1, taken, now);
        }
        let tokens = taken.tokens().map(|tokens| -tokens);
        for (scope, tokens) in scopes.into_iter().zip(tokens) {
            self.change(limits, &(RateKind::Tokens, scope), tokens, taken, now);
        }
    }

    /// What was reserved comes back; a call that was made keeps its request and `used` tokens.
    pub(crate) fn settle(
        &mut self,
        limits: &Limits,
        scopes: [Scope; 2],
        taken: &Taken,
        used: Option<u64>,
        now: Timestamp,
    ) {
        if used.is_none() {
            for scope in &scopes {
                self.change(limits, &(RateKind::Requests, scope.clone()), 1, taken, now);
            }
        }
        let tokens = taken.tokens().map(|tokens| tokens - used.unwrap_or(0) as i64);
        for (scope, tokens) in scopes.into_iter().zip(tokens) {
            self.change(limits, &(RateKind::Tokens, scope), tokens, taken, now);
        }
    }
}

impl Taken {
    /// Of the provider's bucket of tokens, and of the model's.
    const fn tokens(&self) -> [i64; 2] {
        [self.amounts.provider_tokens as i64, self.amounts.model_tokens as i64]
    }
}
