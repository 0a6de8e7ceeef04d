//! `leader.create`, `append` and `put`: what a store replica's edge has prepared.

use laneway_bus::Refusal;
use laneway_contract::{
    ApiError, AppendReply, CommittedReply, ErrorCode, PreparedAppend, PreparedArtifact, PreparedSession, SessionReply,
};
use laneway_engine::{Append, Command, Create, NewSession};

use super::sessions::session_reply;
use crate::desk::{Answered, Desk, Scene};

pub(crate) async fn create(desk: Desk, request: PreparedSession) -> Result<SessionReply, Refusal> {
    let PreparedSession { session_id, fields, messages, artifacts, fingerprint } = request;
    desk.edge().verify(&artifacts)?;
    let session = NewSession { session_id, fields, messages };
    let command = Command::Create(Box::new(Create { session, artifacts, fingerprint }));
    session_reply(&desk, command, session_id).await
}

pub(crate) async fn append(desk: Desk, request: PreparedAppend) -> Result<AppendReply, Refusal> {
    let PreparedAppend { session_id, messages, artifacts, key, fingerprint, expected_tail } = request;
    desk.edge().verify(&artifacts)?;
    let taken_key = key.clone();
    let append = Append { session_id, messages, artifacts, key, fingerprint, expected_tail };
    let taken = move |scene: &mut Scene<'_>| {
        let session = scene.state.session(session_id);
        let taken = session.and_then(|session| session.keys.get(&taken_key)).copied();
        let missing = || ApiError::new(ErrorCode::Internal, "an append was taken without its key");
        Ok((taken.ok_or_else(missing)?, scene.repeated))
    };
    let answered = desk.decide(Command::Append(Box::new(append)), taken).await?;
    let Answered { body: (taken, repeated), journal_seq } = answered;
    Ok(AppendReply { session_id, first_seq: taken.first_seq, last_seq: taken.last_seq, repeated, journal_seq })
}

pub(crate) async fn put(desk: Desk, request: PreparedArtifact) -> Result<CommittedReply, Refusal> {
    let artifact = request.artifact;
    desk.edge().verify(std::slice::from_ref(&artifact))?;
    let command = Command::Put(Box::new(artifact));
    let journal_seq = desk.decide(command, |_| Ok(())).await?.journal_seq;
    Ok(CommittedReply { journal_seq })
}
