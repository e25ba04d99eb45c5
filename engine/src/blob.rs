//! What is too large for a document, or no text, is a *blob*: bytes known by their SHA-256. Documents hold its name only.
//!
//! Invariant: a name stands for one content, everywhere and for ever.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The largest blob, in bytes.
pub const MAX_BYTES: u64 = 64 << 20;

/// A blob's name: SHA-256 of its content, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(type = "string"))]
pub struct BlobId([u8; 32]);

/// Why a text is no [`BlobId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a blob's name is its SHA-256: 64 lower-case hex digits")]
pub struct BadBlobId;

impl BlobId {
    /// The name of this content.
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    /// The name that is this hash.
    pub fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The 32 bytes of the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlobId {
    type Err = BadBlobId;

    fn from_str(text: &str) -> Result<Self, BadBlobId> {
        let mut hash = [0; 32];
        let lower = text.bytes().all(|byte| !byte.is_ascii_uppercase());
        match lower && hex::decode_to_slice(text, &mut hash).is_ok() {
            true => Ok(Self(hash)),
            false => Err(BadBlobId),
        }
    }
}

impl Serialize for BlobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlobId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lower_case_hex_of_the_right_length_is_a_name() {
        let good = BlobId::of(b"x").to_string();
        assert_eq!(good.parse(), Ok(BlobId::of(b"x")));
        for bad in ["", "../../etc/passwd", &good[1..], &good.to_uppercase(), &format!("{good}0")] {
            assert_eq!(bad.parse::<BlobId>(), Err(BadBlobId), "{bad}");
        }
    }
}
