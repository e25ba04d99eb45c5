//! What each operation of a document is.

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct OpIndex {}

impl OpIndex {
    pub(crate) fn truncate(&mut self, _changes: usize) {}
}
