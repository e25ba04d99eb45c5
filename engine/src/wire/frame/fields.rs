//! The fields of a frame as they come, whatever their types: what no frame needs is skipped, not built.

use std::fmt;

use bytes::Bytes;
use serde::de::{EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::FrameError;

/// Longer ids and words than this are refused: they are kept as long as a connection is.
const MAX_WORD: usize = 256;
/// Versions beyond this many are not read.
const MAX_VERSIONS: usize = 16;

/// A frame as it is read: each known field, whatever its type.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) kind: Value,
    pub(super) sender: Value,
    pub(super) target: Value,
    pub(super) document: Value,
    pub(super) session: Value,
    pub(super) count: Value,
    pub(super) versions: Value,
    pub(super) version: Value,
    pub(super) message: Value,
    pub(super) hash: Value,
    pub(super) code: Value,
    pub(super) data: Value,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map with text keys")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some(key) = map.next_key::<Value>()? {
                    let Value::Text(key) = key else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    let field = match key.as_str() {
                        "type" => &mut fields.kind,
                        "senderId" => &mut fields.sender,
                        "targetId" => &mut fields.target,
                        "documentId" => &mut fields.document,
                        "sessionId" => &mut fields.session,
                        "count" => &mut fields.count,
                        "supportedProtocolVersions" => &mut fields.versions,
                        "selectedProtocolVersion" => &mut fields.version,
                        "message" => &mut fields.message,
                        "hash" => &mut fields.hash,
                        "code" => &mut fields.code,
                        "data" => &mut fields.data,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *field = map.next_value()?;
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// A field's value, as far as any frame needs it.
#[derive(Default, Debug)]
pub(super) enum Value {
    #[default]
    Missing,
    Text(String),
    Bytes(Vec<u8>),
    Number(u64),
    Texts(Vec<String>),
    Other,
}

impl Value {
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(super) fn text(self, kind: &str, field: &'static str) -> Result<String, FrameError> {
        match self {
            Self::Text(text) if text.len() <= MAX_WORD => Ok(text),
            _ => Err(FrameError::Field { kind: kind.chars().take(40).collect(), field }),
        }
    }

    pub(super) fn long_text(self, kind: &str, field: &'static str) -> Result<String, FrameError> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(FrameError::Field { kind: kind.to_owned(), field }),
        }
    }

    pub(super) fn bytes(self, kind: &str, field: &'static str) -> Result<Bytes, FrameError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.into()),
            _ => Err(FrameError::Field { kind: kind.to_owned(), field }),
        }
    }

    pub(super) fn number(self, kind: &str, field: &'static str) -> Result<u64, FrameError> {
        match self {
            Self::Number(number) => Ok(number),
            _ => Err(FrameError::Field { kind: kind.to_owned(), field }),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Value, E> {
                Ok(Value::Text(text))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
                Ok(Value::Bytes(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Value, E> {
                Ok(Value::Bytes(bytes))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(Value::Number(number))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                // JavaScript writes whole numbers beyond 32 bits as floats; up to 2^53 they are exact.
                let whole = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
                Ok(if whole { Value::Number(number as u64) } else { Value::Other })
            }

            fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_i128<E>(self, _: i128) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_u128<E>(self, _: u128) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Missing)
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Missing)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
                Value::deserialize(deserializer)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut texts = Vec::new();
                while texts.len() < MAX_VERSIONS {
                    match seq.next_element::<Value>()? {
                        Some(Value::Text(text)) if text.len() <= MAX_WORD => texts.push(text),
                        Some(_) => {}
                        None => return Ok(Value::Texts(texts)),
                    }
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::Texts(texts))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }

            fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
                // A CBOR tag (64 is cbor-x's for a Uint8Array): what it stands before counts.
                let (_, content) = tagged.variant::<IgnoredAny>()?;
                content.newtype_variant()
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}
