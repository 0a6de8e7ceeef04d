//! `leader.create`, `append` and `put`: what a store replica's edge has prepared.

use laneway_bus::Refusal;
use laneway_contract::{
    ApiError, AppendReply, CommittedReply, ErrorCode, KeySaid, PreparedAppend, PreparedArtifact, PreparedSession,
    SessionReply, StoreSaid,
};
use laneway_engine::{Append, Command, Create, NewSession};

use super::sessions::session_reply;
use crate::desk::{Answered, Desk, Scene};

pub(crate) async fn create(desk: Desk, request: PreparedSession) -> Result<SessionReply, Refusal> {
    let PreparedSession { session_id, fields, messages, artifacts, fingerprint, said } = request;
    desk.edge().verify(&artifacts)?;
    let session = NewSession { session_id, fields, messages };
    let command = Command::Create(Box::new(Create { session, artifacts, fingerprint }));
    session_reply(&desk, said, command, session_id).await
}

pub(crate) async fn append(desk: Desk, request: PreparedAppend) -> Result<AppendReply, Refusal> {
    let PreparedAppend { session_id, messages, artifacts, key, fingerprint, expected_tail, said } = request;
    desk.edge().verify(&artifacts)?;
    let taken_key = key.clone();
    let append = Append { session_id, messages, artifacts, key, fingerprint, expected_tail };
    let taken = move |scene: &mut Scene<'_>| {
        let session = scene.state.session(session_id);
        let held = session.and_then(|session| session.keys.get(&taken_key));
        let held = held.map(|taken| (taken.first_seq, taken.last_seq));
        let taken = held.or_else(|| scene.said.iter().find_map(answered));
        let missing = || ApiError::new(ErrorCode::Internal, "an append was taken without its key");
        Ok((taken.ok_or_else(missing)?, scene.repeated))
    };
    let answered = desk.decide_with(said, Command::Append(Box::new(append)), taken).await?;
    let Answered { body: ((first_seq, last_seq), repeated), journal_seq } = answered;
    Ok(AppendReply { session_id, first_seq, last_seq, repeated, journal_seq })
}

/// The first answer to an append that memory has given up.
fn answered(said: &StoreSaid) -> Option<(u64, u64)> {
    match said.key {
        KeySaid::Taken(answer) => Some((answer.first_seq, answer.last_seq)),
        KeySaid::Absent | KeySaid::NotAsked => None,
    }
}

pub(crate) async fn put(desk: Desk, request: PreparedArtifact) -> Result<CommittedReply, Refusal> {
    let artifact = request.artifact;
    desk.edge().verify(std::slice::from_ref(&artifact))?;
    let command = Command::Put(Box::new(artifact));
    let journal_seq = desk.decide(command, |_| Ok(())).await?.journal_seq;
    Ok(CommittedReply { journal_seq })
}
