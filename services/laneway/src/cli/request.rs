//! Requests from flags and files: both are maps, and the contract's own reader checks the sum.

use std::io::Read;
use std::path::Path;

use laneway_contract::{Actor, ActorKind, Format, MicroUsd, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::exit::CliError;

/// A request that is put together from a file and flags; a flag wins.
#[derive(Debug, Default)]
pub(super) struct Draft(Map<String, Value>);

impl Draft {
    /// The request in a JSON file, `-` being stdin; empty without a file.
    pub(super) fn from_file(file: Option<&Path>) -> Result<Self, CliError> {
        let Some(file) = file else {
            return Ok(Self::default());
        };
        let text = text_of(&file.to_string_lossy(), |name| std::fs::read_to_string(name))?;
        match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) => Err(CliError::Usage(format!("{}: expected one JSON object", file.display()))),
            Err(error) => Err(CliError::Usage(format!("{}: {error}", file.display()))),
        }
    }

    /// Sets a field where a value was given.
    pub(super) fn set<T: Serialize>(&mut self, name: &str, value: Option<T>) -> Result<&mut Self, CliError> {
        if let Some(value) = value {
            let value = serde_json::to_value(value).map_err(|error| CliError::Usage(format!("{name}: {error}")))?;
            self.0.insert(name.to_owned(), value);
        }
        Ok(self)
    }

    /// Sets a field unless the file has set it.
    pub(super) fn default_to(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        self.0.entry(name).or_insert_with(|| value.into());
        self
    }

    /// Sets a field of a map in the request.
    pub(super) fn set_in<T: Serialize>(
        &mut self,
        map: &str,
        name: &str,
        value: Option<T>,
    ) -> Result<&mut Self, CliError> {
        if let Some(value) = value {
            let value = serde_json::to_value(value).map_err(|error| CliError::Usage(format!("{name}: {error}")))?;
            match self.0.entry(map).or_insert_with(|| Value::Object(Map::new())) {
                Value::Object(inner) => inner.insert(name.to_owned(), value),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                    return Err(CliError::Usage(format!("{map} in the file is no JSON object")));
                }
            };
        }
        Ok(self)
    }

    /// The request, checked as a service would check it.
    pub(super) fn read<T: DeserializeOwned>(self) -> Result<T, CliError> {
        let bytes = Value::Object(self.0).to_string();
        Format::Json.decode(bytes.as_bytes()).map_err(|error| CliError::Usage(error.message))
    }
}

/// A text argument; `-` stands for stdin.
pub(super) fn text_argument(argument: &str) -> Result<String, CliError> {
    text_of(argument, |text| Ok(text.to_owned()))
}

fn text_of(name: &str, read: impl FnOnce(&str) -> std::io::Result<String>) -> Result<String, CliError> {
    let text = if name == "-" {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        read(name)
    };
    text.map_err(|source| CliError::File { what: name.to_owned(), source })
}

/// The bytes of a file; `-` stands for stdin.
pub(super) fn bytes_of(file: &Path) -> Result<Vec<u8>, CliError> {
    let bytes = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    bytes.map_err(|source| CliError::File { what: file.display().to_string(), source })
}

/// A label on the command line: `key=value`.
pub(super) fn label(raw: &str) -> Result<(String, String), String> {
    let (key, value) = raw.split_once('=').ok_or("expected key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A point in time on the command line.
pub(super) fn time(raw: &str) -> Result<Timestamp, String> {
    as_in_json(raw)
}

/// An amount of money on the command line.
pub(super) fn usd(raw: &str) -> Result<MicroUsd, String> {
    as_in_json(raw)
}

/// A value that is written as it stands in a JSON text.
fn as_in_json<T: DeserializeOwned>(raw: &str) -> Result<T, String> {
    serde_json::from_value(Value::String(raw.to_owned())).map_err(|error| error.to_string())
}

/// The person at the command line.
pub(super) fn actor_value(name: &str) -> Actor {
    let name = if name.trim().is_empty() { "cli" } else { name };
    Actor { id: name.to_owned(), kind: ActorKind::Person }
}
