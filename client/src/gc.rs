//! Making room in a replica: documents that it need not keep are dropped, and the files of the others are written anew
//! without what a change says itself, without what the disk has damaged, and without what its person has discarded.
//!
//! Invariant: whatever interrupts it, every change that was there, and was to stay, is still there: a new file takes the place of an old
//! one when it is whole, read back and on the disk. While another process has the replica open nothing is
//! dropped, since it may be looking at it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;

use serde::Serialize;
use skein_engine::device::Keeps;
use skein_engine::ids::{ChangeHash, DocumentId, Scope, random_id};

use crate::store::{FileStore, Inner, StoreError, in_order, sync_folder};
use crate::{Client, ClientError, log};

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Collected {
    /// Documents that are kept.
    pub kept: u64,
    /// Documents that were dropped.
    pub dropped: Vec<DocumentId>,
    /// Another process has the replica open: nothing was dropped.
    pub in_use: bool,
    /// Bytes on the disk before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
}

impl Client {
    /// Drops what these limits leave no room for, and writes the files of what is left anew. A replica in memory has
    /// nothing to be collected.
    pub async fn collect(&self, keeps: Keeps) -> Result<Collected, ClientError> {
        let Some(folder) = self.shared.folder.clone() else { return Ok(Collected::default()) };
        let store = folder.store.clone();
        let before = store.files()?;
        let names = |files: &[(DocumentId, u64, _)]| files.iter().map(|(id, ..)| *id).collect::<BTreeSet<_>>();
        let bytes_before = folder.bytes()?;
        let in_use = match folder.use_alone()? {
            None => true,
            Some(_alone) => {
                self.act(|device, _| Ok(((), device.evict(keeps)))).await?;
                folder.outbox.drop_cached()?;
                false
            }
        };
        let scope = self.shared.device().scope(DocumentId::from_bytes([0; 16]));
        for (document, ..) in store.files()? {
            store.compact(&scope, document).await?;
        }
        let after = store.files()?;
        Ok(Collected {
            kept: after.len() as u64,
            dropped: names(&before).difference(&names(&after)).copied().collect(),
            in_use,
            bytes_before,
            bytes_after: folder.bytes()?,
        })
    }
}

impl FileStore {
    /// Writes a document's file anew, if that makes it smaller. Other processes wait meanwhile.
    pub async fn compact(&self, scope: &Scope, document: DocumentId) -> Result<(), StoreError> {
        let scope = scope.clone();
        self.blocking(move |inner| rewrite(inner, &scope, document, None)).await
    }

    /// Takes these changes out of a document's file: their person has let go of them. Durable on return.
    pub async fn discard(
        &self,
        scope: &Scope,
        document: DocumentId,
        gone: BTreeSet<ChangeHash>,
    ) -> Result<(), StoreError> {
        let scope = scope.clone();
        self.blocking(move |inner| rewrite(inner, &scope, document, Some(&gone))).await
    }
}

/// Writes a file anew: without what is `gone`, or, with `None`, if that makes it smaller.
fn rewrite(
    inner: &Inner,
    scope: &Scope,
    document: DocumentId,
    gone: Option<&BTreeSet<ChangeHash>>,
) -> Result<(), StoreError> {
    let _alone = inner.alone()?;
    let path = inner.path(document);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::at(&path)(error)),
    };
    let mut records = in_order(log::scan(&bytes, scope, document).records);
    records.retain(|record| gone.is_none_or(|gone| !gone.contains(&record.hash)));
    let new = log::compact(&records);
    // What can't be read back in the same way stays as it is, as does what is small already.
    let same = log::scan(&new, scope, document).records == records;
    if !same && gone.is_some() {
        let cause = "what was refused can't be taken out: the rest would not be read back as it is".to_owned();
        return Err(StoreError { path, cause });
    }
    if !same || gone.is_none() && new.len() >= bytes.len() {
        return Ok(());
    }
    let next = inner.documents.join(format!(".{document}.{}", random_id()));
    let written = File::create(&next)
        .and_then(|mut file| file.write_all(&new).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&next, &path));
    if let Err(error) = written {
        // A crash leaves it too: it is no document's name, and removed at the next opening.
        let _ = fs::remove_file(&next);
        return Err(StoreError::at(&path)(error));
    }
    sync_folder(&inner.documents)
}
