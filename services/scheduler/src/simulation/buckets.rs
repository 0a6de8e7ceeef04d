//! Token buckets once more, in exact integers, from what the journal says of limits and times.

use std::collections::BTreeMap;

use laneway_contract::*;

/// Units of one request or token: a rate of N in a minute gives back N units in a millisecond.
const UNITS: i128 = 60_000;

/// One bucket.
struct Bucket {
    units: i128,
    /// When, on the clock that stands still while nobody leads.
    at: i64,
    /// The change of limits that made it.
    made: u64,
}

/// All buckets.
#[derive(Default)]
pub(super) struct Buckets {
    all: BTreeMap<(RateKind, Scope), Bucket>,
    /// Changes of limits so far.
    pub(super) changes: u64,
    stood_still_ms: i64,
}

/// What a call has taken, and after how many changes of limits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) reserved: Reservation,
    pub(super) changes: u64,
}

/// The buckets of a model, in the order in which they are looked at.
pub(super) fn scopes(model: &ModelId) -> [Scope; 2] {
    [Scope::Provider(model.provider().to_owned()), Scope::Model(model.clone())]
}

/// What a call needs of a bucket.
pub(super) fn needs(limits: &Limits, kind: RateKind, scope: &Scope, tokens: u64) -> u64 {
    match (limits.rate(kind, scope), kind) {
        (None, _) => 0,
        (Some(_), RateKind::Requests) => 1,
        (Some(rate), RateKind::Tokens) => tokens.min(rate.capacity),
    }
}

impl Buckets {
    /// Nobody could write for this long.
    pub(super) fn stand_still(&mut self, gap_ms: i64) {
        self.stood_still_ms += gap_ms;
    }

    fn clock(&self, now: Timestamp) -> i64 {
        now.millis() - self.stood_still_ms
    }

    /// Whole requests or tokens, rounded down.
    pub(super) fn level(&self, limits: &Limits, kind: RateKind, scope: &Scope, now: Timestamp) -> Option<i64> {
        Some(self.units(limits, kind, scope, now)?.div_euclid(UNITS) as i64)
    }

    fn units(&self, limits: &Limits, kind: RateKind, scope: &Scope, now: Timestamp) -> Option<i128> {
        let (rate, bucket) = (limits.rate(kind, scope)?, self.all.get(&(kind, scope.clone()))?);
        let passed = (self.clock(now) - bucket.at).max(0);
        let full = i128::from(rate.capacity) * UNITS;
        Some((bucket.units + i128::from(rate.per_minute) * i128::from(passed)).min(full))
    }

    /// What is kept over a change of limits, and what begins full.
    pub(super) fn relimit(&mut self, old: &Limits, new: &Limits, now: Timestamp) {
        self.changes += 1;
        let mut all = BTreeMap::new();
        for (kind, scope) in new.rates() {
            let Some(rate) = new.rate(kind, &scope) else { continue };
            let full = i128::from(rate.capacity) * UNITS;
            let units = self.units(old, kind, &scope, now).unwrap_or(full).min(full);
            let made = self.all.get(&(kind, scope.clone())).map_or(self.changes, |before| before.made);
            all.insert((kind, scope), Bucket { units, at: self.clock(now), made });
        }
        self.all = all;
    }

    /// The first bucket that lacks what a call of this size needs, and for how long.
    pub(super) fn lacking(
        &self,
        limits: &Limits,
        model: &ModelId,
        tokens: u64,
        now: Timestamp,
    ) -> Option<(RateKind, Scope, u64)> {
        let kinds = [RateKind::Requests, RateKind::Tokens];
        let mut all = kinds.into_iter().flat_map(|kind| scopes(model).map(|scope| (kind, scope)));
        all.find_map(|(kind, scope)| {
            let wait_ms = self.wait_ms(limits, kind, &scope, needs(limits, kind, &scope, tokens), now);
            (wait_ms > 0).then_some((kind, scope, wait_ms))
        })
    }

    /// Milliseconds until a bucket holds so much.
    pub(super) fn wait_ms(&self, limits: &Limits, kind: RateKind, scope: &Scope, needs: u64, now: Timestamp) -> u64 {
        let Some((units, rate)) = self.units(limits, kind, scope, now).zip(limits.rate(kind, scope)) else { return 0 };
        let missing = (i128::from(needs) * UNITS - units).max(0);
        (missing as u64).div_ceil(rate.per_minute)
    }

    /// Gives to a bucket, or takes from it. A call that began before the bucket was made concerns it in nothing.
    fn give(&mut self, limits: &Limits, kind: RateKind, scope: &Scope, amount: i128, changes: u64, now: Timestamp) {
        let Some((units, rate)) = self.units(limits, kind, scope, now).zip(limits.rate(kind, scope)) else { return };
        let clock = self.clock(now);
        if let Some(bucket) = self.all.get_mut(&(kind, scope.clone())).filter(|bucket| bucket.made <= changes) {
            bucket.units = (units + amount * UNITS).min(i128::from(rate.capacity) * UNITS);
            bucket.at = clock;
        }
    }

    /// Requests and tokens of a call come back, less `used` tokens; a negative number of requests takes.
    pub(super) fn settle(
        &mut self,
        limits: &Limits,
        model: &ModelId,
        taken: Taken,
        (requests, used): (i128, u64),
        now: Timestamp,
    ) {
        let Taken { reserved, changes } = taken;
        for (scope, tokens) in scopes(model).iter().zip([reserved.provider_tokens, reserved.model_tokens]) {
            self.give(limits, RateKind::Requests, scope, requests, changes, now);
            self.give(limits, RateKind::Tokens, scope, i128::from(tokens) - i128::from(used), changes, now);
        }
    }

    /// A call takes a request, and what it has reserved.
    pub(super) fn take(&mut self, limits: &Limits, model: &ModelId, taken: Taken, now: Timestamp) {
        let Taken { reserved, changes } = taken;
        for (scope, tokens) in scopes(model).iter().zip([reserved.provider_tokens, reserved.model_tokens]) {
            self.give(limits, RateKind::Requests, scope, -1, changes, now);
            self.give(limits, RateKind::Tokens, scope, -i128::from(tokens), changes, now);
        }
    }
}
