//! The call of the provider.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use laneway_contract::{Epoch, Finish, Piece, ProducedMessage, RunError};
use laneway_providers::{Attempt, Delta, Prompt, Provider, ProviderError};

use super::ending::Ending;
use super::lease::Fence;
use super::report::{Desk, Reports, call_of_tool};
use super::tokens::{Outlet, Tokens};
use super::transcript::{Transcript, estimate};
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

/// What one item of the answer comes to.
enum Taken {
    /// More is awaited.
    More,
    /// A tool was asked for: this is reported before anything else.
    Tool(Vec<ProducedMessage>),
    /// It was the last.
    End(Ending),
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
    reports: &mut Reports<'_, impl Desk>,
) -> Ending {
    let lease = attempt.lease();
    if lease.tokens_left.is_some_and(|left| estimate(prompt.content_bytes()) > left) {
        return Ending::out_of_budget();
    }
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
        match take(item, lease.tokens_left, transcript, tokens) {
            Taken::More => {}
            Taken::Tool(messages) => {
                reports.open(messages);
                if let Err(refusal) = tokens.flush_during(reports.settle(transcript)).await {
                    return Ending::unreported(&refusal);
                }
                // IMPORTANT: a tool is called only behind this line. Its call is in the journal, so that a lost worker's
                // run is not tried again by itself, and the attempt may still go on.
                gate.pass().await;
            }
            Taken::End(ending) => return ending,
        }
        gate.progress.store(transcript.output_tokens(), Ordering::Relaxed);
    }
}

/// Keeps one item of the answer, unless it is a token that the budget has no room for.
fn take(
    item: Option<Result<Delta, ProviderError>>,
    tokens_left: Option<u64>,
    transcript: &mut Transcript,
    tokens: &mut Tokens<impl Outlet>,
) -> Taken {
    match item {
        Some(Ok(Delta::Text(_) | Delta::Thinking(_))) if !transcript.has_room(tokens_left) => {
            Taken::End(completed(Finish::Budget, transcript))
        }
        Some(Ok(Delta::Text(text))) => {
            transcript.token(clock::boot_ms(), clock::wall);
            if !transcript.say(&text) {
                return Taken::End(completed(Finish::Length, transcript));
            }
            tokens.push(Piece::Text(text));
            Taken::More
        }
        Some(Ok(Delta::Thinking(text))) => {
            transcript.token(clock::boot_ms(), clock::wall);
            tokens.push(Piece::Thinking(text));
            Taken::More
        }
        Some(Ok(Delta::ToolCall { tool_call_id, name, arguments })) => {
            let messages = call_of_tool(transcript.text(), tool_call_id.clone(), &name, &arguments);
            tokens.push(Piece::ToolCall { tool_call_id, name });
            Taken::Tool(messages)
        }
        Some(Ok(Delta::Usage(usage))) => {
            transcript.used(usage);
            Taken::More
        }
        Some(Ok(Delta::Approval { approval_id })) => Taken::End(Ending::AwaitingApproval(approval_id)),
        Some(Ok(Delta::Finish(finish))) => Taken::End(completed(finish, transcript)),
        Some(Err(error)) => Taken::End(Ending::Failed(RunError::from(error))),
        None => Taken::End(Ending::Failed(RunError::from(ProviderError::Truncated))),
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
