//! Purging a session, and `GET /sessions`.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use automerge::transaction::Transactable;
use automerge::{ObjType, ROOT, ReadDoc};
use skein_engine::ids::{DocumentId, Epoch, Micros, random_actor, random_id};
use skein_engine::wire::catalog::{FromRelay, Mark, ToRelay};
use skein_engine::wire::frame::Frame;
use skein_relay::Relay;
use support::{Catalog, Peer, bring, client, next, relay};

async fn purge(catalog: &mut Catalog, session: DocumentId) -> FromRelay {
    catalog.say(&ToRelay::Purge { session }).await;
    catalog.told(|told| matches!(told, FromRelay::Purged { .. } | FromRelay::NotPurged { .. })).await
}

async fn delete(peer: &mut Peer) {
    peer.content.put(ROOT, "deletedAt", 1_800_000_000_000_i64).unwrap();
    peer.until_acknowledged().await;
}

/// A run as a worker would have written it, with what it cost.
async fn spend(relay: &Relay, peer: &mut Peer) {
    let mut worker = Catalog::open(relay.address(), &relay.mint_worker_token().await.unwrap(), None).await;
    let actor = random_actor();
    worker.say(&ToRelay::Claim { ask: 1, session: peer.document, actor: actor.clone(), epoch: Epoch(0) }).await;
    let FromRelay::Granted { epoch, .. } = worker.told(|told| matches!(told, FromRelay::Granted { .. })).await else {
        unreachable!()
    };
    let mut copy = peer.content.fork().with_actor(actor);
    let runs = copy.get(ROOT, "runs").unwrap().unwrap().1;
    let turn = random_id();
    let run = copy.put_object(&runs, format!("{turn}/{}", epoch.0), ObjType::Map).unwrap();
    for (field, text) in [("state", "completed"), ("turn", &turn), ("provider", "p"), ("model", "m"), ("agent", "a")] {
        copy.put(&run, field, text).unwrap();
    }
    let number = i64::try_from(epoch.0).unwrap();
    for (field, number) in
        [("epoch", number), ("place", number), ("startedAt", 1_800_000_000_000), ("endedAt", 1_800_000_001_000)]
    {
        copy.put(&run, field, number).unwrap();
    }
    copy.put_object(&run, "answers", ObjType::List).unwrap();
    let usage = copy.put_object(&run, "usage", ObjType::Map).unwrap();
    copy.put(&usage, "input", 12).unwrap();
    let cost = copy.put_object(&run, "cost", ObjType::Map).unwrap();
    copy.put(&cost, "micros", 345).unwrap();
    copy.commit();
    let change = bytes::Bytes::copy_from_slice(copy.get_last_local_change().unwrap().raw_bytes());
    worker.say(&ToRelay::Begin { ask: 2, session: peer.document, epoch, change }).await;
    worker.told(|told| *told == FromRelay::Stored { ask: 2 }).await;
    worker.say(&ToRelay::Release { session: peer.document, epoch }).await;
    peer.until(|content| content.length(&content.get(ROOT, "runs").unwrap().unwrap().1) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_session_leaves_what_it_spent_and_nothing_else_also_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = relay(folder.path()).await;
    let mut peer = bring(&first, "a secret that must go").await;
    let session = peer.document;
    spend(&first, &mut peer).await;
    let mut person = Catalog::open(first.address(), first.owner_token(), None).await;
    let FromRelay::NotPurged { reason, .. } = purge(&mut person, session).await else { panic!("it is not deleted") };
    assert!(reason.contains("delete it"), "{reason}");
    delete(&mut peer).await;
    person.say(&ToRelay::Read { marks: vec![Mark { session, progress: 1 }] }).await;
    let mut other = Catalog::open(first.address(), first.owner_token(), None).await;

    assert_eq!(purge(&mut person, session).await, FromRelay::Purged { session });
    let row = other.row(session, |row| row.tombstone.is_some()).await;
    assert_eq!((row.summary, row.live), (None, None));
    let spent = row.tombstone.unwrap().spent;
    assert_eq!(spent.len(), 1);
    assert_eq!((spent[0].runs, spent[0].cost_micros, spent[0].usage.input), (1, Micros(345), 12));
    assert_eq!((spent[0].day.as_str(), spent[0].model.as_deref()), ("2027-01-15", Some("p/m")));
    // Who follows it is told that there is none; an undo that comes later is refused.
    assert!(matches!(Frame::decode(&next(&mut peer.socket).await.unwrap()).unwrap(), Frame::DocUnavailable { .. }));
    peer.content.delete(ROOT, "deletedAt").unwrap();
    peer.say().await;
    let refused = Frame::decode(&next(&mut peer.socket).await.unwrap()).unwrap();
    assert!(matches!(&refused, Frame::Error { code: Some(code), .. } if code == "purged"), "{refused:?}");
    assert_eq!(purge(&mut person, session).await, FromRelay::Purged { session }, "once more is no error");
    first.shutdown().await;

    let second = relay(folder.path()).await;
    let mut person = Catalog::open(second.address(), second.owner_token(), None).await;
    assert_eq!(person.row(session, |_| true).await.tombstone.unwrap().spent, spent);
    assert!(!person.told.iter().any(|told| matches!(told, FromRelay::Read { .. })), "its mark is gone");
    let mut late = Peer::join(second.address(), second.owner_token(), session).await;
    late.say().await;
    assert!(!late.hear().await, "there is no such document");
    let mut worker = Catalog::open(second.address(), &second.mint_worker_token().await.unwrap(), None).await;
    worker.say(&ToRelay::Claim { ask: 1, session, actor: random_actor(), epoch: Epoch(0) }).await;
    worker.told(|told| matches!(told, FromRelay::Busy { .. })).await;
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_lease_is_lost_with_its_session_and_a_worker_purges_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let mut peer = bring(&relay, "hello").await;
    let session = peer.document;
    delete(&mut peer).await;
    let mut worker = Catalog::open(relay.address(), &relay.mint_worker_token().await.unwrap(), None).await;
    assert!(matches!(purge(&mut worker, session).await, FromRelay::NotPurged { .. }));
    worker.say(&ToRelay::Claim { ask: 1, session, actor: random_actor(), epoch: Epoch(0) }).await;
    let FromRelay::Granted { epoch, .. } = worker.told(|told| matches!(told, FromRelay::Granted { .. })).await else {
        unreachable!()
    };
    let mut person = Catalog::open(relay.address(), relay.owner_token(), None).await;
    assert_eq!(purge(&mut person, session).await, FromRelay::Purged { session });
    worker.told(|told| *told == FromRelay::Lost { session, epoch }).await;
    let unknown = DocumentId::random();
    assert!(matches!(purge(&mut person, unknown).await, FromRelay::NotPurged { .. }));
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workspaces_document_is_never_purged_though_it_was_made_to_look_like_a_session() {
    let folder = tempfile::tempdir().unwrap();
    let first = relay(folder.path()).await;
    let mut peer = Peer::join(first.address(), first.owner_token(), first.workspace_document()).await;
    peer.until(|content| content.get(ROOT, "kind").unwrap().is_some()).await;
    peer.content.put(ROOT, "kind", "session").unwrap();
    delete(&mut peer).await;
    let mut person = Catalog::open(first.address(), first.owner_token(), None).await;
    assert!(matches!(purge(&mut person, peer.document).await, FromRelay::NotPurged { .. }));
    first.shutdown().await;
    relay(folder.path()).await.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_over_http_filtered_and_from_a_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let mut catalog = Catalog::open(relay.address(), relay.owner_token(), None).await;
    let mut archived = bring(&relay, "archived").await;
    archived.content.put(ROOT, "archivedAt", 1_800_000_000_000_i64).unwrap();
    archived.until_acknowledged().await;
    catalog.row(archived.document, |row| row.summary.as_ref().is_some_and(|s| s.archived_at.is_some())).await;
    let plain = bring(&relay, "plain").await;
    catalog.row(plain.document, |row| row.summary.is_some()).await;
    let mut deleted = bring(&relay, "deleted").await;
    delete(&mut deleted).await;
    catalog.row(deleted.document, |row| row.summary.as_ref().is_some_and(|s| s.deleted_at.is_some())).await;

    let get = async |query: &str| {
        let url = format!("http://{}/sessions{query}", relay.address());
        let answer = client().get(url).bearer_auth(relay.owner_token()).send().await.unwrap();
        let (status, header) = (answer.status().as_u16(), answer.headers().clone());
        let json: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        (status, json, header)
    };
    let ids = |json: &serde_json::Value| -> Vec<String> {
        json.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    let [archived, plain, deleted] = [&archived, &plain, &deleted].map(|peer| peer.document.to_string());
    let (status, all, header) = get("").await;
    assert_eq!((status, ids(&all)), (200, vec![archived.clone(), plain.clone()]));
    assert_eq!(all[1]["status"], "ACTIVE");
    assert_eq!((all[1]["queued"]["count"].as_u64(), all[1]["unread"].as_bool()), (Some(1), Some(true)));
    assert_eq!(header["skein-more"], "false");
    assert_eq!(ids(&get("?archived=true").await.1), std::slice::from_ref(&archived));
    assert_eq!(ids(&get("?status=archived").await.1), std::slice::from_ref(&archived));
    assert_eq!(ids(&get("?status=ACTIVE,PAUSED").await.1), std::slice::from_ref(&plain));
    assert_eq!(ids(&get("?deleted=true").await.1), [archived.clone(), plain.clone(), deleted.clone()]);
    let (_, first, header) = get("?limit=1&deleted=true").await;
    assert_eq!((ids(&first), header["skein-more"].to_str().unwrap()), (vec![archived], "true"));
    let cursor = header["skein-cursor"].to_str().unwrap();
    assert_eq!(ids(&get(&format!("?deleted=true&after={cursor}")).await.1), [plain, deleted]);
    for bad in ["?status=busy", "?limit=0", "?limit=2000", "?colour=red", "?after=x"] {
        let (status, answer, _) = get(bad).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("bad-request")), "{bad}");
    }
    let url = format!("http://{}/sessions", relay.address());
    assert_eq!(client().get(url).send().await.unwrap().status().as_u16(), 401);
    relay.shutdown().await;
}
