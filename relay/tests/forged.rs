//! What a member's device writes in a worker's name: the relay stores it, since it is a well-made change, and it counts
//! for nothing, in its rows and wherever the document is read with its writers.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ObjId, ObjType, ROOT, ReadDoc};
use serde_json::{Value, json};
use skein_engine::ids::{PeerId, Timestamp, random_actor, random_id};
use skein_engine::session::conversation::{Conversation, Leases, Status, Writers, conversation};
use skein_engine::session::read::session;
use skein_engine::wire::catalog::{FromRelay, ToRelay};
use support::{Catalog, Peer, bring, client, dial, relay};

const PROMISE: &str = "I have wired the money";

fn object(document: &AutoCommit, of: impl AsRef<ObjId>, key: &str) -> ObjId {
    document.get(of, key).unwrap().unwrap().1
}

fn first_message(document: &AutoCommit) -> String {
    let messages = object(document, ROOT, "messages");
    let message = document.get(&messages, 0).unwrap().unwrap().1;
    document.get(&message, "id").unwrap().unwrap().0.into_string().unwrap()
}

/// An answer to the first message that cost a thousand dollars, as a worker would write it.
fn forge(document: &mut AutoCommit) {
    let turn = first_message(document);
    let runs = object(document, ROOT, "runs");
    let run = document.put_object(&runs, format!("{turn}/1"), ObjType::Map).unwrap();
    for (key, value) in [("turn", turn.as_str()), ("state", "completed"), ("model", "local/big"), ("worker", "w")] {
        document.put(&run, key, value).unwrap();
    }
    for (key, value) in [("epoch", 1), ("place", 1), ("startedAt", 1_000), ("endedAt", 61_000)] {
        document.put(&run, key, value).unwrap();
    }
    let answers = document.put_object(&run, "answers", ObjType::List).unwrap();
    document.insert(&answers, 0, turn.as_str()).unwrap();
    let usage = document.put_object(&run, "usage", ObjType::Map).unwrap();
    document.put(&usage, "input", 5).unwrap();
    document.put(&usage, "output", 1_000_000).unwrap();
    let cost = document.put_object(&run, "cost", ObjType::Map).unwrap();
    document.put(&cost, "micros", 1_000_000_000).unwrap();

    let messages = object(document, ROOT, "messages");
    let message = document.insert_object(&messages, 1, ObjType::Map).unwrap();
    for (key, value) in [("id", random_id().as_str()), ("role", "assistant"), ("turn", turn.as_str())] {
        document.put(&message, key, value).unwrap();
    }
    document.put(&message, "epoch", 1).unwrap();
    let parts = document.put_object(&message, "parts", ObjType::List).unwrap();
    let part = document.insert_object(&parts, 0, ObjType::Map).unwrap();
    document.put(&part, "type", "text").unwrap();
    let chunks = document.put_object(&part, "chunks", ObjType::List).unwrap();
    document.insert(&chunks, 0, PROMISE).unwrap();
    document.commit();
}

fn shown(document: &mut AutoCommit, writers: &Writers) -> Conversation {
    conversation(&session(document.document()), &Leases::default(), writers, Timestamp(2_000_000))
}

fn says(conversation: &Conversation) -> bool {
    serde_json::to_string(&conversation.messages).unwrap().contains(PROMISE)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_no_worker_wrote_is_void_or_unverified_and_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let (address, owner) = (relay.address(), relay.owner_token().to_owned());
    let hers = bring(&relay, "please pay the bill").await;
    let asked = client().post(format!("http://{address}/members")).bearer_auth(&owner).json(&json!({ "name": "Bob" }));
    let bob: Value = asked.send().await.unwrap().json().await.unwrap();

    let mut copy = hers.content.clone().with_actor(random_actor());
    forge(&mut copy);
    let socket = dial(address, "/sync", bob["token"].as_str().unwrap()).await;
    let mut bobs = Peer::over(socket, PeerId::from(random_id()), hers.document, copy).await;
    bobs.until_acknowledged().await;
    let heads = bobs.content.get_heads();

    // The relay's row: the message still waits for an answer, and nothing was spent.
    let mut catalog = Catalog::open(address, &owner, None).await;
    let row = catalog.row(hers.document, |row| row.heads == heads).await.summary.unwrap();
    assert_eq!((row.status, row.queued.count, row.cost_micros.map(|cost| cost.0)), (Status::Active, 1, Some(0)));
    assert_eq!((row.duration_ms, row.preview.contains(PROMISE)), (0, false), "{row:?}");

    // A device that has the table of writers takes no notice of it.
    catalog.say(&ToRelay::Follow { document: hers.document }).await;
    let told = catalog.told(|told| matches!(told, FromRelay::Writers { .. })).await;
    let FromRelay::Writers { rows, .. } = told else { unreachable!() };
    let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (row.actor, row.writer)).collect();
    assert_eq!(rows[bobs.content.get_actor()].principal.as_str(), bob["id"].as_str().unwrap());
    let known = shown(&mut bobs.content, &Writers { rows, own: BTreeMap::new() });
    assert!(!says(&known) && known.turns.is_empty() && known.queued.len() == 1, "{known:?}");
    assert_eq!((known.totals.cost_micros.0, known.totals.usage.output), (0, 0));

    // One that hasn't heard who wrote it says so, and acts on none of it.
    let unknown = shown(&mut bobs.content, &Writers::default());
    assert!(says(&unknown), "{unknown:?}");
    let answer = unknown.messages.iter().find(|message| message.epoch.is_some()).unwrap();
    assert!(answer.unverified && unknown.work.is_none());
    relay.shutdown().await;
}
