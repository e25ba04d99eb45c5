//! Generates `docs/schema/*.json`, the stored shapes for other programs, and fails when what is checked in differs. The
//! schemas are held against documents of the engine's own writers, so that a field that one of them names otherwise is
//! noticed: nothing is stored that no schema names, and nothing is named that is never stored.
//!
//! `SKEIN_WRITE_SCHEMA=1 cargo test -p skein-engine --features schema --test schema` writes it anew.
#![cfg(feature = "schema")]
#![allow(clippy::unwrap_used)]

mod stored;

use std::collections::BTreeSet;
use std::path::Path;

use automerge::Automerge;
use serde_json::{Value, json};
use skein_engine::ids::{DocumentId, Timestamp};
use skein_engine::schema;
use skein_engine::session::command::Given;
use skein_engine::session::duplicate::{Source, duplicate};
use skein_engine::testing;
use skein_engine::workspace::{self, create_profile, create_workspace};

fn schemas() -> [(&'static str, Value); 3] {
    [
        ("session", schema::of::<schema::Session>().to_value()),
        ("workspace", schema::of::<schema::Workspace>().to_value()),
        ("profile", schema::of::<schema::Profile>().to_value()),
    ]
}

/// Everything that a document of each kind may hold, in one or several.
fn documents(kind: &str) -> Vec<Value> {
    let documents = match kind {
        "session" => vec![stored::session(), copy(&stored::session())],
        "workspace" => vec![stored::workspace(), create_workspace("Home").unwrap(), full_workspace()],
        _ => vec![stored::profile(), create_profile().unwrap()],
    };
    documents.iter().map(stored::json).collect()
}

/// A duplicate.
fn copy(document: &Automerge) -> Automerge {
    let (session, seen) = stored::see(document);
    let source = Source { id: DocumentId::from_bytes([3; 16]), document, session: &session, seen: &seen };
    let given = Given { by: "person", at: stored::NOW, id: None };
    duplicate(source, None, "0000000002", &given).unwrap()
}

/// A workspace in which every field of an entry has been set, and one of each has been removed.
fn full_workspace() -> Automerge {
    testing::seed(Some(10));
    let mut document = create_workspace("Home").unwrap();
    let commands = [
        json!({"type": "add-agent", "name": "Reader", "fields": [
            {"model": "local/some-model"}, {"instructions": "Read."}, {"tools": ["read_file"]},
            {"integrations": ["files"]}, {"thinking": 1000}, {"temperature": 0.5}, {"stepLimit": 9},
            {"spendLimit": 1_000_000}, {"thread": 7},
        ]}),
        json!({"type": "add-action", "name": "Sum up", "template": "Sum up {{text}}", "fields": [
            {"description": ["text", "What to sum up"]}, {"default": ["text", "all of it"]},
            {"type": ["text", "choice", ["all of it", "half"]]},
        ]}),
        json!({"type": "set-integration", "integration": "files", "enabled": false}),
        json!({"type": "add-task", "name": "News", "fields": [
            {"agent": "Reader"}, {"action": ["Sum up", {"text": "half"}]}, {"cron": "0 7 * * *"},
            {"tz": "Europe/Berlin"}, {"overlap": "queue"}, {"missed": "one"}, {"retries": 2}, {"timeout": 60_000},
            {"spendLimit": 500_000}, {"paused": true},
        ]}),
        json!({"type": "add-task", "name": "Hello", "fields": [{"message": "Say hello."}]}),
        json!({"type": "remove-task", "task": "News"}),
        json!({"type": "remove-action", "action": "Sum up"}),
        json!({"type": "remove-agent", "agent": "Reader"}),
    ];
    for command in commands {
        let command = serde_json::from_value(command).unwrap();
        let seen = workspace::workspace(&document);
        let given = Given { by: "person", at: Timestamp(1), id: None };
        let mut tx = document.transaction();
        workspace::command::apply(&mut tx, &seen, &command, &given).unwrap();
        tx.commit();
    }
    testing::seed(None);
    document
}

fn faults(schema: &Value, document: &Value) -> Vec<String> {
    let validator = jsonschema::draft202012::new(schema).unwrap();
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The schema of what this version itself stores: fields, and types that a later version adds, are faults.
fn closed(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let whole = schema.as_object_mut().unwrap();
    whole.insert("unevaluatedProperties".into(), json!(false));
    for (name, shape) in whole["$defs"].as_object_mut().unwrap() {
        let shape = shape.as_object_mut().unwrap();
        // These are halves of a map, which is closed as a whole.
        let half = ["Content", "Asked"].contains(&name.as_str());
        if !half && (shape.contains_key("properties") || shape.contains_key("oneOf") && shape_of_objects(shape)) {
            shape.insert("unevaluatedProperties".into(), json!(false));
        }
    }
    schema
}

fn shape_of_objects(shape: &serde_json::Map<String, Value>) -> bool {
    shape["oneOf"].as_array().unwrap().iter().all(|choice| choice["type"] == "object")
}

/// The names of all properties.
fn named<'a>(schema: &'a Value, names: &mut BTreeSet<&'a str>) {
    match schema {
        Value::Object(fields) => {
            if let Some(properties) = fields.get("properties").and_then(Value::as_object) {
                names.extend(properties.keys().map(String::as_str));
            }
            fields.values().for_each(|value| named(value, names));
        }
        Value::Array(items) => items.iter().for_each(|item| named(item, names)),
        _ => {}
    }
}

/// The keys of all maps.
fn keys<'a>(document: &'a Value, names: &mut BTreeSet<&'a str>) {
    match document {
        Value::Object(fields) => {
            names.extend(fields.keys().map(String::as_str));
            fields.values().for_each(|value| keys(value, names));
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, names)),
        _ => {}
    }
}

#[test]
fn the_schemas_that_are_checked_in_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
    for (kind, schema) in schemas() {
        let path = folder.join(format!("{kind}.json"));
        let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("SKEIN_WRITE_SCHEMA").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &generated).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == generated,
            "docs/schema/{kind}.json is not current: \
             `SKEIN_WRITE_SCHEMA=1 cargo test -p skein-engine --features schema --test schema` writes it anew"
        );
    }
}

#[test]
fn what_the_engine_stores_is_what_the_schemas_say_and_nothing_else() {
    for (kind, schema) in schemas() {
        for document in documents(kind) {
            assert_eq!(faults(&schema, &document), [""; 0], "{kind}");
            assert_eq!(faults(&closed(&schema), &document), [""; 0], "{kind}, closed");
        }
    }
}

#[test]
fn every_field_that_a_schema_names_is_stored_by_the_engine() {
    for (kind, schema) in schemas() {
        let documents = documents(kind);
        let (mut stands, mut says) = (BTreeSet::new(), BTreeSet::new());
        documents.iter().for_each(|document| keys(document, &mut stands));
        named(&schema, &mut says);
        let missing: Vec<_> = says.difference(&stands).collect();
        assert!(missing.is_empty(), "{kind} names {missing:?}, and no document has them");
    }
}

#[test]
fn a_renamed_field_is_noticed_and_a_wrong_one_refused() {
    let [(_, session), (_, workspace), (_, profile)] = schemas();
    let good = &documents("session")[0];
    let broken = |pointer: &str, change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        change(document.pointer_mut(pointer).unwrap());
        document
    };
    let part = "/messages/0/parts/0";
    let renamed = broken(part, &|part| drop(part.as_object_mut().unwrap().insert("fileName".into(), json!("a"))));
    assert_eq!(faults(&session, &renamed), [""; 0], "unknown fields are allowed");
    assert!(!faults(&closed(&session), &renamed).is_empty(), "but not known");
    for (pointer, wrong) in [
        ("/kind", json!("workspace")),
        ("/createdAt", json!("today")),
        ("/archivedAt", Value::Null),
        ("/messages/0/role", json!("robot")),
        (part, json!({"type": "text"})),
        (part, json!({"chunks": ["no type"]})),
        ("/origin", json!({"kind": "task"})),
    ] {
        assert!(!faults(&session, &broken(pointer, &|at| *at = wrong.clone())).is_empty(), "{pointer} {wrong}");
    }
    let task = json!({"name": "A", "overlap": "never"});
    let mut document = documents("workspace").remove(0);
    document["tasks"]["t"] = task;
    assert!(!faults(&workspace, &document).is_empty());
    assert!(!faults(&profile, &json!({"schema": 1, "kind": "profile", "order": {}, "pins": {"a": true}})).is_empty());
}

#[test]
fn what_a_later_version_adds_is_none_of_the_known_words() {
    let [(_, session), ..] = schemas();
    for (known, tag) in [("Content", "type"), ("Asked", "kind"), ("Origin", "kind")] {
        let choices = session["$defs"][known]["oneOf"].as_array().unwrap();
        let words: Vec<&Value> = choices.iter().map(|choice| &choice["properties"][tag]["const"]).collect();
        let text = session.to_string();
        let excluded = format!(r#""not":{{"enum":{}}}"#, serde_json::to_string(&words).unwrap());
        assert!(text.contains(&excluded), "{known}: {words:?}");
    }
}

#[test]
fn what_a_later_version_adds_is_allowed() {
    let [(_, session), ..] = schemas();
    let least = json!({
        "schema": 1,
        "kind": "session",
        "messages": [{"id": "a", "role": "user", "parts": [{"type": "text", "chunks": ["one"]}]}],
        "runs": {},
        "requests": {},
    });
    assert_eq!(faults(&session, &least), [""; 0], "the least session of docs/documents.md");
    let mut newer = least;
    newer["schema"] = json!(2);
    newer["mood"] = json!({"colour": 7});
    newer["origin"] = json!({"kind": "mail", "from": "a"});
    newer["messages"][0]["parts"][0] = json!({"type": "hologram", "volume": [1, 2]});
    newer["runs"]["a/1"] = json!({"turn": "a", "epoch": 1, "state": "sleeping"});
    newer["requests"]["r"] = json!({"id": "r", "kind": "sing", "target": "a/1", "loud": true});
    assert_eq!(faults(&session, &newer), [""; 0]);
}
