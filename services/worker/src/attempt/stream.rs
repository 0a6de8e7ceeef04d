//! The call of the provider.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use laneway_contract::{Epoch, Finish, Piece, RunError};
use laneway_providers::{Attempt, Delta, Prompt, Provider, ProviderError};

use super::ending::Ending;
use super::lease::Fence;
use super::tokens::{Outlet, Tokens};
use super::transcript::Transcript;
use crate::clock;
use crate::control::StopSignal;

/// A warning: the provider's filter cut the answer.
pub(crate) const CONTENT_FILTERED: &str = "content_filtered";
/// A warning: the provider did not say how many tokens were used.
pub(crate) const USAGE_ESTIMATED: &str = "usage_estimated";

/// What is asked before anything is sent or passed on.
pub(crate) struct Gate<'a> {
    /// The end of the lease.
    pub(crate) fence: &'a Fence,
    /// Whether the attempt is to stop.
    pub(crate) signal: &'a StopSignal,
    /// The attempt's epoch.
    pub(crate) epoch: Epoch,
    /// Output tokens so far, for the renewals.
    pub(crate) progress: &'a AtomicU64,
}

impl Gate<'_> {
    /// Goes on at once, or never: whoever keeps the lease ends the attempt then.
    async fn pass(&self) {
        if !self.fence.holds(clock::boot_ms()) || self.signal.asked(self.epoch).is_some() {
            std::future::pending::<()>().await;
        }
    }
}

/// Calls the provider and passes on what it says, until it ends. Dropping this closes the connection. Pieces may still
/// wait to be published at the end: a whole answer waits for nothing.
pub(crate) async fn call(
    provider: &impl Provider,
    attempt: &Attempt,
    prompt: Prompt,
    gate: &Gate<'_>,
    transcript: &mut Transcript,
    tokens: &mut Tokens<impl Outlet>,
) -> Ending {
    let lease = attempt.lease();
    tokens.push(Piece::Start { session_id: lease.session_id, model_id: lease.model_id.clone() });
    gate.pass().await;
    transcript.called(prompt.content_bytes(), clock::wall());
    let mut deltas = provider.call(attempt, prompt);
    loop {
        let item = tokio::select! {
            biased;
            // Pieces become larger ones only while the connection to NATS takes none.
            () = tokens.publish_next() => continue,
            item = deltas.next() => item,
        };
        // An answer that is whole by now is kept as such, whatever was asked meanwhile.
        if !matches!(item, Some(Ok(Delta::Finish(_)))) {
            gate.pass().await;
        }
        if let Some(ending) = take(item, transcript, tokens) {
            return ending;
        }
        gate.progress.store(transcript.output_tokens(), Ordering::Relaxed);
    }
}

/// Keeps one item of the answer; gives the end where it is the last.
fn take(
    item: Option<Result<Delta, ProviderError>>,
    transcript: &mut Transcript,
    tokens: &mut Tokens<impl Outlet>,
) -> Option<Ending> {
    match item {
        Some(Ok(Delta::Text(text))) => {
            transcript.token(clock::boot_ms(), clock::wall);
            if !transcript.say(&text) {
                return Some(completed(Finish::Length, transcript));
            }
            tokens.push(Piece::Text(text));
            None
        }
        Some(Ok(Delta::Thinking(text))) => {
            transcript.token(clock::boot_ms(), clock::wall);
            tokens.push(Piece::Thinking(text));
            None
        }
        Some(Ok(Delta::Usage(usage))) => {
            transcript.used(usage);
            None
        }
        Some(Ok(Delta::Finish(finish))) => Some(completed(finish, transcript)),
        Some(Err(error)) => Some(Ending::Failed(RunError::from(error))),
        None => Some(Ending::Failed(RunError::from(ProviderError::Truncated))),
    }
}

fn completed(finish: Finish, transcript: &Transcript) -> Ending {
    let cut = match finish {
        Finish::ContentFilter => Some(CONTENT_FILTERED),
        // That the answer ended at its limit, the scheduler sees by itself.
        Finish::Length | Finish::Stop | Finish::ToolUse | Finish::Cancelled | Finish::Budget | Finish::Error => None,
    };
    let estimated = (!transcript.usage_is_known()).then_some(USAGE_ESTIMATED);
    Ending::Completed { finish, issues: cut.into_iter().chain(estimated).map(str::to_owned).collect() }
}

#[cfg(test)]
mod tests;
