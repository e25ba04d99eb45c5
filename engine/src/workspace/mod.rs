//! The workspace document: agents, actions, integrations and tasks, which all members share. Made by the relay, read by
//! everyone, changed by members.
//!
//! In order of reading: [`Workspace`] below (the document as plain data), [`agent`], [`action`], [`integration`] and
//! [`task`] (what it holds, each with the changes that a person may make to it), [`command`] (those changes, checked and
//! written), `find` (an id or a name → what is meant), `fields` (reading and writing by field), [`schedule`] (when a
//! task is due), [`opening`] (what a run of it begins with).
//!
//! Invariant: a change writes only the fields that differ, so that two members who edit different fields of one agent
//! both keep theirs; of conflicting values that decide what may run, the one that allows less counts.

pub mod action;
pub mod agent;
pub mod command;
mod fields;
mod find;
pub mod integration;
pub mod opening;
pub mod schedule;
pub mod task;

use std::collections::BTreeMap;

use automerge::transaction::{Transactable, Transaction};
use automerge::{Automerge, AutomergeError, ObjType, ROOT};

use self::fields::Reader;
use crate::ids::{Micros, random_id};
use crate::session::read::Faults;
use crate::session::tree::{self, Slot};
use crate::session::write::put_word;

pub use action::Action;
pub use agent::Agent;
pub use command::{WorkspaceCommand, WorkspaceError};
pub use integration::Integration;
pub use task::Task;

/// What the first agent of a workspace is told.
const INSTRUCTIONS: &str = "You are a helpful assistant. Answer plainly and to the point. Say so when you don't know.";

/// The version of the shapes that this engine writes.
pub const SCHEMA: i64 = 1;

/// What is read of the workspace document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workspace {
    /// The version of its shapes; a newer one is read as far as it is understood.
    pub schema: i64,
    /// Whether the document says that it is a workspace.
    pub is_workspace: bool,
    /// Its name.
    pub name: String,
    /// Id of the agent that new sessions get: the one named, else the first by id; empty if there is none.
    pub default_agent: String,
    /// By id.
    pub agents: BTreeMap<String, Agent>,
    /// By id.
    pub actions: BTreeMap<String, Action>,
    /// By the name that the operator's `skein.toml` gives them.
    pub integrations: BTreeMap<String, Integration>,
    /// By id.
    pub tasks: BTreeMap<String, Task>,
    /// What may be spent in a day, all sessions together.
    pub day_limit: Option<Micros>,
    /// Names of agents, actions and tasks that were removed, by id: sessions go on naming them.
    pub removed: BTreeMap<String, String>,
    /// What can't be read, in words.
    pub faults: Vec<String>,
}

impl Workspace {
    /// The name of an agent, action or task, also of one that was removed.
    pub fn name_of(&self, id: &str) -> Option<&str> {
        let agent = self.agents.get(id).map(|agent| &agent.name);
        let action = || self.actions.get(id).map(|action| &action.name);
        let task = || self.tasks.get(id).map(|task| &task.name);
        agent.or_else(action).or_else(task).or_else(|| self.removed.get(id)).map(String::as_str)
    }
}

/// Makes a workspace document with one agent, "Assistant".
pub fn create_workspace(name: &str) -> Result<Automerge, AutomergeError> {
    written(|tx| {
        tx.put(ROOT, "schema", SCHEMA)?;
        put_word(tx, &ROOT, "kind", Some("workspace"))?;
        put_word(tx, &ROOT, "name", Some(name))?;
        let id = random_id();
        put_word(tx, &ROOT, "defaultAgent", Some(&id))?;
        for key in ["agents", "actions", "integrations", "tasks"] {
            tx.put_object(ROOT, key, ObjType::Map)?;
        }
        let assistant =
            Agent { name: "Assistant".into(), instructions: INSTRUCTIONS.into(), thread: 1, ..Agent::default() };
        let map = fields::made(tx, "agents", &id)?;
        assistant.write(tx, &map, None)
    })
}

/// Makes a member's profile document.
pub fn create_profile() -> Result<Automerge, AutomergeError> {
    written(|tx| {
        tx.put(ROOT, "schema", 1_i64)?;
        put_word(tx, &ROOT, "kind", Some("profile"))?;
        tx.put_object(ROOT, "order", ObjType::Map)?;
        tx.put_object(ROOT, "pins", ObjType::Map)?;
        Ok(())
    })
}

/// A document of one change.
fn written(
    write: impl FnOnce(&mut Transaction<'_>) -> Result<(), AutomergeError>,
) -> Result<Automerge, AutomergeError> {
    let mut document = Automerge::new().with_actor(crate::ids::random_actor());
    let mut tx = document.transaction();
    write(&mut tx)?;
    tx.commit();
    Ok(document)
}

/// Reads a workspace document; what is missing is empty.
pub fn workspace(document: &Automerge) -> Workspace {
    let tree = tree::read(document);
    let root = Slot::root(&tree);
    let mut faults = Faults::default();
    let mut removed = BTreeMap::new();
    let mut standing = Standing { removed: &mut removed, faults: &mut faults };
    let agents = standing.all(root.field("agents"), "agents", Agent::read);
    let actions = standing.all(root.field("actions"), "actions", Action::read);
    let tasks = standing.all(root.field("tasks"), "tasks", Task::read);
    let integrations = integration::read_all(root.field("integrations"), &mut faults);
    let named = root.field("defaultAgent").each().filter_map(Slot::word).filter(|id| agents.contains_key(id)).last();
    let mut fields = Reader::new(root, String::new(), &mut faults);
    Workspace {
        schema: root.field("schema").int().unwrap_or_default(),
        is_workspace: root.field("kind").text() == Some("workspace"),
        name: fields.word("name").unwrap_or_default(),
        default_agent: named.or_else(|| agents.keys().next().cloned()).unwrap_or_default(),
        day_limit: fields.lowest("dayLimit").map(Micros),
        agents,
        actions,
        integrations,
        tasks,
        removed,
        faults: faults.0,
    }
}

/// Reads collections, apart from what was removed.
struct Standing<'a> {
    removed: &'a mut BTreeMap<String, String>,
    faults: &'a mut Faults,
}

impl Standing<'_> {
    fn all<T>(&mut self, map: Slot<'_>, place: &str, read: impl Fn(&mut Reader<'_, '_>) -> T) -> BTreeMap<String, T> {
        let mut all = BTreeMap::new();
        for (id, slot) in map.entries() {
            if !slot.is_map() {
                self.faults.note(|| format!("{place}[{id:?}] is not a map"));
                continue;
            }
            let mut fields = Reader::new(slot, format!("{place}[{id:?}]."), self.faults);
            if slot.field("removedAt").last().is_some() {
                self.removed.insert(id.to_owned(), fields.word("name").unwrap_or_default());
                all.remove(id);
            } else if !self.removed.contains_key(id) {
                all.insert(id.to_owned(), read(&mut fields));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_workspace_has_one_agent_and_it_is_the_default() {
        let document = create_workspace("Home").unwrap();
        let read = workspace(&document);
        assert_eq!((read.name.as_str(), read.is_workspace, read.faults.as_slice()), ("Home", true, &[][..]));
        assert_eq!(read.agents.len(), 1);
        let agent = &read.agents[&read.default_agent];
        assert_eq!((agent.name.as_str(), agent.model.as_deref(), agent.thread), ("Assistant", None, 1));
        assert!(!agent.instructions.is_empty());
    }

    #[test]
    fn a_document_of_another_shape_reads_as_an_empty_workspace_with_its_faults_named() {
        let mut document = Automerge::new();
        let mut tx = document.transaction();
        tx.put(ROOT, "name", 7_i64).unwrap();
        tx.put(ROOT, "agents", "none").unwrap();
        let tasks = tx.put_object(ROOT, "tasks", ObjType::Map).unwrap();
        tx.put(&tasks, "t", true).unwrap();
        tx.commit();
        let faults = vec!["tasks[\"t\"] is not a map".to_owned(), "name is not a string".to_owned()];
        assert_eq!(workspace(&document), Workspace { faults, ..Workspace::default() });
    }
}
