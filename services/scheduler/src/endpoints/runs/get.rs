//! `runs.get`.

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{GetRun, RunReply};

use super::{Context, live_reply, remembered_reply};
use crate::desk::Answered;

pub(in crate::endpoints) async fn get(context: Context, incoming: Incoming<GetRun>) -> Result<RunReply, Refusal> {
    let Incoming { body: GetRun { run_id }, format, .. } = incoming;
    let Answered { body: live, journal_seq } = context.desk.look(move |scene| Ok(scene.live_run(run_id))).await?;
    match live {
        Some(run) => Ok(live_reply(run, false, journal_seq)),
        None => remembered_reply(&context, run_id, false, format, false, journal_seq).await,
    }
}
