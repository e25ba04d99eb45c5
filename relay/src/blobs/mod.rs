//! Blobs: preambles, attachments, large tool results, by the SHA-256 of their content, apart for each workspace.
//!
//! A blob is written beside its place while its hash is computed, and gets its name only when the hash is right and the
//! bytes are durable. Over HTTP: [`serve`]; collected by [`sweep`]. Invariant: a file with a hash for a name has that content.

pub mod serve;
pub mod sweep;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use skein_engine::blob::{BlobId, MAX_BYTES};
use skein_engine::ids::Timestamp;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use crate::durable;

/// The ending of what is being written.
const PARTIAL: &str = "part";

/// Why a blob was not stored.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Its content has another hash.
    #[error("the content has the SHA-256 {0}, not the one in the address")]
    Hash(BlobId),
    /// It is too large.
    #[error("a blob may have {MAX_BYTES} bytes")]
    TooLarge,
    /// The sender stopped.
    #[error("the upload broke off: {0}")]
    Upload(String),
    /// The disk.
    #[error("the blob can't be stored: {0}")]
    Io(#[from] io::Error),
}

/// Whether a blob was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is stored now.
    Created,
    /// It was there.
    Known,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Blobs {
    folder: PathBuf,
    /// Held while a blob is found or removed: what was found is not removed at once.
    gate: Arc<Mutex<()>>,
}

impl Blobs {
    /// Blobs in this folder. What was being written when the relay stopped is removed.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        for workspace in std::fs::read_dir(folder)? {
            let Ok(files) = std::fs::read_dir(workspace?.path()) else { continue };
            for file in files {
                let path = file?.path();
                if path.extension().is_some_and(|ending| ending == PARTIAL) {
                    std::fs::remove_file(path)?;
                }
            }
        }
        Ok(Self { folder: folder.to_owned(), gate: Arc::default() })
    }

    /// Stores a blob. Durable on return.
    pub async fn put<E: std::fmt::Display>(
        &self,
        workspace: &str,
        id: BlobId,
        content: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Put, BlobError> {
        let folder = self.folder.join(workspace);
        let path = folder.join(id.to_string());
        if self.touch(workspace, id).await? {
            // Read all the same: an answer in the middle of a request costs the sender its connection.
            let mut content = std::pin::pin!(content);
            let mut size = 0;
            while let Some(Ok(bytes)) = content.next().await {
                size += bytes.len() as u64;
                if size > MAX_BYTES {
                    return Err(BlobError::TooLarge);
                }
            }
            return Ok(Put::Known);
        }
        fs::create_dir_all(&folder).await?;
        let partial = folder.join(format!("{}.{PARTIAL}", skein_engine::ids::random_id()));
        let stored = self.write(&partial, id, content).await;
        if let Err(error) = stored {
            let _ = fs::remove_file(&partial).await;
            return Err(error);
        }
        fs::rename(&partial, &path).await?;
        let parent = self.folder.clone();
        let synced = tokio::task::spawn_blocking(move || {
            durable::sync_folder(&folder)?;
            durable::sync_folder(&parent)
        });
        synced.await.map_err(io::Error::other)??;
        Ok(Put::Created)
    }

    async fn write<E: std::fmt::Display>(
        &self,
        path: &Path,
        id: BlobId,
        content: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<(), BlobError> {
        let mut file = File::create(path).await?;
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut content = std::pin::pin!(content);
        while let Some(bytes) = content.next().await {
            let bytes = bytes.map_err(|error| BlobError::Upload(error.to_string()))?;
            size += bytes.len() as u64;
            if size > MAX_BYTES {
                return Err(BlobError::TooLarge);
            }
            hash.update(&bytes);
            file.write_all(&bytes).await?;
        }
        let found = BlobId::from_bytes(hash.finalize().into());
        if found != id {
            return Err(BlobError::Hash(found));
        }
        file.flush().await?;
        file.sync_all().await?;
        Ok(())
    }

    /// Whether a blob is here; if so, it is kept for a while though nobody names it yet.
    pub async fn touch(&self, workspace: &str, id: BlobId) -> io::Result<bool> {
        let path = self.path(workspace, id);
        self.alone(move || match std::fs::File::options().append(true).open(&path) {
            Ok(file) => file.set_modified(SystemTime::now()).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        })
        .await
    }

    /// The blobs of a workspace.
    pub async fn list(&self, workspace: &str) -> io::Result<Vec<BlobId>> {
        let (blobs, workspace) = (self.clone(), workspace.to_owned());
        tokio::task::spawn_blocking(move || blobs.list_now(&workspace)).await.map_err(io::Error::other)?
    }

    /// The same for a thread that may block.
    pub fn list_now(&self, workspace: &str) -> io::Result<Vec<BlobId>> {
        match std::fs::read_dir(self.folder.join(workspace)) {
            Ok(files) => Ok(files.filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Opens a blob for reading, for a thread that may block; `None` if it isn't here. With its size in bytes.
    pub fn open_now(&self, workspace: &str, id: BlobId) -> io::Result<Option<(std::fs::File, u64)>> {
        match std::fs::File::open(self.path(workspace, id)) {
            Ok(file) => file.metadata().map(|about| Some((file, about.len()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a blob that was neither brought nor asked after in the last `ms` milliseconds; whether it did.
    pub async fn remove_untouched(&self, workspace: &str, id: BlobId, now: Timestamp, ms: u64) -> io::Result<bool> {
        let path = self.path(workspace, id);
        self.alone(move || {
            let touched = std::fs::metadata(&path)?.modified()?.duration_since(SystemTime::UNIX_EPOCH);
            let touched = touched.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
            if now.ms_since(Timestamp(touched)) < ms {
                return Ok(false);
            }
            std::fs::remove_file(&path).map(|()| true)
        })
        .await
    }

    fn path(&self, workspace: &str, id: BlobId) -> PathBuf {
        self.folder.join(workspace).join(id.to_string())
    }

    async fn alone<T: Send + 'static>(&self, run: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let gate = self.gate.clone();
        let run = move || {
            let _gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
            run()
        };
        tokio::task::spawn_blocking(run).await.map_err(io::Error::other)?
    }

    /// Opens a blob for reading; `None` if it isn't here. With its size in bytes.
    pub async fn get(&self, workspace: &str, id: BlobId) -> io::Result<Option<(File, u64)>> {
        let (blobs, workspace) = (self.clone(), workspace.to_owned());
        let opened = tokio::task::spawn_blocking(move || blobs.open_now(&workspace, id));
        let found = opened.await.map_err(io::Error::other)??;
        Ok(found.map(|(file, size)| (File::from_std(file), size)))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use tokio::io::AsyncReadExt;

    use super::*;

    fn pieces(content: &[u8]) -> impl Stream<Item = Result<Bytes, Infallible>> {
        let pieces: Vec<_> = content.chunks(3).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        stream::iter(pieces)
    }

    #[tokio::test]
    async fn a_blob_comes_back_as_it_went_in_and_only_in_its_workspace() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let id = BlobId::of(b"some content");
        assert_eq!(blobs.put("w", id, pieces(b"some content")).await.unwrap(), Put::Created);
        assert_eq!(blobs.put("w", id, pieces(b"some content")).await.unwrap(), Put::Known);
        let (mut file, size) = blobs.get("w", id).await.unwrap().unwrap();
        let mut content = String::new();
        file.read_to_string(&mut content).await.unwrap();
        assert_eq!((content.as_str(), size), ("some content", 12));
        assert!(blobs.get("other", id).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_does_not_match_its_name_or_breaks_off_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let id = BlobId::of(b"some content");
        let wrong = blobs.put("w", id, pieces(b"other content")).await;
        assert!(matches!(wrong, Err(BlobError::Hash(found)) if found == BlobId::of(b"other content")));
        let broken = stream::iter([Ok(Bytes::from_static(b"some")), Err("gone")]);
        assert!(matches!(blobs.put("w", id, broken).await, Err(BlobError::Upload(_))));
        assert!(blobs.get("w", id).await.unwrap().is_none());
        assert_eq!(std::fs::read_dir(folder.path().join("w")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_blob_that_is_too_large_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let mebibyte = Bytes::from(vec![0; 1 << 20]);
        let endless = stream::repeat_with(move || Ok::<_, Infallible>(mebibyte.clone()));
        assert!(matches!(blobs.put("w", BlobId::of(b""), endless).await, Err(BlobError::TooLarge)));
    }
}
