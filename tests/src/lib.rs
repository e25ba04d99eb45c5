//! What the tests of the whole product stand on: the real `skein` binary as a process ([`skein`]), a sync peer written
//! on automerge alone ([`peer`]), stock JavaScript clients ([`js`]), and sockets on which anything can be said
//! ([`raw`]).
//!
//! Nothing here uses the crates under test to talk to them, ids and payload types apart: a fault that both ends share
//! would go unseen.

// Everything here runs in tests: what can't be done ends the test, where it is.
#![allow(clippy::unwrap_used)]

pub mod js;
pub mod peer;
pub mod raw;
pub mod skein;
pub mod stage;

use std::time::Duration;

/// Longest that anything is awaited, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Awaits `future`; ends the test if `what` takes longer than [`PATIENCE`].
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    within_time(PATIENCE, what, future).await
}

/// The same with a limit of its own.
pub async fn within_time<F: Future>(limit: Duration, what: &str, future: F) -> F::Output {
    match tokio::time::timeout(limit, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} took longer than {limit:?}"),
    }
}
