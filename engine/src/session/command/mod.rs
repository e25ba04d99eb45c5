//! What a person does to a session. Each command is total and safe offline: it writes the smallest possible change, or
//! says in one sentence why it can't.
//!
//! In order of reading: the commands and their errors here, [`apply`], which checks each against what its author sees;
//! [`create`], how a session begins; `check`, what a name and a text may be; `seen`, what a command may name; `shape`,
//! how messages and requests are written.

mod apply;
mod check;
mod create;
mod seen;
pub(in crate::session) mod shape;

use automerge::AutomergeError;
use serde::{Deserialize, Serialize};

use crate::ids::{DocumentId, Micros, Timestamp};

pub use self::apply::apply;
pub use self::check::alone as check_alone;
pub(crate) use self::check::name as checked_name;
pub use self::create::{NewSession, create};
pub use crate::position::position_after;

/// A command on an existing session. (Creating one is [`create`]; copying one is [`super::duplicate`].)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Command {
    /// Adds a message of a person.
    Send(Draft),
    /// Says something else instead: a new message that hides this one and, if it was answered, all that its author sees
    /// after it. One that still waits keeps its place in the queue. With the same text it is "send now" of a held
    /// message, and "retry from here" of an answered one.
    Edit {
        /// The person's message, visible or queued.
        message: String,
        /// The new words. May be empty if an attachment stays.
        text: String,
        /// Which of its attachments go, counted from 0 in their order; the others stay.
        #[serde(default)]
        detach: Vec<u64>,
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
    /// Ends the streaming run at its next tool call, as completed; the queue is next (rule 12).
    Steer {
        /// The queued message that is to be read then.
        message: String,
    },
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
    /// Gives up the person's own name and asks the agent for another (rule 16).
    SmartRename,
    /// Lets another agent answer from the next turn on; what was said stays.
    SetAgent {
        /// Its id in the workspace.
        agent: String,
    },
    /// Leaves a part out of what models are sent: the way out when a provider refuses a picture.
    Omit {
        /// The message.
        message: String,
        /// Index of its part in the document ([`ShownPart::index`](super::conversation::ShownPart::index)).
        part: u64,
    },
    /// What all runs of the session may cost together; a raised limit starts nothing.
    SetSpendLimit {
        /// At least 1; `None`: no limit.
        micros: Option<Micros>,
    },
    /// Takes it out of the lists; it still answers.
    Archive,
    /// Back from the archive, at the end of the order.
    Restore {
        /// 1 + the highest whole number of all positions known (rule 17).
        position: String,
    },
    /// Deletes it, until it is undone or purged: it starts nothing, and what runs is stopped.
    Delete,
    /// Undoes [`Command::Delete`].
    Undelete,
}

impl Command {
    /// Sends words, over what their author sees.
    pub fn send(text: impl Into<String>) -> Self {
        Self::Send(Draft { text: text.into(), ..Draft::default() })
    }

    /// Sends words that wait behind a call (an empty `over`, rule 4).
    pub fn queue(text: impl Into<String>) -> Self {
        Self::Send(Draft { text: text.into(), queue: true, ..Draft::default() })
    }
}

/// A message to be sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(optional_fields = nullable))]
#[serde(rename_all = "camelCase", default)]
pub struct Draft {
    /// Its words, at most 1 MiB. May be empty if there are attachments.
    pub text: String,
    /// Queue it behind a waiting call instead of answering the call with it (an empty `over`, rule 4).
    pub queue: bool,
    /// Files, whose content is in blobs; at most 100.
    pub attachments: Option<Vec<Attachment>>,
    /// Id of the action that the words come from.
    pub action: Option<String>,
}

/// A file of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Attachment {
    /// SHA-256 of the content, 64 lower-case hex digits.
    pub blob: String,
    /// MIME type.
    pub mime: String,
    /// File name: 1 to 200 characters, no control characters.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// Why a command can't be done: one sentence for the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The text or name is empty.
    #[error("there is nothing in it: write at least one character")]
    Empty,
    /// A name that is too long or has control characters.
    #[error("a name has 1 to 200 characters, some of them visible, and no line breaks or control characters")]
    BadName,
    /// A text above 1 MiB.
    #[error("the message is too long: at most 1 MiB")]
    TooLong,
    /// More than 100 files, or one whose blob is no SHA-256.
    #[error("attachments are at most 100 files, each named by the SHA-256 of its content")]
    BadAttachment,
    /// No such message, call, part, agent or session.
    #[error("there is no {what} \"{id}\" in this session")]
    Unknown {
        /// "message", "call", "part", "attachment".
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
    /// Only what a person wrote can be written anew.
    #[error("an answer can't be edited: edit the message before it, or retry")]
    NotAPersons,
    /// A limit of nothing.
    #[error("a spend limit is at least a millionth of a dollar; without a limit say none")]
    BadLimit,
    /// A part of a message that isn't sent to models as such.
    #[error("this part can't be left out: only attachments and tool results can")]
    NotOmittable,
    /// The document is no session, or of a shape that can't be written to.
    #[error("this document is no session")]
    NotASession,
    /// The engine itself refused.
    #[error("the document refused the change: {0}")]
    Document(String),
}

/// Who gives a command, and when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// The member's id.
    pub by: &'a str,
    /// By the member's clock.
    pub at: Timestamp,
    /// The id of the message or request that the command makes; `None`: a new one.
    pub id: Option<&'a str>,
}

/// What a command left behind, for the caller to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Done {
    /// The new message's or request's id.
    pub id: Option<String>,
}

impl From<AutomergeError> for CommandError {
    fn from(error: AutomergeError) -> Self {
        Self::Document(error.to_string())
    }
}

/// A session's id is its document's.
pub type SessionId = DocumentId;
