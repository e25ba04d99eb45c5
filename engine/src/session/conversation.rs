//! `conversation()`: one pure function that screens and prompts both use (rules 1–6, 9–15), and the plain data that it
//! gives.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::model::{CallState, ProviderData, Role, RunError, RunKey, Session, Usage};
use super::outline::Outline;
use super::resume::Resume;
use super::shown;
pub use super::text::call_digest;
use super::work::{MustEnd, Work};
use crate::ids::{ActorId, Epoch, Micros, Principal, Timestamp};

/// What is known of a session's lease, from its catalog row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// The epoch of the claim that lives, if one does.
    pub live: Option<Epoch>,
    /// How many workers are connected that could serve; `None` while there is no link to the relay.
    pub workers: Option<u32>,
}

/// Who an actor is, as of its first change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Writer {
    /// The member or the worker's token.
    pub principal: Principal,
    /// What kind of token it used.
    pub kind: WriterKind,
    /// The member's role.
    pub role: MemberRole,
}

/// What kind of token brought a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriterKind {
    /// A person's device.
    Member,
    /// A worker: the only kind whose runs, answers and usage count.
    Worker,
    /// A third-party tool, acting for a member.
    Tool,
    /// The relay itself.
    Relay,
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// Everything.
    Owner,
    /// Everything but members and tokens.
    Member,
    /// Reads.
    Viewer,
}

/// The table of writers for one document: actor → who that is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Writers {
    /// Rows that the relay sent.
    pub rows: BTreeMap<ActorId, Writer>,
    /// This engine's own actors, which are its member's (or its worker's) before the relay has said so.
    pub own: BTreeMap<ActorId, Writer>,
}

impl Writers {
    /// Who an actor is; `None` while nobody has said so.
    pub fn get(&self, actor: &ActorId) -> Option<&Writer> {
        self.rows.get(actor).or_else(|| self.own.get(actor))
    }
}

/// Everything that screens, prompts and summaries read of a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    /// Visible messages in order (rule 5), without the queued ones.
    pub messages: Vec<ShownMessage>,
    /// Visible messages that no shown run answers (rule 4), in list order.
    pub queued: Vec<ShownMessage>,
    /// Why what is due hasn't started: the queue, a lost turn, a continue, a retry or a decision. `None` if nothing is
    /// due but a title. So it can be set while `queued` is empty.
    pub waiting: Option<Waiting>,
    /// One entry a shown turn, by place.
    pub turns: Vec<ShownTurn>,
    /// The front run's key (rule 3).
    pub front: Option<RunKey>,
    /// What a message or `continue` must have seen to go on (rule 4).
    pub stops: Vec<String>,
    /// Rule 15, without the archive over it.
    pub status: Status,
    /// Of a paused or failed status: in words, by whom, or what waits.
    pub reason: Option<Reason>,
    /// Sums over all runs, shown or not (rule 18).
    pub totals: Totals,
    /// What going on will cost; `None` while nothing was asked.
    pub resume: Option<Resume>,
    /// What of the document can't be read, or is a newer version's, in words for people: that much may be missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "ts", ts(optional, as = "Option<_>"))]
    pub faults: Vec<String>,
    /// The title that a worker gave, if one counts (rule 16). A person's own goes before it.
    #[serde(skip)]
    pub auto_title: Option<String>,
    /// What people decided of the front run's calls that asked and haven't gone on since, by call.
    #[serde(skip)]
    pub decisions: BTreeMap<String, Decision>,
    /// Tools of which a person approved a call of this session: where the policy is `once`, they don't ask again.
    #[serde(skip)]
    pub allowed_tools: BTreeSet<String>,
    /// What is due for a worker (rule 13), as [`super::work::work`] gives it.
    #[serde(skip)]
    pub work: Option<Work>,
}

/// A person's answer to a call that asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// It may run.
    Approved {
        /// The request.
        request: String,
        /// Later calls of the same tool too.
        for_session: bool,
    },
    /// It must not.
    Denied {
        /// The request.
        request: String,
        /// Told to the model.
        reason: Option<String>,
    },
}

/// Rule 15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Nothing is under way.
    #[default]
    Active,
    /// A run whose lease lives.
    Streaming,
    /// Stopped by a person, for approval, or by a limit.
    Paused,
    /// The front run failed.
    Failed,
    /// Archived; the status beneath stands beside it.
    Archived,
}

/// Why a session is paused or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Reason {
    /// A person paused it.
    Person {
        /// The member.
        by: String,
        /// When.
        at: Option<Timestamp>,
    },
    /// Calls wait for a person.
    Approval {
        /// Their ids.
        calls: Vec<String>,
    },
    /// A spend limit.
    Limit {
        /// In words.
        message: String,
    },
    /// It failed.
    Failed {
        /// Why.
        error: RunError,
    },
}

/// Why the queue doesn't start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum Waiting {
    /// Held: the front run is paused and no queued message has seen every stop.
    HeldByPause,
    /// Held: calls wait for a person.
    HeldByApproval,
    /// Held: the front run failed.
    HeldByFailure,
    /// Held by a spend limit.
    HeldByLimit,
    /// A turn is streaming.
    BehindTurn,
    /// The worker of the turn was lost; it will be taken up again.
    WorkerLost,
    /// No worker is connected.
    NoWorker,
    /// No link to the relay.
    Offline,
    /// A worker should claim it at any moment.
    Due,
}

/// A message as shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct ShownMessage {
    /// Its id.
    pub id: String,
    /// Who speaks.
    pub role: Role,
    /// The member, or the agent's id.
    pub author: Option<String>,
    /// By its author's clock.
    pub created_at: Option<Timestamp>,
    /// The turn it belongs to (an assistant's), or that answers it (a person's); `None` if queued.
    pub turn: Option<String>,
    /// The claim that wrote it (an assistant's).
    pub epoch: Option<Epoch>,
    /// Written by an actor whom nobody vouches for: shown as unverified, never acted on.
    pub unverified: bool,
    /// Its parts, in order. Indexes are those of the document, as [`ShownPart::index`] says.
    pub parts: Vec<ShownPart>,
}

/// A part as shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct ShownPart {
    /// Its index in the document's message: what `tail` and `omit` name.
    pub index: u64,
    /// What it is.
    #[serde(flatten)]
    pub content: Content,
    /// Left out of what models are sent, by a person's `omit`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "ts", ts(optional, as = "Option<bool>"))]
    pub omitted: bool,
    /// For the provider's eyes only; not part of what is printed.
    #[serde(skip)]
    pub provider: Option<ProviderData>,
}

/// What a shown part is; in JSON its `type` is the document's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Content {
    /// Words.
    Text {
        /// The chunks joined.
        text: String,
    },
    /// Reasoning.
    Thinking {
        /// The chunks joined.
        text: String,
    },
    /// A tool call, once, with its state of now.
    ToolCall {
        /// Ours.
        id: String,
        /// The provider's.
        provider_id: Option<String>,
        /// The tool.
        name: String,
        /// JSON text; empty while it streams.
        input: String,
        /// How far.
        state: ShownCallState,
        /// What an approval must name.
        digest: String,
    },
    /// What a call gave.
    ToolResult {
        /// The call.
        call_id: String,
        /// What the model reads.
        content: String,
        /// A failure.
        is_error: bool,
        /// The whole of it.
        blob: Option<String>,
    },
    /// A provider's own block.
    Other {
        /// In words.
        summary: String,
    },
    /// A file.
    Attachment {
        /// SHA-256, hex.
        blob: String,
        /// MIME type.
        mime: String,
        /// File name.
        name: String,
        /// Bytes.
        size: u64,
    },
    /// Why the turn ended badly.
    Error {
        /// A short word.
        code: String,
        /// One sentence.
        message: String,
        /// Whether trying again may help.
        retryable: bool,
    },
    /// Something that happened.
    Event {
        /// In words.
        summary: String,
    },
    /// A type that this version doesn't know.
    Unknown {
        /// Its `type`.
        name: String,
    },
}

/// How far a call is, as shown: the stored states, and done or failed once its result stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum ShownCallState {
    /// As stored.
    Preparing,
    /// As stored.
    Waiting,
    /// As stored.
    Running,
    /// As stored.
    Denied,
    /// As stored, or overtaken by a new turn.
    Cancelled,
    /// As stored.
    Cut,
    /// As stored, or running under a dead lease.
    InDoubt,
    /// Its result stands.
    Done,
    /// Its result stands and is an error.
    Failed,
}

impl From<CallState> for ShownCallState {
    fn from(state: CallState) -> Self {
        match state {
            CallState::Preparing => Self::Preparing,
            CallState::Waiting => Self::Waiting,
            CallState::Running => Self::Running,
            CallState::Denied => Self::Denied,
            CallState::Cancelled => Self::Cancelled,
            CallState::Cut => Self::Cut,
            CallState::InDoubt => Self::InDoubt,
        }
    }
}

/// A turn as shown: its runs summed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct ShownTurn {
    /// The turn's id.
    pub id: String,
    /// Key of its shown run.
    pub run: RunKey,
    /// `streaming`, `paused`, `completed` or `failed`; `lost` while a streaming run's lease is dead.
    pub state: TurnState,
    /// A class of ours.
    pub stop_reason: Option<String>,
    /// The agent's id.
    pub agent: Option<String>,
    /// `PROVIDER/MODEL`.
    pub model: Option<String>,
    /// Sum over the turn's runs.
    pub usage: Usage,
    /// Sum over the turn's runs; `None` = unknown.
    pub cost_micros: Option<Micros>,
    /// Whether any of it is an estimate.
    pub estimated: bool,
    /// Why it failed.
    pub error: Option<RunError>,
    /// Of its first run.
    pub started_at: Option<Timestamp>,
    /// Of its shown run.
    pub ended_at: Option<Timestamp>,
    /// Of its shown run.
    pub inherited: bool,
    /// Why its worker must end it, while it streams (rule 13).
    #[serde(skip)]
    pub must_end: Option<MustEnd>,
}

/// See [`ShownTurn::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum TurnState {
    /// Its lease lives.
    Streaming,
    /// Stopped.
    Paused,
    /// Done.
    Completed,
    /// Ended badly.
    Failed,
    /// Streaming, but its lease is dead.
    Lost,
}

/// Rule 18.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// By class.
    pub usage: Usage,
    /// What is known.
    pub cost_micros: Micros,
    /// Some run's cost is unknown.
    pub incomplete: bool,
    /// Some run's cost is an estimate.
    pub estimated: bool,
    /// Streaming time of all runs, in milliseconds.
    pub duration_ms: u64,
}

/// What differs in a conversation from what it was before, so that a view changes that and no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Everything may: nothing of before is known.
    pub all: bool,
    /// Visible or queued messages that are new or not what they were, by id.
    pub messages: BTreeSet<String>,
    /// Which messages are visible or queued, or their order.
    pub order: bool,
    /// Turns that are new or not what they were, by id.
    pub turns: BTreeSet<String>,
    /// Anything else.
    pub head: bool,
}

impl Difference {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Also what differed after that.
    pub fn add(&mut self, later: Self) {
        if self.all {
            return;
        }
        self.all |= later.all;
        self.messages.extend(later.messages);
        self.order |= later.order;
        self.turns.extend(later.turns);
        self.head |= later.head;
    }

    /// Replaces some messages.
    pub(super) fn replace(&mut self, all: &mut Vec<ShownMessage>, range: Range<usize>, fresh: Vec<ShownMessage>) {
        let known = &all[range.clone()];
        for (n, message) in fresh.iter().enumerate() {
            if known.get(n) != Some(message) {
                self.messages.insert(message.id.clone());
            }
        }
        self.order |= !fresh.iter().map(|m| &m.id).eq(known.iter().map(|m| &m.id));
        all.splice(range, fresh);
    }

    /// Drops all messages from `at` on.
    pub(super) fn cut(&mut self, all: &mut Vec<ShownMessage>, at: usize) {
        self.order |= all.len() > at;
        all.truncate(at);
    }
}

/// The conversation that this document, these leases and these writers make. Linear in the document's size.
pub fn conversation(session: &Session, leases: &Leases, writers: &Writers, now: Timestamp) -> Conversation {
    shown::conversation(&Outline::new(session, leases, writers), writers, now)
}
