//! Numbers the chunks of an attempt's token stream. No I/O.

use std::collections::VecDeque;

use laneway_contract::{Chunk, Epoch, Piece, RunId};

/// The most bytes of text in one chunk.
const MAX_TEXT: usize = 64 * 1024;

/// Pieces that wait to be published. While they wait, texts of the same kind become one.
#[derive(Debug)]
pub(crate) struct Chunks {
    run_id: RunId,
    attempt: u32,
    epoch: Epoch,
    next: u64,
    waiting: VecDeque<Piece>,
}

impl Chunks {
    /// An empty stream.
    pub(crate) fn new(run_id: RunId, attempt: u32, epoch: Epoch) -> Self {
        Self { run_id, attempt, epoch, next: 0, waiting: VecDeque::new() }
    }

    /// Lets a piece wait.
    pub(crate) fn push(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) => self.push_text(text, Piece::Text),
            Piece::Thinking(text) => self.push_text(text, Piece::Thinking),
            Piece::Start { .. } | Piece::ToolCall { .. } | Piece::End { .. } => self.waiting.push_back(piece),
        }
    }

    fn push_text(&mut self, mut text: String, kind: fn(String) -> Piece) {
        let same = |piece: &Piece| std::mem::discriminant(piece) == std::mem::discriminant(&kind(String::new()));
        if let Some(last) = self.waiting.back_mut()
            && same(last)
            && let Piece::Text(before) | Piece::Thinking(before) = last
            && before.len() + text.len() <= MAX_TEXT
        {
            before.push_str(&text);
            return;
        }
        while text.len() > MAX_TEXT {
            let rest = text.split_off(text.floor_char_boundary(MAX_TEXT));
            self.waiting.push_back(kind(std::mem::replace(&mut text, rest)));
        }
        self.waiting.push_back(kind(text));
    }

    /// The next chunk, which stays until [`Self::published`]: a publish that was given up leaves no gap.
    pub(crate) fn front(&self) -> Option<Chunk> {
        let piece = self.waiting.front()?.clone();
        Some(Chunk { run_id: self.run_id, attempt: self.attempt, epoch: self.epoch, n: self.next, piece })
    }

    /// The next chunk is out.
    pub(crate) fn published(&mut self) {
        if self.waiting.pop_front().is_some() {
            self.next += 1;
        }
    }

    /// Drops what waits.
    pub(crate) fn forget(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "a test fails by panicking")]

    use laneway_contract::{Chunk, JobState, ModelId, Piece, RunId, SessionId, Usage};

    use super::{Chunks, MAX_TEXT};

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn drain(chunks: &mut Chunks) -> Vec<Chunk> {
        let mut out = Vec::new();
        while let Some(chunk) = chunks.front() {
            chunks.published();
            out.push(chunk);
        }
        out
    }

    #[test]
    fn numbers_are_dense_from_zero() {
        let run_id = RunId::generate();
        let mut chunks = Chunks::new(run_id, 2, 7);
        let start =
            Piece::Start { session_id: SessionId::generate(), model_id: ModelId::parse("echo/a").expect("an id") };
        chunks.push(start.clone());
        let mut out = drain(&mut chunks);
        for piece in ["a", "b"] {
            chunks.push(text(piece));
            // Looking at a chunk without publishing it takes no number.
            assert_eq!(chunks.front(), chunks.front());
            out.extend(drain(&mut chunks));
        }
        chunks.push(Piece::End { outcome: JobState::Completed, usage: Usage::default(), message_id: None });
        out.extend(drain(&mut chunks));
        assert_eq!(out.iter().map(|chunk| chunk.n).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(out.iter().all(|chunk| (chunk.run_id, chunk.attempt, chunk.epoch) == (run_id, 2, 7)));
        assert_eq!((&out[0].piece, &out[1].piece), (&start, &text("a")));
        chunks.published();
        assert_eq!(chunks.front(), None);
        // What was dropped before it was published leaves no gap.
        chunks.push(text("never seen"));
        chunks.forget();
        chunks.push(text("c"));
        assert_eq!(chunks.front().map(|chunk| chunk.n), Some(4));
    }

    #[test]
    fn texts_become_one_only_while_they_wait() {
        let mut chunks = Chunks::new(RunId::generate(), 1, 1);
        for piece in [text("a"), text("b"), Piece::Thinking("c".to_owned()), Piece::Thinking("d".to_owned()), text("e")]
        {
            chunks.push(piece);
        }
        let pieces: Vec<_> = drain(&mut chunks).into_iter().map(|chunk| chunk.piece).collect();
        assert_eq!(pieces, [text("ab"), Piece::Thinking("cd".to_owned()), text("e")]);
    }

    #[test]
    fn a_large_text_is_cut_between_characters() {
        let mut chunks = Chunks::new(RunId::generate(), 1, 1);
        let large = "ü".repeat(MAX_TEXT);
        chunks.push(text(&format!("x{large}")));
        let pieces: Vec<_> = drain(&mut chunks)
            .into_iter()
            .map(|chunk| match chunk.piece {
                Piece::Text(text) => text,
                Piece::Thinking(_) | Piece::Start { .. } | Piece::ToolCall { .. } | Piece::End { .. } => String::new(),
            })
            .collect();
        assert_eq!(pieces.concat(), format!("x{large}"));
        assert!(pieces.len() == 3 && pieces.iter().all(|piece| piece.len() <= MAX_TEXT));
    }
}
