//! The stored shapes as JSON Schema, for programs in other languages: what a document holds, as JSON. Not shipped; the
//! files in `docs/schema` are generated from these types by `tests/schema.rs`, which also holds them against documents
//! that the engine's own writers made.
//!
//! Only what every writer has to give is required. Fields that aren't named here are allowed everywhere, and so are
//! part types, request kinds, origins and run states that a later version adds. An absent value is an absent key, never
//! null. Whole numbers are `Int` in the document.

mod session;
mod workspace;

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};

pub use self::session::Session;
pub use self::workspace::Workspace;

/// The schema of one kind of document.
pub fn of<T: JsonSchema>() -> Schema {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    RecursiveTransform(without_null).transform(&mut schema);
    schema
}

/// An optional field is left out, not null.
fn without_null(schema: &mut Schema) {
    if let Some(types) = schema.get_mut("type").and_then(|types| types.as_array_mut()) {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(choices) = schema.get_mut("anyOf").and_then(|choices| choices.as_array_mut()) {
        let before = choices.len();
        choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
        if choices.len() < before
            && let [only] = choices.as_slice()
            && let Some(only) = only.as_object().cloned()
        {
            schema.remove("anyOf");
            only.into_iter().for_each(|(key, value)| drop(schema.insert(key, value)));
        }
    }
}

/// A member's own order of sessions, synced among that member's devices only.
#[derive(JsonSchema)]
pub struct Profile {
    /// Version of these shapes: 1.
    #[schemars(range(min = 1))]
    pub schema: u32,
    /// Says that this document is a profile.
    #[schemars(extend("const" = "profile"))]
    pub kind: String,
    /// Where the member dragged a session, by its id.
    pub order: BTreeMap<String, Place>,
    /// When the member pinned a session, by its id: milliseconds since the epoch.
    pub pins: BTreeMap<String, u64>,
}

/// Where a member dragged a session. Written whole.
#[derive(JsonSchema)]
pub struct Place {
    /// The position that counts for this member, as long as `over` is the session's own.
    pub position: String,
    /// The session's own position at that moment; absent: it had none.
    pub over: Option<String>,
}
