//! The Bloom filter of the automerge sync protocol: which changes a peer has since the last sync, with about 1 % of
//! false yeses. Format: number of entries, bits an entry, probes (LEB128 each), then the bits; empty for no entries.
//! Source: Kleppmann and Howard, <https://arxiv.org/abs/2012.00472>, and automerge's binary format.

use super::message::{MessageError, Reader, write_uleb};
use crate::ids::ChangeHash;

const BITS_PER_ENTRY: u64 = 10;
const PROBES: u64 = 7;
/// More probes than this say nothing and only cost time.
const MAX_PROBES: u64 = 64;

/// A filter over change hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BloomFilter {
    probes: u64,
    bits: Vec<u8>,
    entries: u64,
    bits_per_entry: u64,
}

impl BloomFilter {
    /// The filter of these hashes.
    pub fn of<'a>(hashes: impl ExactSizeIterator<Item = &'a ChangeHash>) -> Self {
        let entries = hashes.len() as u64;
        let mut filter = Self {
            entries,
            bits_per_entry: BITS_PER_ENTRY,
            probes: PROBES,
            bits: vec![0; (entries * BITS_PER_ENTRY).div_ceil(8) as usize],
        };
        for hash in hashes {
            for bit in filter.places(hash) {
                filter.bits[bit / 8] |= 1 << (bit % 8);
            }
        }
        filter
    }

    /// Reads a filter; its size must be what its numbers claim.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader::new(bytes);
        let (entries, bits_per_entry, probes) = (reader.uleb()?, reader.uleb()?, reader.uleb()?);
        if probes > MAX_PROBES || entries > u64::from(u32::MAX) || bits_per_entry > u64::from(u32::MAX) {
            return Err(MessageError("a Bloom filter with absurd numbers"));
        }
        let size = (entries * bits_per_entry).div_ceil(8);
        let bits = reader.take(usize::try_from(size).map_err(|_| MessageError("a Bloom filter that is cut short"))?)?;
        Ok(Self { entries, bits_per_entry, probes, bits: bits.to_vec() })
    }

    /// Writes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.entries > 0 {
            write_uleb(&mut bytes, self.entries);
            write_uleb(&mut bytes, self.bits_per_entry);
            write_uleb(&mut bytes, self.probes);
            bytes.extend_from_slice(&self.bits);
        }
        bytes
    }

    /// Whether nothing was put in.
    pub fn is_empty(&self) -> bool {
        self.entries == 0 || self.bits.is_empty()
    }

    /// Whether the hash may have been put in.
    pub fn may_contain(&self, hash: &ChangeHash) -> bool {
        !self.is_empty() && self.places(hash).all(|bit| self.bits[bit / 8] & (1 << (bit % 8)) != 0)
    }

    /// The bits of a hash: triple hashing over its first twelve bytes.
    fn places(&self, hash: &ChangeHash) -> impl Iterator<Item = usize> + use<> {
        let modulo = (self.bits.len() as u64 * 8).max(1);
        let word = |at: usize| {
            let bytes = [hash.0[at], hash.0[at + 1], hash.0[at + 2], hash.0[at + 3]];
            u64::from(u32::from_le_bytes(bytes)) % modulo
        };
        let (mut x, mut y, z) = (word(0), word(4), word(8));
        (0..self.probes).map(move |probe| {
            if probe > 0 {
                x = (x + y) % modulo;
                y = (y + z) % modulo;
            }
            x as usize
        })
    }
}
