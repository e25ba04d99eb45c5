//! The workspace and profile documents: made by the relay, read by everyone.

use std::collections::BTreeMap;

use automerge::{Automerge, AutomergeError};
use serde::{Deserialize, Serialize};

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
pub fn create_workspace(_name: &str) -> Result<Automerge, AutomergeError> {
    unimplemented!()
}

/// Makes a member's profile document.
pub fn create_profile() -> Result<Automerge, AutomergeError> {
    unimplemented!()
}

/// Reads a workspace document; what is missing is empty.
pub fn workspace(_document: &Automerge) -> Workspace {
    unimplemented!()
}
