//! The hub's promises, one by one.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use automerge::sync::{Message, SyncDoc};
use automerge::transaction::{CommitOptions, Transactable};
use automerge::{Automerge, ROOT, ReadDoc};
use bytes::Bytes;
use skein_engine::ids::{DocumentId, Epoch, PeerId, Principal, Scope};
use skein_engine::session::conversation::WriterKind;
use skein_engine::session::model::Usage;
use skein_engine::sync::hub::Key;
use skein_engine::sync::{ConnectionId, ConnectionInfo};
use skein_engine::wire::cbor;
use skein_engine::wire::ephemeral::{ActivityState, Ephemeral, Tail, TailKind};
use skein_engine::wire::frame::{Frame, SyncFrame};
use support::{Peer, RELAY, Relay, info, settle, writer};

fn document() -> Automerge {
    let mut doc = Automerge::new();
    put(&mut doc, "name", "one");
    doc
}

fn put(doc: &mut Automerge, key: &str, value: &str) {
    doc.transact(|tx| tx.put(ROOT, key, value)).unwrap();
}

fn key(id: DocumentId) -> Key {
    (Scope::from("w/one"), id)
}

/// One peer that has a document, and others that got it.
fn followers(relay: &mut Relay, count: usize) -> (DocumentId, Vec<Peer>) {
    let id = DocumentId::random();
    let mut peers = vec![Peer::new("writer", id, document())];
    for number in 0..count {
        peers.push(Peer::new(&format!("follower {number}"), id, Automerge::new()));
    }
    for at in 0..peers.len() {
        peers[at].connect(relay);
        settle(relay, &mut peers);
    }
    let heads = peers[0].heads();
    assert!(peers.iter().all(|peer| peer.heads() == heads));
    (id, peers)
}

fn say(relay: &mut Relay, connection: ConnectionId, name: &str, id: DocumentId, message: Message) {
    let frame = SyncFrame {
        sender: PeerId::from(name),
        target: PeerId::from(RELAY),
        document: id,
        data: message.encode().into(),
    };
    relay.receive(connection, &Frame::Sync(frame));
}

fn sync_message(bytes: &Bytes) -> Message {
    match Frame::decode(bytes).unwrap() {
        Frame::Sync(frame) => Message::decode(&frame.data).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_is_named_and_forwarded_only_when_it_is_durable() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 1);
    let before = relay.hub.heads(&key(id)).unwrap();
    relay.instant = false;
    put(&mut peers[0].doc, "name", "two");
    peers[0].speak(&mut relay);
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), before);
    for peer in &peers {
        assert!(relay.outbox[&peer.connection.unwrap()].is_empty(), "{} heard of it", peer.name);
    }
    // A later peer isn't told either.
    let mut late = Peer::new("late", id, Automerge::new());
    late.connect(&mut relay);
    late.listen(&mut relay);
    assert_eq!(late.heads(), before);

    relay.sync_disk();
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), peers[0].heads());
    peers.push(late);
    relay.instant = true;
    settle(&mut relay, &mut peers);
    assert!(peers.iter().all(|peer| peer.heads() == peers[0].heads()));
}

#[test]
fn followers_in_step_share_one_encoded_message() {
    let mut relay = Relay::new();
    let (_, mut peers) = followers(&mut relay, 5);
    put(&mut peers[0].doc, "name", "two");
    peers[0].speak(&mut relay);
    let messages: Vec<_> = peers[1..]
        .iter()
        .map(|peer| relay.raw(peer.connection.unwrap()).try_into().unwrap())
        .collect::<Vec<[Bytes; 1]>>();
    let first = messages[0][0].as_ptr();
    assert!(messages.iter().all(|[message]| message.as_ptr() == first));
    // The writer is told the heads, not its own change.
    let [own] = relay.raw(peers[0].connection.unwrap()).try_into().unwrap();
    let own = sync_message(&own);
    assert_eq!((own.heads, own.changes.len()), (peers[0].heads(), 0));
}

#[test]
fn peers_that_return_together_share_one_answer() {
    let mut relay = Relay::new();
    let (_, mut peers) = followers(&mut relay, 4);
    for peer in &mut peers[1..] {
        peer.disconnect(&mut relay);
    }
    put(&mut peers[0].doc, "name", "two");
    settle(&mut relay, &mut peers[..1]);
    let mut seen = Vec::new();
    for peer in &mut peers[1..] {
        peer.connect(&mut relay);
        let [answer] = relay.outbox[&peer.connection.unwrap()].iter().cloned().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(sync_message(&answer).changes.len(), 1);
        seen.push(answer.as_ptr());
    }
    assert!(seen.iter().all(|pointer| *pointer == seen[0]));
    settle(&mut relay, &mut peers);
    assert!(peers.iter().all(|peer| peer.heads() == peers[0].heads()));
}

#[test]
fn the_hub_keeps_silent_unless_it_has_something_to_say() {
    let mut relay = Relay::new();
    let (id, peers) = followers(&mut relay, 1);
    let connection = peers[1].connection.unwrap();
    let name = &peers[1].name;
    let mut state = automerge::sync::State::new();
    let message = peers[1].doc.generate_sync_message(&mut state).unwrap();
    say(&mut relay, connection, name, id, message.clone());
    say(&mut relay, connection, name, id, message.clone());
    assert!(relay.raw(connection).is_empty());
    // What it asks for by hash it gets, once.
    let asks = Message { need: peers[0].heads(), ..message.clone() };
    say(&mut relay, connection, name, id, asks.clone());
    let [answer] = relay.raw(connection).try_into().unwrap();
    assert_eq!(sync_message(&answer).changes.len(), 1);
    for _ in 0..5 {
        say(&mut relay, connection, name, id, asks.clone());
    }
    assert!(relay.raw(connection).is_empty());
    // On another connection the first message is answered, since an acknowledgement may have been lost.
    let connection = relay.join(info("w/one", "ann"), "another");
    say(&mut relay, connection, "another", id, message);
    assert_eq!(relay.raw(connection).len(), 1);
}

#[test]
fn a_peer_that_lost_everything_gets_everything_again() {
    let mut relay = Relay::new();
    let (_, mut peers) = followers(&mut relay, 1);
    peers[1].doc = Automerge::new();
    peers[1].state = automerge::sync::State::new();
    peers[1].speak(&mut relay);
    settle(&mut relay, &mut peers);
    assert_eq!(peers[0].heads(), peers[1].heads());
}

#[test]
fn a_congested_follower_gets_one_message_when_it_has_room() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 2);
    let slow = peers[2].connection.unwrap();
    relay.hub.congested(slow);
    for number in 0..100 {
        put(&mut peers[0].doc, "name", &number.to_string());
        peers[0].speak(&mut relay);
        settle(&mut relay, &mut peers[..2]);
        let frame = Frame::Ephemeral {
            sender: PeerId::from("writer"),
            target: PeerId::from(RELAY),
            document: id,
            session: "s".to_owned(),
            count: number + 1,
            data: cbor::encode(&Ephemeral::Presence).into(),
        };
        relay.receive(peers[0].connection.unwrap(), &frame);
        relay.raw(peers[1].connection.unwrap());
    }
    assert!(relay.outbox[&slow].is_empty());
    let effects = relay.hub.drained(relay.now, slow);
    relay.take(effects);
    assert_eq!(relay.outbox[&slow].len(), 1);
    settle(&mut relay, &mut peers);
    assert!(peers.iter().all(|peer| peer.heads() == peers[0].heads()));
}

#[test]
fn a_peer_that_begins_while_congested_is_answered_when_it_has_room() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 0);
    let mut late = Peer::new("late", id, Automerge::new());
    late.connection = Some(relay.join(info("w/one", "ann"), "late"));
    relay.hub.congested(late.connection.unwrap());
    late.speak(&mut relay);
    assert!(relay.outbox[&late.connection.unwrap()].is_empty());
    let effects = relay.hub.drained(relay.now, late.connection.unwrap());
    relay.take(effects);
    peers.push(late);
    settle(&mut relay, &mut peers);
    assert_eq!(peers[0].heads(), peers[1].heads());
}

#[test]
fn an_unknown_document_is_unavailable_once_and_sent_when_it_comes() {
    let mut relay = Relay::new();
    let id = DocumentId::random();
    let mut peers = [Peer::new("asks", id, Automerge::new()), Peer::new("has", id, document())];
    peers[0].connect(&mut relay);
    settle(&mut relay, &mut peers[..1]);
    assert_eq!(peers[0].unavailable, 0);
    relay.pass(5_000);
    settle(&mut relay, &mut peers[..1]);
    assert_eq!(peers[0].unavailable, 1);
    peers[1].connect(&mut relay);
    settle(&mut relay, &mut peers);
    assert_eq!(peers[0].heads(), peers[1].heads());
    assert_eq!(peers[0].unavailable, 1);
}

#[test]
fn who_asked_in_vain_and_then_has_it_itself_is_heard() {
    let mut relay = Relay::new();
    let id = DocumentId::random();
    let mut peers = [Peer::new("asks", id, Automerge::new())];
    peers[0].connect(&mut relay);
    relay.pass(1_000);
    settle(&mut relay, &mut peers);
    assert_eq!(peers[0].unavailable, 1);
    // It gets the document from elsewhere.
    peers[0].doc = document();
    settle(&mut relay, &mut peers);
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), peers[0].heads());
}

#[test]
fn who_loses_everything_again_and_again_gets_everything_a_few_times() {
    let mut relay = Relay::new();
    let (id, peers) = followers(&mut relay, 0);
    let connection = relay.join(info("w/one", "eve"), "eve");
    let message = Automerge::new().generate_sync_message(&mut automerge::sync::State::new()).unwrap();
    let frame = SyncFrame {
        sender: PeerId::from("eve"),
        target: PeerId::from(RELAY),
        document: id,
        data: message.encode().into(),
    };
    for _ in 0..100 {
        relay.receive(connection, &Frame::Request(frame.clone()));
    }
    assert!(relay.raw(connection).len() < 10);
    relay.pass(120_000);
    relay.raw(connection);
    relay.receive(connection, &Frame::Request(frame));
    assert_eq!(relay.raw(connection).len(), 1);
    drop(peers);
}

#[test]
fn a_request_is_held_while_its_creator_brings_the_document() {
    let mut relay = Relay::new();
    let id = DocumentId::random();
    let mut peers = [Peer::new("asks", id, Automerge::new()), Peer::new("has", id, document())];
    peers[0].connect(&mut relay);
    relay.pass(200);
    relay.instant = false;
    peers[1].connect(&mut relay);
    settle(&mut relay, &mut peers);
    // The disk takes longer than a request is held; it is on its way, so nobody is told that there is none.
    relay.pass(2_000);
    settle(&mut relay, &mut peers);
    relay.sync_disk();
    relay.instant = true;
    settle(&mut relay, &mut peers);
    assert_eq!(peers[0].heads(), peers[1].heads());
    assert_eq!(peers[0].unavailable, 0);
}

#[test]
fn five_thousand_unknown_documents_are_answered_and_most_forgotten() {
    let mut relay = Relay::new();
    let connection = relay.join(info("w/one", "ann"), "asks");
    let message = Automerge::new().generate_sync_message(&mut automerge::sync::State::new()).unwrap();
    for _ in 0..5_000 {
        let frame = SyncFrame {
            sender: PeerId::from("asks"),
            target: PeerId::from(RELAY),
            document: DocumentId::random(),
            data: message.clone().encode().into(),
        };
        relay.receive(connection, &Frame::Request(frame));
    }
    relay.pass(1_000);
    let frames = relay.frames(connection);
    assert_eq!(frames.len(), 5_000);
    assert!(frames.iter().all(|frame| matches!(frame, Frame::DocUnavailable { .. })));
    relay.disconnect(connection);
    relay.pass(100_000);
    assert_eq!(relay.hub.collect(relay.now), 0, "nothing was left to collect");
}

#[test]
fn what_is_anothers_is_as_what_is_not_there() {
    let mut relay = Relay::new();
    let (id, _) = followers(&mut relay, 0);
    let mut stranger = Peer::new("stranger", id, Automerge::new());
    stranger.connect_as(&mut relay, info("w/two", "eve"));
    relay.pass(1_000);
    while stranger.listen(&mut relay) {}
    assert_eq!((stranger.unavailable, stranger.heads().len()), (1, 0));
}

#[test]
fn a_viewer_reads_is_flagged_and_writes_only_what_is_private() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 0);
    let profile = DocumentId::random();
    let viewer =
        ConnectionInfo { read_only: true, private: vec![(profile, Scope::from("m/vic"))], ..info("w/one", "vic") };
    let mut reads = Peer::new("viewer", id, Automerge::new());
    reads.connect_as(&mut relay, viewer.clone());
    let answer = relay.outbox[&reads.connection.unwrap()].front().unwrap().clone();
    let flags = sync_message(&answer).flags.unwrap();
    assert!(flags.contains(automerge::sync::MessageFlags::READ_ONLY));
    while reads.listen(&mut relay) {}
    assert_eq!(reads.heads(), peers[0].heads());
    // It saw the flag, and sends nothing of what it writes; one that sends all the same is told.
    put(&mut reads.doc, "name", "mine");
    reads.speak(&mut relay);
    while reads.listen(&mut relay) {}
    assert!(reads.errors.is_empty());
    let change = reads.doc.get_last_local_change().unwrap();
    let message = Message { changes: vec![change.raw_bytes().to_vec()].into(), ..sync_message(&answer) };
    say(&mut relay, reads.connection.unwrap(), "viewer", id, message);
    let refused = relay.frames(reads.connection.unwrap());
    assert!(matches!(&refused[..], [Frame::Error { code: Some(code), .. }] if code == "read-only"), "{refused:?}");
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), peers[0].heads());
    settle(&mut relay, &mut peers);

    let mut own = Peer::new("own", profile, document());
    own.connect_as(&mut relay, viewer);
    settle(&mut relay, std::slice::from_mut(&mut own));
    assert_eq!(relay.hub.heads(&(Scope::from("m/vic"), profile)).unwrap(), own.heads());
}

#[test]
fn a_viewer_who_holds_what_is_refused_is_not_talked_to_for_ever() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 0);
    let mut viewer = Peer::new("viewer", id, peers[0].doc.fork());
    put(&mut viewer.doc, "name", "mine");
    viewer.connect_as(&mut relay, ConnectionInfo { read_only: true, ..info("w/one", "vic") });
    while viewer.listen(&mut relay) {}
    let before = relay.sent;
    for _ in 0..100 {
        relay.pass(36_000);
        while viewer.listen(&mut relay) {}
    }
    assert_eq!((relay.sent, viewer.errors.len()), (before, 0));
    // Others' changes still come.
    put(&mut peers[0].doc, "title", "two");
    settle(&mut relay, &mut peers);
    while viewer.listen(&mut relay) {}
    assert!(viewer.doc.get(ROOT, "title").unwrap().is_some());
}

/// A worker's document, a member who has it, and a change that the member makes under the worker's actor.
fn forged(relay: &mut Relay) -> (DocumentId, Peer, Peer, Vec<u8>) {
    let id = DocumentId::random();
    let mut worker = Peer::new("worker", id, document());
    let mut as_worker = info("w/one", "worker's token");
    as_worker.writer.kind = WriterKind::Worker;
    worker.connect_as(relay, as_worker);
    while worker.listen(relay) {}
    let mut member = Peer::new("member", id, Automerge::new());
    member.connect(relay);
    while member.listen(relay) {}
    assert_eq!(member.heads(), worker.heads());
    let mut forger = member.doc.clone().with_actor(worker.doc.get_actor().clone());
    put(&mut forger, "name", "forged");
    (id, worker, member, forger.get_last_local_change().unwrap().raw_bytes().to_vec())
}

#[test]
fn nobody_goes_on_under_a_workers_actor() {
    let mut relay = Relay::new();
    let (id, mut worker, mut member, change) = forged(&mut relay);
    let heads = relay.hub.heads(&key(id)).unwrap();
    let message = || Message {
        heads: heads.clone(),
        need: vec![],
        have: vec![],
        changes: vec![change.clone()].into(),
        flags: None,
        version: automerge::sync::MessageVersion::V1,
    };
    let connection = member.connection.unwrap();
    for _ in 0..3 {
        say(&mut relay, connection, "member", id, message());
    }
    let refused = relay.frames(connection);
    assert!(matches!(&refused[..], [Frame::Error { code: Some(code), .. }] if code == "actor"), "{refused:?}");
    let (inserted, _) = relay.hub.insert(relay.now, &key(id), &writer("ann"), change.clone().into());
    assert!(inserted.is_err());
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), heads);
    // The worker does, and the member's own changes and repetitions of the worker's pass.
    put(&mut worker.doc, "name", "two");
    put(&mut member.doc, "title", "mine");
    let mut both = [worker, member];
    settle(&mut relay, &mut both);
    assert_eq!(both[0].heads(), both[1].heads());
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), both[0].heads());
}

#[test]
fn what_a_worker_wrote_before_the_log_was_lost_may_be_brought_back_by_others() {
    let mut relay = Relay::new();
    let (id, mut worker, mut member, _) = forged(&mut relay);
    put(&mut worker.doc, "name", "two");
    let mut both = [worker, member];
    settle(&mut relay, &mut both);
    [worker, member] = both;
    let mut bound = writer("worker's token");
    bound.kind = WriterKind::Worker;
    // The ledger is as it was.
    relay.records.clear();
    relay.restart();
    relay.writers.insert(key(id), vec![(worker.doc.get_actor().clone(), bound)]);
    member.connect(&mut relay);
    settle(&mut relay, std::slice::from_mut(&mut member));
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), worker.heads());
    assert!(member.errors.is_empty());
}

#[test]
fn a_peer_that_takes_no_changes_is_sent_none() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 0);
    let connection = relay.join(info("w/one", "ann"), "deaf");
    let mut message = Automerge::new().generate_sync_message(&mut automerge::sync::State::new()).unwrap();
    let mut flags = automerge::sync::MessageFlags::new();
    flags.set(automerge::sync::MessageFlags::READ_ONLY);
    message.flags = Some(flags);
    say(&mut relay, connection, "deaf", id, message);
    put(&mut peers[0].doc, "name", "two");
    settle(&mut relay, &mut peers);
    relay.pass(60_000);
    let messages: Vec<_> = relay.raw(connection).iter().map(sync_message).collect();
    assert_eq!(messages.len(), 2);
    assert!(messages.iter().all(|message| message.changes.is_empty()));
    assert_eq!(messages[1].heads, peers[0].heads());
}

#[test]
fn protocol_errors_end_the_connection_and_no_other() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 1);
    let message = peers[0].doc.generate_sync_message(&mut automerge::sync::State::new()).unwrap().encode();
    let frame = |sender: &str, data: Vec<u8>| SyncFrame {
        sender: PeerId::from(sender),
        target: PeerId::from(RELAY),
        document: id,
        data: data.into(),
    };
    let bad = |frames: &[Vec<u8>], relay: &mut Relay| {
        let connection = relay.connect(info("w/one", "eve"));
        for frame in frames {
            relay.receive_bytes(connection, frame);
        }
        let last = relay.frames(connection).pop();
        assert!(matches!(last, Some(Frame::Error { .. })), "{last:?}");
        assert!(relay.closed.contains_key(&connection));
        // What it says after that is not heard.
        relay.receive_bytes(connection, &Frame::Sync(frame("writer", message.clone())).encode());
        assert!(relay.frames(connection).is_empty());
        relay.disconnect(connection);
    };
    let join = |version: &str| Frame::Join { sender: PeerId::from("eve"), versions: vec![version.to_owned()] }.encode();
    bad(&[vec![0xf6]], &mut relay);
    bad(&[vec![1, 2, 3]], &mut relay);
    bad(&[Frame::Sync(frame("eve", message.clone())).encode()], &mut relay);
    bad(&[join("2")], &mut relay);
    bad(
        &[join("1"), Frame::Join { sender: PeerId::from("writer"), versions: vec!["1".to_owned()] }.encode()],
        &mut relay,
    );
    bad(&[join("1"), Frame::Sync(frame("writer", message.clone())).encode()], &mut relay);
    bad(&[join("1"), Frame::Request(frame("writer", message.clone())).encode()], &mut relay);
    bad(&[join("1"), Frame::Sync(frame("eve", vec![1, 2, 3])).encode()], &mut relay);
    bad(&[join("1"), Frame::Sync(frame("eve", vec![0x42, 0xff, 0xff, 0xff, 0xff, 0x0f])).encode()], &mut relay);
    let rubbish = Message { changes: vec![vec![1, 2, 3]].into(), ..Message::decode(&message).unwrap() };
    bad(&[join("1"), Frame::Sync(frame("eve", rubbish.encode())).encode()], &mut relay);

    put(&mut peers[0].doc, "name", "still here");
    settle(&mut relay, &mut peers);
    assert_eq!(peers[0].heads(), peers[1].heads());
}

#[test]
fn a_client_that_returns_replaces_its_old_connection() {
    let mut relay = Relay::new();
    let (_, mut peers) = followers(&mut relay, 0);
    let old = peers[0].connection.unwrap();
    peers[0].connect(&mut relay);
    assert!(relay.closed.contains_key(&old));
    put(&mut peers[0].doc, "name", "again");
    settle(&mut relay, &mut peers);
    // Somebody else's token can't do that.
    let current = peers[0].connection.unwrap();
    relay.join(info("w/one", "eve"), "writer");
    assert!(!relay.closed.contains_key(&current));
}

#[test]
fn a_refused_change_is_told_once_and_its_dependents_with_it() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 1);
    let mut forked = peers[1].doc.clone().with_actor(peers[0].doc.get_actor().clone());
    // Two changes of one actor with the same number: the second to come is refused.
    put(&mut peers[0].doc, "name", "mine");
    put(&mut forked, "name", "another's");
    let refused = forked.get_last_local_change().unwrap().hash();
    settle(&mut relay, &mut peers[..1]);
    let good = peers[0].heads();
    peers[1].doc = forked;
    peers[1].speak(&mut relay);
    peers[1].doc.set_actor(automerge::ActorId::random());
    put(&mut peers[1].doc, "more", "on top of it");
    // automerge itself can't apply what the hub sends now: two changes with one number. Read the errors as they come.
    peers[1].speak(&mut relay);
    let connection = peers[1].connection.unwrap();
    let errors: Vec<_> =
        relay.frames(connection).into_iter().filter(|frame| matches!(frame, Frame::Error { .. })).collect();
    let [Frame::Error { document, hash, code, .. }, Frame::Error { code: second, .. }] = &errors[..] else {
        panic!("{errors:?}")
    };
    assert_eq!((*document, hash.clone(), code.as_deref()), (Some(id), Some(refused.to_string()), Some("seq")));
    assert_eq!(second.as_deref(), Some("dependency"));
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), good);

    // It goes on naming it, and is neither answered nor told again, however long.
    for _ in 0..10 {
        let message = peers[1].doc.generate_sync_message(&mut automerge::sync::State::new()).unwrap();
        say(&mut relay, connection, "follower 0", id, message);
        relay.pass(60_000);
    }
    let frames = relay.frames(connection);
    assert!(frames.is_empty(), "{frames:?}");
}

#[test]
fn a_message_full_of_broken_changes_ends_its_connection() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 0);
    let connection = relay.join(info("w/one", "eve"), "eve");
    let mut message = peers[0].doc.generate_sync_message(&mut automerge::sync::State::new()).unwrap();
    let broken = |time: i64| {
        let mut change = peers[0].doc.get_changes(&[])[0].decode();
        change.actor_id = automerge::ActorId::random();
        change.time = i64::MIN + time;
        automerge::Change::from(change).raw_bytes().to_vec()
    };
    message.changes = (0..10_000).map(broken).collect::<Vec<_>>().into();
    say(&mut relay, connection, "eve", id, message);
    assert!(relay.closed[&connection].contains("break rules"));
    assert!(relay.frames(connection).len() < 30);
    put(&mut peers[0].doc, "name", "still here");
    settle(&mut relay, &mut peers);
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), peers[0].heads());
}

#[test]
fn a_message_that_inflates_to_gigabytes_ends_its_connection() {
    let mut relay = Relay::new();
    let (id, peers) = followers(&mut relay, 0);
    let connection = relay.join(info("w/one", "eve"), "eve");
    let mut message = peers[0].doc.generate_sync_message(&mut automerge::sync::State::new()).unwrap();
    let mut doc = Automerge::new();
    doc.transact(|tx| tx.put(ROOT, "zeros", vec![0_u8; 4 << 20])).unwrap();
    let bomb = doc.get_last_local_change().unwrap().bytes().into_owned();
    message.changes = vec![bomb; 20].into();
    let size: usize = message.changes.iter().map(<[u8]>::len).sum();
    assert!(size < 1 << 20, "{size}");
    say(&mut relay, connection, "eve", id, message);
    assert!(relay.closed[&connection].contains("inflate"));
}

#[test]
fn a_document_chunk_is_refused_and_the_connection_lives() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 0);
    let connection = peers[0].connection.unwrap();
    let mut message = peers[0].doc.generate_sync_message(&mut automerge::sync::State::new()).unwrap();
    message.changes = vec![peers[0].doc.save()].into();
    say(&mut relay, connection, "writer", id, message);
    let frames = relay.frames(connection);
    assert!(matches!(&frames[..], [Frame::Error { code: Some(code), .. }] if code == "document-chunk"), "{frames:?}");
    put(&mut peers[0].doc, "name", "still here");
    settle(&mut relay, &mut peers);
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), peers[0].heads());
}

#[test]
fn a_change_before_its_deps_waits_for_them() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 1);
    let connection = peers[1].connection.unwrap();
    let before = peers[0].doc.get_heads();
    let mut doc = peers[0].doc.clone();
    for number in 0..5 {
        put(&mut doc, "name", &number.to_string());
    }
    let chunks: Vec<_> = doc.get_changes(&before).iter().map(|change| change.raw_bytes().to_vec()).collect();
    let mut message = doc.generate_sync_message(&mut automerge::sync::State::new()).unwrap();
    for chunk in chunks.into_iter().rev() {
        message.changes = vec![chunk].into();
        say(&mut relay, connection, "follower 0", id, message.clone());
    }
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), doc.get_heads());
    peers[1].doc = doc;
    settle(&mut relay, &mut peers);
    assert_eq!(peers[0].heads(), peers[1].heads());
}

#[test]
fn peers_whose_heads_differ_get_a_fresh_message_with_growing_pauses() {
    let mut relay = Relay::new();
    let (id, peers) = followers(&mut relay, 0);
    let silent = relay.join(info("w/one", "ann"), "silent");
    let message = Automerge::new().generate_sync_message(&mut automerge::sync::State::new()).unwrap();
    say(&mut relay, silent, "silent", id, message);
    assert_eq!(relay.raw(silent).len(), 1);
    relay.pass(9_000);
    assert!(relay.raw(silent).is_empty());
    relay.pass(6_000);
    let [fresh] = relay.raw(silent).try_into().unwrap();
    assert_eq!(sync_message(&fresh).changes.len(), 1);
    // 10, 20, 40, … seconds: seven or eight in twenty minutes, not a hundred and twenty.
    relay.pass(1_200_000);
    let more = relay.raw(silent).len();
    assert!((4..=8).contains(&more), "{more}");
    drop(peers);
}

#[test]
fn what_the_disk_would_not_take_is_forgotten_and_its_sender_comes_back() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 1);
    let before = peers[0].heads();
    relay.instant = false;
    put(&mut peers[0].doc, "name", "lost");
    peers[0].speak(&mut relay);
    put(&mut peers[0].doc, "name", "lost too");
    peers[0].speak(&mut relay);
    let tickets: Vec<_> = relay.queued.drain(..).map(|(ticket, _)| ticket).collect();
    assert_eq!(tickets.len(), 2);
    let effects = relay.hub.not_stored(relay.now, &tickets[..1], "the disk is full");
    relay.take(effects);
    // The second was stored after all, but not what it depends on.
    let effects = relay.hub.stored(relay.now, &tickets[1..]);
    relay.take(effects);
    let connection = peers[0].connection.unwrap();
    assert!(relay.closed[&connection].contains("full"));
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), before);
    relay.instant = true;
    peers[0].disconnect(&mut relay);
    peers[0].connect(&mut relay);
    settle(&mut relay, &mut peers);
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), peers[0].heads());
    assert_eq!(peers[0].heads(), peers[1].heads());
}

#[test]
fn the_first_change_of_an_actor_says_whose_it_is() {
    let mut relay = Relay::new();
    let id = DocumentId::random();
    let connection = relay.join(info("w/one", "ann"), "a");
    let doc = document();
    let mut message = doc.generate_sync_message(&mut automerge::sync::State::new()).unwrap();
    message.changes = vec![doc.get_last_local_change().unwrap().raw_bytes().to_vec()].into();
    let frame = Frame::Sync(SyncFrame {
        sender: PeerId::from("a"),
        target: PeerId::from(RELAY),
        document: id,
        data: message.encode().into(),
    });
    let mut effects = relay.hub.receive(relay.now, connection, &frame.encode());
    effects += relay.hub.loaded(relay.now, key(id), Vec::new(), Vec::new());
    assert_eq!(effects.writers, [(key(id), doc.get_actor().clone(), writer("ann"))]);
    let [(ticket, record)] = &effects.store[..] else { panic!() };
    assert_eq!((record.received_from.clone(), record.seq), (Principal::from("ann"), 1));
    relay.hub.stored(relay.now, &[*ticket]);
    assert_eq!(relay.hub.heads(&key(id)), Some(doc.get_heads()));
}

#[test]
fn a_change_is_inserted_when_its_deps_are_there() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 1);
    let mut doc = peers[0].doc.clone().with_actor(automerge::ActorId::random());
    put(&mut doc, "name", "first");
    let first = doc.get_last_local_change().unwrap();
    put(&mut doc, "name", "second");
    let second = doc.get_last_local_change().unwrap();
    let bytes = |change: &automerge::Change| Bytes::copy_from_slice(change.raw_bytes());
    let worker = writer("worker");
    let (early, _) = relay.hub.insert(relay.now, &key(id), &worker, bytes(&second));
    assert!(early.unwrap_err().contains("doesn't have"));
    let (result, effects) = relay.hub.insert(relay.now, &key(id), &worker, bytes(&first));
    assert_eq!(effects.store.iter().map(|(ticket, _)| Some(*ticket)).collect::<Vec<_>>(), [result.unwrap()]);
    relay.take(effects);
    // What was refused before is not stored behind its caller's back.
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), [first.hash()]);
    let (again, effects) = relay.hub.insert(relay.now, &key(id), &worker, bytes(&first));
    assert_eq!((again, effects.store.len()), (Ok(None), 0));
    settle(&mut relay, &mut peers);
    assert_eq!(peers[0].heads(), [first.hash()]);
    assert!(relay.hub.insert(relay.now, &key(DocumentId::random()), &worker, bytes(&first)).0.is_err());
}

fn ephemeral(sender: &str, id: DocumentId, count: u64, data: Vec<u8>) -> Frame {
    Frame::Ephemeral {
        sender: PeerId::from(sender),
        target: PeerId::from(RELAY),
        document: id,
        session: "s".to_owned(),
        count,
        data: data.into(),
    }
}

fn tail(epoch: u64) -> Vec<u8> {
    cbor::encode(&Ephemeral::Tail(Tail {
        turn: "t".to_owned(),
        epoch: Epoch(epoch),
        message: "m".to_owned(),
        part: 0,
        kind: TailKind::Text,
        offset: 0,
        text: "words".to_owned(),
    }))
}

#[test]
fn a_tail_passes_only_from_the_live_claim() {
    let mut relay = Relay::new();
    let (id, peers) = followers(&mut relay, 1);
    let worker = relay.join(info("w/one", "worker"), "worker");
    let viewer = peers[1].connection.unwrap();
    let passes = |relay: &mut Relay, connection, name: &str, data: Vec<u8>| {
        relay.raw(viewer);
        relay.receive(connection, &ephemeral(name, id, 1, data));
        !relay.raw(viewer).is_empty()
    };
    assert!(!passes(&mut relay, worker, "worker", tail(7)));
    relay.hub.set_live(&key(id), Some((Epoch(7), Principal::from("worker"))));
    assert!(passes(&mut relay, worker, "worker", tail(7)));
    assert!(!passes(&mut relay, worker, "worker", tail(6)));
    let other = peers[0].connection.unwrap();
    // What else a worker says of its run is believed no more than its text.
    let activity = |epoch| {
        let (turn, state) = ("t".to_owned(), ActivityState::Writing);
        cbor::encode(&Ephemeral::Activity { turn, epoch: Epoch(epoch), state, tool: None, progress: None })
    };
    let usage = |epoch| {
        let turn = "t".to_owned();
        cbor::encode(&Ephemeral::Usage { turn, epoch: Epoch(epoch), usage: Usage::default(), cost_micros: None })
    };
    for said in [activity, usage] as [fn(u64) -> Vec<u8>; 2] {
        assert!(passes(&mut relay, worker, "worker", said(7)));
        assert!(!passes(&mut relay, worker, "worker", said(6)));
        assert!(!passes(&mut relay, other, "writer", said(7)));
    }
    assert!(!passes(&mut relay, other, "writer", tail(7)));
    // Others' messages come back from stock clients: they are dropped, and the client is not punished.
    assert!(!passes(&mut relay, other, "worker", tail(7)));
    assert!(!relay.closed.contains_key(&other));
    // Whatever else is said passes: a tail request, presence, what another program says.
    assert!(passes(&mut relay, other, "writer", cbor::encode(&Ephemeral::TailRequest)));
    assert!(passes(&mut relay, other, "writer", vec![0x18, 0x2a]));
    assert!(passes(&mut relay, other, "writer", b"not CBOR at all".to_vec()));
    assert!(!passes(&mut relay, other, "writer", vec![0; 1 << 20]));
    relay.hub.set_live(&key(id), None);
    assert!(!passes(&mut relay, worker, "worker", tail(7)));
    // A viewer may ask for the tail and show that it is there.
    let reader = relay.join(ConnectionInfo { read_only: true, ..info("w/one", "vic") }, "reader");
    assert!(passes(&mut relay, reader, "reader", cbor::encode(&Ephemeral::TailRequest)));
    assert!(passes(&mut relay, reader, "reader", cbor::encode(&Ephemeral::Presence)));
    assert!(!passes(&mut relay, reader, "reader", vec![0x18, 0x2a]));
}

#[test]
fn a_purged_document_is_unavailable_to_everyone_and_takes_nothing_more() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 1);
    // On its way to the disk when the purge comes.
    put(&mut peers[0].doc, "name", "two");
    peers[0].speak(&mut relay);
    for peer in &peers {
        relay.raw(peer.connection.unwrap());
    }
    let effects = relay.hub.purge(&key(id));
    relay.take(effects);
    relay.sync_disk();
    for peer in &peers {
        let told = relay.frames(peer.connection.unwrap());
        assert!(matches!(told[..], [Frame::DocUnavailable { .. }]), "{told:?}");
    }
    // A late change is refused, each time it is said, and nothing else follows from it.
    for _ in 0..2 {
        peers[1].disconnect(&mut relay);
        peers[1].connect(&mut relay);
        relay.raw(peers[1].connection.unwrap());
        put(&mut peers[1].doc, "name", "three");
        let message = peers[1].doc.generate_sync_message(&mut automerge::sync::State::new()).unwrap();
        let chunks: Vec<Vec<u8>> =
            peers[1].doc.get_changes(&[]).iter().map(|change| change.raw_bytes().to_vec()).collect();
        let changes = Message { changes: chunks.into(), ..message };
        let connection = peers[1].connection.unwrap();
        say(&mut relay, connection, "follower 0", id, changes);
        let told = relay.frames(connection);
        let told: Vec<&Frame> = told.iter().filter(|frame| !matches!(frame, Frame::Peer { .. })).collect();
        let [Frame::Error { code: Some(code), .. }, Frame::DocUnavailable { .. }] = told[..] else {
            panic!("{told:?}")
        };
        assert_eq!(code, "purged");
        assert_eq!(relay.hub.heads(&key(id)), None);
    }
    // Nor does the relay itself bring it back.
    let change = peers[1].doc.get_changes(&[])[0].raw_bytes().to_vec();
    let effects = relay.hub.open(&key(id));
    relay.take(effects);
    let (inserted, _) = relay.hub.insert(relay.now, &key(id), &writer("worker"), change.into());
    assert!(inserted.unwrap_err().contains("purged"));
}

#[test]
fn an_ephemeral_message_reaches_the_others_as_it_came() {
    let mut relay = Relay::new();
    let (id, peers) = followers(&mut relay, 2);
    relay.receive(peers[0].connection.unwrap(), &ephemeral("writer", id, 5, vec![0x01]));
    assert!(relay.raw(peers[0].connection.unwrap()).is_empty());
    for peer in &peers[1..] {
        let [frame] = relay.frames(peer.connection.unwrap()).try_into().unwrap();
        let Frame::Ephemeral { sender, document, session, count, data, .. } = frame else { panic!() };
        assert_eq!((sender.as_str(), document, session.as_str(), count, &data[..]), ("writer", id, "s", 5, &[1][..]));
    }
}

#[test]
fn a_quiet_document_is_dropped_and_comes_back_from_the_disk() {
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 1);
    relay.pass(120_000);
    assert_eq!(relay.hub.collect(relay.now), 0);
    for peer in &mut peers {
        peer.disconnect(&mut relay);
    }
    relay.pass(120_000);
    assert_eq!(relay.hub.collect(relay.now), 1);
    assert_eq!(relay.hub.heads(&key(id)), None);
    peers[1].doc.empty_commit(CommitOptions::default());
    put(&mut peers[1].doc, "name", "later");
    for peer in &mut peers {
        peer.connect(&mut relay);
    }
    settle(&mut relay, &mut peers);
    assert_eq!(peers[0].heads(), peers[1].heads());
    assert!(peers[0].doc.get(ROOT, "name").unwrap().is_some());
}

#[test]
fn random_frames_never_panic_and_never_reach_others() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let mut relay = Relay::new();
    let (id, mut peers) = followers(&mut relay, 1);
    let before = peers[0].heads();
    let message = peers[0].doc.generate_sync_message(&mut automerge::sync::State::new()).unwrap();
    let message =
        Message { changes: vec![peers[0].doc.get_changes(&[])[0].raw_bytes().to_vec()].into(), ..message }.encode();
    for _ in 0..3_000 {
        let connection = relay.join(info("w/one", "eve"), "eve");
        for _ in 0..rng.random_range(1..4) {
            let mut data = message.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..data.len());
                data[at] = rng.random();
            }
            let frame =
                SyncFrame { sender: PeerId::from("eve"), target: PeerId::from(RELAY), document: id, data: data.into() };
            let mut frame = Frame::Sync(frame).encode();
            if rng.random_range(0..4) == 0 {
                let at = rng.random_range(0..frame.len());
                frame[at] = rng.random();
            }
            relay.receive_bytes(connection, &frame);
        }
        relay.disconnect(connection);
    }
    assert_eq!(relay.hub.heads(&key(id)).unwrap(), before);
    put(&mut peers[0].doc, "name", "after");
    settle(&mut relay, &mut peers);
    assert_eq!(peers[0].heads(), peers[1].heads());
}
