//! Bytes: JSON and MessagePack on the wire, compact MessagePack in frames.

use rmp_serde::config::{DefaultConfig, HumanReadableConfig};
use rmp_serde::decode::ReadRefReader;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::error::{ApiError, ErrorCode};

/// The largest request body and reply, in bytes.
pub const MAX_BODY_BYTES: usize = 768 * 1024;
/// Lists and maps may be nested so deeply in a body, in both formats; for JSON it is the bound of its reader.
const MAX_DEPTH: usize = 128;
/// The fields whose keys are the caller's: an error names them and nothing below.
const FREE_FORM: [&str; 3] = ["labels", "response_schema", "changes"];
/// A longer key is no name of a field.
const MAX_FIELD_NAME_BYTES: usize = 64;

/// How a body on the wire is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `application/json`, also when no `Content-Type` is given.
    #[default]
    Json,
    /// `application/msgpack`: maps with the same keys and the same texts as in JSON.
    MessagePack,
}

impl Format {
    /// The format that a `Content-Type` header names.
    pub fn from_content_type(value: Option<&str>) -> Result<Self, ApiError> {
        match value.map(|v| v.split(';').next().unwrap_or(v).trim()) {
            None | Some("" | "application/json") => Ok(Self::Json),
            Some("application/msgpack" | "application/x-msgpack") => Ok(Self::MessagePack),
            Some(_) => Err(ApiError::new(
                ErrorCode::BadRequest,
                "unknown Content-Type: send application/json or application/msgpack",
            )),
        }
    }

    /// The value of the `Content-Type` header.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MessagePack => "application/msgpack",
        }
    }

    /// Reads a request body of at most [`MAX_BODY_BYTES`]. The error names the path of the field that is wrong.
    pub fn decode<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, ApiError> {
        self.decode_at_most(body, MAX_BODY_BYTES)
    }

    /// As [`Format::decode`], with another bound: between services a body holds ids and hashes besides the caller's content.
    pub fn decode_at_most<T: DeserializeOwned>(self, body: &[u8], max_bytes: usize) -> Result<T, ApiError> {
        if body.len() > max_bytes {
            return Err(too_large(body.len()));
        }
        match self {
            Self::Json => {
                let text = std::str::from_utf8(body).map_err(|e| {
                    ApiError::new(ErrorCode::BadRequest, format!("the body is not UTF-8: byte {}", e.valid_up_to()))
                })?;
                // An empty body is an empty request: lists and gets without arguments need no `{}`.
                let text = if text.trim().is_empty() { "{}" } else { text };
                // Only what cannot be read is read with its path, which costs.
                if let Ok(value) = serde_json::from_str(text) {
                    return Ok(value);
                }
                let mut reader = serde_json::Deserializer::from_str(text);
                let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| bad_field(&e))?;
                reader
                    .end()
                    .map_err(|_| ApiError::new(ErrorCode::BadRequest, "more than one JSON value in the body"))?;
                Ok(value)
            }
            Self::MessagePack => {
                let body = if body.is_empty() { &[0x80][..] } else { body };
                if let Ok(value) = T::deserialize(&mut message_pack(body)) {
                    return Ok(value);
                }
                serde_path_to_error::deserialize(&mut message_pack(body)).map_err(|e| bad_field(&e))
            }
        }
    }

    /// Writes a body.
    pub fn encode<T: Serialize>(self, value: &T) -> Result<Vec<u8>, ApiError> {
        let internal = |e: &dyn std::error::Error| ApiError::new(ErrorCode::Internal, format!("cannot encode: {e}"));
        match self {
            Self::Json => serde_json::to_vec(value).map_err(|e| internal(&e)),
            Self::MessagePack => {
                let mut out = Vec::with_capacity(256);
                let mut writer = rmp_serde::Serializer::new(&mut out).with_struct_map().with_human_readable();
                value.serialize(&mut writer).map_err(|e| internal(&e))?;
                Ok(out)
            }
        }
    }
}

fn message_pack(body: &[u8]) -> rmp_serde::Deserializer<ReadRefReader<'_, [u8]>, HumanReadableConfig<DefaultConfig>> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(body).with_human_readable();
    reader.set_max_depth(MAX_DEPTH);
    reader
}

/// The error for a body over [`MAX_BODY_BYTES`].
#[must_use]
pub fn too_large(bytes: usize) -> ApiError {
    ApiError::new(
        ErrorCode::PayloadTooLarge,
        format!("{bytes} bytes are over the {MAX_BODY_BYTES} of one body: store large content with artifacts.put and send its id"),
    )
    .with_details(serde_json::json!({"size": bytes, "max": MAX_BODY_BYTES}))
}

fn bad_field<E: std::fmt::Display>(error: &serde_path_to_error::Error<E>) -> ApiError {
    let path = path_without_content(error.path());
    let reason = error.inner().to_string();
    let (code, message) = if reason.starts_with("unknown field") {
        let message = format!("unknown field {path}: see docs/protocol.md for the fields of this request");
        (ErrorCode::UnknownField, message)
    } else {
        (ErrorCode::BadRequest, format!("{path}: {}", without_content(&reason)))
    };
    ApiError::new(code, message).with_details(serde_json::json!({"path": path}))
}

/// Where in the body the error is, ending at the first key that could be content.
fn path_without_content(path: &serde_path_to_error::Path) -> String {
    let mut shown = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => shown.extend(["[", &index.to_string(), "]"]),
            Segment::Map { key } if is_field_name(key) => {
                if !shown.is_empty() {
                    shown.push('.');
                }
                shown.push_str(key);
                if FREE_FORM.contains(&key.as_str()) {
                    break;
                }
            }
            Segment::Map { .. } | Segment::Enum { .. } | Segment::Unknown => break,
        }
    }
    if shown.is_empty() { ".".to_owned() } else { shown }
}

/// An unknown field is named when its name looks like one.
fn is_field_name(key: &str) -> bool {
    (1..=MAX_FIELD_NAME_BYTES).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// What serde quotes of the caller's value could be content, so only the kind of the error and the expectation are passed on.
fn without_content(reason: &str) -> String {
    // IMPORTANT: the last one: what is quoted before it may hold the same words, and what is expected quotes no value.
    if let Some((found, expected)) = reason.rsplit_once(", expected ") {
        let kind = found.split([':', '`', '"']).next().unwrap_or_default().trim();
        let expected = expected.split(" at line ").next().unwrap_or(expected);
        return format!("{kind}, expected {expected}");
    }
    if reason.starts_with("recursion limit exceeded") || reason.starts_with("depth limit exceeded") {
        return format!("nested too deeply: a body has at most {MAX_DEPTH} levels");
    }
    // Without an expectation serde names fields of ours, in backticks, and quotes nothing.
    let reason = reason.split('"').next().unwrap_or_default();
    reason.split(" at line ").next().unwrap_or(reason).to_owned()
}
