//! The worker's end of the relay: its replica, its questions on `/catalog` and their answers, its blobs, and for each
//! session under way a word when something about it has changed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use automerge::AutomergeError;
use automerge::transaction::Transaction;
use bytes::Bytes;
use skein_client::{Client, Event};
use skein_engine::device::{Device, DeviceError, Effects, Notice};
use skein_engine::ids::{DocumentId, Epoch, Timestamp};
use skein_engine::wire::catalog::{FromRelay, ToRelay, Trigger};
use skein_engine::wire::ephemeral::Ephemeral;
use tokio::sync::{oneshot, watch};

/// How long an answer of the relay is waited for.
const ANSWER: Duration = Duration::from_secs(10);

/// What has happened to a session; each count only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its document, lease or writers have changed.
    pub changes: u64,
    /// What the relay has of this replica's writing may have changed.
    pub acknowledgements: u64,
    /// A viewer asks for the uncommitted text.
    pub tail_requests: u64,
    /// The highest epoch whose lease was lost.
    pub lost: Option<Epoch>,
}

/// Why the relay's answer isn't there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the relay did not answer")]
pub struct Unanswered;

/// See the module.
pub struct Link {
    client: Client,
    asks: Mutex<HashMap<u64, oneshot::Sender<FromRelay>>>,
    next: AtomicU64,
    watched: Mutex<HashMap<DocumentId, watch::Sender<Seen>>>,
    triggers: Mutex<Vec<Trigger>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Around a client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            asks: Mutex::default(),
            next: AtomicU64::new(1),
            watched: Mutex::default(),
            triggers: Mutex::default(),
        }
    }

    /// Tasks that were triggered from outside, as last heard; each is given out once.
    pub fn triggers(&self) -> Vec<Trigger> {
        std::mem::take(&mut *lock(&self.triggers))
    }

    /// The replica.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Reads from the device.
    pub fn read<T>(&self, read: impl FnOnce(&mut Device, Timestamp) -> T) -> T {
        self.client.read(read)
    }

    /// Watches a session. One watcher a session: a second one ends the first.
    pub fn watch(&self, session: DocumentId) -> watch::Receiver<Seen> {
        let (sender, receiver) = watch::channel(Seen::default());
        lock(&self.watched).insert(session, sender);
        receiver
    }

    /// No longer.
    pub fn unwatch(&self, session: DocumentId) {
        lock(&self.watched).remove(&session);
    }

    /// Passes on what the replica noticed.
    pub fn notice(&self, event: &Event) {
        let changed = |seen: &mut Seen| seen.changes += 1;
        match event {
            Event::Missed => self.tell_all(changed),
            Event::Notice(notice) => match notice {
                Notice::Document(session)
                | Notice::Unavailable(session)
                | Notice::Summary(session)
                | Notice::Purged { session, .. } => {
                    self.tell(*session, changed);
                }
                // Whether something is acknowledged shows here.
                Notice::Sync => self.tell_all(|seen| seen.acknowledgements += 1),
                Notice::Workspace => self.tell_all(changed),
                Notice::Refused { document, message, .. } => {
                    tracing::warn!(%document, message, "the relay refused a change");
                    self.tell(*document, changed);
                }
                Notice::Ephemeral { session, message: Ephemeral::TailRequest } => {
                    self.tell(*session, |seen| seen.tail_requests += 1);
                }
                Notice::Lease(frame) => self.answered(frame),
                Notice::Ephemeral { .. } | Notice::Grew { .. } | Notice::Activity { .. } | Notice::NotPurged { .. } => {
                }
            },
        }
    }

    fn tell(&self, session: DocumentId, what: impl FnOnce(&mut Seen)) {
        if let Some(watcher) = lock(&self.watched).get(&session) {
            watcher.send_modify(what);
        }
    }

    fn tell_all(&self, what: impl Fn(&mut Seen)) {
        lock(&self.watched).values().for_each(|watcher| watcher.send_modify(&what));
    }

    fn answered(&self, frame: &FromRelay) {
        match frame {
            FromRelay::Granted { ask, .. }
            | FromRelay::Busy { ask, .. }
            | FromRelay::Stored { ask }
            | FromRelay::Fired { ask }
            | FromRelay::Taken { ask }
            | FromRelay::Firings { ask, .. }
            | FromRelay::Lives { ask }
            | FromRelay::Refused { ask, .. } => {
                if let Some(waiting) = lock(&self.asks).remove(ask) {
                    // Whoever asked may have given up.
                    let _ = waiting.send(frame.clone());
                }
            }
            FromRelay::Lost { session, epoch } => self.tell(*session, |seen| seen.lost = seen.lost.max(Some(*epoch))),
            FromRelay::Triggered { triggers } => lock(&self.triggers).clone_from(triggers),
            FromRelay::Error { message } => tracing::warn!(message, "the relay complains"),
            _ => {}
        }
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, question: impl FnOnce(u64) -> ToRelay) -> Result<FromRelay, Unanswered> {
        let ask = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.asks).insert(ask, sender);
        self.tell_relay(&question(ask));
        let answer = tokio::time::timeout(ANSWER, receiver).await;
        lock(&self.asks).remove(&ask);
        answer.ok().and_then(Result::ok).ok_or(Unanswered)
    }

    /// Says something that has no answer; dropped while the link is down.
    pub fn tell_relay(&self, frame: &ToRelay) {
        self.client.cast(|device, _| device.ask(frame));
    }

    /// Writes to a document; the change is on its way to the relay when this returns.
    pub fn write<T>(
        &self,
        document: DocumentId,
        write: impl FnOnce(&mut Transaction<'_>) -> Result<T, AutomergeError>,
    ) -> Result<T, DeviceError> {
        let mut written = Err(DeviceError::NotHere(document));
        self.client.cast(|device, _| match device.write(document, write) {
            Ok((value, effects)) => {
                written = Ok(value);
                effects
            }
            Err(error) => {
                written = Err(error);
                Effects::default()
            }
        });
        written
    }

    /// Sends live text, or what else doesn't last.
    pub fn broadcast(&self, document: DocumentId, message: &Ephemeral) {
        self.client.cast(|device, _| device.broadcast(document, message));
    }

    /// Stores a blob on the relay, and gives its name. Durable there when it returns.
    pub async fn put_blob(&self, bytes: Vec<u8>) -> Result<String, String> {
        self.client.send_blob(bytes).await.map(|id| id.to_string()).map_err(|error| error.to_string())
    }

    /// A blob of the relay; `Ok(None)`: it has none of that name. `Err`: it can't be asked just now.
    pub async fn find_blob(&self, hash: &str) -> Result<Option<Bytes>, String> {
        let Ok(id) = hash.parse() else { return Ok(None) };
        self.client.get_blob(id).await.map_err(|error| error.to_string())
    }

    /// A blob of the relay, if it has it and can be reached.
    pub async fn get_blob(&self, hash: &str) -> Option<Bytes> {
        self.client.get_blob(hash.parse().ok()?).await.ok().flatten()
    }
}
