//! What a person does to a session. Each command is total and safe offline: it writes the smallest possible change, or
//! says in one sentence why it can't.

use automerge::transaction::Transaction;
use serde::{Deserialize, Serialize};

use super::conversation::Conversation;
use super::model::Session;
use crate::ids::{DocumentId, Timestamp};

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

/// Checks a new session, and writes the whole document in one change: all shared containers, and the first message.
pub fn create(_tx: &mut Transaction<'_>, _new: &NewSession, _given: &Given<'_>) -> Result<(), CommandError> {
    unimplemented!()
}

/// What a command left behind, for the caller to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Done {
    /// The new message's or request's id.
    pub id: Option<String>,
}

/// Checks a command against what its author sees, and writes it.
pub fn apply(
    _tx: &mut Transaction<'_>,
    _session: &Session,
    _seen: &Conversation,
    _command: &Command,
    _given: &Given<'_>,
) -> Result<Done, CommandError> {
    unimplemented!()
}

/// Why an id or position isn't needed here: the position after all of these (rule 17): ten digits, no fraction.
pub fn position_after<'a>(_positions: impl Iterator<Item = &'a str>) -> String {
    unimplemented!()
}

/// A session's id is its document's.
pub type SessionId = DocumentId;
