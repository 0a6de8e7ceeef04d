//! What a provider has said so far. No I/O: times are arguments, in milliseconds on the clock that counts suspend.

use laneway_contract::{Timestamp, Usage};

/// Bytes of content that make a token where the provider does not say.
const BYTES_PER_TOKEN: u64 = 4;
/// The most bytes of an answer: a report with it fits into one request.
const MAX_TEXT: usize = 640 * 1024;

/// The answer of an attempt while it comes.
#[derive(Debug)]
pub(crate) struct Transcript {
    claimed_at: u64,
    text: String,
    /// Whether text was reported before the end.
    split: bool,
    pieces: u64,
    usage: Option<Said>,
    call: Option<Call>,
    stopped: Option<Stopped>,
}

/// An attempt that was told to stop.
#[derive(Clone, Copy, Debug)]
struct Stopped {
    told_at: u64,
    closed_at: u64,
}

/// What the provider says was used, and how many pieces had come by then.
#[derive(Clone, Copy, Debug)]
struct Said {
    usage: Usage,
    pieces: u64,
}

/// The call of the provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// When it began, on the wall clock.
    pub(crate) started_at: Timestamp,
    /// When the first token came, on the wall clock.
    pub(crate) first_token_at: Option<Timestamp>,
    first_token_after_ms: Option<u64>,
    prompt_bytes: u64,
}

impl Transcript {
    /// Nothing said yet, by an attempt whose claim was answered at `claimed_at`.
    pub(crate) fn new(claimed_at: u64) -> Self {
        Self { claimed_at, text: String::new(), split: false, pieces: 0, usage: None, call: None, stopped: None }
    }

    /// The provider is about to be called.
    pub(crate) fn called(&mut self, prompt_bytes: u64, wall: Timestamp) {
        self.call = Some(Call { started_at: wall, first_token_at: None, first_token_after_ms: None, prompt_bytes });
    }

    /// A token of the answer or of the thinking came.
    pub(crate) fn token(&mut self, now: u64, wall: impl FnOnce() -> Timestamp) {
        self.pieces += 1;
        if let Some(call) = &mut self.call
            && call.first_token_after_ms.is_none()
        {
            call.first_token_after_ms = Some(now.saturating_sub(self.claimed_at));
            call.first_token_at = Some(wall());
        }
    }

    /// Keeps text of the answer. False when it is larger than an answer can be; then nothing of `text` was kept.
    pub(crate) fn say(&mut self, text: &str) -> bool {
        let fits = self.text.len() + text.len() <= MAX_TEXT;
        if fits {
            self.text.push_str(text);
        }
        fits
    }

    /// The provider says what was used.
    pub(crate) fn used(&mut self, usage: Usage) {
        self.usage = Some(Said { usage, pieces: self.pieces });
    }

    /// The answer so far was reported: what comes now is the rest.
    pub(crate) fn told(&mut self) {
        self.split |= !self.text.is_empty();
        self.text.clear();
    }

    /// Whether only the rest of the answer is here.
    pub(crate) fn is_split(&self) -> bool {
        self.split
    }

    /// Whether another token stays within `tokens_left`, prompt included.
    pub(crate) fn has_room(&self, tokens_left: Option<u64>) -> bool {
        tokens_left.is_none_or(|left| self.usage().total() < left)
    }

    /// The answer so far, without what was reported.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Output tokens so far, as they can be counted from here.
    pub(crate) fn output_tokens(&self) -> u64 {
        self.pieces
    }

    /// The call, where it came to one.
    pub(crate) fn call(&self) -> Option<&Call> {
        self.call.as_ref()
    }

    /// It was told to stop, and by `closed_at` had closed what was open to the provider.
    pub(crate) fn stopped(&mut self, told_at: u64, closed_at: u64) {
        self.stopped = Some(Stopped { told_at, closed_at });
    }

    /// From the claim's answer to when it was told to stop.
    pub(crate) fn told_after_ms(&self) -> Option<u64> {
        self.stopped.map(|stopped| stopped.told_at.saturating_sub(self.claimed_at))
    }

    /// From the claim's answer to when the call that it was told to stop was closed.
    pub(crate) fn closed_after_ms(&self) -> Option<u64> {
        self.call.and(self.stopped).map(|stopped| stopped.closed_at.saturating_sub(self.claimed_at))
    }

    /// From the claim's answer to the first token.
    pub(crate) fn first_token_after_ms(&self) -> Option<u64> {
        self.call.as_ref()?.first_token_after_ms
    }

    /// Whether the provider said what was used.
    pub(crate) fn usage_is_known(&self) -> bool {
        self.usage.is_some()
    }

    /// Tokens: as the provider says, else estimated, never fewer than have come. None before the call.
    pub(crate) fn usage(&self) -> Usage {
        match (self.usage, &self.call) {
            (Some(said), _) => {
                let since = self.pieces.saturating_sub(said.pieces);
                Usage { output_tokens: said.usage.output_tokens.saturating_add(since), ..said.usage }
            }
            (None, Some(call)) => {
                Usage { input_tokens: estimate(call.prompt_bytes), output_tokens: self.pieces, ..Usage::default() }
            }
            (None, None) => Usage::default(),
        }
    }
}

/// Tokens of a prompt of this many bytes, where nobody says.
pub(crate) const fn estimate(prompt_bytes: u64) -> u64 {
    prompt_bytes.div_ceil(BYTES_PER_TOKEN)
}

#[cfg(test)]
mod tests {
    use laneway_contract::{Timestamp, Usage};

    use super::{MAX_TEXT, Transcript};

    #[test]
    fn the_first_token_is_timed_from_the_claim() {
        let mut transcript = Transcript::new(1_000);
        transcript.called(0, Timestamp::from_millis(5));
        assert_eq!(transcript.first_token_after_ms(), None);
        transcript.token(1_250, || Timestamp::from_millis(9));
        transcript.token(2_000, || Timestamp::from_millis(99));
        assert_eq!(transcript.first_token_after_ms(), Some(250));
        assert_eq!(transcript.call().and_then(|call| call.first_token_at), Some(Timestamp::from_millis(9)));
    }

    #[test]
    fn usage_is_the_providers_or_an_estimate() {
        let mut transcript = Transcript::new(0);
        assert_eq!(transcript.usage(), Usage::default());
        transcript.called(9, Timestamp::ZERO);
        for _ in 0..3 {
            transcript.token(1, || Timestamp::ZERO);
        }
        let estimate = Usage { input_tokens: 3, output_tokens: 3, ..Usage::default() };
        assert_eq!((transcript.usage(), transcript.usage_is_known()), (estimate, false));
        let said = Usage { input_tokens: 7, output_tokens: 2, cached_tokens: 1, reasoning_tokens: 0 };
        transcript.used(said);
        assert_eq!((transcript.usage(), transcript.usage_is_known()), (said, true));
        // What came since then counts on top.
        transcript.token(1, || Timestamp::ZERO);
        assert_eq!(transcript.usage(), Usage { output_tokens: 3, ..said });
    }

    #[test]
    fn there_is_room_for_another_token_below_the_budget() {
        let mut transcript = Transcript::new(0);
        transcript.called(5, Timestamp::ZERO);
        assert!(transcript.has_room(None) && transcript.has_room(Some(3)) && !transcript.has_room(Some(2)));
        transcript.token(1, || Timestamp::ZERO);
        assert!(transcript.has_room(Some(4)) && !transcript.has_room(Some(3)));
        transcript.used(Usage { input_tokens: 9, output_tokens: 1, ..Usage::default() });
        assert!(transcript.has_room(Some(11)) && !transcript.has_room(Some(10)));
    }

    #[test]
    fn what_was_told_is_not_said_again() {
        let mut transcript = Transcript::new(0);
        transcript.told();
        assert!(!transcript.is_split(), "nothing was said");
        transcript.say("a");
        transcript.told();
        transcript.say("b");
        assert_eq!((transcript.text(), transcript.is_split()), ("b", true));
    }

    #[test]
    fn an_answer_has_a_bound() {
        let mut transcript = Transcript::new(0);
        assert!(transcript.say(&"x".repeat(MAX_TEXT)));
        assert!(!transcript.say("y"));
        assert_eq!(transcript.text().len(), MAX_TEXT);
    }
}
