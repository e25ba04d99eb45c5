//! What waits on a device: commands for their documents, and changes for their blobs. Nothing of it is lost or done
//! twice, whatever crashes.

// The helpers of a test may fail as the test may.
#![allow(clippy::unwrap_used)]

#[path = "support/world.rs"]
mod world;

use std::collections::BTreeSet;

use skein_engine::blob::BlobId;
use skein_engine::device::{DeviceError, QueueWrite};
use skein_engine::ids::{DocumentId, Timestamp};
use skein_engine::session::Command;
use skein_engine::session::command::{Attachment, Draft, NewSession};
use skein_engine::session::conversation::Content;
use world::{NOW, World};

const ANN: usize = 0;
const BOB: usize = 1;

fn two() -> World {
    let mut world = World::new();
    world.add("ann", false);
    world.add("bob", false);
    for node in [ANN, BOB] {
        world.connect(node);
    }
    world.deliver();
    world
}

/// A session of Ann's, which Bob's device only lists; Bob is offline.
fn listed() -> (World, DocumentId) {
    let mut world = two();
    let id = world.create(ANN, &NewSession { message: Some("hello".into()), ..NewSession::default() });
    world.deliver();
    world.disconnect(BOB);
    (world, id)
}

/// Bob's device queues a command; the id of what it will make.
fn later(world: &mut World, id: DocumentId, command: Command) -> String {
    let mut made = None;
    world.act(BOB, |device| {
        let (done, effects) = device.command_later(NOW, id, &command).unwrap();
        made = done.id;
        effects
    });
    made.unwrap()
}

fn waiting(world: &World) -> (u64, u64) {
    let state = world.nodes[BOB].device.sync_state();
    (state.waiting, state.failed)
}

fn texts(world: &mut World, node: usize, id: DocumentId) -> Vec<String> {
    let conversation = world.nodes[node].device.conversation(NOW, id).unwrap();
    let parts = conversation.messages.iter().chain(&conversation.queued).flat_map(|message| &message.parts);
    let texts = parts.filter_map(|part| match &part.content {
        Content::Text { text } => Some(text.clone()),
        _ => None,
    });
    texts.collect()
}

#[test]
fn a_command_waits_for_its_document_visibly_and_is_done_once_it_has_come() {
    let (mut world, id) = listed();
    let first = later(&mut world, id, Command::send("one"));
    let second = later(&mut world, id, Command::send("two"));
    later(&mut world, id, Command::Rename { name: "named while away".into() });
    assert_eq!(waiting(&world), (3, 0));
    let shown = world.nodes[BOB].device.waiting_commands(id);
    assert_eq!(shown.iter().map(|entry| &entry.id).take(2).collect::<Vec<_>>(), [&first, &second]);

    world.restart(BOB);
    assert_eq!(waiting(&world), (3, 0), "also after a restart");
    world.connect(BOB);
    world.deliver();
    assert_eq!(waiting(&world), (0, 0));
    assert!(world.nodes[BOB].queue.is_empty());
    assert_eq!(texts(&mut world, ANN, id), ["hello", "one", "two"]);
    let conversation = world.nodes[ANN].device.conversation(NOW, id).unwrap();
    assert_eq!(conversation.queued.iter().map(|m| &m.id).skip(1).collect::<Vec<_>>(), [&first, &second]);
    assert_eq!(world.nodes[ANN].device.summary(NOW, id).unwrap().name, "named while away");
}

#[test]
fn a_crash_between_the_change_and_the_queue_repeats_nothing() {
    let (mut world, id) = listed();
    later(&mut world, id, Command::send("once"));
    later(&mut world, id, Command::Rename { name: "a name".into() });
    let queued = world.nodes[BOB].queue.clone();
    world.connect(BOB);
    world.deliver();
    assert_eq!(texts(&mut world, ANN, id), ["hello", "once"]);
    // The changes were stored, and the process died before the queue was.
    world.nodes[BOB].queue = queued;
    world.restart(BOB);
    world.connect(BOB);
    world.deliver();
    assert_eq!(texts(&mut world, ANN, id), ["hello", "once"]);
    assert!(world.nodes[BOB].queue.is_empty());
}

#[test]
fn what_another_process_has_done_is_not_done_again() {
    let (mut world, id) = listed();
    later(&mut world, id, Command::send("by one of two"));
    // The other process has it done: its entry is gone from the store.
    world.nodes[BOB].queue.clear();
    world.connect(BOB);
    world.deliver();
    assert_eq!(texts(&mut world, ANN, id), ["hello"]);
    assert_eq!(waiting(&world), (0, 0));
}

#[test]
fn what_turns_out_to_be_impossible_is_kept_to_be_read_and_let_go() {
    let (mut world, id) = listed();
    let pause = later(&mut world, id, Command::Pause);
    later(&mut world, id, Command::send("possible"));
    world.connect(BOB);
    world.deliver();
    assert_eq!(waiting(&world), (0, 1));
    assert_eq!(texts(&mut world, ANN, id), ["hello", "possible"]);
    let entry = world.nodes[BOB].device.waiting_commands(id).remove(0);
    assert_eq!((entry.id.as_str(), entry.failed.as_deref()), (pause.as_str(), Some("nothing is streaming")));
    world.restart(BOB);
    assert_eq!(waiting(&world), (0, 1), "it is not tried for ever, and not forgotten");
    world.act(BOB, |device| device.drop_waiting(&pause));
    assert_eq!(waiting(&world), (0, 0));
    assert!(world.nodes[BOB].queue.is_empty());
}

#[test]
fn what_can_be_said_at_once_is_said_at_once() {
    let (mut world, id) = listed();
    let device = &mut world.nodes[BOB].device;
    for command in
        [Command::send("  "), Command::Rename { name: "a\nb".into() }, Command::SetAgent { agent: "".into() }]
    {
        assert!(matches!(device.command_later(NOW, id, &command), Err(DeviceError::Command(_))), "{command:?}");
    }
    let unknown = DocumentId::random();
    let refused = device.command_later(NOW, unknown, &Command::send("to nowhere")).map(drop);
    assert_eq!(refused, Err(DeviceError::NotHere(unknown)));
    assert_eq!(waiting(&world), (0, 0));
}

#[test]
fn a_message_written_blind_goes_over_nothing_that_its_author_has_not_seen() {
    let mut world = two();
    world.add("worker", true);
    let worker = 2;
    world.connect(worker);
    let id = world.create(ANN, &NewSession { message: Some("hello".into()), ..NewSession::default() });
    world.deliver();
    world.open(worker, id);
    world.deliver();
    world.disconnect(BOB);
    let run = world.begin(worker, id, 1);
    world.deliver();
    world.command(ANN, id, Command::Pause);
    world.deliver();
    let write = skein_engine::session::write::end_run;
    let state = skein_engine::session::model::RunState::Paused;
    world.write(worker, id, |tx| write(tx, &run.key(), state, "person", None, NOW));
    world.set_live(id, None);
    world.deliver();
    later(&mut world, id, Command::send("blind"));
    world.connect(BOB);
    world.deliver();
    let conversation = world.nodes[ANN].device.conversation(NOW, id).unwrap();
    assert_eq!(conversation.queued.len(), 1);
    assert!(!conversation.stops.is_empty());
    assert_eq!(conversation.waiting, Some(skein_engine::session::conversation::Waiting::HeldByPause));
}

#[test]
fn a_document_that_is_here_is_commanded_at_once() {
    let (mut world, _) = listed();
    let id = world.create(BOB, &NewSession::default());
    later(&mut world, id, Command::send("here"));
    assert_eq!(waiting(&world), (0, 0));
    assert_eq!(texts(&mut world, BOB, id), ["here"]);
}

#[test]
fn a_closed_session_still_gets_what_waits_for_it() {
    let (mut world, id) = listed();
    later(&mut world, id, Command::send("after all"));
    world.close(BOB, id);
    world.connect(BOB);
    world.deliver();
    assert_eq!(texts(&mut world, ANN, id), ["hello", "after all"]);
    assert!(world.nodes[BOB].device.document(id).is_err(), "and is closed then");
}

#[test]
fn what_is_given_while_others_are_about_to_be_done_comes_after_them() {
    let (mut world, id) = listed();
    world.connect(BOB);
    world.open(BOB, id);
    world.deliver();
    world.close(BOB, id);
    world.disconnect(BOB);
    let records = world.nodes[BOB].stored(id);
    let device = &mut world.nodes[BOB].device;
    let (first, _) = device.command_later(NOW, id, &Command::Rename { name: "first".into() }).unwrap();
    assert_eq!(device.loaded(NOW, id, records).arrived, [id]);
    // The store had no more than the first when it was asked.
    let (second, _) = device.command_later(NOW, id, &Command::Rename { name: "second".into() }).unwrap();
    let (first, second) = (first.id.unwrap(), second.id.unwrap());
    let effects = device.do_waiting(NOW, id, &BTreeSet::from([first.clone()]));
    assert_eq!((effects.queue, effects.arrived), (vec![QueueWrite::Drop(first)], vec![id]));
    let effects = device.do_waiting(NOW, id, &BTreeSet::from([second.clone()]));
    assert_eq!((effects.queue, effects.arrived), (vec![QueueWrite::Drop(second)], vec![]));
    assert_eq!(device.summary(NOW, id).unwrap().name, "second");
}

#[test]
fn what_waits_for_a_session_that_is_purged_is_kept_with_the_reason() {
    let (mut world, id) = listed();
    later(&mut world, id, Command::send("too late"));
    world.purge(id);
    world.connect(BOB);
    world.deliver();
    assert_eq!(waiting(&world), (0, 1));
    world.restart(BOB);
    assert_eq!(waiting(&world), (0, 1));
    assert_eq!(world.nodes[BOB].queue.len(), 1);
}

// --- Blobs -----------------------------------------------------------------------------------------------------------

fn attached(text: &str, blob: BlobId) -> Command {
    let attachment =
        Attachment { blob: blob.to_string(), mime: "text/plain".into(), name: "notes.txt".into(), size: 5 };
    Command::Send(Draft { text: text.into(), attachments: Some(vec![attachment]), ..Draft::default() })
}

#[test]
fn a_change_follows_its_blob() {
    let mut world = two();
    let id = world.create(ANN, &NewSession { message: Some("hello".into()), ..NewSession::default() });
    world.open(BOB, id);
    world.deliver();
    let blob = BlobId::of(b"notes");
    world.act(ANN, |device| device.blob_waits(blob));
    world.command(ANN, id, attached("with notes", blob));
    world.command(ANN, id, Command::send("and another"));
    world.deliver();
    assert_eq!(texts(&mut world, ANN, id), ["hello", "with notes", "and another"], "it shows here at once");
    assert_eq!(texts(&mut world, BOB, id), ["hello"]);
    let state = world.nodes[ANN].device.sync_state();
    assert_eq!((state.pending, state.uploads), (2, 1));

    // What comes is taken meanwhile.
    world.command(BOB, id, Command::send("from Bob"));
    world.deliver();
    assert!(texts(&mut world, ANN, id).contains(&"from Bob".to_owned()));

    world.act(ANN, |device| device.blob_sent(blob));
    world.deliver();
    assert_eq!(world.heads(ANN, id), world.heads(BOB, id));
    assert_eq!(world.nodes[ANN].device.sync_state().pending, 0);
}

#[test]
fn a_blob_that_waits_is_waited_for_over_restarts_and_connections() {
    let mut world = two();
    let id = world.create(ANN, &NewSession { message: Some("hello".into()), ..NewSession::default() });
    world.open(BOB, id);
    world.deliver();
    world.disconnect(ANN);
    let blobs = [BlobId::of(b"one"), BlobId::of(b"two")];
    for blob in blobs {
        world.act(ANN, |device| device.blob_waits(blob));
        world.command(ANN, id, attached("file", blob));
    }
    world.restart(ANN);
    // As shells do: what has to be uploaded is said before documents are read.
    for blob in blobs {
        world.act(ANN, |device| device.blob_waits(blob));
    }
    world.open(ANN, id);
    world.connect(ANN);
    world.deliver();
    world.command(BOB, id, Command::send("from Bob"));
    world.deliver();
    assert_eq!(texts(&mut world, BOB, id), ["hello", "from Bob"]);
    assert_eq!(texts(&mut world, ANN, id).len(), 4, "what others write still comes");
    world.act(ANN, |device| device.blob_sent(blobs[0]));
    world.deliver();
    assert_eq!(texts(&mut world, BOB, id).len(), 2, "the second one is still missing");
    world.act(ANN, |device| device.blob_sent(blobs[1]));
    world.deliver();
    assert_eq!(world.heads(ANN, id), world.heads(BOB, id));
    assert_eq!(texts(&mut world, BOB, id).len(), 4);
}

#[test]
fn a_session_whose_first_message_has_a_file_is_unknown_to_the_relay_until_the_file_is_there() {
    let mut world = two();
    let blob = BlobId::of(b"first");
    world.act(ANN, |device| device.blob_waits(blob));
    let Command::Send(Draft { attachments, .. }) = attached("", blob) else { panic!() };
    let id = world.create(ANN, &NewSession { message: Some("see".into()), attachments, ..NewSession::default() });
    world.deliver();
    assert!(world.relay_heads(id).is_empty());
    world.act(ANN, |device| device.blob_sent(blob));
    world.deliver();
    assert_eq!(world.relay_heads(id), world.heads(ANN, id));
}

#[test]
fn other_sessions_and_blobs_that_the_relay_has_wait_for_nothing() {
    let mut world = two();
    let id = world.create(ANN, &NewSession::default());
    world.act(ANN, |device| device.blob_waits(BlobId::of(b"not named")));
    world.command(ANN, id, attached("known", BlobId::of(b"uploaded")));
    world.deliver();
    assert_eq!(world.relay_heads(id), world.heads(ANN, id));
}

#[test]
fn a_blob_said_late_still_holds_what_was_read_before() {
    let mut world = two();
    let id = world.create(ANN, &NewSession::default());
    world.deliver();
    world.disconnect(ANN);
    let blob = BlobId::of(b"late");
    world.command(ANN, id, attached("by another process", blob));
    world.act(ANN, |device| device.blob_waits(blob));
    world.connect(ANN);
    world.deliver();
    assert_ne!(world.relay_heads(id), world.heads(ANN, id));
}

#[test]
fn a_queue_is_kept_as_it_is_told() {
    let (mut world, id) = listed();
    let (done, effects) = world.nodes[BOB].device.command_later(Timestamp(7), id, &Command::send("x")).unwrap();
    let [QueueWrite::Keep(entry)] = &effects.queue[..] else { panic!("{effects:?}") };
    assert_eq!((Some(&entry.id), entry.at, entry.by.as_str()), (done.id.as_ref(), Timestamp(7), "bob"));
    let bytes = skein_engine::wire::cbor::encode(entry);
    assert_eq!(skein_engine::wire::cbor::decode(&bytes).as_ref(), Ok(entry));
    let queued: BTreeSet<String> = BTreeSet::new();
    assert!(world.nodes[BOB].device.do_waiting(NOW, id, &queued).store.is_empty(), "its document isn't here");
}
