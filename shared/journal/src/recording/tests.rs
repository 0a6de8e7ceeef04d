#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! A recording gives back what was put in, or says what is wrong with it.

use bytes::Bytes;
use laneway_contract::Timestamp;
use uuid::Uuid;

use super::*;
use crate::draft::{Draft, Envelope};
use crate::frame::FORMAT;

fn frames() -> Vec<Bytes> {
    let mut frames: Vec<Bytes> = Vec::new();
    for number in 1..=4 {
        let prev = frames.last().map_or(FrameHash::ZERO, |bytes| FrameHash::of(bytes));
        let time = Timestamp::from_millis(100 * number as i64);
        let envelope =
            Envelope { format: FORMAT, journal_id: Uuid::from_u128(1), epoch: 1, number, prev, time, snapshot: 0 };
        let body = if number == 1 {
            Draft::Started { instance: "a", process: Uuid::from_u128(7), attempt: 1 }
        } else {
            Draft::Turns(&[])
        };
        frames.push(envelope.seal(body));
    }
    frames
}

fn recorded(frames: &[Bytes]) -> Vec<u8> {
    let mut writer = RecordingWriter::begin(Vec::new()).unwrap();
    for frame in frames {
        writer.put(frame).unwrap();
    }
    assert_eq!(writer.frames(), frames.len() as u64);
    writer.finish().unwrap()
}

/// The numbers of the frames that can be read, and what ends it.
fn read(bytes: &[u8]) -> (Vec<u64>, Option<RecordingError>) {
    let mut numbers = Vec::new();
    let mut reader = match RecordingReader::<u64, _>::open(bytes) {
        Ok(reader) => reader,
        Err(error) => return (numbers, Some(error)),
    };
    loop {
        match reader.next_frame() {
            Ok(Some(committed)) => numbers.push(committed.position.number),
            Ok(None) => {
                assert_eq!(reader.bytes_read(), bytes.len() as u64);
                return (numbers, None);
            }
            Err(error) => return (numbers, Some(error)),
        }
    }
}

#[test]
fn what_was_recorded_is_read_again() {
    let all = frames();
    assert!(matches!(read(&recorded(&all)), (numbers, None) if numbers == [1, 2, 3, 4]));
    assert!(matches!(read(&recorded(&[])), (numbers, None) if numbers.is_empty()));
}

#[test]
fn the_layout_is_the_documented_one() {
    let all = frames();
    let bytes = recorded(&all[..1]);
    let mut expected = b"LANEWAYJ\x00\x01".to_vec();
    expected.extend((all[0].len() as u32).to_be_bytes());
    expected.extend(&all[0]);
    expected.extend([0; 4]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 1]);
    expected.extend(FrameHash::of(&all[0]).as_bytes());
    assert_eq!(bytes, expected);
}

#[test]
fn a_recording_that_was_cut_short_anywhere_is_refused() {
    let whole = recorded(&frames());
    for length in 0..whole.len() {
        let (numbers, error) = read(&whole[..length]);
        match error {
            Some(RecordingError::NoRecording) => assert!(length < MAGIC.len()),
            Some(RecordingError::CutShort { number }) => assert_eq!(number, numbers.len() as u64 + 1),
            other => panic!("{length} bytes: {other:?}"),
        }
    }
}

#[test]
fn no_byte_can_change_unnoticed() {
    let whole = recorded(&frames());
    for place in 0..whole.len() {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        let (numbers, error) = read(&changed);
        assert!(error.is_some(), "byte {place}: {numbers:?}");
    }
    let mut longer = whole;
    longer.push(0);
    assert!(matches!(read(&longer), (_, Some(RecordingError::Broken { number: 5, .. }))));
}

#[test]
fn a_fault_names_its_frame() {
    let mut all = frames();
    all.remove(2);
    let missing = read(&recorded(&all));
    let expected = Fault::DataLoss { first: 2, last: 3, loss: Loss::Changed };
    assert!(matches!(missing, (numbers, Some(RecordingError::Fault(fault))) if numbers == [1, 2] && fault == expected));
    let mut newer = frames()[1].to_vec();
    newer[1] = FORMAT as u8 + 1;
    let read = read(&recorded(&[frames()[0].clone(), Bytes::from(newer)]));
    let expected = Fault::NewerFormat { number: 2, format: FORMAT + 1 };
    assert!(matches!(read, (_, Some(RecordingError::Fault(fault))) if fault == expected));
}

#[test]
fn other_files_and_newer_versions_are_refused() {
    for other in [&b""[..], b"LANE", b"[limits]\nglobal = 8\n", b"LANEWAYJ\x00\x00"] {
        assert!(matches!(read(other), (_, Some(RecordingError::NoRecording))), "{other:?}");
    }
    let newer = b"LANEWAYJ\x00\x02and whatever a newer program writes";
    assert!(matches!(read(newer), (_, Some(RecordingError::NewerRecording { version: 2 }))));
}

#[test]
fn a_length_that_no_frame_has_takes_no_memory() {
    let mut bytes = b"LANEWAYJ\x00\x01".to_vec();
    bytes.extend(u32::MAX.to_be_bytes());
    assert!(matches!(read(&bytes), (_, Some(RecordingError::Broken { number: 1, .. }))));
}
