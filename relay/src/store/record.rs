//! How a record of the log is written: its fields, then the change as it came; cut into pieces of at most 64 KiB, since
//! sled writes larger values to files that nobody fsyncs; each piece with a checksum of its own, since what sled
//! accepts as intact is not always what was written.

use automerge::{ActorId, ChangeHash};
use bytes::Bytes;
use skein_engine::ids::{DocumentId, Principal, Scope};
use skein_engine::storage::Record;

use super::StoreError;

/// Bytes of a piece, without its checksum.
const PIECE: usize = 60 << 10;
/// Pieces of one record: their numbers are two bytes, and no message that brings a change is this large.
const MAX_PIECES: usize = u16::MAX as usize;
/// The first byte of a record.
const VERSION: u8 = 1;

/// The pieces of a record, in order.
pub fn encode(record: &Record) -> Result<Vec<Vec<u8>>, StoreError> {
    let too_large = || StoreError::TooLarge(record.bytes.len());
    let mut whole = Vec::with_capacity(record.bytes.len() + 128 + 32 * record.deps.len());
    whole.push(VERSION);
    whole.extend_from_slice(&record.hash.0);
    whole.extend_from_slice(&record.seq.to_le_bytes());
    for field in [record.actor.to_bytes(), record.received_from.as_str().as_bytes()] {
        whole.extend_from_slice(&u16::try_from(field.len()).map_err(|_| too_large())?.to_le_bytes());
        whole.extend_from_slice(field);
    }
    whole.extend_from_slice(&u32::try_from(record.deps.len()).map_err(|_| too_large())?.to_le_bytes());
    for dep in &record.deps {
        whole.extend_from_slice(&dep.0);
    }
    whole.extend_from_slice(&record.bytes);
    if whole.len().div_ceil(PIECE) > MAX_PIECES {
        return Err(too_large());
    }
    let count = whole.len().div_ceil(PIECE) as u16;
    Ok(whole.chunks(PIECE).map(|piece| checked(count, piece)).collect())
}

fn checked(count: u16, piece: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(piece.len() + 6);
    value.extend_from_slice(&[0; 4]);
    value.extend_from_slice(&count.to_le_bytes());
    value.extend_from_slice(piece);
    let sum = crc32fast::hash(&value[4..]);
    value[..4].copy_from_slice(&sum.to_le_bytes());
    value
}

/// Puts a record together from its pieces, which must be all there and intact.
pub fn decode(scope: &Scope, document: DocumentId, pieces: &[sled::IVec]) -> Option<Record> {
    let mut whole = Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
    for piece in pieces {
        let (sum, rest) = piece.split_first_chunk::<4>()?;
        let (count, data) = rest.split_first_chunk::<2>()?;
        if u32::from_le_bytes(*sum) != crc32fast::hash(rest) || usize::from(u16::from_le_bytes(*count)) != pieces.len()
        {
            return None;
        }
        whole.extend_from_slice(data);
    }
    let whole = Bytes::from(whole);
    let mut fields = Fields(&whole);
    if fields.take::<1>()? != [VERSION] {
        return None;
    }
    let hash = ChangeHash(fields.take()?);
    let seq = u64::from_le_bytes(fields.take()?);
    let actor = ActorId::from(fields.prefixed()?);
    let received_from = Principal::from(std::str::from_utf8(fields.prefixed()?).ok()?);
    let count = u32::from_le_bytes(fields.take()?) as usize;
    if fields.0.len() / 32 < count {
        return None;
    }
    let deps = (0..count).map(|_| fields.take().map(ChangeHash)).collect::<Option<Vec<_>>>()?;
    let bytes = whole.slice(whole.len() - fields.0.len()..);
    Some(Record { scope: scope.clone(), document, hash, deps, actor, seq, received_from, bytes })
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn prefixed(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A record with made-up content; `bytes` of it are the change's.
    pub fn record(document: DocumentId, n: u8, deps: &[ChangeHash], bytes: usize) -> Record {
        Record {
            scope: Scope::from("w/1"),
            document,
            hash: ChangeHash([n; 32]),
            deps: deps.to_vec(),
            actor: ActorId::from([n; 16].as_slice()),
            seq: u64::from(n),
            received_from: Principal::from("someone"),
            bytes: (0..bytes).map(|i| (i % 251) as u8).collect::<Vec<_>>().into(),
        }
    }

    fn pieces(record: &Record) -> Vec<sled::IVec> {
        encode(record).unwrap().into_iter().map(sled::IVec::from).collect()
    }

    #[test]
    fn a_record_survives_its_encoding_whatever_its_size() {
        let document = DocumentId::random();
        for size in [0, 1, PIECE - 200, PIECE, 3 * PIECE + 7, 1 << 20] {
            let record = record(document, 7, &[ChangeHash([1; 32]), ChangeHash([2; 32])], size);
            let pieces = pieces(&record);
            assert!(pieces.iter().all(|piece| piece.len() <= 64 << 10));
            assert_eq!(decode(&record.scope, document, &pieces), Some(record));
        }
    }

    #[test]
    fn a_flipped_byte_or_a_missing_piece_is_noticed() {
        let document = DocumentId::random();
        let record = record(document, 7, &[ChangeHash([1; 32])], 2 * PIECE);
        let intact = pieces(&record);
        for piece in 0..intact.len() {
            for at in [0, 4, 5, 6, 40, intact[piece].len() - 1] {
                let mut damaged = intact.clone();
                damaged[piece][at] ^= 1;
                assert_eq!(decode(&record.scope, document, &damaged), None, "piece {piece}, byte {at}");
            }
            let mut torn = intact.clone();
            torn.remove(piece);
            assert_eq!(decode(&record.scope, document, &torn), None);
        }
        assert_eq!(decode(&record.scope, document, &[]), None);
    }
}
