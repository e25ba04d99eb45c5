//! A session as JSON that loses nothing: the document as its stored shapes have it (`docs/schema/session.json`), and what
//! of it nobody has vouched for. [`super::import`] reads it back.
//!
//! Conflicting maps are folded as readers fold them, of other conflicting values the winner stands, both kinds of string
//! are a string. What JSON can't hold is an object with one key: `{"$bytes": hex}`.

use std::collections::BTreeMap;

use automerge::{Automerge, ObjId, ObjType, ReadDoc, ScalarValue, Value as Stored};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::conversation::Writers;
use super::model::{Role, Session};
use super::trust::{self, Verdict};
use crate::ids::DocumentId;

/// The version that this engine writes, and the newest that it reads.
pub const VERSION: u32 = 1;
/// Deeper containers are left out; our own shapes have at most six levels.
const MAX_DEPTH: usize = 24;

/// A session outside of any workspace.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// [`VERSION`].
    pub version: u32,
    /// The session's id where it comes from.
    pub id: DocumentId,
    /// The document, as `docs/schema/session.json` has it.
    pub document: Value,
    /// What no worker or member is known to have written, though it looks so: an import leaves it out.
    #[serde(default)]
    pub untrusted: Untrusted,
    /// What ids of members and agents in it stand for.
    #[serde(default)]
    pub names: BTreeMap<String, String>,
    /// The files that it names, by their SHA-256, in base64; without those that could not be had.
    #[serde(default)]
    pub blobs: BTreeMap<String, String>,
}

/// See [`Exported::untrusted`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Untrusted {
    /// Ids.
    pub messages: Vec<String>,
    /// Keys.
    pub runs: Vec<String>,
}

/// The session, without names and files.
pub fn export(id: DocumentId, document: &Automerge, session: &Session, writers: &Writers) -> Exported {
    Exported {
        version: VERSION,
        id,
        document: map(document, &[ObjId::Root], 0),
        untrusted: untrusted(session, writers),
        names: BTreeMap::new(),
        blobs: BTreeMap::new(),
    }
}

fn untrusted(session: &Session, writers: &Writers) -> Untrusted {
    let maker = session.maker.as_ref();
    let inherited = |turn: Option<&str>, epoch| {
        let mut runs = session.runs.values().flatten();
        runs.any(|run| run.inherited && Some(run.turn.as_str()) == turn && Some(run.epoch) == epoch)
    };
    let messages = session.messages.iter().filter(|message| match message.role {
        Role::User => !trust::message(message, writers),
        Role::Assistant => {
            let inherited = inherited(message.turn.as_deref(), message.epoch);
            trust::answer(message, inherited, maker, writers) != Verdict::Counts
        }
    });
    let runs = session
        .runs
        .iter()
        .filter(|(_, values)| values.iter().any(|run| trust::run(run, maker, writers) != Verdict::Counts));
    Untrusted {
        messages: messages.map(|message| message.id.clone()).collect(),
        runs: runs.map(|(key, _)| key.clone()).collect(),
    }
}

/// Maps that stand in one place, as one: of a key that several have, the later one's value, maps again as one.
fn map(document: &Automerge, ids: &[ObjId], depth: usize) -> Value {
    let mut keys: BTreeMap<String, Vec<(Stored<'_>, ObjId)>> = BTreeMap::new();
    for id in ids {
        for key in document.keys(id) {
            let values = document.get_all(id, key.as_str()).unwrap_or_default();
            keys.entry(key).or_default().extend(values);
        }
    }
    let entries = keys.into_iter().filter_map(|(key, values)| Some((key, one_of(document, values, depth)?)));
    Value::Object(Map::from_iter(entries))
}

/// What stands where these values do.
fn one_of(document: &Automerge, values: Vec<(Stored<'_>, ObjId)>, depth: usize) -> Option<Value> {
    let (winner, id) = values.last()?;
    match winner {
        Stored::Object(_) if depth == MAX_DEPTH => None,
        Stored::Object(ObjType::Map | ObjType::Table) => {
            let maps =
                values.iter().filter(|(value, _)| matches!(value, Stored::Object(ObjType::Map | ObjType::Table)));
            Some(map(document, &maps.map(|(_, id)| id.clone()).collect::<Vec<_>>(), depth + 1))
        }
        Stored::Object(ObjType::List) => {
            let lists = values.iter().filter(|(value, _)| matches!(value, Stored::Object(ObjType::List)));
            let elements = lists.flat_map(|(_, id)| (0..document.length(id)).map(move |index| (id, index)));
            let all = elements
                .filter_map(|(id, index)| one_of(document, document.get_all(id, index).unwrap_or_default(), depth + 1));
            Some(Value::Array(all.collect()))
        }
        Stored::Object(ObjType::Text) => document.text(id).ok().map(Value::String),
        Stored::Scalar(value) => Some(scalar(value)),
    }
}

fn scalar(value: &ScalarValue) -> Value {
    match value {
        ScalarValue::Str(text) => text.as_str().into(),
        ScalarValue::Int(n) | ScalarValue::Timestamp(n) => (*n).into(),
        ScalarValue::Uint(n) => (*n).into(),
        ScalarValue::F64(n) => (*n).into(),
        ScalarValue::Counter(counter) => i64::from(counter).into(),
        ScalarValue::Boolean(yes) => (*yes).into(),
        ScalarValue::Null => Value::Null,
        ScalarValue::Bytes(bytes) | ScalarValue::Unknown { bytes, .. } => {
            Map::from_iter([("$bytes".to_owned(), Value::String(hex::encode(bytes)))]).into()
        }
    }
}
