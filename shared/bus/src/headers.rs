//! The headers that the parts agree on.

use async_nats::HeaderMap;

/// How the body is written: see [`laneway_contract::Format`].
pub const CONTENT_TYPE: &str = "Content-Type";
/// The leader's epoch in every reply of a leader.
pub const LEADER_EPOCH: &str = "Laneway-Epoch";
/// The caller's trace, as in W3C Trace Context.
pub const TRACEPARENT: &str = "traceparent";

/// How many requests of our own parts the body bundles.
pub(crate) const BUNDLE: &str = "Laneway-Bundle";

/// On the intake: the run of a submit whose body names none.
pub const RUN_ID: &str = "Laneway-Run-Id";
/// What a stream knows a message by: published again within its window, it is not stored twice.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";

/// The value of a header, whatever the case of its name: clients write `content-type` too.
#[must_use]
pub fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    let headers = headers?;
    if let Some(value) = headers.get(name) {
        return Some(value.as_str());
    }
    let (_, values) = headers.iter().find(|(key, _)| AsRef::<str>::as_ref(*key).eq_ignore_ascii_case(name))?;
    values.first().map(async_nats::HeaderValue::as_str)
}

/// A text that fits into one header: without line breaks and other control characters, at most 512 characters.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().take(512).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
