#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! The backup and the plan, without a server.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use laneway_bus::async_nats::HeaderMap;
use laneway_contract::{
    ArtifactId, Event, HashKey, MessageId, MessageRecord, MessageRole, SessionId, Source, Timestamp,
};
use laneway_engine::State;
use laneway_flight_recorder::{EventHash, public_events};
use laneway_journal::frame::FORMAT;
use laneway_journal::place::Place;
use laneway_journal::{Body, Frame, FrameHash, Position, Turn};
use tempfile::TempDir;
use uuid::Uuid;

use super::backup::{self, Kind};
use super::plan;
use super::raw::Raw;
use crate::exit::CliError;

/// A leader that begins, its hash key, and then leaders that begin one after the other, each with its public event.
fn frames(count: u64) -> Vec<(Position, Bytes)> {
    let (mut frames, mut prev): (Vec<(Position, Bytes)>, _) = (Vec::new(), FrameHash::ZERO);
    for number in 1..=count {
        let time = Timestamp::from_millis(number as i64);
        let key = Event::HashKeyCreated { key: HashKey::from_bytes([7; 32]) };
        let (body, epoch) = match number {
            2 => (Body::Turns(vec![Turn { at: time, events: vec![key] }]), 1),
            1 => (started(), 1),
            _ => (started(), number - 1),
        };
        let frame = Frame { format: FORMAT, journal_id: Uuid::nil(), epoch, number, prev, time, snapshot: 0, body };
        let bytes = Bytes::from(rmp_serde::to_vec(&frame).unwrap());
        prev = FrameHash::of(&bytes);
        frames.push((Position { number, hash: prev }, bytes));
    }
    frames
}

fn started() -> Body<Event> {
    Body::Started { instance: "test".to_owned(), process: Uuid::nil(), attempt: 1 }
}

/// The public events of frames, as the recorder stores them.
fn flight(frames: &[(Position, Bytes)]) -> Vec<Raw> {
    let (mut events, mut hash, mut before) = (Vec::new(), EventHash::ZERO, FrameHash::ZERO);
    for (position, bytes) in frames {
        let frame = Frame::<Event>::decode(bytes).unwrap();
        for event in public_events(&frame) {
            let payload = event.encode(hash).unwrap();
            hash = EventHash::of(&payload);
            let headers = Place { frame: *position, before, index: event.source().index }.headers();
            let (sequence, subject) = (events.len() as u64 + 1, "laneway.flight.x".to_owned());
            events.push(Raw { sequence, subject, headers, payload: payload.into() });
        }
        before = position.hash;
    }
    events
}

/// A backup of a journal that ends behind `cut` of these frames.
fn saved(folder: &TempDir, frames: &[(Position, Bytes)], cut: usize) -> PathBuf {
    let path = folder.path().join("backup.ndjson");
    let journal = frames[..cut].iter().map(|(position, bytes)| Raw {
        sequence: position.number,
        subject: "laneway.journal".to_owned(),
        headers: HeaderMap::new(),
        payload: bytes.clone(),
    });
    backup::save(&path, [(Kind::Journal, journal.collect(), 1), (Kind::Flight, flight(frames), 1)]).unwrap();
    path
}

fn read(path: &Path) -> Result<Vec<(Kind, Raw)>, CliError> {
    let mut all = Vec::new();
    backup::read(path, |kind, message| {
        all.push((kind, message));
        Ok(())
    })?;
    Ok(all)
}

#[test]
fn what_was_saved_reads_back() {
    let (folder, frames) = (tempfile::tempdir().unwrap(), frames(5));
    let all = read(&saved(&folder, &frames, 5)).unwrap();
    let journal: Vec<_> = all.iter().filter(|(kind, _)| *kind == Kind::Journal).collect();
    assert!(
        journal.iter().map(|(_, raw)| (raw.sequence, &raw.payload)).eq(frames.iter().map(|(at, b)| (at.number, b)))
    );
    let events: Vec<_> = all.iter().filter(|(kind, _)| *kind == Kind::Flight).map(|(_, raw)| raw).collect();
    assert_eq!(events.len(), 4, "all but the hash key");
    assert_eq!(Place::from_headers(&events[3].headers).unwrap().frame, frames[4].0);
}

#[test]
fn a_backup_that_is_not_whole_is_refused() {
    let (folder, frames) = (tempfile::tempdir().unwrap(), frames(5));
    let path = saved(&folder, &frames, 5);
    let whole = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let without = |index: usize| {
        let kept = lines.iter().enumerate().filter(|(line, _)| *line != index);
        kept.fold(String::new(), |text, (_, line)| text + line + "\n")
    };
    let damaged = [
        ("no beginning", without(0)),
        ("a message is missing", without(2)),
        ("no end", without(lines.len() - 1)),
        ("another byte", whole.replacen("laneway.journal", "laneway.journaL", 1)),
        ("nothing", String::new()),
    ];
    for (name, text) in damaged {
        std::fs::write(&path, text).unwrap();
        assert!(matches!(read(&path), Err(CliError::Repair(_))), "{name}");
    }
}

#[test]
fn a_journal_cut_short_is_known_by_its_public_events() {
    let (folder, frames) = (tempfile::tempdir().unwrap(), frames(9));
    let file = saved(&folder, &frames, 6);
    let plan = plan::make(&file, None, &folder.path().join("view"), Timestamp::ZERO).unwrap();
    assert!(!plan.is_whole());
    assert_eq!((plan.audited.right, plan.flight_kept, plan.ends.flight), (frames[5].0, 5, 8));
    assert_eq!(plan.epoch, 8, "the highest that any leader had, also behind the cut");
    let said = plan.shown().text();
    assert!(said.contains("frames 7 to 9: are cut off"), "{said}");
    assert!(said.contains("kept: frames 1 to 6 of 9, public events 1 to 5"), "{said}");
}

#[test]
fn of_another_journal_nothing_is_kept() {
    let (folder, ours) = (tempfile::tempdir().unwrap(), frames(6));
    let other = self::frames(3);
    let file = folder.path().join("backup.ndjson");
    let changed = other.iter().map(|(position, bytes)| {
        let mut bytes = bytes.to_vec();
        // A byte of the journal's id.
        bytes[6] ^= 1;
        let (sequence, headers) = (position.number, HeaderMap::new());
        Raw { sequence, subject: "laneway.journal".to_owned(), headers, payload: bytes.into() }
    });
    backup::save(&file, [(Kind::Journal, changed.collect(), 1), (Kind::Flight, flight(&ours), 1)]).unwrap();
    let plan = plan::make(&file, None, &folder.path().join("view"), Timestamp::ZERO).unwrap();
    assert_eq!((plan.audited.right, plan.flight_kept), (Position::START, 0), "{:?}", plan.audited.findings);
}

#[test]
fn frames_of_a_newer_version_are_no_damage() {
    let (folder, mut frames) = (tempfile::tempdir().unwrap(), frames(4));
    let mut newer = frames[3].1.to_vec();
    newer[1] = FORMAT as u8 + 1;
    let expected = flight(&frames[..3]);
    frames[3].1 = newer.into();
    let file = folder.path().join("backup.ndjson");
    let journal = frames.iter().map(|(position, payload)| Raw {
        sequence: position.number,
        subject: "laneway.journal".to_owned(),
        headers: HeaderMap::new(),
        payload: payload.clone(),
    });
    backup::save(&file, [(Kind::Journal, journal.collect(), 1), (Kind::Flight, expected, 1)]).unwrap();
    let plan = plan::make(&file, None, &folder.path().join("view"), Timestamp::ZERO).unwrap();
    assert_eq!(plan.of_other_version().map(|finding| (finding.first, finding.last)), Some((4, 4)));
}

#[test]
fn a_journal_that_is_right_is_whole() {
    let (folder, frames) = (tempfile::tempdir().unwrap(), frames(4));
    let file = saved(&folder, &frames, 4);
    let plan = plan::make(&file, None, &folder.path().join("view"), Timestamp::ZERO).unwrap();
    assert!(plan.is_whole());
    assert_eq!((plan.audited.right, plan.flight_kept, plan.ends.flight), (frames[3].0, 3, 3));
}

#[test]
fn what_the_fold_of_a_scheduler_has_no_place_for_is_refused() {
    let hash: ArtifactId = HashKey::from_bytes([7; 32]).artifact_id(b"hi");
    let message = MessageRecord {
        message_id: MessageId::from_uuid(Uuid::from_u128(1)),
        session_id: SessionId::from_uuid(Uuid::from_u128(2)),
        seq: 1,
        role: MessageRole::User,
        content_hash: hash,
        content_artifact_id: hash,
        content_type: "text/plain".to_owned(),
        size: 2,
        timestamp: Timestamp::ZERO,
        token_count: None,
        redacted: false,
        tool_call_id: None,
        attachments: Vec::new(),
        source: Source::Caller,
        run_id: None,
        attempt: None,
        finish: None,
    };
    let refused = plan::rehearse(State::default(), &[Event::MessageAppended(Box::new(message))], Timestamp::ZERO);
    assert!(matches!(&refused, Err(CliError::Repair(what)) if what.contains("nothing was written")), "{refused:?}");
    let key = Event::HashKeyCreated { key: HashKey::from_bytes([7; 32]) };
    plan::rehearse(State::default(), &[key], Timestamp::ZERO).unwrap();
}
