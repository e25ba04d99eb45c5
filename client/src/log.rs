//! The bytes of a document's file: records one behind the other, each with a mark, its length and a checksum. Bytes in,
//! records and the end of what is whole out. A file that was compacted begins with its generation, and its records leave
//! out what the change says itself.
//!
//! Invariant: what was cut short or has changed on the disk is never taken for a record, and what is whole behind it
//! still is one.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_engine::graph::change::ParsedChange;
use skein_engine::ids::{ActorId, ChangeHash, DocumentId, Principal, Scope, random_bytes};
use skein_engine::storage::Record;
use skein_engine::wire::cbor;

/// Begins every record, so that reading can go on behind a damaged one.
const MARK: [u8; 4] = *b"SKN1";
/// Begins a record of a compacted file.
const COMPACT_MARK: [u8; 4] = *b"SKC1";
/// Begins a compacted file.
const GENERATION_MARK: [u8; 4] = *b"SKG1";
/// Bytes of the beginning of a compacted file.
pub(crate) const GENERATION_BYTES: u64 = 20;
/// Mark, length (u32, little-endian), CRC-32 of what follows (u32, little-endian).
const HEADER: usize = 12;

/// Tells a compacted file from all others that have stood in its place.
pub(crate) type Generation = [u8; 16];

/// The generation of a file, if it was compacted.
pub(crate) fn generation(file: &mut File) -> io::Result<Option<Generation>> {
    let mut start = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(GENERATION_BYTES).read_to_end(&mut start)?;
    Ok(start.strip_prefix(&GENERATION_MARK).and_then(|rest| rest.try_into().ok()))
}

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

/// The same in a compacted file.
#[derive(Serialize, Deserialize)]
struct Compact(String, Bytes);

/// The bytes of a whole file with these records.
pub(crate) fn compact(records: &[Record]) -> Vec<u8> {
    let mut file = GENERATION_MARK.to_vec();
    file.extend_from_slice(&random_bytes::<16>());
    for record in records {
        let body = cbor::encode(&Compact(record.received_from.as_str().to_owned(), record.bytes.clone()));
        frame(COMPACT_MARK, &body, &mut file);
    }
    file
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
    frame(MARK, &cbor::encode(&stored), file);
}

fn frame(mark: [u8; 4], body: &[u8], file: &mut Vec<u8>) {
    let length = u32::try_from(body.len()).expect("a change is far below 4 GiB: messages are at most 64 MiB");
    file.extend_from_slice(&mark);
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    file.extend_from_slice(body);
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
            None => {
                match bytes[at + 1..].windows(MARK.len()).position(|window| window == MARK || window == COMPACT_MARK) {
                    Some(skipped) => at += 1 + skipped,
                    None => break,
                }
            }
        }
    }
    scanned
}

/// The record that begins here, and its length in the file.
fn record(bytes: &[u8], scope: &Scope, document: DocumentId) -> Option<(Record, usize)> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let length = u32::from_le_bytes(header[4..8].try_into().ok()?) as usize;
    let checksum = u32::from_le_bytes(header[8..12].try_into().ok()?);
    let body = rest.get(..length).filter(|body| crc32fast::hash(body) == checksum)?;
    if header[..4] == COMPACT_MARK {
        return Some((compacted(body, scope, document)?, HEADER + length));
    }
    if header[..4] != MARK {
        return None;
    }
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

fn compacted(body: &[u8], scope: &Scope, document: DocumentId) -> Option<Record> {
    let Compact(from, bytes) = cbor::decode(body).ok()?;
    let change = ParsedChange::parse(bytes).ok()?;
    Some(Record {
        scope: scope.clone(),
        document,
        hash: change.hash,
        deps: change.deps,
        actor: change.actor,
        seq: change.seq,
        received_from: Principal::from(from),
        bytes: change.bytes,
    })
}
