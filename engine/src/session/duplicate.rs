//! A copy of a session up to a message: rebuilt from what is shown, not forked, so that nothing of what was hidden or came
//! later is in it.
//!
//! Its runs are marked `inherited`: they show, but neither count nor ask for anything. Each is written as completed,
//! whatever it was, with the whole of its shown text as its own; calls that were open are cancelled. A person's message
//! that ends the copy unanswered is answered by an inherited run that says nothing, so that copying never starts a turn.
//! Everything has one maker, the actor of the first change, which is what makes readers believe inherited runs.

use std::collections::{HashMap, HashSet};

use automerge::transaction::{Transactable, Transaction};
use automerge::{Automerge, AutomergeError, ObjId, ObjType, ROOT, ReadDoc, Value};

use super::command::{CommandError, Given, fields};
use super::conversation::{Content, Conversation, ShownCallState, ShownMessage, ShownPart, ShownTurn};
use super::model::{CallState, Cost, Origin, PartKind, Role, Run, RunState, Session, ToolCall};
use super::write::{begin_run, container, put_int, put_part, put_provider, put_texts, put_word};
use crate::ids::{DocumentId, Epoch, random_actor};

/// Messages in one change: a change has at most 2^18 operations and 16 MiB.
const MESSAGES_A_CHANGE: usize = 1_000;
/// Bytes of text in one change.
const BYTES_A_CHANGE: usize = 4 << 20;

/// What is copied.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its id.
    pub id: DocumentId,
    /// The document, for parts of types that this version doesn't know.
    pub document: &'a Automerge,
    /// The document as plain data.
    pub session: &'a Session,
    /// What is shown of it.
    pub seen: &'a Conversation,
}

/// Copies a session up to and with a message (`None`: its last that isn't queued), to a position. The new document, of
/// one change or, if it is long, of a few.
pub fn duplicate(
    source: Source<'_>,
    at: Option<&str>,
    position: &str,
    given: &Given<'_>,
) -> Result<Automerge, CommandError> {
    if !source.session.is_session {
        return Err(CommandError::NotASession);
    }
    let messages = up_to(source.seen, at)?;
    let mut document = Automerge::new().with_actor(random_actor());
    let mut tx = document.transaction();
    root(&mut tx, source, messages.last().map(|message| message.id.as_str()), position, given)?;
    for run in runs(source, &messages) {
        begin_run(&mut tx, &run)?;
    }
    let list = container(&mut tx, "messages", ObjType::List)?;
    let turns = Turns::of(source);
    let (mut count, mut bytes) = (0, 0);
    for (index, message) in messages.iter().enumerate() {
        if count == MESSAGES_A_CHANGE || bytes > BYTES_A_CHANGE {
            tx.commit();
            tx = document.transaction();
            (count, bytes) = (0, 0);
        }
        bytes += copy(&mut tx, &list, index, message, source, &turns)?;
        count += 1;
    }
    tx.commit();
    Ok(document)
}

/// The messages of the copy.
fn up_to<'a>(seen: &'a Conversation, at: Option<&str>) -> Result<Vec<&'a ShownMessage>, CommandError> {
    let Some(at) = at else { return Ok(seen.messages.iter().collect()) };
    let all = seen.messages.iter().chain(&seen.queued);
    let last = all.clone().position(|message| message.id == at);
    let last = last.ok_or_else(|| CommandError::Unknown { what: "message", id: at.to_owned() })?;
    Ok(all.take(last + 1).collect())
}

fn root(
    tx: &mut Transaction<'_>,
    source: Source<'_>,
    last: Option<&str>,
    position: &str,
    given: &Given<'_>,
) -> Result<(), AutomergeError> {
    let session = source.session;
    fields::root(tx)?;
    let names = tx.put_object(ROOT, "names", ObjType::Map)?;
    put_word(tx, &names, "user", session.user_name.as_deref())?;
    if let Some(title) = &source.seen.auto_title {
        let auto = tx.put_object(&names, "auto", ObjType::Map)?;
        put_word(tx, &auto, "title", Some(title))?;
        let epoch = session.auto_names.iter().rev().find(|name| name.title == *title).map(|name| name.epoch);
        put_int(tx, &auto, "epoch", epoch.unwrap_or_default().0)?;
    }
    put_word(tx, &ROOT, "agent", session.agent.as_deref())?;
    put_word(tx, &ROOT, "position", Some(position))?;
    put_int(tx, &ROOT, "createdAt", given.at.0)?;
    put_word(tx, &ROOT, "createdBy", Some(given.by))?;
    let message = last.unwrap_or_default().to_owned();
    fields::origin(tx, &Origin::Duplicate { session: source.id.to_string(), message })?;
    if let Some(limit) = session.spend_limit {
        put_int(tx, &ROOT, "spendLimit", limit.0)?;
    }
    tx.put_object(ROOT, "messages", ObjType::List)?;
    tx.put_object(ROOT, "runs", ObjType::Map)?;
    tx.put_object(ROOT, "requests", ObjType::Map)?;
    Ok(())
}

/// One run for each turn that is shown, and one for people's messages that nothing answers.
fn runs(source: Source<'_>, messages: &[&ShownMessage]) -> Vec<Run> {
    let ids: HashSet<&str> = messages.iter().map(|message| message.id.as_str()).collect();
    let is_here = |id: &str| ids.contains(id);
    let turns: HashSet<&str> = messages.iter().filter_map(|message| message.turn.as_deref()).collect();
    let mut runs: Vec<Run> = Vec::new();
    for turn in source.seen.turns.iter().filter(|turn| turns.contains(turn.id.as_str())) {
        let Some(run) = source.session.runs.get(&turn.run).and_then(|values| values.last()) else { continue };
        runs.push(inherited(run, turn, &is_here));
    }
    let highest = runs.iter().map(|run| run.epoch.max(run.place)).max().unwrap_or_default();
    let queued = messages.iter().filter(|message| message.role == Role::User && message.turn.is_none());
    let answers: Vec<String> = queued.map(|message| message.id.clone()).collect();
    if let Some(last) = answers.last() {
        runs.push(silent(last.clone(), Epoch(highest.0.saturating_add(1)), answers));
    }
    runs
}

/// A turn's run, with the sums of the whole turn.
fn inherited(run: &Run, turn: &ShownTurn, is_here: &impl Fn(&str) -> bool) -> Run {
    Run {
        answers: run.answers.iter().filter(|id| is_here(id)).cloned().collect(),
        continues: None,
        request: None,
        inherited: true,
        worker: None,
        state: RunState::Completed,
        started_at: turn.started_at,
        usage: turn.usage,
        cost: Cost { micros: turn.cost_micros, estimated: turn.estimated, reported: run.cost.reported },
        error: None,
        ..run.clone()
    }
}

/// A run that answers without a word.
fn silent(turn: String, epoch: Epoch, answers: Vec<String>) -> Run {
    Run {
        turn,
        epoch,
        place: epoch,
        answers,
        continues: None,
        request: None,
        inherited: true,
        agent: None,
        model: None,
        provider: None,
        preamble: None,
        worker: None,
        state: RunState::Completed,
        started_at: None,
        ended_at: None,
        usage: super::model::Usage::default(),
        cost: Cost::default(),
        stop_reason: None,
        error: None,
        by: Vec::new(),
    }
}

/// What messages are written with, looked up by what they name.
struct Turns<'a> {
    /// Of the shown run of a turn.
    epochs: HashMap<&'a str, Epoch>,
    /// By message.
    actions: HashMap<&'a str, &'a str>,
}

impl<'a> Turns<'a> {
    fn of(source: Source<'a>) -> Self {
        let run = |turn: &'a ShownTurn| source.session.runs.get(&turn.run)?.last();
        let epochs = source.seen.turns.iter().filter_map(|turn| Some((turn.id.as_str(), run(turn)?.epoch)));
        let actions = source.session.messages.iter();
        let actions = actions.filter_map(|message| Some((message.id.as_str(), message.action.as_deref()?)));
        Self { epochs: epochs.collect(), actions: actions.collect() }
    }
}

/// Copies a message; how many bytes of text it has.
fn copy(
    tx: &mut Transaction<'_>,
    list: &ObjId,
    index: usize,
    message: &ShownMessage,
    source: Source<'_>,
    turns: &Turns<'_>,
) -> Result<usize, AutomergeError> {
    let fields = tx.insert_object(list, index, ObjType::Map)?;
    put_word(tx, &fields, "id", Some(&message.id))?;
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    put_word(tx, &fields, "role", Some(role))?;
    put_word(tx, &fields, "author", message.author.as_deref())?;
    if let Some(at) = message.created_at {
        put_int(tx, &fields, "createdAt", at.0)?;
    }
    if message.role == Role::Assistant {
        put_word(tx, &fields, "turn", message.turn.as_deref())?;
        let epoch = message.turn.as_deref().and_then(|turn| turns.epochs.get(turn)).copied();
        put_int(tx, &fields, "epoch", epoch.unwrap_or_default().0)?;
    } else {
        put_texts::<&str>(tx, &fields, "over", &[])?;
        put_word(tx, &fields, "action", turns.actions.get(message.id.as_str()).copied())?;
    }
    let parts = tx.put_object(&fields, "parts", ObjType::List)?;
    let mut bytes = 0;
    for (index, part) in message.parts.iter().enumerate() {
        bytes += copy_part(tx, &parts, index, message, part, source)?;
    }
    Ok(bytes)
}

fn copy_part(
    tx: &mut Transaction<'_>,
    parts: &ObjId,
    index: usize,
    message: &ShownMessage,
    part: &ShownPart,
    source: Source<'_>,
) -> Result<usize, AutomergeError> {
    let kind = kind(&part.content);
    if let PartKind::Unknown { .. } = kind
        && let Some(whole) = stored_part(source.document, &message.id, part.index)?
    {
        tx.batch_create_object(parts, index, &whole, true)?;
        return Ok(0);
    }
    let fields = put_part(tx, parts, index, &kind)?;
    let mut bytes = match &part.content {
        Content::Text { text } | Content::Thinking { text } | Content::ToolCall { input: text, .. } => text.len(),
        Content::ToolResult { content, .. } => content.len(),
        _ => 0,
    };
    if let Some(provider) = &part.provider {
        put_provider(tx, &fields, &provider.kind, &provider.data)?;
        bytes += provider.data.len();
    }
    Ok(bytes)
}

/// A part as it is stored, whatever is in it.
fn stored_part(
    document: &Automerge,
    message: &str,
    part: u64,
) -> Result<Option<automerge::hydrate::Value>, AutomergeError> {
    for (_, list) in document.get_all(ROOT, "messages")? {
        for index in 0..document.length(&list) {
            let Some((Value::Object(ObjType::Map), fields)) = document.get(&list, index)? else { continue };
            let Some((id, _)) = document.get(&fields, "id")? else { continue };
            if id.as_str() != Some(message) {
                continue;
            }
            let Some((Value::Object(ObjType::List), parts)) = document.get(&fields, "parts")? else { continue };
            let part = usize::try_from(part).unwrap_or(usize::MAX);
            if let Some((Value::Object(ObjType::Map), part)) = document.get(&parts, part)? {
                return ReadDoc::hydrate(document, &part, None).map(Some);
            }
        }
    }
    Ok(None)
}

fn kind(content: &Content) -> PartKind {
    match content.clone() {
        Content::Text { text } => PartKind::Text(text),
        Content::Thinking { text } => PartKind::Thinking(text),
        Content::ToolCall { id, provider_id, name, input, state, .. } => {
            let input = Some(input).filter(|input| !input.is_empty());
            PartKind::ToolCall(ToolCall { id, provider_id, name, input, state: over(state) })
        }
        Content::ToolResult { call_id, content, is_error, blob } => {
            PartKind::ToolResult { call: call_id, content, is_error, blob }
        }
        Content::Other { summary } => PartKind::Other { summary },
        Content::Attachment { blob, mime, name, size } => PartKind::Attachment { blob, mime, name, size },
        Content::Error { code, message, retryable } => PartKind::Error { code, message, retryable },
        Content::Event { summary } => PartKind::Event { summary },
        Content::Unknown { name } => PartKind::Unknown { name },
    }
}

/// A call's state in the copy: done and failed are read from the result; what was open is cancelled.
fn over(state: ShownCallState) -> CallState {
    match state {
        ShownCallState::Done | ShownCallState::Failed => CallState::Running,
        ShownCallState::Denied => CallState::Denied,
        ShownCallState::Cut => CallState::Cut,
        ShownCallState::Preparing
        | ShownCallState::Waiting
        | ShownCallState::Running
        | ShownCallState::InDoubt
        | ShownCallState::Cancelled => CallState::Cancelled,
    }
}
