//! Blobs on this device: those that wait for the relay, and those that were fetched from it. A file for each, named by
//! its hash, and a note beside for each that the relay isn't known to have.
//!
//! Invariant: a blob is on the disk before its note, and its note before anything names it; the note goes when the relay
//! has acknowledged the blob. What is read back is what its name says, or nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use skein_engine::blob::BlobId;

use crate::folder::replace;
use crate::queue::remove;
use crate::store::{StoreError, sync_folder};

/// Bytes of blobs that the relay has, too, which [`Outbox::drop_cached`] leaves.
const CACHED_BYTES: u64 = 64 << 20;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum Outbox {
    /// In a folder.
    Files { blobs: PathBuf, notes: PathBuf },
    /// Of a replica in memory: what waits, and nothing else.
    Memory(Arc<Mutex<BTreeMap<BlobId, Bytes>>>),
}

impl Outbox {
    /// In the folder of a replica.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let (blobs, notes) = (folder.join("blobs"), folder.join("outbox"));
        for folder in [&blobs, &notes] {
            fs::create_dir_all(folder).map_err(StoreError::at(folder))?;
        }
        Ok(Self::Files { blobs, notes })
    }

    /// Of a replica in memory.
    pub(crate) fn in_memory() -> Self {
        Self::Memory(Arc::default())
    }

    /// Keeps a blob until the relay has it. Durable on return.
    pub(crate) fn put(&self, id: BlobId, bytes: &Bytes) -> Result<(), StoreError> {
        match self {
            Self::Memory(waiting) => {
                lock(waiting).insert(id, bytes.clone());
                Ok(())
            }
            Self::Files { notes, .. } => {
                self.keep(id, bytes)?;
                let note = notes.join(id.to_string());
                File::create(&note).map_err(StoreError::at(&note))?;
                sync_folder(notes)
            }
        }
    }

    /// Keeps what was fetched.
    pub(crate) fn keep(&self, id: BlobId, bytes: &Bytes) -> Result<(), StoreError> {
        let Self::Files { blobs, .. } = self else { return Ok(()) };
        let name = id.to_string();
        if self.get(id)?.is_none() {
            replace(blobs, &name, bytes)?;
            sync_folder(blobs)?;
        }
        Ok(())
    }

    /// A blob that is here.
    pub(crate) fn get(&self, id: BlobId) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::Memory(waiting) => Ok(lock(waiting).get(&id).cloned()),
            Self::Files { blobs, .. } => {
                let path = blobs.join(id.to_string());
                match fs::read(&path) {
                    Ok(bytes) => Ok(Some(Bytes::from(bytes)).filter(|bytes| BlobId::of(bytes) == id)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(StoreError::at(&path)(error)),
                }
            }
        }
    }

    /// Blobs that wait for the relay.
    pub(crate) fn waiting(&self) -> Result<Vec<BlobId>, StoreError> {
        match self {
            Self::Memory(waiting) => Ok(lock(waiting).keys().copied().collect()),
            Self::Files { notes, .. } => {
                let files = fs::read_dir(notes).map_err(StoreError::at(notes))?;
                Ok(files.filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok()).collect())
            }
        }
    }

    /// The relay has it.
    pub(crate) fn sent(&self, id: BlobId) -> Result<(), StoreError> {
        match self {
            Self::Memory(waiting) => {
                lock(waiting).remove(&id);
                Ok(())
            }
            Self::Files { notes, .. } => remove(&notes.join(id.to_string())),
        }
    }

    /// Drops blobs that the relay has, but for the latest.
    pub(crate) fn drop_cached(&self) -> Result<(), StoreError> {
        let Self::Files { blobs, .. } = self else { return Ok(()) };
        let waiting = self.waiting()?;
        let files = fs::read_dir(blobs).map_err(StoreError::at(blobs))?;
        let mut cached: Vec<(SystemTime, u64, PathBuf)> = files
            .filter_map(|file| {
                let file = file.ok()?;
                let id: BlobId = file.file_name().to_str()?.parse().ok()?;
                let about = file.metadata().ok().filter(|_| !waiting.contains(&id))?;
                Some((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len(), file.path()))
            })
            .collect();
        cached.sort_unstable_by(|a, b| b.cmp(a));
        let mut left = CACHED_BYTES;
        for (_, bytes, path) in cached {
            if bytes > left {
                remove(&path)?;
            }
            left = left.saturating_sub(bytes);
        }
        Ok(())
    }
}

fn lock(waiting: &Mutex<BTreeMap<BlobId, Bytes>>) -> std::sync::MutexGuard<'_, BTreeMap<BlobId, Bytes>> {
    // A panic leaves at worst a blob that is uploaded once more.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
