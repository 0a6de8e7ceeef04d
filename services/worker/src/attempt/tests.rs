#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use laneway_contract::{
    AttemptResult, ClaimReply, ErrorClass, Finish, GenerationSettings, MicroUsd, ModelId, RunError, RunId, SessionId,
    Stop, Timestamp, Usage,
};

use super::caught;
use super::ending::{Ending, Halt};
use super::report::build;
use super::transcript::Transcript;

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
        journal_seq: 1,
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
        let report = build(&claim(), &ending, &transcript("half"), |_| Some(MicroUsd(5))).unwrap();
        assert_eq!((report.report_no, report.epoch), (0, 3));
        assert_eq!(report.messages.len(), 1, "{ending:?}");
        assert_eq!((report.messages[0].content.as_str(), report.messages[0].finish), ("half", Some(finish)));
        let outcome = report.outcome.unwrap();
        assert_eq!((outcome.usage.total(), outcome.cost_usd), (3, Some(MicroUsd(5))));
        outcome.result
    };
    let completed = Ending::Completed { finish: Finish::Length, issues: Vec::new() };
    assert_eq!(check(completed, Finish::Length), AttemptResult::Completed { finish: Finish::Length });
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
    let messages = |ending: Ending| build(&claim(), &ending, &transcript(""), |_| None).unwrap().messages.len();
    assert_eq!(messages(Ending::Completed { finish: Finish::Stop, issues: Vec::new() }), 1);
    assert_eq!(messages(failed()), 0);
    assert_eq!(messages(Ending::Halted(Halt::Stop(Stop::Cancel))), 0);
    assert_eq!(messages(Ending::HandedBack), 0);
}

#[test]
fn a_lease_that_is_over_is_not_reported() {
    assert_eq!(build(&claim(), &Ending::Halted(Halt::Refused), &transcript("half"), |_| None), None);
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt() {
    let ending = caught(async { panic!("a fault with content in its text") }).await;
    let Ending::Failed(error) = ending else { panic!("{ending:?}") };
    assert_eq!((error.code.as_str(), error.class, error.retryable), ("internal", ErrorClass::Internal, true));
    assert!(!error.message.contains("content"));
}
