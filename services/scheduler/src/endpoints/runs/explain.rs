//! `runs.explain`.

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{ApiError, ErrorCode, ExplainReply, ExplainRun, Explanation, JobState, RunId};
use serde_json::json;

use super::Context;
use crate::desk::{Answered, Scene};
use crate::replica;

pub(in crate::endpoints) async fn explain(
    context: Context,
    incoming: Incoming<ExplainRun>,
) -> Result<ExplainReply, Refusal> {
    let run_id = incoming.body.run_id;
    let Answered { body: explanation, journal_seq } = context.desk.look(move |scene| explained(scene, run_id)).await?;
    if let Some(explanation) = explanation {
        return Ok(ExplainReply { run_id, explanation, journal_seq });
    }
    let (run, _) = replica::ended_run(&context.bus, run_id, false, journal_seq).await?;
    Err(ended(run_id, run.status.state).into())
}

/// None: it may be one that has ended and is forgotten.
fn explained(scene: &Scene<'_>, run_id: RunId) -> Result<Option<Explanation>, ApiError> {
    let state = scene.state;
    if let Some(run) = state.run(run_id) {
        return Ok(Some(state.explain(run, scene.hints, scene.now)));
    }
    match state.ended_run(run_id) {
        Some(run) => Err(ended(run_id, run.state)),
        None if state.forgotten_until().is_some() => Ok(None),
        None => Err(ApiError::new(ErrorCode::NotFound, format!("no run {run_id}: submit it with runs.submit"))),
    }
}

fn ended(run_id: RunId, state: JobState) -> ApiError {
    let message = format!("run {run_id} has ended as {state}: nothing holds it, runs.get shows it");
    ApiError::new(ErrorCode::RunTerminal, message).with_details(json!({"state": state}))
}
