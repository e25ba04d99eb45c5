//! What a member does to the workspace. Each command is total and safe offline: it writes the smallest possible change,
//! or says in one sentence why it can't.

use std::fmt::Display;
use std::ops::RangeInclusive;

use automerge::transaction::{Transactable, Transaction};
use automerge::{AutomergeError, ROOT};
use serde::{Deserialize, Serialize};

use super::action::{ActionField, RenderError};
use super::agent::{AgentField, THREADS};
use super::fields::{self, int, word};
use super::integration::{self, Policy};
use super::schedule::ScheduleError;
use super::task::TaskField;
use super::{Action, Agent, Task, Workspace};
use crate::ids::{Micros, random_id};
use crate::session::command::{CommandError, Done, Given, checked_name};
use crate::session::write::put_int;

/// Bytes of a text: instructions, a template, a message.
const MAX_TEXT: usize = 1 << 20;
/// A million dollars.
const MAX_LIMIT: Micros = Micros(1_000_000_000_000);

/// A command on the workspace. Agents, actions and tasks are given by id or name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum WorkspaceCommand {
    /// Gives the workspace a name.
    Rename {
        /// 1 to 200 characters, no control characters.
        name: String,
    },
    /// Sets what may be spent in a day, or lifts the limit.
    SetDayLimit {
        /// At most a million dollars.
        limit: Option<Micros>,
    },
    /// Adds an agent.
    AddAgent {
        /// No other agent's.
        name: String,
        /// What else is known of it.
        fields: Vec<AgentField>,
    },
    /// Changes fields of an agent.
    SetAgent {
        /// Which.
        agent: String,
        /// The changes, in order.
        fields: Vec<AgentField>,
    },
    /// Makes an agent the one that new sessions get.
    SetDefaultAgent {
        /// Which.
        agent: String,
    },
    /// Removes an agent that isn't the default one. Sessions keep naming it, and are answered by the default one.
    RemoveAgent {
        /// Which.
        agent: String,
    },
    /// Adds an action.
    AddAction {
        /// No other action's.
        name: String,
        /// The message, with placeholders.
        template: String,
        /// What else is known of it.
        fields: Vec<ActionField>,
    },
    /// Changes fields of an action.
    SetAction {
        /// Which.
        action: String,
        /// The changes, in order.
        fields: Vec<ActionField>,
    },
    /// Removes an action that no task needs.
    RemoveAction {
        /// Which.
        action: String,
    },
    /// Switches an integration on or off.
    SetIntegration {
        /// Its name in the operator's settings.
        integration: String,
        /// On.
        enabled: bool,
    },
    /// Says what happens when a tool is called, or leaves it to the operator again.
    SetPolicy {
        /// Its name in the operator's settings.
        integration: String,
        /// The tool; `*` for all others.
        tool: String,
        /// See there.
        policy: Option<Policy>,
    },
    /// Adds a task.
    AddTask {
        /// No other task's.
        name: String,
        /// A message or an action at least.
        fields: Vec<TaskField>,
    },
    /// Changes fields of a task; pauses and resumes it.
    SetTask {
        /// Which.
        task: String,
        /// The changes, in order.
        fields: Vec<TaskField>,
    },
    /// Removes a task. Its sessions stay.
    RemoveTask {
        /// Which.
        task: String,
    },
}

/// Why a command can't be done: one sentence for the person.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WorkspaceError {
    /// See there.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// See there.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// See there.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// No such agent, action or task.
    #[error("there is no {what} \"{given}\" (known: {})", if .known.is_empty() { "none".into() } else { .known.join(", ") })]
    Unknown {
        /// "agent", "action", "task".
        what: &'static str,
        /// As given.
        given: String,
        /// Names.
        known: Vec<String>,
    },
    /// A name that several have.
    #[error("several {what}s are called \"{given}\": give the id ({})", .ids.join(", "))]
    Ambiguous {
        /// "agent", "action", "task".
        what: &'static str,
        /// As given.
        given: String,
        /// Theirs.
        ids: Vec<String>,
    },
    /// A name that another one has.
    #[error("there is already another {what} called \"{name}\"")]
    Taken {
        /// "agent", "action", "task".
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The default agent can't be removed.
    #[error("\"{0}\" is the default agent: make another one the default first")]
    IsDefault(String),
    /// A task needs it.
    #[error("the task \"{0}\" uses this action: change or remove the task first")]
    InUse(String),
    /// A number beyond its bounds.
    #[error("{what} is {least} to {most}, not {given}")]
    OutOfRange {
        /// What it is.
        what: &'static str,
        /// As given.
        given: String,
        /// The bounds.
        least: String,
        /// The bounds.
        most: String,
    },
    /// A text above 1 MiB.
    #[error("{0} is too long: at most 1 MiB")]
    TooLong(&'static str),
    /// An empty template.
    #[error("the template is empty: an action is a message")]
    NoTemplate,
    /// Something is said of a placeholder that isn't there.
    #[error("the template has no placeholder {{{{{0}}}}}")]
    NoPlaceholder(String),
    /// Not a name for a placeholder.
    #[error("\"{0}\" is no placeholder's name: 1 to 60 letters, digits, _ or -")]
    BadPlaceholder(String),
    /// Not a model's name.
    #[error("\"{0}\" is no model: write PROVIDER/MODEL")]
    BadModel(String),
    /// Neither message nor action.
    #[error("a task needs a message or an action")]
    NoOpening,
    /// The document is no workspace.
    #[error("this document is no workspace")]
    NotAWorkspace,
    /// It has not come yet.
    #[error("the workspace's agents, actions and tasks are not on this device yet: connect it once")]
    NotHere,
}

impl From<AutomergeError> for WorkspaceError {
    fn from(error: AutomergeError) -> Self {
        Self::Command(error.into())
    }
}

/// Checks a command against what its author sees, and writes it. A command that finds its wish fulfilled writes
/// nothing. [`Done`] has the id of what was added.
pub fn apply(
    tx: &mut Transaction<'_>,
    seen: &Workspace,
    command: &WorkspaceCommand,
    given: &Given<'_>,
) -> Result<Done, WorkspaceError> {
    use WorkspaceCommand as C;
    if !seen.is_workspace {
        return Err(WorkspaceError::NotAWorkspace);
    }
    let mut added = None;
    match command {
        C::Rename { name } => {
            let name = checked_name(name)?;
            if name != seen.name {
                tx.put(ROOT, "name", word(name))?;
            }
        }
        C::SetDayLimit { limit } => {
            let limit = limit.map(checked_limit).transpose()?;
            if limit != seen.day_limit {
                fields::put(tx, &[ROOT], "dayLimit", limit.map(|limit| int(limit.0)))?;
            }
        }
        C::AddAgent { name, fields } => {
            let mut agent = Agent { thread: next_thread(seen), ..Agent::default() };
            let fields = [&[AgentField::Name(name.clone())], fields.as_slice()].concat();
            fields.iter().try_for_each(|field| field.change(&mut agent))?;
            free("agent", &agent.name, seen.agents.values().map(|agent| &agent.name))?;
            let id = added.insert(random_id());
            let map = fields::made(tx, "agents", id)?;
            agent.write(tx, &map, None)?;
        }
        C::SetAgent { agent, fields } => {
            let (id, before) = seen.agent(agent)?;
            let mut agent = before.clone();
            fields.iter().try_for_each(|field| field.change(&mut agent))?;
            if agent.name != before.name {
                free("agent", &agent.name, seen.agents.values().map(|agent| &agent.name))?;
            }
            let maps = fields::standing(tx, "agents", id)?;
            agent.write(tx, &maps, Some(before))?;
        }
        C::SetDefaultAgent { agent } => {
            let (id, _) = seen.agent(agent)?;
            if id != seen.default_agent {
                tx.put(ROOT, "defaultAgent", word(id))?;
            }
        }
        C::RemoveAgent { agent } => {
            let (id, agent) = seen.agent(agent)?;
            if id == seen.default_agent {
                return Err(WorkspaceError::IsDefault(agent.name.clone()));
            }
            remove(tx, "agents", id, given)?;
        }
        C::AddAction { name, template, fields } => {
            let first = [ActionField::Name(name.clone()), ActionField::Template(template.clone())];
            let action = changed_action(&Action::default(), &[&first, fields.as_slice()].concat())?;
            free("action", &action.name, seen.actions.values().map(|action| &action.name))?;
            let id = added.insert(random_id());
            let map = fields::made(tx, "actions", id)?;
            action.write(tx, &map, None)?;
        }
        C::SetAction { action, fields } => {
            let (id, before) = seen.action(action)?;
            let action = changed_action(before, fields)?;
            if action.name != before.name {
                free("action", &action.name, seen.actions.values().map(|action| &action.name))?;
            }
            let maps = fields::standing(tx, "actions", id)?;
            action.write(tx, &maps, Some(before))?;
        }
        C::RemoveAction { action } => {
            let (id, _) = seen.action(action)?;
            if let Some(task) = seen.tasks.values().find(|task| task.needs(id)) {
                return Err(WorkspaceError::InUse(task.name.clone()));
            }
            remove(tx, "actions", id, given)?;
        }
        C::SetIntegration { integration, enabled } => {
            let name = checked_name(integration)?;
            if seen.integrations.get(name).is_none_or(|standing| standing.enabled) != *enabled {
                integration::put_enabled(tx, name, *enabled)?;
            }
        }
        C::SetPolicy { integration, tool, policy } => {
            let (name, tool) = (checked_name(integration)?, checked_name(tool)?);
            if seen.integrations.get(name).and_then(|standing| standing.policy.get(tool)) != policy.as_ref() {
                integration::put_policy(tx, name, tool, *policy)?;
            }
        }
        C::AddTask { name, fields } => {
            let fields = [&[TaskField::Name(name.clone())], fields.as_slice()].concat();
            let task = changed_task(seen, None, &fields, given)?;
            free("task", &task.name, seen.tasks.values().map(|task| &task.name))?;
            let id = added.insert(random_id());
            let map = fields::made(tx, "tasks", id)?;
            task.write(tx, &map, None)?;
        }
        C::SetTask { task, fields } => {
            let (id, before) = seen.task(task)?;
            let task = changed_task(seen, Some(before), fields, given)?;
            if task.name != before.name {
                free("task", &task.name, seen.tasks.values().map(|task| &task.name))?;
            }
            let maps = fields::standing(tx, "tasks", id)?;
            task.write(tx, &maps, Some(before))?;
        }
        C::RemoveTask { task } => {
            let (id, _) = seen.task(task)?;
            remove(tx, "tasks", id, given)?;
        }
    }
    Ok(Done { id: added })
}

/// Marks it as removed: what names it can still say its name.
fn remove(tx: &mut Transaction<'_>, collection: &str, id: &str, given: &Given<'_>) -> Result<(), AutomergeError> {
    let maps = fields::standing(tx, collection, id)?;
    maps.last().map_or(Ok(()), |map| put_int(tx, map, "removedAt", given.at.0))
}

fn changed_action(before: &Action, fields: &[ActionField]) -> Result<Action, WorkspaceError> {
    let mut action = before.clone();
    fields.iter().try_for_each(|field| field.change(&mut action))?;
    action.params.retain(|_, param| *param != super::action::Param::default());
    action.check_defaults()?;
    let known = action.placeholders();
    match fields.iter().filter_map(ActionField::param).find(|param| !known.contains(param)) {
        Some(param) => Err(WorkspaceError::NoPlaceholder(param.to_owned())),
        None => Ok(action),
    }
}

fn changed_task(
    seen: &Workspace,
    before: Option<&Task>,
    fields: &[TaskField],
    given: &Given<'_>,
) -> Result<Task, WorkspaceError> {
    let mut task = before.cloned().unwrap_or_default();
    fields.iter().try_for_each(|field| field.change(&mut task, seen))?;
    task.check(before, given.at)?;
    Ok(task)
}

/// Whether a name is still free.
fn free<'a>(what: &'static str, name: &str, mut taken: impl Iterator<Item = &'a String>) -> Result<(), WorkspaceError> {
    if taken.any(|other| other == name) { Err(WorkspaceError::Taken { what, name: name.to_owned() }) } else { Ok(()) }
}

/// The colour that the fewest agents have.
fn next_thread(seen: &Workspace) -> u8 {
    let used = |colour: &u8| seen.agents.values().filter(|agent| agent.thread == *colour).count();
    (1..=THREADS).min_by_key(used).unwrap_or(1)
}

/// A number within its bounds.
pub(super) fn within<T: PartialOrd + Display>(
    what: &'static str,
    n: T,
    bounds: RangeInclusive<T>,
) -> Result<T, WorkspaceError> {
    if bounds.contains(&n) {
        Ok(n)
    } else {
        let (least, most) = (bounds.start().to_string(), bounds.end().to_string());
        Err(WorkspaceError::OutOfRange { what, given: n.to_string(), least, most })
    }
}

pub(super) fn checked_limit(limit: Micros) -> Result<Micros, WorkspaceError> {
    if limit <= MAX_LIMIT {
        Ok(limit)
    } else {
        let (least, most, given) = ("$0".into(), "$1000000".into(), format!("${}", limit.0 / 1_000_000));
        Err(WorkspaceError::OutOfRange { what: "a spend limit", given, least, most })
    }
}

pub(super) fn checked_text<'a>(what: &'static str, text: &'a str) -> Result<&'a str, WorkspaceError> {
    if text.len() > MAX_TEXT { Err(WorkspaceError::TooLong(what)) } else { Ok(text) }
}
