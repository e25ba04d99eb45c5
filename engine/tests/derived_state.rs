//! What lists read of a session: every field of its summary, whatever the clocks and the history.

#![allow(clippy::unwrap_used)]

mod world;

use skein_engine::ids::DocumentId;
use skein_engine::session::Command;
use skein_engine::session::model::RunState;
use skein_engine::session::summary::{self, Summary};
use world::{RELAY, Who, World};

const A: Who = 1;
const B: Who = 2;
const WORKER: Who = 3;

fn summary_of(world: &World, who: Who) -> Summary {
    summary::summary(DocumentId::random(), &world.session(who), &world.see(who), world.now)
}

#[test]
fn progress_grows_with_each_message_and_each_ended_run_and_never_shrinks() {
    let mut world = World::new(2, 1);
    let progress = |world: &World| summary_of(world, RELAY).progress;
    assert_eq!(progress(&world), 0);
    world.send(A, "u1");
    world.send(B, "u2");
    world.sync_all();
    assert_eq!(progress(&world), 2);
    let mut claim = world.claim(WORKER).unwrap();
    assert_eq!(progress(&world), 2, "a run that has begun is nothing to read yet");
    world.say(WORKER, &mut claim, "a");
    world.end(WORKER, &claim, RunState::Completed, "end");
    assert_eq!(progress(&world), 4);
    world.send(A, "u3");
    world.sync_all();
    let queued = world.see(A).queued[0].id.clone();
    world.command(A, Command::Remove { message: queued }).unwrap();
    world.sync_all();
    assert_eq!(progress(&world), 6, "a removed message was there");
}
