//! Carries a device's effects out, in the order in which they arose: to the store, then to the sockets, then to whoever
//! watches. What is queued meanwhile goes into the store as one group.
//!
//! Invariant: a job is reported done only when its records are on the disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skein_engine::device::{Effects, Notice, RELAY};
use skein_engine::ids::DocumentId;
use skein_engine::storage::{Record, Storage};
use tokio::sync::{mpsc, oneshot};

use crate::dial::Problem;
use crate::folder::KeptCatalog;
use crate::shared::{Event, Path, Shared};
use crate::store::StoreError;

/// The copy of the catalog is kept at most this often, and at the end.
const KEEP_EVERY: Duration = Duration::from_secs(2);
/// Jobs that go into one group.
const MAX_GROUP: usize = 1024;

/// One step of the device, to be carried out.
pub(crate) enum Job {
    /// What it asks for.
    Effects {
        effects: Effects,
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
    let mut carrier = Carrier { shared, kept: Instant::now(), dirty: false, failed: Vec::new(), unsent };
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
                Job::Effects { effects, connection, done } => steps.push((effects, connection, done)),
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
    /// Documents noted as unsent in the store.
    unsent: BTreeSet<DocumentId>,
}

impl Carrier {
    async fn carry(&mut self, mut steps: Vec<Step>) {
        let stored = self.store(steps.iter_mut().flat_map(|(effects, ..)| std::mem::take(&mut effects.store))).await;
        for (effects, connection, done) in steps {
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
                let _ = done.send(stored.clone());
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
        let kept = {
            let device = self.shared.device();
            if !device.identity().is_some_and(|identity| identity.is_bound()) {
                return;
            }
            let (rows, cursor) = device.catalog_rows();
            KeptCatalog { cursor, rows, writers: device.writer_rows() }
        };
        let written = tokio::task::spawn_blocking(move || folder.keep_catalog(&kept)).await;
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
    shared.step(|device, now| device.loaded(now, document, records));
}
