//! Documents of other versions: stored ones of every version that was released, and ones that a newer version wrote.
//!
//! `SKEIN_WRITE_FIXTURES=1 cargo test -p skein-engine --test stored_documents` writes down anew what is read of the
//! stored documents. The documents themselves are made once, at a release, and never changed.

#![allow(missing_docs, clippy::unwrap_used)]

mod stored;

use std::path::{Path, PathBuf};

use automerge::transaction::Transactable;
use automerge::{Automerge, ObjType, ROOT, ReadDoc};
use serde_json::{Value, json};
use skein_engine::ids::DocumentId;
use skein_engine::session::{Command, read, summary};
use skein_engine::workspace::workspace;
use stored::{NOW, actor, command, see};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schema-1")
}

/// A stored document. Where there is none yet, the one that this version makes is stored.
fn stored(name: &str, make: fn() -> Automerge) -> Automerge {
    let path = folder().join(format!("{name}.automerge"));
    if !path.exists() && std::env::var_os("SKEIN_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(&path, make().save()).unwrap();
    }
    Automerge::load(&std::fs::read(path).unwrap()).unwrap()
}

fn expect(name: &str, found: &Value) {
    let path = folder().join(format!("{name}.json"));
    if std::env::var_os("SKEIN_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(found).unwrap() + "\n").unwrap();
    }
    let kept: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(&kept, found, "{name} is read as something else than before");
}

#[test]
fn a_session_of_schema_1_is_read_as_it_was() {
    let document = stored("session", stored::session);
    let (session, seen) = see(&document);
    assert_eq!((session.schema, session.faults.as_slice()), (1, &[][..]));
    let row = summary::summary(DocumentId::from_bytes([1; 16]), &session, &seen, NOW);
    expect("session", &json!({"document": stored::json(&document), "conversation": seen, "summary": row}));
}

#[test]
fn a_workspace_and_a_profile_of_schema_1_are_read_as_they_were() {
    let document = stored("workspace", stored::workspace);
    let read = workspace(&document);
    let agents: Vec<&str> = read.agents.values().map(|agent| &*agent.name).collect();
    let found =
        json!({"document": stored::json(&document), "name": read.name, "agents": agents, "faults": read.faults});
    expect("workspace", &found);
    let document = stored("profile", stored::profile);
    let read = skein_engine::profile::read(&document);
    let order: Vec<(String, &str)> = read.order.iter().map(|(id, place)| (id.to_string(), &*place.position)).collect();
    let pins: Vec<String> = read.pins.keys().map(DocumentId::to_string).collect();
    expect("profile", &json!({"document": stored::json(&document), "order": order, "pins": pins}));
}

/// What a version to come may have written into a session of this one.
fn newer() -> Automerge {
    let mut document = stored::session().with_actor(actor(1));
    let mut tx = document.transaction();
    tx.put(ROOT, "schema", 2).unwrap();
    let hologram = tx.put_object(ROOT, "hologram", ObjType::Map).unwrap();
    tx.put(hologram, "depth", 3).unwrap();
    let (_, messages) = tx.get(ROOT, "messages").unwrap().unwrap();
    let last = tx.length(&messages);
    let message = tx.insert_object(&messages, last, ObjType::Map).unwrap();
    tx.put(&message, "id", "newer-message").unwrap();
    tx.put(&message, "role", "user").unwrap();
    tx.put(&message, "mood", "curious").unwrap();
    let parts = tx.put_object(&message, "parts", ObjType::List).unwrap();
    let text = tx.insert_object(&parts, 0, ObjType::Map).unwrap();
    tx.put(&text, "type", "text").unwrap();
    let chunks = tx.put_object(&text, "chunks", ObjType::List).unwrap();
    tx.insert(chunks, 0, "what is known is shown").unwrap();
    let smell = tx.insert_object(&parts, 1, ObjType::Map).unwrap();
    tx.put(&smell, "type", "smell").unwrap();
    tx.put(smell, "strength", 7).unwrap();
    let (_, requests) = tx.get(ROOT, "requests").unwrap().unwrap();
    let request = tx.put_object(requests, "newer-request", ObjType::Map).unwrap();
    tx.put(&request, "kind", "dream").unwrap();
    tx.put(request, "of", "sheep").unwrap();
    tx.commit();
    document
}

#[test]
fn what_a_newer_version_wrote_is_shown_as_far_as_it_is_known_and_survives_what_is_written() {
    let mut document = newer();
    let (_, seen) = see(&document);
    assert_eq!(seen.faults[0], "written by a newer version (schema 2): some of it may not be shown");
    let shown = serde_json::to_string(&seen.queued).unwrap();
    assert!(shown.contains("what is known is shown") && shown.contains("\"smell\""), "{shown}");

    let before = stored::json(&document);
    command(&mut document, &Command::send("from this version"));
    command(&mut document, &Command::Rename { name: "Renamed".into() });
    command(&mut document, &Command::SetAgent { agent: "agent2".into() });
    command(&mut document, &Command::Undelete);
    let after = stored::json(&document);
    for place in ["/hologram", "/schema", "/requests/newer-request"] {
        assert_eq!(before.pointer(place), after.pointer(place), "{place}");
        assert!(before.pointer(place).is_some(), "{place}");
    }
    let message = |document: &Value| {
        document["messages"].as_array().unwrap().iter().find(|message| message["id"] == "newer-message").cloned()
    };
    assert_eq!(message(&before), message(&after));
    assert!(message(&after).is_some());
    assert_eq!(read::session(&document).user_name.as_deref(), Some("Renamed"));
}

/// There are no migrations: what a version adds is optional to readers, and a container that is missing is made by
/// whoever first writes into it. Two who do so at once make two, which are read as one.
#[test]
fn a_container_that_is_missing_is_made_by_whoever_writes_and_two_are_read_as_one() {
    let mut one = Automerge::new().with_actor(actor(1));
    let mut tx = one.transaction();
    tx.put(ROOT, "schema", 1).unwrap();
    tx.put(ROOT, "kind", "session").unwrap();
    tx.commit();
    let mut other = one.fork();
    command(&mut one, &Command::send("from one"));
    // `command` writes as actor 1: the other device needs an actor of its own.
    let (session, seen) = see(&other);
    other.set_actor(actor(5));
    let mut tx = other.transaction();
    let given = skein_engine::session::command::Given { by: "person", at: NOW, id: None };
    skein_engine::session::command::apply(&mut tx, &session, &seen, &Command::send("from another"), &given).unwrap();
    tx.commit();
    one.merge(&mut other).unwrap();
    other.merge(&mut one).unwrap();
    assert_eq!(read::session(&one), read::session(&other));
    let texts = serde_json::to_string(&see(&one).1.queued).unwrap();
    assert!(texts.contains("from one") && texts.contains("from another"), "{texts}");
    // Both go on being written to.
    command(&mut one, &Command::send("and one more"));
    assert_eq!(see(&one).1.queued.len(), 3);
}
