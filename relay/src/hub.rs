//! The task that owns the [`Hub`]: the only place where sync messages are answered. Frames come in from [`socket`]s,
//! records go to the [`commit`] task and come back durable, documents come from the log; nothing here reads one.
//!
//! It never waits for a socket or the disk, so one slow connection or a long fsync holds up nobody. When much waits for
//! the disk it takes no frames for a while. Should the hub ever panic, all connections end and a new one begins: what
//! was acknowledged is in the log, and clients come back.
//!
//! [`socket`]: crate::socket
//! [`commit`]: crate::commit

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use skein_engine::ids::{ActorId, ChangeHash, Epoch, PeerId, Principal, Timestamp, random_id};
use skein_engine::session::conversation::Writer;
use skein_engine::storage::{Record, Storage};
use skein_engine::sync::hub::Key;
use skein_engine::sync::{ConnectionId, ConnectionInfo, Effects, Hub};
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::commit::{Committed, Committer, Group};
use crate::connection::{Event, Inbox};
use crate::outgoing::{Outgoing, Pushed};
use crate::store::StoreError;
use crate::store::ledger::Ledger;
use crate::store::log::Log;

/// With this many bytes waiting for the disk, no frames are taken.
const DISK_BYTES: usize = 64 << 20;
/// A document that can't be read is tried again after at most so long.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Milliseconds between two rounds of dropping quiet documents.
const COLLECT_MS: u64 = 30_000;

/// From a socket.
#[derive(Debug)]
pub enum Frame {
    /// A connection whose token is good.
    Connect(ConnectionId, ConnectionInfo, Outgoing),
    /// Something of it.
    Event(ConnectionId, Event),
}

/// From within the relay.
enum Ask {
    Committed {
        hub: u64,
        stored: Vec<u64>,
        failed: Vec<(u64, String)>,
    },
    Loaded {
        key: Key,
        records: Vec<Record>,
        writers: Vec<(ActorId, Writer)>,
    },
    OfDocument(Key, OfDocument),
    SetLive(Key, Option<(Epoch, Principal)>),
    Purge(Key, oneshot::Sender<Result<(), StoreError>>),
    Stop,
    #[cfg(test)]
    Panic,
}

/// A question that needs the document's graph.
enum OfDocument {
    Heads(oneshot::Sender<Option<Vec<ChangeHash>>>),
    Insert { writer: Writer, change: Bytes, answer: oneshot::Sender<Result<(), String>> },
}

/// The way to the task.
#[derive(Clone)]
pub struct HubHandle {
    /// For sockets.
    pub frames: Inbox<Frame>,
    asks: mpsc::UnboundedSender<Ask>,
}

impl HubHandle {
    /// The durable heads of a document; `None` if there is no such document.
    pub async fn heads(&self, key: Key) -> Option<Vec<ChangeHash>> {
        let (answer, heads) = oneshot::channel();
        self.asks.send(Ask::OfDocument(key, OfDocument::Heads(answer))).ok()?;
        heads.await.ok()?
    }

    /// Stores a change that came otherwise than by `/sync`. `Ok` when it is durable and on its way to followers; else
    /// why not, in words.
    pub async fn insert(&self, key: Key, writer: Writer, change: Bytes) -> Result<(), String> {
        let stopping = || "the relay is stopping, or begins anew".to_owned();
        let (answer, stored) = oneshot::channel();
        let ask = OfDocument::Insert { writer, change, answer };
        self.asks.send(Ask::OfDocument(key, ask)).map_err(|_| stopping())?;
        stored.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Says whose live text of a session is to be believed.
    pub fn set_live(&self, key: Key, live: Option<(Epoch, Principal)>) {
        let _ = self.asks.send(Ask::SetLive(key, live));
    }

    /// Drops a document for good: nothing of it is taken or given out any more. `Ok` when its changes are gone from the
    /// disk.
    pub async fn purge(&self, key: Key) -> Result<(), StoreError> {
        let (answer, purged) = oneshot::channel();
        self.asks.send(Ask::Purge(key, answer)).map_err(|_| StoreError::Closed)?;
        purged.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Says what became of a group.
    pub fn committed(&self, committed: &Committed) {
        let (stored, failed) = (committed.stored.clone(), committed.failed.clone());
        let _ = self.asks.send(Ask::Committed { hub: committed.hub, stored, failed });
    }

    /// Ends the task.
    pub fn stop(&self) {
        let _ = self.asks.send(Ask::Stop);
    }
}

/// The task's ends of its channels.
pub struct Mailbox {
    frames: mpsc::Receiver<Frame>,
    asks: mpsc::UnboundedReceiver<Ask>,
}

/// The way to the task, which is started once the others that it needs are.
pub fn channel() -> (HubHandle, Mailbox) {
    let (frames, frames_end) = Inbox::new();
    let (asks, asks_end) = mpsc::unbounded_channel();
    (HubHandle { frames, asks }, Mailbox { frames: frames_end, asks: asks_end })
}

/// What a thread of its own runs until [`HubHandle::stop`]: the hub is the relay's hot path, and shares data without
/// locks. Documents are read from the log on the runtime that this is called from.
pub fn runner(
    handle: &HubHandle,
    mailbox: Mailbox,
    log: Log,
    ledger: Ledger,
    committer: Committer,
) -> std::io::Result<impl FnOnce() + Send + 'static> {
    let purged: HashSet<Key> =
        ledger.graves().map_err(std::io::Error::other)?.into_iter().map(|(key, _)| key).collect();
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (asks, runtime) = (handle.asks.clone(), tokio::runtime::Handle::current());
    Ok(move || {
        let task = Task {
            hub: new_hub(&purged),
            number: 1,
            live: HashMap::new(),
            purged,
            connections: HashMap::new(),
            waiting: HashMap::new(),
            inserts: HashMap::new(),
            wake: None,
            collect: clock::now().plus_ms(COLLECT_MS),
            committer,
            log,
            ledger,
            asks,
            runtime,
        };
        clock.block_on(task.run(mailbox));
    })
}

fn new_hub(purged: &HashSet<Key>) -> Hub {
    let mut hub = Hub::new(PeerId::from(format!("relay-{}", random_id())));
    for key in purged {
        // It is followed by nobody yet.
        hub.purge(key);
    }
    hub
}

struct Task {
    hub: Hub,
    /// Which hub this is: tickets are its own.
    number: u64,
    /// As told by [`HubHandle::set_live`].
    live: HashMap<Key, (Epoch, Principal)>,
    /// As told by [`HubHandle::purge`], in this start or an earlier one.
    purged: HashSet<Key>,
    connections: HashMap<ConnectionId, Outgoing>,
    /// Questions about documents that are being read from the log.
    waiting: HashMap<Key, Vec<OfDocument>>,
    /// Who waits for which ticket.
    inserts: HashMap<u64, oneshot::Sender<Result<(), String>>>,
    wake: Option<Timestamp>,
    collect: Timestamp,
    committer: Committer,
    log: Log,
    ledger: Ledger,
    asks: mpsc::UnboundedSender<Ask>,
    runtime: tokio::runtime::Handle,
}

impl Task {
    async fn run(mut self, mut mailbox: Mailbox) {
        loop {
            let wake = clock::instant(self.wake.unwrap_or(self.collect).min(self.collect));
            let room = self.committer.waiting() < DISK_BYTES;
            tokio::select! {
                biased;
                ask = mailbox.asks.recv() => match ask {
                    None | Some(Ask::Stop) => break,
                    Some(ask) => self.guarded(|task| task.ask(ask)),
                },
                frame = mailbox.frames.recv(), if room => match frame {
                    None => break,
                    Some(frame) => self.guarded(|task| task.frame(frame)),
                },
                () = tokio::time::sleep_until(wake) => self.guarded(Self::tick),
            }
        }
    }

    /// Does one thing. After a panic nothing that the hub holds is to be trusted: a new one begins.
    fn guarded(&mut self, step: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| step(self))).is_ok() {
            return;
        }
        tracing::error!("the hub has failed: all connections end, and a new one begins");
        self.hub = new_hub(&self.purged);
        self.number += 1;
        self.wake = None;
        for (key, live) in &self.live {
            self.hub.set_live(key, Some(live.clone()));
        }
        for (_, connection) in self.connections.drain() {
            connection.close("the relay begins anew");
        }
        // Whoever waits is told that there is no answer.
        self.waiting.clear();
        self.inserts.clear();
    }

    fn frame(&mut self, frame: Frame) {
        let now = clock::now();
        let effects = match frame {
            Frame::Connect(connection, info, outgoing) => {
                self.connections.insert(connection, outgoing);
                self.hub.connect(now, connection, info)
            }
            Frame::Event(connection, Event::Message(bytes, _share)) => self.hub.receive(now, connection, &bytes),
            Frame::Event(connection, Event::Drained) => self.hub.drained(now, connection),
            Frame::Event(connection, Event::Gone) => {
                self.connections.remove(&connection);
                self.hub.disconnect(now, connection)
            }
        };
        self.carry_out(effects);
    }

    fn ask(&mut self, ask: Ask) {
        let now = clock::now();
        match ask {
            // Tickets of a hub that has failed mean nothing to this one.
            Ask::Committed { hub, .. } if hub != self.number => {}
            Ask::Committed { stored, failed, .. } => {
                let effects = self.hub.stored(now, &stored);
                self.carry_out(effects);
                for (ticket, why) in &failed {
                    let effects = self.hub.not_stored(now, &[*ticket], why);
                    self.carry_out(effects);
                }
                let outcomes = stored.into_iter().map(|ticket| (ticket, Ok(())));
                for (ticket, outcome) in outcomes.chain(failed.into_iter().map(|(ticket, why)| (ticket, Err(why)))) {
                    if let Some(answer) = self.inserts.remove(&ticket) {
                        let _ = answer.send(outcome);
                    }
                }
            }
            Ask::Loaded { key, records, writers } => {
                let effects = self.hub.loaded(now, key.clone(), records, writers);
                self.carry_out(effects);
                for question in self.waiting.remove(&key).unwrap_or_default() {
                    self.answer(&key, question);
                }
            }
            Ask::OfDocument(key, question) => {
                if self.hub.heads(&key).is_some() {
                    self.answer(&key, question);
                } else {
                    self.waiting.entry(key.clone()).or_default().push(question);
                    let effects = self.hub.open(&key);
                    self.carry_out(effects);
                }
            }
            Ask::SetLive(key, live) => {
                self.hub.set_live(&key, live.clone());
                match live {
                    Some(live) => _ = self.live.insert(key, live),
                    None => _ = self.live.remove(&key),
                }
            }
            Ask::Purge(key, answer) => {
                let effects = self.hub.purge(&key);
                self.purged.insert(key.clone());
                self.live.remove(&key);
                self.carry_out(effects);
                for question in self.waiting.remove(&key).unwrap_or_default() {
                    self.answer(&key, question);
                }
                self.committer.drop_document(key, answer);
            }
            Ask::Stop => {}
            #[cfg(test)]
            Ask::Panic => panic!("as a test wants it"),
        }
    }

    /// Answers a question about a document that has been read.
    fn answer(&mut self, key: &Key, question: OfDocument) {
        match question {
            OfDocument::Heads(answer) => {
                let _ = answer.send(self.hub.heads(key).filter(|heads| !heads.is_empty()));
            }
            OfDocument::Insert { writer, change, answer } => {
                let (inserted, effects) = self.hub.insert(clock::now(), key, &writer, change);
                match inserted {
                    Ok(Some(ticket)) => _ = self.inserts.insert(ticket, answer),
                    // It was there already.
                    Ok(None) => _ = answer.send(Ok(())),
                    Err(why) => _ = answer.send(Err(why)),
                }
                self.carry_out(effects);
            }
        }
    }

    fn tick(&mut self) {
        let now = clock::now();
        if self.wake.is_some_and(|wake| wake <= now) {
            self.wake = None;
            let effects = self.hub.wake(now);
            self.carry_out(effects);
        }
        if self.collect <= now {
            self.collect = now.plus_ms(COLLECT_MS);
            self.hub.collect(now);
        }
    }

    fn carry_out(&mut self, effects: Effects) {
        self.wake = [self.wake, effects.wake].into_iter().flatten().min();
        for (connection, message) in effects.send {
            if let Some(outgoing) = self.connections.get(&connection)
                && outgoing.push(message) == Pushed::Congested
            {
                self.hub.congested(connection);
            }
        }
        for (connection, reason) in effects.close {
            if let Some(outgoing) = self.connections.get(&connection) {
                outgoing.close(&reason);
            }
        }
        for key in effects.load {
            self.load(key);
        }
        if !effects.store.is_empty() || !effects.writers.is_empty() {
            self.committer.store(Group { hub: self.number, records: effects.store, writers: effects.writers });
        }
    }

    /// Reads a document. One that can't be read now isn't unknown: whoever wants it waits while that is tried again.
    fn load(&self, key: Key) {
        let (log, ledger, asks) = (self.log.clone(), self.ledger.clone(), self.asks.clone());
        self.runtime.spawn(async move {
            let mut wait = Duration::from_millis(500);
            let (records, writers) = loop {
                match read(&log, &ledger, &key).await {
                    Ok(found) => break found,
                    Err(error) => tracing::error!("{} can't be read, it is tried again: {error}", key.1),
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
                if asks.is_closed() {
                    return;
                }
            };
            let _ = asks.send(Ask::Loaded { key, records, writers });
        });
    }
}

async fn read(log: &Log, ledger: &Ledger, key: &Key) -> Result<(Vec<Record>, Vec<(ActorId, Writer)>), StoreError> {
    let records = log.scan(&key.0, key.1).await?;
    let (ledger, of) = (ledger.clone(), key.clone());
    let writers = tokio::task::spawn_blocking(move || ledger.writers(&of)).await;
    Ok((records, writers.unwrap_or(Err(StoreError::Closed))?))
}

#[cfg(test)]
mod tests {
    use skein_engine::ids::{DocumentId, Scope};
    use skein_engine::session::conversation::{MemberRole, WriterKind};

    use super::*;
    use crate::outgoing::Item;
    use crate::{commit, outgoing};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hub_that_fails_ends_its_connections_and_the_next_one_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(&folder.path().join("log")).unwrap();
        let (ledger, _) = Ledger::open(&folder.path().join("ledger")).unwrap();
        let (hub, mailbox) = channel();
        let told = hub.clone();
        let (committer, _) = commit::start(log.clone(), ledger.clone(), move |committed| told.committed(&committed));
        let runner = runner(&hub, mailbox, log, ledger, committer).unwrap();
        let thread = std::thread::spawn(runner);

        let writer = Writer { principal: Principal::from("x"), kind: WriterKind::Member, role: MemberRole::Owner };
        let scope = Scope::from("w/1");
        let info = ConnectionInfo { scope: scope.clone(), private: vec![], writer: writer.clone(), read_only: false };
        let (sender, mut waiting) = outgoing::channel();
        assert!(hub.frames.send(Frame::Connect(ConnectionId(1), info, sender)).await);
        let key = (scope, DocumentId::random());
        let change = |name: &str| {
            let mut document = automerge::AutoCommit::new();
            automerge::transaction::Transactable::put(&mut document, automerge::ROOT, name, 1).unwrap();
            document.commit();
            Bytes::copy_from_slice(document.get_last_local_change().unwrap().raw_bytes())
        };
        hub.insert(key.clone(), writer.clone(), change("a")).await.unwrap();
        let before = hub.heads(key.clone()).await.unwrap();

        hub.asks.send(Ask::Panic).unwrap_or_else(|_| panic!("the task runs"));
        assert!(matches!(waiting.next().await, Some(Item::Close(_))));
        assert_eq!(hub.heads(key.clone()).await, Some(before));
        hub.insert(key.clone(), writer, change("b")).await.unwrap();
        assert_eq!(hub.heads(key).await.unwrap().len(), 2);
        hub.stop();
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    }
}
