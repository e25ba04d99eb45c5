//! What a change must pass before it is stored (design, "Sync"): the rules that keep whoever applies it from panicking,
//! from a corrupt document, and from exhausting memory.

use super::ChangeGraph;
use super::change::ParsedChange;
use super::columns::Columns;

/// The rule that a change broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// A short word: `seq`, `ops`, `encoding`, `reference`, `size`, `dependency`, ….
    pub code: &'static str,
    /// One sentence.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Checks a change whose deps are all in the graph. How many operations it holds.
pub(super) fn check(graph: &mut ChangeGraph, change: &ParsedChange, _deps: &[u32]) -> Result<u64, Refusal> {
    let previous = graph.actor_changes(&change.actor).len() as u64;
    if change.seq != previous + 1 {
        return Err(Refusal::new("seq", format!("it is its actor's change {}, not {}", previous + 1, change.seq)));
    }
    let columns = Columns::read(change.columns()).map_err(|why| Refusal::new("encoding", why))?;
    Ok(columns.ops())
}
