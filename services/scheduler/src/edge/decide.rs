//! `runs.decide`: what a person says about a run that waits for one.

use laneway_contract::{ApiError, DecideRun};
use laneway_engine::Decide;

use super::check;

/// Checks a decision and makes it a command.
pub(crate) fn decide(request: DecideRun) -> Result<Decide, ApiError> {
    let DecideRun { run_id, decision, approval_id, actor, reason } = request;
    check::actor(&actor, &reason)?;
    check::optional_name("approval_id", approval_id.as_ref())?;
    Ok(Decide { run_id, decision, approval_id, actor, reason })
}
