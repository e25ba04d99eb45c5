//! A value in CBOR, deflated: how the catalog's rows travel. The socket itself compresses nothing, since that would
//! cost memory for each idle connection.
//!
//! Invariant: unpacking never takes more memory than a bound that the reader sets.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::bufread::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cbor::{self, CborError};

/// The largest page of rows, inflated, in bytes: more than the relay ever makes of one, unless a single row is larger.
pub const MAX_PAGE: usize = 16 << 20;

/// Encodes and deflates a value.
pub fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    let plain = cbor::encode(value);
    let mut encoder = DeflateEncoder::new(Vec::with_capacity(plain.len() / 3), Compression::new(6));
    encoder.write_all(&plain).and_then(|()| encoder.finish()).expect("writing to memory does not fail")
}

/// Inflates and decodes a value, if it takes no more than `most` bytes.
pub fn unpack<T: DeserializeOwned>(packed: &[u8], most: usize) -> Result<T, CborError> {
    let mut plain = Vec::with_capacity(most.min(packed.len().saturating_mul(4)));
    let mut inflating = DeflateDecoder::new(packed).take(most as u64 + 1);
    inflating.read_to_end(&mut plain).map_err(|error| CborError(format!("it can't be inflated: {error}")))?;
    if plain.len() > most {
        return Err(CborError(format!("it inflates to more than {most} bytes")));
    }
    cbor::decode(&plain)
}

/// For `#[serde(with)]`: a field that travels as the bytes of [`pack`], at most [`MAX_PAGE`] of them inflated.
pub mod within {
    use bytes::Bytes;
    use serde::de::{DeserializeOwned, Error};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{MAX_PAGE, pack, unpack};

    /// See the module.
    pub fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&pack(value))
    }

    /// See the module.
    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let packed = Bytes::deserialize(deserializer)?;
        unpack(&packed, MAX_PAGE).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_packing_and_is_smaller() {
        let value: Vec<String> = (0..1000).map(|n| format!("row {n} of the list")).collect();
        let packed = pack(&value);
        assert!(packed.len() * 3 < cbor::encode(&value).len());
        assert_eq!(unpack::<Vec<String>>(&packed, 1 << 20), Ok(value));
    }

    #[test]
    fn what_inflates_beyond_the_bound_or_is_no_deflate_stream_is_an_error() {
        let bomb = pack(&vec![0_u8; 1 << 20]);
        assert!(bomb.len() < 10_000);
        assert!(unpack::<Vec<u8>>(&bomb, 1 << 16).unwrap_err().0.contains("more than"));
        for broken in [&bomb[..bomb.len() / 2], b"not deflated", b""] {
            assert!(unpack::<Vec<u8>>(broken, 1 << 24).is_err());
        }
    }
}
