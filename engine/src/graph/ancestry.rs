//! Which changes are before a change.

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ancestry {}
