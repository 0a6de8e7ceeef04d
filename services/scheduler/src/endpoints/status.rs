//! `status`.

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{GetStatus, StatusReply, WorkerView};

use super::Context;
use crate::desk::{Answered, Scene};

pub(super) async fn get(context: Context, _: Incoming<GetStatus>) -> Result<StatusReply, Refusal> {
    let snapshot = context.snapshot.borrow().clone();
    let (leader, epoch) = (context.instance.to_string(), context.epoch);
    let look = move |scene: &mut Scene<'_>| {
        let state = scene.state;
        let heard = scene.hints.workers.iter().filter(|(_, worker)| worker.valid_until > scene.now);
        let workers = heard.map(|(worker_id, worker)| WorkerView {
            worker_id: worker_id.clone(),
            pool: worker.pool.clone(),
            models: worker.models.clone(),
            slots: worker.slots,
            executing: state.slots().workers.get(worker_id).copied().unwrap_or(0),
        });
        Ok(StatusReply {
            leader,
            epoch,
            journal_seq: 0,
            time: scene.now,
            limits: state.limits().clone(),
            in_use: state.slots().by_name(),
            queued: state.queued().clone(),
            sessions: state.live_session_count(),
            sessions_in_memory: state.held_session_count(),
            ended_runs: state.ended_run_count() as u64,
            forgotten_until: state.forgotten_until(),
            snapshot,
            workers: workers.collect(),
        })
    };
    let Answered { mut body, journal_seq } = context.desk.look(look).await?;
    body.journal_seq = journal_seq;
    Ok(body)
}
