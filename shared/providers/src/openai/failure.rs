//! genai's errors as ours. Only statuses and headers are read; texts of the provider are dropped here.

use genai::Error;
use jiff::fmt::rfc2822;

use crate::error::ProviderError;

/// The longest wait that a provider can ask for, in milliseconds: an hour.
const MAX_RETRY_AFTER_MS: u64 = 3_600_000;

/// What happened.
pub(super) fn classify(error: &Error) -> ProviderError {
    if let Error::WebStream { error, .. } = error {
        return match error.downcast_ref::<Error>() {
            Some(inner) => classify(inner),
            // Whatever the transport says: it could not connect, or the connection broke.
            None => ProviderError::Connection,
        };
    }
    if let Some(status) = error.status() {
        let header = |name: &str| error.headers()?.get(name)?.to_str().ok();
        return ProviderError::from_status(status.as_u16(), retry_after_ms(header));
    }
    if let Error::ChatResponse { body, .. } = error {
        return in_stream(body);
    }
    if matches!(error, Error::StreamParse { .. } | Error::SerdeJson(_) | Error::JsonValueExt(_)) {
        return ProviderError::Unreadable;
    }
    if matches!(error, Error::WebModelCall { .. } | Error::WebAdapterCall { .. }) {
        return ProviderError::Connection;
    }
    // The rest arises before anything is sent.
    ProviderError::Invalid("the prompt cannot be expressed as a request to this provider")
}

/// An error event after a good status: some servers send their HTTP status as its code.
fn in_stream(body: &serde_json::Value) -> ProviderError {
    let code = body.get("code").and_then(serde_json::Value::as_u64).and_then(|code| u16::try_from(code).ok());
    match code {
        Some(status @ 400..=599) => ProviderError::from_status(status, None),
        Some(_) | None => ProviderError::FailedInStream,
    }
}

/// What `retry-after-ms` or `Retry-After` say, in milliseconds. A date counts from the answer's own `Date`, so that no
/// clock of ours is asked.
fn retry_after_ms<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<u64> {
    let millis = header("retry-after-ms").and_then(|ms| ms.trim().parse::<f64>().ok());
    let wait = millis.or_else(|| {
        let after = header("retry-after")?.trim();
        if let Ok(seconds) = after.parse::<f64>() {
            return Some(seconds * 1_000.0);
        }
        let time = |text: &str| rfc2822::parse(text.trim()).ok().map(|zoned| zoned.timestamp().as_millisecond());
        Some((time(after)? - time(header("date")?)?) as f64)
    })?;
    (wait.is_finite() && wait >= 0.0).then(|| (wait.ceil() as u64).min(MAX_RETRY_AFTER_MS))
}

#[cfg(test)]
mod tests {
    use super::retry_after_ms;

    #[test]
    fn waits_are_read_in_all_their_forms() {
        let check = |headers: &[(&str, &'static str)], expected: Option<u64>| {
            let header = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
            assert_eq!(retry_after_ms(header), expected, "{headers:?}");
        };
        check(&[("retry-after", "7")], Some(7_000));
        check(&[("retry-after", "0.5")], Some(500));
        check(&[("retry-after-ms", "120"), ("retry-after", "7")], Some(120));
        check(
            &[("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT"), ("date", "Wed, 21 Oct 2015 07:28:00 GMT")],
            Some(30_000),
        );
        check(&[("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT")], None);
        check(&[("retry-after", "-3")], None);
        check(&[("retry-after", "NaN")], None);
        check(&[("retry-after", "99999999")], Some(3_600_000));
        check(&[("retry-after", "soon")], None);
        check(&[], None);
    }
}
