//! The sync engine of Skein, sans-IO: bytes, time and durability come in as arguments; what to send, to store and
//! when to wake come out as values.
//!
//! Two types matter most. [`sync::Hub`] is the relay's core: a change graph for every document, fanned out to
//! followers without ever building the document. [`device::Device`] is everyone else's: browser, command line and
//! worker hold one, run [`session::Command`]s on it, and are told what changed.
//!
//! Invariant: nothing in this crate opens a socket or a file, reads a clock, spawns or sleeps, and bytes from
//! outside never panic.

pub mod blob;
pub mod device;
pub mod graph;
pub mod ids;
pub mod position;
pub mod price;
pub mod profile;
#[cfg(feature = "schema")]
pub mod schema;
pub mod session;
pub mod storage;
pub mod sync;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wire;
pub mod workspace;
