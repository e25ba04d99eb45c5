//! The change graph of one document: encoded changes by hash, their deps, the heads; never the document itself.
//! Receiving, storing and forwarding a change costs the same in a new session and in one with 100,000 changes.
//!
//! [`change`] reads a change chunk without building anything; [`check`] is what it must pass before it is stored, since
//! a change that parses can still break whoever applies it.

pub mod change;
pub mod check;

use bytes::Bytes;

use crate::ids::ChangeHash;
use change::ParsedChange;
use check::Refusal;

/// Encoded changes of one document in an order in which each follows its deps.
#[derive(Debug, Default)]
pub struct ChangeGraph {}

/// What [`ChangeGraph::add`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is in the graph now, at this index.
    New(usize),
    /// It was there.
    Known,
    /// Its deps aren't there: kept aside, bounded, until they come.
    Waits,
    /// It broke a rule. It and what depends on it are never asked for again.
    Refused(Refusal),
}

impl ChangeGraph {
    /// Adds a change that was stored before, without the checks.
    pub fn load(&mut self, _bytes: Bytes) -> Result<(), change::ParseError> {
        unimplemented!()
    }

    /// Checks and adds a change; those that waited for it follow.
    pub fn add(&mut self, _change: ParsedChange) -> Added {
        unimplemented!()
    }

    /// The changes that nothing here depends on, sorted.
    pub fn heads(&self) -> &[ChangeHash] {
        unimplemented!()
    }

    /// How many changes.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The change chunk with this hash, as it came.
    pub fn bytes(&self, _hash: &ChangeHash) -> Option<&Bytes> {
        unimplemented!()
    }
}
