//! `runs.explain`.

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{ApiError, ErrorCode, ExplainReply, ExplainRun, Explanation, RunId};
use serde_json::json;

use super::Context;
use crate::desk::{Answered, Scene};

pub(in crate::endpoints) async fn explain(
    context: Context,
    incoming: Incoming<ExplainRun>,
) -> Result<ExplainReply, Refusal> {
    let run_id = incoming.body.run_id;
    let Answered { body: explanation, journal_seq } = context.desk.look(move |scene| explained(scene, run_id)).await?;
    Ok(ExplainReply { run_id, explanation, journal_seq })
}

fn explained(scene: &Scene<'_>, run_id: RunId) -> Result<Explanation, ApiError> {
    let state = scene.state;
    if let Some(run) = state.run(run_id) {
        return Ok(state.explain(run, scene.hints, scene.now));
    }
    Err(match state.ended_run(run_id) {
        Some(ended) => {
            let message = format!("run {run_id} has ended as {}: nothing holds it, runs.get shows it", ended.state);
            ApiError::new(ErrorCode::RunTerminal, message).with_details(json!({"state": ended.state}))
        }
        None => ApiError::new(ErrorCode::NotFound, format!("no run {run_id}: submit it with runs.submit")),
    })
}
