//! What lists read of a session, derived by the projector and by every device the same way.

use serde::{Deserialize, Serialize};

use super::conversation::{Content, Conversation, Reason, Status, Waiting};
use super::model::{Origin, RunState, Session};
use super::rules::{Rule, off};
use super::strand;
use super::work::{Work, WorkKind};
use crate::ids::{DocumentId, Micros, Timestamp, compact_id};

/// One row of a list. Its JSON is the command line's contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The session.
    #[serde(with = "compact_id")]
    #[cfg_attr(feature = "ts", ts(as = "DocumentId"))]
    pub id: DocumentId,
    /// Its title.
    pub name: String,
    /// Who gave it.
    pub name_source: NameSource,
    /// Rule 15, `ARCHIVED` over all of them.
    pub status: Status,
    /// The status under an archived one.
    pub beneath: Option<Status>,
    /// Of paused or failed.
    pub reason: Option<Reason>,
    /// What waits.
    pub queued: Queued,
    /// The agent's id.
    pub agent: Option<String>,
    /// `None` = unknown.
    pub cost_micros: Option<Micros>,
    /// Any of it is an estimate.
    pub estimated: bool,
    /// Streaming time.
    pub duration_ms: u64,
    /// By its creator's clock.
    pub created_at: Option<Timestamp>,
    /// Of the last message, run or request; never in the future.
    pub updated_at: Option<Timestamp>,
    /// If it is.
    pub archived_at: Option<Timestamp>,
    /// If it is.
    pub deleted_at: Option<Timestamp>,
    /// Its place in the order: its own in the relay's rows, the member's in what a device lists.
    pub position: Option<String>,
    /// Whether the member has pinned it; false in the relay's rows.
    #[serde(default)]
    pub pinned: bool,
    /// The task that made it.
    pub task: Option<String>,
    /// The session that it is a copy of.
    #[serde(default)]
    pub duplicate_of: Option<String>,
    /// How far the session has come: messages in the document and runs that have ended. It only grows, whatever is
    /// merged, so that "read up to" is a number as well.
    #[serde(default)]
    pub progress: u64,
    /// Whether it has come further than the member has read; false in the relay's rows.
    #[serde(default)]
    pub unread: bool,
    /// Two lines of the last message (at most 200 characters).
    pub preview: String,
    /// The session's shape: at most 24 letters of `kbtxda`, newest last.
    pub strand: String,
    /// What is due for a worker (rule 13), or `None`.
    pub work: Option<Due>,
}

/// Who gave a title.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum NameSource {
    /// Nobody.
    Default,
    /// A worker.
    Auto,
    /// A person.
    User,
}

/// What waits for a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Queued {
    /// How many messages.
    pub count: u32,
    /// They don't start by themselves.
    pub held: bool,
    /// Why not.
    pub reason: Option<Waiting>,
}

/// What is due, for the catalog: a worker opens sessions where this is set and that it can serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Due {
    /// `retry`, `continue`, `takeover`, `close`, `decide`, `queue`, `name`.
    pub kind: String,
    /// `PROVIDER/MODEL` that it needs; `None`: the worker's own choice.
    pub model: Option<String>,
}

/// What a session is called before anyone has named it.
const DEFAULT_NAME: &str = "New session";
/// Characters of a preview.
const PREVIEW: usize = 200;

/// The row of this session. `session` and `conversation` are of the same document.
pub fn summary(id: DocumentId, session: &Session, conversation: &Conversation, now: Timestamp) -> Summary {
    let (name, name_source) = match (&session.user_name, &conversation.auto_title) {
        (_, Some(name)) if off(Rule::UserTitle) => (name.clone(), NameSource::Auto),
        (Some(name), _) => (name.clone(), NameSource::User),
        (None, Some(name)) => (name.clone(), NameSource::Auto),
        (None, None) => (DEFAULT_NAME.to_owned(), NameSource::Default),
    };
    let archived = session.archived_at.is_some() && !off(Rule::Archived);
    let totals = &conversation.totals;
    Summary {
        id,
        name,
        name_source,
        status: if archived { Status::Archived } else { conversation.status },
        beneath: archived.then_some(conversation.status),
        reason: conversation.reason.clone(),
        queued: queued(conversation),
        agent: session.agent.clone(),
        cost_micros: (!totals.incomplete).then_some(totals.cost_micros),
        estimated: totals.estimated,
        duration_ms: totals.duration_ms,
        created_at: session.created_at,
        updated_at: updated_at(session).map(|at| at.min(now)),
        archived_at: session.archived_at,
        deleted_at: session.deleted_at,
        position: session.position.clone(),
        pinned: false,
        task: match &session.origin {
            Some(Origin::Task { task, .. }) => Some(task.clone()),
            _ => None,
        },
        duplicate_of: match &session.origin {
            Some(Origin::Duplicate { session, .. }) => Some(session.clone()),
            _ => None,
        },
        progress: progress(session),
        unread: false,
        preview: preview(conversation),
        strand: strand::strand(conversation),
        work: conversation.work.as_ref().map(due),
    }
}

fn queued(conversation: &Conversation) -> Queued {
    let held = [Waiting::HeldByPause, Waiting::HeldByApproval, Waiting::HeldByFailure];
    Queued {
        count: u32::try_from(conversation.queued.len()).unwrap_or(u32::MAX),
        held: conversation.waiting.is_some_and(|waiting| held.contains(&waiting)),
        reason: conversation.waiting,
    }
}

/// See [`Summary::progress`]. Hidden messages and runs that take no part count too: what is taken away in the reading
/// would make it shrink.
fn progress(session: &Session) -> u64 {
    let ended = session.runs.values().flatten().filter(|run| run.state != RunState::Streaming).count();
    (session.messages.len() + ended) as u64
}

/// The latest that any clock wrote: messages, runs, requests, or the creation.
fn updated_at(session: &Session) -> Option<Timestamp> {
    let messages = session.messages.iter().map(|message| message.created_at);
    let runs = session.runs.values().flatten().flat_map(|run| [run.started_at, run.ended_at]);
    let requests = session.requests.values().map(|request| request.at);
    messages.chain(runs).chain(requests).flatten().chain(session.created_at).max()
}

/// The beginning of the last message that has words, its white space squeezed.
fn preview(conversation: &Conversation) -> String {
    let newest_first = conversation.queued.iter().rev().chain(conversation.messages.iter().rev());
    let words = newest_first.flat_map(|message| {
        let texts = message.parts.iter().filter_map(|part| match &part.content {
            Content::Text { text } => Some(text.as_str()),
            _ => None,
        });
        texts.filter(|text| !text.trim().is_empty())
    });
    words.map(squeeze).next().unwrap_or_default()
}

fn squeeze(text: &str) -> String {
    let mut squeezed = String::new();
    let mut count = 0;
    for word in text.split_whitespace() {
        if count > 0 {
            squeezed.push(' ');
            count += 1;
        }
        for letter in word.chars() {
            if count >= PREVIEW {
                return squeezed.trim_end().to_owned();
            }
            squeezed.push(letter);
            count += 1;
        }
    }
    squeezed
}

fn due(work: &Work) -> Due {
    let kind = match work.kind {
        WorkKind::Retry => "retry",
        WorkKind::Continue => "continue",
        WorkKind::TakeOver | WorkKind::GiveUp => "takeover",
        WorkKind::Close => "close",
        WorkKind::Decide => "decide",
        WorkKind::Queue => "queue",
        WorkKind::Name => "name",
    };
    Due { kind: kind.to_owned(), model: work.model.clone() }
}
