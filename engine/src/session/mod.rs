//! The session model: what a session document holds, what people and workers may do to it, and what every replica
//! derives from it.
//!
//! In order of reading: [`model`] (the document as plain data), [`read`] (document → model, by way of a plain `tree`),
//! [`command`] (what a person does), [`duplicate`] (a copy up to a message) and [`write`] (what a worker appends),
//! [`conversation`] (what everyone sees; made by `shown` from `trust`, who wrote it, `outline`, which runs stand, and
//! `text`, what they say), [`work`] (what a worker should do next), [`summary`] (what lists read, with the session's
//! `strand`), [`derived`] (all of these kept in line with a document, by `live`), [`tail`] (live text stitched onto
//! committed text), [`snapshot`] (the end of a conversation, kept for painting at once), [`spent`] (what stays of a session
//! that is purged), [`blobs`] (which files it names),
//! [`export`] and [`import`] (a session as JSON and back).
//!
//! Invariant: everything derived is a pure function of document, leases, writers and now; rule numbers in comments are
//! those of `docs/session-rules.md`.

pub mod approval;
pub mod blobs;
pub mod command;
pub mod conversation;
pub mod derived;
pub mod duplicate;
pub mod export;
pub(crate) mod fields;
mod hash;
pub mod import;
pub mod list;
mod live;
pub mod model;
mod outline;
pub mod read;
pub mod resume;
#[cfg(feature = "testing")]
pub mod rules;
#[cfg(not(feature = "testing"))]
#[allow(dead_code)]
pub(crate) mod rules;
mod shown;
pub mod snapshot;
pub mod spent;
mod strand;
pub mod summary;
pub mod tail;
mod text;
pub(crate) mod tree;
mod trust;
pub mod work;
pub mod write;

pub use command::Command;
pub use conversation::{Conversation, Leases, Writers, conversation};
pub use derived::Derived;
pub use model::Session;
pub use summary::Summary;
