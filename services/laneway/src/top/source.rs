//! Asks the scheduler and listens to the token streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::stream::StreamExt;
use laneway_contract::{
    ApiError, Chunk, Endpoint, ExplainReply, ExplainRun, Explanation, Family, GetLimits, GetStatus, JobState, ListRuns,
    MAX_PAGE, Piece, RunId, RunView,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::model::Look;
use super::oldest::Oldest;
use crate::client::Client;
use crate::exit::CliError;

/// How long one request is tried: the screen is there to be looked at, also when nobody answers.
const PATIENCE: Duration = Duration::from_secs(2);
/// Waiting runs of one page.
const PAGE: u32 = 200;
/// Waiting runs that the scheduler is asked to explain.
const EXPLAINED: usize = 20;

/// Where looks come from.
pub(super) struct Source {
    client: Client,
    chunks: Arc<AtomicU64>,
    begun: Instant,
    oldest: Oldest,
}

impl Source {
    /// Begins to listen.
    pub(super) async fn open(client: Client) -> Result<Self, CliError> {
        let bus = client.bus();
        let mut messages = bus.subscribe(bus.prefix().all(Family::Tokens)).await?;
        bus.flush().await?;
        let chunks = Arc::new(AtomicU64::new(0));
        let heard = chunks.clone();
        laneway_runtime::spawn("tokens", async move {
            while let Some(message) = messages.next().await {
                if is_text(&message.payload) {
                    heard.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { client, chunks, begun: Instant::now(), oldest: Oldest::default() })
    }

    /// Looks at everything once.
    pub(super) async fn look(&mut self) -> Result<Look, ApiError> {
        let Self { client, oldest, .. } = self;
        let list = async |below: Option<RunId>| {
            let request =
                ListRuns { session_id: None, state: Some(JobState::Queued), limit: Some(PAGE), cursor: below };
            ask(client, Endpoint::RunsList, &request).await
        };
        let (status, limits, mut runs) = tokio::try_join!(
            ask(client, Endpoint::Status, &GetStatus {}),
            ask(client, Endpoint::LimitsGet, &GetLimits { limit: Some(MAX_PAGE), cursor: None }),
            oldest.find(list),
        )?;
        runs.sort_by_key(|run: &RunView| {
            (run.status.submitted_at.max(run.fields.not_before.unwrap_or_default()), run.run_id)
        });
        runs.truncate(EXPLAINED);
        let explanations = join_all(runs.iter().map(|run| explain(client, run.run_id))).await;
        let oldest = runs.into_iter().zip(explanations).collect();
        Ok(Look { at: self.begun.elapsed(), status, limits, oldest, chunks: self.chunks.load(Ordering::Relaxed) })
    }
}

async fn ask<Q: Serialize, R: DeserializeOwned>(
    client: &Client,
    endpoint: Endpoint,
    request: &Q,
) -> Result<R, ApiError> {
    client.bus().request_within(endpoint, request, PATIENCE, PATIENCE).await
}

/// What holds a run; nothing when that cannot be said, as of a run that has just ended.
async fn explain(client: &Client, run_id: RunId) -> Option<Explanation> {
    let reply: Result<ExplainReply, ApiError> = ask(client, Endpoint::RunsExplain, &ExplainRun { run_id }).await;
    reply.inspect_err(|error| tracing::debug!(%run_id, %error, "not explained")).ok().map(|reply| reply.explanation)
}

fn is_text(payload: &[u8]) -> bool {
    serde_json::from_slice(payload).is_ok_and(|chunk: Chunk| matches!(chunk.piece, Piece::Text(_)))
}
