//! `store.record`: sessions that the leader does not hold.

use laneway_contract::{
    Format, KeySaid, ListRegistry, MAX_PAGE, RegistryRow, SessionId, SessionRecord, SessionSaid, StoreSaid,
    StoredSession,
};

use super::ReadError;
use super::page::Room;
use crate::view::{LiveKey, Reading, Space, decode, pair_key, session_key};

/// Sessions that one page looks at. A page with a filter may end early.
const SCAN: usize = 10_000;

impl Reading {
    /// What there is of a session, and of one of its append keys.
    pub(crate) fn said(&self, session_id: SessionId, key: Option<&str>) -> Result<StoreSaid, ReadError> {
        let session = match self.creation(session_id)? {
            None => SessionSaid::Absent,
            Some(creation) => match self.value(Space::Evicted, session_key(session_id))? {
                None => SessionSaid::Held,
                Some(record) => {
                    let record = decode(Space::Evicted, &record)?;
                    SessionSaid::Evicted(Box::new(StoredSession { creation, record }))
                }
            },
        };
        let key = match key {
            None => KeySaid::NotAsked,
            Some(key) => match self.value(Space::AppendKeys, pair_key(session_id, key.as_bytes()))? {
                None => KeySaid::Absent,
                Some(answer) => KeySaid::Taken(decode(Space::AppendKeys, &answer)?),
            },
        };
        Ok(StoreSaid { session_id, read_at: self.evictions()?, session, key })
    }

    /// Sessions that have not ended, by id: as they are without what their live runs say, and where the next page begins.
    pub(super) fn live_sessions(
        &self,
        page: &ListRegistry,
        format: Format,
    ) -> Result<(Vec<RegistryRow>, Option<SessionId>), ReadError> {
        let from = page.cursor.map_or([0; 16], |cursor| *cursor.uuid().as_bytes());
        let limit = page.limit.unwrap_or(MAX_PAGE).min(MAX_PAGE) as usize;
        let mut room = Room::new(format);
        let mut rows = Vec::new();
        let mut last = page.cursor;
        for (looked_at, entry) in
            self.range(Space::SessionIndex, LiveKey::All.at(from), LiveKey::All.at([0xff; 16])).enumerate()
        {
            let key = entry.key()?;
            let Some(id) = LiveKey::session(&key).filter(|id| Some(*id) != page.cursor) else {
                continue;
            };
            let found = match self.session(id)? {
                Some(session) if matches(page, &session) => Some(self.row(session)?),
                Some(_) | None => None,
            };
            if rows.len() == limit || looked_at >= SCAN || !room.take(found.as_slice())? {
                return Ok((rows, last));
            }
            rows.extend(found);
            last = Some(id);
        }
        Ok((rows, None))
    }

    fn row(&self, session: SessionRecord) -> Result<RegistryRow, ReadError> {
        let SessionRecord { session_id, fields, status, .. } = session;
        let children = LiveKey::ChildrenOf(session_id);
        let children = self.range(Space::SessionIndex, children.at([0; 16]), children.at([0xff; 16]));
        let children = children.map(|entry| Ok(LiveKey::session(&entry.key()?)));
        let children = children.filter_map(Result::transpose).collect::<Result<_, ReadError>>()?;
        Ok(RegistryRow {
            session_id,
            parent_session_id: fields.parent_session_id,
            spawn_depth: fields.spawn_depth,
            children,
            state: status.state,
            since: status.since,
            current_run_id: None,
            job_state: None,
            queued_runs: 0,
            provider: fields.model_id.provider().to_owned(),
            model_id: fields.model_id,
            role: fields.role,
            wp_id: fields.wp_id,
            mt_id: fields.mt_id,
        })
    }
}

fn matches(page: &ListRegistry, session: &SessionRecord) -> bool {
    let (fields, status) = (&session.fields, &session.status);
    page.state.is_none_or(|state| state == status.state)
        && page.provider.as_ref().is_none_or(|provider| provider == fields.model_id.provider())
        && page.model_id.as_ref().is_none_or(|model_id| *model_id == fields.model_id)
        && page.role.as_ref().is_none_or(|role| *role == fields.role)
        && (page.wp_id.is_none() || page.wp_id == fields.wp_id)
}
