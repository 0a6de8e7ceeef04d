//! Several answers on one screen: each in whole lines, with a letter in front.

use std::collections::BTreeMap;

/// Characters of a line.
const WIDTH: usize = 72;

/// Collects the pieces of each speaker until a line is full.
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<char, String>);

impl Lines {
    /// Takes a piece; gives the lines that are full now.
    pub(super) fn take(&mut self, speaker: char, piece: &str) -> Vec<String> {
        let begun = self.0.entry(speaker).or_default();
        begun.push_str(piece);
        let mut full = Vec::new();
        while let Some(end) = end_of_line(begun) {
            let rest = begun.split_off(end);
            let line = std::mem::replace(begun, rest.trim_start_matches([' ', '\n']).to_owned());
            if !line.trim().is_empty() {
                full.push(line.trim_end().to_owned());
            }
        }
        full
    }

    /// What is left of a speaker who has ended.
    pub(super) fn end(&mut self, speaker: char) -> Option<String> {
        self.0.remove(&speaker).map(|rest| rest.trim_end().to_owned()).filter(|rest| !rest.is_empty())
    }
}

/// Where the first line ends: at a line feed, or at the last space before it is too wide.
fn end_of_line(text: &str) -> Option<usize> {
    let feed = text.find('\n');
    let wide = text.char_indices().nth(WIDTH).map(|(at, _)| text[..at].rfind(' ').unwrap_or(at));
    match (feed, wide) {
        (Some(feed), Some(wide)) => Some(feed.min(wide)),
        (feed, wide) => feed.or(wide),
    }
    // A line that begins with a space would never get shorter.
    .map(|end| end.max(text.chars().next().map_or(0, char::len_utf8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines_of_words() {
        let mut lines = Lines::default();
        let word = "lighthouse ";
        let mut full = Vec::new();
        for _ in 0..20 {
            full.extend(lines.take('A', word));
        }
        assert_eq!(full.len(), 3);
        assert!(full.iter().all(|line| line.chars().count() <= WIDTH && line.ends_with("lighthouse")), "{full:?}");
        full.extend(lines.end('A'));
        assert_eq!(full.join(" "), word.repeat(20).trim_end());
    }

    #[test]
    fn speakers_do_not_mix_and_line_feeds_end_lines() {
        let mut lines = Lines::default();
        assert!(lines.take('A', "one").is_empty());
        assert_eq!(lines.take('B', "first\n\nsecond"), ["first"]);
        assert_eq!(lines.end('A').as_deref(), Some("one"));
        assert_eq!(lines.end('B').as_deref(), Some("second"));
        assert_eq!(lines.end('B'), None);
    }

    #[test]
    fn a_word_that_is_too_long_is_cut() {
        let mut lines = Lines::default();
        let full = lines.take('A', &"ä".repeat(2 * WIDTH + 1));
        assert_eq!(full, ["ä".repeat(WIDTH), "ä".repeat(WIDTH)]);
        assert!(lines.take('A', &" ".repeat(3 * WIDTH)).len() <= 1);
    }
}
