//! A session that leaves as JSON and comes back: shown as it was, counted by nobody, acted on by nobody.

#![allow(clippy::unwrap_used)]

mod world;

use automerge::transaction::Transactable;
use automerge::{Automerge, ObjType, ROOT, ReadDoc, ScalarValue};
use skein_engine::ids::{ActorId, DocumentId, Timestamp, random_actor};
use skein_engine::session::command::Given;
use skein_engine::session::conversation::{Conversation, Leases, ShownMessage, Status, Writers};
use skein_engine::session::export::{self, Exported};
use skein_engine::session::import::{ImportError, import};
use skein_engine::session::model::{Origin, Session};
use skein_engine::session::{conversation, read};
use world::World;

const ID: DocumentId = DocumentId::from_bytes([7; 16]);

/// Out as text and in again, as its importer sees it.
fn round(document: &Automerge, writers: &Writers) -> (Exported, Session, Conversation) {
    let exported = export::export(ID, document, &read::session(document), writers);
    let text = serde_json::to_string(&exported).unwrap();
    let exported: Exported = serde_json::from_str(&text).unwrap();
    let given = Given { by: "importer", at: Timestamp(9), id: None };
    let imported = import(&exported, "0000000002", &given, |_| false).unwrap();
    let session = read::session(&imported);
    let shown =
        conversation(&session, &Leases { live: None, workers: Some(1) }, &own(imported.get_actor()), Timestamp(9));
    (exported, session, shown)
}

/// The importer's own actor, as their device knows it.
fn own(actor: &ActorId) -> Writers {
    let world = World::new(1, 0);
    let writer = world.writers.get(world.replicas[1].get_actor()).unwrap().clone();
    let mut writers = Writers::default();
    writers.rows.insert(actor.clone(), writer);
    writers
}

fn words(message: &ShownMessage) -> (String, String) {
    (message.id.clone(), world::text(message))
}

#[test]
fn whatever_was_shown_is_shown_and_nothing_counts_or_is_due() {
    let mut messages = 0;
    for seed in 0..40 {
        let world = world::history::tell(seed).unwrap_or_else(|broken| panic!("{broken:?}"));
        let seen = world.see(1);
        let believed = seen.messages.iter().chain(&seen.queued).filter(|message| !message.unverified);
        let before: Vec<_> = believed.map(words).collect();
        let (_, session, shown) = round(&world.replicas[1], &world.writers);
        let after: Vec<_> = shown.messages.iter().map(words).collect();
        assert_eq!(after, before, "seed {seed}");
        assert!(shown.queued.is_empty() && shown.work.is_none(), "seed {seed}");
        assert_eq!((shown.status, shown.totals.usage.total()), (Status::Active, 0), "seed {seed}");
        assert!(matches!(&session.origin, Some(Origin::Duplicate { session, .. }) if *session == ID.to_string()));
        messages += after.len();
    }
    assert!(messages > 100, "the histories say something: {messages}");
}

#[test]
fn what_nobody_vouches_for_leaves_marked_and_does_not_come_in() {
    let mut world = World::new(1, 1);
    world.send(1, "u1");
    world.sync_all();
    world.settle(2);
    world.sync_all();
    let mut document = world.replicas[1].fork().with_actor(random_actor());
    let mut tx = document.transaction();
    let (_, messages) = tx.get(ROOT, "messages").unwrap().unwrap();
    let (_, answer) = tx.get(&messages, 1).unwrap().unwrap();
    let (_, parts) = tx.get(&answer, "parts").unwrap().unwrap();
    let part = tx.insert_object(&parts, 0, ObjType::Map).unwrap();
    tx.put(&part, "type", "text").unwrap();
    let chunks = tx.put_object(&part, "chunks", ObjType::List).unwrap();
    tx.insert(&chunks, 0, "forged").unwrap();
    tx.commit();
    let (exported, _, shown) = round(&document, &world.writers);
    assert_eq!(exported.untrusted.messages.len(), 1);
    assert!(exported.document.to_string().contains("forged"), "an export loses nothing");
    assert_eq!(shown.messages.iter().map(world::text).collect::<Vec<_>>(), ["u1"]);
}

#[test]
fn fields_and_parts_of_a_later_version_survive() {
    let mut document = Automerge::new().with_actor(random_actor());
    let mut tx = document.transaction();
    tx.put(ROOT, "schema", 1_i64).unwrap();
    tx.put(ROOT, "kind", "session").unwrap();
    tx.put(ROOT, "raw", ScalarValue::Bytes(vec![1, 2, 255])).unwrap();
    tx.put_object(ROOT, "runs", ObjType::Map).unwrap();
    let messages = tx.put_object(ROOT, "messages", ObjType::List).unwrap();
    let message = tx.insert_object(&messages, 0, ObjType::Map).unwrap();
    tx.put(&message, "id", "m1").unwrap();
    tx.put(&message, "role", "user").unwrap();
    let parts = tx.put_object(&message, "parts", ObjType::List).unwrap();
    let part = tx.insert_object(&parts, 0, ObjType::Map).unwrap();
    tx.put(&part, "type", "hologram").unwrap();
    tx.put(&part, "depth", 1.5).unwrap();
    tx.commit();
    let (exported, ..) = round(&document, &Writers::default());
    assert_eq!(exported.document["raw"], serde_json::json!({ "$bytes": "0102ff" }));
    let given = Given { by: "importer", at: Timestamp(9), id: None };
    let imported = import(&exported, "0000000002", &given, |_| false).unwrap();
    let again = export::export(ID, &imported, &read::session(&imported), &Writers::default());
    assert_eq!(again.document["messages"][0]["parts"][0], serde_json::json!({ "type": "hologram", "depth": 1.5 }));
}

#[test]
fn people_and_agents_who_are_not_here_keep_their_names() {
    let mut world = World::new(1, 1);
    world.send(1, "u1");
    world.sync_all();
    world.settle(2);
    world.sync_all();
    let mut exported = export::export(ID, &world.replicas[1], &world.session(1), &world.writers);
    let author = world.see(1).messages[0].author.clone().unwrap();
    exported.names.insert(author.clone(), "Ada".into());
    let given = Given { by: "importer", at: Timestamp(9), id: None };
    let author_of = |is_known: bool| {
        let imported = import(&exported, "0000000002", &given, |_| is_known).unwrap();
        read::session(&imported).messages[0].author.clone().unwrap()
    };
    assert_eq!(author_of(false), "Ada");
    assert_eq!(author_of(true), author);
}

#[test]
fn what_is_no_session_or_of_a_later_version_is_refused() {
    let exported = |version, document: serde_json::Value| Exported {
        version,
        id: ID,
        document,
        untrusted: Default::default(),
        names: Default::default(),
        blobs: Default::default(),
    };
    let given = Given { by: "importer", at: Timestamp(9), id: None };
    let refused = |exported| import(&exported, "0000000002", &given, |_| true).unwrap_err();
    assert_eq!(refused(exported(2, serde_json::json!({}))), ImportError::Version(2));
    let nonsense = ["null", "7", "[]", "{}", r#"{"kind":"workspace"}"#, r#"{"messages":7}"#];
    for text in nonsense {
        assert_eq!(refused(exported(1, serde_json::from_str(text).unwrap())), ImportError::NotASession, "{text}");
    }
    let odd =
        r#"{"kind":"session","messages":[7,{"id":3},{"id":"a","role":"user","parts":[[],{"type":1}]}],"runs":[1]}"#;
    let imported = import(&exported(1, serde_json::from_str(odd).unwrap()), "0000000002", &given, |_| true);
    assert!(imported.is_ok(), "what can be read is taken in");
}
