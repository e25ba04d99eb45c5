//! What the tasks of a client share: the device, the queue of its effects, the connection of now.
//!
//! Invariant: effects enter the queue under the device's lock, so in the order in which they arose; the lock is never
//! held across an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use skein_engine::device::{Device, Effects, Notice};
use skein_engine::ids::Timestamp;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};

use crate::blobs::Remote;
use crate::carrier::Job;
use crate::dial::Problem;
use crate::folder::Folder;
use crate::outbox::Outbox;
use crate::store::StoreError;

/// More bytes than this waiting for one socket: the relay doesn't take them, the connection is given up.
const MAX_WAITING: usize = 64 << 20;

/// What has happened, for whoever watches.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The device says so.
    Notice(Notice),
    /// The watcher was too slow, and notices were lost: look at everything anew.
    Missed,
}

/// How the link to the relay is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not tried, by choice.
    Offline,
    /// Being dialed, or greeting.
    Connecting,
    /// Both sockets are up and greeted.
    Up,
    /// Down; tried again unless [`Problem::is_final`].
    Down(Problem),
}

/// Which socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Sync,
    Catalog,
}

/// The queues of one connection's sockets.
pub(crate) struct Connection {
    pub(crate) number: u64,
    pub(crate) sync: mpsc::UnboundedSender<Bytes>,
    pub(crate) catalog: mpsc::UnboundedSender<Bytes>,
    /// Bytes in both queues.
    pub(crate) waiting: Arc<std::sync::atomic::AtomicUsize>,
    pub(crate) hang_up: Option<oneshot::Sender<Problem>>,
}

impl Connection {
    fn hang_up(&mut self, why: Problem) {
        if let Some(hang_up) = self.hang_up.take() {
            // Its task may be ending by itself.
            let _ = hang_up.send(why);
        }
    }
}

pub(crate) struct Shared {
    device: Mutex<Device>,
    pub(crate) jobs: mpsc::UnboundedSender<Job>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) link: watch::Sender<Link>,
    connection: Mutex<Option<Connection>>,
    /// Number of the last connection that began. Written under the device's lock.
    number: std::sync::atomic::AtomicU64,
    pub(crate) folder: Option<Folder>,
    pub(crate) outbox: Outbox,
    /// The relay's blobs; `None`: offline by choice.
    pub(crate) remote: Option<Result<Arc<Remote>, Problem>>,
    /// Told when something new waits in the outbox.
    pub(crate) uploads: Notify,
    wake: watch::Sender<Option<Timestamp>>,
}

impl Shared {
    pub(crate) fn new(
        device: Device,
        folder: Option<Folder>,
        remote: Option<Result<Arc<Remote>, Problem>>,
        jobs: mpsc::UnboundedSender<Job>,
    ) -> Self {
        Self {
            outbox: folder.as_ref().map_or_else(Outbox::in_memory, |folder| folder.outbox.clone()),
            remote,
            uploads: Notify::new(),
            device: Mutex::new(device),
            jobs,
            events: broadcast::Sender::new(8192),
            link: watch::Sender::new(Link::Offline),
            connection: Mutex::new(None),
            number: 0.into(),
            folder,
            wake: watch::Sender::new(None),
        }
    }

    /// The device. A panic while it was held must not take everything else down with it.
    pub(crate) fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step of the device; its effects are on their way when this returns.
    pub(crate) fn step(&self, step: impl FnOnce(&mut Device, Timestamp) -> Effects) {
        let mut device = self.device();
        let effects = step(&mut device, now());
        self.queue(effects, None);
    }

    /// One step that gives something, or fails without effects.
    pub(crate) fn step_with<T, E>(
        &self,
        step: impl FnOnce(&mut Device, Timestamp) -> Result<(T, Effects), E>,
    ) -> Result<(T, oneshot::Receiver<Result<(), StoreError>>), E> {
        let mut device = self.device();
        let (value, effects) = step(&mut device, now())?;
        let (done, durable) = oneshot::channel();
        self.queue(effects, Some(done));
        Ok((value, durable))
    }

    /// Must be called with the device locked.
    fn queue(&self, effects: Effects, done: Option<oneshot::Sender<Result<(), StoreError>>>) {
        let connection = self.number.load(std::sync::atomic::Ordering::Relaxed);
        // The carrier has ended with the client: there is nobody left to be told.
        let _ = self.jobs.send(Job::Effects { effects: Box::new(effects), connection, done });
    }

    /// A connection begins: what the device says from now on goes to it.
    pub(crate) fn begin(&self, connect: impl FnOnce(u64) -> Connection) -> u64 {
        let _device = self.device();
        let number = self.number.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        *self.connection() = Some(connect(number));
        number
    }

    /// The connection has ended.
    pub(crate) fn end(&self) {
        *self.connection() = None;
    }

    fn connection(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message, if its connection still stands.
    pub(crate) fn send(&self, number: u64, path: Path, message: Bytes) {
        let mut connection = self.connection();
        let Some(connection) = connection.as_mut().filter(|connection| connection.number == number) else { return };
        let waiting = connection.waiting.fetch_add(message.len(), std::sync::atomic::Ordering::Relaxed);
        let queue = match path {
            Path::Sync => &connection.sync,
            Path::Catalog => &connection.catalog,
        };
        // A closed queue belongs to a connection that is just ending.
        let _ = queue.send(message);
        if waiting > MAX_WAITING {
            connection.hang_up(Problem::passing("the relay does not take what is sent to it"));
        }
    }

    /// Ends a connection, if it still stands.
    pub(crate) fn hang_up(&self, number: u64, why: Problem) {
        let mut connection = self.connection();
        if let Some(connection) = connection.as_mut().filter(|connection| connection.number == number) {
            connection.hang_up(why);
        }
    }

    /// Wakes the device at that time, or sooner.
    pub(crate) fn wake_at(&self, at: Timestamp) {
        self.wake.send_if_modified(|wake| {
            let sooner = wake.is_none_or(|wake| at < wake);
            if sooner {
                *wake = Some(at);
            }
            sooner
        });
    }

    /// Wakes the device whenever it asked for that; runs until it is dropped.
    pub(crate) async fn wakes(&self) {
        let mut wake = self.wake.subscribe();
        loop {
            let at = *wake.borrow_and_update();
            let sleep = async {
                match at {
                    Some(at) => tokio::time::sleep(std::time::Duration::from_millis(at.ms_since(now()))).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {
                    self.wake.send_if_modified(|wake| wake.take_if(|wake| Some(*wake) == at).is_some());
                    self.step(|device, now| device.wake(now));
                }
                changed = wake.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// The time of this machine.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
