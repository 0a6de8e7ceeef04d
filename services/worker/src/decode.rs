//! Messages of the inner streams.

use laneway_bus::async_nats::Message;
use laneway_bus::{CONTENT_TYPE, header};
use laneway_contract::Format;
use serde::de::DeserializeOwned;

/// Reads a message in the format that its `Content-Type` names; without one, JSON begins with a brace. None when it
/// cannot be read.
pub(crate) fn decode<T: DeserializeOwned>(message: &Message) -> Option<T> {
    let format = match header(message.headers.as_ref(), CONTENT_TYPE) {
        Some(value) => Format::from_content_type(Some(value)).ok()?,
        None if message.payload.first() == Some(&b'{') => Format::Json,
        None => Format::MessagePack,
    };
    format.decode(&message.payload).ok()
}
