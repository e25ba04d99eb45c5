//! Messages of the automerge-repo WebSocket protocol, version 1, each one binary WebSocket message of CBOR.
//! Source: the README of `@automerge/automerge-repo-network-websocket` 2.x.

use bytes::Bytes;

use crate::ids::{DocumentId, PeerId};
use crate::wire::cbor::CborError;

/// The one protocol version there is.
pub const PROTOCOL_VERSION: &str = "1";

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
    pub fn decode(_bytes: &[u8]) -> Result<Self, FrameError> {
        unimplemented!()
    }

    /// Writes a frame.
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }
}
