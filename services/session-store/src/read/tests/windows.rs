//! What an attempt sends to its provider.

use laneway_contract::{
    ApiError, ErrorClass, ErrorCode, Event, Finish, Format, JobState, MessageRecord, MessageRole, ReadWindow, RunError,
};
use serde_json::json;

use crate::testing::*;

use MessageRole::{Assistant, System, ToolCall, ToolResult, User};

/// A thread of session 1 while it is written, one frame for each message.
struct Thread {
    world: World,
    end: u64,
}

impl Thread {
    fn new() -> Self {
        let mut world = World::new();
        world.commit(vec![created(session(1, 1)), created(session(2, 2))]);
        // Another session's thread lies right behind this one on disk.
        world.commit(appended(message(2, 1, User, "another's"), "another's").to_vec());
        Self { world, end: 0 }
    }

    fn add(&mut self, role: MessageRole, content: &str, change: impl FnOnce(&mut MessageRecord)) -> &mut Self {
        self.end += 1;
        let mut record = message(1, self.end, role, content);
        change(&mut record);
        self.world.commit(appended(record, content).to_vec());
        self
    }

    fn say(&mut self, role: MessageRole, content: &str) -> &mut Self {
        self.add(role, content, |_| {})
    }

    /// What attempt `attempt` of run `run` made.
    fn made(&mut self, run: u128, attempt: u32, role: MessageRole, content: &str, finish: Option<Finish>) -> &mut Self {
        self.add(role, content, |record| *record = MessageRecord { finish, ..produced(record.clone(), run, attempt) })
    }

    /// A call or a result of a tool; `made_by` is run and attempt, none for history.
    fn tool(&mut self, made_by: Option<(u128, u32)>, role: MessageRole, id: &str, content: &str) -> &mut Self {
        self.add(role, content, |record| {
            if let Some((run, attempt)) = made_by {
                *record = produced(record.clone(), run, attempt);
            }
            record.tool_call_id = Some(id.to_owned());
        })
    }

    fn claim(&mut self, run: u128, attempt: u32, epoch: u64, upto: u64) -> &mut Self {
        self.world.commit(vec![claimed(1, run, attempt, epoch, upto)]);
        self
    }

    fn window(&self, run: u128, epoch: u64) -> Vec<String> {
        let mut request = window_of(run, epoch);
        let mut found = Vec::new();
        loop {
            let page = self.world.read().read_window(&request, Format::MessagePack).unwrap();
            found.extend(page.messages.iter().map(|view| view.content.clone().unwrap()));
            request.from_seq = page.next_seq;
            if request.from_seq.is_none() {
                return found;
            }
        }
    }
}

fn window_of(run: u128, epoch: u64) -> ReadWindow {
    ReadWindow { run_id: run_id(run), epoch, from_seq: None, min_seq: 0 }
}

#[test]
fn the_thread_up_to_the_first_claim_with_the_instructions_first() {
    let mut thread = Thread::new();
    thread.say(System, "S").say(User, "U1").made(1, 1, Assistant, "A1", Some(Finish::Stop));
    thread.add(User, "U2", |record| record.run_id = Some(run_id(2))).claim(2, 1, 5, 4);
    // Appended while the run executes: for the next run.
    thread.say(User, "U3");
    assert_eq!(thread.window(2, 5), ["S", "U1", "A1", "U2"]);
    thread.claim(3, 1, 6, 5);
    assert_eq!(thread.window(3, 6), ["S", "U1", "A1", "U2", "U3"]);
}

#[test]
fn partial_answers_stay_only_when_their_end_allows_it() {
    let check = |finish: Option<Finish>, stays: bool| {
        let mut thread = Thread::new();
        thread.say(User, "U1").made(1, 1, Assistant, "part", finish).say(User, "U2").claim(2, 1, 5, 3);
        let expected: &[&str] = if stays { &["U1", "part", "U2"] } else { &["U1", "U2"] };
        assert_eq!(thread.window(2, 5), expected, "{finish:?}");
    };
    check(None, true);
    check(Some(Finish::Stop), true);
    check(Some(Finish::ToolUse), true);
    check(Some(Finish::Length), true);
    check(Some(Finish::Cancelled), true);
    check(Some(Finish::Error), false);
    check(Some(Finish::Budget), false);
    check(Some(Finish::ContentFilter), false);
}

#[test]
fn a_retry_never_sees_the_partial_text_of_its_predecessor() {
    for finish in [None, Some(Finish::Error), Some(Finish::Cancelled), Some(Finish::Budget)] {
        let mut thread = Thread::new();
        thread.say(User, "U1").claim(1, 1, 5, 1).made(1, 1, Assistant, "half an ans", finish).claim(1, 2, 6, 1);
        assert_eq!(thread.window(1, 6), ["U1"], "{finish:?}");
    }
}

#[test]
fn a_run_sees_its_own_tools_but_not_those_of_an_attempt_to_come() {
    let mut thread = Thread::new();
    thread.say(User, "U1").claim(1, 1, 5, 1).made(1, 1, Assistant, "I look", Some(Finish::ToolUse));
    thread.tool(Some((1, 1)), ToolCall, "c", "call").tool(Some((1, 1)), ToolResult, "c", "result");
    let own = ["U1", "I look", "call", "result"];
    thread.claim(1, 1, 6, 1);
    assert_eq!(thread.window(1, 6), own, "the same attempt under a new epoch");
    thread.claim(1, 2, 7, 1);
    assert_eq!(thread.window(1, 7), own, "a retry: what a tool did is not done again");
    thread.made(1, 3, ToolResult, "c", None);
    assert_eq!(thread.window(1, 7), own);
}

/// An attempt that goes on after an approval sees all that it has said and done; a retry only what came to an end.
#[test]
fn an_attempt_that_goes_on_sees_its_own_half_and_a_retry_does_not() {
    let mut thread = Thread::new();
    thread.say(User, "U1").claim(1, 1, 5, 1).made(1, 1, Assistant, "I look", Some(Finish::ToolUse));
    thread.tool(Some((1, 1)), ToolCall, "c", "call").tool(Some((1, 1)), ToolResult, "c", "result");
    thread.made(1, 1, Assistant, "half an ans", None).say(User, "appended meanwhile").claim(1, 1, 6, 1);
    assert_eq!(thread.window(1, 6), ["U1", "I look", "call", "result", "half an ans"]);
    // It goes on, asks again, and then somebody decides for another attempt.
    thread.made(1, 1, Assistant, "wer", None).claim(1, 1, 7, 1);
    assert_eq!(thread.window(1, 7), ["U1", "I look", "call", "result", "half an ans", "wer"]);
    thread.claim(1, 2, 8, 1);
    assert_eq!(thread.window(1, 8), ["U1", "I look", "call", "result"]);
    thread.made(1, 2, Assistant, "the answer", None).claim(1, 2, 9, 1);
    assert_eq!(thread.window(1, 9), ["U1", "I look", "call", "result", "the answer"]);
}

#[test]
fn an_own_call_without_a_result_is_given_one_directly_behind_it() {
    let mut thread = Thread::new();
    thread.say(User, "U1").claim(1, 1, 5, 1).made(1, 1, Assistant, "one", Some(Finish::ToolUse));
    thread.tool(Some((1, 1)), ToolCall, "c", "call").made(1, 1, Assistant, " two", None);
    thread.claim(1, 1, 6, 1);
    assert_eq!(thread.window(1, 6), ["U1", "one", "call", "no result: none was given", " two"], "after an approval");
    thread.claim(1, 2, 7, 1);
    assert_eq!(thread.window(1, 7), ["U1", "one", "call", "no result: worker lost"], "a retry");
    // An attempt that calls the same id again answers its own call only.
    thread.tool(Some((1, 2)), ToolCall, "c", "call again").tool(Some((1, 2)), ToolResult, "c", "result");
    thread.claim(1, 2, 8, 1);
    assert_eq!(thread.window(1, 8), ["U1", "one", "call", "no result: worker lost", "call again", "result"]);
}

#[test]
fn every_call_is_followed_by_its_result() {
    let mut thread = Thread::new();
    thread.say(User, "U1");
    for (role, id, content) in [
        (ToolCall, "a", "call a"),
        (ToolCall, "b", "call b"),
        (ToolResult, "b", "result b"),
        (ToolResult, "a", "result a"),
        (ToolCall, "a", "call a again"),
        (ToolResult, "a", "result a again"),
        (ToolResult, "a", "result a a third time"),
        (ToolResult, "x", "result of nothing"),
        (ToolCall, "c", "call c"),
        (ToolCall, "c", "call c again"),
        (ToolResult, "c", "result c"),
    ] {
        thread.tool(None, role, id, content);
    }
    thread.say(User, "U2").claim(1, 1, 5, 13);
    assert_eq!(
        thread.window(1, 5),
        [
            "U1",
            "call a",
            "result a",
            "call b",
            "result b",
            "call a again",
            "result a again",
            "call c",
            "no result: none was given",
            "call c again",
            "result c",
            "U2",
        ]
    );
}

#[test]
fn a_call_without_a_result_says_why() {
    let failed = |class: ErrorClass| {
        let mut failed = run(1, 1, JobState::Failed);
        let (code, message) = ("x".to_owned(), "x".to_owned());
        failed.status.error = Some(Box::new(RunError { code, message, class, retryable: false, retry_after_ms: None }));
        failed
    };
    let check = |ended: Option<laneway_contract::RunRecord>, why: &str| {
        let mut thread = Thread::new();
        thread.say(User, "U1").tool(Some((1, 1)), ToolCall, "c", "call");
        if let Some(ended) = ended {
            thread.world.commit(vec![settled(ended)]);
        }
        thread.say(User, "U2").claim(2, 1, 5, 3);
        assert_eq!(thread.window(2, 5), ["U1", "call", &format!("no result: {why}"), "U2"]);
    };
    check(Some(run(1, 1, JobState::Cancelled)), "cancelled");
    check(Some(failed(ErrorClass::WorkerLost)), "worker lost");
    check(Some(failed(ErrorClass::Timeout)), "timeout");
    check(Some(failed(ErrorClass::Server)), "failed");
    check(Some(run(1, 1, JobState::Poisoned)), "worker lost");
    check(None, "worker lost");
}

#[test]
fn a_stand_in_is_the_result_of_its_call() {
    let mut thread = Thread::new();
    thread.say(User, "U1").tool(None, ToolCall, "c", "call").claim(1, 1, 5, 2);
    let page = thread.world.read().read_window(&window_of(1, 5), Format::Json).unwrap();
    let [_, _, stand_in] = &page.messages[..] else { panic!("{page:?}") };
    assert_eq!((stand_in.role, stand_in.tool_call_id.as_deref()), (ToolResult, Some("c")));
}

#[test]
fn pages_keep_call_and_result_together_and_leave_nothing_out() {
    let large = |letter: &str| letter.repeat(300_000);
    let mut thread = Thread::new();
    thread.say(User, &large("u"));
    thread.tool(None, ToolCall, "a", &large("a")).tool(None, ToolCall, "b", &large("b"));
    thread.tool(None, ToolResult, "b", &large("B")).tool(None, ToolResult, "a", &large("A"));
    thread.say(User, "end").claim(1, 1, 5, 6);
    let expected = ["u", "a", "A", "b", "B"].map(large).into_iter().chain(["end".to_owned()]).collect::<Vec<_>>();
    assert_eq!(thread.window(1, 5), expected);
    let first = thread.world.read().read_window(&window_of(1, 5), Format::MessagePack).unwrap();
    assert_eq!((first.messages.len(), first.next_seq), (1, Some(2)));
}

#[test]
fn only_the_last_claim_of_a_run_that_goes_on_has_a_window() {
    let mut thread = Thread::new();
    thread.say(User, "U1").claim(1, 1, 5, 1).claim(1, 2, 7, 1);
    let check = |thread: &Thread, run: u128, epoch: u64, code: ErrorCode| {
        let error = ApiError::from(thread.world.read().read_window(&window_of(run, epoch), Format::Json).unwrap_err());
        assert_eq!(error.code, code);
        error
    };
    check(&thread, 9, 5, ErrorCode::NotFound);
    assert_eq!(check(&thread, 1, 5, ErrorCode::StaleEpoch).details, json!({"epoch": 7}));
    check(&thread, 1, 8, ErrorCode::StaleEpoch);
    assert_eq!(thread.window(1, 7), ["U1"]);
    thread.world.commit(vec![settled(run(1, 1, JobState::Completed))]);
    assert_eq!(check(&thread, 1, 7, ErrorCode::RunTerminal).details, json!({"state": "completed"}));
}

#[test]
fn a_lost_content_is_named() {
    let mut thread = Thread::new();
    thread.say(User, "U1").claim(1, 1, 5, 2);
    thread.world.commit(vec![Event::MessageAppended(Box::new(message(1, 2, User, "never stored")))]);
    let error = ApiError::from(thread.world.read().read_window(&window_of(1, 5), Format::Json).unwrap_err());
    assert_eq!((error.code, &error.details["artifact_id"]), (ErrorCode::Internal, &json!(artifact("never stored").id)));
}
