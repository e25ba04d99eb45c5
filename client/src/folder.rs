//! The folder of a replica: which workspace it belongs to, who the device is there, the copy of the catalog, the
//! documents ([`crate::store`]) with the ends of their conversations, commands that wait ([`crate::queue`]), and blobs
//! ([`crate::outbox`]). It is what makes commands work offline.
//!
//! Invariant: files are replaced whole, by renaming; a file that can't be read counts as missing, except the workspace,
//! which is never guessed: a replica whose identity is lost goes on with the workspace that it is of, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use skein_engine::device::{KeptDocument, Marks};
use skein_engine::ids::{DocumentId, Timestamp, random_id};
use skein_engine::session::snapshot::Snapshot;
use skein_engine::wire::catalog::{Row, Welcome, WriterRow};
use skein_engine::wire::cbor;

use crate::outbox::Outbox;
use crate::queue::{self, Queue};
use crate::store::{FileStore, StoreError};

/// The folder of the ends of conversations.
const SNAPSHOTS: &str = "snapshots";

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
    pub(crate) store: FileStore,
    pub(crate) queue: Queue,
    pub(crate) outbox: Outbox,
    /// Locked, shared with other processes, while this one uses the replica.
    in_use: Arc<File>,
}

/// The copy of the catalog, as kept.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct KeptCatalog {
    pub(crate) cursor: u64,
    pub(crate) rows: Vec<Row>,
    pub(crate) writers: Vec<(DocumentId, Vec<WriterRow>)>,
    #[serde(default)]
    pub(crate) documents: Vec<KeptDocument>,
    #[serde(default)]
    pub(crate) marks: Marks,
}

impl Folder {
    /// Opens the folder, and makes it if it isn't there.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let store = FileStore::open(path)?;
        let snapshots = path.join(SNAPSHOTS);
        fs::create_dir_all(&snapshots).map_err(StoreError::at(&snapshots))?;
        let lock = path.join("in-use");
        let file = File::options().write(true).create(true).truncate(false).open(&lock);
        let in_use = file.and_then(|file| file.lock_shared().map(|()| file)).map_err(StoreError::at(&lock))?;
        let (queue, outbox) = (Queue::open(path.join("queue"))?, Outbox::open(path)?);
        Ok(Self { path: path.to_owned(), store, queue, outbox, in_use: Arc::new(in_use) })
    }

    /// This process uses the replica no longer.
    pub(crate) fn leave(&self) {
        // Otherwise the end of the process releases it.
        let _ = self.in_use.unlock();
    }

    /// While this is held, no other process uses the replica; `None`: one does.
    pub(crate) fn use_alone(&self) -> Result<Option<Alone<'_>>, StoreError> {
        let at = |error| StoreError::at(&self.path.join("in-use"))(error);
        // The lock that is shared becomes one that isn't, or comes back.
        self.in_use.unlock().map_err(at)?;
        match self.in_use.try_lock() {
            Ok(()) => Ok(Some(Alone(&self.in_use))),
            Err(TryLockError::WouldBlock) => self.in_use.lock_shared().map(|()| None).map_err(at),
            Err(TryLockError::Error(error)) => Err(at(error)),
        }
    }

    /// What the store has, for the device: as it was noted, and what was not.
    pub(crate) fn kept(&self, noted: Vec<KeptDocument>) -> Result<Vec<KeptDocument>, StoreError> {
        let unsent: BTreeSet<DocumentId> = self.store.unsent()?.into_iter().collect();
        let mut noted: BTreeMap<DocumentId, KeptDocument> =
            noted.into_iter().map(|kept| (kept.document, kept)).collect();
        let files = self.store.files()?.into_iter().map(|(document, bytes, written)| {
            let kept = noted.remove(&document);
            let at = written.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
            KeptDocument {
                document,
                bytes,
                unsent: unsent.contains(&document),
                used: kept.as_ref().map_or(Timestamp(u64::try_from(at).unwrap_or(0)), |kept| kept.used),
                heads: kept.map(|kept| kept.heads).unwrap_or_default(),
            }
        });
        Ok(files.collect())
    }

    /// Keeps the end of a conversation. It need not survive a power cut.
    pub(crate) fn keep_snapshot(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let (folder, name) = (self.path.join(SNAPSHOTS), snapshot.session.to_string());
        let (path, next) = (folder.join(&name), folder.join(format!(".{name}.{}", random_id())));
        let written = fs::write(&next, snapshot.encode()).and_then(|()| fs::rename(&next, &path));
        written.map_err(|error| {
            let _ = fs::remove_file(&next);
            StoreError::at(&path)(error)
        })
    }

    /// The end of a conversation, as it was kept last.
    pub(crate) fn snapshot(&self, session: DocumentId) -> Option<Snapshot> {
        fs::read(self.snapshot_path(session)).ok().and_then(|bytes| Snapshot::decode(&bytes))
    }

    /// Drops a document with what is kept beside it, unless something of it is unsent.
    pub(crate) async fn drop_document(&self, document: DocumentId) -> Result<(), StoreError> {
        let snapshot = self.snapshot_path(document);
        let dropped = self.store.blocking(move |inner| {
            let dropped = inner.drop_document(document)?;
            if dropped { queue::remove(&snapshot) } else { Ok(()) }
        });
        dropped.await
    }

    fn snapshot_path(&self, session: DocumentId) -> PathBuf {
        self.path.join(SNAPSHOTS).join(session.to_string())
    }

    /// Bytes of documents, snapshots and blobs.
    pub(crate) fn bytes(&self) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for name in ["documents", SNAPSHOTS, "blobs"] {
            let folder = self.path.join(name);
            let files = fs::read_dir(&folder).map_err(StoreError::at(&folder))?;
            bytes += files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum::<u64>();
        }
        Ok(bytes)
    }

    /// Who the device is, if it has ever met its relay.
    pub(crate) fn identity(&self) -> Option<Welcome> {
        self.read("identity")
    }

    /// Whether the replica may be shown to a relay that serves this workspace: it is of that one, or of none yet.
    pub(crate) fn is_of(&self, workspace: DocumentId) -> Result<bool, StoreError> {
        let path = self.path.join("workspace");
        match fs::read_to_string(&path) {
            Ok(kept) => Ok(kept.trim() == workspace.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(StoreError::at(&path)(error)),
        }
    }

    /// Keeps who the device is.
    pub(crate) fn keep_identity(&self, identity: &Welcome) -> Result<(), StoreError> {
        self.replace("identity", &cbor::encode(identity))?;
        self.replace("workspace", format!("{}\n", identity.workspace_document).as_bytes())
    }

    /// The copy of the catalog.
    pub(crate) fn catalog(&self) -> KeptCatalog {
        self.read("catalog").unwrap_or_default()
    }

    /// Keeps the copy of the catalog. Marks that another process has set meanwhile stay.
    pub(crate) fn keep_catalog(&self, mut catalog: KeptCatalog) -> Result<(), StoreError> {
        catalog.marks.merge(self.catalog().marks);
        self.replace("catalog", &cbor::encode(&catalog))
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(file = %path.display(), %error, "can't be read");
                }
                return None;
            }
        };
        let read = cbor::decode(&bytes);
        if let Err(error) = &read {
            tracing::warn!(file = %path.display(), %error, "is not what this version writes; it is made anew");
        }
        read.ok()
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        replace(&self.path, name, bytes)
    }
}

/// See [`Folder::use_alone`].
pub(crate) struct Alone<'a>(&'a File);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // On failure the lock is lost: others may then drop what this process has open, and the relay brings it again.
        if self.0.unlock().and_then(|()| self.0.lock_shared()).is_err() {
            tracing::warn!("the lock of the replica is lost");
        }
    }
}

/// Puts a whole file in the place of another. What is in it is on the disk on return; its name may not be.
pub(crate) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let (path, next) = (folder.join(name), folder.join(format!(".{name}.{}", random_id())));
    let written = File::create(&next)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_data()))
        .and_then(|()| fs::rename(&next, &path));
    written.map_err(|error| {
        let _ = fs::remove_file(&next);
        StoreError::at(&path)(error)
    })
}
