//! Devices beside each other, through a real hub, in memory: what is offline merges, what is pending is counted, live
//! text is stitched, and what foreign clients say harms nobody. Every message is delivered by hand.

// The helpers of a test may fail as the test may.
#![allow(clippy::unwrap_used)]

#[path = "support/world.rs"]
mod world;

use std::collections::BTreeSet;

use proptest::prelude::*;
use skein_engine::device::{Device, DeviceConfig, DeviceError, Keeps, Notice};
use skein_engine::ids::{DocumentId, Epoch, PeerId};
use skein_engine::session::Command;
use skein_engine::session::command::NewSession;
use skein_engine::session::conversation::{Content, MemberRole, Status, Waiting};
use skein_engine::session::model::{Part, PartKind, RunState};
use skein_engine::session::write;
use skein_engine::wire::cbor;
use skein_engine::wire::ephemeral::{Ephemeral, Tail, TailKind};
use skein_engine::wire::frame::{Frame, SyncFrame};
use world::{NOW, World};

const A: usize = 0;
const B: usize = 1;
const WORKER: usize = 2;

fn send(text: &str) -> Command {
    Command::send(text)
}

fn rename(name: &str) -> Command {
    Command::Rename { name: name.into() }
}

/// Two devices of two members and a worker, all connected.
fn three() -> World {
    let mut world = World::new();
    world.add("ann", false);
    world.add("bob", false);
    world.add("worker", true);
    for node in [A, B, WORKER] {
        world.connect(node);
    }
    world.deliver();
    world
}

/// A session that everyone has open.
fn shared(world: &mut World) -> DocumentId {
    let new = NewSession { message: Some("hello".into()), ..NewSession::default() };
    let id = world.create(A, &new);
    world.deliver();
    for node in [B, WORKER] {
        world.open(node, id);
    }
    world.deliver();
    id
}

fn texts(world: &mut World, node: usize, id: DocumentId) -> Vec<String> {
    let conversation = world.nodes[node].device.conversation(NOW, id).unwrap();
    let messages = conversation.messages.iter().chain(&conversation.queued);
    messages
        .map(|message| {
            let parts = message.parts.iter().map(|part| match &part.content {
                Content::Text { text } | Content::Thinking { text } => text.as_str(),
                _ => "",
            });
            parts.collect()
        })
        .collect()
}

#[test]
fn offline_send_and_rename_on_two_devices_merge_to_the_same() {
    let mut world = three();
    let id = shared(&mut world);
    world.disconnect(A);
    world.disconnect(B);
    world.command(A, id, send("from A, offline"));
    world.command(A, id, rename("A's name"));
    world.command(B, id, rename("B's name"));
    world.command(B, id, send("from B, offline"));
    assert_ne!(world.heads(A, id), world.heads(B, id));
    world.connect(A);
    world.connect(B);
    world.deliver();
    assert_eq!(world.heads(A, id), world.heads(B, id));
    assert_eq!(texts(&mut world, A, id), texts(&mut world, B, id));
    let said: BTreeSet<String> = texts(&mut world, A, id).into_iter().collect();
    assert_eq!(said, BTreeSet::from(["hello".into(), "from A, offline".into(), "from B, offline".into()]));
    let names = [A, B].map(|node| world.nodes[node].device.summary(NOW, id).unwrap().name);
    assert_eq!(names[0], names[1]);
}

#[test]
fn pending_counts_what_the_relay_has_not_made_durable() {
    let mut world = three();
    let id = shared(&mut world);
    let pending = |world: &World| world.nodes[A].device.sync_state().pending;
    assert_eq!(pending(&world), 0);
    assert!(world.nodes[A].device.acknowledged(id));

    world.disconnect(A);
    world.command(A, id, send("one"));
    world.command(A, id, send("two"));
    assert_eq!(pending(&world), 2);

    world.relay_stores = false;
    world.connect(A);
    world.deliver();
    assert_eq!(pending(&world), 2, "sent, but not yet on the relay's disk");
    assert!(!world.nodes[A].device.acknowledged(id));

    world.relay_stores = true;
    world.deliver();
    assert_eq!(pending(&world), 0);
    assert!(world.nodes[A].device.acknowledged(id));
    assert_eq!(texts(&mut world, B, id).len(), 3);
}

#[test]
fn what_another_device_wrote_meanwhile_is_not_pending() {
    let mut world = three();
    let id = shared(&mut world);
    world.disconnect(A);
    world.command(B, id, send("from B"));
    world.deliver();
    world.command(A, id, send("from A"));
    assert_eq!(world.nodes[A].device.sync_state().pending, 1);
    world.connect(A);
    world.deliver();
    for node in [A, B] {
        assert_eq!(world.nodes[node].device.sync_state().pending, 0);
        assert!(world.nodes[node].device.acknowledged(id));
    }
}

#[test]
fn a_relay_restored_from_a_backup_is_refilled() {
    let mut world = three();
    let id = shared(&mut world);
    let backup = world.backup();
    world.command(A, id, send("after the backup"));
    world.deliver();
    for node in [A, B, WORKER] {
        world.disconnect(node);
    }
    world.restore(backup);
    world.connect(A);
    world.deliver();
    assert_eq!(world.relay_heads(id), world.heads(A, id));
    assert_eq!(world.nodes[A].device.sync_state().pending, 0);
}

#[test]
fn a_device_that_starts_again_has_what_it_stored_and_sends_what_is_unsent() {
    let mut world = three();
    let id = shared(&mut world);
    world.disconnect(A);
    world.command(A, id, send("before the restart"));
    world.restart(A);
    world.open(A, id);
    assert_eq!(texts(&mut world, A, id), ["hello", "before the restart"]);
    assert_eq!(
        world.nodes[A].device.sync_state().pending,
        1,
        "the row's heads are all that the relay is known to have"
    );
    let shown = world.nodes[A].device.conversation(NOW, id).unwrap();
    assert!(shown.queued.iter().all(|message| !message.unverified), "this member's earlier actors are its own");
    world.command(A, id, send("after it"));
    world.connect(A);
    world.deliver();
    assert_eq!(texts(&mut world, B, id), ["hello", "before the restart", "after it"]);
    let actors: BTreeSet<_> = world.nodes[A].stored(id).iter().map(|record| record.actor.clone()).collect();
    assert_eq!(actors.len(), 2, "each start writes under an actor of its own");
}

#[test]
fn after_a_failed_store_an_actor_is_never_reused() {
    let mut world = three();
    let id = shared(&mut world);
    let before = world.nodes[A].stored(id).last().unwrap().actor.clone();
    world.nodes[A].device.store_failed();
    world.command(A, id, send("again"));
    assert_ne!(world.nodes[A].stored(id).last().unwrap().actor, before);
}

#[test]
fn own_unsent_changes_show_through_the_rows() {
    let mut world = three();
    let id = shared(&mut world);
    let listed = |world: &mut World, node: usize| {
        let summaries = world.nodes[node].device.summaries(NOW);
        summaries.into_iter().map(|summary| (summary.name, summary.queued.count)).collect::<Vec<_>>()
    };
    world.command(A, id, rename("on the relay"));
    world.deliver();
    world.disconnect(A);
    world.command(A, id, rename("only here"));
    world.command(A, id, send("more"));
    assert_eq!(listed(&mut world, A), [("only here".to_owned(), 2)]);
    assert_eq!(listed(&mut world, B), [("on the relay".to_owned(), 1)]);
    let new = world.create(A, &NewSession { name: Some("new".into()), ..NewSession::default() });
    assert_eq!(listed(&mut world, A).len(), 2);
    world.connect(A);
    world.deliver();
    assert_eq!(listed(&mut world, A), listed(&mut world, B));
    assert!(world.nodes[A].device.acknowledged(new));
}

#[test]
fn new_sessions_come_after_all_others() {
    let mut world = three();
    let first = shared(&mut world);
    let second = world.create(B, &NewSession::default());
    let position = |world: &mut World, id| world.nodes[B].device.summary(NOW, id).unwrap().position.unwrap();
    assert!(position(&mut world, first) < position(&mut world, second));
}

#[test]
fn live_text_is_joined_onto_what_is_committed_and_never_doubled() {
    let mut world = three();
    let id = shared(&mut world);
    let run = world.begin(WORKER, id, 7);
    world.deliver();
    assert_eq!(world.nodes[A].device.conversation(NOW, id).unwrap().status, Status::Streaming);

    let message = world.write(WORKER, id, |tx| write::begin_message(tx, &run, "agent", NOW));
    let part = Part { kind: PartKind::Text("Once ".into()), provider: None };
    world.write(WORKER, id, |tx| write::push_part(tx, &message, &part));
    world.deliver();
    let tail = |offset, text: &str| tail(&run.turn, 7, &message, 0, offset, text);

    world.broadcast(WORKER, id, &tail(5, "upon "));
    world.broadcast(WORKER, id, &tail(10, "a time"));
    world.broadcast(WORKER, id, &tail(5, "upon a time"));
    world.deliver();
    assert_eq!(texts(&mut world, A, id), ["hello", "Once upon a time"]);
    assert_eq!(world.grown(A), [(5, "upon ".to_owned()), (10, "a time".to_owned())]);

    world.write(WORKER, id, |tx| write::push_chunk(tx, &message, 0, "upon a"));
    world.deliver();
    assert_eq!(texts(&mut world, A, id), ["hello", "Once upon a time"], "a checkpoint doubles nothing");

    world.write(WORKER, id, |tx| write::push_chunk(tx, &message, 0, " time"));
    world.write(WORKER, id, |tx| write::end_run(tx, &run.key(), RunState::Completed, "end", None, NOW));
    world.set_live(id, None);
    world.deliver();
    assert_eq!(texts(&mut world, A, id), ["hello", "Once upon a time"]);
    assert_eq!(world.nodes[A].device.conversation(NOW, id).unwrap().status, Status::Active);
}

#[test]
fn live_text_of_a_message_and_part_that_the_document_does_not_hold_yet_is_shown() {
    let mut world = three();
    let id = shared(&mut world);
    let run = world.begin(WORKER, id, 7);
    world.deliver();
    world.broadcast(WORKER, id, &tail(&run.turn, 7, "later", 0, 0, "thin"));
    world.broadcast(WORKER, id, &tail(&run.turn, 7, "later", 0, 4, "king"));
    world.broadcast(WORKER, id, &tail(&run.turn, 7, "later", 1, 0, " aloud"));
    world.command(B, id, send("a question meanwhile"));
    world.deliver();
    assert_eq!(texts(&mut world, A, id), ["hello", "thinking aloud", "a question meanwhile"]);
}

#[test]
fn a_viewer_that_opens_in_mid_turn_asks_once_and_one_that_follows_does_not() {
    let mut world = three();
    let id = shared(&mut world);
    world.disconnect(B);
    let run = world.begin(WORKER, id, 7);
    world.deliver();
    world.broadcast(WORKER, id, &tail(&run.turn, 7, "m", 0, 0, "so far"));
    world.deliver();
    assert_eq!(world.asked(WORKER), 0, "A has followed from the beginning");

    world.connect(B);
    world.deliver();
    assert_eq!(world.asked(WORKER), 1);
    world.broadcast(WORKER, id, &tail(&run.turn, 7, "m", 0, 0, "so far"));
    world.deliver();
    assert_eq!(texts(&mut world, B, id), ["hello", "so far"]);
    assert_eq!(texts(&mut world, A, id), ["hello", "so far"], "what is said again is not shown again");
    assert_eq!(world.asked(WORKER), 0);
}

#[test]
fn a_gap_is_asked_for_but_not_more_often_than_allowed() {
    let mut world = three();
    let id = shared(&mut world);
    let run = world.begin(WORKER, id, 7);
    world.deliver();
    for offset in [100, 110, 120] {
        world.broadcast(WORKER, id, &tail(&run.turn, 7, "m", 0, offset, "0123456789"));
    }
    world.deliver();
    assert_eq!(world.asked(WORKER), 2, "A and B, once each");
    assert_eq!(texts(&mut world, A, id), ["hello"], "nothing is shown with a hole in it");
}

#[test]
fn live_text_of_another_than_the_runs_worker_is_not_believed() {
    let mut world = three();
    let id = shared(&mut world);
    let run = world.begin(WORKER, id, 7);
    world.deliver();
    let forged = tail(&run.turn, 7, "m", 0, 0, "forged");
    world.broadcast(B, id, &forged);
    world.deliver();
    assert_eq!(texts(&mut world, A, id), ["hello"]);

    // Even if the relay let it through.
    let frame = Frame::Ephemeral {
        sender: world.nodes[B].peer.clone(),
        target: world.nodes[A].peer.clone(),
        document: id,
        session: "s".into(),
        count: 1,
        data: cbor::encode(&forged).into(),
    };
    world.receive(A, &frame.encode());
    assert_eq!(texts(&mut world, A, id), ["hello"]);
}

#[test]
fn a_lease_that_has_lapsed_shows_as_a_lost_worker() {
    let mut world = three();
    let id = shared(&mut world);
    world.begin(WORKER, id, 7);
    world.deliver();
    world.set_live(id, None);
    world.deliver();
    let shown = world.nodes[A].device.conversation(NOW, id).unwrap();
    assert_eq!(shown.status, Status::Active);
    assert!(matches!(shown.waiting, Some(Waiting::WorkerLost) | None));
}

#[test]
fn a_document_that_nobody_has_is_unavailable_until_it_comes() {
    let mut world = three();
    let missing = DocumentId::random();
    world.open(A, missing);
    assert_eq!(world.nodes[A].device.document(missing).unwrap_err(), DeviceError::Opening(missing));
    world.deliver();
    world.pass_ms(1_000);
    world.deliver();
    assert_eq!(world.nodes[A].device.document(missing).unwrap_err(), DeviceError::NotHere(missing));
    assert!(world.nodes[A].notices.contains(&Notice::Unavailable(missing)));

    // B makes a session in the meantime: it gets its row, and A, which asks for it, the document.
    let made = world.create(B, &NewSession::default());
    world.open(A, made);
    world.deliver();
    assert!(world.nodes[A].device.document(made).is_ok());
}

#[test]
fn a_command_on_what_is_not_here_is_an_error_and_changes_nothing() {
    let mut world = three();
    let missing = DocumentId::random();
    let refused = world.nodes[A].device.command(NOW, missing, &send("x")).unwrap_err();
    assert_eq!(refused, DeviceError::NotHere(missing));
    let mut nobody = Device::new(DeviceConfig { peer: PeerId::from("p"), identity: None, keeps: Keeps::Opened });
    assert_eq!(nobody.create(NOW, &NewSession::default()).unwrap_err(), DeviceError::NoIdentity);
}

#[test]
fn what_the_relay_refuses_is_counted_and_told() {
    let mut world = three();
    let id = shared(&mut world);
    world.disconnect(A);
    world.command(A, id, send("refused"));
    let hash = world.nodes[A].stored(id).last().unwrap().hash;
    world.connect(A);
    let frame = Frame::Error {
        sender: PeerId::from("relay"),
        target: world.nodes[A].peer.clone(),
        message: "it is too large".into(),
        document: Some(id),
        hash: Some(hash.to_string()),
        code: Some("size".into()),
    };
    world.receive(A, &frame.encode());
    let state = world.nodes[A].device.sync_state();
    assert_eq!((state.pending, state.refused), (0, 1));
    assert!(!world.nodes[A].device.acknowledged(id));
    let told = Notice::Refused { document: id, hash: hash.to_string(), message: "it is too large".into() };
    assert!(world.nodes[A].notices.contains(&told));
}

#[test]
fn a_relay_of_another_workspace_is_turned_away_before_it_is_shown_anything() {
    let mut world = three();
    let mut other = World::new();
    other.add("ann", false);
    let welcome = other.welcome(0);
    world.disconnect(A);
    world.nodes[A].device.catalog_opened(NOW);
    let frame = skein_engine::wire::catalog::FromRelay::Welcome(welcome);
    let effects = world.nodes[A].device.catalog_received(NOW, &cbor::encode(&frame));
    let why = effects.close_catalog.expect("it is turned away");
    assert!(why.contains("another workspace"), "{why}");
    assert!(effects.catalog.is_empty() && effects.sync.is_empty());
}

#[test]
fn a_closed_document_is_still_brought_to_the_relay() {
    let mut world = three();
    let id = shared(&mut world);
    world.disconnect(A);
    world.command(A, id, send("written, then closed"));
    world.close(A, id);
    assert_eq!(world.nodes[A].device.sync_state().pending, 1);
    world.connect(A);
    world.deliver();
    assert_eq!(texts(&mut world, B, id), ["hello", "written, then closed"]);
    assert!(world.nodes[A].device.document(id).is_err(), "it is followed no longer");
    world.command(B, id, send("not for A"));
    world.deliver();
    world.open(A, id);
    world.deliver();
    assert_eq!(texts(&mut world, A, id).len(), 3, "opened again, it is whole");
}

#[test]
fn frames_about_what_is_not_open_change_nothing() {
    let mut world = three();
    let id = shared(&mut world);
    let heads = world.heads(A, id);
    let peer = world.nodes[A].peer.clone();
    for document in [DocumentId::random(), id] {
        for data in [vec![], vec![0x42], vec![0x42, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
            let frame = SyncFrame { sender: PeerId::from("relay"), target: peer.clone(), document, data: data.into() };
            world.receive(A, &Frame::Sync(frame).encode());
        }
    }
    let version = Frame::Peer { sender: PeerId::from("relay"), target: peer, version: "9".into() };
    assert!(world.receive(A, &version.encode()).is_some(), "a version that isn't ours ends the connection");
    assert_eq!(world.heads(A, id), heads);
    world.command(A, id, send("still there"));
    world.disconnect(A);
    world.connect(A);
    world.deliver();
    assert_eq!(texts(&mut world, B, id), ["hello", "still there"]);
}

fn tail(turn: &str, epoch: u64, message: &str, part: u64, offset: u64, text: &str) -> Ephemeral {
    Ephemeral::Tail(Tail {
        turn: turn.into(),
        epoch: Epoch(epoch),
        message: message.into(),
        part,
        kind: TailKind::Text,
        offset,
        text: text.into(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_bytes_on_either_socket_do_no_harm(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let mut world = three();
        let id = shared(&mut world);
        let heads = world.heads(A, id);
        for bytes in &messages {
            world.nodes[A].device.sync_received(NOW, bytes);
            world.nodes[A].device.catalog_received(NOW, bytes);
        }
        prop_assert_eq!(world.heads(A, id), heads);
    }

    #[test]
    fn whatever_is_lost_both_ends_converge(steps in prop::collection::vec((0..6u8, 0..2usize), 1..40)) {
        let mut world = three();
        let id = shared(&mut world);
        let mut written = 1;
        for (step, node) in steps {
            match step {
                0 | 1 => {
                    world.command(node, id, send(&format!("message {written}")));
                    written += 1;
                }
                2 => world.disconnect(node),
                3 => world.connect(node),
                4 => world.deliver_some(7),
                _ => {
                    world.disconnect(node);
                    world.restart(node);
                    world.open(node, id);
                }
            }
        }
        for node in [A, B] {
            world.disconnect(node);
            world.connect(node);
        }
        world.deliver();
        prop_assert_eq!(world.heads(A, id), world.heads(B, id));
        prop_assert_eq!(texts(&mut world, A, id).len(), written);
        for node in [A, B] {
            prop_assert_eq!(world.nodes[node].device.sync_state().pending, 0);
        }
    }
}

/// How often a device was told that something was refused, since the last time.
fn told_refused(world: &mut World, node: usize, id: DocumentId) -> usize {
    let notices = std::mem::take(&mut world.nodes[node].notices);
    notices.iter().filter(|notice| matches!(notice, Notice::Refused { document, .. } if *document == id)).count()
}

#[test]
fn what_was_written_offline_before_a_demotion_is_refused_and_said_once() {
    let mut world = three();
    let id = shared(&mut world);
    world.disconnect(A);
    world.command(A, id, send("one more"));
    world.command(A, id, rename("A's name"));
    world.nodes[A].role = MemberRole::Viewer;
    world.connect(A);
    world.deliver();
    assert_eq!(told_refused(&mut world, A, id), 2);
    let state = world.nodes[A].device.sync_state();
    assert_eq!((state.pending, state.refused), (0, 2));
    assert!(world.nodes[A].device.refused(id) && !world.nodes[A].device.acknowledged(id));
    assert_eq!(texts(&mut world, B, id), ["hello"]);
    // Nobody asks or says it again, however long they stay, and what others write still comes.
    world.pass_ms(3_600_000);
    world.command(B, id, send("from B"));
    world.deliver();
    assert_eq!(told_refused(&mut world, A, id), 0);
    assert!(texts(&mut world, A, id).contains(&"from B".to_owned()));
    // Whoever may only read is told before anything is written.
    let refused = world.nodes[A].device.command(NOW, id, &send("too late"));
    assert!(matches!(refused, Err(DeviceError::ReadOnly)));
    assert!(matches!(world.nodes[A].device.create(NOW, &NewSession::default()), Err(DeviceError::ReadOnly)));
}

#[test]
fn what_was_refused_can_be_discarded_and_is_gone_after_a_restart() {
    let mut world = three();
    let id = shared(&mut world);
    world.disconnect(A);
    world.command(A, id, send("one more"));
    world.nodes[A].role = MemberRole::Viewer;
    world.connect(A);
    world.deliver();
    assert_eq!(texts(&mut world, A, id), ["hello", "one more"]);
    world.act(A, |device| {
        let (count, effects) = device.discard_refused(id).unwrap();
        assert_eq!(count, 1);
        effects
    });
    world.deliver();
    let settled = |world: &mut World| {
        assert_eq!(world.heads(A, id), world.heads(B, id));
        assert_eq!(texts(world, A, id), texts(world, B, id));
        assert_eq!(world.nodes[A].device.sync_state().refused, 0);
        assert!(world.nodes[A].device.acknowledged(id));
    };
    settled(&mut world);
    world.command(B, id, send("from B"));
    world.deliver();
    settled(&mut world);
    world.restart(A);
    world.open(A, id);
    world.connect(A);
    world.deliver();
    settled(&mut world);
    assert_eq!(texts(&mut world, A, id), ["hello", "from B"]);
    // A member again: what is written now is written by another actor, and arrives.
    world.disconnect(A);
    world.nodes[A].role = MemberRole::Member;
    world.connect(A);
    world.deliver();
    world.command(A, id, send("back again"));
    world.deliver();
    settled(&mut world);
}

#[test]
fn what_was_refused_can_be_saved_as_a_copy() {
    let mut world = three();
    let id = shared(&mut world);
    world.disconnect(A);
    world.command(A, id, send("one more"));
    world.nodes[A].role = MemberRole::Viewer;
    world.connect(A);
    world.deliver();
    let mut copy = None;
    world.act(A, |device| {
        let (id, effects) = device.save_as_copy(NOW, id).unwrap();
        copy = Some(id);
        effects
    });
    let copy = copy.unwrap();
    assert_eq!(texts(&mut world, A, copy), ["hello", "one more"]);
    world.deliver();
    assert!(told_refused(&mut world, A, copy) > 0, "a viewer keeps it on this device alone");
    // A member again: the copy, and what was refused, arrive.
    world.disconnect(A);
    world.nodes[A].role = MemberRole::Member;
    world.connect(A);
    world.deliver();
    world.open(B, copy);
    world.deliver();
    assert_eq!(texts(&mut world, B, copy), ["hello", "one more"]);
    assert_eq!(world.heads(A, id), world.heads(B, id));
    assert_eq!(world.nodes[A].device.sync_state().refused, 0);
}

#[test]
fn a_session_that_a_viewer_made_offline_goes_with_what_was_refused() {
    let mut world = three();
    world.disconnect(A);
    let new = NewSession { message: Some("mine".into()), ..NewSession::default() };
    let id = world.create(A, &new);
    world.nodes[A].role = MemberRole::Viewer;
    world.connect(A);
    world.deliver();
    assert!(world.nodes[A].device.refused(id));
    world.act(A, |device| device.discard_refused(id).unwrap().1);
    world.deliver();
    assert!(world.nodes[A].stored(id).is_empty());
    assert!(!world.nodes[A].device.summaries(NOW).iter().any(|summary| summary.id == id));
}

#[test]
fn whoever_waits_for_the_store_is_told_that_it_has_nothing() {
    let mut device = Device::new(DeviceConfig { peer: PeerId::from("p"), identity: None, keeps: Keeps::Opened });
    let id = DocumentId::random();
    assert_eq!(device.open(NOW, id).load, [id]);
    assert!(device.is_loading());
    let effects = device.loaded(NOW, id, Vec::new());
    assert!(effects.notices.contains(&Notice::Document(id)), "{:?}", effects.notices);
    assert!(!device.is_loading());
}
