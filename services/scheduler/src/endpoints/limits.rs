//! `limits.get` and `limits.set`.

use std::collections::BTreeMap;

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{ApiError, ChangeLimits, Format, GetLimits, LimitName, LimitRow, LimitsReply, RateKind};
use laneway_engine::{Command, Gauge, GaugeName, reserve};

use super::Context;
use crate::desk::{Answered, Scene};
use crate::edge;
use crate::room::Room;

pub(super) async fn get(context: Context, incoming: Incoming<GetLimits>) -> Result<LimitsReply, Refusal> {
    Ok(reply(context.desk.look(|scene| Ok(rows(scene))).await?, incoming.format)?)
}

pub(super) async fn set(context: Context, incoming: Incoming<ChangeLimits>) -> Result<LimitsReply, Refusal> {
    let Incoming { body, format, .. } = incoming;
    let command = edge::change_limits(body)?;
    Ok(reply(context.desk.decide(Command::SetLimits(Box::new(command)), |scene| Ok(rows(scene))).await?, format)?)
}

/// The rows in use first, should there be more than a reply holds.
fn reply(answered: Answered<Vec<LimitRow>>, format: Format) -> Result<LimitsReply, ApiError> {
    let Answered { body: mut limits, journal_seq } = answered;
    let mut room = Room::new(format);
    limits.sort_by_key(|row| row.used == Some(0));
    let mut fitting = 0;
    while fitting < limits.len() && room.take(&limits[fitting])? {
        fitting += 1;
    }
    limits.truncate(fitting);
    limits.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(LimitsReply { limits, journal_seq })
}

/// Each limit that is set or in use.
fn rows(scene: &Scene<'_>) -> Vec<LimitRow> {
    let state = scene.state;
    let mut limits = state.limits().by_name();
    let gauges: BTreeMap<LimitName, &Gauge> = state.slots().all().map(|gauge| (name_of(gauge), gauge)).collect();
    // What is in use without a limit of its own has that of its kind; a group without one has none.
    for (name, gauge) in &gauges {
        if let Some(limit) = gauge.limit {
            limits.entry(name.clone()).or_insert(u64::from(limit));
        }
    }
    let used = |name: &LimitName| gauges.get(name).map_or(0, |gauge| u64::from(gauge.used));
    let row = |(name, value): (LimitName, u64)| {
        let kept = u32::try_from(value).ok().map(|limit| u64::from(reserve(limit)));
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
