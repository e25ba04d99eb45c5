//! A change chunk, read without an op set: its header, its checksum and hash, and where its operations' columns lie.
//! Format: <https://automerge.org/automerge-binary-format-spec/#_change_chunks>.
//!
//! Invariant: nothing is allocated on the word of a number in the bytes, and what is inflated is bounded.

use std::io::Read;
use std::ops::Range;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::ids::{ActorId, ChangeHash};
use crate::sync::message::{MessageError, Reader, write_uleb};

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const PLAIN: u8 = 1;
const COMPRESSED: u8 = 2;

/// The largest change, uncompressed. A change carries text and tool results up to 32 KB each; larger things are blobs.
pub const MAX_CHANGE_BYTES: usize = 16 << 20;
/// The longest actor id. Ours have 16 bytes, automerge's own variants of them some 20 more.
pub(crate) const MAX_ACTOR_BYTES: usize = 128;

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
    /// Milliseconds or seconds, as its author counts.
    pub(crate) time: i64,
    /// The other actors that its operations name.
    pub(crate) others: Vec<ActorId>,
    /// The uncompressed chunk.
    plain: Bytes,
    /// Where the columns' list begins in `plain`; what follows the columns is the footer.
    columns: Range<usize>,
}

/// Why bytes are no change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a change: {0}")]
pub struct ParseError(pub &'static str);

impl From<MessageError> for ParseError {
    fn from(error: MessageError) -> Self {
        Self(error.0)
    }
}

impl ParsedChange {
    /// Reads one chunk, plain or compressed, and checks its checksum.
    pub fn parse(bytes: Bytes) -> Result<Self, ParseError> {
        let mut reader = Reader::new(&bytes);
        let chunk = Chunk::read(&mut reader)?;
        if !reader.is_empty() {
            return Err(ParseError("something follows the chunk"));
        }
        let plain = match chunk.kind {
            PLAIN => bytes.slice_ref(chunk.data),
            COMPRESSED => inflate(chunk.data)?,
            _ => return Err(ParseError("a chunk of another type")),
        };
        if plain.len() > MAX_CHANGE_BYTES {
            return Err(ParseError("too large"));
        }
        let hash = hash(&plain);
        if hash.0[..4] != *chunk.checksum {
            return Err(ParseError("wrong checksum"));
        }

        let mut reader = Reader::new(&plain);
        let deps = reader.hashes()?;
        let actor = read_actor(&mut reader)?;
        let seq = reader.uleb()?;
        let start_op = reader.uleb()?;
        let time = reader.sleb()?;
        std::str::from_utf8(reader.prefixed()?).map_err(|_| ParseError("its message isn't UTF-8"))?;
        let mut others = Vec::new();
        for _ in 0..reader.count(1)? {
            others.push(read_actor(&mut reader)?);
        }
        let columns = plain.len() - reader.rest().len()..plain.len();
        Ok(Self { hash, deps, actor, seq, start_op, bytes, time, others, plain, columns })
    }

    /// The bytes that it takes in memory, inflated: up to a thousand times those that came.
    pub fn size(&self) -> usize {
        self.plain.len().max(self.bytes.len())
    }

    /// The list of columns, the columns, and the footer.
    pub(crate) fn columns(&self) -> &[u8] {
        &self.plain[self.columns.clone()]
    }
}

/// Takes a sequence of chunks apart, as a sync message of version 2 carries it. Chunks of any kind, unread.
pub fn split(bytes: &Bytes) -> Result<Vec<Bytes>, ParseError> {
    let mut reader = Reader::new(bytes);
    let mut chunks = Vec::new();
    while !reader.is_empty() {
        let before = reader.rest();
        Chunk::read(&mut reader)?;
        chunks.push(bytes.slice_ref(&before[..before.len() - reader.rest().len()]));
    }
    Ok(chunks)
}

/// Whether a chunk is one change, by its type alone: document chunks and bundles hold many.
pub fn is_change(chunk: &[u8]) -> bool {
    matches!(chunk.get(8), Some(&(PLAIN | COMPRESSED)))
}

struct Chunk<'a> {
    checksum: &'a [u8],
    kind: u8,
    data: &'a [u8],
}

impl<'a> Chunk<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        if reader.take(4)? != MAGIC {
            return Err(ParseError("without automerge's first bytes"));
        }
        let checksum = reader.take(4)?;
        let kind = reader.take(1)?[0];
        Ok(Self { checksum, kind, data: reader.prefixed()? })
    }
}

fn read_actor(reader: &mut Reader<'_>) -> Result<ActorId, ParseError> {
    let bytes = reader.prefixed()?;
    if bytes.is_empty() || bytes.len() > MAX_ACTOR_BYTES {
        return Err(ParseError("an actor id of that length"));
    }
    Ok(ActorId::from(bytes))
}

fn inflate(data: &[u8]) -> Result<Bytes, ParseError> {
    let mut plain = Vec::new();
    let limit = MAX_CHANGE_BYTES as u64 + 1;
    flate2::bufread::DeflateDecoder::new(data)
        .take(limit)
        .read_to_end(&mut plain)
        .map_err(|_| ParseError("its compression is broken"))?;
    Ok(plain.into())
}

/// The hash of a change: SHA-256 over its type, length and data, uncompressed.
fn hash(plain: &[u8]) -> ChangeHash {
    let mut header = vec![PLAIN];
    write_uleb(&mut header, plain.len() as u64);
    let digest = Sha256::new().chain_update(header).chain_update(plain).finalize();
    automerge::ChangeHash(digest.into())
}
