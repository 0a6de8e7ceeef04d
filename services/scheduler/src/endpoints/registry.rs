//! `sessions.registry`: the sessions that have not ended, from the state that admission reads, and from a store replica
//! those that memory has given up.

use std::collections::BTreeMap;

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{ListRegistry, ModelId, RegistryReply, RegistryRow, Scope, SessionId};
use laneway_engine::{GaugeName, Session};

use super::{Context, rows};
use crate::desk::{Answered, Scene};
use crate::replica;
use crate::room::Room;

/// Sessions that one page looks at; a page with a filter may end early with a cursor.
const SCAN: usize = 10_000;

/// What one look at the state gives.
struct Found {
    rows: Vec<RegistryRow>,
    /// Where to go on.
    cursor: Option<SessionId>,
    per_provider: BTreeMap<String, u32>,
    per_model: BTreeMap<ModelId, u32>,
    /// Whether there are sessions that memory has given up.
    given_up: bool,
}

pub(super) async fn list(context: Context, incoming: Incoming<ListRegistry>) -> Result<RegistryReply, Refusal> {
    let Incoming { body: request, format, .. } = incoming;
    let limit = rows(request.limit)?;
    let page = ListRegistry { limit: Some(limit as u32), ..request.clone() };
    let look = move |scene: &mut Scene<'_>| Ok(find(scene, &request, limit));
    let Answered { body: mut found, journal_seq } = context.desk.look(look).await?;
    if found.given_up {
        let (others, cursor) = replica::live_sessions(&context.bus, page, journal_seq).await?;
        merge(&mut found, others, cursor, limit);
    }
    let Found { mut rows, mut cursor, per_provider, per_model, .. } = found;
    let mut room = Room::new(format);
    // The counts come whole: they are as many as there are models with runs that hold a slot.
    room.take(&(&per_provider, &per_model))?;
    for (index, row) in rows.iter().enumerate() {
        if !room.take(row)? {
            rows.truncate(index);
            cursor = rows.last().map(|row| row.session_id);
            break;
        }
    }
    Ok(RegistryReply { sessions: rows, per_provider, per_model, cursor, journal_seq })
}

/// Adds what a store replica lists. What both have is as the state says, and has the children that both know; what the
/// state no longer has may have ended since, and is in the replica's page only when it had not.
fn merge(found: &mut Found, others: Vec<RegistryRow>, cursor: Option<SessionId>, limit: usize) {
    let mut merged: BTreeMap<SessionId, RegistryRow> = others.into_iter().map(|row| (row.session_id, row)).collect();
    for mut row in found.rows.drain(..) {
        if let Some(other) = merged.remove(&row.session_id) {
            row.children = other.children;
        }
        merged.insert(row.session_id, row);
    }
    // Each list is whole up to its own cursor.
    found.cursor = [found.cursor, cursor].into_iter().flatten().min();
    let up_to = |id: &SessionId| found.cursor.is_none_or(|cursor| *id <= cursor);
    found.rows = merged.into_iter().filter(|(id, _)| up_to(id)).map(|(_, row)| row).collect();
    if found.rows.len() > limit {
        found.rows.truncate(limit);
        found.cursor = found.rows.last().map(|row| row.session_id);
    }
}

fn find(scene: &Scene<'_>, request: &ListRegistry, limit: usize) -> Found {
    let mut found = Found {
        rows: Vec::new(),
        cursor: None,
        per_provider: BTreeMap::new(),
        per_model: BTreeMap::new(),
        given_up: scene.state.evictions() > 0,
    };
    for gauge in scene.state.slots().all().filter(|gauge| gauge.used > 0) {
        match &gauge.what {
            GaugeName::Scope(Scope::Provider(name)) => drop(found.per_provider.insert(name.clone(), gauge.used)),
            GaugeName::Scope(Scope::Model(id)) => drop(found.per_model.insert(id.clone(), gauge.used)),
            GaugeName::Global | GaugeName::Group(_) => {}
        }
    }
    let mut last = None;
    for (looked_at, session) in scene.state.live_sessions(request.cursor).enumerate() {
        if found.rows.len() == limit || looked_at == SCAN {
            found.cursor = last;
            break;
        }
        last = Some(session.creation.session_id);
        if matches(session, request) {
            found.rows.push(row(scene, session));
        }
    }
    found
}

fn matches(session: &Session, request: &ListRegistry) -> bool {
    let fields = &session.creation.fields;
    request.state.is_none_or(|state| state == session.status.state)
        && request.provider.as_ref().is_none_or(|provider| provider == fields.model_id.provider())
        && request.model_id.as_ref().is_none_or(|model_id| *model_id == fields.model_id)
        && request.role.as_ref().is_none_or(|role| *role == fields.role)
        && (request.wp_id.is_none() || request.wp_id == fields.wp_id)
}

fn row(scene: &Scene<'_>, session: &Session) -> RegistryRow {
    let fields = &session.creation.fields;
    let current = session.current.and_then(|run| scene.state.run(run));
    RegistryRow {
        session_id: session.creation.session_id,
        parent_session_id: fields.parent_session_id,
        spawn_depth: fields.spawn_depth,
        children: scene.state.children(session.creation.session_id).collect(),
        state: session.status.state,
        since: session.status.since,
        current_run_id: session.current,
        job_state: current.map(|run| run.record.status.state),
        queued_runs: session.queued(),
        provider: fields.model_id.provider().to_owned(),
        model_id: fields.model_id.clone(),
        role: fields.role.clone(),
        wp_id: fields.wp_id.clone(),
        mt_id: fields.mt_id.clone(),
    }
}
