//! What goes in and out of the hub beside frames: who a connection is, and what the shell must do.

use std::ops::AddAssign;

use bytes::Bytes;

use crate::ids::{ActorId, DocumentId, Scope, Timestamp};
use crate::session::conversation::Writer;
use crate::storage::Record;

/// A connection, numbered by the shell; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What the shell knows of a connection from its token.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Where its documents belong: its workspace.
    pub scope: Scope,
    /// The member's own documents, which belong to the member's scope instead: the profile.
    pub private: Vec<(DocumentId, Scope)>,
    /// Who it is, as of now: bound to each actor whose first change it brings.
    pub writer: Writer,
    /// Members with the role viewer: the READ_ONLY flag from the first message on, except for `private`.
    pub read_only: bool,
}

/// A document of the relay.
pub type Key = (Scope, DocumentId);

/// What the shell must do.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages to send, in order. One [`Bytes`] may go to many.
    pub send: Vec<(ConnectionId, Bytes)>,
    /// Connections to close after what is sent, and why.
    pub close: Vec<(ConnectionId, String)>,
    /// Documents to read from the store, answered by [`Hub::loaded`](super::Hub::loaded).
    pub load: Vec<Key>,
    /// A group to make durable, answered by [`Hub::stored`](super::Hub::stored) with its number, or [`Hub::not_stored`](super::Hub::not_stored).
    pub store: Vec<(u64, Record)>,
    /// Actors seen for the first time, to be recorded with the group.
    pub writers: Vec<(Key, ActorId, Writer)>,
    /// When to call [`Hub::wake`](super::Hub::wake) at the latest: replaces what was said before; a time that has passed
    /// means at once.
    pub wake: Option<Timestamp>,
}

impl AddAssign for Effects {
    fn add_assign(&mut self, other: Self) {
        self.send.extend(other.send);
        self.close.extend(other.close);
        self.load.extend(other.load);
        self.store.extend(other.store);
        self.writers.extend(other.writers);
        self.wake = [self.wake, other.wake].into_iter().flatten().min();
    }
}

impl ConnectionInfo {
    /// The document that this connection means by an id.
    pub(super) fn key(&self, document: DocumentId) -> Key {
        let private = self.private.iter().find(|(id, _)| *id == document);
        (private.map_or(&self.scope, |(_, scope)| scope).clone(), document)
    }
}
