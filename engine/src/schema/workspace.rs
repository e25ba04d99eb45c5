//! The workspace's document: agents, actions, integrations, tasks. Written and read by `workspace`.

use std::collections::BTreeMap;

use schemars::JsonSchema;

/// What the members of a workspace share. Write it field by field: whoever replaces an entry whole undoes what another
/// member changed beside.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workspace {
    /// Version of these shapes: 1.
    #[schemars(range(min = 1))]
    pub schema: u32,
    /// Says that this document is a workspace.
    #[schemars(extend("const" = "workspace"))]
    pub kind: String,
    /// 1 to 200 characters, no control characters.
    pub name: String,
    /// Id of the agent that new sessions get; if it isn't there, the first by id.
    pub default_agent: Option<String>,
    /// By id.
    pub agents: BTreeMap<String, Agent>,
    /// By id.
    pub actions: BTreeMap<String, Action>,
    /// By their name in the operator's `skein.toml`.
    pub integrations: BTreeMap<String, Integration>,
    /// By id.
    pub tasks: BTreeMap<String, Task>,
    /// What may be spent in a day, all sessions together: millionths of a dollar, at most a million dollars.
    pub day_limit: Option<u64>,
}

/// Who answers.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// 1 to 200 characters, no control characters.
    pub name: String,
    /// `PROVIDER/MODEL`; absent: that of the session's last run, else the worker's own.
    pub model: Option<String>,
    /// The system prompt, at most 1 MiB.
    pub instructions: Option<String>,
    /// Names of core tools, at most 500.
    pub tools: Option<Vec<String>>,
    /// Names of integrations, at most 500.
    pub integrations: Option<Vec<String>>,
    /// Tokens that it may think for; absent: as the model does by itself.
    #[schemars(range(max = 1_000_000))]
    pub thinking: Option<u64>,
    /// Absent: the model's own.
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    /// Calls to the model in one turn; absent: the worker's own limit.
    #[schemars(range(min = 1, max = 10_000))]
    pub step_limit: Option<u64>,
    /// What its turns may cost in one session: millionths of a dollar, at most a million dollars.
    pub spend_limit: Option<u64>,
    /// Colour of its thread.
    #[schemars(range(min = 1, max = 7))]
    pub thread: Option<u8>,
    /// When it was removed: milliseconds since the epoch. Sessions go on naming it.
    pub removed_at: Option<u64>,
}

/// A message with placeholders such as `{{topic}}`; `\{{topic}}` is text.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// 1 to 200 characters, no control characters.
    pub name: String,
    /// The message, 1 byte to 1 MiB.
    pub template: String,
    /// What is said of its placeholders, by their names.
    pub params: Option<BTreeMap<String, Param>>,
    /// When it was removed: milliseconds since the epoch.
    pub removed_at: Option<u64>,
}

/// What is said of a placeholder.
#[derive(JsonSchema)]
pub struct Param {
    /// For whoever fills it in.
    pub description: Option<String>,
    /// What stands for it when nothing is given; without one, something has to be given.
    pub default: Option<String>,
    /// What it may be filled with; absent: anything.
    #[serde(rename = "type")]
    pub kind: Option<ParamType>,
    /// Of a choice: one of these.
    pub choices: Option<Vec<String>>,
}

/// What a placeholder may be filled with.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParamType {
    /// Anything.
    Text,
    /// A number.
    Number,
    /// One of `choices`.
    Choice,
}

/// What may run of a tool server. The operator's own policy is the floor.
#[derive(JsonSchema)]
pub struct Integration {
    /// Whether agents may use it; of conflicting values `false` counts.
    pub enabled: Option<bool>,
    /// By the tool's name; `*` stands for all others. Of conflicting values the stricter one counts.
    pub policy: Option<BTreeMap<String, Policy>>,
}

/// What happens when a tool is called.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// It runs.
    Allow,
    /// It asks the first time in a session.
    Once,
    /// It asks every time.
    Ask,
    /// It doesn't run.
    Deny,
}

/// What an agent does again and again; each time in a session of its own. Has `message` or else `action`; where both
/// stand, the action counts.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// 1 to 200 characters, no control characters.
    pub name: String,
    /// Id of the agent; absent: the workspace's default one.
    pub agent: Option<String>,
    /// What each session begins with, 1 byte to 1 MiB.
    pub message: Option<String>,
    /// Id of the action that each session begins with.
    pub action: Option<String>,
    /// What the action's placeholders are filled with.
    pub values: Option<BTreeMap<String, String>>,
    /// Five fields of cron; absent: only by hand.
    pub cron: Option<String>,
    /// The time zone of the schedule, a name of the IANA database; absent: UTC.
    pub tz: Option<String>,
    /// What happens when it is due while it runs; absent: `skip`.
    pub overlap: Option<Overlap>,
    /// What happens to what fell due while no worker was there; absent: `skip`.
    pub missed: Option<Missed>,
    /// How often a failed run is tried again.
    #[schemars(range(max = 10))]
    pub retries: Option<u64>,
    /// How long a run may take, in milliseconds: a second to a week.
    #[schemars(range(min = 1_000, max = 604_800_000))]
    pub timeout: Option<u64>,
    /// What a run may cost: millionths of a dollar, at most a million dollars.
    pub spend_limit: Option<u64>,
    /// Whether its schedule rests; of conflicting values `true` counts.
    pub paused: Option<bool>,
    /// Since when its schedule holds: milliseconds since the epoch. What would have been due before was never missed.
    pub since: Option<u64>,
    /// When it was removed: milliseconds since the epoch. Its sessions stay.
    pub removed_at: Option<u64>,
}

/// What happens when a task is due while it runs.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// This one falls out.
    Skip,
    /// It runs afterwards.
    Queue,
    /// It runs beside.
    Parallel,
}

/// What happens to what fell due while no worker was there.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// It falls out.
    Skip,
    /// The last one is made up for.
    One,
    /// All are.
    All,
}
