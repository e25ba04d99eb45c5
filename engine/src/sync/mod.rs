//! The relay's half of the automerge sync protocol, over hashes and deps.
//!
//! In order of reading: [`message`] is what is said, [`bloom`] the filter inside it; `follower` is what one connection
//! knows of one document, `document` one document with its followers, [`hub`] all connections and documents, and
//! `effects` what goes in and out of it beside frames.

pub mod bloom;
mod document;
mod effects;
mod follower;
pub mod hub;
pub mod message;

pub use hub::{ConnectionId, ConnectionInfo, Effects, Hub};
