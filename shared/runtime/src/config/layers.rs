//! The layers of a configuration: each is checked by itself, so that an error names its place, and laid over the one below.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::{Config, ConfigError, Overlay};

/// Variables with this prefix are configuration; `__` stands between a table and its key, as in `LANEWAY_WORKER__SLOTS`.
pub const ENVIRONMENT_PREFIX: &str = "LANEWAY_";
/// The one variable with the prefix that is not a key: it names the file.
const FILE_VARIABLE: &str = "LANEWAY_CONFIG";

/// The file that the variables name, and those that are keys, in the order of their names.
pub(super) fn variables(
    environment: impl IntoIterator<Item = (String, String)>,
) -> (Option<PathBuf>, Vec<(String, String)>) {
    let mut file = None;
    let mut keys = Vec::new();
    for (name, value) in environment {
        if name == FILE_VARIABLE {
            file = Some(PathBuf::from(value));
        } else if name.starts_with(ENVIRONMENT_PREFIX) {
            keys.push((name, value));
        }
    }
    keys.sort();
    (file, keys)
}

pub(super) fn read_file(path: &Path) -> Result<Table, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let refused = |error: &toml::de::Error| {
        let before = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.char_indices().filter(|(at, c)| *c == '\n' && *at < before).count() + 1;
        ConfigError::File { path: path.to_owned(), line, reason: one_line(error.message()) }
    };
    // Read as the typed configuration first: only that knows unknown keys, and their lines.
    toml::from_str::<Config>(&text).map_err(|error| refused(&error))?;
    toml::from_str(&text).map_err(|error| refused(&error))
}

pub(super) fn with_environment(mut table: Table, variables: Vec<(String, String)>) -> Result<Table, ConfigError> {
    for (name, text) in variables {
        let path = name[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase();
        let path: Vec<&str> = path.split("__").collect();
        let mut refused = None;
        // The key decides what its text is, so the first reading that it takes is the right one.
        let taken = readings(&text).into_iter().find_map(|value| {
            let over = path
                .iter()
                .rev()
                .fold(value, |inner, key| Value::Table(Table::from_iter([((*key).to_owned(), inner)])));
            let Value::Table(over) = over else { return None };
            let mut laid = table.clone();
            lay_over(&mut laid, over);
            match Config::deserialize(Value::Table(laid.clone())) {
                Ok(_) => Some(laid),
                Err(error) => {
                    refused = Some(one_line(error.message()));
                    None
                }
            }
        });
        table =
            taken.ok_or_else(|| ConfigError::Environment { variable: name, reason: refused.unwrap_or_default() })?;
    }
    Ok(table)
}

pub(super) fn with_flags(mut table: Table, flags: &Overlay) -> Result<Config, ConfigError> {
    let over = Table::try_from(flags).map_err(|error| ConfigError::Flags { reason: error.to_string() })?;
    lay_over(&mut table, over);
    Config::deserialize(Value::Table(table))
        .map_err(|error| ConfigError::Flags { reason: one_line(&error.to_string()) })
}

/// What the text of a variable can be: a TOML value, a list with commas, a text. The text is last, so that its error is shown.
fn readings(text: &str) -> Vec<Value> {
    let mut readings = Vec::with_capacity(3);
    if let Ok(table) = toml::from_str::<Table>(&format!("value = {text}"))
        && table.len() == 1
    {
        readings.extend(table.into_iter().map(|(_, value)| value));
    }
    readings.push(Value::Array(text.split(',').map(|part| Value::String(part.trim().to_owned())).collect()));
    readings.push(Value::String(text.to_owned()));
    readings
}

/// Tables are laid over each other key by key, everything else replaces what was there.
fn lay_over(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
