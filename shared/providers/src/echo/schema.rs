//! The smallest value of a JSON schema, so that structured output can be tried without a model.

use serde_json::{Map, Value, json};

use crate::error::ProviderError;

/// Schemas that are nested deeper are refused.
const MAX_DEPTH: u32 = 32;

/// A value that follows the schema: the first `enum`, every property, the shortest array, and `text` for strings.
pub(super) fn smallest(schema: &Value, text: &str) -> Result<Value, ProviderError> {
    value(schema, text, MAX_DEPTH)
}

fn value(schema: &Value, text: &str, depth: u32) -> Result<Value, ProviderError> {
    let unsupported = ProviderError::Invalid(
        "echo follows JSON schemas of const, enum, anyOf, oneOf, type, properties, items and minItems, 32 deep",
    );
    let depth = depth.checked_sub(1).ok_or_else(|| unsupported.clone())?;
    let Some(schema) = schema.as_object() else {
        // `true` allows everything, `false` nothing.
        return if schema == &Value::Bool(true) { Ok(Value::Null) } else { Err(unsupported) };
    };
    if ["$ref", "allOf", "not", "if", "pattern", "format", "minimum"].iter().any(|key| schema.contains_key(*key)) {
        return Err(unsupported);
    }
    if let Some(value) = schema.get("const") {
        return Ok(value.clone());
    }
    for key in ["enum", "anyOf", "oneOf"] {
        if let Some(choices) = schema.get(key) {
            let first = choices.get(0).ok_or_else(|| unsupported.clone())?;
            return if key == "enum" { Ok(first.clone()) } else { value(first, text, depth) };
        }
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
        Some(kind) => kind.as_str(),
        None if schema.contains_key("properties") => Some("object"),
        None => Some("null"),
    };
    match kind {
        Some("object") => object(schema, text, depth),
        Some("array") => {
            let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0).min(100);
            let item = schema.get("items").unwrap_or(&Value::Bool(true));
            (0..count).map(|_| value(item, text, depth)).collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        Some("string") => Ok(json!(text)),
        Some("integer" | "number") => Ok(json!(0)),
        Some("boolean") => Ok(json!(false)),
        Some("null") => Ok(Value::Null),
        _ => Err(unsupported),
    }
}

fn object(schema: &Map<String, Value>, text: &str, depth: u32) -> Result<Value, ProviderError> {
    let mut object = Map::new();
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        object.insert(name.clone(), value(property, text, depth)?);
    }
    Ok(Value::Object(object))
}
