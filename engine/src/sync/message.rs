//! Automerge sync messages: heads, need, have, changes, flags. Format: a byte for the version (`0x42`, or `0x43` where
//! the changes are one chunk sequence), lists with LEB128 counts, and, since automerge 0.6, a list of flag bytes.
//!
//! Decoding never allocates more than the bytes at hand justify, whatever counts they claim.

use bytes::Bytes;

use super::bloom::BloomFilter;
use crate::ids::ChangeHash;

const V1: u8 = 0x42;
const V2: u8 = 0x43;
/// Says "I know version 2", for peers that read only this byte of the flags.
const LEGACY_V2: u8 = 0x02;
/// Set in a byte of flags, which older peers skip.
const FLAGS: u8 = 0x80;
const SYNC_RESET: u8 = 1;
const READ_ONLY: u8 = 2;

/// What one side has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Have {
    /// The heads that both sides had when they last agreed.
    pub last_sync: Vec<ChangeHash>,
    /// What it has beyond those.
    pub bloom: BloomFilter,
}

/// What the flags of a message say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The sender takes no changes: don't send any.
    pub read_only: bool,
    /// Forget what was sent before.
    pub reset: bool,
}

/// One sync message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The sender's heads.
    pub heads: Vec<ChangeHash>,
    /// Changes that it asks for by hash.
    pub need: Vec<ChangeHash>,
    /// What it has; empty: it wants nothing but `need`.
    pub have: Vec<Have>,
    /// Chunks, or sequences of chunks.
    pub changes: Vec<Bytes>,
    /// Absent from peers that know neither version 2 nor flags. A peer that sees them sends version 2 from then on.
    pub flags: Option<Flags>,
}

/// Why bytes are no sync message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a sync message: {0}")]
pub struct MessageError(pub &'static str);

impl Message {
    /// Reads a message of version 1 or 2. Its changes share `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self, MessageError> {
        let mut reader = Reader::new(bytes);
        if !matches!(reader.take(1)?, [V1 | V2]) {
            return Err(MessageError("of another type"));
        }
        let heads = reader.hashes()?;
        let need = reader.hashes()?;
        let mut have = Vec::new();
        for _ in 0..reader.count(2)? {
            let last_sync = reader.hashes()?;
            have.push(Have { last_sync, bloom: BloomFilter::decode(reader.prefixed()?)? });
        }
        let mut changes = Vec::new();
        for _ in 0..reader.count(1)? {
            changes.push(bytes.slice_ref(reader.prefixed()?));
        }
        // What isn't a list of flags is something newer: ignored, as automerge's first version ignored flags.
        let flags = (!reader.is_empty()).then(|| reader.prefixed().unwrap_or_default()).map(|bytes| {
            let bits = bytes.iter().filter(|byte| **byte & FLAGS != 0).fold(0, |bits, byte| bits | byte);
            Flags { read_only: bits & READ_ONLY != 0, reset: bits & SYNC_RESET != 0 }
        });
        Ok(Self { heads, need, have, changes, flags })
    }

    /// Writes a message of version 1.
    pub fn encode(&self) -> Vec<u8> {
        let size: usize = self.changes.iter().map(|change| change.len() + 10).sum();
        let mut bytes = Vec::with_capacity(size + 32 * (self.heads.len() + self.need.len() + 4));
        bytes.push(V1);
        write_hashes(&mut bytes, &self.heads);
        write_hashes(&mut bytes, &self.need);
        write_uleb(&mut bytes, self.have.len() as u64);
        for have in &self.have {
            write_hashes(&mut bytes, &have.last_sync);
            write_prefixed(&mut bytes, &have.bloom.encode());
        }
        write_uleb(&mut bytes, self.changes.len() as u64);
        for change in &self.changes {
            write_prefixed(&mut bytes, change);
        }
        if let Some(flags) = self.flags {
            let bits = (u8::from(flags.reset) * SYNC_RESET) | (u8::from(flags.read_only) * READ_ONLY);
            write_prefixed(&mut bytes, &[LEGACY_V2, FLAGS | bits]);
        }
        bytes
    }
}

/// Reads automerge's primitives from bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], MessageError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(MessageError("cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// An unsigned LEB128 number, in as few bytes as it needs.
    pub(crate) fn uleb(&mut self) -> Result<u64, MessageError> {
        let mut value = 0_u64;
        for (index, byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                if *byte == 0 && index > 0 {
                    return Err(MessageError("a number with leading zeros"));
                }
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(MessageError("a number that doesn't end"))
    }

    /// A signed LEB128 number, in as few bytes as it needs.
    pub(crate) fn sleb(&mut self) -> Result<i64, MessageError> {
        let mut value = 0_i64;
        let mut before = 0_u8;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            if index == 9 && byte != 0 && byte != 0x7f {
                break;
            }
            value |= i64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                // A last byte that only repeats the sign of the one before it could have been left out.
                let sign = before & 0x40 != 0;
                if index > 0 && (byte == 0 && !sign || byte == 0x7f && sign) {
                    return Err(MessageError("a number with leading zeros"));
                }
                if byte & 0x40 != 0 && index < 9 {
                    value |= -1_i64 << (7 * (index + 1));
                }
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
            before = byte;
        }
        Err(MessageError("a number that doesn't end"))
    }

    /// A count of things of at least `size` bytes each: more than can follow is an error at once.
    pub(crate) fn count(&mut self, size: usize) -> Result<usize, MessageError> {
        let count = self.uleb()?;
        usize::try_from(count)
            .ok()
            .filter(|count| count.checked_mul(size).is_some_and(|bytes| bytes <= self.rest.len()))
            .ok_or(MessageError("more is claimed than follows"))
    }

    pub(crate) fn hashes(&mut self) -> Result<Vec<ChangeHash>, MessageError> {
        let count = self.count(32)?;
        let (hashes, _) = self.take(count * 32)?.as_chunks::<32>();
        Ok(hashes.iter().map(|hash| automerge::ChangeHash(*hash)).collect())
    }

    pub(crate) fn prefixed(&mut self) -> Result<&'a [u8], MessageError> {
        let count = self.count(1)?;
        self.take(count)
    }
}

pub(crate) fn write_uleb(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn write_prefixed(bytes: &mut Vec<u8>, content: &[u8]) {
    write_uleb(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

fn write_hashes(bytes: &mut Vec<u8>, hashes: &[ChangeHash]) {
    write_uleb(bytes, hashes.len() as u64);
    for hash in hashes {
        bytes.extend_from_slice(&hash.0);
    }
}
