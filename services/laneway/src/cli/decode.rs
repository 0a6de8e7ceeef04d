//! `laneway decode`: bytes from a pipe as JSON, so that a tool that shows text can show MessagePack.

use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Context;
use crate::exit::{CliError, Exit};

/// Reads stdin to its end and writes it as JSON.
pub(super) fn run(context: &Context) -> Result<Exit, CliError> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|source| CliError::File { what: "stdin".to_owned(), source })?;
    let text = decode(&bytes)
        .map_err(|()| CliError::Usage("stdin holds neither JSON, nor MessagePack, nor text".to_owned()))?;
    if !text.is_empty() {
        context.out.line(text)?;
    }
    Ok(Exit::Done)
}

/// JSON and other text as it is, MessagePack as JSON: one line for each value. Maps stay maps, and records in the
/// compact form of journal frames, which have no names, are arrays. Binary shows as `hex:` and its digits.
pub(super) fn decode(bytes: &[u8]) -> Result<String, ()> {
    let text = std::str::from_utf8(bytes);
    // JSON first: its first byte would be a small number in MessagePack, which no body of ours is.
    if let Ok(text) = text
        && serde_json::from_str::<de::IgnoredAny>(text).is_ok()
    {
        return Ok(text.trim_end().to_owned());
    }
    match message_pack(bytes) {
        Some(values) => Ok(values.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")),
        None => text.map(|text| text.trim_end().to_owned()).map_err(|_| ()),
    }
}

fn message_pack(bytes: &[u8]) -> Option<Vec<Value>> {
    // Text that begins like JSON or a word reads as a row of small numbers; a body of ours is a map or an array.
    let first = *bytes.first()?;
    if first < 0x80 {
        return None;
    }
    let mut rest = bytes;
    let mut values = Vec::new();
    while !rest.is_empty() {
        let mut reader = rmp_serde::Deserializer::new(rest);
        values.push(Any::deserialize(&mut reader).ok()?.0);
        rest = reader.into_inner();
    }
    Some(values)
}

/// Any MessagePack value as JSON.
struct Any(Value);

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor).map(Self)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a MessagePack value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::String(hex(value)))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        // An extension type: its number and its bytes.
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Any(value)) = seq.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((Any(key), Any(value))) = entries.next_entry()? {
            let key = match key {
                Value::String(text) => text,
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => key.to_string(),
            };
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(4 + 2 * bytes.len());
    text.push_str("hex:");
    for byte in bytes {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests;
