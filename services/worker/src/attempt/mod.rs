//! One run, from its claim to its report.

mod chunks;
mod claim;
mod ending;
mod keep;
mod lease;
mod report;
mod stream;
mod tokens;
mod trace;
mod transcript;
mod window;

#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicU64;

use futures::FutureExt;
use laneway_bus::async_nats::jetstream::Message;
use laneway_contract::{DispatchMessage, MicroUsd, ReportAttempt, ReportReply, Usage};
use laneway_providers::Attempt;
use tracing::Instrument;

use crate::clock;
use crate::control::StopSignal;
use crate::decode::decode;
use crate::run::Worker;
use claim::{Claim, Claimed, claim};
use ending::{Ending, Halt};
use keep::keep;
use lease::{Fence, Lease};
use report::{Desk, Reports};
use tokens::{Outlet, TokenSubject, Tokens};
use transcript::Transcript;

/// Claims a dispatch and, when the scheduler says yes, executes the attempt.
pub(crate) async fn execute(worker: &Worker, message: &Message) {
    let Some(dispatch) = decode::<DispatchMessage>(message) else {
        tracing::warn!(subject = %message.subject, "not a dispatch");
        acknowledge(message).await;
        return;
    };
    let span = tracing::info_span!("attempt", session_id = %dispatch.session_id, run_id = %dispatch.run_id);
    async {
        let claim_id = claim::new_id(dispatch.run_id);
        let signal = worker.stops.listen(dispatch.run_id, claim_id);
        let asked = worker.cut_off.unless_requested(claim(worker, &dispatch, message, claim_id)).await;
        let Some(claim) = asked else {
            tracing::warn!("left before the claim was answered: if it was granted, the run waits for its lease to end");
            return;
        };
        match claim {
            Claim::Granted(claimed) => {
                acknowledge(message).await;
                attempt(worker, claimed, &signal).await;
            }
            Claim::Refused(error) => {
                tracing::debug!(code = %error.code, "claim refused");
                acknowledge(message).await;
            }
        }
    }
    .instrument(span)
    .await;
}

/// Executes a claimed attempt and reports it.
async fn attempt(worker: &Worker, claimed: Claimed, signal: &StopSignal) {
    let is_late = claimed.is_late();
    let Claimed { attempt, sent_at, answered_at, wall_time } = claimed;
    let lease = Lease::claimed(sent_at, answered_at, attempt.lease().timeout_ms);
    let mut transcript = Transcript::new(answered_at);
    let mut tokens = Tokens::new(TokenSubject::new(worker.bus.clone(), attempt.lease().run_id), attempt.lease());

    let mut reports = Reports::new(worker, attempt.lease());
    let (ending, told_at) = if is_late {
        // Whether its lease still holds only the scheduler knows, which takes the run back if so and refuses if not.
        (Ending::HandedBack, None)
    } else {
        run_out(worker, &attempt, lease, signal, &mut transcript, &mut tokens, &mut reports).await
    };
    // From here on the provider's connection is closed.
    if let Some(told_at) = told_at {
        transcript.stopped(told_at, clock::boot_ms());
    }
    log(&attempt, &ending);
    let ended_at = clock::wall();
    let price = |usage: &_| worker.config.catalog.cost(attempt.model_id(), usage);
    let concluded = conclude(&ending, &mut transcript, &mut tokens, &mut reports, price).await;
    let Some((report, reply)) = concluded else { return };
    tokens.end(&report, reply.state).await;
    trace::record(&attempt, &transcript, &report, reply.state, wall_time, ended_at);
}

/// The part between claim and report. When it ends, whatever was open to the provider has been dropped. Also gives the time
/// at which it was told to stop.
async fn run_out(
    worker: &Worker,
    attempt: &Attempt,
    lease: Lease,
    signal: &StopSignal,
    transcript: &mut Transcript,
    tokens: &mut Tokens<impl Outlet>,
    reports: &mut Reports<'_, impl Desk>,
) -> (Ending, Option<u64>) {
    let fence = Fence::new(&lease);
    let progress = AtomicU64::new(0);
    let gate = stream::Gate { fence: &fence, signal, epoch: attempt.lease().epoch, progress: &progress };
    tokio::select! {
        biased;
        halt = keep(worker, attempt.lease(), lease, &fence, signal, &progress) => {
            (Ending::Halted(halt), matches!(halt, Halt::Stop(_)).then(clock::boot_ms))
        }
        ending = caught(work(worker, attempt, &gate, transcript, tokens, reports)) => (ending, None),
    }
}

/// Reports how it ended, and publishes meanwhile what waits: nothing of an attempt whose lease has ended.
async fn conclude(
    ending: &Ending,
    transcript: &mut Transcript,
    tokens: &mut Tokens<impl Outlet>,
    reports: &mut Reports<'_, impl Desk>,
    price: impl Fn(&Usage) -> Option<MicroUsd>,
) -> Option<(ReportAttempt, ReportReply)> {
    if ending.has_no_lease() {
        tokens.forget();
    }
    tokens.flush_during(reports.conclude(ending, transcript, price)).await
}

/// A panic ends its attempt and nothing else.
async fn caught(work: impl Future<Output = Ending>) -> Ending {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Ending::panicked())
}

async fn work(
    worker: &Worker,
    attempt: &Attempt,
    gate: &stream::Gate<'_>,
    transcript: &mut Transcript,
    tokens: &mut Tokens<impl Outlet>,
    reports: &mut Reports<'_, impl Desk>,
) -> Ending {
    // A leaving worker calls no provider any more.
    let prompt = match worker.shutdown.unless_requested(window::read(worker, attempt.lease())).await {
        Some(Ok(prompt)) => prompt,
        Some(Err(ending)) => return ending,
        None => return Ending::HandedBack,
    };
    let Some(provider) = worker.serving.provider(attempt.model_id()) else {
        return Ending::not_served();
    };
    stream::call(provider, attempt, prompt, gate, transcript, tokens, reports).await
}

async fn acknowledge(message: &Message) {
    if let Err(error) = message.ack().await {
        tracing::debug!(%error, "a dispatch was not acknowledged; it comes again and is refused");
    }
}

fn log(attempt: &Attempt, ending: &Ending) {
    let (number, epoch, model) = (attempt.number(), attempt.lease().epoch, attempt.model_id().as_str());
    match ending {
        Ending::Completed { finish, .. } => tracing::debug!(attempt = number, epoch, model, %finish, "completed"),
        Ending::AwaitingApproval(approval_id) => {
            tracing::info!(attempt = number, epoch, model, approval_id, "waits for an approval");
        }
        Ending::Failed(error) => {
            tracing::info!(attempt = number, epoch, model, code = error.code, "failed: {}", error.message);
        }
        Ending::Halted(Halt::Stop(stop)) => tracing::info!(attempt = number, epoch, model, ?stop, "stopped"),
        Ending::Halted(halt @ (Halt::Lapsed | Halt::Refused | Halt::CutOff)) => {
            tracing::warn!(attempt = number, epoch, model, ?halt, "cut off");
        }
        Ending::HandedBack => tracing::info!(attempt = number, epoch, model, "handed back"),
    }
}
