//! Cost.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Millionths of a US dollar. A decimal text such as `"0.001500"` in JSON, an integer in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MicroUsd(pub u64);

impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl Serialize for MicroUsd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_u64(self.0) }
    }
}

impl<'de> Deserialize<'de> for MicroUsd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
        let digits = part.len() <= 6 && part.bytes().all(|b| b.is_ascii_digit());
        let value = whole
            .parse::<u64>()
            .ok()
            .filter(|_| digits)
            .and_then(|whole| whole.checked_mul(1_000_000)?.checked_add(format!("{part:0<6}").parse().ok()?));
        value.map(Self).ok_or_else(|| de::Error::custom("expected US dollars as a decimal text with at most 6 places"))
    }
}
