//! A change chunk, read without an op set.

use bytes::Bytes;

use crate::ids::{ActorId, ChangeHash};

/// A change chunk: its header, and its columns still encoded.
#[derive(Debug, Clone)]
pub struct ParsedChange {
    /// SHA-256 of the uncompressed chunk.
    pub hash: ChangeHash,
    /// What it depends on.
    pub deps: Vec<ChangeHash>,
    /// Who wrote it.
    pub actor: ActorId,
    /// Its number among that actor's changes, from 1.
    pub seq: u64,
    /// Its first operation's counter.
    pub start_op: u64,
    /// As it came.
    pub bytes: Bytes,
}

/// Why bytes are no change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a change: {0}")]
pub struct ParseError(pub &'static str);

impl ParsedChange {
    /// Reads one chunk, plain or compressed, and checks its checksum.
    pub fn parse(_bytes: Bytes) -> Result<Self, ParseError> {
        unimplemented!()
    }
}
