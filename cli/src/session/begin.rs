//! How a session comes to be, and how words come into it.

use skein_engine::ids::DocumentId;
use skein_engine::session::Command;
use skein_engine::session::command::{Draft, NewSession};

use super::args::{New, Send};
use super::attach::attached;
use super::change::act;
use crate::action::Filled;
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{Made, line};

/// `session new`.
pub(super) async fn new(opened: &Opened, new: New) -> Result<(), Failure> {
    let workspace = opened.workspace().await;
    let filled = match &new.action {
        Some(action) => Some(Filled::of(&workspace, action, new.set)?),
        None => None,
    };
    let (message, action) = match filled {
        Some(filled) => (Some(filled.text), Some(filled.action)),
        None => (new.message, None),
    };
    let begun = NewSession { name: new.name, agent: new.agent, message, action, ..NewSession::default() };
    Made::of(begin(opened, begun).await?.to_string()).print(new.json)
}

/// Makes a session; its id.
pub(crate) async fn begin(opened: &Opened, new: NewSession) -> Result<DocumentId, Failure> {
    let id = opened.client.act(|device, now| device.create(now, &new)).await?;
    opened.brought(id).await?;
    Ok(id)
}

/// `session send`.
pub(super) async fn said(opened: &Opened, message: Send) -> Result<(), Failure> {
    let id = opened.listed_session(&message.id).await?;
    let files = attached(opened, &message.attach).await?;
    let attachments = Some(files).filter(|files| !files.is_empty());
    let draft = Draft { text: message.text, queue: message.queue, attachments, action: None };
    act(opened, id, Command::Send(draft)).await?.map_or(Ok(()), |id| line(&id))
}

/// Sends a message; its id.
pub(crate) async fn send(opened: &Opened, session: &str, draft: Draft) -> Result<Option<String>, Failure> {
    let id = opened.listed_session(session).await?;
    act(opened, id, Command::Send(draft)).await
}

/// `session duplicate`.
pub(super) async fn duplicate(opened: &Opened, id: &str, at: Option<&str>, as_json: bool) -> Result<(), Failure> {
    let id = opened.session(id).await?;
    let copy = opened.client.act(|device, now| device.duplicate(now, id, at)).await?;
    opened.brought(copy).await?;
    Made::of(copy.to_string()).print(as_json)
}
