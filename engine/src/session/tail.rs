//! Live text stitched onto committed text, by offset, in one place: gaps, overlaps, duplicates, reordering and stale
//! epochs of `tail` messages all end here.

use std::collections::BTreeMap;

use crate::ids::Epoch;
use crate::wire::ephemeral::TailKind;

/// A part's live text is bounded: what a worker hasn't committed after so many bytes is asked for again.
const MAX_LIVE: usize = 4 << 20;

/// Live text of one session beyond what its document holds.
#[derive(Clone, Debug, Default)]
pub struct Tails {
    /// The claim that everything here is of.
    epoch: Epoch,
    /// (message, part) → its live text, which begins at or before what was last known to be committed.
    parts: BTreeMap<(String, u64), Tail>,
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

impl Tail {
    /// Where it ends in the part.
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.text.len() as u64)
    }

    /// What lies beyond `at`; `None` if that isn't within it, or inside a character.
    fn beyond(&self, at: u64) -> Option<&str> {
        let from = usize::try_from(at.checked_sub(self.offset)?).ok()?;
        self.text.get(from..)
    }
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
        live: Option<Epoch>,
        epoch: Epoch,
        message: &str,
        part: u64,
        kind: TailKind,
        committed: u64,
        offset: u64,
        text: &str,
    ) -> Stitched {
        if live != Some(epoch) {
            return Stitched::Nothing;
        }
        if self.epoch != epoch {
            self.clear();
            self.epoch = epoch;
        }
        self.committed(message, part, committed);
        let key = (message.to_owned(), part);
        let known = match self.parts.get(&key) {
            Some(tail) if tail.kind != kind => return Stitched::Nothing,
            Some(tail) => tail.end(),
            None => committed,
        };
        let Some(overlap) = known.checked_sub(offset) else { return Stitched::Gap };
        if overlap >= text.len() as u64 {
            return Stitched::Nothing;
        }
        // An overlap that ends inside a character is of another text than ours.
        let new = usize::try_from(overlap).ok().and_then(|overlap| text.get(overlap..));
        let Some(new) = new else { return Stitched::Gap };
        let tail = self.parts.entry(key).or_insert(Tail { offset: known, kind, text: String::new() });
        if tail.text.len() + new.len() > MAX_LIVE {
            return Stitched::Gap;
        }
        tail.text.push_str(new);
        Stitched::Grew(new.to_owned())
    }

    /// The document has grown: what is committed now is dropped from the tail.
    pub fn committed(&mut self, message: &str, part: u64, bytes: u64) {
        let key = (message.to_owned(), part);
        let Some(tail) = self.parts.get_mut(&key) else { return };
        match tail.beyond(bytes).map(str::to_owned) {
            Some(rest) if !rest.is_empty() => {
                tail.text = rest;
                tail.offset = bytes;
            }
            // All of it is committed, or it doesn't go with what is.
            _ => {
                self.parts.remove(&key);
            }
        }
    }

    /// The live text of a part beyond `committed` bytes.
    pub fn beyond(&self, message: &str, part: u64, committed: u64) -> Option<&str> {
        let tail = self.parts.get(&(message.to_owned(), part))?;
        tail.beyond(committed).filter(|text| !text.is_empty())
    }

    /// Every part that has live text, by message and index: the message's id, the part's index, its tail.
    pub fn parts(&self) -> impl Iterator<Item = (&str, u64, &Tail)> {
        self.parts.iter().map(|((message, part), tail)| (message.as_str(), *part, tail))
    }

    /// The claim whose live text this is.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The run has ended or another epoch has begun: nothing live is left.
    pub fn clear(&mut self) {
        self.parts.clear();
    }
}
