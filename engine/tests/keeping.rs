//! What a device keeps: it brings it up to date without following it, paints it at once, and lets go of the rest, but
//! never of what the relay doesn't have.

// The helpers of a test may fail as the test may.
#![allow(clippy::unwrap_used)]

#[path = "support/world.rs"]
mod world;

use skein_engine::device::{Keeps, Notice};
use skein_engine::ids::{DocumentId, Timestamp};
use skein_engine::session::Command;
use skein_engine::session::command::NewSession;
use world::{NOW, World};

const ANN: usize = 0;
const BOB: usize = 1;

fn recent(sessions: usize) -> Keeps {
    Keeps::Recent { sessions, bytes: u64::MAX }
}

/// Ann's device, and Bob's, which keeps something.
fn two(keeps: Keeps) -> World {
    let mut world = World::new();
    world.add("ann", false);
    world.add_keeping("bob", keeps);
    for node in [ANN, BOB] {
        world.connect(node);
    }
    world.deliver();
    world
}

/// A session of Ann's, made so many seconds ago.
fn made(world: &mut World, seconds_ago: u64, message: &str) -> DocumentId {
    let new = NewSession { message: Some(message.into()), ..NewSession::default() };
    let at = Timestamp(NOW.0 - 1_000 * seconds_ago);
    let mut id = None;
    world.act(ANN, |device| {
        let (made, effects) = device.create(at, &new).unwrap();
        id = Some(made);
        effects
    });
    world.deliver();
    id.unwrap()
}

/// Letters that don't compress well.
fn noise(length: usize) -> String {
    let mut state = 1_u64;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + ((state >> 33) % 26) as u8)
    });
    letters.take(length).collect()
}

fn has(world: &World, id: DocumentId) -> bool {
    !world.nodes[BOB].stored(id).is_empty()
}

/// Whether Bob's store has all that the relay has.
fn is_up_to_date(world: &World, id: DocumentId) -> bool {
    world.nodes[BOB].stored(id).len() == world.nodes[ANN].stored(id).len()
}

#[test]
fn sessions_are_fetched_a_few_at_a_time_and_closed_again() {
    let mut world = World::new();
    world.add("ann", false);
    world.connect(ANN);
    world.deliver();
    let sessions: Vec<DocumentId> = (0..30).map(|n| made(&mut world, n, "hello")).collect();
    world.add_keeping("bob", Keeps::default());
    world.connect(BOB);
    world.deliver();
    assert!(sessions.iter().all(|id| has(&world, *id)));
    assert!(world.nodes[BOB].most_loading <= 9, "{} at once", world.nodes[BOB].most_loading);
    assert!(sessions.iter().all(|id| world.nodes[BOB].device.document(*id).is_err()), "none is followed any longer");
}

#[test]
fn a_kept_session_follows_its_row() {
    let mut world = two(Keeps::default());
    let id = made(&mut world, 10, "hello");
    for n in 0..3 {
        world.command(ANN, id, Command::send(format!("message {n}")));
        world.deliver();
        assert!(is_up_to_date(&world, id), "after message {n}");
    }
    world.disconnect(BOB);
    world.command(ANN, id, Command::send("while Bob is away"));
    world.deliver();
    world.restart(BOB);
    world.connect(BOB);
    world.deliver();
    assert!(is_up_to_date(&world, id), "caught up");
    world.disconnect(BOB);
    world.open(BOB, id);
    assert!(world.nodes[BOB].device.conversation(NOW, id).is_ok(), "and it opens offline");
}

#[test]
fn what_is_up_to_date_already_is_not_read_again() {
    let mut world = two(Keeps::default());
    let id = made(&mut world, 10, "hello");
    world.restart(BOB);
    world.nodes[BOB].notices.clear();
    world.connect(BOB);
    world.deliver();
    let touched = |notice: &Notice| *notice == Notice::Document(id);
    assert!(!world.nodes[BOB].notices.iter().any(touched));
}

#[test]
fn a_session_that_streams_is_followed_to_its_end() {
    let mut world = two(Keeps::default());
    let worker = world.nodes.len();
    world.add("worker", true);
    world.connect(worker);
    world.deliver();
    let id = made(&mut world, 10, "hello");
    world.open(worker, id);
    world.deliver();
    world.begin(worker, id, 1);
    world.deliver();
    assert!(world.nodes[BOB].device.document(id).is_ok(), "while the lease lives");
    world.set_live(id, None);
    world.deliver();
    assert!(world.nodes[BOB].device.document(id).is_err());
    assert!(is_up_to_date(&world, id));
}

#[test]
fn only_the_latest_are_fetched() {
    let mut world = World::new();
    world.add("ann", false);
    world.connect(ANN);
    world.deliver();
    let sessions: Vec<DocumentId> = (0..6).map(|n| made(&mut world, 100 * n, "hello")).collect();
    world.add_keeping("bob", recent(2));
    world.connect(BOB);
    world.deliver();
    let fetched: Vec<bool> = sessions.iter().map(|id| has(&world, *id)).collect();
    assert_eq!(fetched, [true, true, false, false, false, false]);

    // An old one that changes is one of the latest.
    world.command(ANN, sessions[5], Command::send("again"));
    world.deliver();
    assert!(has(&world, sessions[5]));
}

#[test]
fn what_is_kept_is_let_go_oldest_first_but_for_what_is_needed() {
    let mut world = two(Keeps::All);
    let sessions: Vec<DocumentId> = (0..8).map(|n| made(&mut world, 100 * n, "hello")).collect();
    assert!(sessions.iter().all(|id| has(&world, *id)));
    let [_, _, _, open, unsent, ..] = sessions[..] else { panic!() };
    world.open(BOB, open);
    world.open(BOB, unsent);
    world.deliver();
    world.disconnect(BOB);
    world.command(BOB, unsent, Command::send("not sent yet"));
    // What is read from the store anew and closed at once is not open, but still unsent.
    world.restart(BOB);
    world.open(BOB, open);
    world.open(BOB, unsent);
    world.close(BOB, unsent);

    // The two that were used count as the latest.
    world.act(BOB, |device| device.evict(recent(4)));
    let here: Vec<bool> = sessions.iter().map(|id| has(&world, *id)).collect();
    assert_eq!(here, [true, true, false, true, true, false, false, false]);
}

#[test]
fn a_budget_of_bytes_leaves_the_latest_whatever_its_size() {
    let mut world = two(Keeps::All);
    let large = noise(20_000);
    let [latest, middle, oldest] = [1, 2, 3].map(|n| made(&mut world, n * 100, &large));
    world.act(BOB, |device| device.evict(Keeps::Recent { sessions: 100, bytes: 1 }));
    assert_eq!([latest, middle, oldest].map(|id| has(&world, id)), [true, false, false]);
}

#[test]
fn what_was_let_go_comes_back_when_it_is_opened() {
    let mut world = two(Keeps::All);
    let [_, id] = [1, 2].map(|n| made(&mut world, n * 100, "hello"));
    world.act(BOB, |device| device.evict(recent(1)));
    assert!(!has(&world, id));
    world.open(BOB, id);
    world.deliver();
    assert!(has(&world, id) && world.nodes[BOB].device.conversation(NOW, id).is_ok());
}

#[test]
fn a_long_session_leaves_its_end_to_be_painted() {
    let mut world = two(Keeps::default());
    let long = noise(60_000);
    let id = made(&mut world, 100, &long);
    let snapshots = world.nodes[BOB].device.take_snapshots(NOW);
    assert_eq!(snapshots.iter().map(|snapshot| snapshot.session).collect::<Vec<_>>(), [id], "when it was closed");
    assert!(world.nodes[BOB].device.take_snapshots(NOW).is_empty());

    world.open(BOB, id);
    world.deliver();
    let shown = world.nodes[BOB].device.conversation(NOW, id).unwrap();
    let painted = snapshots[0].clone().into_conversation();
    assert_eq!((painted.messages, painted.queued), (shown.messages, shown.queued));
    assert!(world.nodes[BOB].device.take_snapshots(NOW).is_empty(), "nothing has changed");
    world.command(BOB, id, Command::send("more"));
    let snapshots = world.nodes[BOB].device.take_snapshots(NOW);
    assert_eq!(snapshots[0].heads, world.heads(BOB, id));
}

#[test]
fn a_device_that_keeps_nothing_of_its_own_accord_fetches_nothing() {
    let mut world = two(Keeps::Opened);
    let id = made(&mut world, 1, "hello");
    assert!(!has(&world, id));
}
