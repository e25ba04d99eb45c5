//! Commands that wait for their documents, on the disk: a file for each. Several processes may find the same ones;
//! whoever does them holds the lock of the queue, and looks again at what is left.
//!
//! Invariant: on return of [`Queue::write`] it is on the disk.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use skein_engine::device::{QueueWrite, WaitingCommand};
use skein_engine::wire::cbor;

use crate::folder::replace;
use crate::store::{StoreError, sync_folder};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    folder: PathBuf,
}

impl Queue {
    /// In this folder, which is made if it isn't there.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, StoreError> {
        fs::create_dir_all(&folder).map_err(StoreError::at(&folder))?;
        Ok(Self { folder })
    }

    /// What is in it. An entry that can't be read stays where it is, for a later version.
    pub(crate) fn entries(&self) -> Result<Vec<WaitingCommand>, StoreError> {
        let mut entries = Vec::new();
        for name in self.ids()? {
            let path = self.folder.join(&name);
            match fs::read(&path) {
                Ok(bytes) => match cbor::decode(&bytes) {
                    Ok(entry) => entries.push(entry),
                    Err(error) => tracing::warn!(file = %path.display(), %error, "is not what this version writes"),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::at(&path)(error)),
            }
        }
        Ok(entries)
    }

    /// The ids of its entries.
    pub(crate) fn ids(&self) -> Result<BTreeSet<String>, StoreError> {
        let files = fs::read_dir(&self.folder).map_err(StoreError::at(&self.folder))?;
        let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| is_id(name)).collect())
    }

    /// While this is held, no other process does what waits.
    pub(crate) fn claim(&self) -> Result<File, StoreError> {
        let path = self.folder.join(".lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.and_then(|file| file.lock().map(|()| file));
        file.map_err(StoreError::at(&path))
    }

    /// Makes it durable.
    pub(crate) fn write(&self, writes: &[QueueWrite]) -> Result<(), StoreError> {
        for write in writes {
            match write {
                QueueWrite::Keep(entry) => {
                    if !is_id(&entry.id) {
                        continue;
                    }
                    replace(&self.folder, &entry.id, &cbor::encode(entry))?;
                }
                QueueWrite::Drop(id) if is_id(id) => remove(&self.folder.join(id))?,
                QueueWrite::Drop(_) => {}
            }
        }
        if writes.is_empty() { Ok(()) } else { sync_folder(&self.folder) }
    }
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::at(path)(error)),
        _ => Ok(()),
    }
}

/// Ids are letters and digits; whatever else there is belongs to someone else.
fn is_id(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
