//! Carries a device's effects out, in the order in which they arose: to the store, then to the sockets, then to whoever
//! watches. What is queued meanwhile goes into the store as one group.
//!
//! Invariant: a job is reported done only when its records are on the disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skein_engine::device::{Effects, Notice, QueueWrite, RELAY};
use skein_engine::ids::{ChangeHash, DocumentId};
use skein_engine::storage::{Record, Storage};
use tokio::sync::{mpsc, oneshot};

use crate::dial::Problem;
use crate::folder::KeptCatalog;
use crate::shared::{Event, Path, Shared, now};
use crate::store::StoreError;

/// The copy of the catalog is kept at most this often, and at the end.
const KEEP_EVERY: Duration = Duration::from_secs(2);
/// Jobs that go into one group.
const MAX_GROUP: usize = 1024;

/// One step of the device, to be carried out.
pub(crate) enum Job {
    /// What it asks for.
    Effects {
        effects: Box<Effects>,
        /// The connection during which it arose: what it sends goes there or nowhere.
        connection: u64,
        /// Told when it is durable.
        done: Option<oneshot::Sender<Result<(), StoreError>>>,
    },
    /// Keep the copy of the catalog and end.
    End(oneshot::Sender<()>),
}

/// Runs until [`Job::End`].
pub(crate) async fn run(shared: Arc<Shared>, mut jobs: mpsc::UnboundedReceiver<Job>, unsent: BTreeSet<DocumentId>) {
    let mut carrier =
        Carrier { shared, kept: Instant::now(), dirty: false, failed: Vec::new(), failed_queue: Vec::new(), unsent };
    let mut group = Vec::new();
    loop {
        let wait = if carrier.dirty { KEEP_EVERY } else { Duration::from_secs(3600) };
        match tokio::time::timeout(wait, jobs.recv_many(&mut group, MAX_GROUP)).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(_) => {
                carrier.keep_catalog().await;
                continue;
            }
        }
        let mut steps = Vec::with_capacity(group.len());
        let mut end = None;
        for job in group.drain(..) {
            match job {
                Job::Effects { effects, connection, done } => steps.push((*effects, connection, done)),
                Job::End(done) => end = Some(done),
            }
        }
        carrier.carry(steps).await;
        if let Some(done) = end {
            carrier.keep_catalog().await;
            // Whoever asked may be gone; it has ended all the same.
            let _ = done.send(());
            return;
        }
        if carrier.dirty && carrier.kept.elapsed() > KEEP_EVERY {
            carrier.keep_catalog().await;
        }
    }
}

type Step = (Effects, u64, Option<oneshot::Sender<Result<(), StoreError>>>);

struct Carrier {
    shared: Arc<Shared>,
    kept: Instant,
    /// The copy of the catalog has changed since it was kept.
    dirty: bool,
    /// Records that could not be stored: they go first into the next group, since later ones depend on them.
    failed: Vec<Record>,
    /// What could not be written of the queue of commands: it goes first, too.
    failed_queue: Vec<QueueWrite>,
    /// Documents noted as unsent in the store.
    unsent: BTreeSet<DocumentId>,
}

impl Carrier {
    async fn carry(&mut self, mut steps: Vec<Step>) {
        let stored = self.store(steps.iter_mut().flat_map(|(effects, ..)| std::mem::take(&mut effects.store))).await;
        let stored = match stored {
            Ok(()) => {
                self.store_queue(steps.iter_mut().flat_map(|(effects, ..)| std::mem::take(&mut effects.queue))).await
            }
            // What is done is taken out of the queue only when it is stored.
            Err(error) => {
                let writes = steps.iter_mut().flat_map(|(effects, ..)| std::mem::take(&mut effects.queue));
                self.failed_queue.extend(writes);
                Err(error)
            }
        };
        for (mut effects, connection, done) in steps {
            let discarded = self.discard(std::mem::take(&mut effects.discard)).await;
            self.drop_documents(&effects.drop).await;
            for session in &effects.arrived {
                tokio::spawn(do_waiting(self.shared.clone(), *session));
            }
            self.send(&effects, connection);
            for document in effects.load {
                tokio::spawn(load(self.shared.clone(), document));
            }
            if let Some(at) = effects.wake {
                self.shared.wake_at(at);
            }
            for notice in effects.notices {
                self.dirty |= matches!(notice, Notice::Summary(_) | Notice::Document(_) | Notice::Workspace);
                // Nobody watching is no fault.
                let _ = self.shared.events.send(Event::Notice(notice));
            }
            if let Some(done) = done {
                // A caller that went away needs no answer.
                let _ = done.send(stored.clone().and(discarded));
            }
        }
        self.note_sent().await;
    }

    async fn store(&mut self, records: impl Iterator<Item = Record>) -> Result<(), StoreError> {
        let Some(folder) = &self.shared.folder else { return Ok(()) };
        let mut group = std::mem::take(&mut self.failed);
        group.extend(records);
        if group.is_empty() {
            return Ok(());
        }
        self.unsent.extend(group.iter().filter(|r| r.received_from.as_str() != RELAY).map(|record| record.document));
        let appended = folder.store.append(&group).await;
        if let Err(error) = &appended {
            tracing::error!(%error, "changes can't be saved on this device");
            self.failed = group;
            self.shared.device().store_failed();
        }
        appended
    }

    async fn store_queue(&mut self, writes: impl Iterator<Item = QueueWrite>) -> Result<(), StoreError> {
        let Some(folder) = self.shared.folder.clone() else { return Ok(()) };
        let mut group = std::mem::take(&mut self.failed_queue);
        group.extend(writes);
        if group.is_empty() {
            return Ok(());
        }
        let writes = group.clone();
        let written = folder.store.blocking(move |_| folder.queue.write(&writes)).await;
        if let Err(error) = &written {
            tracing::error!(%error, "commands that wait can't be saved on this device");
            self.failed_queue = group;
        }
        written
    }

    async fn discard(&mut self, changes: Vec<(DocumentId, Vec<ChangeHash>)>) -> Result<(), StoreError> {
        let Some(folder) = self.shared.folder.clone() else { return Ok(()) };
        for (document, gone) in changes {
            let gone = BTreeSet::from_iter(gone);
            self.failed.retain(|record| record.document != document || !gone.contains(&record.hash));
            let scope = self.shared.device().scope(document);
            folder.store.discard(&scope, document, gone).await?;
        }
        Ok(())
    }

    async fn drop_documents(&self, documents: &[DocumentId]) {
        let Some(folder) = &self.shared.folder else { return };
        for document in documents {
            if let Err(error) = folder.drop_document(*document).await {
                tracing::warn!(%error, "a document can't be dropped");
            }
        }
    }

    fn send(&self, effects: &Effects, connection: u64) {
        for (path, messages) in [(Path::Catalog, &effects.catalog), (Path::Sync, &effects.sync)] {
            for message in messages {
                self.shared.send(connection, path, message.clone());
            }
        }
        if let Some(why) = &effects.close_catalog {
            self.shared.hang_up(connection, Problem::lasting(why.clone()));
        } else if let Some(why) = &effects.close_sync {
            self.shared.hang_up(connection, Problem::passing(why.clone()));
        }
    }

    /// Takes back the notes of what the relay has by now.
    async fn note_sent(&mut self) {
        let Some(folder) = self.shared.folder.as_ref().filter(|_| !self.unsent.is_empty()) else { return };
        let sent: Vec<DocumentId> = {
            let device = self.shared.device();
            self.unsent.iter().copied().filter(|document| device.acknowledged(*document)).collect()
        };
        for document in sent {
            self.unsent.remove(&document);
            if let Err(error) = folder.store.sent(document).await {
                tracing::warn!(%error, "a note of what is unsent can't be removed");
            }
        }
    }

    async fn keep_catalog(&mut self) {
        self.kept = Instant::now();
        let Some(folder) = self.shared.folder.clone().filter(|_| std::mem::take(&mut self.dirty)) else { return };
        let snapshots = self.shared.device().take_snapshots(now());
        let kept = {
            let mut device = self.shared.device();
            if !device.identity().is_some_and(|identity| identity.is_bound()) {
                return;
            }
            let (rows, cursor) = device.catalog_rows();
            KeptCatalog {
                cursor,
                rows,
                writers: device.writer_rows(),
                documents: device.kept_documents(),
                marks: device.marks().clone(),
            }
        };
        let written = tokio::task::spawn_blocking(move || {
            snapshots.iter().try_for_each(|snapshot| folder.keep_snapshot(snapshot))?;
            folder.keep_catalog(kept)
        });
        let written = written.await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "the list of sessions can't be kept");
        }
    }
}

/// Reads a document from the store and gives it to the device.
async fn load(shared: Arc<Shared>, document: DocumentId) {
    let records = match &shared.folder {
        None => Vec::new(),
        Some(folder) => {
            let scope = shared.device().scope(document);
            folder.store.scan(&scope, document).await.unwrap_or_else(|error| {
                tracing::error!(%error, "a document can't be read; the relay will be asked for it");
                Vec::new()
            })
        }
    };
    // Another process may have written what names a blob that it has put into the outbox: looked for after the document,
    // since it was put there before.
    let waiting = shared.outbox.waiting().unwrap_or_else(|error| {
        tracing::error!(%error, "what waits to be uploaded can't be read");
        Vec::new()
    });
    shared.step(|device, now| {
        let mut effects = Effects::default();
        waiting.into_iter().for_each(|blob| effects += device.blob_waits(blob));
        effects += device.loaded(now, document, records);
        effects
    });
    shared.uploads.notify_one();
}

/// Does what waited for a document that has come, while no other process does.
async fn do_waiting(shared: Arc<Shared>, session: DocumentId) {
    let claimed = match shared.folder.clone() {
        None => None,
        Some(folder) => {
            let store = folder.store.clone();
            let claimed = store.blocking(move |_| {
                let claim = folder.queue.claim()?;
                Ok((claim, folder.queue.ids()?, folder.store.has_grown(session)))
            });
            match claimed.await {
                Ok(claimed) => Some(claimed),
                Err(error) => return tracing::error!(%error, "commands that wait can't be read"),
            }
        }
    };
    let (_claim, queued) = match claimed {
        // What another process has written may be what waits here.
        Some((_, _, true)) => {
            return shared.step(|device, now| device.read_again(now, session));
        }
        Some((claim, queued, false)) => (Some(claim), queued),
        None => (None, shared.device().all_waiting_commands().map(|entry| entry.id.clone()).collect()),
    };
    let done = shared.step_with(|device, now| Ok::<_, StoreError>(((), device.do_waiting(now, session, &queued))));
    if let Ok(((), durable)) = done {
        // The claim is held until another process would find it done.
        let _ = durable.await;
    }
}
