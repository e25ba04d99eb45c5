//! How a person's messages and requests stand in the document (the design's "Documents").

use automerge::transaction::{Transactable, Transaction};
use automerge::{AutomergeError, ObjId, ObjType, ROOT, ReadDoc};

use super::{Attachment, Given};
use crate::ids::random_id;
use crate::session::fields::Fields;
use crate::session::model::{Origin, PartKind};
use crate::session::read::SCHEMA;
use crate::session::write::{container, part_value, put_word};

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
    let fields = match origin {
        Origin::Task { task, run } => {
            Fields::default().word("kind", Some("task")).word("task", Some(task)).word("run", Some(run))
        }
        Origin::Duplicate { session, message } => Fields::default()
            .word("kind", Some("duplicate"))
            .word("session", Some(session))
            .word("message", Some(message)),
    };
    tx.batch_create_object(ROOT, "origin", &fields.into(), false).map(drop)
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
    let files = words.attachments.iter().cloned().map(|Attachment { blob, mime, name, size }| PartKind::Attachment {
        blob,
        mime,
        name: name.trim().to_owned(),
        size,
    });
    let text = words.text.map(|text| PartKind::Text(text.to_owned()));
    let mut fields = Fields::default()
        .word("id", Some(&id))
        .word("role", Some("user"))
        .word("author", Some(given.by))
        .int("createdAt", Some(given.at.0))
        .word("action", words.action)
        .list("parts", files.chain(text).map(|kind| part_value(&kind, None)).collect());
    if !words.hides.is_empty() {
        fields = fields.texts("hides", words.hides);
    }
    if let Some(over) = words.over {
        fields = fields.texts("over", over);
    }
    let index = at.unwrap_or_else(|| tx.length(messages));
    tx.batch_create_object(messages, index, &fields.into(), true)?;
    Ok(id)
}

/// Adds a request with what is particular to its kind; returns its id.
pub(super) fn request(
    tx: &mut Transaction<'_>,
    kind: &str,
    target: Option<&str>,
    particular: Fields,
    given: &Given<'_>,
) -> Result<String, AutomergeError> {
    let id = given.id.map_or_else(random_id, str::to_owned);
    let fields = particular
        .word("id", Some(&id))
        .word("kind", Some(kind))
        .word("target", target)
        .word("by", Some(given.by))
        .int("at", Some(given.at.0));
    let requests = container(tx, "requests", ObjType::Map)?;
    tx.batch_create_object(&requests, id.as_str(), &fields.into(), false)?;
    Ok(id)
}
