//! `sessions.pause`, `resume`, `complete`, `fail` and `cancel`.

use laneway_bus::Refusal;
use laneway_contract::{ApiError, ChangeSession, ErrorCode, SessionId, SessionReply, StoreSaid};
use laneway_engine::Command;

use crate::desk::{Answered, Desk, Scene};
use crate::edge::{self, Change};

pub(crate) async fn change(desk: Desk, request: ChangeSession, change: Change) -> Result<SessionReply, Refusal> {
    let session_id = request.session_id;
    session_reply(&desk, Vec::new(), edge::change(request, change)?, session_id).await
}

/// The session right after a command that concerns it.
pub(super) async fn session_reply(
    desk: &Desk,
    said: Vec<StoreSaid>,
    command: Command,
    session_id: SessionId,
) -> Result<SessionReply, Refusal> {
    let look = move |scene: &mut Scene<'_>| {
        let missing = || ApiError::new(ErrorCode::NotFound, format!("no session {session_id}"));
        let session = scene.state.session(session_id).ok_or_else(missing)?;
        Ok((session.record(), scene.repeated))
    };
    let Answered { body: (session, repeated), journal_seq } = desk.decide_with(said, command, look).await?;
    Ok(SessionReply { session, repeated, journal_seq })
}
