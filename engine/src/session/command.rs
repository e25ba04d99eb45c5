//! What a person does to a session. Each command is total and safe offline: it writes the smallest possible change, or
//! says in one sentence why it can't.

use automerge::transaction::{Transactable, Transaction};
use automerge::{AutomergeError, ObjId, ObjType, ROOT, ReadDoc};
use serde::{Deserialize, Serialize};

use super::conversation::{Content, Conversation, ShownTurn, TurnState};
use super::model::{Role, Run, RunState, Session};
use super::outline::attempt;
use super::rules::{Rule, off};
use super::write::{container, put_int, put_texts, put_word};
use crate::ids::{DocumentId, Timestamp, random_id};

/// Bytes of a message's text.
const MAX_TEXT: usize = 1 << 20;
/// Characters of a name.
const MAX_NAME: usize = 200;

/// A command on an existing session. (Creating one is [`create`].)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Command {
    /// Adds a message of a person.
    Send {
        /// Its words.
        text: String,
        /// Queue it behind a waiting call instead of answering the call with it (an empty `over`, rule 4).
        queue: bool,
    },
    /// Hides a queued message.
    Remove {
        /// Its id.
        message: String,
    },
    /// Stops the streaming run.
    Pause,
    /// Goes on with the stopped run.
    Continue,
    /// Answers again; the last answer if no message is named.
    Retry {
        /// The last answered message, or the answer's own id.
        message: Option<String>,
    },
    /// Lets a call run.
    Approve {
        /// Its id.
        call: String,
        /// Also later calls of the same tool.
        for_session: bool,
    },
    /// Refuses a call.
    Deny {
        /// Its id.
        call: String,
        /// Told to the model.
        reason: Option<String>,
    },
    /// Gives the person's own name.
    Rename {
        /// 1 to 200 characters, no control characters.
        name: String,
    },
    /// Takes it out of the lists; it still answers.
    Archive,
    /// Back from the archive, at the end of the order.
    Restore {
        /// 1 + the highest whole number of all positions known (rule 17).
        position: String,
    },
}

/// Why a command can't be done: one sentence for the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The text or name is empty.
    #[error("there is nothing in it: write at least one character")]
    Empty,
    /// A name that is too long or has control characters.
    #[error("a name has 1 to 200 characters and no line breaks or control characters")]
    BadName,
    /// A text above 1 MiB.
    #[error("the message is too long: at most 1 MiB")]
    TooLong,
    /// No such message, call or run.
    #[error("there is no {what} \"{id}\" in this session")]
    Unknown {
        /// "message", "call".
        what: &'static str,
        /// As given.
        id: String,
    },
    /// Nothing streams.
    #[error("nothing is streaming")]
    NothingStreams,
    /// Nothing is stopped.
    #[error("nothing is paused or failed")]
    NothingStopped,
    /// The call has been decided, or overtaken.
    #[error("this tool call doesn't wait for a decision")]
    NotWaiting,
    /// No answer to do again.
    #[error("there is no answer yet to be given again")]
    NothingAnswered,
    /// Its turn has begun.
    #[error("this message is no longer queued: its turn has begun")]
    NotQueued,
    /// A call that waits has to be decided first.
    #[error("a tool call waits for your decision: approve or deny it first")]
    CallWaits,
    /// The document is no session, or of a shape that can't be written to.
    #[error("this document is no session")]
    NotASession,
    /// The engine itself refused.
    #[error("the document refused the change: {0}")]
    Document(String),
}

/// How a session begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(optional_fields = nullable))]
#[serde(rename_all = "camelCase", default)]
pub struct NewSession {
    /// The person's name for it.
    pub name: Option<String>,
    /// The agent's id; `None`: the workspace's default.
    pub agent: Option<String>,
    /// The first message.
    pub message: Option<String>,
    /// 1 + the highest whole number of all positions known (rule 17).
    pub position: Option<String>,
}

/// Who gives a command, and when.
#[derive(Clone, Debug)]
pub struct Given<'a> {
    /// The member's id.
    pub by: &'a str,
    /// By the member's clock.
    pub at: Timestamp,
}

impl From<AutomergeError> for CommandError {
    fn from(error: AutomergeError) -> Self {
        Self::Document(error.to_string())
    }
}

/// Checks a new session, and writes the whole document in one change: all shared containers, and the first message.
pub fn create(tx: &mut Transaction<'_>, new: &NewSession, given: &Given<'_>) -> Result<(), CommandError> {
    let name = new.name.as_deref().map(checked_name).transpose()?;
    let text = new.message.as_deref().map(checked_text).transpose()?;
    tx.put(ROOT, "schema", 1_i64)?;
    put_word(tx, &ROOT, "kind", Some("session"))?;
    let names = tx.put_object(ROOT, "names", ObjType::Map)?;
    put_word(tx, &names, "user", name)?;
    put_word(tx, &ROOT, "agent", new.agent.as_deref())?;
    put_word(tx, &ROOT, "position", new.position.as_deref())?;
    put_int(tx, &ROOT, "createdAt", given.at.0)?;
    put_word(tx, &ROOT, "createdBy", Some(given.by))?;
    let messages = tx.put_object(ROOT, "messages", ObjType::List)?;
    tx.put_object(ROOT, "runs", ObjType::Map)?;
    tx.put_object(ROOT, "requests", ObjType::Map)?;
    if let Some(text) = text {
        write_message(tx, &messages, Some(text), &[], Some(&[]), given)?;
    }
    Ok(())
}

/// What a command left behind, for the caller to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Done {
    /// The new message's or request's id.
    pub id: Option<String>,
}

/// Checks a command against what its author sees, and writes it. A command that finds its wish fulfilled (restoring
/// what isn't archived) writes nothing.
pub fn apply(
    tx: &mut Transaction<'_>,
    session: &Session,
    seen: &Conversation,
    command: &Command,
    given: &Given<'_>,
) -> Result<Done, CommandError> {
    if !session.is_session {
        return Err(CommandError::NotASession);
    }
    let id = match command {
        Command::Send { text, queue } => {
            let text = checked_text(text)?;
            let over = if *queue || off(Rule::OverSeen) { &[] } else { seen.stops.as_slice() };
            let messages = container(tx, "messages", ObjType::List)?;
            Some(write_message(tx, &messages, Some(text), &[], Some(over), given)?)
        }
        Command::Remove { message } => {
            if !seen.queued.iter().any(|queued| queued.id == *message) {
                let known = session.messages.iter().any(|m| m.id == *message);
                let unknown = || CommandError::Unknown { what: "message", id: message.clone() };
                return Err(if known { CommandError::NotQueued } else { unknown() });
            }
            let messages = container(tx, "messages", ObjType::List)?;
            Some(write_message(tx, &messages, None, std::slice::from_ref(message), None, given)?)
        }
        Command::Pause => {
            let run = front(session, seen).filter(|run| run.state == RunState::Streaming && !run.inherited);
            let run = run.ok_or(CommandError::NothingStreams)?;
            Some(request(tx, "pause", &run.key(), given)?.0)
        }
        Command::Continue => {
            let run = stopped(session, seen)?;
            let (id, fields) = request(tx, "continue", &run.key(), given)?;
            put_texts(tx, &fields, "over", &seen.stops)?;
            Some(id)
        }
        Command::Retry { message } => {
            let (target, n) = again(session, seen, message.as_deref())?;
            let (id, fields) = request(tx, "retry", &target, given)?;
            put_int(tx, &fields, "n", n)?;
            Some(id)
        }
        Command::Approve { call, for_session } => {
            let digest = waiting_call(seen, call)?;
            let (id, fields) = request(tx, "approve", call, given)?;
            put_word(tx, &fields, "digest", Some(digest))?;
            put_word(tx, &fields, "scope", Some(if *for_session { "session" } else { "once" }))?;
            Some(id)
        }
        Command::Deny { call, reason } => {
            waiting_call(seen, call)?;
            if reason.as_deref().is_some_and(|reason| reason.len() > MAX_TEXT) {
                return Err(CommandError::TooLong);
            }
            let (id, fields) = request(tx, "deny", call, given)?;
            put_word(tx, &fields, "reason", reason.as_deref().filter(|reason| !reason.trim().is_empty()))?;
            Some(id)
        }
        Command::Rename { name } => {
            let name = checked_name(name)?;
            let names = container(tx, "names", ObjType::Map)?;
            put_word(tx, &names, "user", Some(name))?;
            None
        }
        Command::Archive => {
            if session.archived_at.is_none() {
                put_int(tx, &ROOT, "archivedAt", given.at.0)?;
            }
            None
        }
        Command::Restore { position } => {
            if session.archived_at.is_some() {
                tx.delete(ROOT, "archivedAt")?;
                put_word(tx, &ROOT, "position", Some(position.as_str()).filter(|position| !position.is_empty()))?;
            }
            None
        }
    };
    Ok(Done { id })
}

/// Adds a message of a person; returns its id. Without a text it only hides, and wakes no queue.
fn write_message(
    tx: &mut Transaction<'_>,
    messages: &ObjId,
    text: Option<&str>,
    hides: &[String],
    over: Option<&[String]>,
    given: &Given<'_>,
) -> Result<String, AutomergeError> {
    let id = random_id();
    let message = tx.insert_object(messages, tx.length(messages), ObjType::Map)?;
    put_word(tx, &message, "id", Some(&id))?;
    put_word(tx, &message, "role", Some("user"))?;
    put_word(tx, &message, "author", Some(given.by))?;
    put_int(tx, &message, "createdAt", given.at.0)?;
    if !hides.is_empty() {
        put_texts(tx, &message, "hides", hides)?;
    }
    if let Some(over) = over {
        put_texts(tx, &message, "over", over)?;
    }
    let parts = tx.put_object(&message, "parts", ObjType::List)?;
    if let Some(text) = text {
        let part = tx.insert_object(&parts, 0, ObjType::Map)?;
        put_word(tx, &part, "type", Some("text"))?;
        put_texts(tx, &part, "chunks", &[text])?;
    }
    Ok(id)
}

/// Adds a request; returns its id, and the map for what is particular to its kind.
fn request(
    tx: &mut Transaction<'_>,
    kind: &str,
    target: &str,
    given: &Given<'_>,
) -> Result<(String, ObjId), AutomergeError> {
    let id = random_id();
    let requests = container(tx, "requests", ObjType::Map)?;
    let fields = tx.put_object(&requests, id.as_str(), ObjType::Map)?;
    put_word(tx, &fields, "id", Some(&id))?;
    put_word(tx, &fields, "kind", Some(kind))?;
    put_word(tx, &fields, "target", Some(target))?;
    put_word(tx, &fields, "by", Some(given.by))?;
    put_int(tx, &fields, "at", given.at.0)?;
    Ok((id, fields))
}

fn checked_text(text: &str) -> Result<&str, CommandError> {
    if text.trim().is_empty() {
        Err(CommandError::Empty)
    } else if text.len() > MAX_TEXT {
        Err(CommandError::TooLong)
    } else {
        Ok(text)
    }
}

fn checked_name(name: &str) -> Result<&str, CommandError> {
    let name = name.trim();
    if name.is_empty() {
        Err(CommandError::Empty)
    } else if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        Err(CommandError::BadName)
    } else {
        Ok(name)
    }
}

fn run_of<'a>(session: &'a Session, turn: &ShownTurn) -> Option<&'a Run> {
    session.runs.get(&turn.run)?.last()
}

fn front_turn(seen: &Conversation) -> Option<&ShownTurn> {
    seen.turns.iter().find(|turn| Some(&turn.run) == seen.front.as_ref())
}

fn front<'a>(session: &'a Session, seen: &Conversation) -> Option<&'a Run> {
    run_of(session, front_turn(seen)?)
}

/// The front run, if a person may go on with it: it is stopped or failed, or about to be, and no call of it waits.
fn stopped<'a>(session: &'a Session, seen: &Conversation) -> Result<&'a Run, CommandError> {
    let turn = front_turn(seen).ok_or(CommandError::NothingStopped)?;
    let run = run_of(session, turn).filter(|run| !run.inherited).ok_or(CommandError::NothingStopped)?;
    let pausing = turn.state == TurnState::Streaming && !seen.stops.is_empty();
    if !pausing && !matches!(turn.state, TurnState::Paused | TurnState::Failed | TurnState::Lost) {
        return Err(CommandError::NothingStopped);
    }
    let waits = calls(seen).any(|(id, _)| seen.stops.iter().any(|stop| stop == id));
    if waits { Err(CommandError::CallWaits) } else { Ok(run) }
}

/// What a retry names: the last answered message, and the attempt that follows the shown one.
fn again(session: &Session, seen: &Conversation, message: Option<&str>) -> Result<(String, u64), CommandError> {
    let turn = match message {
        None => seen.turns.last().ok_or(CommandError::NothingAnswered)?,
        Some(id) => {
            let unknown = || CommandError::Unknown { what: "message", id: id.to_owned() };
            let shown = seen.messages.iter().find(|shown| shown.id == id).ok_or_else(unknown)?;
            seen.turns.iter().find(|turn| Some(&turn.id) == shown.turn.as_ref()).ok_or_else(unknown)?
        }
    };
    let last = run_of(session, turn).and_then(|run| run.answers.last()).ok_or(CommandError::NothingAnswered)?;
    let before = attempt(&turn.id, last).ok_or(CommandError::NothingAnswered)?;
    Ok((last.clone(), before.saturating_add(1)))
}

/// Calls of the conversation: id and digest.
fn calls(seen: &Conversation) -> impl Iterator<Item = (&str, &str)> {
    let answers = seen.messages.iter().filter(|message| message.role == Role::Assistant);
    answers.flat_map(|message| &message.parts).filter_map(|part| match &part.content {
        Content::ToolCall { id, digest, .. } => Some((id.as_str(), digest.as_str())),
        _ => None,
    })
}

fn waiting_call<'a>(seen: &'a Conversation, call: &str) -> Result<&'a str, CommandError> {
    let known = calls(seen).filter(|(id, _)| *id == call).last();
    let (_, digest) = known.ok_or_else(|| CommandError::Unknown { what: "call", id: call.to_owned() })?;
    if seen.stops.iter().any(|stop| stop == call) { Ok(digest) } else { Err(CommandError::NotWaiting) }
}

/// The position after all of these (rule 17): ten digits, no fraction. What isn't of that shape is passed over.
pub fn position_after<'a>(positions: impl Iterator<Item = &'a str>) -> String {
    let whole = |position: &'a str| {
        let digits = position.get(..10)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten()
    };
    let highest = positions.filter_map(whole).max().unwrap_or(0);
    format!("{:010}", (highest + 1).min(9_999_999_999))
}

/// A session's id is its document's.
pub type SessionId = DocumentId;
