//! An agent: who answers in a session, with which model, instructions and tools, and within which limits.

use automerge::transaction::Transaction;
use automerge::{AutomergeError, ObjId, ScalarValue};
use serde::{Deserialize, Serialize};

use super::command::{WorkspaceError, checked_limit, checked_text, within};
use super::fields::{self, Reader, int, word};
use crate::ids::Micros;
use crate::session::command::checked_name;

/// Colours of threads.
pub const THREADS: u8 = 7;
/// Tools or integrations of one agent.
const MAX_NAMES: usize = 500;

/// Who answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// As shown.
    pub name: String,
    /// `PROVIDER/MODEL`; `None`: that of the session's last run, else the worker's own.
    pub model: Option<String>,
    /// The system prompt.
    pub instructions: String,
    /// Names of core tools.
    pub tools: Vec<String>,
    /// Names of integrations.
    pub integrations: Vec<String>,
    /// Tokens that it may think for; `None`: as the model does by itself.
    pub thinking: Option<u64>,
    /// 0 to 2; `None`: the model's own.
    pub temperature: Option<f64>,
    /// Calls to the model in one turn; `None`: the worker's own limit.
    pub step_limit: Option<u64>,
    /// What its turns may cost in one session.
    pub spend_limit: Option<Micros>,
    /// Colour of its thread, 1 to 7.
    pub thread: u8,
}

/// A change of one field. `None` takes it away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AgentField {
    /// 1 to 200 characters, no control characters.
    Name(String),
    /// `PROVIDER/MODEL`.
    Model(Option<String>),
    /// At most 1 MiB; may be empty.
    Instructions(String),
    /// All of them.
    Tools(Vec<String>),
    /// All of them.
    Integrations(Vec<String>),
    /// 0 to 1,000,000 tokens.
    Thinking(Option<u64>),
    /// 0 to 2.
    Temperature(Option<f64>),
    /// 1 to 10,000.
    StepLimit(Option<u64>),
    /// At most a million dollars.
    SpendLimit(Option<Micros>),
    /// 1 to 7.
    Thread(u8),
}

impl AgentField {
    /// Checks the change, and makes it.
    pub(super) fn change(&self, agent: &mut Agent) -> Result<(), WorkspaceError> {
        match self {
            Self::Name(name) => agent.name = checked_name(name)?.to_owned(),
            Self::Model(model) => agent.model = model.as_deref().map(checked_model).transpose()?,
            Self::Instructions(text) => agent.instructions = checked_text("the instructions", text)?.to_owned(),
            Self::Tools(names) => agent.tools = checked_names(names)?,
            Self::Integrations(names) => agent.integrations = checked_names(names)?,
            Self::Thinking(tokens) => {
                agent.thinking = tokens.map(|n| within("the thinking budget", n, 0..=1_000_000)).transpose()?;
            }
            Self::Temperature(degree) => agent.temperature = degree.map(checked_temperature).transpose()?,
            Self::StepLimit(steps) => {
                agent.step_limit = steps.map(|n| within("the step limit", n, 1..=10_000)).transpose()?;
            }
            Self::SpendLimit(limit) => agent.spend_limit = limit.map(checked_limit).transpose()?,
            Self::Thread(colour) => agent.thread = within("the thread's colour", *colour, 1..=THREADS)?,
        }
        Ok(())
    }
}

/// `PROVIDER/MODEL`, both without spaces.
fn checked_model(model: &str) -> Result<String, WorkspaceError> {
    let fits = model.len() <= 200
        && !model.chars().any(|c| c.is_control() || c.is_whitespace())
        && model.split_once('/').is_some_and(|(provider, model)| !provider.is_empty() && !model.is_empty());
    if fits { Ok(model.to_owned()) } else { Err(WorkspaceError::BadModel(model.chars().take(200).collect())) }
}

/// Each once, in the order given.
fn checked_names(given: &[String]) -> Result<Vec<String>, WorkspaceError> {
    within("the number of names", given.len(), 0..=MAX_NAMES)?;
    let mut names = Vec::new();
    for name in given {
        let name = checked_name(name)?.to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn checked_temperature(degree: f64) -> Result<f64, WorkspaceError> {
    within("the temperature", degree, 0.0..=2.0)
}

impl Agent {
    pub(super) fn read(fields: &mut Reader<'_, '_>) -> Self {
        let thread = fields.count("thread").and_then(|n| u8::try_from(n).ok());
        Self {
            name: fields.word("name").unwrap_or_default(),
            model: fields.word("model"),
            instructions: fields.word("instructions").unwrap_or_default(),
            tools: fields.names("tools"),
            integrations: fields.names("integrations"),
            thinking: fields.count("thinking"),
            temperature: fields.read("temperature", "a number", |slot| slot.number()),
            step_limit: fields.lowest("stepLimit"),
            spend_limit: fields.lowest("spendLimit").map(Micros),
            thread: thread.filter(|n| (1..=THREADS).contains(n)).unwrap_or(1),
        }
    }

    /// Writes what differs from `before`; all of it if there is none.
    pub(super) fn write(
        &self,
        tx: &mut Transaction<'_>,
        maps: &[ObjId],
        before: Option<&Self>,
    ) -> Result<(), AutomergeError> {
        // Of one that is new, what is absent needs no writing.
        let empty = Self::default();
        let was = before.unwrap_or(&empty);
        let mut put = |key: &str, differs: bool, value: Option<ScalarValue>| {
            if differs { fields::put(tx, maps, key, value) } else { Ok(()) }
        };
        put("name", self.name != was.name, Some(word(&self.name)))?;
        put("model", self.model != was.model, self.model.as_deref().map(word))?;
        let told = before.is_none() || self.instructions != was.instructions;
        put("instructions", told, Some(word(&self.instructions)))?;
        put("thinking", self.thinking != was.thinking, self.thinking.map(int))?;
        put("temperature", self.temperature != was.temperature, self.temperature.map(ScalarValue::F64))?;
        put("stepLimit", self.step_limit != was.step_limit, self.step_limit.map(int))?;
        let limit = self.spend_limit.map(|limit| int(limit.0));
        put("spendLimit", self.spend_limit != was.spend_limit, limit)?;
        put("thread", self.thread != was.thread, Some(int(self.thread.into())))?;
        for (key, names, before_names) in
            [("tools", &self.tools, &was.tools), ("integrations", &self.integrations, &was.integrations)]
        {
            if before.is_none() || names != before_names {
                fields::put_names(tx, maps, key, names)?;
            }
        }
        Ok(())
    }
}
