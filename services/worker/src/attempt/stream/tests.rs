#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt;
use futures::stream::{self, StreamExt};
use laneway_bus::BusError;
use laneway_contract::{Chunk, ControlMessage, Finish, Piece, RunId, Stop};
use laneway_providers::{Attempt, Delta, DeltaStream, Prompt, Provider, Settings};

use super::super::tests::claim;
use super::{Ending, Fence, Gate, Outlet, Tokens, Transcript, USAGE_ESTIMATED, call};
use crate::attempt::lease::Lease;
use crate::clock;
use crate::control::Stops;

/// A provider that never lets others run: every piece is there at once. Before piece `stop_before` a cancel comes.
struct Hasty {
    stops: Arc<Stops>,
    run_id: RunId,
    epoch: u64,
    stop_before: Option<usize>,
}

impl Provider for Hasty {
    fn call(&self, _attempt: &Attempt, _prompt: Prompt) -> DeltaStream {
        let Self { stops, run_id, epoch, stop_before } = self;
        let (stops, run_id, epoch, stop_before) = (stops.clone(), *run_id, *epoch, *stop_before);
        let pieces = ["a", "b", "c", "d"].into_iter().map(|text| Delta::Text(text.to_owned()));
        stream::iter(pieces.chain([Delta::Finish(Finish::Stop)]).enumerate())
            .map(move |(place, delta)| {
                if Some(place) == stop_before {
                    stops.deliver(&ControlMessage { run_id, epoch, stop: Stop::Cancel });
                }
                Ok(delta)
            })
            .boxed()
    }
}

#[derive(Clone, Default)]
struct Published(Arc<Mutex<Vec<Bytes>>>);

impl Outlet for Published {
    async fn send(&self, chunk: Bytes) -> Result<(), BusError> {
        self.0.lock().unwrap().push(chunk);
        Ok(())
    }
}

impl Published {
    fn texts(&self) -> Vec<String> {
        let chunks = self.0.lock().unwrap();
        let chunks = chunks.iter().map(|body| serde_json::from_slice::<Chunk>(body).unwrap());
        chunks
            .filter_map(|chunk| match chunk.piece {
                Piece::Text(text) => Some(text),
                Piece::Start { .. } | Piece::Thinking(_) | Piece::ToolCall { .. } | Piece::End { .. } => None,
            })
            .collect()
    }
}

/// What a call ends with, unless it waits to be stopped, what it kept, and what it published.
fn run(stop_before: Option<usize>) -> (Option<Ending>, String, Vec<String>) {
    let lease = claim();
    let stops = Arc::new(Stops::default());
    let signal = stops.listen(lease.run_id, 1);
    let hasty = Hasty { stops: stops.clone(), run_id: lease.run_id, epoch: lease.epoch, stop_before };
    let fence = Fence::new(&Lease::claimed(clock::boot_ms(), 60_000));
    let progress = AtomicU64::new(0);
    let gate = Gate { fence: &fence, signal: &signal, epoch: lease.epoch, progress: &progress };
    let published = Published::default();
    let mut tokens = Tokens::new(published.clone(), &lease);
    let mut transcript = Transcript::new(0);
    let prompt = Prompt { messages: Vec::new(), settings: Settings::default() };
    let attempt = Attempt::claimed(lease);
    let ending = call(&hasty, &attempt, prompt, &gate, &mut transcript, &mut tokens).now_or_never();
    assert_eq!(progress.load(Ordering::Relaxed), transcript.output_tokens());
    (ending, transcript.text().to_owned(), published.texts())
}

#[test]
fn pieces_are_kept_and_published_one_by_one() {
    let completed = Ending::Completed { finish: Finish::Stop, issues: vec![USAGE_ESTIMATED.to_owned()] };
    let texts = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    let whole = (Some(completed), "abcd".to_owned(), texts);
    assert_eq!(run(None), whole);
    // Only the finish was missing when the stop came.
    assert_eq!(run(Some(4)), whole);
}

/// The flag is looked at for every piece, also when the provider never lets anybody else run.
#[test]
fn a_stop_is_seen_at_the_next_piece() {
    assert_eq!(run(Some(2)), (None, "ab".to_owned(), vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(run(Some(0)), (None, String::new(), Vec::new()));
}

#[test]
fn nothing_passes_after_a_stop_or_the_end_of_the_lease() {
    let stops = Arc::new(Stops::default());
    let run_id = RunId::generate();
    let signal = stops.listen(run_id, 1);
    let progress = AtomicU64::new(0);
    let passes = |timeout_ms| {
        let fence = Fence::new(&Lease::claimed(clock::boot_ms(), timeout_ms));
        let gate = Gate { fence: &fence, signal: &signal, epoch: 4, progress: &progress };
        gate.pass().now_or_never().is_some()
    };
    assert!(passes(60_000));
    assert!(!passes(0));
    stops.deliver(&ControlMessage { run_id, epoch: 3, stop: Stop::Cancel });
    assert!(passes(60_000));
    stops.deliver(&ControlMessage { run_id, epoch: 4, stop: Stop::Cancel });
    assert!(!passes(60_000));
}
