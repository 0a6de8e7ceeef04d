//! `runs.cancel`.

use std::collections::BTreeMap;

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{
    CancelReceipt, CancelReply, CancelRuns, CancelledRun, Event, MAX_PAGE, RunId, RunRecord, Timestamp,
};
use laneway_engine::{Cancel, CancelTarget, Command};

use super::Context;
use crate::desk::{Answered, Desk, Scene};
use crate::edge;
use crate::replica;

/// What one turn of a cancel came to.
struct Batch {
    rows: Vec<CancelledRun>,
    /// Nothing was left to cancel.
    last: bool,
    /// Journal time of the turn.
    at: Timestamp,
}

pub(in crate::endpoints) async fn cancel(
    context: Context,
    incoming: Incoming<CancelRuns>,
) -> Result<CancelReply, Refusal> {
    let cancel = edge::cancel(incoming.body)?;
    let (mut runs, at, journal_seq) = live(&context.desk, &cancel).await?;
    if let CancelTarget::Run(run_id) = cancel.target
        && runs.is_empty()
    {
        // It had ended before: its receipt is part of its record, or says that this cancel came too late.
        let (record, _) = replica::ended_run(&context.bus, run_id, false, journal_seq).await?;
        let mut row = row(&record);
        row.receipt.get_or_insert_with(|| too_late(cancel, record.status.ended_at, at));
        runs.insert(run_id, row);
    }
    Ok(CancelReply { runs: runs.into_values().collect(), journal_seq })
}

/// Cancels what has not ended: the runs, when, and the frame up to which that is true.
pub(crate) async fn live(
    desk: &Desk,
    cancel: &Cancel,
) -> Result<(BTreeMap<RunId, CancelledRun>, Timestamp, u64), Refusal> {
    let mut runs: BTreeMap<RunId, CancelledRun> = BTreeMap::new();
    loop {
        let Answered { body: batch, journal_seq } = one_batch(desk, cancel).await?;
        // A reply has room for a page; what the cancel does has no such bound.
        let room = (MAX_PAGE as usize).saturating_sub(runs.len());
        let known = |row: &CancelledRun| runs.contains_key(&row.run_id);
        let (known, new): (Vec<_>, Vec<_>) = batch.rows.into_iter().partition(known);
        runs.extend(known.into_iter().chain(new.into_iter().take(room)).map(|row| (row.run_id, row)));
        if batch.last {
            return Ok((runs, batch.at, journal_seq));
        }
    }
}

/// One turn cancels at most [`Cancel::BATCH`] runs.
async fn one_batch(desk: &Desk, cancel: &Cancel) -> Result<Answered<Batch>, Refusal> {
    let target = cancel.target.clone();
    let look = move |scene: &mut Scene<'_>| Ok(batch(scene, &target));
    desk.decide(Command::Cancel(cancel.clone()), look).await
}

fn batch(scene: &Scene<'_>, target: &CancelTarget) -> Batch {
    let mut rows: Vec<CancelledRun> = scene.events.iter().filter_map(|event| concerned(scene, event, target)).collect();
    if scene.repeated {
        // What is live now and was asked to stop is executing: its worker has still to end it.
        let live = scene.state.cancel_targets(target).unwrap_or_default();
        let live = live.into_iter().filter_map(|id| scene.state.run(id));
        let asked = live.filter(|run| run.record.status.cancel.is_some());
        rows.extend(asked.take(MAX_PAGE as usize).map(|run| row(&run.record)));
    }
    Batch { rows, last: scene.repeated, at: scene.now }
}

/// The row of a run that this turn ended, or asked to stop.
#[expect(clippy::wildcard_enum_match_arm, reason = "a cancel has no other events of runs")]
fn concerned(scene: &Scene<'_>, event: &Event, target: &CancelTarget) -> Option<CancelledRun> {
    let run: &RunRecord = match event {
        Event::RunSettled { run, .. } => run,
        Event::RunStopRequested { run_id, .. } => &scene.state.run(*run_id)?.record,
        _ => return None,
    };
    concerns(target, run).then(|| row(run))
}

fn concerns(target: &CancelTarget, run: &RunRecord) -> bool {
    match target {
        CancelTarget::Run(id) => run.run_id == *id,
        CancelTarget::Session(id) => run.session_id == *id,
        CancelTarget::Token(token) => run.fields.cancellation_token.as_ref() == Some(token),
    }
}

/// The receipt of a cancel that found the run ended by itself.
fn too_late(cancel: Cancel, ended_at: Option<Timestamp>, at: Timestamp) -> CancelReceipt {
    let Cancel { actor, reason, .. } = cancel;
    CancelReceipt { by: actor, reason, requested_at: at, settled_at: ended_at, too_late: true }
}

fn row(run: &RunRecord) -> CancelledRun {
    CancelledRun { run_id: run.run_id, state: run.status.state, receipt: run.status.cancel.as_deref().cloned() }
}
