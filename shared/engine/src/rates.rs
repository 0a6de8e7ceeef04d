//! Token buckets, in exact integers.
//!
//! A bucket counts in units of a 60,000th, so that a rate of N in a minute gives back N units in each millisecond and
//! nothing is ever rounded. Its clock stands still between the last frame of a leader and the start of the next.

use std::collections::BTreeMap;

use laneway_contract::{Limits, Rate, RateKind, Reservation, Scope, Timestamp};
use serde::Serialize;

/// Units of one request or token.
const UNITS: i64 = 60_000;

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Bucket {
    units: i64,
    at: i64,
}

/// The buckets of all limits that have a rate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Rates {
    buckets: BTreeMap<(RateKind, Scope), Bucket>,
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
        let before = std::mem::take(&mut self.buckets);
        for (kind, scope) in new.rates() {
            let Some(rate) = new.rate(kind, &scope) else { continue };
            let key = (kind, scope);
            let known = before.get(&key).zip(old.rate(kind, &key.1));
            let units = known.map_or(full(rate), |(bucket, old)| bucket.units_at(old, clock)).min(full(rate));
            self.buckets.insert(key, Bucket { units, at: clock });
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
        if missing <= 0 { 0 } else { (missing as u64).div_ceil(rate.per_minute.max(1)) }
    }

    /// Adds to a bucket what comes back, or takes from it with a negative `amount`. It may go below zero.
    fn change(&mut self, limits: &Limits, kind: RateKind, scope: Scope, amount: i64, now: Timestamp) {
        let Some(rate) = limits.rate(kind, &scope) else { return };
        let clock = self.clock(now);
        if let Some(bucket) = self.buckets.get_mut(&(kind, scope)) {
            let units = bucket.units_at(rate, clock).saturating_add(amount.saturating_mul(UNITS));
            *bucket = Bucket { units: units.min(full(rate)), at: clock };
        }
    }

    /// A dispatch takes what it has reserved.
    pub(crate) fn reserve(&mut self, limits: &Limits, scopes: [Scope; 2], reserved: &Reservation, now: Timestamp) {
        let [provider, model] = scopes;
        for scope in [&provider, &model] {
            self.change(limits, RateKind::Requests, scope.clone(), -1, now);
        }
        self.change(limits, RateKind::Tokens, provider, -(reserved.provider_tokens as i64), now);
        self.change(limits, RateKind::Tokens, model, -(reserved.model_tokens as i64), now);
    }

    /// What was reserved comes back; a call that was made keeps its request and `used` tokens.
    pub(crate) fn settle(
        &mut self,
        limits: &Limits,
        scopes: [Scope; 2],
        reserved: &Reservation,
        used: Option<u64>,
        now: Timestamp,
    ) {
        let [provider, model] = scopes;
        if used.is_none() {
            for scope in [&provider, &model] {
                self.change(limits, RateKind::Requests, scope.clone(), 1, now);
            }
        }
        let used = used.unwrap_or(0) as i64;
        self.change(limits, RateKind::Tokens, provider, reserved.provider_tokens as i64 - used, now);
        self.change(limits, RateKind::Tokens, model, reserved.model_tokens as i64 - used, now);
    }
}
