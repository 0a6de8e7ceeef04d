//! `sessions.registry`: the sessions that have not ended, from the state that admission reads.

use std::collections::BTreeMap;

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{ListRegistry, ModelId, RegistryReply, RegistryRow, Scope, SessionId};
use laneway_engine::{GaugeName, Session};

use super::{Context, rows};
use crate::desk::{Answered, Scene};
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
}

pub(super) async fn list(context: Context, incoming: Incoming<ListRegistry>) -> Result<RegistryReply, Refusal> {
    let Incoming { body: request, format, .. } = incoming;
    let limit = rows(request.limit)?;
    let look = move |scene: &mut Scene<'_>| Ok(find(scene, &request, limit));
    let Answered { body: found, journal_seq } = context.desk.look(look).await?;
    let Found { mut rows, mut cursor, per_provider, per_model } = found;
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

fn find(scene: &Scene<'_>, request: &ListRegistry, limit: usize) -> Found {
    let mut found = Found { rows: Vec::new(), cursor: None, per_provider: BTreeMap::new(), per_model: BTreeMap::new() };
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
        children: session.children.iter().copied().collect(),
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
