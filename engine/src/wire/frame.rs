//! Messages of the automerge-repo WebSocket protocol, version 1, each one binary WebSocket message of CBOR.
//! Source: the README of `@automerge/automerge-repo-network-websocket` 2.x.
//!
//! Bytes from outside end as a [`Frame`] or a [`FrameError`], never as a panic, and never as more memory than a small
//! multiple of their own size: fields that nobody reads are skipped, not built.

use std::fmt;

use bytes::Bytes;
use serde::de::{EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::{DocumentId, PeerId};
use crate::wire::cbor::{self, CborError};

/// The one protocol version there is.
pub const PROTOCOL_VERSION: &str = "1";

/// The target of a message that goes to many: no client reads it (automerge-repo routes by type alone, samod only logs
/// a difference), and with it one encoded message serves all followers of a document.
pub const EVERYONE: &str = "*";

/// Longer ids and words than this are refused: they are kept as long as a connection is.
const MAX_WORD: usize = 256;
/// Versions beyond this many are not read.
const MAX_VERSIONS: usize = 16;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// The client's first.
    Join {
        /// The client.
        sender: PeerId,
        /// Versions it speaks.
        versions: Vec<String>,
    },
    /// The relay's answer to it.
    Peer {
        /// The relay.
        sender: PeerId,
        /// The client.
        target: PeerId,
        /// The version chosen.
        version: String,
    },
    /// The first sync message for a document that the sender doesn't have.
    Request(SyncFrame),
    /// A sync message.
    Sync(SyncFrame),
    /// A message that is passed on and never stored.
    Ephemeral {
        /// Who sends it. (The relay passes it on as it came.)
        sender: PeerId,
        /// Whom to.
        target: PeerId,
        /// On which document.
        document: DocumentId,
        /// Random, one a sender's start.
        session: String,
        /// Counts up within `session`, so that echoes are dropped.
        count: u64,
        /// CBOR of its own: [`super::ephemeral::Ephemeral`] among ours.
        data: Bytes,
    },
    /// The sender has no such document.
    DocUnavailable {
        /// Who.
        sender: PeerId,
        /// Whom to.
        target: PeerId,
        /// Which.
        document: DocumentId,
    },
    /// Something went wrong; with a document, a change of it was refused (ours; stock clients log it).
    Error {
        /// Who.
        sender: PeerId,
        /// Whom to.
        target: PeerId,
        /// One sentence.
        message: String,
        /// Ours: which document.
        document: Option<DocumentId>,
        /// Ours: which change (hex).
        hash: Option<String>,
        /// Ours: a short word.
        code: Option<String>,
    },
    /// The sender is going.
    Leave {
        /// Who.
        sender: PeerId,
    },
    /// Known to automerge-repo, of no use here (`remote-heads-changed`, …), or unknown: ignored.
    Other {
        /// Its `type`.
        name: String,
    },
}

/// What `request` and `sync` carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncFrame {
    /// Who.
    pub sender: PeerId,
    /// Whom to.
    pub target: PeerId,
    /// Which document.
    pub document: DocumentId,
    /// An automerge sync message.
    pub data: Bytes,
}

/// Why bytes are no frame: it ends the connection that sent them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No CBOR, or not of the shape.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// A field is missing or of the wrong type.
    #[error("a message of type \"{kind}\" needs \"{field}\"")]
    Field {
        /// The message's type.
        kind: String,
        /// The field.
        field: &'static str,
    },
}

impl Frame {
    /// Reads a frame. Borrowing nothing: `bytes` may go.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let mut fields: Fields = cbor::decode(bytes)?;
        let kind = fields.kind.take().text("message", "type")?;
        let kind = kind.as_str();
        let document = |value: Value| {
            value
                .text(kind, "documentId")?
                .parse::<DocumentId>()
                .map_err(|_| FrameError::Field { kind: kind.to_owned(), field: "documentId" })
        };
        let peer = |value: Value, field| value.text(kind, field).map(PeerId::from);
        Ok(match kind {
            "join" => Self::Join {
                sender: peer(fields.sender, "senderId")?,
                // The reference server takes a missing list for version 1.
                versions: match fields.versions {
                    Value::Missing => vec![PROTOCOL_VERSION.to_owned()],
                    Value::Texts(versions) => versions,
                    _ => {
                        return Err(FrameError::Field { kind: kind.to_owned(), field: "supportedProtocolVersions" });
                    }
                },
            },
            "peer" => Self::Peer {
                sender: peer(fields.sender, "senderId")?,
                target: peer(fields.target, "targetId")?,
                version: fields.version.text(kind, "selectedProtocolVersion")?,
            },
            "request" | "sync" => {
                let frame = SyncFrame {
                    sender: peer(fields.sender, "senderId")?,
                    target: peer(fields.target, "targetId")?,
                    document: document(fields.document)?,
                    data: fields.data.bytes(kind, "data")?,
                };
                if kind == "request" { Self::Request(frame) } else { Self::Sync(frame) }
            }
            "ephemeral" => Self::Ephemeral {
                sender: peer(fields.sender, "senderId")?,
                target: peer(fields.target, "targetId")?,
                document: document(fields.document)?,
                session: fields.session.text(kind, "sessionId")?,
                count: fields.count.number(kind, "count")?,
                data: fields.data.bytes(kind, "data")?,
            },
            "doc-unavailable" => Self::DocUnavailable {
                sender: peer(fields.sender, "senderId")?,
                target: peer(fields.target, "targetId")?,
                document: document(fields.document)?,
            },
            "error" => Self::Error {
                sender: fields.sender.text(kind, "senderId").unwrap_or_default().into(),
                target: fields.target.text(kind, "targetId").unwrap_or_default().into(),
                message: fields.message.long_text(kind, "message")?,
                document: document(fields.document).ok(),
                hash: fields.hash.text(kind, "hash").ok(),
                code: fields.code.text(kind, "code").ok(),
            },
            "leave" => Self::Leave { sender: peer(fields.sender, "senderId")? },
            other => Self::Other { name: other.to_owned() },
        })
    }

    /// Writes a frame.
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(&match self {
            Self::Join { sender, versions } => Written {
                supported_protocol_versions: Some(versions),
                sender_id: Some(sender.as_str()),
                ..Written::of("join")
            },
            Self::Peer { sender, target, version } => Written {
                sender_id: Some(sender.as_str()),
                target_id: Some(target.as_str()),
                selected_protocol_version: Some(version),
                ..Written::of("peer")
            },
            Self::Request(frame) => Written::of_sync("request", frame),
            Self::Sync(frame) => Written::of_sync("sync", frame),
            Self::Ephemeral { sender, target, document, session, count, data } => Written {
                sender_id: Some(sender.as_str()),
                target_id: Some(target.as_str()),
                document_id: Some(*document),
                session_id: Some(session),
                count: Some(*count),
                data: Some(data),
                ..Written::of("ephemeral")
            },
            Self::DocUnavailable { sender, target, document } => Written {
                sender_id: Some(sender.as_str()),
                target_id: Some(target.as_str()),
                document_id: Some(*document),
                ..Written::of("doc-unavailable")
            },
            Self::Error { sender, target, message, document, hash, code } => Written {
                sender_id: Some(sender.as_str()),
                target_id: Some(target.as_str()),
                document_id: *document,
                message: Some(message),
                hash: hash.as_deref(),
                code: code.as_deref(),
                ..Written::of("error")
            },
            Self::Leave { sender } => Written { sender_id: Some(sender.as_str()), ..Written::of("leave") },
            Self::Other { name } => Written::of(name),
        })
    }
}

/// A frame as it is written: every field there is, none where it doesn't belong.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document_id: Option<DocumentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supported_protocol_versions: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    selected_protocol_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Bytes>,
}

impl<'a> Written<'a> {
    fn of(kind: &'a str) -> Self {
        Self {
            r#type: kind,
            sender_id: None,
            target_id: None,
            document_id: None,
            session_id: None,
            count: None,
            supported_protocol_versions: None,
            selected_protocol_version: None,
            message: None,
            hash: None,
            code: None,
            data: None,
        }
    }

    fn of_sync(kind: &'a str, frame: &'a SyncFrame) -> Self {
        Self {
            sender_id: Some(frame.sender.as_str()),
            target_id: Some(frame.target.as_str()),
            document_id: Some(frame.document),
            data: Some(&frame.data),
            ..Self::of(kind)
        }
    }
}

/// A frame as it is read: each known field, whatever its type.
#[derive(Default)]
struct Fields {
    kind: Value,
    sender: Value,
    target: Value,
    document: Value,
    session: Value,
    count: Value,
    versions: Value,
    version: Value,
    message: Value,
    hash: Value,
    code: Value,
    data: Value,
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
enum Value {
    #[default]
    Missing,
    Text(String),
    Bytes(Vec<u8>),
    Number(u64),
    Texts(Vec<String>),
    Other,
}

impl Value {
    fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    fn text(self, kind: &str, field: &'static str) -> Result<String, FrameError> {
        match self {
            Self::Text(text) if text.len() <= MAX_WORD => Ok(text),
            _ => Err(FrameError::Field { kind: kind.chars().take(40).collect(), field }),
        }
    }

    fn long_text(self, kind: &str, field: &'static str) -> Result<String, FrameError> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(FrameError::Field { kind: kind.to_owned(), field }),
        }
    }

    fn bytes(self, kind: &str, field: &'static str) -> Result<Bytes, FrameError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.into()),
            _ => Err(FrameError::Field { kind: kind.to_owned(), field }),
        }
    }

    fn number(self, kind: &str, field: &'static str) -> Result<u64, FrameError> {
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
