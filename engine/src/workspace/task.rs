//! A task: what an agent is told again and again, by hand or by a schedule. Each run of it is a session of its own.

use std::collections::BTreeMap;

use automerge::transaction::{Transactable, Transaction};
use automerge::{AutomergeError, ObjId, ObjType, ScalarValue};
use serde::{Deserialize, Serialize};

use super::action::texts_by_key;
use super::command::{WorkspaceError, checked_limit, checked_text, within};
use super::fields::{self, Reader, int, word};
use super::{Workspace, schedule};
use crate::ids::{Micros, Timestamp};
use crate::session::command::{CommandError, checked_name};

/// A week, in milliseconds.
const MAX_TIMEOUT: u64 = 7 * 24 * 60 * 60 * 1_000;

/// What an agent does again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// As shown.
    pub name: String,
    /// Id of the agent; `None`: the workspace's default one.
    pub agent: Option<String>,
    /// What each session begins with.
    #[serde(flatten)]
    pub opening: Option<Opening>,
    /// Five fields of cron; `None`: only by hand.
    pub cron: Option<String>,
    /// The time zone of the schedule; `None`: UTC.
    pub tz: Option<String>,
    /// What happens when it is due while it runs.
    pub overlap: Overlap,
    /// What happens to what fell due while no worker was there.
    pub missed: Missed,
    /// How often a failed run is tried again.
    pub retries: u64,
    /// How long a run may take, in milliseconds.
    pub timeout: Option<u64>,
    /// What a run may cost.
    pub spend_limit: Option<Micros>,
    /// Whether its schedule rests.
    pub paused: bool,
    /// Since when its schedule holds: what would have been due before is nothing missed. Set when the task gets a
    /// schedule or another one, and when it is resumed.
    pub since: Option<Timestamp>,
}

/// The first message of each session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Opening {
    /// In its own words.
    Message {
        /// The words.
        message: String,
    },
    /// By an action.
    Action {
        /// Its id.
        action: String,
        /// What its placeholders are filled with.
        values: BTreeMap<String, String>,
    },
}

/// What happens when a task is due while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// This one falls out.
    #[default]
    Skip,
    /// It runs afterwards.
    Queue,
    /// It runs beside.
    Parallel,
}

/// What happens to what fell due while no worker was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// It falls out.
    #[default]
    Skip,
    /// The last one is made up for.
    One,
    /// All are.
    All,
}

/// A change of one field. `None` takes it away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TaskField {
    /// 1 to 200 characters, no control characters.
    Name(String),
    /// By id or name.
    Agent(Option<String>),
    /// 1 byte to 1 MiB; takes the place of an action.
    Message(String),
    /// An action by id or name, and what its placeholders are filled with; takes the place of a message.
    Action(String, BTreeMap<String, String>),
    /// Five fields.
    Cron(Option<String>),
    /// A name of the IANA database.
    Tz(Option<String>),
    /// See there.
    Overlap(Overlap),
    /// See there.
    Missed(Missed),
    /// 0 to 10.
    Retries(u64),
    /// Milliseconds: a second to a week.
    Timeout(Option<u64>),
    /// At most a million dollars.
    SpendLimit(Option<Micros>),
    /// Whether its schedule rests.
    Paused(bool),
}

impl TaskField {
    /// Checks the change, and makes it.
    pub(super) fn change(&self, task: &mut Task, workspace: &Workspace) -> Result<(), WorkspaceError> {
        match self {
            Self::Name(name) => task.name = checked_name(name)?.to_owned(),
            Self::Agent(agent) => {
                let found = agent.as_deref().map(|agent| workspace.agent(agent)).transpose()?;
                task.agent = found.map(|(id, _)| id.to_owned());
            }
            Self::Message(text) if text.trim().is_empty() => return Err(CommandError::Empty.into()),
            Self::Message(text) => {
                let message = checked_text("the message", text)?.to_owned();
                task.opening = Some(Opening::Message { message });
            }
            Self::Action(action, values) => {
                let (id, action) = workspace.action(action)?;
                action.render(values)?;
                task.opening = Some(Opening::Action { action: id.to_owned(), values: values.clone() });
            }
            Self::Cron(cron) => task.cron = cron.as_deref().map(|cron| cron.trim().to_owned()),
            Self::Tz(zone) => task.tz = zone.as_deref().map(|zone| zone.trim().to_owned()),
            Self::Overlap(overlap) => task.overlap = *overlap,
            Self::Missed(missed) => task.missed = *missed,
            Self::Retries(times) => task.retries = within("the number of retries", *times, 0..=10)?,
            Self::Timeout(ms) => {
                task.timeout = ms.map(|ms| within("the timeout, in ms,", ms, 1_000..=MAX_TIMEOUT)).transpose()?;
            }
            Self::SpendLimit(limit) => task.spend_limit = limit.map(checked_limit).transpose()?,
            Self::Paused(paused) => task.paused = *paused,
        }
        Ok(())
    }
}

impl Task {
    /// Whether it begins with this action.
    pub(super) fn needs(&self, action: &str) -> bool {
        matches!(&self.opening, Some(Opening::Action { action: id, .. }) if id == action)
    }

    /// Checks what several fields say together, and notes since when the schedule holds.
    pub(super) fn check(&mut self, before: Option<&Self>, now: Timestamp) -> Result<(), WorkspaceError> {
        if self.opening.is_none() {
            return Err(WorkspaceError::NoOpening);
        }
        if before.is_none_or(|was| was.cron != self.cron || was.tz != self.tz) {
            schedule::check(self.cron.as_deref(), self.tz.as_deref(), now)?;
            self.since = self.cron.is_some().then_some(now);
        } else if before.is_some_and(|was| was.paused && !self.paused) {
            self.since = self.cron.is_some().then_some(now);
        }
        Ok(())
    }

    pub(super) fn read(fields: &mut Reader<'_, '_>) -> Self {
        let overlap = fields.choice("overlap", |word| match word {
            "skip" => Some(Overlap::Skip),
            "queue" => Some(Overlap::Queue),
            "parallel" => Some(Overlap::Parallel),
            _ => None,
        });
        let missed = fields.choice("missed", |word| match word {
            "skip" => Some(Missed::Skip),
            "one" => Some(Missed::One),
            "all" => Some(Missed::All),
            _ => None,
        });
        let paused = fields.read("paused", "true or false", |slot| {
            // Of conflicting values the one that starts less.
            slot.each().map(|one| one.bool()).reduce(|one, other| Some(one? | other?)).flatten()
        });
        Self {
            name: fields.word("name").unwrap_or_default(),
            agent: fields.word("agent"),
            opening: opening(fields),
            cron: fields.word("cron"),
            tz: fields.word("tz"),
            overlap: overlap.unwrap_or_default(),
            missed: missed.unwrap_or_default(),
            retries: fields.lowest("retries").unwrap_or_default(),
            timeout: fields.lowest("timeout"),
            spend_limit: fields.lowest("spendLimit").map(Micros),
            // What can't be read starts nothing.
            paused: paused.unwrap_or(fields.slot.field("paused").last().is_some()),
            // Of conflicting times the latest: it starts less.
            since: fields.highest("since").map(Timestamp),
        }
    }

    /// Writes what differs from `before`; all of it if there is none.
    pub(super) fn write(
        &self,
        tx: &mut Transaction<'_>,
        maps: &[ObjId],
        before: Option<&Self>,
    ) -> Result<(), AutomergeError> {
        let empty = Self::default();
        let (was, new) = (before.unwrap_or(&empty), before.is_none());
        let mut put = |key: &str, differs: bool, value: Option<ScalarValue>| {
            if differs { fields::put(tx, maps, key, value) } else { Ok(()) }
        };
        put("name", self.name != was.name, Some(word(&self.name)))?;
        put("agent", self.agent != was.agent, self.agent.as_deref().map(word))?;
        put("cron", self.cron != was.cron, self.cron.as_deref().map(word))?;
        put("tz", self.tz != was.tz, self.tz.as_deref().map(word))?;
        put("overlap", new || self.overlap != was.overlap, Some(word(overlap_word(self.overlap))))?;
        put("missed", new || self.missed != was.missed, Some(word(missed_word(self.missed))))?;
        put("retries", new || self.retries != was.retries, Some(int(self.retries)))?;
        put("timeout", self.timeout != was.timeout, self.timeout.map(int))?;
        let limit = self.spend_limit.map(|limit| int(limit.0));
        put("spendLimit", self.spend_limit != was.spend_limit, limit)?;
        put("paused", new || self.paused != was.paused, Some(self.paused.into()))?;
        put("since", self.since != was.since, self.since.map(|at| int(at.0)))?;
        if self.opening != was.opening {
            self.write_opening(tx, maps)?;
        }
        Ok(())
    }

    fn write_opening(&self, tx: &mut Transaction<'_>, maps: &[ObjId]) -> Result<(), AutomergeError> {
        let (message, action) = match &self.opening {
            None => (None, None),
            Some(Opening::Message { message }) => (Some(message), None),
            Some(Opening::Action { action, values }) => (None, Some((action, values))),
        };
        fields::put(tx, maps, "message", message.map(|text| word(text)))?;
        fields::put(tx, maps, "action", action.map(|(id, _)| word(id)))?;
        fields::put(tx, maps, "values", None)?;
        if let Some((_, values)) = action
            && let Some(map) = maps.last()
        {
            // Whole: values belong together, and to their action.
            let object = tx.put_object(map, "values", ObjType::Map)?;
            values.iter().try_for_each(|(key, value)| tx.put(&object, key.as_str(), word(value)))?;
        }
        Ok(())
    }
}

/// Where both stand, since two members set them at once, it is the action.
fn opening(fields: &mut Reader<'_, '_>) -> Option<Opening> {
    let message = fields.word("message");
    match fields.word("action") {
        Some(action) => Some(Opening::Action { action, values: texts_by_key(fields.slot.field("values")) }),
        None => message.map(|message| Opening::Message { message }),
    }
}

fn overlap_word(overlap: Overlap) -> &'static str {
    match overlap {
        Overlap::Skip => "skip",
        Overlap::Queue => "queue",
        Overlap::Parallel => "parallel",
    }
}

fn missed_word(missed: Missed) -> &'static str {
    match missed {
        Missed::Skip => "skip",
        Missed::One => "one",
        Missed::All => "all",
    }
}
