//! `runs.submit`.

use std::sync::Arc;

use laneway_bus::{Bus, Incoming, Refusal};
use laneway_contract::{ApiError, ErrorCode, RunId, RunReply, RunView, SubmitRun};
use laneway_engine::{Command, State};
use tokio::sync::oneshot;

use super::wait::until_ended;
use super::{Context, live_reply, remembered_reply};
use crate::desk::{Answered, Check, Desk, Scene};
use crate::edge::{self, KnownArtifacts, Prepared};
use crate::replica;
use crate::waiters::Ended;

pub(in crate::endpoints) async fn submit(context: Context, incoming: Incoming<SubmitRun>) -> Result<RunReply, Refusal> {
    let Incoming { body: request, format, traceparent } = incoming;
    let known = known(&context.bus, &context.desk, &request).await?;
    let with_content = request.with_content.unwrap_or(true);
    let prepared = context.desk.edge().submit(request, &known, traceparent)?;
    let wait = prepared.wait;
    let Answered { body: submitted, journal_seq } = submitted(&context.desk, prepared).await?;
    let Submitted { run_id, live, end, repeated } = submitted;
    match (live, end, wait) {
        (None, ..) => remembered_reply(&context, run_id, with_content, format, repeated, journal_seq).await,
        (Some(_), Some(end), Some(wait)) => until_ended(&context, run_id, end, wait, format, repeated).await,
        (Some(run), ..) => Ok(live_reply(run, repeated, journal_seq)),
    }
}

/// What became of a submit.
pub(crate) struct Submitted {
    pub(crate) run_id: RunId,
    /// The run, unless it is a repeat and has ended.
    pub(crate) live: Option<RunView>,
    /// Its end, if that is waited for.
    pub(crate) end: Option<oneshot::Receiver<Ended>>,
    /// Whether it was submitted before.
    pub(crate) repeated: bool,
}

/// Hands a submit in.
pub(crate) async fn submitted(desk: &Desk, prepared: Prepared) -> Result<Answered<Submitted>, Refusal> {
    let (run_id, waits) = (prepared.submit.run_id, prepared.wait.is_some());
    let look = move |scene: &mut Scene<'_>| {
        let end = if waits { scene.watch(run_id) } else { None };
        Ok(Submitted { run_id, live: scene.live_run(run_id), end, repeated: scene.repeated })
    };
    hand_in(desk, prepared, look).await
}

/// Hands a submit in, and looks at the state right after.
pub(crate) async fn hand_in<A: Send + 'static>(
    desk: &Desk,
    prepared: Prepared,
    look: impl FnOnce(&mut Scene<'_>) -> Result<A, ApiError> + Send + 'static,
) -> Result<Answered<A>, Refusal> {
    let Prepared { submit, of_session_model, wait: _ } = prepared;
    let run_id = submit.run_id;
    let catalog = Arc::clone(desk.edge().catalog());
    let check = of_session_model.map(|(session_id, needs)| -> Check {
        Box::new(move |state: &State, command: &mut Command| {
            let taken = state.run(run_id).is_some() || state.ended_run(run_id).is_some();
            let Some(model_id) = state.model_of(session_id) else { return Ok(()) };
            // A repeat gets its first answer, whatever the table says by now.
            if let (Command::Submit(submit), false) = (command, taken) {
                needs.check(&catalog, model_id)?;
                submit.estimate = needs.estimate(&catalog, model_id);
            }
            Ok(())
        })
    });
    desk.decide_if(check, Command::Submit(submit), look).await
}

/// What a store replica knows of the artifacts that a submit names.
pub(crate) async fn known(bus: &Bus, desk: &Desk, request: &SubmitRun) -> Result<KnownArtifacts, Refusal> {
    let ids = edge::referenced(request);
    if ids.is_empty() {
        return Ok(KnownArtifacts::new());
    }
    if ids.len() > MAX_REFERENCED {
        let message = format!("the request names {} artifacts: it may name {MAX_REFERENCED}", ids.len());
        return Err(ApiError::new(ErrorCode::BadRequest, message).into());
    }
    // What was stored before this request was sent is in the journal up to here.
    let min_seq = desk.look(|_| Ok(())).await?.journal_seq;
    Ok(replica::known(bus, ids, min_seq).await?)
}

/// The most different artifacts that one submit names.
const MAX_REFERENCED: usize = 1_000;
