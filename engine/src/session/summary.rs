//! What lists read of a session, derived by the projector and by every device the same way.

use serde::{Deserialize, Serialize};

use super::conversation::{Conversation, Reason, Status, Waiting};
use super::model::Session;
use crate::ids::{DocumentId, Micros, Timestamp};

/// One row of a list. Its JSON is the command line's contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The session.
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
    /// As the caller sees it.
    pub position: Option<String>,
    /// The task that made it.
    pub task: Option<String>,
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

/// The row of this session. `session` and `conversation` are of the same document.
pub fn summary(_id: DocumentId, _session: &Session, _conversation: &Conversation, _now: Timestamp) -> Summary {
    unimplemented!()
}
