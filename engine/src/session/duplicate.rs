//! A copy of a session up to a message: rebuilt from what is shown, not forked, so that nothing of what was hidden or came
//! later is in it.
//!
//! Its runs are marked `inherited`: they show, but neither count nor ask for anything. Each is written as completed,
//! whatever it was, with the whole of its shown text as its own; calls that were open are cancelled. A person's message
//! that ends the copy unanswered is answered by an inherited run that says nothing, so that copying never starts a turn.
//! Everything has one maker, the actor of the first change, which is what makes readers believe inherited runs.

use std::collections::{HashMap, HashSet};

use automerge::transaction::{Transactable, Transaction};
use automerge::{Automerge, AutomergeError, ObjType, ROOT, ReadDoc, Value, hydrate};

use super::command::{CommandError, Given, shape};
use super::conversation::{Content, Conversation, ShownCallState, ShownMessage, ShownPart, ShownTurn};
use super::fields::Fields;
use super::model::{CallState, Cost, Origin, PartKind, Role, Run, RunState, Session, ToolCall};
use super::write::{part_value, put_int, put_word, run_value};
use crate::ids::{DocumentId, Epoch, random_actor};

/// Parts in one change: a change has at most 2^18 operations, and a part some ten.
const PARTS_A_CHANGE: usize = 10_000;
/// Bytes of text in one change, which has at most 16 MiB.
const BYTES_A_CHANGE: usize = 8 << 20;

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
    let names = Names::of(source);
    let mut document = Automerge::new().with_actor(random_actor());
    let mut pages = pages(&messages);
    let first = pages.next().unwrap_or_default();
    let mut tx = document.transaction();
    let last = messages.last().map(|message| message.id.as_str());
    root(&mut tx, source, last, position, given)?;
    let runs: HashMap<String, hydrate::Value> =
        runs(source, &messages).iter().map(|run| (run.key(), run_value(run))).collect();
    tx.batch_create_object(ROOT, "runs", &hydrate::Map::from(runs).into(), false)?;
    let list = tx.batch_create_object(ROOT, "messages", &names.values(first, source)?.into(), false)?;
    let mut written = first.len();
    for page in pages {
        tx.commit();
        tx = document.transaction();
        tx.splice(&list, written, 0, names.values(page, source)?)?;
        written += page.len();
    }
    tx.commit();
    Ok(document)
}

/// The messages, as many at a time as one change may hold.
fn pages<'a, 'b>(messages: &'b [&'a ShownMessage]) -> impl Iterator<Item = &'b [&'a ShownMessage]> {
    let mut rest = messages;
    std::iter::from_fn(move || {
        let (mut count, mut parts, mut bytes) = (0, 0, 0);
        for message in rest {
            count += 1;
            parts += message.parts.len();
            bytes += message.parts.iter().map(|part| size(&part.content)).sum::<usize>();
            if parts >= PARTS_A_CHANGE || bytes >= BYTES_A_CHANGE {
                break;
            }
        }
        let (page, after) = rest.split_at(count);
        rest = after;
        (!page.is_empty()).then_some(page)
    })
}

/// Bytes of its text.
fn size(content: &Content) -> usize {
    match content {
        Content::Text { text } | Content::Thinking { text } | Content::ToolCall { input: text, .. } => text.len(),
        Content::ToolResult { content, .. } => content.len(),
        _ => 0,
    }
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
    shape::root(tx)?;
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
    shape::origin(tx, &Origin::Duplicate { session: source.id.to_string(), message })?;
    if let Some(limit) = session.spend_limit {
        put_int(tx, &ROOT, "spendLimit", limit.0)?;
    }
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
        cost: Cost {
            micros: turn.cost_micros,
            estimated: turn.estimated,
            reported: run.cost.reported,
            unreadable: false,
        },
        error: None,
        ..run.clone()
    }
}

/// A run that answers without a word.
fn silent(turn: String, epoch: Epoch, answers: Vec<String>) -> Run {
    Run { inherited: true, state: RunState::Completed, ..Run::new(turn, epoch, answers) }
}

/// What messages are written with, looked up by what they name.
struct Names<'a> {
    /// Epoch of the shown run, by turn.
    epochs: HashMap<&'a str, Epoch>,
    /// By message.
    actions: HashMap<&'a str, &'a str>,
}

impl<'a> Names<'a> {
    fn of(source: Source<'a>) -> Self {
        let run = |turn: &'a ShownTurn| source.session.runs.get(&turn.run)?.last();
        let epochs = source.seen.turns.iter().filter_map(|turn| Some((turn.id.as_str(), run(turn)?.epoch)));
        let actions = source.session.messages.iter();
        let actions = actions.filter_map(|message| Some((message.id.as_str(), message.action.as_deref()?)));
        Self { epochs: epochs.collect(), actions: actions.collect() }
    }

    fn values(&self, messages: &[&ShownMessage], source: Source<'_>) -> Result<Vec<hydrate::Value>, AutomergeError> {
        messages.iter().map(|message| self.value(message, source)).collect()
    }

    fn value(&self, message: &ShownMessage, source: Source<'_>) -> Result<hydrate::Value, AutomergeError> {
        let parts = message.parts.iter().map(|part| part_of(message, part, source));
        let fields = Fields::default()
            .word("id", Some(&message.id))
            .word("author", message.author.as_deref())
            .int("createdAt", message.created_at.map(|at| at.0))
            .list("parts", parts.collect::<Result<_, _>>()?);
        let fields = match message.role {
            Role::User => fields
                .word("role", Some("user"))
                .texts::<&str>("over", [])
                .word("action", self.actions.get(message.id.as_str()).copied()),
            Role::Assistant => {
                let epoch = message.turn.as_deref().and_then(|turn| self.epochs.get(turn));
                fields
                    .word("role", Some("assistant"))
                    .word("turn", message.turn.as_deref())
                    .int("epoch", epoch.map(|epoch| epoch.0))
            }
        };
        Ok(fields.into())
    }
}

fn part_of(message: &ShownMessage, part: &ShownPart, source: Source<'_>) -> Result<hydrate::Value, AutomergeError> {
    let kind = kind(&part.content);
    let whole = match kind {
        PartKind::Unknown { .. } => stored_part(source.document, &message.id, part.index)?,
        _ => None,
    };
    Ok(whole.unwrap_or_else(|| part_value(&kind, part.provider.as_ref())))
}

/// A part as it is stored, whatever is in it.
fn stored_part(document: &Automerge, message: &str, part: u64) -> Result<Option<hydrate::Value>, AutomergeError> {
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
