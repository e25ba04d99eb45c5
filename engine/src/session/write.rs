//! What a worker appends: the run, its messages and parts, chunk by chunk. Only a worker's actor may write these
//! (rule "Who wrote it"); each function is one small change's worth of operations.

use automerge::AutomergeError;
use automerge::transaction::Transaction;

use super::model::{CallState, Continues, Cost, Part, Run, RunError, RunState, Usage};
use crate::ids::{Epoch, Timestamp};

/// Makes a run (state streaming), with `continues` if it goes on. This change travels in `begin` only (rule 8).
pub fn begin_run(_tx: &mut Transaction<'_>, _run: &Run) -> Result<(), AutomergeError> {
    unimplemented!()
}

/// Adds an assistant message without parts; returns its id.
pub fn begin_message(
    _tx: &mut Transaction<'_>,
    _run: &Run,
    _author: &str,
    _at: Timestamp,
) -> Result<String, AutomergeError> {
    unimplemented!()
}

/// Adds a part to a message; returns its index. Text and thinking begin with the chunk given.
pub fn push_part(_tx: &mut Transaction<'_>, _message: &str, _part: &Part) -> Result<u64, AutomergeError> {
    unimplemented!()
}

/// Adds a chunk to a text or thinking part.
pub fn push_chunk(_tx: &mut Transaction<'_>, _message: &str, _part: u64, _chunk: &str) -> Result<(), AutomergeError> {
    unimplemented!()
}

/// Sets a call's input and state in a part of this epoch's own message.
pub fn set_call(
    _tx: &mut Transaction<'_>,
    _message: &str,
    _part: u64,
    _input: Option<&str>,
    _state: CallState,
) -> Result<(), AutomergeError> {
    unimplemented!()
}

/// Sets a part's `provider` data.
pub fn set_provider(
    _tx: &mut Transaction<'_>,
    _message: &str,
    _part: u64,
    _kind: &str,
    _data: &str,
) -> Result<(), AutomergeError> {
    unimplemented!()
}

/// Records what was used so far, and what it cost.
pub fn set_usage(_tx: &mut Transaction<'_>, _run: &str, _usage: &Usage, _cost: &Cost) -> Result<(), AutomergeError> {
    unimplemented!()
}

/// Ends a run: its state, why, and when.
pub fn end_run(
    _tx: &mut Transaction<'_>,
    _run: &str,
    _state: RunState,
    _stop_reason: &str,
    _error: Option<&RunError>,
    _at: Timestamp,
) -> Result<(), AutomergeError> {
    unimplemented!()
}

/// Puts `names.auto` whole (rule 16), unless a higher epoch's stands there.
pub fn set_auto_name(_tx: &mut Transaction<'_>, _title: &str, _epoch: Epoch) -> Result<(), AutomergeError> {
    unimplemented!()
}

/// The end of the text that a run's successor goes on from, as the worker sees it (rule 6).
pub type End = Option<Continues>;
