//! Attempts that are cut by a budget, that ask for tools, and that wait for a person.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{EPOCH, World, chunk, first_text, within};
use laneway_bus::async_nats::Subscriber;
use laneway_contract::{
    AttemptResult, Chunk, ControlMessage, ErrorCode, Finish, JobState, MessageRole, Piece, ReportAttempt, Stop, Usage,
};

async fn report_of(world: &mut World) -> ReportAttempt {
    within(world.reports.recv()).await.unwrap()
}

/// Role, content and finish of each message.
fn said(report: &ReportAttempt) -> Vec<(MessageRole, &str, Option<Finish>)> {
    report.messages.iter().map(|message| (message.role, message.content.as_str(), message.finish)).collect()
}

fn result(report: &ReportAttempt) -> AttemptResult {
    report.outcome.as_ref().expect("a final report").result.clone()
}

/// The chunks of an attempt up to its end, which is of this state.
async fn stream_until(tokens: &mut Subscriber, state: JobState) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    loop {
        let chunk = chunk(tokens).await;
        assert_eq!(chunk.n, chunks.len() as u64, "dense");
        if let Piece::End { outcome, .. } = &chunk.piece {
            assert_eq!(*outcome, state);
            return chunks;
        }
        chunks.push(chunk);
    }
}

fn text(chunks: &[Chunk]) -> String {
    let texts =
        chunks.iter().filter_map(|chunk| if let Piece::Text(text) = &chunk.piece { Some(text.as_str()) } else { None });
    texts.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_cut_where_the_budget_ends() {
    let mut world = World::start("echo/tokens=50", 1).await;
    // The window has 8 and 13 bytes, which are 6 tokens.
    world.answer(|answers| answers.tokens_left = Some(10));
    let mut tokens = world.tokens().await;
    world.dispatch().await;
    let report = report_of(&mut world).await;
    assert_eq!(result(&report), AttemptResult::Completed { finish: Finish::Budget });
    assert_eq!(said(&report), [(MessageRole::Assistant, "one two three one", Some(Finish::Budget))]);
    let usage = Usage { input_tokens: 6, output_tokens: 4, ..Usage::default() };
    assert_eq!(report.outcome.unwrap().usage, usage);
    assert_eq!(text(&stream_until(&mut tokens, JobState::Failed).await), "one two three one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_budget_for_the_prompt_no_call_is_made() {
    let mut world = World::start("echo/default", 1).await;
    world.answer(|answers| answers.tokens_left = Some(5));
    let mut tokens = world.tokens().await;
    world.dispatch().await;
    let report = report_of(&mut world).await;
    assert_eq!(result(&report), AttemptResult::Completed { finish: Finish::Budget });
    assert_eq!(report.messages, []);
    let outcome = report.outcome.unwrap();
    assert_eq!((outcome.usage, outcome.first_token_after_ms), (Usage::default(), None));
    assert_eq!(stream_until(&mut tokens, JobState::Failed).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_is_on_record_before_the_answer_goes_on() {
    let mut world = World::start("echo/tool_at=1", 1).await;
    world.answer(|answers| answers.reports_are_lost = true);
    let mut tokens = world.tokens().await;
    let run_id = world.dispatch().await;
    let first = report_of(&mut world).await;
    assert_eq!((first.run_id, first.epoch, first.report_no, &first.outcome), (run_id, EPOCH, 0, &None));
    let call = (MessageRole::ToolCall, r#"{"name":"echo","arguments":{"after_tokens":1}}"#, None);
    assert_eq!(said(&first), [(MessageRole::Assistant, "one", Some(Finish::ToolUse)), call]);
    assert_eq!(first.messages[1].tool_call_id.as_deref(), Some("call-1-1"));
    // Its acknowledgement is lost: the same again, while the lease is kept. Nothing else goes on.
    assert_eq!(report_of(&mut world).await, first);
    within(world.renewals.recv()).await.unwrap();
    world.answer(|answers| answers.reports_are_lost = false);
    let last = loop {
        let report = report_of(&mut world).await;
        if report.report_no > 0 {
            break report;
        }
        assert_eq!(report, first);
    };
    assert_eq!((last.report_no, result(&last)), (1, AttemptResult::Completed { finish: Finish::Stop }));
    assert_eq!(said(&last), [(MessageRole::Assistant, " two three", Some(Finish::Stop))]);
    // The call's tokens are not all of this message.
    assert_eq!(last.messages[0].token_count, None);
    assert_eq!(last.outcome.unwrap().usage, Usage { input_tokens: 5, output_tokens: 3, ..Usage::default() });
    let chunks = stream_until(&mut tokens, JobState::Completed).await;
    let tool = Piece::ToolCall { tool_call_id: "call-1-1".to_owned(), name: "echo".to_owned() };
    let place = chunks.iter().position(|chunk| chunk.piece == tool).expect("a chunk of the tool");
    assert_eq!((text(&chunks[..place]).as_str(), text(&chunks[place..]).as_str()), ("one", " two three"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_while_a_tool_is_reported_keeps_the_numbers_dense() {
    let mut world = World::start("echo/tool_at=0,delay=60000", 1).await;
    world.answer(|answers| answers.reports_are_lost = true);
    let mut tokens = world.tokens().await;
    let run_id = world.dispatch().await;
    let first = report_of(&mut world).await;
    world.bus.publish_control(&ControlMessage { run_id, epoch: EPOCH, stop: Stop::Cancel }).await.unwrap();
    world.answer(|answers| answers.reports_are_lost = false);
    // It may have been taken, so it is repeated under its number before the end.
    let last = loop {
        let report = report_of(&mut world).await;
        if report.report_no > 0 {
            break report;
        }
        assert_eq!(report, first);
    };
    assert_eq!((last.report_no, result(&last)), (1, AttemptResult::Stopped { stop: Stop::Cancel }));
    assert_eq!(last.messages, []);
    stream_until(&mut tokens, JobState::Cancelled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_nobody_takes_the_report_of_ends_the_attempt() {
    let mut world = World::start("echo/tool_at=1", 1).await;
    world.answer(|answers| answers.report_errors = vec![ErrorCode::StaleEpoch]);
    world.dispatch().await;
    assert_eq!(report_of(&mut world).await.report_no, 0);
    // Nothing more of it: the slot is free for the next.
    let next = world.dispatch().await;
    assert_eq!(report_of(&mut world).await.run_id, next);
    assert_eq!(report_of(&mut world).await.report_no, 1);

    // Another refusal is a failed attempt, under the number that was not taken.
    world.answer(|answers| answers.report_errors = vec![ErrorCode::BadRequest]);
    world.dispatch().await;
    assert_eq!(report_of(&mut world).await.report_no, 0);
    let report = report_of(&mut world).await;
    assert!(matches!(result(&report), AttemptResult::Failed { error } if error.code == "report_refused"));
    assert_eq!((report.report_no, said(&report)), (0, vec![(MessageRole::Assistant, "one", Some(Finish::Error))]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_asks_for_approval_is_parked_and_goes_on_with_it() {
    let mut world = World::start("echo/approve_at=1,tool_at=2", 1).await;
    let mut tokens = world.tokens().await;
    world.dispatch().await;
    let parked = report_of(&mut world).await;
    let approval_id = "approval-1".to_owned();
    assert_eq!(
        (parked.report_no, result(&parked)),
        (0, AttemptResult::AwaitingApproval { approval_id: approval_id.clone() })
    );
    assert_eq!(said(&parked), [(MessageRole::Assistant, "one", None)]);
    assert_eq!(text(&stream_until(&mut tokens, JobState::AwaitingUser).await), "one");
    world.all_dispatches_acknowledged().await;

    world.answer(|answers| answers.approved = Some(approval_id));
    world.dispatch().await;
    let tool = report_of(&mut world).await;
    assert_eq!((tool.report_no, said(&tool)[0].1), (0, " two"));
    let last = report_of(&mut world).await;
    assert_eq!((last.report_no, result(&last)), (1, AttemptResult::Completed { finish: Finish::Stop }));
    assert_eq!(said(&last), [(MessageRole::Assistant, " three", Some(Finish::Stop))]);
    assert_eq!(text(&stream_until(&mut tokens, JobState::Completed).await), " two three");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_behind_a_tool_reports_the_rest_only() {
    let mut world = World::start("echo/tool_at=1,tokens=50,delay=1", 1).await;
    world.answer(|answers| answers.tokens_left = Some(9));
    let mut tokens = world.tokens().await;
    world.dispatch().await;
    first_text(&mut tokens).await;
    assert_eq!(said(&report_of(&mut world).await)[0].1, "one");
    let cut = report_of(&mut world).await;
    assert_eq!((cut.report_no, said(&cut)), (1, vec![(MessageRole::Assistant, " two three", Some(Finish::Budget))]));
    assert_eq!(cut.outcome.unwrap().usage.total(), 9);
}
