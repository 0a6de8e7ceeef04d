//! The options in an echo model's name.

use crate::error::ProviderError;

/// The most tokens of one answer.
const MAX_TOKENS: u64 = 100_000;
/// The longest wait, in milliseconds: an hour.
const MAX_MS: u64 = 3_600_000;

/// What the model name asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Before each token, in milliseconds.
    pub(super) delay_ms: u64,
    /// Tokens of the answer.
    pub(super) tokens: Option<usize>,
    /// Attempts that fail.
    pub(super) fail: u64,
    /// Tokens before the connection is lost.
    pub(super) fail_after: Option<usize>,
    /// Tokens before the stream ends without a word.
    pub(super) truncate_after: Option<usize>,
    /// Tokens before a tool is asked for.
    pub(super) tool_at: Option<usize>,
    /// Tokens before an approval is asked for.
    pub(super) approve_at: Option<usize>,
    /// What the first attempt is asked to wait, in milliseconds.
    pub(super) rate_limit_ms: Option<u64>,
    /// Whether nothing ever comes.
    pub(super) hang: bool,
}

impl Options {
    /// Reads the part of a model id behind the slash.
    pub(super) fn parse(model: &str) -> Result<Self, ProviderError> {
        let mut options = Self::default();
        if model == "default" {
            return Ok(options);
        }
        for part in model.split(',') {
            match part.split_once('=') {
                Some(("delay", value)) => options.delay_ms = number(value, MAX_MS)?,
                Some(("tokens", value)) => options.tokens = Some(number(value, MAX_TOKENS)? as usize),
                Some(("fail", value)) => options.fail = number(value, u64::from(u32::MAX))?,
                Some(("fail_after", value)) => options.fail_after = Some(number(value, MAX_TOKENS)? as usize),
                Some(("truncate_after", value)) => options.truncate_after = Some(number(value, MAX_TOKENS)? as usize),
                Some(("tool_at", value)) => options.tool_at = Some(number(value, MAX_TOKENS)? as usize),
                Some(("approve_at", value)) => options.approve_at = Some(number(value, MAX_TOKENS)? as usize),
                Some(("rate_limit", value)) => options.rate_limit_ms = Some(number(value, MAX_MS)?),
                Some(("name", value)) if !value.is_empty() => {}
                None if part == "hang" => options.hang = true,
                Some(_) | None => {
                    return Err(ProviderError::Invalid(
                        "unknown echo option: a model is echo/default, or options with commas between out of \
                         delay=MS, tokens=N, fail=N, fail_after=N, truncate_after=N, tool_at=N, approve_at=N, \
                         rate_limit=MS, hang, name=TEXT",
                    ));
                }
            }
        }
        Ok(options)
    }
}

fn number(value: &str, max: u64) -> Result<u64, ProviderError> {
    value.parse().ok().filter(|n| *n <= max).ok_or(ProviderError::Invalid(
        "an echo option is no number or too large: at most 100000 tokens and 3600000 milliseconds",
    ))
}
