//! `limits.get` and `limits.set`.

use std::collections::{BTreeMap, BTreeSet};

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{ApiError, ChangeLimits, Format, GetLimits, LimitName, LimitRow, LimitsReply, RateKind};
use laneway_engine::{Command, Gauge, GaugeName, reserve};

use super::Context;
use crate::desk::{Answered, Scene};
use crate::edge;
use crate::room::Room;

pub(super) async fn get(context: Context, incoming: Incoming<GetLimits>) -> Result<LimitsReply, Refusal> {
    let Incoming { body: GetLimits { limit, cursor }, format, .. } = incoming;
    let limit = super::rows(limit)?;
    Ok(page(context.desk.look(|scene| Ok(rows(scene))).await?, cursor.as_deref(), limit, format)?)
}

pub(super) async fn set(context: Context, incoming: Incoming<ChangeLimits>) -> Result<LimitsReply, Refusal> {
    let Incoming { body, format, .. } = incoming;
    let named: BTreeSet<String> = body.changes.keys().cloned().collect();
    let command = edge::change_limits(body)?;
    let limit = named.len();
    let changed = move |scene: &mut Scene<'_>| {
        let mut rows = rows(scene);
        rows.retain(|row| named.contains(&row.name));
        Ok(rows)
    };
    Ok(page(context.desk.decide(Command::SetLimits(Box::new(command)), changed).await?, None, limit, format)?)
}

/// The rows behind a name, as many as are asked for and fit into a reply.
fn page(
    answered: Answered<Vec<LimitRow>>,
    after: Option<&str>,
    limit: usize,
    format: Format,
) -> Result<LimitsReply, ApiError> {
    let Answered { body: mut limits, journal_seq } = answered;
    limits.retain(|row| after.is_none_or(|after| row.name.as_str() > after));
    limits.sort_by(|a, b| a.name.cmp(&b.name));
    let mut room = Room::new(format);
    let mut fitting = 0;
    while fitting < limits.len().min(limit) && room.take(&limits[fitting])? {
        fitting += 1;
    }
    let more = fitting < limits.len();
    limits.truncate(fitting);
    let cursor = limits.last().filter(|_| more).map(|row| row.name.clone());
    Ok(LimitsReply { limits, cursor, journal_seq })
}

/// Each limit that is set or in use.
fn rows(scene: &Scene<'_>) -> Vec<LimitRow> {
    let state = scene.state;
    let set = state.limits().by_name().into_iter();
    let mut limits: BTreeMap<LimitName, Option<u64>> = set.map(|(name, value)| (name, Some(value))).collect();
    let gauges: BTreeMap<LimitName, &Gauge> = state.slots().all().map(|gauge| (name_of(gauge), gauge)).collect();
    // What is in use without a limit of its own has that of its kind; a group without one has none.
    for (name, gauge) in &gauges {
        limits.entry(name.clone()).or_insert_with(|| gauge.limit.map(u64::from));
    }
    let used = |name: &LimitName| gauges.get(name).map_or(0, |gauge| u64::from(gauge.used));
    let row = |(name, value): (LimitName, Option<u64>)| {
        let kept = value.and_then(|value| u32::try_from(value).ok()).map(|limit| u64::from(reserve(limit)));
        let level = |kind, scope| state.bucket_level(kind, scope, scene.now);
        let (used, reserve, level) = match &name {
            LimitName::Global | LimitName::Scope(_) | LimitName::Group(_) => (Some(used(&name)), kept, None),
            LimitName::PerProvider | LimitName::PerModel => (None, kept, None),
            LimitName::RequestsPerMinute(scope) => (None, None, level(RateKind::Requests, scope)),
            LimitName::TokensPerMinute(scope) => (None, None, level(RateKind::Tokens, scope)),
            LimitName::RequestsBurst(_) | LimitName::TokensBurst(_) | LimitName::Weight(_) => (None, None, None),
        };
        LimitRow { name: name.to_string(), value, used, reserve, level }
    };
    limits.into_iter().map(row).collect()
}

fn name_of(gauge: &Gauge) -> LimitName {
    match &gauge.what {
        GaugeName::Global => LimitName::Global,
        GaugeName::Scope(scope) => LimitName::Scope(scope.clone()),
        GaugeName::Group(name) => LimitName::Group(name.clone()),
    }
}
