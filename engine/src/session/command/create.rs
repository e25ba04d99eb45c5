//! How a session begins: the whole document in one change.

use automerge::transaction::{Transactable, Transaction};
use automerge::{ObjType, ROOT};
use serde::{Deserialize, Serialize};

use super::shape::{self, Words};
use super::{Attachment, CommandError, Given, check};
use crate::ids::Micros;
use crate::session::model::Origin;
use crate::session::write::{put_int, put_word};

/// How a session begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(optional_fields = nullable))]
#[serde(rename_all = "camelCase", default)]
pub struct NewSession {
    /// The person's name for it.
    pub name: Option<String>,
    /// The agent's id; `None`: the workspace's default.
    pub agent: Option<String>,
    /// The first message.
    pub message: Option<String>,
    /// Its files.
    pub attachments: Option<Vec<Attachment>>,
    /// Id of the action that the first message comes from.
    pub action: Option<String>,
    /// 1 + the highest whole number of all positions known (rule 17).
    pub position: Option<String>,
    /// What made it, if not a person.
    pub origin: Option<Origin>,
    /// What all its runs may cost together; at least 1.
    pub spend_limit: Option<Micros>,
}

/// Checks a new session, and writes the whole document in one change: all shared containers, and the first message.
pub fn create(tx: &mut Transaction<'_>, new: &NewSession, given: &Given<'_>) -> Result<(), CommandError> {
    let name = new.name.as_deref().map(check::name).transpose()?;
    let files = new.attachments.as_deref().unwrap_or_default();
    let text = match &new.message {
        Some(text) if files.is_empty() => Some(check::text(text)?),
        Some(text) => check::text_or_none(text)?,
        None => None,
    };
    check::attachments(files)?;
    if new.spend_limit == Some(Micros(0)) {
        return Err(CommandError::BadLimit);
    }
    shape::root(tx)?;
    let names = tx.put_object(ROOT, "names", ObjType::Map)?;
    put_word(tx, &names, "user", name)?;
    put_word(tx, &ROOT, "agent", new.agent.as_deref())?;
    put_word(tx, &ROOT, "position", new.position.as_deref())?;
    put_int(tx, &ROOT, "createdAt", given.at.0)?;
    put_word(tx, &ROOT, "createdBy", Some(given.by))?;
    if let Some(origin) = &new.origin {
        shape::origin(tx, origin)?;
    }
    if let Some(limit) = new.spend_limit {
        put_int(tx, &ROOT, "spendLimit", limit.0)?;
    }
    let messages = tx.put_object(ROOT, "messages", ObjType::List)?;
    tx.put_object(ROOT, "runs", ObjType::Map)?;
    tx.put_object(ROOT, "requests", ObjType::Map)?;
    if text.is_some() || !files.is_empty() {
        let words = Words { text, attachments: files, action: new.action.as_deref(), over: Some(&[]), hides: &[] };
        shape::message(tx, &messages, None, &words, given)?;
    }
    Ok(())
}
