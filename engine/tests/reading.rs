//! What a member has read, on all their devices, and what becomes of purged sessions there. Through a real hub, in
//! memory; every message is delivered by hand.

// The helpers of a test may fail as the test may.
#![allow(clippy::unwrap_used)]

#[path = "support/world.rs"]
mod world;

use skein_engine::device::{DeviceError, Notice};
use skein_engine::ids::DocumentId;
use skein_engine::session::Command;
use skein_engine::session::command::NewSession;
use world::{NOW, World};

const ANN: usize = 0;
const ANNS_OTHER: usize = 1;
const BOB: usize = 2;

/// Two devices of one member and one of another, all connected.
fn three() -> World {
    let mut world = World::new();
    for name in ["ann", "ann", "bob"] {
        world.add(name, false);
    }
    for node in [ANN, ANNS_OTHER, BOB] {
        world.connect(node);
    }
    world.deliver();
    world
}

fn session(world: &mut World) -> DocumentId {
    let new = NewSession { message: Some("hello".into()), ..NewSession::default() };
    let id = world.create(ANN, &new);
    world.deliver();
    world.open(BOB, id);
    world.deliver();
    id
}

fn unread(world: &mut World, node: usize, id: DocumentId) -> bool {
    world.nodes[node].device.summary(NOW, id).unwrap().unread
}

fn purges(world: &mut World, node: usize) -> Vec<u64> {
    let unsent = world.nodes[node].notices.iter().filter_map(|notice| match notice {
        Notice::Purged { unsent, .. } => Some(*unsent),
        _ => None,
    });
    unsent.collect()
}

#[test]
fn what_one_writes_oneself_is_read_and_what_others_write_is_not() {
    let mut world = three();
    let id = session(&mut world);
    assert!(!unread(&mut world, ANN, id) && !unread(&mut world, ANNS_OTHER, id) && unread(&mut world, BOB, id));
    world.command(BOB, id, Command::send("an answer"));
    world.deliver();
    assert!(unread(&mut world, ANN, id) && unread(&mut world, ANNS_OTHER, id) && !unread(&mut world, BOB, id));
    world.act(ANN, |device| device.mark_read(NOW, &[id]));
    assert!(!unread(&mut world, ANN, id), "at once");
    world.deliver();
    assert!(!unread(&mut world, ANNS_OTHER, id), "and on the other device");
    assert!(world.nodes[ANN].device.marks().is_sent());
}

#[test]
fn what_is_read_offline_is_kept_over_a_restart_and_told_when_there_is_a_link() {
    let mut world = three();
    let id = session(&mut world);
    world.command(BOB, id, Command::send("an answer"));
    world.deliver();
    world.disconnect(ANN);
    world.act(ANN, |device| device.mark_read(NOW, &[id]));
    world.restart(ANN);
    assert!(!world.nodes[ANN].device.marks().is_sent() && !unread(&mut world, ANN, id));
    assert!(unread(&mut world, ANNS_OTHER, id));
    world.connect(ANN);
    world.deliver();
    assert!(!unread(&mut world, ANNS_OTHER, id));
    assert!(world.nodes[ANN].device.marks().is_sent());
    // Connecting again asks for nothing: what the relay has said counts as known.
    world.disconnect(ANN);
    world.connect(ANN);
    world.deliver();
    assert!(world.nodes[ANN].device.marks().is_sent() && !unread(&mut world, ANN, id));
}

#[test]
fn a_purged_session_goes_from_devices_that_have_nothing_unsent() {
    let mut world = three();
    let id = session(&mut world);
    let early = world.nodes[ANN].device.purge(NOW, id).unwrap_err();
    assert_eq!(early, DeviceError::NotDeleted(id));
    world.command(ANN, id, Command::Delete);
    world.deliver();
    assert!(world.nodes[ANN].device.purge(NOW, id).is_ok());
    world.purge(id);
    world.deliver();
    for node in [ANN, BOB] {
        assert_eq!(purges(&mut world, node), [0]);
        assert!(world.nodes[node].device.document(id).is_err());
        assert!(world.nodes[node].device.kept_after_purge().is_empty());
        assert!(world.nodes[node].device.summary(NOW, id).is_none());
    }
}

#[test]
fn what_the_relay_never_had_of_a_purged_session_stays_readable_and_is_sent_nowhere() {
    let mut world = three();
    let id = session(&mut world);
    world.disconnect(BOB);
    world.command(BOB, id, Command::send("written on a train"));
    world.command(ANN, id, Command::Delete);
    world.deliver();
    world.purge(id);
    world.deliver();
    world.connect(BOB);
    world.deliver();
    assert_eq!(purges(&mut world, BOB), [1]);
    let check = |world: &mut World| {
        let device = &mut world.nodes[BOB].device;
        assert_eq!(device.kept_after_purge(), [id]);
        let shown = device.conversation(NOW, id).unwrap();
        assert_eq!(shown.queued.len(), 2);
        let more = device.command(NOW, id, &Command::send("more")).unwrap_err();
        assert_eq!(more, DeviceError::Purged(id));
        assert!(device.summaries(NOW).is_empty());
    };
    check(&mut world);
    world.restart(BOB);
    world.open(BOB, id);
    check(&mut world);
    world.connect(BOB);
    world.deliver();
    check(&mut world);
    assert!(world.relay_heads(id).is_empty(), "an undo or a message that comes later loses");
}
