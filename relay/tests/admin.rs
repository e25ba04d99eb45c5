//! A data folder while no relay runs on it.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use automerge::transaction::Transactable;
use automerge::{ROOT, ReadDoc};
use skein_engine::wire::catalog::{FromRelay, ToRelay};
use skein_relay::RelayError;
use skein_relay::admin::{Rebuilt, rebuild_summaries, verify};
use support::{Catalog, bring, relay};

#[tokio::test(flavor = "multi_thread")]
async fn rebuilt_rows_say_what_the_rows_said() {
    let folder = tempfile::tempdir().unwrap();
    let first = relay(folder.path()).await;
    let mut catalog = Catalog::open(first.address(), first.owner_token(), None).await;
    let mut peers = Vec::new();
    for n in 0..5 {
        let mut peer = bring(&first, &format!("session {n}")).await;
        let names = peer.content.get(ROOT, "names").unwrap().unwrap().1;
        peer.content.put(&names, "user", format!("number {n}")).unwrap();
        peer.until_acknowledged().await;
        let heads = peer.content.get_heads();
        catalog.row(peer.document, |row| row.heads == heads).await;
        peers.push(peer);
    }
    let busy = rebuild_summaries(folder.path()).await;
    assert!(matches!(busy, Err(RelayError::Locked(_))), "{busy:?}");
    drop(catalog);
    first.shutdown().await;

    let before = rows(folder.path()).await;
    // The workspace's document is one too.
    let same = Rebuilt { documents: 6, ..Rebuilt::default() };
    assert_eq!(rebuild_summaries(folder.path()).await.unwrap(), same);
    assert_eq!(rows(folder.path()).await, before);

    let checked = verify(folder.path()).await.unwrap();
    assert_eq!(checked.problems, Vec::<String>::new());
    // Each session has two changes, workspace and profile one.
    assert_eq!((checked.documents, checked.changes), (7, 12));
}

async fn rows(data: &std::path::Path) -> Vec<skein_engine::wire::catalog::Row> {
    let relay = relay(data).await;
    let catalog = Catalog::open(relay.address(), relay.owner_token(), None).await;
    relay.shutdown().await;
    catalog.rows.into_values().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_no_relays_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(rebuild_summaries(folder.path()).await, Err(RelayError::Data { .. })));
    assert!(matches!(verify(&folder.path().join("nothing")).await, Err(RelayError::Data { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wrote_is_known_though_it_is_a_check_that_finds_the_ledger_broken() {
    let folder = tempfile::tempdir().unwrap();
    let first = relay(folder.path()).await;
    let session = bring(&first, "hello").await.document;
    first.shutdown().await;
    std::fs::write(folder.path().join("ledger/DAMAGED"), "").unwrap();
    assert_eq!(verify(folder.path()).await.unwrap().problems.len(), 1);
    let second = relay(folder.path()).await;
    let mut catalog = Catalog::open(second.address(), second.owner_token(), None).await;
    catalog.say(&ToRelay::Follow { document: session }).await;
    let told = catalog.told(|told| matches!(told, FromRelay::Writers { .. })).await;
    assert!(matches!(&told, FromRelay::Writers { rows, .. } if !rows.is_empty()), "{told:?}");
    second.shutdown().await;
}
