#![allow(clippy::unwrap_used, reason = "tests")]
//! What is written comes back, in messages of one size; heads of other formats are refused.

use std::io::{Read, Write};

use laneway_contract::{SNAPSHOT_CHUNK_BYTES, SnapshotName, SnapshotTaken};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{SnapshotHead, SnapshotReader, SnapshotWriter, Unfit};
use crate::frame::{FrameHash, Position};

fn head() -> SnapshotHead {
    let position = Position { number: 70_000, hash: FrameHash::from_bytes([7; 32]) };
    SnapshotHead { journal_id: Uuid::from_u128(5), position }
}

#[test]
fn what_is_written_comes_back_in_messages_of_one_size() {
    let (sender, mut receiver) = mpsc::channel(8);
    let mut writer = SnapshotWriter::new(sender);
    head().write(&mut writer).unwrap();
    let state: Vec<u8> = (0..2 * SNAPSHOT_CHUNK_BYTES + 5).map(|n| (n % 251) as u8).collect();
    writer.write_all(&state).unwrap();
    let (hash, bytes) = writer.finish().unwrap();
    let chunks: Vec<_> = std::iter::from_fn(|| receiver.blocking_recv()).collect();
    assert_eq!(chunks.len(), 3);
    assert!(chunks[..2].iter().all(|chunk| chunk.len() == SNAPSHOT_CHUNK_BYTES));

    let object = SnapshotName { number: 70_000, nonce: 1 };
    let mut taken = SnapshotTaken { sequence: 70_000, hash, object, bytes, chunks: 3, records: 0 };
    let mut reader = SnapshotReader::new(chunks.clone());
    assert!(reader.is(&taken));
    assert_eq!(SnapshotHead::read(&mut reader), Ok(head()));
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert!(read == state, "the state came back with other bytes");

    assert!(!SnapshotReader::new(chunks[..2].to_vec()).is(&taken), "a message is missing");
    taken.bytes += 1;
    assert!(!SnapshotReader::new(chunks).is(&taken));
}

#[test]
fn nobody_who_stores_it_ends_the_writing() {
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    let mut writer = SnapshotWriter::new(sender);
    assert!(writer.write_all(&vec![0; SNAPSHOT_CHUNK_BYTES]).is_err());
}

/// IMPORTANT: heads of a released format are never edited.
#[test]
fn golden_bytes_of_the_head() {
    let mut bytes = Vec::new();
    head().write(&mut bytes).unwrap();
    let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let hash = "07".repeat(32);
    assert_eq!(hex, format!("0192c4100000000000000000000000000000000592ce00011170c420{hash}"));
}

#[test]
fn a_head_of_another_format_or_none_is_refused() {
    assert_eq!(SnapshotHead::read(&mut &[0x02, 0xc1][..]), Err(Unfit::OtherFormat { format: 2 }));
    for bytes in [&[][..], &[0xc1], &[0x01], &[0x01, 0x92, 0x00]] {
        assert!(matches!(SnapshotHead::read(&mut &*bytes), Err(Unfit::Unreadable(_))), "{bytes:?}");
    }
}
