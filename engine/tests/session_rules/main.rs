//! The rules of `docs/session-rules.md`, each a test by name: `table` has the cases of its table, `each` one for every
//! rule and for each of its clauses, `beyond` what follows from several; `off` shows that they would notice.

#![allow(clippy::unwrap_used)]

#[path = "../world/mod.rs"]
mod world;

mod beyond;
mod each;
mod off;
mod table;

use skein_engine::session::conversation::{Content, ShownCallState};
use world::{Who, World};

const A: Who = 1;
const B: Who = 2;

/// Two people's devices, and a worker.
fn two_devices() -> (World, Who) {
    (World::new(2, 1), 3)
}

fn call_states(world: &World, who: Who) -> Vec<(String, ShownCallState)> {
    let seen = world.see(who);
    let parts = seen.messages.iter().flat_map(|message| &message.parts);
    let calls = parts.filter_map(|part| match &part.content {
        Content::ToolCall { id, state, .. } => Some((id.clone(), *state)),
        _ => None,
    });
    calls.collect()
}
