//! What a connection says on a document: its changes are checked and go to the store, what it asks is answered by the
//! document, and a document that nobody has is waited for.

use bytes::Bytes;

use super::{
    ConnectionId, Effects, FOREIGN_SENDER, HOLD_MS, Hub, Key, MAX_FOLLOWED, MAX_QUEUED, MAX_UNKNOWN, PURGED, State,
};
use crate::graph::change::{self, MAX_CHANGE_BYTES, ParsedChange};
use crate::graph::{Added, Outcome};
use crate::ids::{ChangeHash, PeerId, Timestamp};
use crate::session::conversation::Writer;
use crate::storage::Record;
use crate::sync::document::Address;
use crate::sync::follower::Follower;
use crate::sync::message::Message;
use crate::wire::frame::{Frame, SyncFrame};

/// By how much the changes of a message may inflate, beyond one of the largest: text does by ten.
const INFLATION: usize = 64;
/// Changes of one message that may break rules: finding out can take long.
const MAX_BROKEN: usize = 16;

/// A sync message, and whether it came as a `request`.
#[derive(Debug)]
pub(super) struct Said {
    message: Message,
    request: bool,
}

impl Hub {
    /// A `request` or `sync` of a connection that has joined as `peer`.
    pub(super) fn said(
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
        if self.purged.contains(&key) {
            if !message.changes.is_empty() {
                let error = self.error(connection, PURGED, Some((key.1, None, "purged")));
                effects.send.push((connection, error));
            }
            return self.unavailable(connection, &key, effects);
        }
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
    pub(super) fn hear(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        key: &Key,
        said: Said,
        effects: &mut Effects,
    ) {
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
    pub(super) fn take(
        &mut self,
        connection: ConnectionId,
        key: &Key,
        writer: &Writer,
        read_only: bool,
        changes: &[Bytes],
        effects: &mut Effects,
    ) -> Result<(), String> {
        let mut inflated = 0;
        let mut broken = 0;
        let most = MAX_CHANGE_BYTES + INFLATION * changes.iter().map(Bytes::len).sum::<usize>();
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
                inflated += change.size();
                if inflated > most {
                    return Err("its changes inflate to too much".to_owned());
                }
                if read_only {
                    let message = "this token may only read";
                    self.refuse(connection, key, Some(change.hash), "read-only", message, effects);
                    continue;
                }
                let Some(State::Loaded(document)) = self.documents.get_mut(key) else { return Ok(()) };
                if document.graph.position(&change.hash).is_none()
                    && !document.may_bring(&change.actor, &writer.principal)
                {
                    let message = "its actor is a worker's: nobody else goes on under it";
                    self.refuse(connection, key, Some(change.hash), "actor", message, effects);
                    continue;
                }
                let outcomes = document.graph.add(change, connection.0);
                broken += outcomes.iter().filter(|outcome| outcome.broke_a_rule()).count();
                self.settle(key, writer, outcomes, effects);
                if broken > MAX_BROKEN {
                    return Err("too many of its changes break rules".to_owned());
                }
            }
        }
        Ok(())
    }

    /// Has new changes stored, and their senders told of refused ones.
    pub(super) fn settle(&mut self, key: &Key, writer: &Writer, outcomes: Vec<Outcome>, effects: &mut Effects) {
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

    pub(super) fn store(&mut self, key: &Key, at: usize, writer: &Writer, effects: &mut Effects) {
        let Some(State::Loaded(document)) = self.documents.get_mut(key) else { return };
        let graph = &document.graph;
        let (actor, seq) = graph.author(at);
        let hash = graph.hash(at);
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
        let actor = record.actor.clone();
        if document.brought(&actor, seq, writer) {
            effects.writers.push((key.clone(), actor, writer.clone()));
        }
        self.tickets.insert(self.next_ticket, (key.clone(), hash));
        effects.store.push((self.next_ticket, record));
        self.next_ticket += 1;
    }

    /// Tells a connection, once, that a change of it was refused.
    pub(super) fn refuse(
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

    /// Somebody wants a document that nobody has: held for a moment, then unavailable; and when it comes later, sent.
    pub(super) fn hold(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        key: &Key,
        request: bool,
        effects: &mut Effects,
    ) {
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

    pub(super) fn unavailable(&self, connection: ConnectionId, key: &Key, effects: &mut Effects) {
        let Some(peer) = self.connections.get(&connection).and_then(|known| known.peer.clone()) else { return };
        let frame = Frame::DocUnavailable { sender: self.peer.clone(), target: peer, document: key.1 };
        effects.send.push((connection, frame.encode().into()));
    }
}
