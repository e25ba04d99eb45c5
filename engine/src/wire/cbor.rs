//! CBOR in and out, bounded: depth, and never more memory than the input's own size justifies.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Nesting deeper than this is refused; nothing of ours or automerge-repo's goes beyond 6.
const MAX_DEPTH: usize = 32;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the CBOR that was expected: {0}")]
pub struct CborError(pub String);

/// Decodes one value and refuses what follows it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CborError> {
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH)
        .map_err(|error| CborError(error.to_string()))?;
    if rest.is_empty() { Ok(value) } else { Err(CborError(format!("{} bytes after its end", rest.len()))) }
}

/// Encodes a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::ser::into_writer(value, &mut bytes).expect("writing to memory does not fail, and our types all encode");
    bytes
}
