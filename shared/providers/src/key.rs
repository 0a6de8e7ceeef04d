//! API keys: from the worker's environment or a file, never shown.

use std::io;

use laneway_contract::ProviderSpec;
use secrecy::{ExposeSecret, SecretString};

/// Reads an environment variable. The process hands it in, because only its configuration reads the environment.
pub type ReadEnv<'a> = &'a dyn Fn(&str) -> Option<SecretString>;

/// Why a provider's API key cannot be had. Never holds the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The variable is not set.
    #[error("the environment variable {variable} is not set: set it to the API key, or leave api_key_env out")]
    Unset {
        /// Its name.
        variable: String,
    },
    /// The file cannot be read.
    #[error("the API key file {file} cannot be read: {kind}")]
    File {
        /// Its path.
        file: String,
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// What was found cannot stand in a header.
    #[error("the API key in {place} is empty or holds characters that a key cannot have")]
    Malformed {
        /// The variable or file.
        place: String,
    },
}

/// The API key of a provider; none where its spec names no place. A file goes before a variable.
pub(crate) fn read_key(spec: &ProviderSpec, env: ReadEnv<'_>) -> Result<Option<SecretString>, KeyError> {
    let (place, key) = if let Some(file) = &spec.api_key_file {
        let text = std::fs::read_to_string(file).map_err(|e| KeyError::File { file: file.clone(), kind: e.kind() })?;
        (file, SecretString::from(text))
    } else if let Some(variable) = &spec.api_key_env {
        (variable, env(variable).ok_or_else(|| KeyError::Unset { variable: variable.clone() })?)
    } else {
        return Ok(None);
    };
    let trimmed = key.expose_secret().trim();
    if trimmed.is_empty() || !trimmed.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(KeyError::Malformed { place: place.clone() });
    }
    Ok(Some(SecretString::from(trimmed)))
}
