//! Keeps an attempt's lease, and ends as soon as the attempt may not go on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, OptionFuture};
use laneway_contract::{
    ApiError, ClaimReply, Endpoint, ErrorCode, RENEW_MS, RenewAttempt, RenewReply, Stop, WORKER_BOUND_MS,
};

use super::ending::Halt;
use super::lease::{Fence, Lease, Over};
use crate::clock;
use crate::control::StopSignal;
use crate::run::Worker;

/// The longest sleep: timers do not count the time that a machine was suspended, so the clock is looked at this often.
const LOOK_MS: u64 = 1_000;
/// One sending of a renewal is given up after this time.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

const _: () = assert!(LOOK_MS < RENEW_MS && 2 * LOOK_MS + WORKER_BOUND_MS < laneway_contract::ATTEMPT_LEASE_MS);

/// A renewal under way: when it was sent, and what came of it.
type Renewal<'a> = BoxFuture<'a, (u64, Result<RenewReply, ApiError>)>;

/// Renews the lease until the attempt has to stop, and says why.
pub(crate) async fn keep(
    worker: &Worker,
    claim: &ClaimReply,
    mut lease: Lease,
    fence: &Fence,
    signal: &StopSignal,
    progress: &AtomicU64,
) -> Halt {
    let mut renewal: Option<Renewal<'_>> = None;
    loop {
        let now = clock::boot_ms();
        match lease.check(now) {
            Ok(()) => {}
            Err(Over::Timeout) => return Halt::Stop(Stop::Timeout),
            Err(Over::Bound) => return Halt::Lapsed,
        }
        // A renewal that is still under way is given up for the next.
        if lease.renewal_due(now) {
            renewal = Some(renew(worker, claim, now, progress.load(Ordering::Relaxed)));
        }
        let sleep = Duration::from_millis(lease.wake_at().saturating_sub(now).clamp(1, LOOK_MS));
        tokio::select! {
            biased;
            stop = signal.stopped(claim.epoch) => return Halt::Stop(stop),
            () = worker.cut_off.requested() => return Halt::CutOff,
            Some((sent_at, answer)) = OptionFuture::from(renewal.as_mut()) => {
                renewal = None;
                if let Some(halt) = take(&mut lease, sent_at, answer, worker.config.ignore_renewal_stop) {
                    return halt;
                }
                fence.follow(&lease);
            }
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

fn renew<'a>(worker: &'a Worker, claim: &ClaimReply, sent_at: u64, output_tokens: u64) -> Renewal<'a> {
    let request = RenewAttempt { run_id: claim.run_id, epoch: claim.epoch, output_tokens };
    Box::pin(async move {
        let patience = Duration::from_millis(RENEW_MS);
        let answer = worker.bus.request_within(Endpoint::AttemptsRenew, &request, patience, REPLY_TIMEOUT).await;
        (sent_at, answer)
    })
}

/// What the answer to a renewal means for the lease.
fn take(lease: &mut Lease, sent_at: u64, answer: Result<RenewReply, ApiError>, ignore_stop: bool) -> Option<Halt> {
    match answer {
        Ok(RenewReply { stop: Some(stop) }) if !ignore_stop => Some(Halt::Stop(stop)),
        Ok(_) => {
            lease.renewed(sent_at);
            None
        }
        Err(error) if matches!(error.code, ErrorCode::StaleEpoch | ErrorCode::RunTerminal | ErrorCode::NotFound) => {
            Some(Halt::Refused)
        }
        Err(error) => {
            tracing::debug!(code = %error.code, "lease not renewed; trying again");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use laneway_contract::{ApiError, ErrorCode, RenewReply, Stop, WORKER_BOUND_MS};

    use super::{Halt, Lease, take};

    #[test]
    fn an_answer_renews_stops_or_ends_the_lease() {
        let check = |answer, ignore, halt, renewed: bool| {
            let mut lease = Lease::claimed(0, 0, u64::MAX);
            assert_eq!(take(&mut lease, 5_000, answer, ignore), halt);
            assert_eq!(lease.check(WORKER_BOUND_MS).is_ok(), renewed);
        };
        let error = |code| Err(ApiError::new(code, ""));
        check(Ok(RenewReply { stop: None }), false, None, true);
        check(Ok(RenewReply { stop: Some(Stop::Cancel) }), false, Some(Halt::Stop(Stop::Cancel)), false);
        check(Ok(RenewReply { stop: Some(Stop::Cancel) }), true, None, true);
        check(error(ErrorCode::StaleEpoch), false, Some(Halt::Refused), false);
        check(error(ErrorCode::RunTerminal), false, Some(Halt::Refused), false);
        check(error(ErrorCode::Unavailable), false, None, false);
        check(error(ErrorCode::Internal), false, None, false);
    }
}
