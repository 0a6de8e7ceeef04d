//! `runs.list`: live and ended runs as one list, newest first.

use std::collections::BTreeMap;

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{ListRuns, RunId, RunPage, RunView};
use laneway_engine::Run;

use super::super::rows;
use super::Context;
use crate::desk::{Answered, Scene};
use crate::replica::{self, Page};
use crate::room::Room;

/// Live runs that one page looks at; a page with a filter may end early with a cursor.
const SCAN: usize = 10_000;

/// Live runs, newest first.
struct Live {
    runs: Vec<RunView>,
    /// Set when not all were looked at: the run down to which this is everything.
    down_to: Option<RunId>,
}

pub(in crate::endpoints) async fn list(context: Context, incoming: Incoming<ListRuns>) -> Result<RunPage, Refusal> {
    let Incoming { body: request, format, .. } = incoming;
    let limit = rows(request.limit)?;
    // One more than fits the page shows whether there is another.
    let more = limit + 1;
    let ListRuns { session_id, state, cursor, .. } = request;
    let Answered { body: live, journal_seq } =
        context.desk.look(move |scene| Ok(live_runs(scene, &request, more))).await?;
    let wants_ended = state.is_none_or(laneway_contract::JobState::is_terminal);
    let ended = if wants_ended {
        let page = Page { session_id, state, before: cursor, limit: more };
        replica::ended_runs(&context.bus, page, journal_seq).await?
    } else {
        Vec::new()
    };
    // A run that ended in between is in both: the ended one is the newer.
    let mut merged: BTreeMap<RunId, RunView> = live.runs.into_iter().map(|run| (run.run_id, run)).collect();
    merged.extend(ended.into_iter().map(|record| (record.run_id, record.into())));
    let mut runs: Vec<RunView> = merged.into_values().rev().collect();
    let mut cursor = None;
    if let Some(down_to) = live.down_to {
        runs.retain(|run| run.run_id >= down_to);
        cursor = Some(down_to);
    }
    let mut room = Room::new(format);
    let mut fitting = 0;
    for run in runs.iter().take(limit) {
        if !room.take(run)? {
            break;
        }
        fitting += 1;
    }
    if fitting < runs.len() {
        runs.truncate(fitting);
        cursor = runs.last().map(|run| run.run_id);
    }
    Ok(RunPage { runs, cursor, journal_seq })
}

fn live_runs(scene: &Scene<'_>, request: &ListRuns, more: usize) -> Live {
    let mut live = Live { runs: Vec::new(), down_to: None };
    let fits = |run: &Run| request.state.is_none_or(|state| state == run.record.status.state);
    if let Some(session_id) = request.session_id {
        let ids = scene.state.session(session_id).map(|session| scene.state.runs_of_session(session));
        let mut ids: Vec<RunId> = ids.unwrap_or_default();
        ids.retain(|id| request.cursor.is_none_or(|cursor| *id < cursor));
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let runs = ids.into_iter().filter_map(|id| scene.state.run(id)).filter(|run| fits(run));
        live.runs.extend(runs.take(more).map(|run| scene.run_view(run)));
        return live;
    }
    let mut last = None;
    for (looked_at, run) in scene.state.live_runs(request.cursor).enumerate() {
        if live.runs.len() == more {
            break;
        }
        if looked_at == SCAN {
            live.down_to = last;
            break;
        }
        last = Some(run.record.run_id);
        if fits(run) {
            live.runs.push(scene.run_view(run));
        }
    }
    live
}
