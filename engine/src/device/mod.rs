//! What a device is: replicas of the documents it follows, its copy of the catalog, commands, and live text. Browser,
//! command line and worker hold one [`Device`] each; the shell around it owns the two sockets and the store.
//!
//! In order of reading: [`replica`] (documents and their sync with the relay), [`catalog`] (rows, writers, leases), and
//! this file, which joins them.
//!
//! Invariant: a device never waits. A command takes effect here at once; what it has to store and send comes out as
//! [`Effects`].

pub mod catalog;
pub mod replica;

use std::ops::AddAssign;

use automerge::Automerge;
use automerge::transaction::Transaction;
use bytes::Bytes;

use crate::ids::{ActorId, ChangeHash, DocumentId, PeerId, Principal, Timestamp};
use crate::session::command::{CommandError, Done, NewSession};
use crate::session::conversation::{Conversation, Leases, MemberRole, WriterKind, Writers};
use crate::session::{Command, Session, Summary};
use crate::storage::Record;
use crate::wire::catalog::{FromRelay, Row, ToRelay, Welcome, WriterRow};
use crate::wire::ephemeral::{ActivityState, Ephemeral, TailKind};
use crate::workspace::Workspace;

/// What the shell must do, and what has changed.
#[derive(Debug, Default)]
pub struct Effects {
    /// Binary messages for `/sync`, in order.
    pub sync: Vec<Bytes>,
    /// Binary messages for `/catalog`, in order.
    pub catalog: Vec<Bytes>,
    /// Changes to store. Those of a person's command must be durable before the command is called done.
    pub store: Vec<Record>,
    /// Documents to read from the store, answered by [`Device::loaded`].
    pub load: Vec<DocumentId>,
    /// What has changed, for whoever watches.
    pub notices: Vec<Notice>,
    /// When to call [`Device::wake`] at the latest.
    pub wake: Option<Timestamp>,
    /// Close the sync socket: the relay broke the protocol, in words.
    pub close_sync: Option<String>,
    /// Close the catalog's socket and don't come back: the relay serves another workspace, or another version, in words.
    pub close_catalog: Option<String>,
}

impl AddAssign for Effects {
    fn add_assign(&mut self, other: Self) {
        self.sync.extend(other.sync);
        self.catalog.extend(other.catalog);
        self.store.extend(other.store);
        self.load.extend(other.load);
        self.notices.extend(other.notices);
        self.wake = [self.wake, other.wake].into_iter().flatten().min();
        self.close_sync = self.close_sync.take().or(other.close_sync);
        self.close_catalog = self.close_catalog.take().or(other.close_catalog);
    }
}

/// What has changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A document's heads have changed (or it was loaded): its conversation may have too.
    Document(DocumentId),
    /// A row of the list, as [`Device::summaries`] gives it now.
    Summary(DocumentId),
    /// A part has grown ahead of the document.
    Grew {
        /// The session.
        session: DocumentId,
        /// The message.
        message: String,
        /// The part's index.
        part: u64,
        /// What grows.
        kind: TailKind,
        /// UTF-8 bytes of the part before `text`.
        offset: u64,
        /// What is new.
        text: String,
    },
    /// What the worker of an open session is doing.
    Activity {
        /// The session.
        session: DocumentId,
        /// In a word.
        state: ActivityState,
        /// Which tool.
        tool: Option<String>,
    },
    /// Another ephemeral message on an open session (a worker reads `TailRequest` here).
    Ephemeral {
        /// The session.
        session: DocumentId,
        /// The message.
        message: Ephemeral,
    },
    /// Sync state, connection or pending count have changed: see [`Device::sync_state`].
    Sync,
    /// Members, workers, agents or the workspace's name have changed.
    Workspace,
    /// The relay has no such document.
    Unavailable(DocumentId),
    /// The relay refused a change of ours.
    Refused {
        /// The document.
        document: DocumentId,
        /// The change.
        hash: String,
        /// Why.
        message: String,
    },
    /// A frame on `/catalog` that answers a worker's question or takes its lease.
    Lease(FromRelay),
}

/// The honest state of sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncState {
    /// Whether `/sync` and `/catalog` are both up and greeted.
    pub connected: bool,
    /// Whether the catalog's first batch is complete since the connection came up.
    pub caught_up: bool,
    /// Changes of this device that the relay hasn't acknowledged.
    pub pending: u64,
    /// Changes that the relay refused.
    pub refused: u64,
}

/// How a device begins.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// Its peer id of this start.
    pub peer: PeerId,
    /// Who it is, as the last [`Welcome`] said; kept by the shell beside its store, so that commands work offline.
    pub identity: Option<Welcome>,
    /// Whether it keeps what the catalog lists without being asked (a browser does, a worker doesn't).
    pub prefetch: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Device {}

/// Why a document isn't here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// See there.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A document of a store or peer can't be read.
    #[error("document {document} cannot be read: {why}")]
    Broken {
        /// Which.
        document: DocumentId,
        /// In words.
        why: String,
    },
}

impl Device {
    /// A device that knows nothing yet but what `config` says.
    pub fn new(_config: DeviceConfig) -> Self {
        unimplemented!()
    }

    // --- The two links -------------------------------------------------------------------------------------------

    /// The socket of `/sync` is open.
    pub fn sync_opened(&mut self, _now: Timestamp) -> Effects {
        unimplemented!()
    }

    /// A binary message of it.
    pub fn sync_received(&mut self, _now: Timestamp, _bytes: &[u8]) -> Effects {
        unimplemented!()
    }

    /// It is closed.
    pub fn sync_closed(&mut self, _now: Timestamp) -> Effects {
        unimplemented!()
    }

    /// The socket of `/catalog` is open.
    pub fn catalog_opened(&mut self, _now: Timestamp) -> Effects {
        unimplemented!()
    }

    /// A binary message of it.
    pub fn catalog_received(&mut self, _now: Timestamp, _bytes: &[u8]) -> Effects {
        unimplemented!()
    }

    /// It is closed.
    pub fn catalog_closed(&mut self, _now: Timestamp) -> Effects {
        unimplemented!()
    }

    /// The time of [`Effects::wake`] has come.
    pub fn wake(&mut self, _now: Timestamp) -> Effects {
        unimplemented!()
    }

    // --- The store -----------------------------------------------------------------------------------------------

    /// What [`Effects::load`] asked for; empty: the store has none.
    pub fn loaded(&mut self, _now: Timestamp, _document: DocumentId, _records: Vec<Record>) -> Effects {
        unimplemented!()
    }

    /// Rows of the catalog that the shell has kept from an earlier start, with their cursor.
    pub fn restore_catalog(&mut self, _rows: Vec<Row>, _cursor: u64) -> Effects {
        unimplemented!()
    }

    /// The catalog's rows and cursor, for the shell to keep.
    pub fn catalog_rows(&self) -> (Vec<Row>, u64) {
        unimplemented!()
    }

    /// Who wrote a document, as the shell has kept it from an earlier start.
    pub fn restore_writers(&mut self, _document: DocumentId, _rows: Vec<WriterRow>) {
        unimplemented!()
    }

    /// Who wrote which document, as the relay has said, for the shell to keep.
    pub fn writer_rows(&self) -> Vec<(DocumentId, Vec<WriterRow>)> {
        unimplemented!()
    }

    /// The position after all sessions known here (rule 17), for [`Command::Restore`] and new sessions.
    pub fn next_position(&self) -> String {
        unimplemented!()
    }

    /// Appending failed: actors are taken anew, so that none is reused (design, "Documents").
    pub fn store_failed(&mut self) {
        unimplemented!()
    }

    // --- Documents -----------------------------------------------------------------------------------------------

    /// Follows a document: from the store, and from the relay when it is connected. Idempotent.
    pub fn open(&mut self, _now: Timestamp, _document: DocumentId) -> Effects {
        unimplemented!()
    }

    /// Follows it no longer; what is stored stays.
    pub fn close(&mut self, _document: DocumentId) -> Effects {
        unimplemented!()
    }

    /// The document, if it is here.
    pub fn document(&self, _document: DocumentId) -> Result<&Automerge, DeviceError> {
        unimplemented!()
    }

    /// Whether the relay's heads, as last heard on `/sync`, include everything that this device has of the document.
    pub fn acknowledged(&self, _document: DocumentId) -> bool {
        unimplemented!()
    }

    /// Whether the replica holds all of these changes.
    pub fn holds(&self, _document: DocumentId, _heads: &[ChangeHash]) -> bool {
        unimplemented!()
    }

    // --- Sessions, for people ------------------------------------------------------------------------------------

    /// Creates a session: id, and what to store and send.
    pub fn create(&mut self, _now: Timestamp, _new: &NewSession) -> Result<(DocumentId, Effects), DeviceError> {
        unimplemented!()
    }

    /// Does what a person asks.
    pub fn command(
        &mut self,
        _now: Timestamp,
        _session: DocumentId,
        _command: &Command,
    ) -> Result<(Done, Effects), DeviceError> {
        unimplemented!()
    }

    /// The session as plain data, cached until its document changes.
    pub fn session(&mut self, _session: DocumentId) -> Result<&Session, DeviceError> {
        unimplemented!()
    }

    /// The conversation, cached likewise, with live text beyond what is committed joined on.
    pub fn conversation(&mut self, _now: Timestamp, _session: DocumentId) -> Result<Conversation, DeviceError> {
        unimplemented!()
    }

    /// One row: of the document where it is here, else the catalog's.
    pub fn summary(&mut self, _now: Timestamp, _session: DocumentId) -> Option<Summary> {
        unimplemented!()
    }

    /// Every session that is neither deleted nor purged, archived ones too; unordered.
    pub fn summaries(&mut self, _now: Timestamp) -> Vec<Summary> {
        unimplemented!()
    }

    /// The workspace document, if it is here.
    pub fn workspace(&self) -> Workspace {
        unimplemented!()
    }

    /// Who this device is.
    pub fn identity(&self) -> Option<&Welcome> {
        unimplemented!()
    }

    /// Models and tools that workers offer.
    pub fn offers(&self) -> &[crate::wire::catalog::Offer] {
        unimplemented!()
    }

    /// See [`SyncState`].
    pub fn sync_state(&self) -> SyncState {
        unimplemented!()
    }

    // --- For a worker --------------------------------------------------------------------------------------------

    /// A frame for `/catalog`.
    pub fn ask(&mut self, _frame: &ToRelay) -> Effects {
        unimplemented!()
    }

    /// The lease and the writers of a session, as last heard.
    pub fn leases(&self, _session: DocumentId) -> (Leases, Writers) {
        unimplemented!()
    }

    /// Writes to a document under this device's actor for it.
    pub fn write<T>(
        &mut self,
        _document: DocumentId,
        _write: impl FnOnce(&mut Transaction<'_>) -> Result<T, automerge::AutomergeError>,
    ) -> Result<(T, Effects), DeviceError> {
        unimplemented!()
    }

    /// Makes a change without keeping it, for `begin`: under `actor`, on the replica's heads. The change chunk.
    pub fn prepare(
        &self,
        _document: DocumentId,
        _actor: &ActorId,
        _write: impl FnOnce(&mut Transaction<'_>) -> Result<(), automerge::AutomergeError>,
    ) -> Result<Bytes, DeviceError> {
        unimplemented!()
    }

    /// Takes over a prepared change that the relay has stored, and writes under its actor from now on.
    pub fn adopt(&mut self, _document: DocumentId, _actor: &ActorId, _change: &[u8]) -> Result<Effects, DeviceError> {
        unimplemented!()
    }

    /// Sends an ephemeral message on a document.
    pub fn broadcast(&mut self, _document: DocumentId, _message: &Ephemeral) -> Effects {
        unimplemented!()
    }
}

/// Who a device's own actors are.
pub type Own = (Principal, WriterKind, MemberRole);
