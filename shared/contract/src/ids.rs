//! Identifiers: parsed once at the edge, so that holding one is the proof that it is well formed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A text that is not the identifier it was taken for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {expected}")]
pub struct InvalidId {
    /// The name of the identifier.
    pub what: &'static str,
    /// What a well-formed one looks like.
    pub expected: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
                } else {
                    Uuid::deserialize(deserializer).map(Self)
                }
            }
        }

        impl $name {
            /// Wraps a UUID.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// A new time-ordered identifier (UUID version 7). For the edges only: the engine makes none.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The UUID itself.
            #[must_use]
            pub const fn uuid(&self) -> Uuid {
                self.0
            }

            /// Parses the hyphenated form.
            pub fn parse(raw: &str) -> Result<Self, InvalidId> {
                // Other spellings (braces, urn) would give one identifier several subjects.
                if raw.len() == 36
                    && let Ok(uuid) = Uuid::try_parse(raw)
                {
                    return Ok(Self(uuid));
                }
                Err(InvalidId { what: $what, expected: "must be a UUID as in 0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e" })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(raw: &str) -> Result<Self, InvalidId> {
                Self::parse(raw)
            }
        }
    };
}

uuid_id!(
    /// A session.
    SessionId, "session_id");
uuid_id!(
    /// A run; also the idempotency key of its submit.
    RunId, "run_id");
uuid_id!(
    /// A message.
    MessageId, "message_id");

/// The fencing number of an attempt's lease or of a leader. Never falls.
pub type Epoch = u64;

/// The name of an artifact: the keyed BLAKE3 hash of its bytes, written `b3:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactId([u8; 32]);

impl ArtifactId {
    /// Wraps a hash.
    #[must_use]
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses `b3:<64 hex>`.
    pub fn parse(raw: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId { what: "artifact id", expected: "must be b3: and 64 hexadecimal digits" };
        let hex = raw.strip_prefix("b3:").ok_or_else(|| invalid.clone())?;
        blake3::Hash::from_hex(hex).map(|hash| Self(*hash.as_bytes())).map_err(|_| invalid)
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b3:{}", blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ArtifactId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for ArtifactId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
        } else {
            let bytes = bytes::Bytes::deserialize(deserializer)?;
            <[u8; 32]>::try_from(bytes.as_ref()).map(Self).map_err(|_| de::Error::custom("a hash has 32 bytes"))
        }
    }
}

/// The key that makes content hashes of one deployment unguessable by others. Made once, with the journal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashKey([u8; 32]);

impl HashKey {
    /// Wraps key bytes.
    #[must_use]
    pub const fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The name of these bytes as an artifact: BLAKE3 in keyed mode.
    #[must_use]
    pub fn artifact_id(&self, content: &[u8]) -> ArtifactId {
        ArtifactId(*blake3::keyed_hash(&self.0, content).as_bytes())
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

/// A name that is safe as one subject token: 1 to 64 of `a-z A-Z 0-9 _ -`. Names workers and pools.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Parses a name.
    pub fn parse(raw: &str) -> Result<Self, InvalidId> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if (1..=64).contains(&raw.len()) && raw.bytes().all(plain) {
            Ok(Self(raw.to_owned()))
        } else {
            Err(InvalidId { what: "name", expected: "must be 1 to 64 of a-z A-Z 0-9 _ -" })
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A worker process.
pub type WorkerId = Token;
/// A set of workers that serve the same models.
pub type PoolId = Token;

/// `provider/model`: everything after the first `/` is the provider's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ModelId(String);

impl ModelId {
    /// Parses a model id: a provider of 1 to 32 `a-z 0-9 _ -`, a slash, and 1 to 256 bytes without control characters.
    pub fn parse(raw: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId {
            what: "model_id",
            expected: "must be provider/model as in echo/default, the model at most 256 bytes without control characters",
        };
        let (provider, model) = raw.split_once('/').ok_or_else(|| invalid.clone())?;
        let name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        let provider_ok = (1..=32).contains(&provider.len()) && provider.bytes().all(name);
        let model_ok = (1..=256).contains(&model.len()) && !model.chars().any(char::is_control);
        if provider_ok && model_ok { Ok(Self(raw.to_owned())) } else { Err(invalid) }
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first slash.
    #[must_use]
    pub fn provider(&self) -> &str {
        self.0.split_once('/').map_or(self.0.as_str(), |(provider, _)| provider)
    }

    /// The part after the first slash.
    #[must_use]
    pub fn model(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, model)| model)
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ModelId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
