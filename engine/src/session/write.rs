//! What a worker appends: the run, its messages and parts, chunk by chunk. Only a worker's actor may write these
//! (rule "Who wrote it"); each function is one small change's worth of operations.
//!
//! Integers are `Int` and strings scalar, as the design's "Documents" says; an absent value is an absent key.

use automerge::transaction::{Transactable, Transaction};
use automerge::{AutomergeError, ObjId, ObjType, ROOT, ReadDoc, ScalarValue, Value};

use super::model::{CallState, Continues, Cost, Part, PartKind, Run, RunError, RunState, Usage};
use crate::ids::{Epoch, Timestamp, random_id};

/// Makes a run, with all that `run` says of it (`state`, `continues`, a `stop_reason`, an end). This change travels in
/// `begin` only (rule 8).
pub fn begin_run(tx: &mut Transaction<'_>, run: &Run) -> Result<(), AutomergeError> {
    let runs = container(tx, "runs", ObjType::Map)?;
    let fields = tx.put_object(&runs, run.key(), ObjType::Map)?;
    put_word(tx, &fields, "turn", Some(&run.turn))?;
    put_int(tx, &fields, "epoch", run.epoch.0)?;
    put_int(tx, &fields, "place", run.place.0)?;
    put_texts(tx, &fields, "answers", &run.answers)?;
    if let Some(continues) = &run.continues {
        put_continues(tx, &fields, continues)?;
    }
    put_word(tx, &fields, "request", run.request.as_deref())?;
    if run.inherited {
        tx.put(&fields, "inherited", true)?;
    }
    put_word(tx, &fields, "agent", run.agent.as_deref())?;
    put_word(tx, &fields, "model", run.model.as_deref())?;
    put_word(tx, &fields, "provider", run.provider.as_deref())?;
    put_word(tx, &fields, "preamble", run.preamble.as_deref())?;
    put_word(tx, &fields, "worker", run.worker.as_deref())?;
    put_word(tx, &fields, "state", Some(run_state(run.state)))?;
    put_time(tx, &fields, "startedAt", run.started_at)?;
    put_time(tx, &fields, "endedAt", run.ended_at)?;
    tx.put_object(&fields, "usage", ObjType::Map)?;
    tx.put_object(&fields, "cost", ObjType::Map)?;
    set_usage(tx, &run.key(), &run.usage, &run.cost)?;
    put_word(tx, &fields, "stopReason", run.stop_reason.as_deref())?;
    put_error(tx, &fields, run.error.as_ref())
}

/// Adds an assistant message without parts; returns its id.
pub fn begin_message(
    tx: &mut Transaction<'_>,
    run: &Run,
    author: &str,
    at: Timestamp,
) -> Result<String, AutomergeError> {
    let messages = container(tx, "messages", ObjType::List)?;
    let id = random_id();
    let message = tx.insert_object(&messages, tx.length(&messages), ObjType::Map)?;
    put_word(tx, &message, "id", Some(&id))?;
    put_word(tx, &message, "role", Some("assistant"))?;
    put_word(tx, &message, "author", Some(author))?;
    put_int(tx, &message, "createdAt", at.0)?;
    put_word(tx, &message, "turn", Some(&run.turn))?;
    put_int(tx, &message, "epoch", run.epoch.0)?;
    tx.put_object(&message, "parts", ObjType::List)?;
    Ok(id)
}

/// Adds a part to a message; returns its index. Text and thinking begin with the chunk given.
pub fn push_part(tx: &mut Transaction<'_>, message: &str, part: &Part) -> Result<u64, AutomergeError> {
    let parts = parts_of(tx, message)?;
    let index = tx.length(&parts);
    let fields = put_part(tx, &parts, index, &part.kind)?;
    if let Some(provider) = &part.provider {
        put_provider(tx, &fields, &provider.kind, &provider.data)?;
    }
    Ok(index as u64)
}

/// Adds a part to a list of parts: its map.
pub(crate) fn put_part(
    tx: &mut Transaction<'_>,
    parts: &ObjId,
    index: usize,
    kind: &PartKind,
) -> Result<ObjId, AutomergeError> {
    let fields = tx.insert_object(parts, index, ObjType::Map)?;
    let name = match kind {
        PartKind::Text(_) => "text",
        PartKind::Thinking(_) => "thinking",
        PartKind::ToolCall(_) => "tool_call",
        PartKind::ToolResult { .. } => "tool_result",
        PartKind::Other { .. } => "other",
        PartKind::Attachment { .. } => "attachment",
        PartKind::Error { .. } => "error",
        PartKind::Event { .. } => "event",
        PartKind::Unknown { name } => name,
    };
    put_word(tx, &fields, "type", Some(name))?;
    put_kind(tx, &fields, kind)?;
    Ok(fields)
}

fn put_kind(tx: &mut Transaction<'_>, fields: &ObjId, kind: &PartKind) -> Result<(), AutomergeError> {
    match kind {
        PartKind::Text(chunk) | PartKind::Thinking(chunk) => {
            let chunks: &[&str] = if chunk.is_empty() { &[] } else { &[chunk] };
            put_texts(tx, fields, "chunks", chunks)
        }
        PartKind::ToolCall(call) => {
            put_word(tx, fields, "id", Some(&call.id))?;
            put_word(tx, fields, "providerId", call.provider_id.as_deref())?;
            put_word(tx, fields, "name", Some(&call.name))?;
            put_word(tx, fields, "input", call.input.as_deref())?;
            put_word(tx, fields, "state", Some(call_state(call.state)))
        }
        PartKind::ToolResult { call, content, is_error, blob } => {
            put_word(tx, fields, "callId", Some(call))?;
            put_word(tx, fields, "content", Some(content))?;
            tx.put(fields, "isError", *is_error)?;
            put_word(tx, fields, "blob", blob.as_deref())
        }
        PartKind::Other { summary } | PartKind::Event { summary } => put_word(tx, fields, "summary", Some(summary)),
        PartKind::Attachment { blob, mime, name, size } => {
            put_word(tx, fields, "blob", Some(blob))?;
            put_word(tx, fields, "mime", Some(mime))?;
            put_word(tx, fields, "name", Some(name))?;
            put_int(tx, fields, "size", *size)
        }
        PartKind::Error { code, message, retryable } => {
            put_word(tx, fields, "code", Some(code))?;
            put_word(tx, fields, "message", Some(message))?;
            tx.put(fields, "retryable", *retryable)
        }
        PartKind::Unknown { .. } => Ok(()),
    }
}

/// Adds a chunk to a text or thinking part. An empty chunk adds nothing.
pub fn push_chunk(tx: &mut Transaction<'_>, message: &str, part: u64, chunk: &str) -> Result<(), AutomergeError> {
    if chunk.is_empty() {
        return Ok(());
    }
    let fields = part_of(tx, message, part)?;
    let chunks = object(tx, &fields, "chunks")?;
    tx.insert(&chunks, tx.length(&chunks), text(chunk))
}

/// Sets a call's input and state in a part of this epoch's own message.
pub fn set_call(
    tx: &mut Transaction<'_>,
    message: &str,
    part: u64,
    input: Option<&str>,
    state: CallState,
) -> Result<(), AutomergeError> {
    let fields = part_of(tx, message, part)?;
    put_word(tx, &fields, "input", input)?;
    put_word(tx, &fields, "state", Some(call_state(state)))
}

/// Sets a part's `provider` data.
pub fn set_provider(
    tx: &mut Transaction<'_>,
    message: &str,
    part: u64,
    kind: &str,
    data: &str,
) -> Result<(), AutomergeError> {
    let fields = part_of(tx, message, part)?;
    put_provider(tx, &fields, kind, data)
}

/// Records what was used so far, and what it cost. Only what has changed becomes an operation.
pub fn set_usage(tx: &mut Transaction<'_>, run: &str, usage: &Usage, cost: &Cost) -> Result<(), AutomergeError> {
    let fields = run_of(tx, run)?;
    let counts = object(tx, &fields, "usage")?;
    for (key, count) in [
        ("input", usage.input),
        ("output", usage.output),
        ("reasoning", usage.reasoning),
        ("cacheRead", usage.cache_read),
        ("cacheWrite", usage.cache_write),
        ("cacheWriteLong", usage.cache_write_long),
    ] {
        put_int(tx, &counts, key, count)?;
    }
    let costs = object(tx, &fields, "cost")?;
    match cost.micros {
        Some(micros) => put_int(tx, &costs, "micros", micros.0)?,
        None if tx.get(&costs, "micros")?.is_some() => tx.delete(&costs, "micros")?,
        None => {}
    }
    tx.put(&costs, "estimated", cost.estimated)?;
    if cost.reported || tx.get(&costs, "reported")?.is_some() {
        tx.put(&costs, "reported", cost.reported)?;
    }
    Ok(())
}

/// Ends a run: its state, why, and when.
pub fn end_run(
    tx: &mut Transaction<'_>,
    run: &str,
    state: RunState,
    stop_reason: &str,
    error: Option<&RunError>,
    at: Timestamp,
) -> Result<(), AutomergeError> {
    let fields = run_of(tx, run)?;
    put_word(tx, &fields, "state", Some(run_state(state)))?;
    put_word(tx, &fields, "stopReason", Some(stop_reason))?;
    put_error(tx, &fields, error)?;
    put_int(tx, &fields, "endedAt", at.0)
}

/// Puts `names.auto` whole (rule 16), unless a higher epoch's stands there.
pub fn set_auto_name(tx: &mut Transaction<'_>, title: &str, epoch: Epoch) -> Result<(), AutomergeError> {
    let names = container(tx, "names", ObjType::Map)?;
    for (_, standing) in tx.get_all(&names, "auto")? {
        if let Ok(Some((Value::Scalar(scalar), _))) = tx.get(&standing, "epoch")
            && scalar.as_i64().is_some_and(|standing| standing > int(epoch.0))
        {
            return Ok(());
        }
    }
    let auto = tx.put_object(&names, "auto", ObjType::Map)?;
    put_word(tx, &auto, "title", Some(title))?;
    put_int(tx, &auto, "epoch", epoch.0)
}

/// The end of the text that a run's successor goes on from, as the worker sees it (rule 6).
pub type End = Option<Continues>;

// --- Shared with `command` and `workspace` ------------------------------------------------------------------------

/// A shared container of the root. Foreign clients may have left it out: it is made then, and readers fold the two that
/// may come of it.
pub(crate) fn container(tx: &mut Transaction<'_>, key: &str, kind: ObjType) -> Result<ObjId, AutomergeError> {
    let standing = tx.get_all(ROOT, key)?.into_iter().rev().find(|(value, _)| *value == Value::Object(kind));
    match standing {
        Some((_, id)) => Ok(id),
        None => tx.put_object(ROOT, key, kind),
    }
}

/// A string as a scalar; absent if `None`.
pub(crate) fn put_word(
    tx: &mut Transaction<'_>,
    object: &ObjId,
    key: &str,
    word: Option<&str>,
) -> Result<(), AutomergeError> {
    match word {
        Some(word) => tx.put(object, key, text(word)),
        None => Ok(()),
    }
}

/// An integer as `Int`, which JavaScript reads as a number.
pub(crate) fn put_int(tx: &mut Transaction<'_>, object: &ObjId, key: &str, n: u64) -> Result<(), AutomergeError> {
    tx.put(object, key, int(n))
}

/// A list of scalar strings.
pub(crate) fn put_texts<T: AsRef<str>>(
    tx: &mut Transaction<'_>,
    object: &ObjId,
    key: &str,
    texts: &[T],
) -> Result<(), AutomergeError> {
    let list = tx.put_object(object, key, ObjType::List)?;
    for (index, item) in texts.iter().enumerate() {
        tx.insert(&list, index, text(item.as_ref()))?;
    }
    Ok(())
}

fn text(text: &str) -> ScalarValue {
    ScalarValue::Str(text.into())
}

fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn put_time(
    tx: &mut Transaction<'_>,
    object: &ObjId,
    key: &str,
    time: Option<Timestamp>,
) -> Result<(), AutomergeError> {
    time.map_or(Ok(()), |time| put_int(tx, object, key, time.0))
}

fn put_continues(tx: &mut Transaction<'_>, run: &ObjId, continues: &Continues) -> Result<(), AutomergeError> {
    let fields = tx.put_object(run, "continues", ObjType::Map)?;
    put_word(tx, &fields, "message", Some(&continues.message))?;
    put_int(tx, &fields, "part", continues.part)?;
    put_int(tx, &fields, "bytes", continues.bytes)
}

fn put_error(tx: &mut Transaction<'_>, run: &ObjId, error: Option<&RunError>) -> Result<(), AutomergeError> {
    let Some(error) = error else { return Ok(()) };
    let fields = tx.put_object(run, "error", ObjType::Map)?;
    put_word(tx, &fields, "code", Some(&error.code))?;
    put_word(tx, &fields, "message", Some(&error.message))?;
    tx.put(&fields, "retryable", error.retryable)
}

pub(crate) fn put_provider(
    tx: &mut Transaction<'_>,
    part: &ObjId,
    kind: &str,
    data: &str,
) -> Result<(), AutomergeError> {
    let fields = tx.put_object(part, "provider", ObjType::Map)?;
    put_word(tx, &fields, "kind", Some(kind))?;
    put_word(tx, &fields, "data", Some(data))
}

fn object(tx: &Transaction<'_>, parent: &ObjId, key: &str) -> Result<ObjId, AutomergeError> {
    match tx.get(parent, key)? {
        Some((Value::Object(_), id)) => Ok(id),
        _ => Err(AutomergeError::InvalidObjId(format!("{key:?} of {parent}"))),
    }
}

fn run_of(tx: &Transaction<'_>, run: &str) -> Result<ObjId, AutomergeError> {
    for (_, runs) in tx.get_all(ROOT, "runs")?.into_iter().rev() {
        if let Ok(fields) = object(tx, &runs, run) {
            return Ok(fields);
        }
    }
    Err(AutomergeError::InvalidObjId(format!("run {run:?}")))
}

/// The parts of a message: looked for from the end, where the worker's own messages are.
fn parts_of(tx: &Transaction<'_>, message: &str) -> Result<ObjId, AutomergeError> {
    for (_, messages) in tx.get_all(ROOT, "messages")?.into_iter().rev() {
        for index in (0..tx.length(&messages)).rev() {
            let Some((Value::Object(ObjType::Map), fields)) = tx.get(&messages, index)? else { continue };
            if let Some((Value::Scalar(id), _)) = tx.get(&fields, "id")?
                && id.as_str() == Some(message)
            {
                return object(tx, &fields, "parts");
            }
        }
    }
    Err(AutomergeError::InvalidObjId(format!("message {message:?}")))
}

fn part_of(tx: &Transaction<'_>, message: &str, part: u64) -> Result<ObjId, AutomergeError> {
    let parts = parts_of(tx, message)?;
    let index = usize::try_from(part).unwrap_or(usize::MAX);
    match tx.get(&parts, index)? {
        Some((Value::Object(ObjType::Map), fields)) => Ok(fields),
        _ => Err(AutomergeError::InvalidIndex(index)),
    }
}

fn run_state(state: RunState) -> &'static str {
    match state {
        RunState::Streaming => "streaming",
        RunState::Paused => "paused",
        RunState::Completed => "completed",
        RunState::Failed => "failed",
    }
}

fn call_state(state: CallState) -> &'static str {
    match state {
        CallState::Preparing => "preparing",
        CallState::Waiting => "waiting",
        CallState::Running => "running",
        CallState::Denied => "denied",
        CallState::Cancelled => "cancelled",
        CallState::Cut => "cut",
        CallState::InDoubt => "in_doubt",
    }
}
