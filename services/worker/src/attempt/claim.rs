//! The claim: the scheduler says whether this worker may execute the attempt.

use laneway_contract::{ApiError, ClaimAttempt, ClaimReply, DispatchMessage, Endpoint, ErrorCode, RunId, Timestamp};
use laneway_providers::Attempt;

use crate::clock;
use crate::run::Worker;

/// What came of a claim.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Yes.
    Granted(Claimed),
    /// No.
    Refused(ApiError),
    /// Nobody answered.
    Unanswered(ApiError),
}

/// A claimed attempt with its times.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// The right to call the provider.
    pub(crate) attempt: Attempt,
    /// When the claim was first sent, on the clock that counts suspend: the lease is counted from here.
    pub(crate) sent_at: u64,
    /// When its answer came, on the same clock.
    pub(crate) answered_at: u64,
    /// The same on the wall clock.
    pub(crate) wall_time: Timestamp,
}

/// A number that no other claim has. Without randomness of the system it falls back to the clock and the run.
pub(crate) fn new_id(run_id: RunId) -> u64 {
    laneway_runtime::random::bytes()
        .map_or_else(|_| clock::boot_ms() ^ run_id.uuid().as_u64_pair().1, u64::from_le_bytes)
}

/// Claims a dispatch.
pub(crate) async fn claim(worker: &Worker, dispatch: &DispatchMessage, claim_id: u64) -> Claim {
    let request = ClaimAttempt {
        run_id: dispatch.run_id,
        dispatch_no: dispatch.dispatch_no,
        worker_id: worker.config.worker_id.clone(),
        claim_id,
    };
    // IMPORTANT: read before the first sending. The scheduler's lease cannot begin earlier than this.
    let sent_at = clock::boot_ms();
    match worker.bus.request::<_, ClaimReply>(Endpoint::AttemptsClaim, &request).await {
        Ok(reply) => Claim::Granted(Claimed {
            attempt: Attempt::claimed(reply),
            sent_at,
            answered_at: clock::boot_ms(),
            wall_time: clock::wall(),
        }),
        Err(error) if matches!(error.code, ErrorCode::Unavailable | ErrorCode::Overloaded) => Claim::Unanswered(error),
        Err(error) => Claim::Refused(error),
    }
}
