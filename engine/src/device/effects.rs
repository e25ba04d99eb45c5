//! What comes out of a step of a device: what the shell must do, what has changed, and how sync stands.

use std::ops::AddAssign;

use bytes::Bytes;

use super::waiting::QueueWrite;
use crate::ids::{ChangeHash, DocumentId, Timestamp};
use crate::storage::Record;
use crate::wire::catalog::FromRelay;
use crate::wire::ephemeral::{ActivityState, Ephemeral, TailKind};

/// What the shell must do, and what has changed.
#[derive(Debug, Default)]
pub struct Effects {
    /// Binary messages for `/sync`, in order.
    pub sync: Vec<Bytes>,
    /// Binary messages for `/catalog`, in order.
    pub catalog: Vec<Bytes>,
    /// Changes to store. Those of a person's command must be durable before the command is called done.
    pub store: Vec<Record>,
    /// What has become of commands that wait for their documents; durable like `store`, and after it.
    pub queue: Vec<QueueWrite>,
    /// Documents that have come for which commands wait, answered by
    /// [`Device::do_waiting`](super::Device::do_waiting).
    pub arrived: Vec<DocumentId>,
    /// Documents to drop from the store, with all that is kept beside them, unless the store itself knows of something
    /// that was not sent.
    pub drop: Vec<DocumentId>,
    /// Changes to take out of the store, after `store`: their person has let go of them. Durable before the command is
    /// called done.
    pub discard: Vec<(DocumentId, Vec<ChangeHash>)>,
    /// Documents to read from the store, answered by [`Device::loaded`](super::Device::loaded).
    pub load: Vec<DocumentId>,
    /// What has changed, for whoever watches.
    pub notices: Vec<Notice>,
    /// When to call [`Device::wake`](super::Device::wake) at the latest.
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
        self.queue.extend(other.queue);
        self.arrived.extend(other.arrived);
        self.drop.extend(other.drop);
        self.discard.extend(other.discard);
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
    /// A row of the list, as [`Device::summaries`](super::Device::summaries) gives it now.
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
        /// How far it has come, or what it waits for, in words.
        progress: Option<String>,
    },
    /// Another ephemeral message on an open session (a worker reads `TailRequest` here).
    Ephemeral {
        /// The session.
        session: DocumentId,
        /// The message.
        message: Ephemeral,
    },
    /// Sync state, connection or pending count have changed: see [`Device::sync_state`](super::Device::sync_state).
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
    /// A session was purged on the relay. What is here of it is gone too, but for changes that the relay never had: with
    /// any such the document stays, can be read and copied, and is sent nowhere.
    Purged {
        /// The session.
        session: DocumentId,
        /// How many changes the relay never had.
        unsent: u64,
    },
    /// The relay doesn't purge the session that it was asked to.
    NotPurged {
        /// The session.
        session: DocumentId,
        /// Why, in words.
        reason: String,
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
    /// Blobs that the relay isn't known to have. Changes that name one wait for it.
    pub uploads: u64,
    /// Commands that wait for their documents.
    pub waiting: u64,
    /// Commands that waited and turned out to be impossible.
    pub failed: u64,
}
