//! `/catalog`, as people use it: what they have read, and what comes back after a reconnect.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use automerge::ROOT;
use automerge::transaction::Transactable;
use skein_engine::ids::DocumentId;
use skein_engine::wire::catalog::{FromRelay, MAX_MARKS, Mark, ToRelay};
use support::{Catalog, bring, relay};

/// How often a session was listed, row by row, since the client opened.
async fn heard(catalog: &mut Catalog, until: DocumentId, name: &str) -> usize {
    let before = catalog.heard;
    catalog.row(until, |row| row.summary.as_ref().is_some_and(|summary| summary.name == name)).await;
    catalog.heard - before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_hears_each_changed_row_once_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let mut peers = Vec::new();
    for n in 0..12 {
        peers.push(bring(&relay, &format!("session {n}")).await);
    }
    let mut first = Catalog::open(relay.address(), relay.owner_token(), None).await;
    for peer in &peers {
        first.row(peer.document, |row| row.summary.is_some()).await;
    }
    let cursor = first.cursor;
    drop(first);
    // One changes often, two once.
    for (index, name) in [(0, "a"), (1, "b"), (0, "c"), (2, "d"), (0, "e")] {
        let peer = &mut peers[index];
        let names = automerge::ReadDoc::get(&peer.content, ROOT, "names").unwrap().unwrap().1;
        peer.content.put(&names, "user", name).unwrap();
        peer.until_acknowledged().await;
    }
    let mut witness = Catalog::open(relay.address(), relay.owner_token(), Some(cursor)).await;
    heard(&mut witness, peers[0].document, "e").await;
    let mut back = Catalog::open(relay.address(), relay.owner_token(), Some(cursor)).await;
    assert_eq!((back.resets, back.heard), (0, 3), "{:?}", back.rows.keys());
    assert_eq!(heard(&mut back, peers[0].document, "e").await, 0, "it is there already");
    let again = Catalog::open(relay.address(), relay.owner_token(), Some(back.cursor)).await;
    assert_eq!((again.resets, again.heard), (0, 0));
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_stays_small_whatever_its_document_holds() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let mut peer = bring(&relay, "hello").await;
    let names = automerge::ReadDoc::get(&peer.content, ROOT, "names").unwrap().unwrap().1;
    peer.content.put(&names, "user", "x".repeat(1_000_000)).unwrap();
    peer.until_acknowledged().await;
    let mut catalog = Catalog::open(relay.address(), relay.owner_token(), None).await;
    let short = |name: &str| name.starts_with("xxx") && name.len() == 1_000;
    catalog.row(peer.document, |row| row.summary.as_ref().is_some_and(|summary| short(&summary.name))).await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_reaches_the_members_other_devices_and_those_that_come_later_also_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = relay(folder.path()).await;
    let session = bring(&first, "hello").await.document;
    let mut one = Catalog::open(first.address(), first.owner_token(), None).await;
    let mut two = Catalog::open(first.address(), first.owner_token(), None).await;
    let marked = |session, progress| move |told: &FromRelay| matches!(told, FromRelay::Read { marks, .. } if marks.contains(&Mark { session, progress }));
    let asked = Instant::now();
    one.say(&ToRelay::Read { marks: vec![Mark { session, progress: 3 }] }).await;
    two.told(marked(session, 3)).await;
    println!("a mark is on the member's other device after {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(2));
    one.told(marked(session, 3)).await;
    // A lower one changes nothing, and whoever said it hears the higher.
    two.say(&ToRelay::Read { marks: vec![Mark { session, progress: 2 }] }).await;
    two.told(marked(session, 3)).await;
    // A session that the relay doesn't know yet may be on its way.
    let unknown = DocumentId::random();
    two.say(&ToRelay::Read { marks: vec![Mark { session: unknown, progress: 1 }] }).await;
    let FromRelay::Read { cursor, .. } = one.told(marked(unknown, 1)).await else { unreachable!() };
    drop((one, two));
    first.shutdown().await;

    let second = relay(folder.path()).await;
    let mut new = Catalog::open(second.address(), second.owner_token(), None).await;
    new.told(marked(session, 3)).await;
    let mut known = Catalog::open(second.address(), second.owner_token(), cursor).await;
    known.say(&ToRelay::Read { marks: vec![Mark { session, progress: 4 }] }).await;
    let FromRelay::Read { marks, .. } = known.told(|told| matches!(told, FromRelay::Read { .. })).await else {
        unreachable!()
    };
    assert_eq!(marks, [Mark { session, progress: 4 }], "what it has isn't sent again");
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_marks_at_once_end_the_connection_and_a_workers_do_too() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let marks: Vec<Mark> = (0..=MAX_MARKS).map(|_| Mark { session: DocumentId::random(), progress: 1 }).collect();
    let mut person = Catalog::open(relay.address(), relay.owner_token(), None).await;
    person.say(&ToRelay::Read { marks: marks.clone() }).await;
    person.told(|told| matches!(told, FromRelay::Error { .. })).await;
    let mut worker = Catalog::open(relay.address(), &relay.mint_worker_token().await.unwrap(), None).await;
    worker.say(&ToRelay::Read { marks: marks[..1].to_vec() }).await;
    worker.told(|told| matches!(told, FromRelay::Error { .. })).await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_changes_to_one_session_makes_few_rows() {
    const CHANGES: usize = 400;
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let mut peer = bring(&relay, "hello").await;
    let mut catalog = Catalog::open(relay.address(), relay.owner_token(), None).await;
    let names = automerge::ReadDoc::get(&peer.content, ROOT, "names").unwrap().unwrap().1;
    for n in 0..CHANGES {
        peer.content.put(&names, "user", format!("name {n}")).unwrap();
        peer.content.commit();
        if n % 20 == 19 {
            peer.say().await;
        }
    }
    peer.until_acknowledged().await;
    let heads = peer.content.get_heads();
    let before = catalog.heard;
    catalog.row(peer.document, |row| row.heads == heads).await;
    let rows = catalog.heard - before;
    println!("{CHANGES} changes made {rows} rows");
    assert!(rows * 4 < CHANGES, "{rows} rows");
    relay.shutdown().await;
}
