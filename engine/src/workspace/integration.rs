//! An integration of the workspace (an MCP server of the operator's `skein.toml`): whether members use it, and which of
//! its tools may run without asking. The operator's own policy is the floor; this one can only tighten it.

use std::collections::BTreeMap;

use automerge::transaction::{Transactable, Transaction};
use automerge::{AutomergeError, ObjId, ObjType};
use serde::{Deserialize, Serialize};

use super::fields::{self, word};
use crate::session::read::Faults;
use crate::session::tree::Slot;
use crate::session::write::container;

/// What may run of a tool server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Integration {
    /// Whether agents may use it. One of which members have said nothing may be used.
    pub enabled: bool,
    /// By the tool's name; `*` stands for all others.
    pub policy: BTreeMap<String, Policy>,
}

/// What happens when a tool is called, from the loosest to the strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// It runs.
    Allow,
    /// It asks until a person has approved a call of it in this session.
    Once,
    /// It asks every time, whatever was approved before.
    Ask,
    /// It doesn't run.
    Deny,
}

impl Policy {
    /// As documents and settings write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Once => "once",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }

    /// What is meant by a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Allow, Self::Once, Self::Ask, Self::Deny].into_iter().find(|policy| policy.word() == word)
    }
}

impl std::str::FromStr for Policy {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::from_word(word).ok_or_else(|| "ask, once, allow or deny".to_owned())
    }
}

impl Default for Integration {
    fn default() -> Self {
        Self { enabled: true, policy: BTreeMap::new() }
    }
}

impl Integration {
    /// What members have said of a tool; `None`: nothing, the operator's policy stands.
    pub fn policy_of(&self, tool: &str) -> Option<Policy> {
        self.policy.get(tool).or_else(|| self.policy.get("*")).copied()
    }
}

/// Reads all. Two members may each have made an entry while apart: their policies are joined, and of what contradicts
/// itself the stricter counts.
pub(super) fn read_all(map: Slot<'_>, faults: &mut Faults) -> BTreeMap<String, Integration> {
    let mut all: BTreeMap<String, Integration> = BTreeMap::new();
    for (name, slot) in map.entries() {
        if !slot.is_map() {
            faults.note(|| format!("integrations[{name:?}] is not a map"));
            continue;
        }
        let known = all.contains_key(name);
        let integration = all.entry(name.to_owned()).or_default();
        let mut enabled = known.then_some(integration.enabled);
        for one in slot.each() {
            for value in one.field("enabled").each() {
                let on = value.bool().unwrap_or_else(|| {
                    faults.note(|| format!("integrations[{name:?}].enabled is not true or false"));
                    false
                });
                enabled = Some(enabled.unwrap_or(true) && on);
            }
            for (tool, values) in one.field("policy").entries() {
                for value in values.each() {
                    // What can't be understood asks.
                    let policy = value.text().and_then(Policy::from_word).unwrap_or_else(|| {
                        faults.note(|| format!("integrations[{name:?}].policy[{tool:?}] is not understood"));
                        Policy::Ask
                    });
                    let standing = integration.policy.entry(tool.to_owned()).or_insert(policy);
                    *standing = policy.max(*standing);
                }
            }
        }
        // The operator has it, and nobody has switched it off.
        integration.enabled = enabled.unwrap_or(true);
    }
    all
}

/// The maps of an integration, made where they are missing.
fn maps(tx: &mut Transaction<'_>, name: &str) -> Result<Vec<ObjId>, AutomergeError> {
    let mut maps = fields::standing(tx, "integrations", name)?;
    if maps.is_empty() {
        let all = container(tx, "integrations", ObjType::Map)?;
        maps.push(tx.put_object(&all, name, ObjType::Map)?);
    }
    Ok(maps)
}

pub(super) fn put_enabled(tx: &mut Transaction<'_>, name: &str, enabled: bool) -> Result<(), AutomergeError> {
    let maps = maps(tx, name)?;
    fields::put(tx, &maps, "enabled", Some(enabled.into()))
}

pub(super) fn put_policy(
    tx: &mut Transaction<'_>,
    name: &str,
    tool: &str,
    policy: Option<Policy>,
) -> Result<(), AutomergeError> {
    let maps = maps(tx, name)?;
    let mut policies = fields::maps(tx, &maps, "policy")?;
    if policies.is_empty()
        && let Some(map) = maps.last()
    {
        policies.push(tx.put_object(map, "policy", ObjType::Map)?);
    }
    fields::put(tx, &policies, tool, policy.map(|policy| word(policy.word())))
}
