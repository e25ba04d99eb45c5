//! What a change must pass before it is stored (design, "Sync"): the rules that keep whoever applies it from panicking,
//! from a corrupt document, and from exhausting memory.

/// The rule that a change broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// A short word: `seq`, `ops`, `encoding`, `reference`, `size`, `dependency`, ….
    pub code: &'static str,
    /// One sentence.
    pub message: String,
}
