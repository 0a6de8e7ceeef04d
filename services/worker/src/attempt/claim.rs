//! The claim: the scheduler says whether this worker may execute the attempt.

use std::time::Duration;

use laneway_bus::async_nats::jetstream::{AckKind, Message};
use laneway_contract::{
    ApiError, ClaimAttempt, ClaimReply, DISPATCH_CLAIM_MS, DispatchMessage, Endpoint, ErrorCode, RunId, Timestamp,
    WORKER_BOUND_MS,
};
use laneway_providers::Attempt;

use crate::clock;
use crate::run::Worker;

/// Between two rounds of tries.
const PAUSE: Duration = Duration::from_millis(500);

/// What came of a claim.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Yes.
    Granted(Claimed),
    /// No.
    Refused(ApiError),
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

impl Claimed {
    /// Whether the answer came so late that nothing may be begun.
    pub(crate) fn is_late(&self) -> bool {
        is_late(self.answered_at.saturating_sub(self.sent_at), self.attempt.lease().timeout_ms)
    }
}

/// A claim that has been asked for longer than a dispatch may wait for one was held up: what that has cost is not the run's
/// fault. A time of an attempt that is shorter than any answer takes is its own: a run that went back for it never ended.
fn is_late(waited_ms: u64, timeout_ms: u64) -> bool {
    waited_ms >= timeout_ms.clamp(DISPATCH_CLAIM_MS, WORKER_BOUND_MS)
}

/// A number that no other claim has. Without randomness of the system it falls back to the clock and the run.
pub(crate) fn new_id(run_id: RunId) -> u64 {
    laneway_runtime::random::bytes()
        .map_or_else(|_| clock::boot_ms() ^ run_id.uuid().as_u64_pair().1, u64::from_le_bytes)
}

/// Claims a dispatch: asks under the same number until the scheduler says yes or no, however long nobody answers.
///
/// It may have said yes long ago: then the run executes here, and under another number nobody would get it before its lease
/// has ended.
pub(crate) async fn claim(worker: &Worker, dispatch: &DispatchMessage, message: &Message, claim_id: u64) -> Claim {
    let request = ClaimAttempt {
        run_id: dispatch.run_id,
        dispatch_no: dispatch.dispatch_no,
        worker_id: worker.config.worker_id.clone(),
        claim_id,
    };
    // IMPORTANT: read before the first sending. The scheduler's lease cannot begin earlier than this, and which of the
    // sendings it begins with is not known.
    let sent_at = clock::boot_ms();
    loop {
        match worker.bus.request::<_, ClaimReply>(Endpoint::AttemptsClaim, &request).await {
            Ok(reply) => {
                return Claim::Granted(Claimed {
                    attempt: Attempt::claimed(reply),
                    sent_at,
                    answered_at: clock::boot_ms(),
                    wall_time: clock::wall(),
                });
            }
            Err(error) if matches!(error.code, ErrorCode::Unavailable | ErrorCode::Overloaded) => {
                tracing::warn!(%error, "claim not answered; asking again");
            }
            Err(error) => return Claim::Refused(error),
        }
        // Else the dispatch would come again, and take another slot for the same question.
        if let Err(error) = message.ack_with(AckKind::Progress).await {
            tracing::debug!(%error, "a dispatch was not kept in hand; it may come again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use laneway_contract::{DISPATCH_CLAIM_MS, WORKER_BOUND_MS};

    use super::is_late;

    #[test]
    fn an_answer_is_late_when_its_lease_or_its_attempts_time_may_be_over() {
        let check = |timeout_ms, late_from| {
            assert!(!is_late(late_from - 1, timeout_ms) && is_late(late_from, timeout_ms), "{timeout_ms}");
        };
        check(600_000, WORKER_BOUND_MS);
        check(10_000, 10_000);
        // Shorter than a claim may take: the attempt has had its time.
        check(1, DISPATCH_CLAIM_MS);
    }
}
