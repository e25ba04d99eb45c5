//! Checks a command against what its author sees, and writes it.

use automerge::transaction::{Transactable, Transaction};
use automerge::{ObjType, ROOT};

use super::shape::{self, Words, request};
use super::{Attachment, Command, CommandError, Done, Draft, Given, check, seen as look};
use crate::ids::Micros;
use crate::session::conversation::{Content, Conversation, ShownMessage};
use crate::session::fields::Fields;
use crate::session::model::{RequestKind, Session};
use crate::session::rules::{Rule, off};
use crate::session::write::{container, find_message, put_int, put_word};

/// Checks a command against what its author sees, and writes it. A command that finds its wish fulfilled (restoring
/// what isn't archived) writes nothing.
pub fn apply(
    tx: &mut Transaction<'_>,
    session: &Session,
    seen: &Conversation,
    command: &Command,
    given: &Given<'_>,
) -> Result<Done, CommandError> {
    if !session.is_session {
        return Err(CommandError::NotASession);
    }
    let id = match command {
        Command::Send(draft) => Some(send(tx, seen, draft, given)?),
        Command::Edit { message, text, detach } => Some(edit(tx, session, seen, (message, text, detach), given)?),
        Command::Remove { message } => {
            look::queued(session, seen, message)?;
            let messages = container(tx, "messages", ObjType::List)?;
            let words = Words { hides: std::slice::from_ref(message), ..Words::default() };
            Some(shape::message(tx, &messages, None, &words, given)?)
        }
        Command::Pause => {
            let run = look::streaming(session, seen)?;
            Some(request(tx, "pause", Some(&run.key()), Fields::default(), given)?)
        }
        Command::Continue => {
            let run = look::stopped(session, seen)?;
            let over = Fields::default().texts("over", &seen.stops);
            Some(request(tx, "continue", Some(&run.key()), over, given)?)
        }
        Command::Steer { message } => {
            look::queued(session, seen, message)?;
            let run = look::streaming(session, seen)?;
            Some(request(tx, "steer", Some(&run.key()), Fields::default(), given)?)
        }
        Command::Retry { message } => {
            let (target, n) = look::again(session, seen, message.as_deref())?;
            Some(request(tx, "retry", Some(&target), Fields::default().int("n", Some(n)), given)?)
        }
        Command::Approve { call, for_session } => {
            let scope = if *for_session { "session" } else { "once" };
            let digest = Some(look::waiting_call(seen, call)?);
            let what = Fields::default().word("digest", digest).word("scope", Some(scope));
            Some(request(tx, "approve", Some(call), what, given)?)
        }
        Command::Deny { call, reason } => {
            look::waiting_call(seen, call)?;
            let reason = reason.as_deref().map_or(Ok(None), check::text_or_none)?;
            Some(request(tx, "deny", Some(call), Fields::default().word("reason", reason), given)?)
        }
        Command::Rename { name } => {
            let name = check::name(name)?;
            if session.user_name.as_deref() != Some(name) {
                let names = container(tx, "names", ObjType::Map)?;
                put_word(tx, &names, "user", Some(name))?;
            }
            None
        }
        Command::SmartRename => {
            let title = session.user_name.as_deref().or(seen.auto_title.as_deref());
            if session.user_name.is_some() {
                let names = container(tx, "names", ObjType::Map)?;
                tx.delete(&names, "user")?;
            }
            Some(request(tx, "smart-rename", None, Fields::default().word("title", title), given)?)
        }
        Command::SetAgent { agent } => {
            let agent = check::name(agent)?;
            if session.agent.as_deref() != Some(agent) {
                put_word(tx, &ROOT, "agent", Some(agent))?;
            }
            None
        }
        Command::Omit { message, part } => {
            look::omittable(seen, message, *part)?;
            if omitted(session, message, *part) {
                return Ok(Done::default());
            }
            let what = Fields::default().word("message", Some(message)).int("part", Some(*part));
            Some(request(tx, "omit", Some(message), what, given)?)
        }
        Command::SetSpendLimit { micros } => {
            match micros {
                Some(Micros(0)) => return Err(CommandError::BadLimit),
                Some(limit) if session.spend_limit != Some(*limit) => put_int(tx, &ROOT, "spendLimit", limit.0)?,
                None if session.spend_limit.is_some() => tx.delete(ROOT, "spendLimit")?,
                _ => {}
            }
            None
        }
        Command::Archive => {
            if session.archived_at.is_none() {
                put_int(tx, &ROOT, "archivedAt", given.at.0)?;
            }
            None
        }
        Command::Restore { position } => {
            if session.archived_at.is_some() {
                tx.delete(ROOT, "archivedAt")?;
                put_word(tx, &ROOT, "position", Some(position.as_str()).filter(|position| !position.is_empty()))?;
            }
            None
        }
        Command::Delete => {
            if session.deleted_at.is_none() {
                put_int(tx, &ROOT, "deletedAt", given.at.0)?;
            }
            None
        }
        Command::Undelete => {
            if session.deleted_at.is_some() {
                tx.delete(ROOT, "deletedAt")?;
            }
            None
        }
    };
    Ok(Done { id })
}

fn send(
    tx: &mut Transaction<'_>,
    seen: &Conversation,
    draft: &Draft,
    given: &Given<'_>,
) -> Result<String, CommandError> {
    let attachments = draft.attachments.as_deref().unwrap_or_default();
    check::attachments(attachments)?;
    let text = if attachments.is_empty() { Some(check::text(&draft.text)?) } else { check::text_or_none(&draft.text)? };
    let over = if draft.queue || off(Rule::OverSeen) { &[] } else { seen.stops.as_slice() };
    let messages = container(tx, "messages", ObjType::List)?;
    let words = Words { text, attachments, action: draft.action.as_deref(), over: Some(over), hides: &[] };
    Ok(shape::message(tx, &messages, None, &words, given)?)
}

fn edit(
    tx: &mut Transaction<'_>,
    session: &Session,
    seen: &Conversation,
    (id, text, detach): (&str, &str, &[u64]),
    given: &Given<'_>,
) -> Result<String, CommandError> {
    let (message, hides) = look::from_there_on(seen, id)?;
    let attachments = left(message, detach)?;
    let text = if attachments.is_empty() { Some(check::text(text)?) } else { check::text_or_none(text)? };
    let stored = session.messages.iter().position(|stored| stored.id == id);
    let action = stored.and_then(|index| session.messages[index].action.as_deref());
    let messages = container(tx, "messages", ObjType::List)?;
    // In the document's own list: elements that no reader takes for a message count, too.
    let queued = seen.queued.iter().any(|queued| queued.id == id);
    let at = if queued { find_message(tx, &messages, id)?.map(|(index, _)| index + 1) } else { None };
    let words = Words { text, attachments: &attachments, action, over: Some(&seen.stops), hides: &hides };
    Ok(shape::message(tx, &messages, at, &words, given)?)
}

/// The attachments of a message without those that are detached.
fn left(message: &ShownMessage, detach: &[u64]) -> Result<Vec<Attachment>, CommandError> {
    let files = message.parts.iter().filter_map(|part| match &part.content {
        Content::Attachment { blob, mime, name, size } => {
            Some(Attachment { blob: blob.clone(), mime: mime.clone(), name: name.clone(), size: *size })
        }
        _ => None,
    });
    let files: Vec<(u64, Attachment)> = (0..).zip(files).collect();
    if let Some(unknown) = detach.iter().find(|n| **n >= files.len() as u64) {
        return Err(CommandError::Unknown { what: "attachment", id: unknown.to_string() });
    }
    Ok(files.into_iter().filter(|(n, _)| !detach.contains(n)).map(|(_, file)| file).collect())
}

fn omitted(session: &Session, message: &str, part: u64) -> bool {
    session.requests.values().any(|request| {
        matches!(&request.kind, RequestKind::Omit { message: named, part: index } if named == message && *index == part)
    })
}
