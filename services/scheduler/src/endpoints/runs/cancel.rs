//! `runs.cancel`.

use std::collections::BTreeMap;
use std::time::Duration;

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{
    CancelReceipt, CancelReply, CancelRuns, CancelledRun, Event, MAX_PAGE, RunId, RunRecord, Timestamp,
};
use laneway_engine::{Cancel, CancelTarget, Command};
use tokio::time::timeout;

use super::Context;
use crate::desk::{Answered, Desk, Scene};
use crate::edge;
use crate::replica;
use crate::room::Room;
use crate::waiters::Ended;

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
    let (cancel, wait_ms) = edge::cancel(incoming.body)?;
    let (mut runs, at, mut journal_seq) = live(&context.desk, &cancel).await?;
    if let CancelTarget::Run(run_id) = cancel.target
        && runs.is_empty()
    {
        // It had ended before: its receipt is part of its record, or says that this cancel came too late.
        let (record, _) = replica::ended_run(&context.bus, run_id, false, journal_seq).await?;
        let mut row = row(&record);
        row.receipt.get_or_insert_with(|| too_late(cancel, record.status.ended_at, at));
        runs.insert(run_id, row);
    }
    if let Some(ms) = wait_ms {
        let ended = settled(&context, &mut runs);
        let until = timeout(Duration::from_millis(ms), ended).await;
        journal_seq = journal_seq.max(until.unwrap_or(Ok(0))?);
    }
    let done = runs.values().all(|run| run.state.is_terminal());
    let (mut room, mut rows) = (Room::new(incoming.format), Vec::new());
    for row in runs.into_values() {
        if rows.len() == MAX_PAGE as usize || !room.take(&row)? {
            break;
        }
        rows.push(row);
    }
    Ok(CancelReply { runs: rows, done, journal_seq })
}

/// Waits until each of these runs has ended, one after the other, and brings its row up to date. Gives the frame up to which
/// that is true.
async fn settled(context: &Context, runs: &mut BTreeMap<RunId, CancelledRun>) -> Result<u64, Refusal> {
    let mut up_to = 0;
    for (run_id, shown) in runs.iter_mut().filter(|(_, run)| !run.state.is_terminal()) {
        let run_id = *run_id;
        let watched = context.desk.look(move |scene| Ok(scene.watch(run_id))).await?;
        *shown = if let Some(end) = watched.body {
            // The leadership ended: the caller asks the next leader.
            let Ended { ending, journal_seq } = end.await.map_err(|_| Refusal::Silent)?;
            up_to = up_to.max(journal_seq);
            row(&ending.record)
        } else {
            up_to = up_to.max(watched.journal_seq);
            row(&replica::ended_run(&context.bus, run_id, false, watched.journal_seq).await?.0)
        };
    }
    Ok(up_to)
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
        let kept = |row: &CancelledRun| runs.contains_key(&row.run_id) || !row.state.is_terminal();
        let (kept, new): (Vec<_>, Vec<_>) = batch.rows.into_iter().partition(kept);
        runs.extend(kept.into_iter().chain(new.into_iter().take(room)).map(|row| (row.run_id, row)));
        if batch.last {
            return Ok((runs, batch.at, journal_seq));
        }
    }
}

/// One turn cancels at most [`Cancel::BATCH`] runs.
async fn one_batch(desk: &Desk, cancel: &Cancel) -> Result<Answered<Batch>, Refusal> {
    let command = cancel.clone();
    let look = move |scene: &mut Scene<'_>| Ok(batch(scene, &command));
    desk.decide(Command::Cancel(cancel.clone()), look).await
}

fn batch(scene: &Scene<'_>, cancel: &Cancel) -> Batch {
    let mut rows: Vec<CancelledRun> = scene.events.iter().filter_map(|event| concerned(scene, event, cancel)).collect();
    if scene.repeated {
        // What is live now and was asked to stop is executing: its worker has still to end it.
        let live = scene.state.cancel_targets(cancel).unwrap_or_default();
        let live = live.into_iter().filter_map(|id| scene.state.run(id));
        let asked = live.filter(|run| run.record.status.cancel.is_some());
        rows.extend(asked.take(MAX_PAGE as usize).map(|run| row(&run.record)));
    }
    Batch { rows, last: scene.repeated, at: scene.now }
}

/// The row of a run that this turn ended, or asked to stop.
#[expect(clippy::wildcard_enum_match_arm, reason = "a cancel has no other events of runs")]
fn concerned(scene: &Scene<'_>, event: &Event, cancel: &Cancel) -> Option<CancelledRun> {
    let run: &RunRecord = match event {
        Event::RunSettled { run, .. } => run,
        Event::RunStopRequested { run_id, .. } => &scene.state.run(*run_id)?.record,
        _ => return None,
    };
    concerns(cancel, run).then(|| row(run))
}

fn concerns(cancel: &Cancel, run: &RunRecord) -> bool {
    let is_target = match &cancel.target {
        CancelTarget::Run(id) => run.run_id == *id,
        CancelTarget::Session(id) => run.session_id == *id,
        CancelTarget::Token(token) => run.fields.cancellation_token.as_ref() == Some(token),
    };
    is_target && cancel.reaches(run.status.submitted_at)
}

/// The receipt of a cancel that found the run ended by itself.
fn too_late(cancel: Cancel, ended_at: Option<Timestamp>, at: Timestamp) -> CancelReceipt {
    let Cancel { actor, reason, .. } = cancel;
    CancelReceipt { settled_at: ended_at, too_late: true, ..CancelReceipt::requested(actor, reason, at) }
}

fn row(run: &RunRecord) -> CancelledRun {
    CancelledRun { run_id: run.run_id, state: run.status.state, receipt: run.status.cancel.as_deref().cloned() }
}
