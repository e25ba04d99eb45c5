//! The session model: what a session document holds, what people and workers may do to it, and what every replica
//! derives from it.
//!
//! In order of reading: [`model`] (the document as plain data), [`read`] (document → model), [`command`] (what a person
//! does) and [`write`] (what a worker appends), [`conversation`] (the rules that make one conversation out of messages,
//! runs and requests), [`work`] (what a worker should do next), [`summary`] (what lists read), [`tail`] (live text
//! stitched onto committed text).
//!
//! Invariant: everything derived is a pure function of document, leases, writers and now; rule numbers in comments are
//! those of `docs/session-rules.md`.

pub mod command;
pub mod conversation;
pub mod model;
pub mod read;
pub mod summary;
pub mod tail;
pub mod work;
pub mod write;

pub use command::Command;
pub use conversation::{Conversation, Leases, Writers, conversation};
pub use model::Session;
pub use summary::Summary;
