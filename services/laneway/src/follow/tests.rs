//! Streams that repeat, begin again and have gaps.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use laneway_contract::{ModelId, SessionId};

fn chunk(attempt: u32, epoch: Epoch, n: u64, piece: Piece) -> Chunk {
    Chunk { run_id: RunId::parse("0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e").unwrap(), attempt, epoch, n, piece }
}

fn start() -> Piece {
    Piece::Start { session_id: SessionId::generate(), model_id: ModelId::parse("echo/default").unwrap() }
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

fn read(chunks: impl IntoIterator<Item = Chunk>) -> (StreamReader, Vec<Heard>) {
    let mut reader = StreamReader::default();
    let heard = chunks.into_iter().filter_map(|chunk| reader.take(&chunk)).collect();
    (reader, heard)
}

#[test]
fn repeats_and_older_epochs_are_dropped() {
    let (reader, heard) = read([
        chunk(1, 5, 0, start()),
        chunk(1, 5, 1, text("old ")),
        chunk(2, 6, 0, start()),
        chunk(1, 5, 2, text("late ")),
        chunk(2, 6, 1, text("new")),
        chunk(2, 6, 1, text("new")),
    ]);
    let expected = [
        Heard::Begun { attempt: 1 },
        Heard::Text("old ".into()),
        Heard::Begun { attempt: 2 },
        Heard::Text("new".into()),
    ];
    assert_eq!(heard, expected);
    assert_eq!(reader.rest("new"), Rest::Nothing);
}

#[test]
fn the_rest_of_an_answer_follows_what_was_shown() {
    let (reader, _) = read([chunk(1, 1, 0, start()), chunk(1, 1, 1, text("one "))]);
    assert_eq!(reader.rest("one two"), Rest::More("two"));
    assert_eq!(StreamReader::default().rest("all"), Rest::More("all"));
}

#[test]
fn a_gap_shows_the_stored_answer_whole() {
    let (reader, _) = read([chunk(1, 1, 0, start()), chunk(1, 1, 2, text("a"))]);
    assert_eq!(reader.rest("aba"), Rest::All("aba"));
    let (reader, _) = read([chunk(1, 1, 0, start()), chunk(1, 1, 1, text("x"))]);
    assert_eq!(reader.rest("y"), Rest::All("y"));
}
