//! What is asked of a store replica: ended runs, sessions that memory has given up, and artifacts that a request names.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use laneway_bus::Bus;
use laneway_contract::{
    ApiError, ArtifactId, ArtifactReply, AskStore, Endpoint, ErrorCode, GetArtifact, JobState, ListRegistry,
    RegistryRow, RunId, RunRecord, SessionId, StoreAnswer, StoreQuestion, StoreSaid,
};
use laneway_engine::Question;

use crate::edge::{Known, KnownArtifacts};

/// How long a replica is asked before the caller is told `unavailable`: shorter than a caller's own patience.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one question may take: a replica waits for the frame that it needs.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// Artifacts that are looked up at a time for one request.
const LOOK_UPS: usize = 8;

/// A page of ended runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// Only this session's.
    pub(crate) session_id: Option<SessionId>,
    /// Only this state.
    pub(crate) state: Option<JobState>,
    /// Only runs with a smaller id.
    pub(crate) before: Option<RunId>,
    /// Rows.
    pub(crate) limit: usize,
}

/// An ended run, with the text of its answer if asked for. `not_found` when there never was one.
pub(crate) async fn ended_run(
    bus: &Bus,
    run_id: RunId,
    with_output: bool,
    min_seq: u64,
) -> Result<(RunRecord, Option<String>), ApiError> {
    let answer = ask(bus, StoreQuestion::Run { run_id, with_output }, min_seq).await?;
    let record = answer.runs.into_iter().next();
    let missing = || ApiError::new(ErrorCode::NotFound, format!("no run {run_id}: submit it with runs.submit"));
    Ok((record.ok_or_else(missing)?, answer.output))
}

/// Ended runs, newest first: as many as asked for, or all there are.
pub(crate) async fn ended_runs(bus: &Bus, page: Page, min_seq: u64) -> Result<Vec<RunRecord>, ApiError> {
    let mut found = Vec::new();
    let mut before = page.before;
    while found.len() < page.limit {
        let limit = (page.limit - found.len()) as u32;
        let question = StoreQuestion::Runs { session_id: page.session_id, state: page.state, limit, before };
        let rows = ask(bus, question, min_seq).await?.runs;
        // An answer may end early because it grew too large: only an empty one is the end.
        let Some(last) = rows.last() else { break };
        before = Some(last.run_id);
        found.extend(rows);
    }
    Ok(found)
}

/// What is known of artifacts; those that are not stored are left out.
pub(crate) async fn known(bus: &Bus, ids: BTreeSet<ArtifactId>, min_seq: u64) -> Result<KnownArtifacts, ApiError> {
    let look_ups = stream::iter(ids).map(|artifact_id| async move {
        let request = GetArtifact { artifact_id, min_seq: Some(min_seq) };
        let reply = bus.request_within(Endpoint::ArtifactsGet, &request, PATIENCE, REPLY_TIMEOUT).await;
        match reply {
            Ok(ArtifactReply { content_type, size, .. }) => Ok(Some((artifact_id, Known { content_type, size }))),
            Err(error) if error.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    });
    look_ups.buffer_unordered(LOOK_UPS).try_filter_map(|found| async move { Ok(found) }).try_collect().await
}

/// What there is of a session that memory lacks.
pub(crate) async fn said(bus: &Bus, question: &Question, min_seq: u64) -> Result<StoreSaid, ApiError> {
    let Question { session_id, key } = question.clone();
    let said = ask(bus, StoreQuestion::Session { session_id, key }, min_seq).await?.said;
    said.ok_or_else(|| ApiError::new(ErrorCode::Internal, "a store replica has said nothing of the session"))
}

/// Sessions that have not ended, by id: a page of them, and where the next begins.
pub(crate) async fn live_sessions(
    bus: &Bus,
    page: ListRegistry,
    min_seq: u64,
) -> Result<(Vec<RegistryRow>, Option<SessionId>), ApiError> {
    let answer = ask(bus, StoreQuestion::Registry(page), min_seq).await?;
    Ok((answer.sessions, answer.cursor))
}

async fn ask(bus: &Bus, ask: StoreQuestion, min_seq: u64) -> Result<StoreAnswer, ApiError> {
    bus.request_within(Endpoint::StoreRecord, &AskStore { min_seq, ask }, PATIENCE, REPLY_TIMEOUT).await
}
