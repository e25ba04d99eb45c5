//! All connections and documents of a relay: frames and time in, frames, records to store and wakes out.
//!
//! A change is named in heads and forwarded only after [`Hub::stored`]: a receiver's heads are its acknowledgement.
//! One change to V followers is encoded once. Memory per connection is bounded.

use std::ops::AddAssign;

use bytes::Bytes;

use crate::ids::{ActorId, ChangeHash, DocumentId, Epoch, PeerId, Principal, Scope, Timestamp};
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
    /// Documents to read from the store, answered by [`Hub::loaded`].
    pub load: Vec<Key>,
    /// A group to make durable, answered by [`Hub::stored`] with its number, or [`Hub::not_stored`].
    pub store: Vec<(u64, Record)>,
    /// Actors seen for the first time, to be recorded with the group.
    pub writers: Vec<(Key, ActorId, Writer)>,
    /// Documents whose durable heads have changed: for the projector and the catalog.
    pub changed: Vec<Key>,
    /// When to call [`Hub::wake`] at the latest.
    pub wake: Option<Timestamp>,
}

impl AddAssign for Effects {
    fn add_assign(&mut self, other: Self) {
        self.send.extend(other.send);
        self.close.extend(other.close);
        self.load.extend(other.load);
        self.store.extend(other.store);
        self.writers.extend(other.writers);
        self.changed.extend(other.changed);
        self.wake = [self.wake, other.wake].into_iter().flatten().min();
    }
}

/// See the module.
#[derive(Debug)]
pub struct Hub {
    _peer: PeerId,
}

impl Hub {
    /// A hub that calls itself `peer`.
    pub fn new(peer: PeerId) -> Self {
        Self { _peer: peer }
    }

    /// A connection has passed the token check. It must `join` before anything else.
    pub fn connect(&mut self, _now: Timestamp, _connection: ConnectionId, _info: ConnectionInfo) -> Effects {
        unimplemented!()
    }

    /// One binary message of it has come.
    pub fn receive(&mut self, _now: Timestamp, _connection: ConnectionId, _frame: &[u8]) -> Effects {
        unimplemented!()
    }

    /// Its socket can take more: everything sent so far has left.
    pub fn drained(&mut self, _now: Timestamp, _connection: ConnectionId) -> Effects {
        unimplemented!()
    }

    /// Its socket is full: mark it behind instead of queueing; one catch-up message follows [`Hub::drained`].
    pub fn congested(&mut self, _connection: ConnectionId) {
        unimplemented!()
    }

    /// It is gone.
    pub fn disconnect(&mut self, _now: Timestamp, _connection: ConnectionId) -> Effects {
        unimplemented!()
    }

    /// A document's records, as [`Effects::load`] asked; empty: there is none. `writers`: its actors so far.
    pub fn loaded(
        &mut self,
        _now: Timestamp,
        _key: Key,
        _records: Vec<Record>,
        _writers: Vec<(ActorId, Writer)>,
    ) -> Effects {
        unimplemented!()
    }

    /// These records are durable.
    pub fn stored(&mut self, _now: Timestamp, _tickets: &[u64]) -> Effects {
        unimplemented!()
    }

    /// These are not (the disk is full, …): forget them; their senders are told, and will send them again.
    pub fn not_stored(&mut self, _now: Timestamp, _tickets: &[u64], _why: &str) -> Effects {
        unimplemented!()
    }

    /// The time of [`Effects::wake`] has come.
    pub fn wake(&mut self, _now: Timestamp) -> Effects {
        unimplemented!()
    }

    /// A change from elsewhere than a connection: `begin`, or the relay's own. The ticket of its record, or why not.
    /// The document must be loaded: [`Hub::heads`] is `Some`.
    pub fn insert(
        &mut self,
        _now: Timestamp,
        _key: &Key,
        _writer: &Writer,
        _change: Bytes,
    ) -> (Result<Option<u64>, String>, Effects) {
        unimplemented!()
    }

    /// The durable heads of a document that is loaded.
    pub fn heads(&self, _key: &Key) -> Option<Vec<ChangeHash>> {
        unimplemented!()
    }

    /// Lets no `tail` through but from this connection's sender, for this claim; `None`: the lease has ended.
    pub fn set_live(&mut self, _key: &Key, _live: Option<(Epoch, Principal)>) {
        unimplemented!()
    }

    /// Drops documents that nobody follows and that have been quiet; they load again when asked for.
    pub fn collect(&mut self, _now: Timestamp) -> usize {
        unimplemented!()
    }
}
