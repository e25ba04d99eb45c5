//! A session's document: names, messages by parts, runs, requests by kind. Written by `session::write` and
//! `session::command`, read by `session::read`.

use std::collections::BTreeMap;

use schemars::JsonSchema;

/// A session: what people and workers said in it, and what that cost. `docs/session-rules.md` says how messages and
/// runs of many writers make one conversation.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Version of these shapes: 1. A newer one is shown as far as it is known.
    #[schemars(range(min = 1))]
    pub schema: u32,
    /// Says that this document is a session.
    #[schemars(extend("const" = "session"))]
    pub kind: String,
    /// What it is called: `user`, else `auto.title`.
    pub names: Option<Names>,
    /// Id of its agent in the workspace's document; absent: the workspace's default.
    pub agent: Option<String>,
    /// Its place in the order of all sessions, compared as text.
    pub position: Option<String>,
    /// When it was created: milliseconds since the epoch, by its creator's clock.
    pub created_at: Option<u64>,
    /// Id of the member who created it.
    pub created_by: Option<String>,
    /// When it was archived, if it is: milliseconds since the epoch.
    pub archived_at: Option<u64>,
    /// When it was deleted, if it is: milliseconds since the epoch.
    pub deleted_at: Option<u64>,
    /// What made it, if not a person.
    pub origin: Option<AnyOrigin>,
    /// What all its runs may cost together, in millionths of a dollar; at least 1.
    pub spend_limit: Option<u64>,
    /// In order of writing, not of the conversation.
    pub messages: Vec<Message>,
    /// Every claim of a turn, by `TURN/EPOCH`. Of one turn the run with the highest epoch is shown.
    pub runs: BTreeMap<String, Run>,
    /// What people asked of the worker, by id. Only ever added to.
    pub requests: BTreeMap<String, Request>,
}

/// What a session is called. Two keys, so that merging can't mix one name with the other's provenance.
#[derive(JsonSchema)]
pub struct Names {
    /// The person's name for it: 1 to 200 characters, no control characters. Workers never write it.
    pub user: Option<String>,
    /// The worker's name for it. People never write it.
    pub auto: Option<AutoName>,
}

/// A name that a worker gave.
#[derive(JsonSchema)]
pub struct AutoName {
    /// The name.
    pub title: String,
    /// Epoch of the run that gave it; of conflicting ones the highest counts.
    pub epoch: u64,
}

/// What made a session: one of those that are known, or a later version's.
#[derive(JsonSchema)]
#[serde(untagged)]
pub enum AnyOrigin {
    /// Known.
    Known(Origin),
    /// A later version's.
    Other {
        /// Any other word.
        #[schemars(extend("not" = {"enum": ["task", "duplicate"]}))]
        kind: String,
    },
}

/// What made a session.
#[derive(JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Origin {
    /// A run of a task.
    Task {
        /// The task's id in the workspace's document.
        task: String,
        /// Which of its runs.
        run: String,
    },
    /// A copy of another session up to a message.
    Duplicate {
        /// The other session's id.
        session: String,
        /// Its last message in the copy; empty if there is none.
        message: String,
    },
}

/// A message. Nothing is overwritten: an edit is a new message that `hides` the old one.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// 22 random letters of `0-9A-Za-z`.
    pub id: String,
    /// Who speaks. An assistant's message counts only if a worker wrote it.
    pub role: Role,
    /// Id of the member, or of the agent.
    pub author: Option<String>,
    /// Milliseconds since the epoch, by its author's clock; shown, never ordered by.
    pub created_at: Option<u64>,
    /// The turn that it belongs to (assistant).
    pub turn: Option<String>,
    /// Epoch of the run that wrote it (assistant).
    pub epoch: Option<u64>,
    /// Ids of the messages that it takes the place of. One without parts only hides.
    pub hides: Option<Vec<String>>,
    /// The stops that its author saw: ids of requests and calls, keys of runs. Absent: all of them.
    pub over: Option<Vec<String>>,
    /// Id of the action that it comes from.
    pub action: Option<String>,
    /// What it says.
    pub parts: Vec<Part>,
}

/// Who speaks.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A person.
    User,
    /// The agent.
    Assistant,
}

/// A piece of a message, by `type`.
#[derive(JsonSchema)]
pub struct Part {
    /// What it is.
    #[serde(flatten)]
    pub content: AnyContent,
    /// What must go back unchanged to the provider that sent it, and to no other.
    pub provider: Option<ProviderData>,
}

/// Opaque data of a provider: signatures, encrypted reasoning, blocks that are nobody else's.
#[derive(JsonSchema)]
pub struct ProviderData {
    /// The provider's kind: `openai`, `anthropic`, ….
    pub kind: String,
    /// JSON text, as it came.
    pub data: String,
}

/// A known type of part, or a later version's.
#[derive(JsonSchema)]
#[serde(untagged)]
pub enum AnyContent {
    /// Known.
    Known(Content),
    /// A later version's: kept, and shown as such.
    Other {
        /// Any other word.
        #[serde(rename = "type")]
        #[schemars(extend("not" = {"enum": [
            "text", "thinking", "tool_call", "tool_result", "other", "attachment", "error", "event"
        ]}))]
        name: String,
    },
}

/// What a part is.
#[derive(JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Content {
    /// Words.
    Text {
        /// To be joined.
        chunks: Vec<String>,
    },
    /// The model's reasoning.
    Thinking {
        /// To be joined.
        chunks: Vec<String>,
    },
    /// A call of a tool. A later run adds a part of the same id without input; readers show one.
    ToolCall {
        /// 22 random letters of `0-9A-Za-z`.
        id: String,
        /// The provider's own id, for sending back.
        provider_id: Option<String>,
        /// The tool's name.
        name: String,
        /// JSON text; absent while it streams, and in later parts of the same call.
        input: Option<String>,
        /// How far it is. A call is done or failed once its result stands.
        state: CallState,
    },
    /// What a call gave.
    ToolResult {
        /// The call's `id`.
        call_id: String,
        /// What the model reads; of more than 32 KB head and tail.
        content: String,
        /// Whether the call failed.
        is_error: Option<bool>,
        /// SHA-256 of the whole, 64 lower-case hex digits, if it is too large for the document.
        blob: Option<String>,
    },
    /// A provider's own block: a search on its side, a compaction.
    Other {
        /// In words.
        summary: String,
    },
    /// A file.
    Attachment {
        /// SHA-256 of its content, 64 lower-case hex digits.
        blob: String,
        /// MIME type.
        mime: String,
        /// File name: 1 to 200 characters, no control characters.
        name: String,
        /// Bytes.
        size: u64,
    },
    /// Why a turn ended badly.
    Error {
        /// A short word: `key`, `quota`, `network`, ….
        code: String,
        /// One sentence.
        message: String,
        /// Whether trying again may help.
        retryable: bool,
    },
    /// Something that happened: a worker was lost, a decision was made.
    Event {
        /// In words.
        summary: String,
    },
}

/// How far a tool call is. What can't be read counts as `cut`, and never runs.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Its input streams.
    Preparing,
    /// It waits for a person.
    Waiting,
    /// Marked before it runs.
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

/// One claim of a turn, by a worker.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Id of the last message that the turn answers, plus `.N` for its N-th retry.
    pub turn: String,
    /// Grows with every claim in a session.
    pub epoch: u64,
    /// Epoch of the run whose place in the conversation it takes; absent: its own.
    pub place: Option<u64>,
    /// Ids of the messages that it answers.
    pub answers: Option<Vec<String>>,
    /// Where it goes on, if it goes on.
    pub continues: Option<Continues>,
    /// Id of the request that asked for it.
    pub request: Option<String>,
    /// Copied with a duplicate: shown, not counted.
    pub inherited: Option<bool>,
    /// Id of the agent.
    pub agent: Option<String>,
    /// The model, without its provider's name.
    pub model: Option<String>,
    /// The provider's name in the operator's `skein.toml`.
    pub provider: Option<String>,
    /// Instructions and definitions of tools: SHA-256 of a blob, 64 lower-case hex digits.
    pub preamble: Option<String>,
    /// The worker's peer id.
    pub worker: Option<String>,
    /// As the worker left it.
    pub state: AnyRunState,
    /// Milliseconds since the epoch, by the worker's clock.
    pub started_at: Option<u64>,
    /// Milliseconds since the epoch, by the worker's clock.
    pub ended_at: Option<u64>,
    /// What it used.
    pub usage: Option<Usage>,
    /// What it cost.
    pub cost: Option<Cost>,
    /// The rates that were applied, as JSON text.
    pub prices: Option<String>,
    /// Tokens of its last request and of what answered it: what going on sends again.
    pub context: Option<u64>,
    /// Until when the provider's cache of that is said to live, in milliseconds since the epoch.
    pub cached_until: Option<u64>,
    /// Why it stopped, as a class: `end`, `length`, `approval`, `limit`, `pause`, ….
    pub stop_reason: Option<String>,
    /// Why it failed.
    pub error: Option<RunError>,
}

/// The end of the text that a run goes on from.
#[derive(JsonSchema)]
pub struct Continues {
    /// Id of the message.
    pub message: String,
    /// Index of its part, from 0.
    pub part: u64,
    /// UTF-8 bytes of that part.
    pub bytes: u64,
}

/// A known state of a run, or a later version's, which is shown as failed.
#[derive(JsonSchema)]
#[serde(untagged)]
pub enum AnyRunState {
    /// Known.
    Known(RunState),
    /// A later version's.
    Other(String),
}

/// What became of a run.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It is being written, or its worker was lost.
    Streaming,
    /// Stopped, and can go on.
    Paused,
    /// Done.
    Completed,
    /// It ended badly; `error` says why.
    Failed,
}

/// Tokens, in classes that don't overlap. What is absent is 0.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Read anew.
    pub input: Option<u64>,
    /// Said, without reasoning.
    pub output: Option<u64>,
    /// Thought.
    pub reasoning: Option<u64>,
    /// Read from the provider's cache.
    pub cache_read: Option<u64>,
    /// Written into it for the usual time.
    pub cache_write: Option<u64>,
    /// Written into it for the longer time.
    pub cache_write_long: Option<u64>,
}

/// What a run cost.
#[derive(JsonSchema)]
pub struct Cost {
    /// Millionths of a dollar; absent: unknown.
    pub micros: Option<u64>,
    /// Whether the tokens were estimated.
    pub estimated: Option<bool>,
    /// Whether the provider itself named the cost.
    pub reported: Option<bool>,
}

/// Why a run failed.
#[derive(JsonSchema)]
pub struct RunError {
    /// A short word: `key`, `quota`, `network`, ….
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Whether trying again may help.
    pub retryable: bool,
}

/// What a person asks of the worker. Each names its target, so that a late one can't hit a later turn.
#[derive(JsonSchema)]
pub struct Request {
    /// Its key: 22 random letters of `0-9A-Za-z`.
    pub id: String,
    /// Id of the member.
    pub by: Option<String>,
    /// Milliseconds since the epoch, by the member's clock.
    pub at: Option<u64>,
    /// What is asked.
    #[serde(flatten)]
    pub what: AnyAsked,
}

/// A known kind of request, or a later version's.
#[derive(JsonSchema)]
#[serde(untagged)]
pub enum AnyAsked {
    /// Known.
    Known(Asked),
    /// A later version's: kept, and without effect.
    Other {
        /// Any other word.
        #[schemars(extend("not" = {"enum": [
            "pause", "continue", "steer", "retry", "approve", "deny", "smart-rename", "omit"
        ]}))]
        kind: String,
    },
}

/// What is asked.
#[derive(JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Asked {
    /// Stop the run.
    Pause {
        /// The run's key.
        target: String,
    },
    /// Go on with the stopped run.
    Continue {
        /// The run's key.
        target: String,
        /// The stops that its author saw.
        over: Option<Vec<String>>,
    },
    /// End the run at its next tool call; the queue is next.
    Steer {
        /// The run's key.
        target: String,
    },
    /// Answer again.
    Retry {
        /// The turn.
        target: String,
        /// Which retry of it, from 1.
        n: u64,
    },
    /// Let a call run. A `deny` of the same call beats it.
    Approve {
        /// The call's id.
        target: String,
        /// Of the tool and the input that were shown; of another call it allows nothing.
        digest: String,
        /// `once`, or `session`: also later calls of the same tool. Absent: once.
        scope: Option<String>,
    },
    /// Refuse a call.
    Deny {
        /// The call's id.
        target: String,
        /// Told to the model.
        reason: Option<String>,
    },
    /// Find another name.
    SmartRename {
        /// The name that its author saw.
        title: Option<String>,
    },
    /// Send this part to no model any more; it is shown as left out.
    Omit {
        /// The message's id.
        target: Option<String>,
        /// The message's id.
        message: String,
        /// Index of its part, from 0.
        part: u64,
    },
}
