//! Messages of the automerge-repo WebSocket protocol, version 1, each one binary WebSocket message of CBOR.
//! Source: the README of `@automerge/automerge-repo-network-websocket` 2.x.
//!
//! Bytes from outside end as a [`Frame`] or a [`FrameError`], never as a panic, and never as more memory than a small
//! multiple of their own size: fields that nobody reads are skipped, not built.

mod fields;

use bytes::Bytes;
use serde::Serialize;

use crate::ids::{DocumentId, PeerId};
use crate::wire::cbor::{self, CborError};
use fields::{Fields, Value};

/// The one protocol version there is.
pub const PROTOCOL_VERSION: &str = "1";

/// The target of a message that goes to many: no client reads it (automerge-repo routes by type alone, samod only logs
/// a difference), and with it one encoded message serves all followers of a document.
pub const EVERYONE: &str = "*";

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
