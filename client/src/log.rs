//! The bytes of a document's file: records one behind the other, each with a mark, its length and a checksum. Bytes in,
//! records and the end of what is whole out.
//!
//! Invariant: what was cut short or has changed on the disk is never taken for a record, and what is whole behind it
//! still is one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_engine::ids::{ActorId, ChangeHash, DocumentId, Principal, Scope};
use skein_engine::storage::Record;
use skein_engine::wire::cbor;

/// Begins every record, so that reading can go on behind a damaged one.
const MARK: [u8; 4] = *b"SKN1";
/// Mark, length (u32, little-endian), CRC-32 of what follows (u32, little-endian).
const HEADER: usize = 12;

/// A record as it lies in the file. Document and scope are the file's.
#[derive(Serialize, Deserialize)]
struct Stored {
    hash: Bytes,
    deps: Vec<Bytes>,
    actor: Bytes,
    seq: u64,
    from: String,
    change: Bytes,
}

/// Appends a record to `file`.
pub(crate) fn encode(record: &Record, file: &mut Vec<u8>) {
    let stored = Stored {
        hash: Bytes::copy_from_slice(record.hash.as_ref()),
        deps: record.deps.iter().map(|hash| Bytes::copy_from_slice(hash.as_ref())).collect(),
        actor: Bytes::copy_from_slice(record.actor.to_bytes()),
        seq: record.seq,
        from: record.received_from.as_str().to_owned(),
        change: record.bytes.clone(),
    };
    let body = cbor::encode(&stored);
    let length = u32::try_from(body.len()).expect("a change is far below 4 GiB: messages are at most 64 MiB");
    file.extend_from_slice(&MARK);
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    file.extend_from_slice(&body);
}

/// What is whole in a piece of a file.
pub(crate) struct Scanned {
    pub(crate) records: Vec<Record>,
    /// Bytes up to the end of the last whole record; what follows was cut short.
    pub(crate) whole: usize,
    /// Bytes before that which belong to no whole record.
    pub(crate) damaged: usize,
}

/// Reads a piece of a file that begins where a record does.
pub(crate) fn scan(bytes: &[u8], scope: &Scope, document: DocumentId) -> Scanned {
    let mut scanned = Scanned { records: Vec::new(), whole: 0, damaged: 0 };
    let mut at = 0;
    while at < bytes.len() {
        match record(&bytes[at..], scope, document) {
            Some((record, length)) => {
                scanned.damaged += at - scanned.whole;
                at += length;
                scanned.whole = at;
                scanned.records.push(record);
            }
            None => match bytes[at + 1..].windows(MARK.len()).position(|window| window == MARK) {
                Some(skipped) => at += 1 + skipped,
                None => break,
            },
        }
    }
    scanned
}

/// The record that begins here, and its length in the file.
fn record(bytes: &[u8], scope: &Scope, document: DocumentId) -> Option<(Record, usize)> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let length = u32::from_le_bytes(header[4..8].try_into().ok()?) as usize;
    let checksum = u32::from_le_bytes(header[8..12].try_into().ok()?);
    let body = rest.get(..length).filter(|body| header[..4] == MARK && crc32fast::hash(body) == checksum)?;
    let stored: Stored = cbor::decode(body).ok()?;
    let hash = |bytes: &Bytes| ChangeHash::try_from(bytes.as_ref()).ok();
    let record = Record {
        scope: scope.clone(),
        document,
        hash: hash(&stored.hash)?,
        deps: stored.deps.iter().map(hash).collect::<Option<_>>()?,
        actor: ActorId::from(stored.actor.as_ref()),
        seq: stored.seq,
        received_from: Principal::from(stored.from),
        bytes: stored.change,
    };
    Some((record, HEADER + length))
}
