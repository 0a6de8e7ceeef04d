#![allow(clippy::unwrap_used, reason = "tests")]

use laneway_contract::{Event, RunId, SessionId, Timestamp};
use laneway_journal::{Body, Frame, FrameHash, Turn};
use uuid::Uuid;

use super::*;
use crate::event::public_events;

/// A message as it is stored.
type Message = (u64, String, Vec<u8>);

/// Twelve events of four frames, chained.
fn recorded() -> Vec<Message> {
    let run_id = RunId::parse("0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3f").unwrap();
    let session_id = SessionId::parse("0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e").unwrap();
    let limited = |attempt| Event::RunRateLimited {
        run_id,
        session_id,
        provider: "echo".to_owned(),
        attempt,
        backoff_ms: 5,
        cause: laneway_contract::RateCause::Provider,
        bucket: None,
    };
    let frame = |number| Frame {
        format: laneway_journal::frame::FORMAT,
        journal_id: Uuid::nil(),
        epoch: 1,
        number,
        prev: FrameHash::ZERO,
        time: Timestamp::ZERO,
        snapshot: 0,
        body: Body::Turns(vec![Turn { at: Timestamp::ZERO, events: (1..=3).map(limited).collect() }]),
    };
    let (mut messages, mut hash) = (Vec::new(), EventHash::ZERO);
    for number in [2, 3, 5, 9] {
        let frame = frame(number);
        for event in public_events(&frame) {
            let bytes = event.encode(hash).unwrap();
            hash = EventHash::of(&bytes);
            messages.push((messages.len() as u64 + 1, Prefix::default().subject(&event.subject()), bytes));
        }
    }
    messages
}

fn report(first: u64, messages: &[Message], last: u64) -> Report {
    let mut verifier = Verifier::new(Prefix::default(), first);
    for (sequence, subject, bytes) in messages.iter().filter(|(sequence, ..)| *sequence >= first) {
        verifier.take(*sequence, subject, bytes);
    }
    verifier.finish(last)
}

/// The breaks that a change to the recorded messages makes: their sequences and names.
fn check(change: impl FnOnce(&mut Vec<Message>), expected: &[(u64, &str)]) {
    let mut messages = recorded();
    change(&mut messages);
    let report = report(1, &messages, 12);
    let name = |breach: &Breach| serde_json::to_value(breach).unwrap()["breach"].as_str().unwrap().to_owned();
    let found: Vec<_> = report.breaks.iter().map(|found| (found.sequence, name(&found.breach))).collect();
    let expected: Vec<_> = expected.iter().map(|(sequence, name)| (*sequence, (*name).to_owned())).collect();
    assert_eq!(found, expected);
    assert_eq!(report.is_whole(), expected.is_empty());
}

fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(from), "{text}");
    *bytes = text.replacen(from, to, 1).into_bytes();
}

#[test]
fn what_was_recorded_is_whole() {
    check(|_| {}, &[]);
    let from_the_middle = report(6, &recorded(), 12);
    assert!(from_the_middle.is_whole());
    assert_eq!((from_the_middle.first, from_the_middle.last, from_the_middle.events), (6, 12, 7));
}

#[test]
fn an_altered_event_is_found_by_the_next_one() {
    check(|messages| replace(&mut messages[4].2, r#""backoff_ms":5"#, r#""backoff_ms":6"#), &[(6, "chain")]);
}

#[test]
fn missing_events_are_found() {
    check(|messages| drop(messages.drain(3..5)), &[(4, "missing")]);
    check(|messages| drop(messages.drain(..2)), &[(1, "missing")]);
    check(|messages| messages.truncate(9), &[(10, "missing")]);
    check(Vec::clear, &[(1, "missing")]);
}

#[test]
fn an_event_that_was_left_out_before_it_was_stored_is_found() {
    check(
        |messages| {
            messages.remove(4);
            (1..).zip(messages.iter_mut()).for_each(|(sequence, message)| message.0 = sequence);
        },
        &[(5, "chain"), (5, "order"), (12, "missing")],
    );
}

#[test]
fn reordered_events_are_found() {
    check(
        |messages| {
            messages.swap(3, 4);
            (messages[3].0, messages[4].0) = (4, 5);
        },
        &[(4, "chain"), (4, "order"), (5, "chain"), (5, "order"), (6, "chain"), (6, "order")],
    );
}

#[test]
fn what_is_no_event_of_the_catalogue_is_found() {
    check(|messages| messages[11].2 = b"{}".to_vec(), &[(12, "unreadable")]);
    let kind = "session_scheduler.rate_limited";
    check(|messages| replace(&mut messages[11].2, kind, "session_scheduler.unheard_of"), &[(12, "unreadable")]);
    check(|messages| replace(&mut messages[11].2, r#""backoff_ms":5,"#, ""), &[(12, "shape")]);
    check(|messages| replace(&mut messages[11].2, r#""backoff_ms":5"#, r#""backoff_ms":5,"more":1"#), &[(12, "shape")]);
    check(|messages| replace(&mut messages[11].2, "FR-EVT-SESS-SCHED-003", "FR-EVT-SESS-001"), &[(12, "shape")]);
    check(|messages| messages[11].1 = messages[11].1.replace("rate_limited", "dispatch"), &[(12, "subject")]);
}

#[test]
fn a_report_lists_a_bounded_number_of_breaks() {
    let mut verifier = Verifier::new(Prefix::default(), 1);
    for sequence in 1..=150 {
        verifier.take(sequence, "", b"");
    }
    let report = verifier.finish(150);
    assert_eq!((report.broken, report.breaks.len()), (150, MAX_BREAKS));
}
