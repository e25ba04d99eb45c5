//! What a worker appends: the run, its messages and parts, chunk by chunk. Only a worker's actor may write these
//! (rule "Who wrote it"); each function is one small change's worth of operations.
//!
//! Integers are `Int` and strings scalar, as the design's "Documents" says; an absent value is an absent key.

use automerge::transaction::{Transactable, Transaction};
use automerge::{AutomergeError, ObjId, ObjType, Prop, ROOT, ReadDoc, Value, hydrate};

use super::fields::{Fields, int, text};
use super::model::{CallState, Continues, Cost, Part, PartKind, ProviderData, Run, RunError, RunState, Usage};
use crate::ids::{Epoch, Timestamp, random_id};

/// Makes a run, with all that `run` says of it (`state`, `continues`, a `stop_reason`, an end). This change travels in
/// `begin` only (rule 8).
pub fn begin_run(tx: &mut Transaction<'_>, run: &Run) -> Result<(), AutomergeError> {
    let runs = container(tx, "runs", ObjType::Map)?;
    tx.batch_create_object(&runs, run.key(), &run_value(run), false).map(drop)
}

/// A whole run.
pub(crate) fn run_value(run: &Run) -> hydrate::Value {
    let continues = run.continues.as_ref().map(|continues| {
        let fields = Fields::default().word("message", Some(&continues.message));
        fields.int("part", Some(continues.part)).int("bytes", Some(continues.bytes))
    });
    let usage = run.usage;
    let usage = Fields::default()
        .int("input", Some(usage.input))
        .int("output", Some(usage.output))
        .int("reasoning", Some(usage.reasoning))
        .int("cacheRead", Some(usage.cache_read))
        .int("cacheWrite", Some(usage.cache_write))
        .int("cacheWriteLong", Some(usage.cache_write_long));
    let mut cost =
        Fields::default().int("micros", run.cost.micros.map(|micros| micros.0)).bool("estimated", run.cost.estimated);
    if run.cost.reported {
        cost = cost.bool("reported", true);
    }
    let mut fields = Fields::default()
        .word("turn", Some(&run.turn))
        .int("epoch", Some(run.epoch.0))
        .int("place", Some(run.place.0))
        .texts("answers", &run.answers)
        .map("continues", continues)
        .word("request", run.request.as_deref())
        .word("agent", run.agent.as_deref())
        .word("model", run.model.as_deref())
        .word("provider", run.provider.as_deref())
        .word("preamble", run.preamble.as_deref())
        .word("worker", run.worker.as_deref())
        .word("state", Some(run_state(run.state)))
        .int("startedAt", run.started_at.map(|at| at.0))
        .int("endedAt", run.ended_at.map(|at| at.0))
        .map("usage", Some(usage))
        .map("cost", Some(cost))
        .word("prices", run.prices.map(|rates| rates.json()).as_deref())
        .int("context", run.context)
        .int("cachedUntil", run.cached_until.map(|at| at.0))
        .word("stopReason", run.stop_reason.as_deref())
        .map("error", run.error.as_ref().map(error_value));
    if run.inherited {
        fields = fields.bool("inherited", true);
    }
    fields.into()
}

fn error_value(error: &RunError) -> Fields {
    let fields = Fields::default().word("code", Some(&error.code)).word("message", Some(&error.message));
    fields.bool("retryable", error.retryable)
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
    let fields = Fields::default()
        .word("id", Some(&id))
        .word("role", Some("assistant"))
        .word("author", Some(author))
        .int("createdAt", Some(at.0))
        .word("turn", Some(&run.turn))
        .int("epoch", Some(run.epoch.0))
        .list("parts", Vec::new());
    tx.batch_create_object(&messages, tx.length(&messages), &fields.into(), true)?;
    Ok(id)
}

/// Adds a part to a message; returns its index. Text and thinking begin with the chunk given.
pub fn push_part(tx: &mut Transaction<'_>, message: &str, part: &Part) -> Result<u64, AutomergeError> {
    let parts = parts_of(tx, message)?;
    let index = tx.length(&parts);
    tx.batch_create_object(&parts, index, &part_value(&part.kind, part.provider.as_ref()), true)?;
    Ok(index as u64)
}

/// A whole part.
pub(crate) fn part_value(kind: &PartKind, provider: Option<&ProviderData>) -> hydrate::Value {
    let of = |name: &str| Fields::default().word("type", Some(name));
    let chunks = |text: &str| Some(text).filter(|text| !text.is_empty()).map(str::to_owned);
    let fields = match kind {
        PartKind::Text(text) => of("text").texts("chunks", chunks(text)),
        PartKind::Thinking(text) => of("thinking").texts("chunks", chunks(text)),
        PartKind::ToolCall(call) => of("tool_call")
            .word("id", Some(&call.id))
            .word("providerId", call.provider_id.as_deref())
            .word("name", Some(&call.name))
            .word("input", call.input.as_deref())
            .word("state", Some(call_state(call.state))),
        PartKind::ToolResult { call, content, is_error, blob } => of("tool_result")
            .word("callId", Some(call))
            .word("content", Some(content))
            .bool("isError", *is_error)
            .word("blob", blob.as_deref()),
        PartKind::Other { summary } => of("other").word("summary", Some(summary)),
        PartKind::Event { summary } => of("event").word("summary", Some(summary)),
        PartKind::Attachment { blob, mime, name, size } => of("attachment")
            .word("blob", Some(blob))
            .word("mime", Some(mime))
            .word("name", Some(name))
            .int("size", Some(*size)),
        PartKind::Error { code, message, retryable } => {
            of("error").word("code", Some(code)).word("message", Some(message)).bool("retryable", *retryable)
        }
        PartKind::Unknown { name } => of(name),
    };
    let provider = provider
        .map(|provider| Fields::default().word("kind", Some(&provider.kind)).word("data", Some(&provider.data)));
    fields.map("provider", provider).into()
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

/// Records what going on would send again, in tokens, and until when the provider's cache of it is said to live.
pub fn set_context(
    tx: &mut Transaction<'_>,
    run: &str,
    context: u64,
    cached_until: Option<Timestamp>,
) -> Result<(), AutomergeError> {
    let fields = run_of(tx, run)?;
    put_int(tx, &fields, "context", context)?;
    match cached_until {
        Some(at) => put_int(tx, &fields, "cachedUntil", at.0),
        None if tx.get(&fields, "cachedUntil")?.is_some() => tx.delete(&fields, "cachedUntil"),
        None => Ok(()),
    }
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
            && scalar.as_i64().is_some_and(|standing| u64::try_from(standing).is_ok_and(|standing| standing > epoch.0))
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

fn put_error(tx: &mut Transaction<'_>, run: &ObjId, error: Option<&RunError>) -> Result<(), AutomergeError> {
    match error {
        Some(error) => tx.batch_create_object(run, "error", &error_value(error).into(), false).map(drop),
        None => Ok(()),
    }
}

fn put_provider(tx: &mut Transaction<'_>, part: &ObjId, kind: &str, data: &str) -> Result<(), AutomergeError> {
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

/// Where a message is in a list of messages, and its map. Looked for from the end, where the worker's own messages are
/// and what is queued.
pub(crate) fn find_message(
    tx: &Transaction<'_>,
    messages: &ObjId,
    id: &str,
) -> Result<Option<(usize, ObjId)>, AutomergeError> {
    for index in (0..tx.length(messages)).rev() {
        let Some((Value::Object(ObjType::Map), fields)) = tx.get(messages, index)? else { continue };
        if string_at(tx, &fields, "id")?.is_some_and(|known| known == id) {
            return Ok(Some((index, fields)));
        }
    }
    Ok(None)
}

/// What stands at a key or index, if it is a string of either kind.
pub(crate) fn string_at(
    tx: &Transaction<'_>,
    object: &ObjId,
    at: impl Into<Prop>,
) -> Result<Option<String>, AutomergeError> {
    Ok(match tx.get(object, at)? {
        Some((Value::Scalar(scalar), _)) => scalar.as_str().map(str::to_owned),
        Some((Value::Object(ObjType::Text), text)) => Some(tx.text(&text)?),
        _ => None,
    })
}

/// The parts of a message.
fn parts_of(tx: &Transaction<'_>, message: &str) -> Result<ObjId, AutomergeError> {
    for (_, messages) in tx.get_all(ROOT, "messages")?.into_iter().rev() {
        if let Some((_, fields)) = find_message(tx, &messages, message)? {
            return object(tx, &fields, "parts");
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
