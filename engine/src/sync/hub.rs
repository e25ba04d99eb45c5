//! All connections and documents of a relay: frames and time in, frames, records to store and wakes out.
//!
//! A change is named in heads and forwarded only after [`Hub::stored`]: a receiver's heads are its acknowledgement.
//! One change to V followers is encoded once. Memory per connection is bounded.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use super::document::{Address, Document};
pub use super::effects::{ConnectionId, ConnectionInfo, Effects, Key};
use super::follower::Follower;
use super::message::Message;
use crate::graph::change::{self, ParsedChange};
use crate::graph::{Added, ChangeGraph, Outcome};
use crate::ids::{ActorId, ChangeHash, DocumentId, Epoch, PeerId, Principal, Timestamp};
use crate::session::conversation::Writer;
use crate::storage::Record;
use crate::wire::cbor;
use crate::wire::ephemeral::Ephemeral;
use crate::wire::frame::{EVERYONE, Frame, PROTOCOL_VERSION, SyncFrame};

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
/// Who brought a change that came by [`Hub::insert`].
const NO_CONNECTION: u64 = u64::MAX;

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

/// A sync message, and whether it came as a `request`.
#[derive(Debug)]
struct Said {
    message: Message,
    request: bool,
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
        }
    }

    /// A connection has passed the token check. It must `join` before anything else.
    pub fn connect(&mut self, _now: Timestamp, connection: ConnectionId, info: ConnectionInfo) -> Effects {
        self.connections.insert(
            connection,
            Connection { info, peer: None, follows: HashSet::new(), unknown: HashSet::new(), behind: HashSet::new() },
        );
        Effects::default()
    }

    /// One binary message of it has come.
    pub fn receive(&mut self, now: Timestamp, connection: ConnectionId, frame: &[u8]) -> Effects {
        let mut effects = Effects::default();
        let Some(known) = self.connections.get(&connection) else { return effects };
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
            (Ok(Frame::Leave { .. }), Some(_)) => self.close(connection, "it has left", &mut effects),
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

    /// A `request` or `sync` of a connection that has joined as `peer`.
    fn said(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        peer: &PeerId,
        frame: SyncFrame,
        request: bool,
        effects: &mut Effects,
    ) {
        if frame.sender != *peer {
            return self.close(connection, FOREIGN_SENDER, effects);
        }
        let message = match Message::decode(&frame.data) {
            Ok(message) => message,
            Err(error) => return self.close(connection, &error.to_string(), effects),
        };
        let Some(known) = self.connections.get_mut(&connection) else { return };
        let key = known.info.key(frame.document);
        if known.follows.len() >= MAX_FOLLOWED && !known.follows.contains(&key) {
            return self.unavailable(connection, &key, effects);
        }
        known.follows.insert(key.clone());
        let state = self.documents.entry(key.clone()).or_insert_with(|| {
            effects.load.push(key.clone());
            State::Loading { queue: Vec::new(), bytes: 0 }
        });
        let said = Said { message, request };
        match state {
            State::Loading { queue, bytes } => {
                *bytes += frame.data.len() + size_of::<Said>();
                if *bytes > MAX_QUEUED {
                    return self.close(connection, "too much is waiting for a document to be read", effects);
                }
                queue.push((connection, said));
            }
            State::Loaded(_) => self.hear(now, connection, &key, said, effects),
        }
    }

    /// A message on a document that is loaded.
    fn hear(&mut self, now: Timestamp, connection: ConnectionId, key: &Key, said: Said, effects: &mut Effects) {
        let Said { mut message, request } = said;
        let Some(known) = self.connections.get(&connection) else { return };
        let read_only = known.info.read_only && key.0 == known.info.scope;
        let writer = known.info.writer.clone();
        let changes = std::mem::take(&mut message.changes);
        let Some(State::Loaded(document)) = self.documents.get_mut(key) else { return };
        document.active = now;
        let follower = document.followers.entry(connection).or_insert_with(|| Follower::new(read_only));
        if request {
            follower.restart(now);
        }
        if let Err(why) = self.take(connection, key, &writer, read_only, &changes, effects) {
            return self.close(connection, &why, effects);
        }
        let Some(State::Loaded(document)) = self.documents.get_mut(key) else { return };
        if document.is_unknown() && message.heads.is_empty() {
            return self.hold(now, connection, key, request, effects);
        }
        let congested = self.congested.contains(&connection);
        let address = Address { sender: self.peer.clone(), document: key.1 };
        document.hear(now, connection, message, &address, congested, &mut effects.send);
        if document.fresh_at().is_some() {
            self.differing.insert(key.clone());
        }
        if congested && let Some(known) = self.connections.get_mut(&connection) {
            known.behind.insert(key.clone());
        }
    }

    /// Takes the changes of a message into the graph. An error ends the connection.
    fn take(
        &mut self,
        connection: ConnectionId,
        key: &Key,
        writer: &Writer,
        read_only: bool,
        changes: &[Bytes],
        effects: &mut Effects,
    ) -> Result<(), String> {
        for bytes in changes {
            for chunk in change::split(bytes).map_err(|error| error.to_string())? {
                if !change::is_change(&chunk) {
                    let message = "it came inside a document chunk, which the relay can't take apart";
                    self.refuse(connection, key, None, "document-chunk", message, effects);
                    continue;
                }
                // A copy: a slice would keep the whole message in memory as long as the change.
                let chunk = Bytes::copy_from_slice(&chunk);
                let change = ParsedChange::parse(chunk).map_err(|error| error.to_string())?;
                if read_only {
                    let message = "this token may only read";
                    self.refuse(connection, key, Some(change.hash), "read-only", message, effects);
                    continue;
                }
                let Some(State::Loaded(document)) = self.documents.get_mut(key) else { return Ok(()) };
                let outcomes = document.graph.add(change, connection.0);
                self.settle(key, writer, outcomes, effects);
            }
        }
        Ok(())
    }

    /// Has new changes stored, and their senders told of refused ones.
    fn settle(&mut self, key: &Key, writer: &Writer, outcomes: Vec<Outcome>, effects: &mut Effects) {
        for Outcome { hash, source, added } in outcomes {
            match added {
                Added::New(at) => {
                    // A change that waited for this one may be another's.
                    let writer = match self.connections.get(&ConnectionId(source)) {
                        Some(known) => &known.info.writer,
                        None => writer,
                    }
                    .clone();
                    self.store(key, at, &writer, effects);
                }
                Added::Refused(refusal) => {
                    let source = ConnectionId(source);
                    self.refuse(source, key, Some(hash), refusal.code, &refusal.message, effects);
                }
                Added::Known | Added::Waits => {}
            }
        }
    }

    fn store(&mut self, key: &Key, at: usize, writer: &Writer, effects: &mut Effects) {
        let Some(State::Loaded(document)) = self.documents.get_mut(key) else { return };
        let graph = &document.graph;
        let (actor, seq) = graph.author(at);
        let hash = graph.hash(at);
        if document.writers.insert(actor.clone()) {
            effects.writers.push((key.clone(), actor.clone(), writer.clone()));
        }
        let record = Record {
            scope: key.0.clone(),
            document: key.1,
            hash,
            deps: graph.deps(at).map(|dep| graph.hash(dep)).collect(),
            actor: actor.clone(),
            seq,
            received_from: writer.principal.clone(),
            bytes: graph.chunk(at).clone(),
        };
        self.tickets.insert(self.next_ticket, (key.clone(), hash));
        effects.store.push((self.next_ticket, record));
        self.next_ticket += 1;
    }

    /// Tells a connection, once, that a change of it was refused.
    fn refuse(
        &mut self,
        connection: ConnectionId,
        key: &Key,
        hash: Option<ChangeHash>,
        code: &str,
        message: &str,
        effects: &mut Effects,
    ) {
        let Some(State::Loaded(document)) = self.documents.get_mut(key) else { return };
        let Some(follower) = document.followers.get_mut(&connection) else { return };
        if !follower.tell_refused(&hash.unwrap_or(automerge::ChangeHash([0; 32])))
            || self.congested.contains(&connection)
        {
            return;
        }
        let error = self.error(connection, message, Some((key.1, hash, code)));
        effects.send.push((connection, error));
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

    /// Somebody wants a document that nobody has: held for a moment, then unavailable; and when it comes later, sent.
    fn hold(&mut self, now: Timestamp, connection: ConnectionId, key: &Key, request: bool, effects: &mut Effects) {
        let (Some(known), Some(State::Loaded(document))) =
            (self.connections.get_mut(&connection), self.documents.get_mut(key))
        else {
            return;
        };
        if known.unknown.len() >= MAX_UNKNOWN && !known.unknown.contains(key) {
            known.follows.remove(key);
            document.followers.remove(&connection);
            if document.followers.is_empty() {
                self.documents.remove(key);
            }
            return self.unavailable(connection, key, effects);
        }
        let first = known.unknown.insert(key.clone());
        let Some(follower) = document.followers.get_mut(&connection) else { return };
        if (first || request) && follower.held_until.is_none() {
            let until = now.plus_ms(HOLD_MS);
            follower.held_until = Some(until);
            self.held.insert((until, connection, key.clone()));
        }
    }

    fn unavailable(&self, connection: ConnectionId, key: &Key, effects: &mut Effects) {
        let Some(peer) = self.connections.get(&connection).and_then(|known| known.peer.clone()) else { return };
        let frame = Frame::DocUnavailable { sender: self.peer.clone(), target: peer, document: key.1 };
        effects.send.push((connection, frame.encode().into()));
    }

    /// Whether a connection may say this on a document.
    fn may_say(&self, info: &ConnectionInfo, document: DocumentId, data: &[u8]) -> bool {
        let key = info.key(document);
        let payload = cbor::decode::<Ephemeral>(data);
        if info.read_only && key.0 == info.scope {
            return matches!(payload, Ok(Ephemeral::TailRequest | Ephemeral::Presence));
        }
        match payload {
            Ok(Ephemeral::Tail(tail)) => {
                self.live.get(&key).is_some_and(|(epoch, who)| *epoch == tail.epoch && *who == info.writer.principal)
            }
            _ => true,
        }
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

    /// A document's records, as [`Effects::load`] asked; empty: there is none. `writers`: its actors so far.
    pub fn loaded(
        &mut self,
        now: Timestamp,
        key: Key,
        records: Vec<Record>,
        writers: Vec<(ActorId, Writer)>,
    ) -> Effects {
        let mut effects = Effects::default();
        let Some(State::Loading { queue, .. }) = self.documents.get_mut(&key) else { return effects };
        let queue = std::mem::take(queue);
        let mut graph = ChangeGraph::default();
        let mut rest: Vec<Bytes> = records.into_iter().map(|record| record.bytes).collect();
        // Each record follows its deps, but for those whose deps a failing disk took: as long as one is placed, go on.
        loop {
            let before = rest.len();
            rest.retain(|bytes| graph.load(bytes.clone()).is_err());
            if rest.is_empty() || rest.len() == before {
                break;
            }
        }
        let document = Document::loaded(graph, writers.into_iter().map(|(actor, _)| actor), now);
        self.documents.insert(key.clone(), State::Loaded(Box::new(document)));
        for (connection, said) in queue {
            self.hear(now, connection, &key, said, &mut effects);
        }
        self.with_wake(effects)
    }

    /// These records are durable.
    pub fn stored(&mut self, now: Timestamp, tickets: &[u64]) -> Effects {
        let mut effects = Effects::default();
        let mut touched = Vec::new();
        for ticket in tickets {
            let Some((key, hash)) = self.tickets.remove(ticket) else { continue };
            let Some(State::Loaded(document)) = self.documents.get_mut(&key) else { continue };
            if let Some(at) = document.graph.position(&hash) {
                document.stored(at);
            }
            if touched.last() != Some(&key) {
                touched.push(key);
            }
        }
        for key in touched {
            self.flush(now, &key, &mut effects);
        }
        self.with_wake(effects)
    }

    fn flush(&mut self, now: Timestamp, key: &Key, effects: &mut Effects) {
        let Some(State::Loaded(document)) = self.documents.get_mut(key) else { return };
        let was_unknown = document.is_unknown();
        let address = Address { sender: self.peer.clone(), document: key.1 };
        if !document.flush(now, &address, &self.congested, &mut effects.send) {
            return;
        }
        document.active = now;
        for connection in document.followers.keys() {
            let Some(known) = self.connections.get_mut(connection) else { continue };
            if self.congested.contains(connection) {
                known.behind.insert(key.clone());
            }
            if was_unknown {
                known.unknown.remove(key);
            }
        }
        if document.fresh_at().is_some() {
            self.differing.insert(key.clone());
        }
        effects.changed.push(key.clone());
    }

    /// These are not (the disk is full, …): forget them; their senders are told, and will send them again.
    ///
    /// A stock peer sends a change once a connection, so the connections that brought them end.
    pub fn not_stored(&mut self, _now: Timestamp, tickets: &[u64], why: &str) -> Effects {
        let mut effects = Effects::default();
        let mut senders = BTreeSet::new();
        for ticket in tickets {
            let Some((key, hash)) = self.tickets.remove(ticket) else { continue };
            let Some(State::Loaded(document)) = self.documents.get_mut(&key) else { continue };
            let Some(at) = document.graph.position(&hash) else { continue };
            for (hash, source) in document.not_stored(at) {
                let sender = ConnectionId(source);
                if self.connections.contains_key(&sender) {
                    effects.send.push((sender, self.error(sender, why, Some((key.1, Some(hash), "not-stored")))));
                    senders.insert(sender);
                }
            }
        }
        for sender in senders {
            effects.close.push((sender, why.to_owned()));
            self.forget(sender);
        }
        self.with_wake(effects)
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

    /// A change from elsewhere than a connection: `begin`, or the relay's own. The ticket of its record, or why not;
    /// `None`: it was durable before. The document must be loaded: [`Hub::heads`] is `Some`.
    pub fn insert(
        &mut self,
        now: Timestamp,
        key: &Key,
        writer: &Writer,
        change: Bytes,
    ) -> (Result<Option<u64>, String>, Effects) {
        let mut effects = Effects::default();
        let result = self.insert_inner(now, key, writer, change, &mut effects);
        (result, self.with_wake(effects))
    }

    fn insert_inner(
        &mut self,
        now: Timestamp,
        key: &Key,
        writer: &Writer,
        change: Bytes,
        effects: &mut Effects,
    ) -> Result<Option<u64>, String> {
        let Some(State::Loaded(document)) = self.documents.get_mut(key) else {
            return Err("the document is not loaded".to_owned());
        };
        let change = ParsedChange::parse(change).map_err(|error| error.to_string())?;
        // It must not wait for its deps: what is refused here must not be stored later.
        if change.deps.iter().any(|dep| document.graph.position(dep).is_none()) {
            return Err("it depends on changes that the relay doesn't have".to_owned());
        }
        let hash = change.hash;
        document.active = now;
        let outcomes = document.graph.add(change, NO_CONNECTION);
        let refused = outcomes.first().and_then(|outcome| match &outcome.added {
            Added::Refused(refusal) => Some(refusal.to_string()),
            _ => None,
        });
        self.settle(key, writer, outcomes, effects);
        if let Some(why) = refused {
            return Err(why);
        }
        Ok(self.tickets.iter().find(|(_, (of, stored))| of == key && *stored == hash).map(|(ticket, _)| *ticket))
    }

    /// Has a document loaded though nobody follows it, for [`Hub::insert`]: it is as soon as [`Hub::heads`] is `Some`.
    pub fn open(&mut self, key: &Key) -> Effects {
        let mut effects = Effects::default();
        self.documents.entry(key.clone()).or_insert_with(|| {
            effects.load.push(key.clone());
            State::Loading { queue: Vec::new(), bytes: 0 }
        });
        self.with_wake(effects)
    }

    /// The durable heads of a document that is loaded.
    pub fn heads(&self, key: &Key) -> Option<Vec<ChangeHash>> {
        match self.documents.get(key)? {
            State::Loaded(document) => Some(document.heads().to_vec()),
            State::Loading { .. } => None,
        }
    }

    /// Lets no `tail` through but from this connection's sender, for this claim; `None`: the lease has ended.
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

const FOREIGN_SENDER: &str = "the sender id is not this connection's";
