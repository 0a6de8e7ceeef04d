//! `runs.submit`, `get`, `list`, `wait`, `cancel`, `explain`, `decide` and `retry`. Live runs come from the state, ended ones from a store replica that
//! has applied the frame up to which the state was looked at.

mod cancel;
mod decide;
mod explain;
mod get;
mod list;
mod retry;
mod submit;
mod wait;

pub(super) use cancel::cancel;
pub(super) use decide::decide;
pub(super) use explain::explain;
pub(super) use get::get;
pub(super) use list::list;
pub(super) use retry::retry;
pub(super) use submit::submit;
pub(crate) use submit::{hand_in, known};
pub(super) use wait::wait;
#[cfg(test)]
pub(crate) use {
    cancel::live as cancel_live,
    submit::{Submitted, submitted},
};

use laneway_bus::Refusal;
use laneway_contract::{ApiError, Format, RunId, RunRecord, RunReply, RunView};

use super::Context;
use crate::replica;
use crate::room::Room;

/// The reply about a run that has not ended.
fn live_reply(run: RunView, repeated: bool, journal_seq: u64) -> RunReply {
    RunReply { run, done: false, output: None, repeated, journal_seq }
}

/// The reply about a run that has ended. A text that does not fit is left to its artifact id, which the run names.
fn ended_reply(
    record: RunRecord,
    output: Option<String>,
    format: Format,
    repeated: bool,
    journal_seq: u64,
) -> Result<RunReply, ApiError> {
    let run = RunView::from(record);
    let mut room = Room::new(format);
    let output = match output {
        Some(output) if room.take(&run)? && room.take(&output)? => Some(output),
        Some(_) | None => None,
    };
    Ok(RunReply { run, done: true, output, repeated, journal_seq })
}

/// The reply about an ended run that only a store replica remembers whole.
async fn remembered_reply(
    context: &Context,
    run_id: RunId,
    with_output: bool,
    format: Format,
    repeated: bool,
    journal_seq: u64,
) -> Result<RunReply, Refusal> {
    let (record, output) = replica::ended_run(&context.bus, run_id, with_output, journal_seq).await?;
    Ok(ended_reply(record, output, format, repeated, journal_seq)?)
}
