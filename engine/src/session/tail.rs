//! Live text stitched onto committed text, by offset, in one place: gaps, overlaps, duplicates, reordering and stale
//! epochs of `tail` messages all end here.

use std::collections::BTreeMap;

use crate::ids::Epoch;
use crate::wire::ephemeral::TailKind;

/// Live text of one session beyond what its document holds.
#[derive(Clone, Debug, Default)]
pub struct Tails {
    /// (message, part) → its live text.
    _parts: BTreeMap<(String, u64), Tail>,
}

/// The live text of one part, from `offset` (UTF-8 bytes) on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Where `text` begins in the part.
    pub offset: u64,
    /// What kind of part.
    pub kind: TailKind,
    /// The live text.
    pub text: String,
}

/// What a `tail` message did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stitched {
    /// The part grew by this text.
    Grew(String),
    /// Known already, or of an epoch that isn't the run's.
    Nothing,
    /// Text before it is missing: ask the worker again with `tail-request`.
    Gap,
}

impl Tails {
    /// Takes a `tail`. `committed` is the length in bytes of that part in the document; `live` the epoch of the
    /// document's streaming run, if there is one.
    #[allow(clippy::too_many_arguments)]
    pub fn receive(
        &mut self,
        _live: Option<Epoch>,
        _epoch: Epoch,
        _message: &str,
        _part: u64,
        _kind: TailKind,
        _committed: u64,
        _offset: u64,
        _text: &str,
    ) -> Stitched {
        unimplemented!()
    }

    /// The document has grown: what is committed now is dropped from the tail.
    pub fn committed(&mut self, _message: &str, _part: u64, _bytes: u64) {
        unimplemented!()
    }

    /// The live text of a part beyond `committed` bytes.
    pub fn beyond(&self, _message: &str, _part: u64, _committed: u64) -> Option<&str> {
        unimplemented!()
    }

    /// Every part with live text, by (message, part).
    pub fn parts(&self) -> impl Iterator<Item = (&str, u64, &Tail)> {
        self._parts.iter().map(|((message, part), tail)| (message.as_str(), *part, tail))
    }

    /// The run has ended or another epoch has begun: nothing live is left.
    pub fn clear(&mut self) {
        unimplemented!()
    }
}
