//! The workspace and profile documents: made by the relay, read by everyone. All their shared containers are made in
//! the first change; what is missing in one reads as empty.

use std::collections::BTreeMap;

use automerge::transaction::{Transactable, Transaction};
use automerge::{Automerge, AutomergeError, ObjType, ROOT};
use serde::{Deserialize, Serialize};

use crate::ids::random_id;
use crate::session::tree::{self, Slot};
use crate::session::write::{put_int, put_texts, put_word};

/// What the first agent of a workspace is told.
const INSTRUCTIONS: &str = "You are a helpful assistant. Answer plainly and to the point. Say so when you don't know.";

/// What is read of the workspace document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workspace {
    /// Its name.
    pub name: String,
    /// Id of the agent that new sessions get.
    pub default_agent: String,
    /// By id.
    pub agents: BTreeMap<String, Agent>,
}

/// Who answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// As shown.
    pub name: String,
    /// `PROVIDER/MODEL`; `None`: the worker's own.
    pub model: Option<String>,
    /// The system prompt.
    pub instructions: String,
    /// Names of core tools.
    pub tools: Vec<String>,
    /// Colour of its thread, 1 to 7.
    pub thread: u8,
}

/// Makes a workspace document with one agent, "Assistant".
pub fn create_workspace(name: &str) -> Result<Automerge, AutomergeError> {
    written(|tx| {
        tx.put(ROOT, "schema", 1_i64)?;
        put_word(tx, &ROOT, "kind", Some("workspace"))?;
        put_word(tx, &ROOT, "name", Some(name))?;
        let id = random_id();
        put_word(tx, &ROOT, "defaultAgent", Some(&id))?;
        let agents = tx.put_object(ROOT, "agents", ObjType::Map)?;
        let agent = tx.put_object(&agents, id, ObjType::Map)?;
        put_word(tx, &agent, "name", Some("Assistant"))?;
        put_word(tx, &agent, "instructions", Some(INSTRUCTIONS))?;
        put_texts::<&str>(tx, &agent, "tools", &[])?;
        put_texts::<&str>(tx, &agent, "integrations", &[])?;
        put_int(tx, &agent, "thread", 1)?;
        for key in ["actions", "integrations", "tasks"] {
            tx.put_object(ROOT, key, ObjType::Map)?;
        }
        Ok(())
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
    let mut agents = BTreeMap::new();
    for (id, agent) in root.field("agents").entries() {
        if agent.is_map() {
            agents.insert(id.to_owned(), read_agent(agent));
        }
    }
    Workspace {
        name: root.field("name").word().unwrap_or_default(),
        default_agent: root.field("defaultAgent").word().unwrap_or_default(),
        agents,
    }
}

fn read_agent(agent: Slot<'_>) -> Agent {
    Agent {
        name: agent.field("name").word().unwrap_or_default(),
        model: agent.field("model").word(),
        instructions: agent.field("instructions").text().unwrap_or_default().to_owned(),
        tools: agent.field("tools").texts().unwrap_or_default(),
        thread: agent
            .field("thread")
            .count()
            .and_then(|n| u8::try_from(n).ok())
            .filter(|n| (1..=7).contains(n))
            .unwrap_or(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_workspace_has_one_agent_and_it_is_the_default() {
        let document = create_workspace("Home").unwrap();
        let read = workspace(&document);
        assert_eq!(read.name, "Home");
        assert_eq!(read.agents.len(), 1);
        let agent = &read.agents[&read.default_agent];
        assert_eq!((agent.name.as_str(), agent.model.as_deref(), agent.thread), ("Assistant", None, 1));
        assert!(!agent.instructions.is_empty());
    }

    #[test]
    fn a_document_of_another_shape_reads_as_an_empty_workspace() {
        let mut document = Automerge::new();
        let mut tx = document.transaction();
        tx.put(ROOT, "name", 7_i64).unwrap();
        tx.put(ROOT, "agents", "none").unwrap();
        tx.commit();
        assert_eq!(workspace(&document), Workspace::default());
    }
}
