//! What leaves a turn, and in which order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use bytes::Bytes;
use laneway_contract::*;

use super::*;

fn run_record(run_id: RunId) -> RunRecord {
    let status = serde_json::json!({
        "state": "completed", "reason": "none", "attempt": 1, "epoch": 1,
        "submitted_at": "2026-01-01T00:00:00.000Z", "usage": Usage::default(),
        "output_message_ids": [], "pending_tool_call_ids": [], "issues": [],
    });
    let fields = serde_json::json!({
        "job_kind": "model_run", "input": [], "model_id": "echo/a", "backend": "LOCAL", "lane": "PRIMARY", "priority": 50,
        "fairness_key": "k", "on_busy": "ENQUEUE", "max_retries": 3, "retry_backoff": "FIXED", "timeout_ms": 1,
        "generation": {},
    });
    RunRecord {
        run_id,
        session_id: SessionId::generate(),
        fields: serde_json::from_value(fields).unwrap(),
        status: serde_json::from_value(status).unwrap(),
    }
}

fn settled(run_id: RunId, answer: &Artifact) -> [Event; 2] {
    let output = Some(Output { message_id: MessageId::generate(), artifact_id: answer.id });
    let run = Box::new(run_record(run_id));
    [Event::ArtifactStored(answer.clone()), Event::RunSettled { run, reports: 1, duration_ms: 1, output }]
}

fn answer(text: &'static str) -> Artifact {
    let id = HashKey::from_bytes([1; 32]).artifact_id(text.as_bytes());
    let content_type = "text/plain; charset=utf-8".to_owned();
    Artifact { id, content_type, enc: "none".to_owned(), key_id: None, bytes: Bytes::from_static(text.as_bytes()) }
}

#[test]
fn nobody_hears_of_an_end_before_it_is_released() {
    let (run, other) = (RunId::generate(), RunId::generate());
    let mut waiters = Waiters::default();
    let (mut first, mut second, mut third) = (waiters.watch(run), waiters.watch(run), waiters.watch(other));
    let effects = Effects::of(&settled(run, &answer("hi")), &State::default(), &mut waiters);
    assert!(first.try_recv().is_err(), "told before the frame was durable");
    assert_eq!(effects.endings.len(), 1);
    let mut sent = Vec::new();
    effects.release(7, |message| sent.push(message));
    for told in [&mut first, &mut second] {
        let told = told.try_recv().unwrap();
        assert_eq!((told.journal_seq, told.ending.output.as_deref()), (7, Some("hi")));
    }
    assert!(third.try_recv().is_err(), "told of another run");
    assert_eq!(sent, []);
}

#[test]
fn a_dispatch_leaves_with_its_turn() {
    let (run_id, session_id) = (RunId::generate(), SessionId::generate());
    let pool = PoolId::parse("p").unwrap();
    let event = Event::RunDispatched {
        run_id,
        session_id,
        dispatch_no: 3,
        pool: pool.clone(),
        claim_by: Timestamp::ZERO,
        lane: Lane::Primary,
        model_id: ModelId::parse("echo/a").unwrap(),
        queue_wait_ms: 0,
        reserved: Reservation::default(),
    };
    let effects = Effects::of(&[event], &State::default(), &mut Waiters::default());
    let (reply, mut replied) = tokio::sync::oneshot::channel();
    let effects = effects.with_reply(Box::new(move |number| reply.send(number).unwrap()));
    assert!(replied.try_recv().is_err(), "answered before the frame was durable");
    let mut sent = Vec::new();
    effects.release(9, |message| sent.push(message));
    assert_eq!(sent, [Outgoing::Dispatch(pool, DispatchMessage { run_id, session_id, dispatch_no: 3 })]);
    assert_eq!(replied.try_recv().unwrap(), 9);
}

#[test]
fn what_nobody_has_claimed_has_streams_and_consumers_looked_at_once() {
    let returned = |cause| Event::RunReturned {
        run_id: RunId::generate(),
        session_id: SessionId::generate(),
        cause,
        dispatch_no: 1,
        epoch: 0,
        reports: 0,
    };
    let sent = |causes: &[ReturnCause]| {
        let events: Vec<Event> = causes.iter().copied().map(returned).collect();
        let mut sent = Vec::new();
        let effects = Effects::of(&events, &State::default(), &mut Waiters::default());
        effects.release(9, |message| sent.push(message));
        sent
    };
    assert_eq!(sent(&[ReturnCause::Unclaimed, ReturnCause::Unclaimed]), [Outgoing::Mend]);
    assert_eq!(sent(&[ReturnCause::Waited, ReturnCause::Paused, ReturnCause::HandedBack]), []);
}

#[test]
fn effects_that_are_dropped_tell_nobody_anything() {
    let run = RunId::generate();
    let mut waiters = Waiters::default();
    let told = waiters.watch(run);
    let (reply, replied) = tokio::sync::oneshot::channel::<u64>();
    let effects = Effects::of(&settled(run, &answer("hi")), &State::default(), &mut waiters);
    drop(effects.with_reply(Box::new(move |number| reply.send(number).unwrap())));
    assert!(told.blocking_recv().is_err());
    assert!(replied.blocking_recv().is_err());
}

#[test]
fn who_waits_after_the_doors_are_closed_is_sent_away() {
    let run = RunId::generate();
    let mut waiters = Waiters::default();
    let before = waiters.watch(run);
    waiters.close();
    let after = waiters.watch(run);
    assert!(before.blocking_recv().is_err() && after.blocking_recv().is_err());
}
