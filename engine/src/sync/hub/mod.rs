//! All connections and documents of a relay: frames and time in, frames, records to store and wakes out.
//!
//! A change is named in heads and forwarded only after [`Hub::stored`]: a receiver's heads are its acknowledgement.
//! One change to V followers is encoded once. Memory per connection is bounded.
//!
//! Here are connections and time; `said` has what they say on documents, `disk` what goes to the store and comes back.

mod disk;
mod said;

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use super::document::{Address, Document};
pub use super::effects::{ConnectionId, ConnectionInfo, Effects, Key};
use crate::ids::{ChangeHash, DocumentId, Epoch, PeerId, Principal, Timestamp};
use crate::wire::cbor;
use crate::wire::ephemeral::{Ephemeral, Tail};
use crate::wire::frame::{EVERYONE, Frame, PROTOCOL_VERSION};
use said::Said;

/// A request for an unknown document is held so long, since its creator may be just bringing it.
const HOLD_MS: u64 = 300;
/// How often peers whose heads differ are looked at.
const TICK_MS: u64 = 2_000;
/// Documents that a connection may follow.
const MAX_FOLLOWED: usize = 20_000;
/// Documents that a connection may wait for though nobody has them; more are answered at once and forgotten.
const MAX_UNKNOWN: usize = 256;
/// Messages that wait for a document to be read from the store, in bytes.
const MAX_QUEUED: usize = 64 << 20;
/// The largest ephemeral message.
const MAX_EPHEMERAL: usize = 256 << 10;
/// A document that nobody follows is kept this long.
const QUIET_MS: u64 = 60_000;

const PURGED: &str = "it was purged: nothing can be added to it";
const FOREIGN_SENDER: &str = "the sender id is not this connection's";

/// See the module.
#[derive(Debug)]
pub struct Hub {
    peer: PeerId,
    connections: HashMap<ConnectionId, Connection>,
    congested: HashSet<ConnectionId>,
    documents: HashMap<Key, State>,
    /// Changes on their way to the store.
    tickets: HashMap<u64, (Key, ChangeHash)>,
    next_ticket: u64,
    /// Requests for unknown documents, by when they are answered.
    held: BTreeSet<(Timestamp, ConnectionId, Key)>,
    /// Documents with a follower whose heads differ.
    differing: HashSet<Key>,
    next_look: Option<Timestamp>,
    live: HashMap<Key, (Epoch, Principal)>,
    /// Documents that are gone for good.
    purged: HashSet<Key>,
}

#[derive(Debug)]
struct Connection {
    info: ConnectionInfo,
    /// As it calls itself, once it has joined.
    peer: Option<PeerId>,
    follows: HashSet<Key>,
    /// Those of them that nobody has yet.
    unknown: HashSet<Key>,
    /// Documents on which it missed something while its socket was full.
    behind: HashSet<Key>,
}

#[derive(Debug)]
enum State {
    /// Being read from the store; what was said on it waits.
    Loading {
        queue: Vec<(ConnectionId, Said)>,
        bytes: usize,
    },
    Loaded(Box<Document>),
}

impl Hub {
    /// A hub that calls itself `peer`.
    pub fn new(peer: PeerId) -> Self {
        Self {
            peer,
            connections: HashMap::new(),
            congested: HashSet::new(),
            documents: HashMap::new(),
            tickets: HashMap::new(),
            next_ticket: 1,
            held: BTreeSet::new(),
            differing: HashSet::new(),
            next_look: None,
            live: HashMap::new(),
            purged: HashSet::new(),
        }
    }

    /// A connection has passed the token check. It must `join` before anything else.
    pub fn connect(&mut self, _now: Timestamp, connection: ConnectionId, info: ConnectionInfo) -> Effects {
        self.connections.insert(
            connection,
            Connection { info, peer: None, follows: HashSet::new(), unknown: HashSet::new(), behind: HashSet::new() },
        );
        self.with_wake(Effects::default())
    }

    /// One binary message of it has come.
    pub fn receive(&mut self, now: Timestamp, connection: ConnectionId, frame: &[u8]) -> Effects {
        let mut effects = Effects::default();
        let Some(known) = self.connections.get(&connection) else { return self.with_wake(effects) };
        let (info, peer) = (&known.info, known.peer.clone());
        match (Frame::decode(frame), peer) {
            (Err(error), _) => self.close(connection, &error.to_string(), &mut effects),
            (Ok(Frame::Join { sender, versions }), peer) => {
                if peer.is_some_and(|peer| peer != sender) {
                    self.close(connection, "this connection has joined under another id", &mut effects);
                } else if versions.iter().any(|version| version == PROTOCOL_VERSION) {
                    self.join(connection, sender, &mut effects);
                } else {
                    self.close(connection, "unsupported protocol version", &mut effects);
                }
            }
            (Ok(_), None) => self.close(connection, "the first message must be a join", &mut effects),
            (Ok(Frame::Request(frame)), Some(peer)) => self.said(now, connection, &peer, frame, true, &mut effects),
            (Ok(Frame::Sync(frame)), Some(peer)) => self.said(now, connection, &peer, frame, false, &mut effects),
            (Ok(Frame::Ephemeral { sender, document, session, count, data, .. }), Some(peer)) => {
                // A stock client sends back what others said: that is not its own.
                if sender == peer && data.len() <= MAX_EPHEMERAL && self.may_say(info, document, &data) {
                    let key = info.key(document);
                    let frame =
                        Frame::Ephemeral { sender, target: EVERYONE.into(), document, session, count, data }.encode();
                    self.pass_on(connection, &key, frame.into(), &mut effects);
                }
            }
            (Ok(Frame::DocUnavailable { sender, .. }), Some(peer)) if sender != peer => {
                self.close(connection, FOREIGN_SENDER, &mut effects);
            }
            (Ok(Frame::Leave { .. }), Some(_)) => {
                self.forget(connection);
                effects.close.push((connection, "it has left".to_owned()));
            }
            (Ok(Frame::Peer { .. } | Frame::DocUnavailable { .. } | Frame::Error { .. } | Frame::Other { .. }), _) => {}
        }
        self.with_wake(effects)
    }

    fn join(&mut self, connection: ConnectionId, sender: PeerId, effects: &mut Effects) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        known.peer = Some(sender.clone());
        let (scope, principal) = (known.info.scope.clone(), known.info.writer.principal.clone());
        // A client that comes back before the relay has seen it go replaces its old self.
        let replaced = self.connections.iter().find(|(id, other)| {
            **id != connection
                && other.peer.as_ref() == Some(&sender)
                && other.info.scope == scope
                && other.info.writer.principal == principal
        });
        if let Some(old) = replaced.map(|(id, _)| *id) {
            self.forget(old);
            effects.close.push((old, "its peer has connected anew".to_owned()));
        }
        let answer = Frame::Peer { sender: self.peer.clone(), target: sender, version: PROTOCOL_VERSION.to_owned() };
        effects.send.push((connection, answer.encode().into()));
    }

    fn error(
        &self,
        connection: ConnectionId,
        message: &str,
        refused: Option<(DocumentId, Option<ChangeHash>, &str)>,
    ) -> Bytes {
        let peer = self.connections.get(&connection).and_then(|known| known.peer.clone());
        Frame::Error {
            sender: self.peer.clone(),
            target: peer.unwrap_or_else(|| EVERYONE.into()),
            message: message.to_owned(),
            document: refused.map(|(document, _, _)| document),
            hash: refused.and_then(|(_, hash, _)| hash).map(|hash| hash.to_string()),
            code: refused.map(|(_, _, code)| code.to_owned()),
        }
        .encode()
        .into()
    }

    /// Whether a connection may say this on a document.
    fn may_say(&self, info: &ConnectionInfo, document: DocumentId, data: &[u8]) -> bool {
        let key = info.key(document);
        let payload = cbor::decode::<Ephemeral>(data);
        if info.read_only && key.0 == info.scope {
            return matches!(payload, Ok(Ephemeral::TailRequest | Ephemeral::Presence));
        }
        // What a worker says of its run counts only under the lease that lives.
        let of = match payload {
            Ok(
                Ephemeral::Tail(Tail { epoch, .. })
                | Ephemeral::Activity { epoch, .. }
                | Ephemeral::Usage { epoch, .. },
            ) => epoch,
            _ => return true,
        };
        self.live.get(&key).is_some_and(|(epoch, who)| *epoch == of && *who == info.writer.principal)
    }

    fn pass_on(&self, from: ConnectionId, key: &Key, frame: Bytes, effects: &mut Effects) {
        let Some(State::Loaded(document)) = self.documents.get(key) else { return };
        for connection in document.followers.keys() {
            if *connection != from && !self.congested.contains(connection) {
                effects.send.push((*connection, frame.clone()));
            }
        }
    }

    /// Its socket can take more: everything sent so far has left.
    pub fn drained(&mut self, _now: Timestamp, connection: ConnectionId) -> Effects {
        let mut effects = Effects::default();
        self.congested.remove(&connection);
        let behind = self.connections.get_mut(&connection).map(|known| std::mem::take(&mut known.behind));
        for key in behind.into_iter().flatten() {
            if let Some(State::Loaded(document)) = self.documents.get_mut(&key) {
                let address = Address { sender: self.peer.clone(), document: key.1 };
                document.drained(connection, &address, &mut effects.send);
            }
        }
        self.with_wake(effects)
    }

    /// Its socket is full: mark it behind instead of queueing; one catch-up message follows [`Hub::drained`].
    pub fn congested(&mut self, connection: ConnectionId) {
        if self.connections.contains_key(&connection) {
            self.congested.insert(connection);
        }
    }

    /// It is gone.
    pub fn disconnect(&mut self, _now: Timestamp, connection: ConnectionId) -> Effects {
        self.forget(connection);
        self.with_wake(Effects::default())
    }

    /// Ends a connection that broke the protocol, with a word to it.
    fn close(&mut self, connection: ConnectionId, why: &str, effects: &mut Effects) {
        let error = self.error(connection, why, None);
        effects.send.push((connection, error));
        effects.close.push((connection, why.to_owned()));
        self.forget(connection);
    }

    fn forget(&mut self, connection: ConnectionId) {
        self.congested.remove(&connection);
        let Some(known) = self.connections.remove(&connection) else { return };
        for key in known.follows {
            match self.documents.get_mut(&key) {
                Some(State::Loading { queue, .. }) => queue.retain(|(of, _)| *of != connection),
                Some(State::Loaded(document)) => {
                    let follower = document.followers.remove(&connection);
                    if let Some(until) = follower.and_then(|follower| follower.held_until) {
                        self.held.remove(&(until, connection, key.clone()));
                    }
                    if document.followers.is_empty() && document.graph.is_empty() {
                        self.documents.remove(&key);
                    }
                }
                None => {}
            }
        }
    }

    /// The time of [`Effects::wake`] has come.
    pub fn wake(&mut self, now: Timestamp) -> Effects {
        let mut effects = Effects::default();
        while let Some(entry) = self.held.first().cloned()
            && entry.0 <= now
        {
            self.held.remove(&entry);
            let (_, connection, key) = entry;
            let Some(State::Loaded(document)) = self.documents.get_mut(&key) else { continue };
            let known = document.is_unknown() && document.graph.is_empty();
            let Some(follower) = document.followers.get_mut(&connection) else { continue };
            if !document.graph.is_empty() && follower.held_until.is_some() || self.congested.contains(&connection) {
                // It is on its way to the disk, or the answer has to wait.
                let until = now.plus_ms(HOLD_MS);
                follower.held_until = Some(until);
                self.held.insert((until, connection, key));
            } else if known && follower.held_until.take().is_some() {
                self.unavailable(connection, &key, &mut effects);
            }
        }
        if self.next_look.is_some_and(|at| at <= now) {
            self.next_look = None;
            for key in std::mem::take(&mut self.differing) {
                let Some(State::Loaded(document)) = self.documents.get_mut(&key) else { continue };
                let address = Address { sender: self.peer.clone(), document: key.1 };
                document.refresh(now, &address, &self.congested, &mut effects.send);
                if document.fresh_at().is_some() {
                    self.differing.insert(key);
                }
            }
        }
        if self.next_look.is_none() && !self.differing.is_empty() {
            self.next_look = Some(now.plus_ms(TICK_MS));
        }
        self.with_wake(effects)
    }

    fn with_wake(&mut self, mut effects: Effects) -> Effects {
        let held = self.held.first().map(|(until, _, _)| *until);
        // A first look is soon: it only finds out when the next is due.
        let look = self.next_look.or_else(|| (!self.differing.is_empty()).then_some(Timestamp(0)));
        effects.wake = [held, look].into_iter().flatten().min();
        effects
    }

    /// The durable heads of a document that is loaded.
    pub fn heads(&self, key: &Key) -> Option<Vec<ChangeHash>> {
        match self.documents.get(key)? {
            State::Loaded(document) => Some(document.heads().to_vec()),
            State::Loading { .. } => None,
        }
    }

    /// Lets no live text, activity or usage through but from this connection's sender, for this claim; `None`: the lease has ended.
    pub fn set_live(&mut self, key: &Key, live: Option<(Epoch, Principal)>) {
        match live {
            Some(live) => self.live.insert(key.clone(), live),
            None => self.live.remove(key),
        };
    }

    /// Drops documents that nobody follows and that have been quiet; they load again when asked for.
    pub fn collect(&mut self, now: Timestamp) -> usize {
        let before = self.documents.len();
        self.documents.retain(|_, state| match state {
            State::Loading { .. } => true,
            State::Loaded(document) => {
                document.forget_answer();
                !document.followers.is_empty() || !document.is_settled() || now.ms_since(document.active) < QUIET_MS
            }
        });
        before - self.documents.len()
    }
}
