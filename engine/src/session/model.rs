//! A session document as plain data: the shapes of the design's "Documents", read by [`super::read`], never written
//! from here. Every piece carries the actors that wrote it, since who wrote it is part of every rule.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{ActorId, Epoch, Micros, Timestamp};
use crate::price::Rates;

/// `turn/epoch`: the key of a run in the document.
pub type RunKey = String;

/// A whole session document. Fields that are missing or of the wrong type are `None` or empty, and named in `faults`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    /// Version of the shape; this code writes 1.
    pub schema: i64,
    /// Whether `kind` says "session".
    pub is_session: bool,
    /// The person's name of it, if one was given.
    pub user_name: Option<String>,
    /// The worker's names of it: one, or several in conflict, the highest epoch last (rule 16).
    pub auto_names: Vec<AutoName>,
    /// Id of its agent in the workspace.
    pub agent: Option<String>,
    /// Its place in the order of all sessions (rule 17).
    pub position: Option<String>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// The member who created it.
    pub created_by: Option<String>,
    /// When it was archived, if it is.
    pub archived_at: Option<Timestamp>,
    /// When it was deleted, if it is.
    pub deleted_at: Option<Timestamp>,
    /// What made it, if not a person's "new session".
    pub origin: Option<Origin>,
    /// What all its runs may cost together.
    pub spend_limit: Option<Micros>,
    /// In list order.
    pub messages: Vec<Message>,
    /// All values of a key that has conflicting ones (rule 18 counts them all); the winner is last.
    pub runs: BTreeMap<RunKey, Vec<Run>>,
    /// By request id.
    pub requests: BTreeMap<String, Request>,
    /// The actor of the document's first operation: inherited runs count only when they are its own.
    pub maker: Option<ActorId>,
    /// What could not be read, in words ("messages[3].role is not a string").
    pub faults: Vec<String>,
}

/// The title that a worker gave; the highest epoch counts (rule 16).
#[derive(Clone, Debug, PartialEq)]
pub struct AutoName {
    /// The title.
    pub title: String,
    /// Of the naming run.
    pub epoch: Epoch,
    /// Everyone who wrote any of it.
    pub by: Vec<ActorId>,
}

/// What made a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Origin {
    /// A run of a task.
    Task {
        /// The task's id in the workspace.
        task: String,
        /// Which of its runs.
        run: String,
    },
    /// A copy of another session up to a message.
    Duplicate {
        /// The parent.
        session: String,
        /// Its last message in the copy.
        message: String,
    },
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A person.
    User,
    /// The agent.
    Assistant,
}

/// One message. An assistant's belongs to a run (`turn`, `epoch`).
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// 22 letters, or whatever a foreign client wrote.
    pub id: String,
    /// Who speaks.
    pub role: Role,
    /// The member or the agent.
    pub author: Option<String>,
    /// When, by its author's clock. Shown, never ordered by.
    pub created_at: Option<Timestamp>,
    /// The turn it belongs to (assistant).
    pub turn: Option<String>,
    /// The claim that wrote it (assistant).
    pub epoch: Option<Epoch>,
    /// Messages that it hides (rule 1).
    pub hides: Vec<String>,
    /// The stops that its author saw (rule 4); `None` counts as naming them all.
    pub over: Option<Vec<String>>,
    /// The action that it came from.
    pub action: Option<String>,
    /// What it says.
    pub parts: Vec<Part>,
    /// Everyone who wrote any of it.
    pub by: Vec<ActorId>,
}

/// A piece of a message, with what must go back unchanged to its provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// What must go back to the provider that sent it, and to no other.
    pub provider: Option<ProviderData>,
}

/// Opaque data of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderData {
    /// The provider's kind: `openai`, `anthropic`, ….
    pub kind: String,
    /// JSON text, as it came.
    pub data: String,
}

/// What a part is. Unknown types survive in the document and show as `Unknown`.
#[derive(Clone, Debug, PartialEq)]
pub enum PartKind {
    /// Words; the chunks joined.
    Text(String),
    /// The model's reasoning; the chunks joined.
    Thinking(String),
    /// A call of a tool.
    ToolCall(ToolCall),
    /// What a call gave.
    ToolResult {
        /// The call's id (ours).
        call: String,
        /// What the model reads.
        content: String,
        /// Whether it is a failure.
        is_error: bool,
        /// Where the whole of it is, if it was too large (SHA-256, hex).
        blob: Option<String>,
    },
    /// A provider's own block (server-side search, compaction).
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
        /// A short word of ours: `key`, `quota`, `network`, ….
        code: String,
        /// One sentence.
        message: String,
        /// Whether trying again may help.
        retryable: bool,
    },
    /// Something that happened (worker lost, decision).
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

/// A call of a tool. A later epoch adds a part of the same id without input; readers show one (rule 14).
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// Ours, random.
    pub id: String,
    /// The provider's, for sending back.
    pub provider_id: Option<String>,
    /// The tool.
    pub name: String,
    /// JSON text; `None` while it streams, or in a later part of the same call.
    pub input: Option<String>,
    /// How far it is.
    pub state: CallState,
}

/// How far a tool call is, as stored. Done or failed once its result stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Its input streams.
    Preparing,
    /// It waits for a person.
    Waiting,
    /// It was marked before it ran.
    Running,
    /// A person said no.
    Denied,
    /// Stopped, or overtaken by a new turn.
    Cancelled,
    /// Its input never was whole.
    Cut,
    /// It was running when its worker died: it may have happened.
    InDoubt,
}

/// One claim of a turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The last answered message's id, plus `.N` for its N-th retry; `name` or `name.REQUEST` for naming.
    pub turn: String,
    /// One claim, one epoch.
    pub epoch: Epoch,
    /// Where its text stands (rule 6).
    pub place: Epoch,
    /// The messages it answers.
    pub answers: Vec<String>,
    /// Where it goes on, if it goes on.
    pub continues: Option<Continues>,
    /// The request that asked for it.
    pub request: Option<String>,
    /// Copied with a duplicate: shown, not counted.
    pub inherited: bool,
    /// The agent's id.
    pub agent: Option<String>,
    /// Model, without the provider's name.
    pub model: Option<String>,
    /// The provider's name in `skein.toml`.
    pub provider: Option<String>,
    /// Instructions and tool definitions, a blob (SHA-256, hex).
    pub preamble: Option<String>,
    /// The worker's peer id.
    pub worker: Option<String>,
    /// As the worker left it.
    pub state: RunState,
    /// By the worker's clock.
    pub started_at: Option<Timestamp>,
    /// By the worker's clock.
    pub ended_at: Option<Timestamp>,
    /// What it used, in disjoint classes.
    pub usage: Usage,
    /// What it cost.
    pub cost: Cost,
    /// The rates that were applied.
    pub prices: Option<Rates>,
    /// Tokens of its last request and of what answered it: what going on sends again.
    pub context: Option<u64>,
    /// Until when the provider's cache of that is said to live.
    pub cached_until: Option<Timestamp>,
    /// Why the model stopped, as a class of ours: `end`, `length`, `approval`, `limit`, `pause`, ….
    pub stop_reason: Option<String>,
    /// Why it failed.
    pub error: Option<RunError>,
    /// Everyone who wrote any of it.
    pub by: Vec<ActorId>,
}

impl Run {
    /// A run that has just begun at its own place, and says nothing more.
    pub fn new(turn: impl Into<String>, epoch: Epoch, answers: Vec<String>) -> Self {
        Self {
            turn: turn.into(),
            epoch,
            place: epoch,
            answers,
            continues: None,
            request: None,
            inherited: false,
            agent: None,
            model: None,
            provider: None,
            preamble: None,
            worker: None,
            state: RunState::Streaming,
            started_at: None,
            ended_at: None,
            usage: Usage::default(),
            cost: Cost::default(),
            prices: None,
            context: None,
            cached_until: None,
            stop_reason: None,
            error: None,
            by: Vec::new(),
        }
    }

    /// `turn/epoch`.
    pub fn key(&self) -> RunKey {
        format!("{}/{}", self.turn, self.epoch.0)
    }

    /// `PROVIDER/MODEL`, if both are known, else what is.
    pub fn full_model(&self) -> Option<String> {
        match (&self.provider, &self.model) {
            (Some(provider), Some(model)) => Some(format!("{provider}/{model}")),
            (_, model) => model.clone(),
        }
    }
}

/// The end of the text that a run goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continues {
    /// The message.
    pub message: String,
    /// Index of its part.
    pub part: u64,
    /// UTF-8 bytes of that part.
    pub bytes: u64,
}

/// A run's state, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Under way, if its lease lives.
    Streaming,
    /// Stopped by a person, a limit, or for approval.
    Paused,
    /// Done.
    Completed,
    /// Ended badly.
    Failed,
}

/// Tokens by class. The classes are disjoint: cost = Σ count × rate + fees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Read, not from the cache.
    pub input: u64,
    /// Written, without reasoning.
    pub output: u64,
    /// Reasoning.
    pub reasoning: u64,
    /// Read from the cache.
    pub cache_read: u64,
    /// Written to the short-lived cache.
    pub cache_write: u64,
    /// Written to the long-lived cache.
    pub cache_write_long: u64,
}

impl Usage {
    /// Tokens of all classes.
    pub fn total(&self) -> u64 {
        let classes =
            [self.input, self.output, self.reasoning, self.cache_read, self.cache_write, self.cache_write_long];
        classes.into_iter().fold(0, u64::saturating_add)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
        self.cache_write_long = self.cache_write_long.saturating_add(other.cache_write_long);
    }
}

/// What a run cost. Unknown is `None`, never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Millionths of a dollar.
    pub micros: Option<Micros>,
    /// Counted by us rather than by the provider.
    pub estimated: bool,
    /// What the provider says it cost.
    pub reported: bool,
    /// Something of usage or cost stands there and can't be read: without `micros` the cost is unknown, whatever the
    /// tokens say.
    pub unreadable: bool,
}

impl Cost {
    /// Whether this is all that is known, and more may be owed. A run that used nothing owes nothing.
    pub fn is_unknown(&self, usage: &Usage) -> bool {
        self.micros.is_none() && (self.unreadable || usage.total() > 0)
    }
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct RunError {
    /// A short word of ours.
    pub code: String,
    /// One sentence, the cause first.
    pub message: String,
    /// Whether `retry` may help.
    pub retryable: bool,
}

/// What people ask of the worker. Grow-only; each names its target, so that a late one can't hit a later turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// 22 letters.
    pub id: String,
    /// What is asked.
    pub kind: RequestKind,
    /// The member who asks.
    pub author: Option<String>,
    /// When, by the author's clock.
    pub at: Option<Timestamp>,
    /// Everyone who wrote any of it.
    pub by: Vec<ActorId>,
}

/// The kinds of request. `target` is a run's key, a call's id or a message's id.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestKind {
    /// Stops a streaming run (rule 10).
    Pause {
        /// The run's key.
        target: RunKey,
    },
    /// Goes on with a stopped run (rule 10).
    Continue {
        /// The run's key.
        target: RunKey,
        /// The stops that its author saw.
        over: Vec<String>,
    },
    /// Ends a run at the next tool call (rule 12).
    Steer {
        /// The run's key.
        target: RunKey,
    },
    /// Answers again (rule 11).
    Retry {
        /// The last answered message's id.
        target: String,
        /// Which attempt is asked for, from 1.
        n: u64,
    },
    /// Lets a call run (rule 14).
    Approve {
        /// The call's id.
        target: String,
        /// SHA-256 (hex) of the tool's name, a line feed, and the input's JSON text.
        digest: String,
        /// Also later calls of the same tool in this session.
        for_session: bool,
    },
    /// Refuses a call.
    Deny {
        /// The call's id.
        target: String,
        /// Told to the model.
        reason: Option<String>,
    },
    /// Asks for a new automatic title (rule 16).
    SmartRename {
        /// The title it had.
        title: Option<String>,
    },
    /// Leaves a part out of what models are sent.
    Omit {
        /// The message.
        message: String,
        /// Index of its part.
        part: u64,
    },
    /// A kind that this version doesn't know.
    Unknown {
        /// Its `kind`.
        name: String,
    },
}
