//! One document on a device, and its sync with the relay: automerge's own protocol, one state for the one connection.
//! Sync messages and writes flow in; changes to store, and the next message to send, flow out.
//!
//! Invariant: a change counts as acknowledged only if it is an ancestor of, or equal to, a head that the relay has
//! named (the relay names what is durable, and nothing else).

use std::collections::BTreeSet;

use automerge::transaction::Transaction;
use automerge::{Automerge, Change, ScalarValue, sync};
use sync::SyncDoc;

use crate::blob::BlobId;
use crate::ids::{ActorId, ChangeHash, DocumentId, random_actor};
use crate::storage::Record;

/// See the module.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) id: DocumentId,
    state: State,
    /// This start's actor, taken at the first write: an id taken at opening would cost every reader for ever.
    actor: Option<ActorId>,
    /// Actors of this device's member, of this start and of earlier ones.
    pub(super) own: BTreeSet<ActorId>,
    sync: sync::State,
    /// Whether a first message was sent on this connection.
    greeted: bool,
    /// Whether the document was followed, and left, earlier on this connection: the relay still counts on what it sent
    /// then, and begins afresh only at a `request`.
    again: bool,
    /// Whether the relay has answered on this connection.
    pub(super) answered: bool,
    /// Whether the relay said that it has no such document.
    pub(super) unavailable: bool,
    /// Heads that the relay is known to have, all of them here too.
    covered: Vec<ChangeHash>,
    /// How many changes here aren't covered; those refused don't count.
    pub(super) pending: u64,
    /// Changes that the relay refused, and what depends on them.
    pub(super) refused: BTreeSet<ChangeHash>,
    /// The relay has said that it takes no changes: whatever it doesn't have is refused.
    read_only: bool,
    /// What was refused for that, and nobody was told.
    untold: Vec<ChangeHash>,
    /// Followed only until everything is acknowledged.
    pub(super) closing: bool,
    /// A change here names a blob that the relay doesn't have.
    held: bool,
}

#[derive(Debug)]
enum State {
    /// Being read from the store.
    Loading,
    /// Here, maybe without any change yet.
    Here(Box<Automerge>),
    /// It can't be read or synced, in words.
    Broken(String),
}

/// A sync message for the relay.
pub(super) struct Outgoing {
    /// Whether it asks for a document of which nothing is here.
    pub(super) request: bool,
    pub(super) data: Vec<u8>,
}

/// Why a sync message could not be taken.
pub(super) enum Unreadable {
    /// It is no sync message: the relay broke the protocol.
    Message(String),
    /// It is one, but the document can't take its changes.
    Changes,
}

impl Replica {
    /// A document that is being read from the store.
    pub(super) fn loading(id: DocumentId, again: bool) -> Self {
        Self {
            id,
            again,
            state: State::Loading,
            actor: None,
            own: BTreeSet::new(),
            sync: sync::State::new(),
            greeted: false,
            answered: false,
            unavailable: false,
            covered: Vec::new(),
            pending: 0,
            refused: BTreeSet::new(),
            read_only: false,
            untold: Vec::new(),
            closing: false,
            held: false,
        }
    }

    /// A document that this device has just made.
    pub(super) fn created(id: DocumentId, document: Automerge) -> Self {
        let actor = document.get_actor().clone();
        let mut replica = Self::loading(id, false);
        replica.own.insert(actor.clone());
        replica.actor = Some(actor);
        replica.state = State::Here(Box::new(document));
        replica.count_pending();
        replica
    }

    /// Takes what the store had of it.
    pub(super) fn loaded(&mut self, records: Vec<Record>, is_own: impl Fn(&Record) -> bool) {
        if !matches!(self.state, State::Loading) {
            return;
        }
        self.own.extend(records.iter().filter(|record| is_own(record)).map(|record| record.actor.clone()));
        let theirs = latest(records.iter().filter(|record| !is_own(record)));
        self.state = match build(records) {
            Ok(document) => State::Here(Box::new(document)),
            Err(why) => State::Broken(why),
        };
        self.relay_has(&theirs, false);
    }

    /// Whether the store is still being read.
    pub(super) fn is_loading(&self) -> bool {
        matches!(self.state, State::Loading)
    }

    /// The document, unless it is loading or broken.
    pub(super) fn document(&self) -> Option<&Automerge> {
        match &self.state {
            State::Here(document) => Some(document),
            State::Loading | State::Broken(_) => None,
        }
    }

    /// Why it can't be read, if it can't.
    pub(super) fn broken(&self) -> Option<&str> {
        match &self.state {
            State::Broken(why) => Some(why),
            State::Loading | State::Here(_) => None,
        }
    }

    /// Sorted; empty while nothing is here.
    pub(super) fn heads(&self) -> Vec<ChangeHash> {
        self.document().map(Automerge::get_heads).unwrap_or_default()
    }

    /// Whether all of these changes are here.
    pub(super) fn holds(&self, heads: &[ChangeHash]) -> bool {
        self.document().is_some_and(|document| heads.iter().all(|hash| has(document, hash)))
    }

    /// Whether everything that the relay has named on this connection is here.
    pub(super) fn has_theirs(&self) -> bool {
        self.sync.their_heads.as_ref().is_some_and(|heads| self.holds(heads))
    }

    /// Whether the relay has everything that is here.
    pub(super) fn acknowledged(&self) -> bool {
        self.document().is_some() && self.pending == 0 && self.refused.is_empty()
    }

    // --- Sync ----------------------------------------------------------------------------------------------------

    /// A new connection: sync starts afresh. What the relay is known to have stays known until it says otherwise.
    pub(super) fn disconnect(&mut self) {
        self.sync = sync::State::new();
        self.greeted = false;
        self.again = false;
        self.answered = false;
        self.unavailable = false;
    }

    /// The next message for the relay, if there is one.
    pub(super) fn generate(&mut self) -> Option<Outgoing> {
        let State::Here(document) = &self.state else { return None };
        // Of a document that is held the relay hears once what it has itself, which makes it send what is new.
        if self.held && (self.greeted || self.covered.is_empty()) {
            return None;
        }
        let mut message = document.generate_sync_message(&mut self.sync)?;
        if self.held {
            message.heads.clone_from(&self.covered);
            message.changes = Vec::<Vec<u8>>::new().into();
        }
        let request = !self.greeted && (self.again || document.get_heads().is_empty());
        self.greeted = true;
        Some(Outgoing { request, data: message.encode() })
    }

    /// Takes a sync message of the relay: the changes that are new here.
    pub(super) fn receive(&mut self, data: &[u8]) -> Result<Vec<Change>, Unreadable> {
        let message = sync::Message::decode(data).map_err(|error| Unreadable::Message(error.to_string()))?;
        let State::Here(document) = &mut self.state else { return Ok(Vec::new()) };
        self.answered = true;
        let before = document.get_heads();
        let theirs = message.heads.clone();
        if let Err(error) = document.receive_sync_message(&mut self.sync, message) {
            self.state = State::Broken(error.to_string());
            return Err(Unreadable::Changes);
        }
        let new = if document.get_heads() == before { Vec::new() } else { document.get_changes(&before) };
        if !document.get_heads().is_empty() {
            self.unavailable = false;
        }
        let read_only = self.sync.is_peer_read_only();
        if self.read_only && !read_only {
            // Its member may write again: what was refused for that is sent.
            self.refused.clear();
        }
        self.read_only = read_only;
        self.relay_has(&theirs, true);
        Ok(new)
    }

    /// The relay has named its heads. `all`: these are all of its heads, on the connection of now.
    pub(super) fn relay_has(&mut self, heads: &[ChangeHash], all: bool) {
        let State::Here(document) = &self.state else { return };
        let known: Vec<ChangeHash> = heads.iter().filter(|hash| has(document, hash)).copied().collect();
        if all && known.len() == heads.len() {
            // What it had on an earlier connection counts no longer: it may have been restored from a backup.
            self.covered = known;
        } else {
            self.covered.extend(known);
            self.covered.sort_unstable();
            self.covered.dedup();
        }
        self.count_pending();
    }

    /// The relay refused a change.
    pub(super) fn refuse(&mut self, hash: ChangeHash) {
        self.refused.insert(hash);
        self.count_pending();
    }

    /// What was refused since the last time because the relay takes nothing.
    pub(super) fn take_untold(&mut self) -> Vec<ChangeHash> {
        std::mem::take(&mut self.untold)
    }

    /// Takes out what was refused and what depends on it: their hashes. Sync begins afresh, and the next write takes a
    /// new actor, since numbers of this one's changes are free again.
    pub(super) fn discard(&mut self) -> Result<Vec<ChangeHash>, String> {
        let State::Here(document) = &mut self.state else { return Err("it is not loaded".into()) };
        let mut gone = BTreeSet::new();
        let mut kept = Vec::new();
        // Each change comes after those that it depends on.
        for change in document.get_changes(&[]) {
            if self.refused.contains(&change.hash()) || change.deps().iter().any(|dep| gone.contains(dep)) {
                gone.insert(change.hash());
            } else {
                kept.push(change);
            }
        }
        let mut rest = Automerge::new();
        rest.apply_changes(kept).map_err(|error| error.to_string())?;
        **document = rest;
        self.refused.clear();
        self.untold.clear();
        self.actor = None;
        let answered = self.answered;
        self.disconnect();
        (self.again, self.answered) = (answered, answered);
        self.count_pending();
        Ok(gone.into_iter().collect())
    }

    fn count_pending(&mut self) {
        let State::Here(document) = &self.state else { return };
        self.pending = 0;
        if document.get_heads() == self.covered {
            return;
        }
        // Each comes after those that it depends on.
        for change in document.get_changes_meta(&self.covered) {
            if self.refused.contains(&change.hash) {
                continue;
            }
            if self.read_only {
                self.untold.push(change.hash);
                self.refused.insert(change.hash);
            } else if !self.refused.is_empty() && change.deps.iter().any(|dep| self.refused.contains(dep)) {
                self.refused.insert(change.hash);
            } else {
                self.pending += 1;
            }
        }
    }

    /// Holds the document if something that the relay doesn't have names one of these blobs.
    pub(super) fn hold_for(&mut self, blobs: &BTreeSet<BlobId>) {
        let State::Here(document) = &self.state else { return };
        let open = || document.get_changes(&self.covered);
        self.held = !blobs.is_empty() && self.pending > 0 && open().iter().any(|change| names_any(change, blobs));
    }

    /// Whether it is held.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    // --- Writing -------------------------------------------------------------------------------------------------

    /// Writes one change under this start's actor: `None` inside if it holds no operation, `None` if the document
    /// isn't here.
    pub(super) fn write<T, E>(
        &mut self,
        write: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Option<Result<(T, Option<Change>), E>> {
        let State::Here(document) = &mut self.state else { return None };
        if self.actor.is_none() {
            let actor = random_actor();
            document.set_actor(actor.clone());
            self.own.insert(actor.clone());
            self.actor = Some(actor);
        }
        let written = transact(document, write);
        self.count_pending();
        Some(written)
    }

    /// Takes over a change that the relay has stored, and writes under its actor from now on. The change, if it is
    /// new here.
    pub(super) fn adopt(&mut self, actor: &ActorId, change: Change) -> Result<Option<Change>, String> {
        let State::Here(document) = &mut self.state else { return Err("it is not loaded".into()) };
        let hash = change.hash();
        let new = !has(document, &hash);
        if new {
            document.apply_changes([change.clone()]).map_err(|error| error.to_string())?;
            // The relay has it: sending it once more would only be noise.
            self.sync.sent_hashes.insert(hash);
        }
        document.set_actor(actor.clone());
        self.actor = Some(actor.clone());
        self.own.insert(actor.clone());
        self.relay_has(&[hash], false);
        Ok(new.then_some(change))
    }

    /// The next write takes a new actor.
    pub(super) fn forget_actor(&mut self) {
        self.actor = None;
    }
}

/// Runs one transaction: the change, unless nothing was written.
pub(super) fn transact<T, E>(
    document: &mut Automerge,
    write: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
) -> Result<(T, Option<Change>), E> {
    let mut tx = document.transaction();
    match write(&mut tx) {
        Ok(value) => {
            let (hash, _) = tx.commit();
            Ok((value, hash.and_then(|_| document.get_last_local_change())))
        }
        Err(error) => {
            tx.rollback();
            Err(error)
        }
    }
}

/// Whether a change writes the name of one of these blobs, wherever.
fn names_any(change: &Change, blobs: &BTreeSet<BlobId>) -> bool {
    change.decode().operations.iter().any(|operation| {
        let value = operation.primitive_value();
        let name = value.as_ref().and_then(ScalarValue::as_str).and_then(|text| text.parse().ok());
        name.is_some_and(|name: BlobId| blobs.contains(&name))
    })
}

fn has(document: &Automerge, hash: &ChangeHash) -> bool {
    document.get_change_meta_by_hash(hash).is_some()
}

/// Those of the records that none of the others depends on.
fn latest<'a>(records: impl Iterator<Item = &'a Record> + Clone) -> Vec<ChangeHash> {
    let deps: BTreeSet<ChangeHash> = records.clone().flat_map(|record| record.deps.iter().copied()).collect();
    records.map(|record| record.hash).filter(|hash| !deps.contains(hash)).collect()
}

/// The document of these records. Records whose deps are missing are left out: they stay in the store, and the relay
/// sends what they lack.
fn build(records: Vec<Record>) -> Result<Automerge, String> {
    let mut changes = Vec::with_capacity(records.len());
    for record in records {
        let change = Change::from_bytes(record.bytes.into()).map_err(|error| error.to_string())?;
        changes.push(change);
    }
    let mut document = Automerge::new();
    document.apply_changes(changes).map_err(|error| error.to_string())?;
    Ok(document)
}
