//! Between the hub and the store: documents that are read, changes that have become durable or could not, and changes
//! that come from the relay itself.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{ConnectionId, Effects, Hub, Key, PURGED, State};
use crate::graph::change::ParsedChange;
use crate::graph::{Added, ChangeGraph};
use crate::ids::{ActorId, Timestamp};
use crate::session::conversation::Writer;
use crate::storage::Record;
use crate::sync::document::{Address, Document};

/// Who brought a change that came by [`Hub::insert`].
const NO_CONNECTION: u64 = u64::MAX;

impl Hub {
    /// Has a document loaded though nobody follows it, for [`Hub::insert`]: it is as soon as [`Hub::heads`] is `Some`.
    pub fn open(&mut self, key: &Key) -> Effects {
        let mut effects = Effects::default();
        self.documents.entry(key.clone()).or_insert_with(|| {
            effects.load.push(key.clone());
            State::Loading { queue: Vec::new(), bytes: 0 }
        });
        self.with_wake(effects)
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
        let Some(State::Loading { queue, .. }) = self.documents.get_mut(&key) else { return self.with_wake(effects) };
        let queue = std::mem::take(queue);
        let mut graph = ChangeGraph::default();
        let first_from = records.iter().filter(|record| record.seq == 1);
        let first_from = first_from.map(|record| (record.actor.clone(), record.received_from.clone())).collect();
        let mut rest: Vec<Bytes> = records.into_iter().map(|record| record.bytes).collect();
        // Each record follows its deps, but for those whose deps a failing disk took: as long as one is placed, go on.
        loop {
            let before = rest.len();
            rest.retain(|bytes| graph.load(bytes.clone()).is_err());
            if rest.is_empty() || rest.len() == before {
                break;
            }
        }
        let document = Document::loaded(graph, writers, &first_from, now);
        self.documents.insert(key.clone(), State::Loaded(Box::new(document)));
        for (connection, said) in queue {
            self.hear(now, connection, &key, said, &mut effects);
        }
        self.with_wake(effects)
    }

    /// Drops a document for good: who follows it is told that there is none, and nothing more of it is taken.
    pub fn purge(&mut self, key: &Key) -> Effects {
        let mut effects = Effects::default();
        self.purged.insert(key.clone());
        self.tickets.retain(|_, (of, _)| of != key);
        self.differing.remove(key);
        self.live.remove(key);
        let followers: BTreeSet<ConnectionId> = match self.documents.remove(key) {
            Some(State::Loaded(document)) => document.followers.keys().copied().collect(),
            Some(State::Loading { queue, .. }) => queue.into_iter().map(|(connection, _)| connection).collect(),
            None => BTreeSet::new(),
        };
        self.held.retain(|(_, _, of)| of != key);
        for connection in followers {
            if let Some(known) = self.connections.get_mut(&connection) {
                known.follows.remove(key);
                known.unknown.remove(key);
                known.behind.remove(key);
            }
            self.unavailable(connection, key, &mut effects);
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
        if self.purged.contains(key) {
            return Err(PURGED.to_owned());
        }
        let Some(State::Loaded(document)) = self.documents.get_mut(key) else {
            return Err("the document is not loaded".to_owned());
        };
        let change = ParsedChange::parse(change).map_err(|error| error.to_string())?;
        // It must not wait for its deps: what is refused here must not be stored later.
        if change.deps.iter().any(|dep| document.graph.position(dep).is_none()) {
            return Err("it depends on changes that the relay doesn't have".to_owned());
        }
        let hash = change.hash;
        if document.graph.position(&hash).is_none() && !document.may_bring(&change.actor, &writer.principal) {
            return Err("its actor is another worker's".to_owned());
        }
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
}
