//! The native replica of Skein: the engine's [`Device`] with two sockets and a store of append-only files around it.
//! Worker and command line are built on [`Client`].
//!
//! In order of reading: this file (what callers use), [`shared`] (what the tasks share), [`carrier`] (effects → store,
//! sockets, watchers), [`connection`] and [`dial`] (the link to the relay), [`folder`], [`store`] and [`log`] (what is
//! kept on disk), [`queue`] (commands that wait), [`blobs`] on [`outbox`], [`gc`] (making room).
//!
//! Invariant: nothing here decides anything about sessions, and what [`Client::act`] has returned is on the disk.

mod blobs;
mod carrier;
mod connection;
mod dial;
mod folder;
mod gc;
mod log;
mod outbox;
mod queue;
mod shared;
mod store;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skein_engine::blob::BlobId;
use skein_engine::device::{
    Device, DeviceConfig, DeviceError, Effects, Keeps, KeptDocument, Notice, UNBOUND, WaitingCommand,
};
use skein_engine::ids::{DocumentId, PeerId, Timestamp, random_id};
use skein_engine::session::snapshot::Snapshot;
use skein_engine::wire::catalog::Welcome;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::blobs::Remote;
use crate::carrier::Job;
use crate::connection::Target;
use crate::dial::Address;
use crate::folder::{Folder, KeptCatalog};
use crate::shared::Shared;

pub use dial::Problem;
pub use gc::Collected;
pub use shared::{Event, Link};
pub use store::{FileStore, StoreError};

/// How a client begins.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The relay's address: `http(s)://…`, `ws(s)://…`, or host and port.
    pub relay: String,
    /// Who we are to it.
    pub token: Option<String>,
    /// Folder of the replica; `None`: in memory.
    pub data: Option<PathBuf>,
    /// Which sessions it keeps without being asked.
    pub keeps: Keeps,
    /// Don't connect at all.
    pub offline: bool,
}

/// Why a client could not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The device says no.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The disk says no. The change stands in memory, and is stored with the next one if that works again.
    #[error("not saved on this device: {0}")]
    Store(#[from] StoreError),
    /// A blob above 64 MiB.
    #[error("a file may have 64 MiB")]
    TooLarge,
    /// No connection, with the cause.
    #[error("{0}")]
    Relay(Problem),
    /// The client is closing.
    #[error("the client is closing")]
    Closing,
}

/// See the crate. Clones are the same client.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    _tasks: Arc<Tasks>,
}

/// End with the last clone of the client.
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Client {
    /// Opens the replica and begins to connect.
    pub async fn open(config: ClientConfig) -> Result<Self, ClientError> {
        let address = Address::parse(&config.relay).map_err(ClientError::Relay)?;
        let (folder, left) = match config.data.clone() {
            None => (None, Left::default()),
            Some(path) => {
                let opened = tokio::task::spawn_blocking(move || {
                    let folder = Folder::open(&path)?;
                    let left = Left::read(&folder)?;
                    Ok::<_, StoreError>((folder, left))
                });
                let (folder, left) = opened.await.map_err(|_| ClientError::Closing)??;
                (Some(folder), left)
            }
        };
        let Left { unsent, stored, waiting, blobs, kept, documents } = left;
        // A replica that has never met a relay is its own until it does; without a folder there is nothing to be kept.
        let identity = folder.as_ref().map(|folder| folder.identity().unwrap_or_else(|| Welcome::unbound(UNBOUND)));
        let device = Device::new(DeviceConfig { peer: PeerId::from(random_id()), identity, keeps: config.keeps });

        let (jobs, queue) = mpsc::unbounded_channel();
        let target = Target { address, token: config.token };
        let remote = (!config.offline).then(|| Remote::new(&target).map(Arc::new));
        let shared = Arc::new(Shared::new(device, folder, remote, jobs));
        let mut tasks = vec![tokio::spawn(carrier::run(shared.clone(), queue, BTreeSet::from_iter(unsent.clone())))];
        shared.step(|device, now| {
            for (document, rows) in kept.writers {
                device.restore_writers(document, rows);
            }
            device.restore_marks(kept.marks);
            let listed: BTreeSet<DocumentId> = kept.rows.iter().map(|row| row.document).collect();
            let mut effects = Effects::default();
            blobs.into_iter().for_each(|blob| effects += device.blob_waits(blob));
            device.restore_kept(documents);
            effects += device.restore_catalog(kept.rows, kept.cursor);
            effects += device.restore_queue(waiting);
            // What is unsent shows in every list, and is sent as soon as there is a link. What the copy of the catalog
            // doesn't list would show nowhere otherwise.
            let unlisted = stored.into_iter().filter(|document| !listed.contains(document));
            for document in unsent.into_iter().chain(unlisted) {
                effects += device.open(now, document);
            }
            effects
        });
        let wakes = shared.clone();
        tasks.push(tokio::spawn(async move { wakes.wakes().await }));
        if !config.offline {
            shared.link.send_replace(Link::Connecting);
            tasks.push(tokio::spawn(blobs::upload(shared.clone())));
            tasks.push(tokio::spawn(connection::run(shared.clone(), target)));
        }
        Ok(Self { shared, _tasks: Arc::new(Tasks(tasks)) })
    }

    /// Runs a step on the device and carries out what it asks for. Returns when what had to be stored is durable (with
    /// a replica in memory: at once). The step must not wait for anything.
    pub async fn act<T>(
        &self,
        step: impl FnOnce(&mut Device, Timestamp) -> Result<(T, Effects), DeviceError>,
    ) -> Result<T, ClientError> {
        let (value, durable) = self.shared.step_with(step)?;
        durable.await.map_err(|_| ClientError::Closing)??;
        Ok(value)
    }

    /// Runs a step whose effects need not be waited for.
    pub fn cast(&self, step: impl FnOnce(&mut Device, Timestamp) -> Effects) {
        self.shared.step(step);
    }

    /// Reads from the device.
    pub fn read<T>(&self, read: impl FnOnce(&mut Device, Timestamp) -> T) -> T {
        read(&mut self.shared.device(), shared::now())
    }

    /// What happens from now on.
    pub fn notices(&self) -> Notices {
        Notices(self.shared.events.subscribe())
    }

    /// How the link to the relay is.
    pub fn link(&self) -> Link {
        self.shared.link.borrow().clone()
    }

    /// Waits until both sockets are greeted, at most so long; fails at once where waiting is useless.
    pub async fn connected(&self, within: Duration) -> Result<(), Problem> {
        let mut link = self.shared.link.subscribe();
        let settled = link.wait_for(|link| match link {
            Link::Up | Link::Offline => true,
            Link::Down(problem) => problem.is_final,
            Link::Connecting => false,
        });
        let link = match tokio::time::timeout(within, settled).await {
            Ok(Ok(link)) => link.clone(),
            Ok(Err(_)) => Link::Offline,
            Err(_) => self.link(),
        };
        match link {
            Link::Up => Ok(()),
            Link::Offline => Err(Problem::lasting("this device is offline by choice")),
            Link::Connecting => Err(Problem::passing("the relay does not answer")),
            Link::Down(problem) => Err(problem),
        }
    }

    /// Waits until `done` says something, looking again at every notice; `None` when the time is over.
    pub async fn until<T>(
        &self,
        within: Duration,
        mut done: impl FnMut(&mut Device, Timestamp) -> Option<T>,
    ) -> Option<T> {
        let mut notices = self.notices();
        let looking = async {
            loop {
                if let Some(found) = self.read(&mut done) {
                    return Some(found);
                }
                notices.next().await?;
            }
        };
        tokio::time::timeout(within, looking).await.ok().flatten()
    }

    /// The end of a session's conversation as it was kept last, to be painted while the session is being opened.
    pub fn snapshot(&self, session: DocumentId) -> Option<Snapshot> {
        self.shared.folder.as_ref()?.snapshot(session)
    }

    /// Whether another process has appended to a document since it was read here.
    pub fn has_grown(&self, document: DocumentId) -> bool {
        self.shared.folder.as_ref().is_some_and(|folder| folder.store.has_grown(document))
    }

    /// Keeps what is to be kept and ends the connection.
    pub async fn close(self) {
        let (done, ended) = oneshot::channel();
        if self.shared.jobs.send(Job::End(done)).is_ok() {
            // The carrier ends either way.
            let _ = ended.await;
        }
        if let Some(folder) = &self.shared.folder {
            folder.leave();
        }
    }
}

/// What an earlier start, or another process, has left in the folder.
#[derive(Default)]
struct Left {
    unsent: Vec<DocumentId>,
    stored: Vec<DocumentId>,
    waiting: Vec<WaitingCommand>,
    blobs: Vec<BlobId>,
    kept: KeptCatalog,
    documents: Vec<KeptDocument>,
}

impl Left {
    fn read(folder: &Folder) -> Result<Self, StoreError> {
        let mut kept = folder.catalog();
        Ok(Self {
            unsent: folder.store.unsent()?,
            stored: folder.store.stored()?,
            waiting: folder.queue.entries()?,
            blobs: folder.outbox.waiting()?,
            documents: folder.kept(std::mem::take(&mut kept.documents))?,
            kept,
        })
    }
}

/// The workspace that a relay serves to a token: the id of its document, which names the folder of its replica.
pub async fn workspace_of(relay: &str, token: Option<&str>) -> Result<DocumentId, Problem> {
    let target = Target { address: Address::parse(relay)?, token: token.map(str::to_owned) };
    connection::workspace_of(&target).await
}

/// See [`Client::notices`].
pub struct Notices(broadcast::Receiver<Event>);

impl Notices {
    /// The next event; `None` when the client has ended.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Event::Missed),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next notice that is about a document or about sync, or [`Event::Missed`].
    pub async fn about(&mut self, document: DocumentId) -> Option<Event> {
        loop {
            let event = self.next().await?;
            let concerns = match &event {
                Event::Missed => true,
                Event::Notice(notice) => match notice {
                    Notice::Document(of) | Notice::Summary(of) | Notice::Unavailable(of) => *of == document,
                    Notice::Grew { session, .. }
                    | Notice::Activity { session, .. }
                    | Notice::Ephemeral { session, .. }
                    | Notice::Purged { session, .. }
                    | Notice::NotPurged { session, .. }
                    | Notice::Refused { document: session, .. } => *session == document,
                    Notice::Sync => true,
                    Notice::Workspace | Notice::Lease(_) => false,
                },
            };
            if concerns {
                return Some(event);
            }
        }
    }
}
