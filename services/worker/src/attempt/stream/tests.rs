#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt;
use futures::stream::{self, StreamExt};
use laneway_bus::BusError;
use laneway_contract::{
    Chunk, ClaimReply, ControlMessage, ErrorCode, Finish, MessageRole, Piece, ReportAttempt, RunId, Stop, Usage,
};
use laneway_providers::{Attempt, Delta, DeltaStream, Prompt, PromptMessage, Provider, Settings};
use serde_json::json;

use super::super::tests::{Noting, claim};
use super::{Ending, Fence, Gate, Outlet, Reports, Tokens, Transcript, USAGE_ESTIMATED, call};
use crate::attempt::lease::Lease;
use crate::clock;
use crate::control::Stops;

/// A provider that never lets others run: every piece is there at once. Before piece `stop_before` a cancel comes.
struct Hasty {
    pieces: Vec<Delta>,
    stops: Arc<Stops>,
    run_id: RunId,
    epoch: u64,
    stop_before: Option<usize>,
}

impl Provider for Hasty {
    fn call(&self, _attempt: &Attempt, _prompt: Prompt) -> DeltaStream {
        let Self { pieces, stops, run_id, epoch, stop_before } = self;
        let (stops, run_id, epoch, stop_before) = (stops.clone(), *run_id, *epoch, *stop_before);
        stream::iter(pieces.clone().into_iter().enumerate())
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
    /// Texts, and names of tools in brackets.
    fn texts(&self) -> Vec<String> {
        let chunks = self.0.lock().unwrap();
        let chunks = chunks.iter().map(|body| serde_json::from_slice::<Chunk>(body).unwrap());
        chunks
            .filter_map(|chunk| match chunk.piece {
                Piece::Text(text) => Some(text),
                Piece::ToolCall { name, .. } => Some(format!("[{name}]")),
                Piece::Start { .. } | Piece::Thinking(_) | Piece::End { .. } => None,
            })
            .collect()
    }
}

fn texts(texts: &[&str]) -> Vec<Delta> {
    texts.iter().map(|text| Delta::Text((*text).to_owned())).collect()
}

fn tool() -> Delta {
    Delta::ToolCall { tool_call_id: "c".to_owned(), name: "find".to_owned(), arguments: json!({}) }
}

/// What came of a call.
struct Run {
    /// What it ends with, unless it waits to be stopped.
    ending: Option<Ending>,
    /// What it kept.
    text: String,
    usage: Usage,
    /// What it published.
    published: Vec<String>,
    /// What it reported on the way.
    reported: Vec<ReportAttempt>,
}

/// A call with a prompt of 8 bytes, which are 2 tokens, where the scheduler gives these answers to reports.
fn run_with(
    lease: ClaimReply,
    pieces: Vec<Delta>,
    stop_before: Option<usize>,
    answers: &[Result<(), ErrorCode>],
) -> Run {
    let stops = Arc::new(Stops::default());
    let signal = stops.listen(lease.run_id, 1);
    let hasty = Hasty { pieces, stops: stops.clone(), run_id: lease.run_id, epoch: lease.epoch, stop_before };
    let fence = Fence::new(&Lease::claimed(clock::boot_ms(), clock::boot_ms(), 60_000));
    let progress = AtomicU64::new(0);
    let gate = Gate { fence: &fence, signal: &signal, epoch: lease.epoch, progress: &progress };
    let published = Published::default();
    let mut tokens = Tokens::new(published.clone(), &lease);
    let mut transcript = Transcript::new(0);
    let message = PromptMessage { role: MessageRole::User, content: "8 bytes.".to_owned(), tool_call_id: None };
    let prompt = Prompt { messages: vec![message], settings: Settings::default() };
    let (desk, attempt) = (Noting::answering(answers), Attempt::claimed(lease));
    let mut reports = Reports::new(&desk, attempt.lease());
    let ending = call(&hasty, &attempt, prompt, &gate, &mut transcript, &mut tokens, &mut reports).now_or_never();
    assert_eq!(progress.load(Ordering::Relaxed), transcript.output_tokens());
    let (text, usage) = (transcript.text().to_owned(), transcript.usage());
    Run { ending, text, usage, published: published.texts(), reported: desk.noted() }
}

/// A call that says a, b, c and d: its end, what it kept, and what it published.
fn run(stop_before: Option<usize>) -> (Option<Ending>, String, Vec<String>) {
    let pieces = [texts(&["a", "b", "c", "d"]), vec![Delta::Finish(Finish::Stop)]].concat();
    let run = run_with(claim(), pieces, stop_before, &[]);
    assert!(run.reported.is_empty());
    (run.ending, run.text, run.published)
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
        let fence = Fence::new(&Lease::claimed(clock::boot_ms(), clock::boot_ms(), timeout_ms));
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

#[test]
fn nothing_passes_that_the_budget_has_no_room_for() {
    let check = |tokens_left: u64, finish: Finish, said: &[&str]| {
        let lease = ClaimReply { tokens_left: Some(tokens_left), ..claim() };
        let pieces = [texts(&["a", "b", "c", "d"]), vec![Delta::Finish(Finish::Stop)]].concat();
        let run = run_with(lease, pieces, None, &[]);
        let expected = Ending::Completed { finish, issues: vec![USAGE_ESTIMATED.to_owned()] };
        assert_eq!(run.ending, Some(expected), "{tokens_left}");
        assert_eq!((run.text, run.published), (said.concat(), said.iter().map(|text| (*text).to_owned()).collect()));
        let usage = Usage { input_tokens: 2, output_tokens: said.len() as u64, ..Usage::default() };
        assert_eq!(run.usage, usage);
    };
    check(2, Finish::Budget, &[]);
    check(4, Finish::Budget, &["a", "b"]);
    check(5, Finish::Budget, &["a", "b", "c"]);
    // It suffices for the whole answer.
    check(6, Finish::Stop, &["a", "b", "c", "d"]);
}

#[test]
fn a_prompt_that_the_budget_has_no_room_for_is_not_sent() {
    let lease = ClaimReply { tokens_left: Some(1), ..claim() };
    let run = run_with(lease, vec![Delta::Finish(Finish::Stop)], None, &[]);
    assert_eq!((run.ending, run.usage), (Some(Ending::out_of_budget()), Usage::default()));
}

#[test]
fn what_the_provider_counts_comes_before_an_estimate() {
    let used = |output_tokens| Delta::Usage(Usage { input_tokens: 5, output_tokens, ..Usage::default() });
    let lease = || ClaimReply { tokens_left: Some(8), ..claim() };
    let pieces = [texts(&["a"]), vec![used(2)], texts(&["b", "c"])].concat();
    let cut = run_with(lease(), pieces, None, &[]);
    assert_eq!(cut.ending, Some(Ending::Completed { finish: Finish::Budget, issues: Vec::new() }));
    assert_eq!((cut.text.as_str(), cut.usage.total()), ("ab", 8));
    // An answer that is whole is kept as such, whatever it has cost.
    let pieces = [texts(&["a", "b"]), vec![used(9), Delta::Finish(Finish::Stop)]].concat();
    let whole = run_with(lease(), pieces, None, &[]);
    assert_eq!(whole.ending, Some(Ending::Completed { finish: Finish::Stop, issues: Vec::new() }));
    assert_eq!(whole.usage.total(), 14);
}

#[test]
fn a_tool_is_reported_before_the_answer_goes_on() {
    let pieces = || [texts(&["a", "b"]), vec![tool()], texts(&["c"]), vec![Delta::Finish(Finish::Stop)]].concat();
    let run = run_with(claim(), pieces(), None, &[Ok(())]);
    assert!(matches!(run.ending, Some(Ending::Completed { finish: Finish::Stop, .. })), "{:?}", run.ending);
    assert_eq!((run.text.as_str(), run.published), ("c", ["a", "b", "[find]", "c"].map(str::to_owned).to_vec()));
    let [report] = run.reported.as_slice() else { unreachable!("one report: {:?}", run.reported) };
    assert_eq!((report.report_no, &report.outcome), (0, &None));
    let said: Vec<_> = report.messages.iter().map(|message| (message.role, message.finish)).collect();
    assert_eq!(said, [(MessageRole::Assistant, Some(Finish::ToolUse)), (MessageRole::ToolCall, None)]);

    // Without an answer it waits, and what came before is neither lost nor told; others learn of the tool meanwhile.
    let run = run_with(claim(), pieces(), None, &[]);
    assert_eq!((run.ending, run.text.as_str()), (None, "ab"));
    assert_eq!((run.published.last().map(String::as_str), run.reported.len()), (Some("[find]"), 1));

    // A lease that is over ends it, and so does a stop that came meanwhile.
    let run = run_with(claim(), pieces(), None, &[Err(ErrorCode::StaleEpoch)]);
    assert_eq!(run.ending, Some(Ending::unreported(&laneway_contract::ApiError::new(ErrorCode::StaleEpoch, ""))));
    let run = run_with(claim(), pieces(), Some(3), &[Ok(())]);
    assert_eq!((run.ending, run.text.as_str()), (None, ""));
}

#[test]
fn an_approval_ends_the_call_unless_it_is_to_stop() {
    let pieces = || [texts(&["a"]), vec![Delta::Approval { approval_id: "x".to_owned() }]].concat();
    let run = run_with(claim(), pieces(), None, &[]);
    assert_eq!((run.ending, run.text.as_str()), (Some(Ending::AwaitingApproval("x".to_owned())), "a"));
    assert_eq!(run_with(claim(), pieces(), Some(1), &[]).ending, None);
}
