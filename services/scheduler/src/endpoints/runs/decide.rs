//! `runs.decide`.

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{ApiError, DecideRun, ErrorCode, Event, RunId, RunRecord, RunReply, RunView};
use laneway_engine::Command;

use super::{Context, ended_reply, live_reply};
use crate::desk::{Answered, Scene};
use crate::edge;

/// The run after the decision.
enum After {
    /// It goes on.
    Live(Box<RunView>),
    /// The decision has ended it.
    Ended(Box<RunRecord>),
}

pub(in crate::endpoints) async fn decide(context: Context, incoming: Incoming<DecideRun>) -> Result<RunReply, Refusal> {
    let format = incoming.format;
    let decide = edge::decide(incoming.body)?;
    let run_id = decide.run_id;
    let look = move |scene: &mut Scene<'_>| after(scene, run_id);
    let Answered { body: run, journal_seq } = context.desk.decide(Command::Decide(decide), look).await?;
    match run {
        After::Live(run) => Ok(live_reply(*run, false, journal_seq)),
        After::Ended(record) => Ok(ended_reply(*record, None, format, false, journal_seq)?),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only one event ends a run")]
fn after(scene: &Scene<'_>, run_id: RunId) -> Result<After, ApiError> {
    if let Some(run) = scene.live_run(run_id) {
        return Ok(After::Live(Box::new(run)));
    }
    let ended = scene.events.iter().find_map(|event| match event {
        Event::RunSettled { run, .. } if run.run_id == run_id => Some(run.clone()),
        _ => None,
    });
    let missing = || ApiError::new(ErrorCode::Internal, "a run was decided about and is gone");
    ended.map(After::Ended).ok_or_else(missing)
}
