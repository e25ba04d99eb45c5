//! The names of things: documents, peers, scopes, times, money. Each is a type of its own, so that one can't be passed
//! where another belongs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The SHA-256 hash by which a change is known.
pub type ChangeHash = automerge::ChangeHash;
/// Who wrote an operation: random bytes, fresh after every start of an engine.
pub type ActorId = automerge::ActorId;

/// A document's id: 16 random bytes, written as automerge-repo does (base58 with a 4-byte check). A session's id is
/// that of its document.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(type = "string"))]
pub struct DocumentId([u8; 16]);

/// Why a text is no [`DocumentId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a document id")]
pub struct BadDocumentId(String);

impl DocumentId {
    /// A new random id.
    pub fn random() -> Self {
        Self(random_bytes())
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The id of these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The URL that automerge-repo's clients use: `automerge:` and the id.
    pub fn url(&self) -> String {
        format!("automerge:{self}")
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.0).with_check().into_string())
    }
}

impl fmt::Debug for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DocumentId {
    type Err = BadDocumentId;

    /// Accepts the bare id and the `automerge:` URL.
    fn from_str(text: &str) -> Result<Self, BadDocumentId> {
        let bad = || BadDocumentId(text.chars().take(80).collect());
        let id = text.strip_prefix("automerge:").unwrap_or(text);
        // 20 bytes are at most 28 characters of base58; longer texts are not worth decoding (it is quadratic).
        if id.len() > 32 {
            return Err(bad());
        }
        let bytes = bs58::decode(id).with_check(None).into_vec().map_err(|_| bad())?;
        Ok(Self(bytes.try_into().map_err(|_| bad())?))
    }
}

impl Serialize for DocumentId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DocumentId {
    /// The text, or what [`compact_id`] writes.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl serde::de::Visitor<'_> for Either {
            type Value = DocumentId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a document id")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<DocumentId, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<DocumentId, E> {
                bytes.try_into().map(DocumentId).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// For `#[serde(with)]`: a document id as its 16 bytes in CBOR, where thousands go over the wire; as text where people
/// may read it.
pub(crate) mod compact_id {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::DocumentId;

    pub(crate) fn serialize<S: Serializer>(id: &DocumentId, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { id.serialize(serializer) } else { serializer.serialize_bytes(&id.0) }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DocumentId, D::Error> {
        DocumentId::deserialize(deserializer)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

text_id! {
    /// An end of a connection, as it calls itself in the protocol; random, fresh at every start.
    PeerId
}
text_id! {
    /// Where a document belongs: a workspace (`w/ID`) or, for a profile, a member (`m/ID`). The relay keys everything
    /// by (scope, document), so that the same id in two scopes is two documents.
    Scope
}
impl Scope {
    /// Whether it is a workspace's, and not a member's own.
    pub fn is_workspace(&self) -> bool {
        self.0.starts_with("w/")
    }
}

text_id! {
    /// Who acts, for the record of writers: a member's id, or a worker's token's id.
    Principal
}

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(type = "number"))]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This time, later by `ms` milliseconds.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this; 0 if it isn't earlier.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Year, month and day in UTC, in the Gregorian calendar.
    /// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    pub fn date(self) -> (u64, u64, u64) {
        let shifted = self.0 / 86_400_000 + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_based = (5 * of_year + 2) / 153;
        let month = if march_based < 10 { march_based + 3 } else { march_based - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        (year, month, of_year - (153 * march_based + 2) / 5 + 1)
    }
}

/// The fencing token of one claim of a session: one claim, one run, one epoch (session rule 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(type = "number"))]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// Money: millionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(type = "number"))]
#[serde(transparent)]
pub struct Micros(pub u64);

/// The id of a message, request or call: 22 random characters of `0-9A-Za-z` (131 bits).
pub fn random_id() -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut id = String::with_capacity(22);
    while id.len() < 22 {
        for byte in random_bytes::<32>() {
            // 248 = 4 * 62: bytes above would make the first letters likelier.
            if byte < 248 && id.len() < 22 {
                id.push(ALPHABET[(byte % 62) as usize] as char);
            }
        }
    }
    id
}

/// A fresh actor id (16 random bytes).
pub fn random_actor() -> ActorId {
    ActorId::from(random_bytes::<16>().to_vec())
}

/// Random bytes from the operating system or the browser.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[cfg(feature = "testing")]
    if crate::testing::fill(&mut bytes) {
        return bytes;
    }
    getrandom::fill(&mut bytes).expect("the system's source of randomness works");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_id_survives_its_text() {
        let id = DocumentId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.url().parse(), Ok(id));
    }

    #[test]
    fn what_is_no_document_id_is_refused() {
        for text in ["", "automerge:", "0OIl", "a".repeat(100_000).as_str(), "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy"] {
            assert!(text.parse::<DocumentId>().is_err(), "{}", &text[..text.len().min(40)]);
        }
    }

    #[test]
    fn random_ids_have_22_letters() {
        let id = random_id();
        assert!(id.len() == 22 && id.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(id, random_id());
    }
}
