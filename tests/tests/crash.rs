//! The relay, killed in mid-stream: what it has acknowledged is there after a restart. What counts as acknowledged is
//! recorded outside it, by clients: a hash that the relay has named in its heads, and all that lies before it.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use automerge::transaction::Transactable;
use automerge::{ObjType, ROOT, ReadDoc};
use skein_engine::ids::DocumentId;
use skein_tests::peer::{Event, Peer};
use skein_tests::skein::Home;
use skein_tests::{PATIENCE, within};

/// Follows `document`, recording what the relay names, until the connection ends.
async fn record(mut peer: Peer, document: DocumentId) -> Peer {
    within("the end of the connection", async { while !matches!(peer.next().await, Event::Closed) {} }).await;
    assert!(!peer.followed(document).named.is_empty(), "the relay acknowledged nothing");
    peer
}

/// Every hash that `witness` saw acknowledged, with its ancestors, is in the relay's document.
async fn assert_kept(sync_url: &str, witness: &mut Peer, document: DocumentId) {
    let followed = witness.followed(document);
    // A named head that hasn't reached the witness counts too.
    let mut acknowledged = followed.named.clone();
    let named: Vec<_> =
        followed.named.iter().copied().filter(|hash| followed.document.get_change_by_hash(hash).is_some()).collect();
    let mut pending = named;
    while let Some(hash) = pending.pop() {
        for dependency in followed.document.get_change_by_hash(&hash).unwrap().deps() {
            if acknowledged.insert(*dependency) {
                pending.push(*dependency);
            }
        }
    }
    let mut fresh = Peer::join(sync_url).await;
    fresh.sync(document).await;
    let missing = |replica: &automerge::Automerge| {
        acknowledged.iter().filter(|hash| replica.get_change_by_hash(hash).is_none()).count()
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while missing(fresh.document(document)) > 0 {
        let next = tokio::time::timeout_at(deadline, fresh.next()).await;
        let left = missing(fresh.document(document));
        assert!(
            !matches!(next, Err(_) | Ok(Event::Closed | Event::Unavailable(_))),
            "{left} of {} acknowledged changes are lost",
            acknowledged.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_change_survives_a_kill_in_mid_write() {
    let mut skein = Home::new().serve().await;
    for round in 0..3_u64 {
        let mut writers = Vec::new();
        for _ in 0..4 {
            let document = DocumentId::random();
            let mut peer = Peer::join(&skein.sync_url()).await;
            writers.push(tokio::spawn(async move {
                let list = peer
                    .document(document)
                    .transact::<_, _, automerge::AutomergeError>(|tx| tx.put_object(ROOT, "list", ObjType::List))
                    .unwrap()
                    .result;
                // Writes as fast as the relay takes it, and never waits for an acknowledgement.
                for count in 0.. {
                    let written = peer.document(document).transact::<_, _, automerge::AutomergeError>(|tx| {
                        let length = tx.length(&list);
                        tx.insert(&list, length, format!("line {count}"))
                    });
                    written.unwrap();
                    peer.sync(document).await;
                    let next = tokio::time::timeout(Duration::from_millis(5), peer.next()).await;
                    if matches!(next, Ok(Event::Closed)) {
                        break;
                    }
                }
                (peer, document)
            }));
        }
        // The moment of the kill differs from round to round.
        tokio::time::sleep(Duration::from_millis(700 + 370 * round)).await;
        skein = skein.crash_and_restart().await;
        for writer in writers {
            let (mut witness, document) = within("the writer's end", writer).await.unwrap();
            let acknowledged = witness.followed(document).named.len();
            assert!(acknowledged > 5, "only {acknowledged} acknowledgements before the kill");
            assert_kept(&skein.sync_url(), &mut witness, document).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_kill_cut_keeps_what_was_acknowledged_and_ends_as_a_whole_answer() {
    let home = Home::new();
    // About four seconds of text.
    home.write("skein.toml", "[worker]\ndemo_speed = 120\n");
    let skein = home.serve().await;
    let question = ["new", "--name", "A lighthouse", "--message", "A long story, please."];
    let made = skein.session_json(&question).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let document: DocumentId = id.parse().unwrap();

    let mut witness = Peer::join(&skein.sync_url()).await;
    witness.sync(document).await;
    let streaming = |replica: &automerge::Automerge| {
        let run_streams = replica.get(ROOT, "runs").ok().flatten().is_some_and(|(_, runs)| {
            replica.values(&runs).any(|(_, run)| {
                let state = replica.get(&run, "state").ok().flatten();
                state.is_some_and(|(state, _)| state.as_str() == Some("streaming"))
            })
        });
        let messages = replica.get(ROOT, "messages").ok().flatten().map_or(0, |(_, list)| replica.length(&list));
        run_streams && messages > 1
    };
    witness.until("the answer streams into the document", document, streaming).await;
    let recording = tokio::spawn(record(witness, document));
    tokio::time::sleep(Duration::from_millis(300)).await;

    let skein = skein.crash_and_restart().await;
    let mut witness = recording.await.unwrap();
    assert_kept(&skein.sync_url(), &mut witness, document).await;

    // The worker died with the relay: the turn is taken up again, and ends.
    skein.session(&["wait", &id, "--timeout", "60"]).await;
    let shown = skein.session_json(&["show", &id]).await;
    assert_eq!(shown["status"], "ACTIVE", "{shown}");
    assert_eq!(shown["turns"][0]["state"], "completed", "{shown}");
    // The demo model says the same to everyone: what was cut is told from what was never cut.
    let made = skein.session_json(&question).await;
    let whole = made["id"].as_str().unwrap();
    skein.session(&["wait", whole, "--timeout", "60"]).await;
    let whole = said(&skein.session_json(&["show", whole]).await);
    assert!(whole.len() > 500, "{whole}");
    assert_eq!(said(&shown), whole);
}

/// The words of all answers.
fn said(shown: &serde_json::Value) -> String {
    let messages = shown["messages"].as_array().unwrap().iter();
    let parts = messages
        .filter(|message| message["role"] == "assistant")
        .flat_map(|message| message["parts"].as_array().unwrap())
        .filter(|part| part["type"] == "text");
    parts.map(|part| part["text"].as_str().unwrap()).collect()
}
