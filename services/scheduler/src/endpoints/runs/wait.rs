//! `runs.wait`, and the wait of a submit.

use std::time::Duration;

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{Format, RunId, RunReply, WaitRun};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Context, ended_reply, live_reply, remembered_reply};
use crate::desk::Answered;
use crate::edge::{self, Wait};
use crate::waiters::Ended;

pub(in crate::endpoints) async fn wait(context: Context, incoming: Incoming<WaitRun>) -> Result<RunReply, Refusal> {
    let Incoming { body: WaitRun { run_id, wait_ms, with_content }, format, .. } = incoming;
    let wait = edge::wait(wait_ms, with_content)?;
    let Answered { body: end, journal_seq } = context.desk.look(move |scene| Ok(scene.watch(run_id))).await?;
    match end {
        Some(end) => until_ended(&context, run_id, end, wait, format, false).await,
        None => remembered_reply(&context, run_id, wait.with_content, format, false, journal_seq).await,
    }
}

/// The run when it has ended, or as it is when the time is over.
pub(super) async fn until_ended(
    context: &Context,
    run_id: RunId,
    end: oneshot::Receiver<Ended>,
    wait: Wait,
    format: Format,
    repeated: bool,
) -> Result<RunReply, Refusal> {
    let Wait { ms, with_content } = wait;
    match timeout(Duration::from_millis(ms), end).await {
        Ok(Ok(Ended { ending, journal_seq })) => {
            let brought = ending.output.is_some() || ending.record.status.output_artifact_id.is_none();
            if with_content && !brought {
                return remembered_reply(context, run_id, true, format, repeated, journal_seq).await;
            }
            let output = ending.output.clone().filter(|_| with_content);
            Ok(ended_reply(ending.record.clone(), output, format, repeated, journal_seq)?)
        }
        // The leadership ended; the caller asks the next leader.
        Ok(Err(_)) => Err(Refusal::Silent),
        Err(_) => {
            let look = context.desk.look(move |scene| Ok(scene.live_run(run_id))).await?;
            match look.body {
                Some(run) => Ok(live_reply(run, repeated, look.journal_seq)),
                None => remembered_reply(context, run_id, with_content, format, repeated, look.journal_seq).await,
            }
        }
    }
}
