//! What people do, by the engine's own commands; each is noted in the ledger with what its author knew.

use automerge::transaction::{Transactable, Transaction};
use automerge::{ObjType, ROOT, ReadDoc};
use skein_engine::ids::random_id;
use skein_engine::session::Session;
use skein_engine::session::command::{self, Command, CommandError, Done, Given};
use skein_engine::session::conversation::Conversation;
use skein_engine::session::model::Role;

use super::ledger::{Act, Over};
use super::{Who, World, id_of, text, transact};

impl World {
    pub fn command(&mut self, who: Who, command: Command) -> Result<Done, CommandError> {
        self.now = self.now.plus_ms(1_000);
        let (session, seen) = (self.session(who), self.look(who));
        let by = format!("person{who}");
        let given = Given { by: &by, at: self.now, id: None };
        let done = transact(&mut self.replicas[who], |tx| command::apply(tx, &session, &seen, &command, &given))?;
        if let Some(act) = act(&session, &seen, &command, &done) {
            self.ledger.record(who, act);
        }
        Ok(done)
    }

    pub fn send(&mut self, who: Who, text: &str) -> String {
        self.command(who, Command::send(text)).unwrap().id.unwrap()
    }

    /// An edit of the first of these texts; the others are what its author sees after it.
    pub fn edit(&mut self, who: Who, hides: &[&str], text: &str) -> String {
        let message = id_of(&self.session(who), hides[0]);
        self.command(who, Command::Edit { message, text: text.into(), detach: Vec::new() }).unwrap().id.unwrap()
    }

    pub fn pause(&mut self, who: Who) -> String {
        self.command(who, Command::Pause).unwrap().id.unwrap()
    }

    pub fn go_on(&mut self, who: Who) -> String {
        self.command(who, Command::Continue).unwrap().id.unwrap()
    }

    pub fn retry(&mut self, who: Who, text: &str) -> String {
        let message = id_of(&self.session(who), text);
        self.command(who, Command::Retry { message: Some(message) }).unwrap().id.unwrap()
    }
}

/// What a command that was done means, told from what its author saw; `None` if it means nothing for what is shown.
fn act(session: &Session, seen: &Conversation, command: &Command, done: &Done) -> Option<Act> {
    let run = || seen.front.clone().unwrap_or_default();
    let request = || done.id.clone().unwrap_or_default();
    let named = |id: &str| {
        let all = seen.messages.iter().chain(&seen.queued);
        all.filter(|message| message.id == id).map(text).next().unwrap_or_default()
    };
    Some(match command {
        Command::Send(draft) => {
            let over = if draft.queue { Over::None } else { Over::Known };
            Act::Said { text: draft.text.clone(), hides: Vec::new(), over }
        }
        Command::Edit { message, text: words, .. } => {
            let queued = seen.queued.iter().any(|queued| queued.id == *message);
            let from = seen.messages.iter().position(|shown| shown.id == *message);
            let after = seen.messages[from.unwrap_or(seen.messages.len())..].iter().chain(&seen.queued);
            let after = after.filter(|shown| shown.role == Role::User).map(text);
            let hides = if queued { vec![named(message)] } else { after.collect() };
            Act::Said { text: words.clone(), hides, over: Over::Known }
        }
        Command::Remove { message } => Act::Removed { text: named(message) },
        Command::Pause => Act::Paused { request: request(), run: run() },
        Command::Continue => Act::Continued { request: request() },
        Command::Steer { .. } => Act::Steered { run: run() },
        Command::Retry { .. } => Act::Retried,
        Command::Approve { call, .. } => Act::Approved { call: call.clone() },
        Command::Deny { call, .. } => Act::Denied { call: call.clone() },
        Command::Rename { name } => {
            (session.user_name.as_ref() != Some(name)).then(|| Act::Renamed { name: name.clone() })?
        }
        Command::SmartRename => Act::AskedForName,
        Command::SetAgent { agent } => {
            let value = Some(agent.clone());
            (session.agent != value).then_some(Act::Set { field: "agent", value })?
        }
        Command::SetSpendLimit { micros } => {
            let value = micros.map(|micros| micros.0.to_string());
            (session.spend_limit != *micros).then_some(Act::Set { field: "limit", value })?
        }
        Command::Archive => session.archived_at.is_none().then_some(Act::Archived { yes: true })?,
        Command::Restore { .. } => session.archived_at.is_some().then_some(Act::Archived { yes: false })?,
        Command::Delete => session.deleted_at.is_none().then_some(Act::Deleted { yes: true })?,
        Command::Undelete => session.deleted_at.is_some().then_some(Act::Deleted { yes: false })?,
        Command::Omit { .. } => return None,
    })
}

impl World {
    /// A message as a client writes it that knows nothing of `over`, nor of our way with words.
    pub fn foreign_message(&mut self, who: Who, text: &str) -> String {
        let id = random_id();
        transact(&mut self.replicas[who], |tx| raw_message(tx, &id, text, &[], None)).unwrap();
        self.ledger.record(who, Act::Said { text: text.into(), hides: Vec::new(), over: Over::All });
        id
    }

    /// A request with these fields.
    pub fn foreign_request(&mut self, who: Who, fields: &[(&str, &str)]) -> String {
        transact(&mut self.replicas[who], |tx| foreign_request(tx, fields)).unwrap()
    }
}

/// A person's message as other versions and clients write it: field by field, its words a text.
pub fn raw_message(
    tx: &mut Transaction<'_>,
    id: &str,
    text: &str,
    hides: &[String],
    over: Option<&[String]>,
) -> Result<(), automerge::AutomergeError> {
    let (_, messages) = tx.get(ROOT, "messages")?.unwrap();
    let message = tx.insert_object(&messages, tx.length(&messages), ObjType::Map)?;
    tx.put(&message, "id", id)?;
    tx.put(&message, "role", "user")?;
    for (key, ids) in [("hides", Some(hides)), ("over", over)] {
        let Some(ids) = ids else { continue };
        let list = tx.put_object(&message, key, ObjType::List)?;
        for (index, id) in ids.iter().enumerate() {
            tx.insert(&list, index, id.as_str())?;
        }
    }
    let parts = tx.put_object(&message, "parts", ObjType::List)?;
    let part = tx.insert_object(&parts, 0, ObjType::Map)?;
    tx.put(&part, "type", "text")?;
    let words = tx.put_object(&part, "text", ObjType::Text)?;
    tx.splice_text(&words, 0, 0, text)
}

fn foreign_request(tx: &mut Transaction<'_>, fields: &[(&str, &str)]) -> Result<String, automerge::AutomergeError> {
    let (_, requests) = tx.get(ROOT, "requests")?.unwrap();
    let id = random_id();
    let request = tx.put_object(&requests, id.as_str(), ObjType::Map)?;
    tx.put(&request, "id", id.as_str())?;
    for (key, value) in fields {
        tx.put(&request, *key, *value)?;
    }
    Ok(id)
}
