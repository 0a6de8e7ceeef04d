//! `runs.retry`: what has failed is submitted again, each run under an id that says which it tries again.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use laneway_bus::{Incoming, Refusal};
use laneway_contract::{ApiError, ErrorCode, JobState, RetriedRun, RetryReply, RetryRuns, RunId, RunRecord, Timestamp};
use serde_json::json;

use super::Context;
use super::submit::submitted;
use crate::desk::{Answered, Scene};
use crate::edge::{self, Filter, KnownArtifacts, Old, Prepared, Retry, Which, retried_as};
use crate::replica::{self, Page};

/// Ended runs that one page of a filter looks at; it may end early with a cursor.
const SCAN: usize = 2_000;
/// Ended runs that are read in one go.
const CHUNK: usize = 200;
/// Runs that are looked up at a time.
const LOOK_UPS: usize = 8;

/// A run that is to be tried again, or why it is not.
type Found = (RunId, Result<Box<RunRecord>, ApiError>);

pub(in crate::endpoints) async fn retry(
    context: Context,
    incoming: Incoming<RetryRuns>,
) -> Result<RetryReply, Refusal> {
    let Incoming { body, traceparent, .. } = incoming;
    let asked_by = body.actor.id.clone();
    let Retry { which, dry_run, key } = edge::retry(body)?;
    let named_runs = if let Which::Named(run_ids) = &which { run_ids.clone() } else { Vec::new() };
    let live = move |scene: &mut Scene<'_>| {
        let live = named_runs.into_iter().filter_map(|id| Some((id, scene.state.run(id)?.state())));
        Ok(live.collect::<BTreeMap<RunId, JobState>>())
    };
    let Answered { body: live, journal_seq: min_seq } = context.desk.look(live).await?;
    let (mut found, cursor) = match which {
        Which::Named(run_ids) => (named(&context, run_ids, &live, min_seq).await?, None),
        Which::Found(filter) => found(&context, &filter, min_seq).await?,
    };
    let mut runs = Vec::with_capacity(found.len());
    // In the order in which they were submitted, so that those of one session are.
    found.sort_by_key(|(run_id, old)| (old.as_ref().ok().map(|run| run.status.submitted_at), *run_id));
    for (run_id, old) in found {
        let row = match old {
            Ok(old) => one(&context, *old, key.as_deref(), dry_run, min_seq, traceparent.clone()).await,
            Err(error) => Err(error.into()),
        };
        runs.push(match row {
            Ok(row) => row,
            Err(Refusal::Error(error)) => RetriedRun { run_id, retried_as: None, repeated: false, error: Some(error) },
            // The caller asks the next leader, to whom what was done here is a repeat.
            Err(Refusal::Silent) => return Err(Refusal::Silent),
        });
    }
    runs.sort_by_key(|row| std::cmp::Reverse(row.run_id));
    let retried = runs.iter().filter(|row| row.retried_as.is_some() && !row.repeated).count();
    if retried > 0 {
        tracing::info!(asked_by, retried, "failed runs are tried again");
    }
    Ok(RetryReply { runs, cursor, dry_run })
}

/// Runs by id, newest first.
async fn named(
    context: &Context,
    mut run_ids: Vec<RunId>,
    live: &BTreeMap<RunId, JobState>,
    min_seq: u64,
) -> Result<Vec<Found>, ApiError> {
    run_ids.sort_unstable_by(|a, b| b.cmp(a));
    let look_ups = stream::iter(run_ids).map(|run_id| async move {
        if let Some(state) = live.get(&run_id) {
            return Ok((run_id, Err(not_ended(run_id, *state))));
        }
        match replica::ended_run(&context.bus, run_id, false, min_seq).await {
            Ok((run, _)) => Ok((run_id, failed(run))),
            Err(error) if error.code == ErrorCode::NotFound => Ok((run_id, Err(error))),
            Err(error) => Err(error),
        }
    });
    look_ups.buffered(LOOK_UPS).try_collect().await
}

fn not_ended(run_id: RunId, state: JobState) -> ApiError {
    let message = format!("run {run_id} is {state}: it can be tried again once it has failed");
    ApiError::new(ErrorCode::Busy, message).with_details(json!({"state": state}))
}

fn failed(run: RunRecord) -> Result<Box<RunRecord>, ApiError> {
    let (run_id, state) = (run.run_id, run.status.state);
    if matches!(state, JobState::Failed | JobState::Poisoned) {
        return Ok(Box::new(run));
    }
    let message = format!("run {run_id} has ended as {state}: only failed and poisoned runs are tried again");
    Err(ApiError::new(ErrorCode::RunTerminal, message).with_details(json!({"state": state})))
}

/// A page of what a filter finds, newest first, and where the next begins.
async fn found(context: &Context, filter: &Filter, min_seq: u64) -> Result<(Vec<Found>, Option<RunId>), ApiError> {
    let (mut found, mut before, mut looked_at) = (Vec::new(), filter.cursor, 0);
    loop {
        let (mut chunk, mut more) = (Vec::new(), false);
        for state in &filter.states {
            let page = Page { session_id: filter.session_id, state: Some(*state), before, limit: CHUNK };
            let runs = replica::ended_runs(&context.bus, page, min_seq).await?;
            more |= runs.len() == CHUNK;
            chunk.extend(runs);
        }
        chunk.sort_unstable_by_key(|run| std::cmp::Reverse(run.run_id));
        more |= chunk.len() > CHUNK;
        // The newest of each state hold the newest of all.
        chunk.truncate(CHUNK);
        for run in chunk {
            let run_id = run.run_id;
            if found.len() == filter.limit {
                return Ok((found, before));
            }
            before = Some(run_id);
            looked_at += 1;
            if filter.lets_through(&run) {
                found.push((run_id, Ok(Box::new(run))));
            }
        }
        if !more {
            return Ok((found, None));
        }
        if looked_at >= SCAN {
            return Ok((found, before));
        }
    }
}

/// What the state says before a run is tried again.
struct Before {
    old: Old,
    /// Whether it was tried again under this key.
    repeated: bool,
    now: Timestamp,
}

async fn one(
    context: &Context,
    run: RunRecord,
    key: Option<&str>,
    dry_run: bool,
    min_seq: u64,
    traceparent: Option<String>,
) -> Result<RetriedRun, Refusal> {
    let run_id = run.run_id;
    let new = retried_as(run_id, key);
    let session_id = run.session_id;
    let look = move |scene: &mut Scene<'_>| before(scene, run, new);
    let Answered { body: Before { old, repeated, now }, .. } = context.desk.look_at(session_id, look).await?;
    if repeated {
        return Ok(RetriedRun { run_id, retried_as: Some(new), repeated, error: None });
    }
    let instructions = old.session.instructions.filter(|_| old.needs_session());
    let known = match instructions {
        Some(id) => replica::known(&context.bus, BTreeSet::from([id]), min_seq).await?,
        None => KnownArtifacts::new(),
    };
    let submit = context.desk.edge().again(old, key, &known, now, traceparent)?;
    if dry_run {
        return Ok(RetriedRun { run_id, retried_as: None, repeated, error: None });
    }
    let prepared = Prepared { submit, of_session_model: None, wait: None };
    let repeated = submitted(&context.desk, prepared).await?.body.repeated;
    Ok(RetriedRun { run_id, retried_as: Some(new), repeated, error: None })
}

fn before(scene: &Scene<'_>, run: RunRecord, new: RunId) -> Result<Before, ApiError> {
    let state = scene.state;
    let session_id = run.session_id;
    let missing = || ApiError::new(ErrorCode::NotFound, format!("no session {session_id}"));
    let session = state.session(session_id).ok_or_else(missing)?;
    let old = Old { run, session: session.creation.fields.clone(), closed: session.is_closed() };
    let repeated = state.run(new).is_some() || state.ended_run(new).is_some();
    if !repeated && old.closed && !old.needs_session() {
        let message = format!("session {session_id} is {}: go on in a new session", session.status.state);
        return Err(
            ApiError::new(ErrorCode::SessionTerminal, message).with_details(json!({"state": session.status.state}))
        );
    }
    Ok(Before { old, repeated, now: scene.now })
}
