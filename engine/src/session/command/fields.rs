//! How a person's messages and requests stand in the document (the design's "Documents").

use automerge::transaction::{Transactable, Transaction};
use automerge::{AutomergeError, ObjId, ObjType, ROOT, ReadDoc, Value};

use super::{Attachment, Given};
use crate::ids::random_id;
use crate::session::model::{Origin, PartKind};
use crate::session::write::{container, put_int, put_part, put_texts, put_word};

/// Version of the shapes that are written.
const SCHEMA: i64 = 1;

/// What a message says, and what it stands for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Words<'a> {
    /// Its words, if it has any.
    pub text: Option<&'a str>,
    /// Its files. Without words and files it only hides, and wakes no queue.
    pub attachments: &'a [Attachment],
    /// The action that it comes from.
    pub action: Option<&'a str>,
    /// The stops that its author saw; `None`: all of them.
    pub over: Option<&'a [String]>,
    /// Messages that it hides.
    pub hides: &'a [String],
}

/// Schema and kind of a session.
pub(in crate::session) fn root(tx: &mut Transaction<'_>) -> Result<(), AutomergeError> {
    tx.put(ROOT, "schema", SCHEMA)?;
    put_word(tx, &ROOT, "kind", Some("session"))
}

/// What made a session.
pub(in crate::session) fn origin(tx: &mut Transaction<'_>, origin: &Origin) -> Result<(), AutomergeError> {
    let fields = tx.put_object(ROOT, "origin", ObjType::Map)?;
    let [kind, first, second] = match origin {
        Origin::Task { task, run } => [("kind", "task"), ("task", task.as_str()), ("run", run.as_str())],
        Origin::Duplicate { session, message } => [("kind", "duplicate"), ("session", session), ("message", message)],
    };
    [kind, first, second].into_iter().try_for_each(|(key, word)| put_word(tx, &fields, key, Some(word)))
}

/// Adds a message of a person, at the end or at an index; returns its id.
pub(super) fn message(
    tx: &mut Transaction<'_>,
    messages: &ObjId,
    at: Option<usize>,
    words: &Words<'_>,
    given: &Given<'_>,
) -> Result<String, AutomergeError> {
    let id = given.id.map_or_else(random_id, str::to_owned);
    let index = at.unwrap_or_else(|| tx.length(messages));
    let message = tx.insert_object(messages, index, ObjType::Map)?;
    put_word(tx, &message, "id", Some(&id))?;
    put_word(tx, &message, "role", Some("user"))?;
    put_word(tx, &message, "author", Some(given.by))?;
    put_int(tx, &message, "createdAt", given.at.0)?;
    if !words.hides.is_empty() {
        put_texts(tx, &message, "hides", words.hides)?;
    }
    if let Some(over) = words.over {
        put_texts(tx, &message, "over", over)?;
    }
    put_word(tx, &message, "action", words.action)?;
    let parts = tx.put_object(&message, "parts", ObjType::List)?;
    let files = words.attachments.iter().cloned().map(|Attachment { blob, mime, name, size }| PartKind::Attachment {
        blob,
        mime,
        name: name.trim().to_owned(),
        size,
    });
    let text = words.text.map(|text| PartKind::Text(text.to_owned()));
    for (index, kind) in files.chain(text).enumerate() {
        put_part(tx, &parts, index, &kind)?;
    }
    Ok(id)
}

/// Adds a request; returns its id, and the map for what is particular to its kind.
pub(super) fn request(
    tx: &mut Transaction<'_>,
    kind: &str,
    target: Option<&str>,
    given: &Given<'_>,
) -> Result<(String, ObjId), AutomergeError> {
    let id = given.id.map_or_else(random_id, str::to_owned);
    let requests = container(tx, "requests", ObjType::Map)?;
    let fields = tx.put_object(&requests, id.as_str(), ObjType::Map)?;
    put_word(tx, &fields, "id", Some(&id))?;
    put_word(tx, &fields, "kind", Some(kind))?;
    put_word(tx, &fields, "target", target)?;
    put_word(tx, &fields, "by", Some(given.by))?;
    put_int(tx, &fields, "at", given.at.0)?;
    Ok((id, fields))
}

/// Where a message is in the document's list. Looked for from the end, where what is queued is.
pub(super) fn index_of(tx: &Transaction<'_>, messages: &ObjId, id: &str) -> Result<Option<usize>, AutomergeError> {
    for index in (0..tx.length(messages)).rev() {
        let Some((Value::Object(ObjType::Map), message)) = tx.get(messages, index)? else { continue };
        let named = match tx.get(&message, "id")? {
            Some((Value::Scalar(scalar), _)) => scalar.as_str().is_some_and(|known| known == id),
            Some((Value::Object(ObjType::Text), text)) => tx.text(&text)? == id,
            _ => false,
        };
        if named {
            return Ok(Some(index));
        }
    }
    Ok(None)
}
