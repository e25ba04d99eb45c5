//! What a device is: replicas of the documents it follows, its copy of the catalog, commands, and live text. Browser,
//! command line and worker hold one [`Device`] each; the shell around it owns the two sockets and the store.
//!
//! In order of reading: `replica` (one document and its sync with the relay), `link` (the connection that carries it),
//! `catalog` (rows, writers, leases), `marks` (what was read), `view` (a session as it is looked at, live text joined
//! on), `keep` (what is kept without being asked for), `refused` (what the relay won't take), `effects` (what comes
//! out). `receive`, `sessions`, `tasks`, `profile`, `workspace`, `purge` and `worker` are the device's own doings: what comes in,
//! what a person does, what a worker does.
//!
//! Invariant: a device never waits. A command takes effect here at once; what it has to store and send comes out as
//! [`Effects`].

mod catalog;
mod effects;
mod keep;
mod link;
mod marks;
mod profile;
mod purge;
mod receive;
mod refused;
mod replica;
mod sessions;
mod snapshots;
mod tasks;
mod uploads;
mod view;
mod waiting;
mod worker;
mod workspace;

use std::collections::{BTreeMap, BTreeSet};

use automerge::{Automerge, Change};

pub use self::effects::{Effects, Notice, SyncState};
pub use self::keep::{Keeps, KeptDocument};
pub use self::marks::Marks;
pub use self::sessions::Outcome;
pub use self::tasks::TaskCost;
pub use self::waiting::{QueueWrite, WaitingCommand};

use self::catalog::Catalog;
use self::keep::Keep;
use self::link::SyncLink;
use self::replica::Replica;
use self::snapshots::Snapshots;
use self::view::View;
use self::waiting::Queue;
use crate::blob::BlobId;
use crate::ids::{ChangeHash, DocumentId, PeerId, Principal, Scope, Timestamp};
use crate::profile::{ArrangeError, Profile};
use crate::session::command::CommandError;
use crate::session::conversation::WriterKind;
use crate::session::import::ImportError;
use crate::storage::Record;
use crate::wire::catalog::{Row, ToRelay, Welcome, WriterRow};
use crate::wire::cbor;
use crate::wire::ephemeral::Ephemeral;
use crate::workspace::WorkspaceError;

/// How a device begins.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// Its peer id of this start.
    pub peer: PeerId,
    /// Who it is, as the last [`Welcome`] said; kept by the shell beside its store, so that commands work offline.
    pub identity: Option<Welcome>,
    /// Which sessions it keeps (a browser the recent ones, a worker none of its own accord).
    pub keeps: Keeps,
}

/// See the module.
#[derive(Debug)]
pub struct Device {
    peer: PeerId,
    link: SyncLink,
    catalog: Catalog,
    replicas: BTreeMap<DocumentId, Replica>,
    views: BTreeMap<DocumentId, View>,
    /// Documents that were followed, and left, on the connection of now.
    left: BTreeSet<DocumentId>,
    keep: Keep,
    queue: Queue,
    /// Blobs that the relay isn't known to have.
    uploads: BTreeSet<BlobId>,
    snapshots: Snapshots,
    /// The time of the last step.
    clock: Timestamp,
    /// The member's profile document as plain data.
    profile: Profile,
    /// The sync state that the last [`Notice::Sync`] stood for.
    told: SyncState,
}

/// The member that a device is before it has met a relay.
pub const UNBOUND: &str = "local";

/// Why a document isn't here.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DeviceError {
    /// Unknown here and on the relay, or the link is down.
    #[error("there is no session {0} here")]
    NotHere(DocumentId),
    /// It is still being read from the store or the relay.
    #[error("session {0} is still being opened")]
    Opening(DocumentId),
    /// The device has never been signed in.
    #[error("this device has never been connected to a relay: connect it once")]
    NoIdentity,
    /// It was purged: what is here of it can only be read and copied.
    #[error("session {0} was purged: nothing can be added to it")]
    Purged(DocumentId),
    /// Only what is deleted can be purged, once the relay knows of it.
    #[error("session {0} is not deleted: delete it before you purge it")]
    NotDeleted(DocumentId),
    /// Only the relay can do it, and there is no link.
    #[error("the relay is not connected, and only it can do that")]
    NoLink,
    /// The member of this device is a viewer, or its token only reads.
    #[error("you may only read here: an owner of the workspace can give you another role")]
    ReadOnly,
    /// See there.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// See there.
    #[error(transparent)]
    Arrange(#[from] ArrangeError),
    /// See there.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// See there.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A document of a store or peer can't be read.
    #[error("document {document} cannot be read: {why}")]
    Broken {
        /// Which.
        document: DocumentId,
        /// In words.
        why: String,
    },
}

/// Whom records that came from the relay are from; all others are this device's own.
pub const RELAY: &str = "relay";

impl Device {
    /// A device that knows nothing yet but what `config` says.
    pub fn new(config: DeviceConfig) -> Self {
        Self {
            link: SyncLink::new(config.peer.clone()),
            peer: config.peer,
            catalog: Catalog::new(config.identity),
            replicas: BTreeMap::new(),
            views: BTreeMap::new(),
            left: BTreeSet::new(),
            keep: Keep::new(config.keeps),
            queue: Queue::default(),
            uploads: BTreeSet::new(),
            snapshots: Snapshots::default(),
            clock: Timestamp(0),
            profile: Profile::default(),
            told: SyncState::default(),
        }
    }

    // --- The store -----------------------------------------------------------------------------------------------

    /// What [`Effects::load`] asked for; empty: the store has none.
    pub fn loaded(&mut self, now: Timestamp, document: DocumentId, records: Vec<Record>) -> Effects {
        let mut effects = Effects::default();
        let own = self.principal();
        self.clock = now;
        let Some(replica) = self.replicas.get_mut(&document) else { return effects };
        if !replica.is_loading() {
            return effects;
        }
        if !records.is_empty() {
            self.keep.entry(document).bytes = records.iter().map(|record| record.bytes.len() as u64).sum();
        }
        replica.loaded(records, |record| record.received_from == own || record.received_from.as_str() == UNBOUND);
        if let Some(row) = self.catalog.row(document) {
            replica.relay_has(&row.heads, false);
        }
        replica.hold_for(&self.uploads);
        if replica.broken().is_some() || !replica.heads().is_empty() {
            self.document_changed(document, &[], &mut effects);
        } else {
            // Whoever waits for the store learns that it has nothing.
            effects.notices.push(Notice::Document(document));
        }
        if self.catalog.is_purged(document) {
            self.purged(document, &mut effects);
        }
        self.push_sync(document, &mut effects);
        self.ask_for_tail(now, document, &mut effects);
        self.settle(effects)
    }

    /// Rows of the catalog that the shell has kept from an earlier start, with their cursor. Call it once, at start,
    /// also without rows: it opens what every device has open.
    pub fn restore_catalog(&mut self, rows: Vec<Row>, cursor: u64) -> Effects {
        let mut effects = Effects::default();
        if !rows.is_empty() {
            self.catalog.restore(rows, cursor);
        }
        self.open_workspace(&mut effects);
        self.list_kept(None);
        self.settle(effects)
    }

    /// The catalog's rows and cursor, for the shell to keep.
    pub fn catalog_rows(&self) -> (Vec<Row>, u64) {
        (self.catalog.rows().cloned().collect(), self.catalog.cursor())
    }

    /// Who wrote a document, as the shell has kept it from an earlier start.
    pub fn restore_writers(&mut self, document: DocumentId, rows: Vec<WriterRow>) {
        self.catalog.restore_writers(document, rows);
        self.surroundings_changed(document);
    }

    /// Who wrote which document, as the relay has said, for the shell to keep.
    pub fn writer_rows(&self) -> Vec<(DocumentId, Vec<WriterRow>)> {
        self.catalog.writer_rows()
    }

    /// Appending failed: actors are taken anew, so that none is reused (design, "Documents").
    pub fn store_failed(&mut self) {
        self.replicas.values_mut().for_each(Replica::forget_actor);
    }

    // --- Documents -----------------------------------------------------------------------------------------------

    /// Follows a document: from the store, and from the relay when it is connected. Idempotent.
    pub fn open(&mut self, now: Timestamp, document: DocumentId) -> Effects {
        let mut effects = Effects::default();
        self.clock = now;
        self.keep.opened(document);
        self.used(now, document);
        self.follow(document, &mut effects);
        self.settle(effects)
    }

    /// Follows it no longer; what is stored stays. What the relay hasn't acknowledged is still brought to it first.
    pub fn close(&mut self, document: DocumentId) -> Effects {
        let mut effects = Effects::default();
        let Some(replica) = self.replicas.get_mut(&document) else { return effects };
        if replica.pending > 0 || self.queue.waits_for(document) {
            replica.closing = true;
        } else {
            self.unfollow(document, &mut effects);
        }
        effects
    }

    /// Reads a document from the store once more: another process has written to it.
    pub fn read_again(&mut self, now: Timestamp, document: DocumentId) -> Effects {
        let mut effects = Effects::default();
        self.clock = now;
        if let Some(closing) = self.replicas.get(&document).map(|replica| replica.closing) {
            self.unfollow(document, &mut effects);
            self.follow(document, &mut effects);
            if let Some(replica) = self.replicas.get_mut(&document) {
                replica.closing = closing;
            }
        }
        self.settle(effects)
    }

    /// The document, if it is here.
    pub fn document(&self, document: DocumentId) -> Result<&Automerge, DeviceError> {
        let replica = self.replicas.get(&document).ok_or(DeviceError::NotHere(document))?;
        if replica.is_loading() {
            return Err(DeviceError::Opening(document));
        }
        if let Some(why) = replica.broken() {
            return Err(DeviceError::Broken { document, why: why.to_owned() });
        }
        match replica.document() {
            Some(found) if !found.get_heads().is_empty() => Ok(found),
            _ if self.link.is_open() && !replica.unavailable => Err(DeviceError::Opening(document)),
            _ => Err(DeviceError::NotHere(document)),
        }
    }

    /// Whether the relay's heads, as last heard on `/sync`, include everything that this device has of the document.
    pub fn acknowledged(&self, document: DocumentId) -> bool {
        self.replicas.get(&document).is_some_and(|replica| replica.answered && replica.acknowledged())
    }

    /// Whether the relay's heads, as last heard at all (also before this start), lack something that is here.
    pub fn unsent(&self, document: DocumentId) -> bool {
        self.replicas.get(&document).is_some_and(|replica| replica.pending > 0)
    }

    /// Whether the relay refused something of this document since this start.
    pub fn refused(&self, document: DocumentId) -> bool {
        self.replicas.get(&document).is_some_and(|replica| !replica.refused.is_empty())
    }

    /// Whether any document is still being read from the store.
    pub fn is_loading(&self) -> bool {
        self.replicas.values().any(Replica::is_loading)
    }

    /// Whether the replica holds all of these changes.
    pub fn holds(&self, document: DocumentId, heads: &[ChangeHash]) -> bool {
        self.replicas.get(&document).is_some_and(|replica| replica.holds(heads))
    }

    /// Whether the relay has answered for this document on the connection of now, and all that it named is here.
    pub fn up_to_date(&self, document: DocumentId) -> bool {
        self.replicas.get(&document).is_some_and(|replica| replica.answered && replica.has_theirs())
            && self.catalog.row(document).is_none_or(|row| self.holds(document, &row.heads))
    }

    /// See [`SyncState`].
    pub fn sync_state(&self) -> SyncState {
        let (waiting, failed) = self.queue.counts();
        SyncState {
            connected: self.link.is_up() && self.catalog.is_up(),
            caught_up: self.catalog.caught_up,
            pending: self.replicas.values().map(|replica| replica.pending).sum(),
            refused: self.replicas.values().map(|replica| replica.refused.len() as u64).sum(),
            uploads: self.uploads.len() as u64,
            waiting,
            failed,
        }
    }

    // --- Shared by what follows ----------------------------------------------------------------------------------

    /// Begins to follow a document, unless it does already.
    fn follow(&mut self, document: DocumentId, effects: &mut Effects) {
        if let Some(replica) = self.replicas.get_mut(&document) {
            replica.closing = false;
            return;
        }
        self.replicas.insert(document, Replica::loading(document, self.left.remove(&document)));
        effects.load.push(document);
        self.tell_catalog(&ToRelay::Follow { document }, effects);
    }

    fn unfollow(&mut self, document: DocumentId, effects: &mut Effects) {
        self.note_kept(document);
        self.note_snapshot(document);
        self.replicas.remove(&document);
        self.queue.left(document);
        self.left.insert(document);
        self.views.remove(&document);
        self.tell_catalog(&ToRelay::Unfollow { document }, effects);
    }

    fn open_workspace(&mut self, effects: &mut Effects) {
        if let Some(identity) = self.catalog.identity.as_ref().filter(|identity| identity.is_bound()) {
            let (workspace, profile) = (identity.workspace_document, identity.profile);
            self.follow(workspace, effects);
            if let Some(profile) = profile.filter(|_| !self.is_worker()) {
                self.follow(profile, effects);
            }
        }
    }

    fn tell_catalog(&self, frame: &ToRelay, effects: &mut Effects) {
        if self.catalog.is_up() {
            effects.catalog.push(cbor::encode(frame).into());
        }
    }

    /// Sends what there is to send of a document.
    fn push_sync(&mut self, document: DocumentId, effects: &mut Effects) {
        // A purged document is closed for ever: the relay would refuse each change of it.
        if !self.link.is_up() || self.catalog.is_purged(document) {
            return;
        }
        let message = self.replicas.get_mut(&document).and_then(Replica::generate);
        effects.sync.extend(message.and_then(|message| self.link.sync(document, message)));
    }

    /// Changes to store, in order.
    fn store(&mut self, document: DocumentId, from: &Principal, changes: Vec<Change>, effects: &mut Effects) {
        let scope = self.scope(document);
        let bytes: u64 = changes.iter().map(|change| change.raw_bytes().len() as u64).sum();
        self.keep.entry(document).bytes += bytes;
        if let Some(replica) = self.replicas.get_mut(&document) {
            replica.hold_for(&self.uploads);
        }
        effects.store.extend(changes.into_iter().map(|mut change| Record {
            scope: scope.clone(),
            document,
            hash: change.hash(),
            deps: change.deps().to_vec(),
            actor: change.actor_id().clone(),
            seq: change.seq(),
            received_from: from.clone(),
            bytes: change.bytes().into_owned().into(),
        }));
    }

    /// Where a document belongs: the member's profile to the member, everything else to the workspace.
    pub fn scope(&self, document: DocumentId) -> Scope {
        match &self.catalog.identity {
            Some(identity) if identity.profile == Some(document) => Scope::from(format!("m/{}", identity.member)),
            Some(identity) => Scope::from(format!("w/{}", identity.workspace)),
            None => Scope::from("w/"),
        }
    }

    /// Whom this device's own changes are from.
    fn principal(&self) -> Principal {
        Principal::from(self.catalog.identity.as_ref().map_or(UNBOUND, |identity| identity.member.as_str()))
    }

    fn is_worker(&self) -> bool {
        self.catalog.identity.as_ref().is_some_and(|identity| identity.kind == WriterKind::Worker)
    }

    /// A document has other heads than before, by these changes.
    fn document_changed(&mut self, document: DocumentId, changes: &[Change], effects: &mut Effects) {
        if let Some(view) = self.views.get_mut(&document) {
            view.document_changed(changes);
        }
        effects.notices.push(Notice::Document(document));
        effects.notices.push(Notice::Summary(document));
        if self.catalog.identity.as_ref().is_some_and(|identity| identity.workspace_document == document) {
            effects.notices.push(Notice::Workspace);
        }
        if self.profile_document() == Some(document) {
            self.profile_changed(effects);
        }
    }

    /// What a conversation is derived from besides its document has changed.
    fn surroundings_changed(&mut self, document: DocumentId) {
        if let Some(view) = self.views.get_mut(&document) {
            view.surroundings_changed();
        }
    }

    /// Asks the worker for the uncommitted text of a session that streams, where that is due.
    fn ask_for_tail(&mut self, now: Timestamp, document: DocumentId, effects: &mut Effects) {
        if !self.link.is_up() || self.is_worker() || self.document(document).is_err() {
            return;
        }
        let lease = self.catalog.live(document);
        // Until the list is up to date a lease may have begun unheard.
        let settled = self.catalog.caught_up && self.up_to_date(document);
        // Without a lease nothing streams: what comes later is followed from its beginning.
        if lease.is_none() && !settled {
            return;
        }
        if lease.is_some() && self.derive(now, document).is_err() {
            return;
        }
        if self.views.entry(document).or_default().asks(now, lease, settled) {
            effects.sync.extend(self.link.ephemeral(document, &Ephemeral::TailRequest));
        }
    }

    /// What every public step ends with: what is kept is brought up to date, and a change of the sync state is told.
    fn settle(&mut self, mut effects: Effects) -> Effects {
        self.bring_up_to_date(&mut effects);
        self.tell_arrived(&mut effects);
        self.tell_sync_state(&mut effects);
        effects
    }

    fn tell_sync_state(&mut self, effects: &mut Effects) {
        let state = self.sync_state();
        if state != self.told {
            self.told = state;
            effects.notices.push(Notice::Sync);
        }
    }
}
