#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt;
use laneway_bus::BusError;
use laneway_contract::{
    ApiError, AttemptResult, ClaimReply, ErrorClass, ErrorCode, Finish, GenerationSettings, JobState, MessageRole,
    MicroUsd, ModelId, Piece, ReportAttempt, ReportReply, RunError, RunId, SessionId, Stop, Timestamp, Usage,
};
use serde_json::json;

use super::ending::{Ending, Halt};
use super::report::{Desk, Reports, build, call_of_tool};
use super::tokens::{Outlet, Tokens};
use super::transcript::Transcript;
use super::{caught, conclude};

/// A claim's answer.
pub(super) fn claim() -> ClaimReply {
    ClaimReply {
        run_id: RunId::generate(),
        session_id: SessionId::generate(),
        attempt: 1,
        epoch: 3,
        model_id: ModelId::parse("echo/default").unwrap(),
        generation: GenerationSettings::default(),
        timeout_ms: 1_000,
        submitted_at: Timestamp::ZERO,
        dispatched_at: Timestamp::ZERO,
        traceparent: None,
        tokens_left: None,
        approved: None,
        journal_seq: 1,
    }
}

/// A scheduler that notes reports and gives these answers, the last one first; none left: it never answers.
#[derive(Default)]
pub(super) struct Noting {
    pub(super) answers: Mutex<Vec<Result<(), ErrorCode>>>,
    pub(super) noted: Mutex<Vec<ReportAttempt>>,
}

impl Noting {
    pub(super) fn answering(answers: &[Result<(), ErrorCode>]) -> Self {
        Self { answers: Mutex::new(answers.iter().rev().copied().collect()), noted: Mutex::default() }
    }

    pub(super) fn noted(&self) -> Vec<ReportAttempt> {
        self.noted.lock().unwrap().clone()
    }
}

impl Desk for Noting {
    async fn deliver(&self, report: &ReportAttempt) -> Result<ReportReply, ApiError> {
        self.noted.lock().unwrap().push(report.clone());
        let answer = self.answers.lock().unwrap().pop();
        match answer {
            Some(Ok(())) => Ok(ReportReply { state: JobState::Running, repeated: false }),
            Some(Err(code)) => Err(ApiError::new(code, "as the test says")),
            None => std::future::pending().await,
        }
    }
}

fn transcript(text: &str) -> Transcript {
    let mut transcript = Transcript::new(0);
    transcript.called(4, Timestamp::ZERO);
    transcript.say(text);
    transcript.used(Usage { input_tokens: 1, output_tokens: 2, ..Usage::default() });
    transcript
}

fn failed() -> Ending {
    Ending::Failed(RunError {
        code: "provider_error".to_owned(),
        message: "it failed".to_owned(),
        class: ErrorClass::Server,
        retryable: true,
        retry_after_ms: None,
    })
}

/// What was said before the end is kept, with the finish that keeps it out of later windows or not.
#[test]
fn a_partial_answer_is_kept_with_its_finish() {
    let check = |ending: Ending, finish: Finish| {
        let report = build(&claim(), 2, &ending, &transcript("half"), |_| Some(MicroUsd(5))).unwrap();
        assert_eq!((report.report_no, report.epoch), (2, 3));
        assert_eq!(report.messages.len(), 1, "{ending:?}");
        assert_eq!((report.messages[0].content.as_str(), report.messages[0].finish), ("half", Some(finish)));
        let outcome = report.outcome.unwrap();
        assert_eq!((outcome.usage.total(), outcome.cost_usd), (3, Some(MicroUsd(5))));
        outcome.result
    };
    let completed = Ending::Completed { finish: Finish::Length, issues: Vec::new() };
    assert_eq!(check(completed, Finish::Length), AttemptResult::Completed { finish: Finish::Length });
    let cut = Ending::Completed { finish: Finish::Budget, issues: Vec::new() };
    assert_eq!(check(cut, Finish::Budget), AttemptResult::Completed { finish: Finish::Budget });
    let cancelled = check(Ending::Halted(Halt::Stop(Stop::Cancel)), Finish::Cancelled);
    assert_eq!(cancelled, AttemptResult::Stopped { stop: Stop::Cancel });
    let timeout = check(Ending::Halted(Halt::Stop(Stop::Timeout)), Finish::Error);
    assert_eq!(timeout, AttemptResult::Stopped { stop: Stop::Timeout });
    assert!(matches!(check(failed(), Finish::Error), AttemptResult::Failed { error } if error.retryable));
    for halt in [Halt::Lapsed, Halt::CutOff] {
        let result = check(Ending::Halted(halt), Finish::Error);
        assert!(matches!(result, AttemptResult::Failed { error } if error.class == ErrorClass::WorkerLost));
    }
}

#[test]
fn only_a_whole_answer_may_be_empty() {
    let messages = |ending: Ending| build(&claim(), 0, &ending, &transcript(""), |_| None).unwrap().messages.len();
    assert_eq!(messages(Ending::Completed { finish: Finish::Stop, issues: Vec::new() }), 1);
    assert_eq!(messages(failed()), 0);
    assert_eq!(messages(Ending::Halted(Halt::Stop(Stop::Cancel))), 0);
    assert_eq!(messages(Ending::HandedBack), 0);
    assert_eq!(messages(Ending::out_of_budget()), 0);
    assert_eq!(messages(Ending::AwaitingApproval("a".to_owned())), 0);
}

/// It is neither ended nor cut: the attempt goes on behind it, and only another attempt leaves it out.
#[test]
fn what_was_said_before_an_approval_has_no_finish() {
    let report = build(&claim(), 0, &Ending::AwaitingApproval("a".to_owned()), &transcript("half"), |_| None).unwrap();
    assert_eq!((report.messages[0].content.as_str(), report.messages[0].finish), ("half", None));
    assert_eq!(report.messages[0].token_count, Some(2));
    assert_eq!(report.outcome.unwrap().result, AttemptResult::AwaitingApproval { approval_id: "a".to_owned() });
}

#[test]
fn a_call_of_a_tool_stands_behind_what_was_said_before_it() {
    let messages = call_of_tool("I look", "c".to_owned(), "find", &json!({"q": 1}));
    let shown: Vec<_> =
        messages.iter().map(|m| (m.role, m.content.as_str(), m.tool_call_id.as_deref(), m.finish)).collect();
    let call = (MessageRole::ToolCall, r#"{"name":"find","arguments":{"q":1}}"#, Some("c"), None);
    assert_eq!(shown, [(MessageRole::Assistant, "I look", None, Some(Finish::ToolUse)), call]);
    assert_eq!(call_of_tool("", "c".to_owned(), "find", &json!({})).len(), 1);
}

/// Reports while the attempt goes on, then its end: numbers are dense, and one that may have been taken is repeated.
#[test]
fn reports_are_dense_and_repeated_as_they_were() {
    let tool = || call_of_tool("half", "c".to_owned(), "find", &json!({}));
    let completed = Ending::Completed { finish: Finish::Stop, issues: Vec::new() };
    let check = |answers: &[Result<(), ErrorCode>], settled: Option<bool>, numbers: &[u32], concluded: bool| {
        let (claim, desk, mut transcript) = (claim(), Noting::answering(answers), transcript("half"));
        let mut reports = Reports::new(&desk, &claim);
        reports.open(tool());
        assert_eq!(reports.settle(&mut transcript).now_or_never().map(|settled| settled.is_ok()), settled);
        // From here on the scheduler answers.
        desk.answers.lock().unwrap().extend([Ok(()), Ok(())]);
        let end = reports.conclude(&completed, &mut transcript, |_| None).now_or_never().unwrap();
        assert_eq!(end.is_some(), concluded);
        let noted = desk.noted();
        assert_eq!(noted.iter().map(|report| report.report_no).collect::<Vec<_>>(), numbers);
        let repeats = noted.windows(2).filter(|two| two[0].report_no == two[1].report_no);
        assert!(repeats.into_iter().all(|two| two[0] == two[1] || two[1].outcome.is_some()));
        noted.last().unwrap().messages[0].content.clone()
    };
    assert_eq!(check(&[Ok(())], Some(true), &[0, 1], true), "");
    // Its acknowledgement is lost: the same again, and only then the end.
    assert_eq!(check(&[], None, &[0, 0, 1], true), "");
    // It was given up, and may have been taken.
    assert_eq!(check(&[Err(ErrorCode::Unavailable)], Some(false), &[0, 0, 1], true), "");
    // It was refused, so its number is free and its text is not told.
    assert_eq!(check(&[Err(ErrorCode::BadRequest)], Some(false), &[0, 0], true), "half");
}

#[test]
fn a_refused_report_ends_the_attempt() {
    let end = |code| Ending::unreported(&ApiError::new(code, ""));
    for code in [ErrorCode::StaleEpoch, ErrorCode::RunTerminal, ErrorCode::NotFound] {
        assert_eq!(end(code), Ending::Halted(Halt::Refused));
    }
    assert!(matches!(end(ErrorCode::BadRequest), Ending::Failed(error) if error.code == "report_refused"));
}

#[test]
fn a_lease_that_is_over_is_not_reported() {
    assert_eq!(build(&claim(), 0, &Ending::Halted(Halt::Refused), &transcript("half"), |_| None), None);
}

/// How many chunks were sent.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicUsize>);

impl Outlet for Counted {
    async fn send(&self, _chunk: Bytes) -> Result<(), BusError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Another attempt may be streaming by then.
#[test]
fn what_waits_is_published_at_the_end_unless_the_lease_is_over() {
    let check = |ending: Ending, sent| {
        let (claim, desk, outlet) = (claim(), Noting::answering(&[Ok(())]), Counted::default());
        let mut tokens = Tokens::new(outlet.clone(), &claim);
        tokens.push(Piece::Text("half".to_owned()));
        let mut reports = Reports::new(&desk, &claim);
        let ended = conclude(&ending, &mut transcript("half"), &mut tokens, &mut reports, |_| None).now_or_never();
        assert!(ended.is_some());
        assert_eq!(outlet.0.load(Ordering::Relaxed), sent, "{ending:?}");
    };
    check(Ending::Halted(Halt::Lapsed), 0);
    check(Ending::Halted(Halt::Refused), 0);
    check(Ending::Halted(Halt::CutOff), 1);
    check(Ending::Halted(Halt::Stop(Stop::Cancel)), 1);
    check(failed(), 1);
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt() {
    let ending = caught(async { panic!("a fault with content in its text") }).await;
    let Ending::Failed(error) = ending else { panic!("{ending:?}") };
    assert_eq!((error.code.as_str(), error.class, error.retryable), ("internal", ErrorClass::Internal, true));
    assert!(!error.message.contains("content"));
}
