//! Group commit: one task takes whatever waits to be stored, makes it durable with one flush, and says so. There is no
//! timer: the time that the last group took is the window of the next.
//!
//! Invariant: an actor's writer is in the ledger before its first change is in the log, and nobody hears of a change
//! before it is durable. A change that can't be stored fails alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skein_engine::ids::{ActorId, DocumentId, Scope};
use skein_engine::session::conversation::Writer;
use skein_engine::storage::{Record, Storage};
use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;
use crate::store::ledger::Ledger;
use crate::store::log::Log;

/// Bytes of changes that make a group large enough.
const GROUP_BYTES: usize = 8 << 20;
/// What a record costs besides its change.
const OVERHEAD: usize = 256;

type Key = (Scope, DocumentId);

/// Actors seen for the first time.
pub type NewWriters = Vec<(Key, ActorId, Writer)>;

/// What waits to be stored.
#[derive(Debug, Default)]
pub struct Group {
    /// Which hub wants it: its tickets mean nothing to another.
    pub hub: u64,
    /// Records with the tickets under which the hub knows them.
    pub records: Vec<(u64, Record)>,
    /// Actors that they bring.
    pub writers: NewWriters,
}

impl Group {
    fn bytes(&self) -> usize {
        self.records.iter().map(|(_, record)| record.bytes.len() + OVERHEAD).sum()
    }
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Committed {
    /// As in [`Group::hub`].
    pub hub: u64,
    /// Durable.
    pub stored: Vec<u64>,
    /// Not stored, and why.
    pub failed: Vec<(u64, String)>,
    /// The records that are durable now, in order.
    pub records: Vec<Record>,
    /// The writers that are durable now.
    pub writers: NewWriters,
    /// The number of the log's group that holds them.
    pub group: u64,
}

/// What waits, in order.
#[derive(Debug)]
enum Job {
    Store(Group),
    /// Drop all changes of a document.
    Drop(Key, oneshot::Sender<Result<(), StoreError>>),
}

/// The way to the task.
#[derive(Clone, Debug)]
pub struct Committer {
    jobs: mpsc::UnboundedSender<Job>,
    waiting: Arc<AtomicUsize>,
}

impl Committer {
    /// Hands over a group. Earlier groups are stored earlier.
    pub fn store(&self, group: Group) {
        self.waiting.fetch_add(group.bytes(), Ordering::SeqCst);
        // The task ends only after every sender.
        let _ = self.jobs.send(Job::Store(group));
    }

    /// Drops all changes of a document, also those that were handed over before; says when that is durable.
    pub fn drop_document(&self, key: Key, done: oneshot::Sender<Result<(), StoreError>>) {
        let _ = self.jobs.send(Job::Drop(key, done));
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

/// Starts the task; `done` is told of every group, in order. It ends when every [`Committer`] is gone.
pub fn start(
    log: Log,
    ledger: Ledger,
    done: impl Fn(Committed) + Send + 'static,
) -> (Committer, tokio::task::JoinHandle<()>) {
    let (sender, mut jobs) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let committer = Committer { jobs: sender, waiting: waiting.clone() };
    let task = tokio::spawn(async move {
        // Another hub's group, or something else, that was taken from the queue too early.
        let mut ahead: Option<Job> = None;
        while let Some(job) = match ahead.take() {
            Some(job) => Some(job),
            None => jobs.recv().await,
        } {
            let mut group = match job {
                Job::Store(group) => group,
                Job::Drop((scope, document), answer) => {
                    let dropped = log.delete(&scope, document).await;
                    // Whoever asked may be gone; it is dropped all the same.
                    let _ = answer.send(dropped);
                    continue;
                }
            };
            let mut bytes = group.bytes();
            while bytes < GROUP_BYTES
                && let Some(next) = next_of(&mut jobs, group.hub, &mut ahead)
            {
                bytes += next.bytes();
                group.records.extend(next.records);
                group.writers.extend(next.writers);
            }
            let hub = group.hub;
            let committed = Committed { hub, ..commit(&log, &ledger, group).await };
            waiting.fetch_sub(bytes, Ordering::SeqCst);
            done(committed);
        }
    });
    (committer, task)
}

/// What else waits of this hub.
fn next_of(jobs: &mut mpsc::UnboundedReceiver<Job>, hub: u64, ahead: &mut Option<Job>) -> Option<Group> {
    match jobs.try_recv().ok()? {
        Job::Store(next) if next.hub == hub => Some(next),
        other => {
            *ahead = Some(other);
            None
        }
    }
}

async fn commit(log: &Log, ledger: &Ledger, group: Group) -> Committed {
    let Group { records, writers, .. } = group;
    let (tickets, records): (Vec<u64>, Vec<Record>) = records.into_iter().unzip();
    let bound = match writers.is_empty() {
        true => Ok(()),
        false => {
            let (ledger, writers) = (ledger.clone(), writers.clone());
            tokio::task::spawn_blocking(move || ledger.bind(&writers)).await.unwrap_or(Err(StoreError::Closed))
        }
    };
    if let Err(error) = bound {
        return Committed { failed: all(&tickets, &error), ..Committed::default() };
    }
    match log.append(&records).await {
        Ok(()) => Committed {
            stored: tickets,
            records,
            writers,
            group: log.group().saturating_sub(1),
            ..Committed::default()
        },
        Err(error) if error.is_of_one_record() => one_by_one(log, tickets, records, writers).await,
        Err(error) => {
            tracing::error!("{} changes were not stored: {error}", tickets.len());
            Committed { failed: all(&tickets, &error), ..Committed::default() }
        }
    }
}

async fn one_by_one(log: &Log, tickets: Vec<u64>, records: Vec<Record>, writers: NewWriters) -> Committed {
    let mut committed = Committed { writers, ..Committed::default() };
    for (ticket, record) in tickets.into_iter().zip(records) {
        match log.append(std::slice::from_ref(&record)).await {
            Ok(()) => {
                committed.stored.push(ticket);
                committed.records.push(record);
            }
            Err(error) => committed.failed.push((ticket, error.to_string())),
        }
    }
    committed.group = log.group().saturating_sub(1);
    committed
}

fn all(tickets: &[u64], error: &StoreError) -> Vec<(u64, String)> {
    tickets.iter().map(|ticket| (*ticket, error.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use skein_engine::ids::DocumentId;

    use super::*;
    use crate::store::record::tests::record;

    fn opened(folder: &std::path::Path) -> (Log, Ledger) {
        (Log::open(&folder.join("log")).unwrap().0, Ledger::open(&folder.join("ledger")).unwrap().0)
    }

    #[tokio::test]
    async fn what_waits_shares_one_flush() {
        let folder = tempfile::tempdir().unwrap();
        let (log, ledger) = opened(folder.path());
        let (sender, mut done) = mpsc::unbounded_channel();
        let (committer, task) = start(log.clone(), ledger, move |committed| _ = sender.send(committed));
        let document = DocumentId::random();
        for n in 0..200 {
            committer.store(Group {
                hub: 1,
                records: vec![(u64::from(n), record(document, n, &[], 100))],
                writers: vec![],
            });
        }
        drop(committer);
        task.await.unwrap();
        let mut stored = Vec::new();
        while let Some(committed) = done.recv().await {
            stored.extend(committed.stored);
        }
        assert_eq!(stored, (0..200).collect::<Vec<u64>>());
        assert!(log.commits() <= 2, "{} flushes", log.commits());
    }

    #[tokio::test]
    async fn a_change_that_cannot_be_stored_fails_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (log, ledger) = opened(folder.path());
        let (sender, mut done) = mpsc::unbounded_channel();
        let (committer, _task) = start(log, ledger, move |committed| _ = sender.send(committed));
        let document = DocumentId::random();
        let mut bad = record(document, 2, &[], 10);
        bad.actor = vec![0; 70_000].as_slice().into();
        let records = vec![(1, record(document, 1, &[], 10)), (2, bad), (3, record(document, 3, &[], 10))];
        committer.store(Group { hub: 1, records, writers: vec![] });
        let committed = done.recv().await.unwrap();
        assert_eq!(committed.stored, [1, 3]);
        assert_eq!(committed.failed.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), [2]);
        assert_eq!(committer.waiting(), 0);
    }
    #[tokio::test]
    async fn a_dropped_document_is_gone_with_what_waited_before_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (log, ledger) = opened(folder.path());
        let (committer, _task) = start(log.clone(), ledger, |_| ());
        let [gone, stays] = [DocumentId::random(), DocumentId::random()];
        for (n, document) in [(1, gone), (2, stays), (3, gone)] {
            committer.store(Group {
                hub: 1,
                records: vec![(u64::from(n), record(document, n, &[], 100))],
                writers: vec![],
            });
        }
        let (done, dropped) = oneshot::channel();
        let scope = Scope::from("w/1");
        committer.drop_document((scope.clone(), gone), done);
        dropped.await.unwrap().unwrap();
        assert!(!log.holds(&scope, gone).unwrap() && log.holds(&scope, stays).unwrap());
        assert!(!log.uncovered().unwrap().contains(&(scope, gone)));
    }
}
