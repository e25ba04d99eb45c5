//! Collecting blobs: once a day, and at start, those go that no document of their workspace has named at its heads for
//! thirty days, and that nobody has brought or asked after in that time. The time comes in; what is gone goes out.
//!
//! Which blobs a document names is asked of the projector, and kept with the length of its log, so that only what has
//! changed is read again. Invariant: while a document can't be read, nothing of its workspace goes; and what is not known
//! for certain to have been unnamed for so long counts as named.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skein_engine::blob::BlobId;
use skein_engine::ids::{DocumentId, Scope, Timestamp};
use skein_engine::wire::cbor;
use tokio::sync::watch;

use super::Blobs;
use crate::projector::ProjectorHandle;
use crate::store::log::Log;
use crate::{clock, durable};

/// How long a blob that nobody names is kept.
const KEPT_MS: u64 = 30 * 24 * 3_600_000;
/// Between two sweeps.
const EVERY: Duration = Duration::from_secs(24 * 3_600);
/// What is kept between two sweeps, in the data folder.
const FILE: &str = "blobs-named";

/// See the module.
pub struct Sweeper {
    blobs: Blobs,
    projector: ProjectorHandle,
    log: Log,
    file: PathBuf,
}

/// What is known of a workspace.
#[derive(Default, Serialize, Deserialize)]
struct Known {
    documents: BTreeMap<DocumentId, Named>,
    /// Since when nobody has named it.
    unnamed: BTreeMap<BlobId, Timestamp>,
}

/// What a document named when its log had this length.
#[derive(Serialize, Deserialize)]
struct Named {
    length: u64,
    blobs: BTreeSet<BlobId>,
}

impl Sweeper {
    /// Over these blobs. `data` is the relay's data folder.
    pub fn new(data: &Path, blobs: Blobs, projector: ProjectorHandle, log: Log) -> Self {
        Self { blobs, projector, log, file: data.join(FILE) }
    }

    /// Sweeps every day until the relay stops. `workspaces`: ids and scopes, as of each time.
    pub async fn run(self, workspaces: impl Fn() -> Vec<(String, Scope)>, mut stop: watch::Receiver<bool>) {
        loop {
            let swept = async {
                match self.sweep(&workspaces(), clock::now()).await {
                    Ok(0) => {}
                    Ok(gone) => tracing::info!("{gone} blobs that nobody has named for 30 days were collected"),
                    Err(error) => tracing::warn!("blobs can't be collected: {error}"),
                }
                tokio::time::sleep(EVERY).await;
            };
            tokio::select! {
                () = swept => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// One sweep: how many blobs are gone.
    pub async fn sweep(&self, workspaces: &[(String, Scope)], now: Timestamp) -> io::Result<usize> {
        let mut known = self.read().await?;
        known.retain(|id, _| workspaces.iter().any(|(workspace, _)| workspace == id));
        let mut gone = 0;
        for (workspace, scope) in workspaces {
            let blobs = self.blobs.list(workspace).await?;
            let known = known.entry(workspace.clone()).or_default();
            if !blobs.is_empty() && self.ask(scope, known).await? {
                gone += self.collect(workspace, &blobs, known, now).await?;
            }
        }
        self.keep(known).await?;
        Ok(gone)
    }

    /// Brings up to date what the documents of a workspace name; `false`: one of them can't be read.
    async fn ask(&self, scope: &Scope, known: &mut Known) -> io::Result<bool> {
        let (log, of) = (self.log.clone(), scope.clone());
        let lengths = move || {
            let documents = log.documents_now(&of)?.into_iter();
            let lengths = documents.map(|document| Ok((document, log.length(&of, document)?)));
            lengths.collect::<Result<BTreeMap<DocumentId, u64>, crate::StoreError>>()
        };
        let lengths = tokio::task::spawn_blocking(lengths).await.map_err(io::Error::other)?;
        let lengths = lengths.map_err(io::Error::other)?;
        known.documents.retain(|document, _| lengths.contains_key(document));
        let mut whole = true;
        for (document, length) in lengths {
            if known.documents.get(&document).is_some_and(|named| named.length == length) {
                continue;
            }
            match self.projector.named((scope.clone(), document)).await {
                Ok(blobs) => _ = known.documents.insert(document, Named { length, blobs }),
                Err(why) => {
                    tracing::debug!("no blob of {scope} is collected, since {document} can't be read: {why}");
                    known.documents.remove(&document);
                    whole = false;
                }
            }
        }
        Ok(whole)
    }

    async fn collect(&self, workspace: &str, blobs: &[BlobId], known: &mut Known, now: Timestamp) -> io::Result<usize> {
        let named: BTreeSet<BlobId> = known.documents.values().flat_map(|named| &named.blobs).copied().collect();
        let mut unnamed = BTreeMap::new();
        let mut gone = 0;
        for blob in blobs.iter().filter(|blob| !named.contains(blob)) {
            let since = known.unnamed.get(blob).copied().unwrap_or(now);
            if now.ms_since(since) >= KEPT_MS && self.blobs.remove_untouched(workspace, *blob, now, KEPT_MS).await? {
                gone += 1;
            } else {
                unnamed.insert(*blob, since);
            }
        }
        known.unnamed = unnamed;
        Ok(gone)
    }

    async fn read(&self) -> io::Result<BTreeMap<String, Known>> {
        match tokio::fs::read(&self.file).await {
            // What can't be read is gathered anew, and the thirty days begin anew.
            Ok(bytes) => Ok(cbor::decode(&bytes).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }

    async fn keep(&self, known: BTreeMap<String, Known>) -> io::Result<()> {
        let file = self.file.clone();
        let keeping = move || durable::replace(&file, &cbor::encode(&known));
        tokio::task::spawn_blocking(keeping).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use automerge::transaction::Transactable;
    use automerge::{AutoCommit, ROOT};
    use skein_engine::ids::Principal;
    use skein_engine::storage::{Record, Storage};
    use tempfile::TempDir;

    use super::*;
    use crate::projector;
    use crate::store::ledger::Ledger;

    const DAY: u64 = 24 * 3_600_000;

    struct Stage {
        folder: TempDir,
        log: Log,
        sweeper: Sweeper,
        scope: Scope,
        documents: BTreeMap<DocumentId, AutoCommit>,
        start: Timestamp,
    }

    impl Stage {
        fn new() -> Self {
            let folder = TempDir::new().unwrap();
            let (log, _) = Log::open(&folder.path().join("log")).unwrap();
            let (ledger, _) = Ledger::open(&folder.path().join("ledger")).unwrap();
            let (projector, run) = projector::runner(folder.path(), log.clone(), ledger, |_| {}, None);
            std::thread::spawn(run);
            let blobs = Blobs::open(&folder.path().join("blobs")).unwrap();
            let sweeper = Sweeper::new(folder.path(), blobs, projector, log.clone());
            let (scope, start) = (Scope::from("w/1"), clock::now());
            Self { folder, log, sweeper, scope, documents: BTreeMap::new(), start }
        }

        async fn put(&self, content: &'static [u8]) -> BlobId {
            let id = BlobId::of(content);
            let pieces = futures_util::stream::iter([Ok::<_, io::Error>(bytes::Bytes::from_static(content))]);
            self.sweeper.blobs.put("1", id, pieces).await.unwrap();
            id
        }

        async fn write(&mut self, document: DocumentId, key: &str, value: &str) {
            let written = self.documents.entry(document).or_default();
            let before = written.get_heads();
            written.put(ROOT, key, value).unwrap();
            written.commit();
            let changes = written.get_changes(&before).into_iter();
            let records: Vec<Record> = changes.map(|change| self.record(document, change)).collect();
            self.log.append(&records).await.unwrap();
        }

        fn record(&self, document: DocumentId, mut change: automerge::Change) -> Record {
            Record {
                scope: self.scope.clone(),
                document,
                hash: change.hash(),
                deps: change.deps().to_vec(),
                actor: change.actor_id().clone(),
                seq: change.seq(),
                received_from: Principal::from("p"),
                bytes: change.bytes().into_owned().into(),
            }
        }

        async fn sweep(&self, day: u64) {
            let now = self.start.plus_ms(day * DAY);
            self.sweeper.sweep(&[("1".to_owned(), self.scope.clone())], now).await.unwrap();
        }

        async fn has(&self, blob: BlobId) -> bool {
            self.sweeper.blobs.list("1").await.unwrap().contains(&blob)
        }
    }

    #[tokio::test]
    async fn what_is_named_is_never_collected_and_what_is_not_only_after_thirty_days() {
        let mut stage = Stage::new();
        let [named, unnamed, dropped] = [stage.put(b"named").await, stage.put(b"not").await, stage.put(b"once").await];
        let document = DocumentId::random();
        stage.write(document, "blob", &named.to_string()).await;
        stage.write(document, "other", &dropped.to_string()).await;
        stage.sweep(0).await;
        stage.sweep(29).await;
        assert!(stage.has(unnamed).await);
        stage.write(document, "other", "something else").await;
        stage.sweep(31).await;
        assert!(!stage.has(unnamed).await && stage.has(dropped).await, "its thirty days have just begun");
        stage.sweep(60).await;
        assert!(stage.has(dropped).await);
        stage.sweep(61).await;
        assert!(!stage.has(dropped).await);
        stage.sweep(4_000).await;
        assert!(stage.has(named).await);
    }

    #[tokio::test]
    async fn what_is_named_again_begins_anew() {
        let mut stage = Stage::new();
        let blob = stage.put(b"again").await;
        stage.sweep(0).await;
        stage.sweep(29).await;
        stage.write(DocumentId::random(), "blob", &blob.to_string()).await;
        stage.sweep(30).await;
        let document = *stage.documents.keys().next().unwrap();
        stage.write(document, "blob", "gone").await;
        stage.sweep(31).await;
        stage.sweep(60).await;
        assert!(stage.has(blob).await);
        stage.sweep(61).await;
        assert!(!stage.has(blob).await);
    }

    #[tokio::test]
    async fn a_document_that_cannot_be_read_protects_its_workspace() {
        let stage = Stage::new();
        let blob = stage.put(b"maybe named").await;
        stage.sweep(0).await;
        let (document, mut lacking) = (DocumentId::random(), AutoCommit::new());
        for value in ["first", "second"] {
            lacking.put(ROOT, "value", value).unwrap();
            lacking.commit();
        }
        // What it depends on was lost by the disk.
        let [first, second] = [0, 1].map(|n| lacking.get_changes(&[])[n].clone());
        stage.log.append(&[stage.record(document, second)]).await.unwrap();
        stage.sweep(40).await;
        assert!(stage.has(blob).await);
        stage.log.append(&[stage.record(document, first)]).await.unwrap();
        stage.sweep(41).await;
        assert!(!stage.has(blob).await, "it can be read again, and doesn't name it");
    }

    #[tokio::test]
    async fn what_somebody_has_asked_after_is_kept_for_them() {
        let stage = Stage::new();
        let blob = stage.put(b"wanted").await;
        stage.sweep(0).await;
        // The clock of the disk is the machine's: a sweep in the past finds it touched just now.
        let now = Timestamp(stage.start.0 - 10 * DAY);
        let known = Known { unnamed: [(blob, Timestamp(0))].into(), ..Known::default() };
        stage.sweeper.keep([("1".to_owned(), known)].into()).await.unwrap();
        stage.sweeper.sweep(&[("1".to_owned(), stage.scope.clone())], now).await.unwrap();
        assert!(stage.has(blob).await);
        assert!(stage.folder.path().join(FILE).exists());
    }
}
