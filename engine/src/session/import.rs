//! An exported session → a new one: rebuilt as a copy is (see [`super::duplicate`]), with everything that is shown, what
//! was queued too. Its runs are inherited: they show, and are not counted again. Nothing of it is acted on.
//!
//! Invariant: any JSON gives a session or an error, and a file of someone else's making gives no more rights than one's own
//! words: what the import says an assistant said is shown as such, as in any copy, and starts nothing.

use automerge::hydrate::{List, Map, Value as Stored};
use automerge::transaction::Transactable;
use automerge::{Automerge, ScalarValue};
use serde_json::Value;

use super::command::{CommandError, Given};
use super::conversation::{Leases, Writers, conversation};
use super::duplicate::{self, Source};
use super::export::{Exported, VERSION};
use super::read;
use crate::ids::random_actor;

/// Why it can't be read back.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ImportError {
    /// A later version's.
    #[error("this export is of version {0}, this program reads version {VERSION}")]
    Version(u32),
    /// Its `document` is no session.
    #[error("this export holds no session")]
    NotASession,
    /// The engine refused it.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// A new session with what the export shows, at a position. `is_known` says which ids of members and agents stand for
/// someone here; the others are replaced by their names.
pub fn import(
    exported: &Exported,
    position: &str,
    given: &Given<'_>,
    is_known: impl Fn(&str) -> bool,
) -> Result<Automerge, ImportError> {
    if exported.version != VERSION {
        return Err(ImportError::Version(exported.version));
    }
    let mut plain = exported.document.clone();
    prepare(&mut plain, exported, &is_known);
    let Stored::Map(root) = stored(&plain) else { return Err(ImportError::NotASession) };
    let mut document = Automerge::new().with_actor(random_actor());
    let mut tx = document.transaction();
    tx.init_root_from_hydrate(&root).map_err(|error| CommandError::Document(error.to_string()))?;
    tx.commit();
    let session = read::session(&document);
    if !session.is_session {
        return Err(ImportError::NotASession);
    }
    let seen = conversation(&session, &Leases::default(), &Writers::default(), given.at);
    let last = seen.queued.last().map(|message| message.id.clone());
    let source = Source { id: exported.id, document: &document, session: &session, seen: &seen };
    Ok(duplicate::duplicate(source, last.as_deref(), position, given)?)
}

/// Takes out what may not be believed or acted on, and says that the rest comes from elsewhere.
fn prepare(document: &mut Value, exported: &Exported, is_known: &impl Fn(&str) -> bool) {
    let name = |slot: &mut Value| {
        let named = slot.as_str().filter(|id| !is_known(id)).and_then(|id| exported.names.get(id));
        if let Some(name) = named.cloned() {
            *slot = name.into();
        }
    };
    let Some(root) = document.as_object_mut() else { return };
    root.insert("requests".into(), Value::Object(Default::default()));
    if let Some(agent) = root.get("agent").and_then(Value::as_str)
        && !is_known(agent)
    {
        root.remove("agent");
    }
    if let Some(messages) = root.get_mut("messages").and_then(Value::as_array_mut) {
        let untrusted = &exported.untrusted.messages;
        let id = |message: &Value| message.get("id").and_then(Value::as_str).map(str::to_owned);
        messages.retain(|message| id(message).is_none_or(|id| !untrusted.contains(&id)));
        messages.iter_mut().filter_map(|message| message.get_mut("author")).for_each(name);
    }
    if let Some(runs) = root.get_mut("runs").and_then(Value::as_object_mut) {
        runs.retain(|key, _| !exported.untrusted.runs.contains(key));
        for run in runs.values_mut().filter_map(Value::as_object_mut) {
            run.insert("inherited".into(), true.into());
            run.get_mut("agent").into_iter().for_each(name);
        }
    }
}

/// As documents hold it: strings scalar, whole numbers `Int`.
fn stored(value: &Value) -> Stored {
    match value {
        Value::Null => ScalarValue::Null.into(),
        Value::Bool(yes) => ScalarValue::Boolean(*yes).into(),
        Value::Number(n) => match n.as_i64() {
            Some(n) => ScalarValue::Int(n).into(),
            None => ScalarValue::F64(n.as_f64().unwrap_or_default()).into(),
        },
        Value::String(text) => ScalarValue::Str(text.as_str().into()).into(),
        Value::Array(items) => Stored::List(List::from(items.iter().map(stored).collect::<Vec<_>>())),
        Value::Object(fields) => match bytes(fields) {
            Some(bytes) => ScalarValue::Bytes(bytes).into(),
            None => {
                let fields = fields.iter().map(|(key, value)| (key.clone(), stored(value)));
                Stored::Map(Map::from(fields.collect::<std::collections::HashMap<_, _>>()))
            }
        },
    }
}

fn bytes(fields: &serde_json::Map<String, Value>) -> Option<Vec<u8>> {
    let encoded = fields.get("$bytes").filter(|_| fields.len() == 1)?;
    hex::decode(encoded.as_str()?).ok()
}
