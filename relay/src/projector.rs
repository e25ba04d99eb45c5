//! The projector: the only part of the relay that reads documents. Changes that are durable come in, catalog rows go
//! out. Hub and store know nothing of it.
//!
//! It runs on a thread of its own, keeps the documents that were changed last, and applies to them what is new. When
//! idle it answers at once; under load it takes whatever has come meanwhile and derives each document once.
//!
//! What a document does to whoever builds it is not known beforehand, so each is noted in a file first, and built under
//! `catch_unwind`: one that panics is set aside for good, one in whose building the process died three times as well.
//! Changes that can't be applied leave its last summary standing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use automerge::{Automerge, AutomergeError, Change};
use bytes::Bytes;
use skein_engine::blob::BlobId;
use skein_engine::ids::{ActorId, ChangeHash, DocumentId, Epoch, Scope};
use skein_engine::session::conversation::{Leases, Writer, Writers};
use skein_engine::session::spent::{Spent, spent};
use skein_engine::session::{Derived, Summary, blobs, read};
use skein_engine::storage::{Record, Storage};
use skein_engine::workspace::{create_profile, create_workspace};
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::commit::Committed;
use crate::queries::page::Page;
use crate::store::ledger::Ledger;
use crate::store::log::Log;

/// Documents that are kept built.
const KEPT_DOCUMENTS: usize = 48;
/// Bytes of changes in them, all together. (A built document is several times as large.)
const KEPT_BYTES: usize = 8 << 20;
/// Bytes of changes that may wait to be applied. Beyond that they are read from the log again.
const WAITING_BYTES: usize = 32 << 20;
/// A session that changes all the time gives out a page at most this often.
const PAGE_EVERY: Duration = Duration::from_secs(1);
/// Times that the process may die while building a document before it is set aside.
const DEATHS: u32 = 3;

/// Times that a document which could not be built is tried again: after 4, 16 and 64 seconds.
const RETRIES: u32 = 3;

type Key = (Scope, DocumentId);

/// Who gets what sessions say.
pub type Pages = Box<dyn Fn(Page) + Send>;

/// The heads of a session and what it spent.
type Estate = (Vec<ChangeHash>, Vec<Spent>);

/// What a document says, for its row.
#[derive(Clone, Debug)]
pub struct Projected {
    /// The document.
    pub key: Key,
    /// Its heads.
    pub heads: Vec<ChangeHash>,
    /// What lists read, if it is a session.
    pub summary: Option<Summary>,
    /// It could not be built: `summary` says nothing.
    pub broken: bool,
    /// The log's group up to which changes are in it.
    pub group: u64,
}

enum Input {
    /// Changes are durable. `None`: too many are waiting, read the document from the log.
    Changed {
        key: Key,
        records: Option<Vec<Record>>,
        writers: Vec<(ActorId, Writer)>,
        group: u64,
        bytes: usize,
    },
    /// A lease has begun or ended.
    Live(Key, Option<Epoch>),
    /// How many workers of a scope are connected.
    Workers(Scope, u32),
    /// Derive it whatever is known.
    Again(Key, u64),
    /// A deleted session is to be purged: what did it spend?
    Spent(Key, oneshot::Sender<Result<Estate, String>>),
    /// Blobs are to be collected: which does it name?
    Named(Key, oneshot::Sender<Result<BTreeSet<BlobId>, String>>),
    Stop,
}

/// The way to the projector.
#[derive(Clone)]
pub struct ProjectorHandle {
    inputs: mpsc::UnboundedSender<Input>,
    waiting: Arc<AtomicUsize>,
}

impl ProjectorHandle {
    /// These changes and writers are durable.
    pub fn committed(&self, committed: Committed) {
        let mut by_document: BTreeMap<Key, News> = BTreeMap::new();
        for record in committed.records {
            let news = by_document.entry((record.scope.clone(), record.document)).or_default();
            news.records.get_or_insert_default().push(record);
        }
        for (key, actor, writer) in committed.writers {
            by_document.entry(key).or_default().writers.push((actor, writer));
        }
        for (key, News { records, writers, .. }) in by_document {
            let records = records.unwrap_or_default();
            let bytes: usize = records.iter().map(|record| record.bytes.len()).sum();
            let room = self.waiting.fetch_add(bytes, Ordering::SeqCst) + bytes <= WAITING_BYTES;
            let records = room.then_some(records);
            self.tell(Input::Changed { key, records, writers, group: committed.group, bytes });
        }
    }

    /// A session's lease has begun, or ended.
    pub fn live(&self, key: Key, live: Option<Epoch>) {
        self.tell(Input::Live(key, live));
    }

    /// So many workers are connected.
    pub fn workers(&self, scope: Scope, count: u32) {
        self.tell(Input::Workers(scope, count));
    }

    /// Derives a document's row, which holds everything up to this group of the log.
    pub fn again(&self, key: Key, group: u64) {
        self.tell(Input::Again(key, group));
    }

    /// The heads of a deleted session and what it spent; in words why that can't be said.
    pub async fn spent(&self, key: Key) -> Result<Estate, String> {
        let (answer, spent) = oneshot::channel();
        self.tell(Input::Spent(key, answer));
        spent.await.unwrap_or_else(|_| Err("the relay is stopping".to_owned()))
    }

    /// The blobs that a document names at its heads; in words why that can't be said.
    pub async fn named(&self, key: Key) -> Result<BTreeSet<BlobId>, String> {
        let (answer, named) = oneshot::channel();
        self.tell(Input::Named(key, answer));
        named.await.unwrap_or_else(|_| Err("the relay is stopping".to_owned()))
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.tell(Input::Stop);
    }

    fn tell(&self, input: Input) {
        // After its end nothing is derived any more.
        let _ = self.inputs.send(input);
    }
}

/// The way to the projector, and what a thread of its own runs until [`ProjectorHandle::stop`]; `done` gets each row.
/// `pages` what a session says, for queries; `folder` is for the note of what is being built.
pub fn runner(
    folder: &Path,
    log: Log,
    ledger: Ledger,
    done: impl Fn(Projected) + Send + 'static,
    pages: Option<Pages>,
) -> (ProjectorHandle, impl FnOnce() + Send + 'static) {
    let (sender, inputs) = mpsc::unbounded_channel();
    let handle = ProjectorHandle { inputs: sender, waiting: Arc::new(AtomicUsize::new(0)) };
    let waiting = handle.waiting.clone();
    let mut projector = Projector {
        log,
        ledger,
        runtime: tokio::runtime::Handle::current(),
        note: Note { path: folder.join("projecting") },
        kept: HashMap::new(),
        clock: 0,
        live: HashMap::new(),
        workers: HashMap::new(),
        broken: HashSet::new(),
        failures: HashMap::new(),
        inputs: handle.inputs.downgrade(),
        pages,
        paged: HashMap::new(),
    };
    let run = move || {
        projector.after_a_crash();
        projector.run(inputs, &waiting, done);
    };
    (handle, run)
}

struct Projector {
    log: Log,
    ledger: Ledger,
    runtime: tokio::runtime::Handle,
    note: Note,
    kept: HashMap<Key, Built>,
    /// Counts uses, for forgetting what was used longest ago.
    clock: u64,
    live: HashMap<Key, Epoch>,
    workers: HashMap<Scope, u32>,
    /// Set aside, as far as is known without asking the ledger.
    broken: HashSet<Key>,
    /// How often a document in a row could not be built.
    failures: HashMap<Key, u32>,
    /// The way back to itself.
    inputs: mpsc::WeakUnboundedSender<Input>,
    pages: Option<Pages>,
    /// When a session's page was given out last, and whether another is due.
    paged: HashMap<Key, (Instant, bool)>,
}

/// A document that is kept.
struct Built {
    document: Automerge,
    derived: Derived,
    writers: Writers,
    bytes: usize,
    used: u64,
}

/// What has come for one document since it was last derived.
#[derive(Default)]
struct News {
    /// `None`: read it from the log.
    records: Option<Vec<Record>>,
    writers: Vec<(ActorId, Writer)>,
    group: u64,
}

/// Whether a session's page is due; if it is too soon, it is derived again in a moment.
fn may_page(
    paged: &mut HashMap<Key, (Instant, bool)>,
    inputs: &mpsc::WeakUnboundedSender<Input>,
    runtime: &tokio::runtime::Handle,
    key: &Key,
) -> bool {
    // Those that were long ago are forgotten.
    if paged.len() > 1_000 {
        paged.retain(|_, (at, _)| at.elapsed() < PAGE_EVERY);
    }
    let now = Instant::now();
    match paged.get_mut(key) {
        Some((at, waits)) if at.elapsed() < PAGE_EVERY => {
            if !std::mem::replace(waits, true) {
                let (inputs, key, left) = (inputs.clone(), key.clone(), PAGE_EVERY - at.elapsed());
                runtime.spawn(async move {
                    tokio::time::sleep(left).await;
                    if let Some(inputs) = inputs.upgrade() {
                        let _ = inputs.send(Input::Again(key, 0));
                    }
                });
            }
            false
        }
        _ => {
            paged.insert(key.clone(), (now, false));
            true
        }
    }
}

impl Projector {
    fn run(&mut self, mut inputs: mpsc::UnboundedReceiver<Input>, waiting: &AtomicUsize, done: impl Fn(Projected)) {
        while let Some(first) = inputs.blocking_recv() {
            // In order of first mention: what has waited longest comes first.
            let mut order = Vec::new();
            let mut news: HashMap<Key, News> = HashMap::new();
            let mut next = Some(first);
            while let Some(input) = next {
                let (key, records, writers, group) = match input {
                    Input::Stop => return,
                    Input::Changed { key, records, writers, group, bytes } => {
                        waiting.fetch_sub(bytes, Ordering::SeqCst);
                        (key, records, writers, group)
                    }
                    Input::Live(key, live) => {
                        match live {
                            Some(epoch) => _ = self.live.insert(key.clone(), epoch),
                            None => _ = self.live.remove(&key),
                        }
                        (key, Some(Vec::new()), Vec::new(), 0)
                    }
                    Input::Workers(scope, count) => {
                        self.workers.insert(scope, count);
                        next = inputs.try_recv().ok();
                        continue;
                    }
                    Input::Again(key, group) => (key, Some(Vec::new()), Vec::new(), group),
                    Input::Spent(key, answer) => {
                        // Whoever asked may have gone.
                        let _ = answer.send(self.spent(&key));
                        next = inputs.try_recv().ok();
                        continue;
                    }
                    Input::Named(key, answer) => {
                        let _ = answer.send(self.named(&key));
                        next = inputs.try_recv().ok();
                        continue;
                    }
                };
                let known = news.entry(key.clone()).or_insert_with(|| {
                    order.push(key);
                    News { records: Some(Vec::new()), ..News::default() }
                });
                known.records = known.records.take().zip(records).map(|(mut old, new)| {
                    old.extend(new);
                    old
                });
                known.writers.extend(writers);
                known.group = known.group.max(group);
                next = inputs.try_recv().ok();
            }
            for key in order {
                if let Some(news) = news.remove(&key) {
                    done(self.project(key, news));
                }
            }
            self.forget();
        }
    }

    fn project(&mut self, key: Key, news: News) -> Projected {
        let group = news.group;
        if !self.is_set_aside(&key) {
            self.note.begin(&key);
            let derived = catch_unwind(AssertUnwindSafe(|| self.derive(&key, news)));
            self.note.done();
            match derived {
                Ok(Ok((heads, summary))) => {
                    self.failures.remove(&key);
                    return Projected { key, heads, summary, broken: false, group };
                }
                Ok(Err(why)) => {
                    tracing::warn!("{} can't be summarised: {why}", key.1);
                    self.kept.remove(&key);
                    self.try_later(key.clone(), group);
                    let heads = self.heads_by_deps(&key);
                    // It covers nothing: what could not be read now is read again, after a restart too.
                    return Projected { key, heads, summary: None, broken: true, group: 0 };
                }
                Err(_) => self.set_aside(&key, "reading it panicked"),
            }
            self.kept.remove(&key);
        }
        let heads = self.heads_by_deps(&key);
        Projected { key, heads, summary: None, broken: true, group }
    }

    fn derive(&mut self, key: &Key, news: News) -> Result<(Vec<ChangeHash>, Option<Summary>), String> {
        self.clock += 1;
        let leases =
            Leases { live: self.live.get(key).copied(), workers: Some(*self.workers.get(&key.0).unwrap_or(&0)) };
        let mut built = match (self.kept.remove(key), news.records) {
            (Some(mut built), Some(records)) => {
                built.apply(&records)?;
                built.writers.rows.extend(news.writers);
                built
            }
            _ => self.build(key)?,
        };
        built.used = self.clock;
        let heads = built.document.get_heads();
        // Leases are told without a change of the document.
        built.derived.surroundings_changed();
        let Built { document, derived, writers, .. } = &mut built;
        let summary = derived.summary(key.1, document, clock::now(), || (leases.clone(), writers.clone()));
        if let Some(pages) = &self.pages
            && let Some(summary) = &summary
            && may_page(&mut self.paged, &self.inputs, &self.runtime, key)
        {
            let (session, seen) = derived.conversation(document, clock::now(), || (leases, writers.clone()));
            pages(Page::of(key, heads.clone(), summary.name.clone(), session, seen, writers));
        }
        self.kept.insert(key.clone(), built);
        Ok((heads, summary))
    }

    /// From what is durable by now, whatever waits to be applied.
    fn spent(&mut self, key: &Key) -> Result<Estate, String> {
        if self.is_set_aside(key) {
            return Err("the session can't be read".to_owned());
        }
        self.kept.remove(key);
        self.note.begin(key);
        let built = catch_unwind(AssertUnwindSafe(|| {
            let built = self.build(key)?;
            let session = read::session(&built.document);
            match session.deleted_at {
                Some(_) if session.is_session => Ok((built.document.get_heads(), spent(&session, &built.writers))),
                _ => Err("it is not deleted: delete it before you purge it".to_owned()),
            }
        }));
        self.note.done();
        built.unwrap_or_else(|_| {
            self.set_aside(key, "reading it panicked");
            Err("the session can't be read".to_owned())
        })
    }

    /// From what is durable by now, likewise. A document that lacks a change may name what it doesn't show.
    fn named(&mut self, key: &Key) -> Result<BTreeSet<BlobId>, String> {
        if self.is_set_aside(key) {
            return Err("it is set aside".to_owned());
        }
        self.note.begin(key);
        let named = catch_unwind(AssertUnwindSafe(|| {
            let records = self.log.scan_whole(&key.0, key.1).map_err(|error| error.to_string())?;
            let records = records.ok_or("changes of it are missing")?;
            let mut document = Automerge::new();
            document.apply_changes(changes(&records)?).map_err(|error| error.to_string())?;
            Ok(blobs::named(&document))
        }));
        self.note.done();
        named.unwrap_or_else(|_| {
            self.set_aside(key, "reading it panicked");
            Err("reading it panicked".to_owned())
        })
    }

    fn build(&self, key: &Key) -> Result<Built, String> {
        let records = self.runtime.block_on(self.log.scan(&key.0, key.1)).map_err(|error| error.to_string())?;
        let rows = self.ledger.writers(key).map_err(|error| error.to_string())?.into_iter().collect();
        let writers = Writers { rows, own: BTreeMap::new() };
        let derived = Derived::default();
        let mut built = Built { document: Automerge::new(), derived, writers, bytes: 0, used: 0 };
        built.apply(&records)?;
        Ok(built)
    }

    /// What the disk didn't give may come yet. What can't be applied won't, so it isn't tried for long.
    fn try_later(&mut self, key: Key, group: u64) {
        let failures = self.failures.entry(key.clone()).or_insert(0);
        *failures += 1;
        if *failures <= RETRIES {
            let (inputs, wait) = (self.inputs.clone(), Duration::from_secs(1 << (2 * *failures)));
            self.runtime.spawn(async move {
                tokio::time::sleep(wait).await;
                if let Some(inputs) = inputs.upgrade() {
                    let _ = inputs.send(Input::Again(key, group));
                }
            });
        }
    }

    /// The heads of a document that can't be built.
    fn heads_by_deps(&self, key: &Key) -> Vec<ChangeHash> {
        let records = self.runtime.block_on(self.log.scan(&key.0, key.1)).unwrap_or_default();
        let deps: HashSet<ChangeHash> = records.iter().flat_map(|record| record.deps.iter().copied()).collect();
        let mut heads: Vec<_> = records.iter().map(|record| record.hash).filter(|hash| !deps.contains(hash)).collect();
        heads.sort();
        heads
    }

    fn forget(&mut self) {
        let mut bytes: usize = self.kept.values().map(|built| built.bytes).sum();
        while self.kept.len() > KEPT_DOCUMENTS || (bytes > KEPT_BYTES && !self.kept.is_empty()) {
            let oldest = self.kept.iter().min_by_key(|(_, built)| built.used).map(|(key, _)| key.clone());
            let Some(built) = oldest.and_then(|key| self.kept.remove(&key)) else { break };
            bytes -= built.bytes;
        }
    }

    fn is_set_aside(&mut self, key: &Key) -> bool {
        if self.broken.contains(key) {
            return true;
        }
        if self.kept.contains_key(key) {
            return false;
        }
        let known = self.ledger.set_aside(key).ok().flatten().is_some();
        if known {
            self.broken.insert(key.clone());
        }
        known
    }

    fn set_aside(&mut self, key: &Key, why: &str) {
        tracing::error!("the document {} is set aside, it has no summary from now on: {why}", key.1);
        self.broken.insert(key.clone());
        if let Err(error) = self.ledger.put_aside(key, why) {
            tracing::error!("and that can't be recorded: {error}");
        }
    }

    /// Sets aside what was being built each time that the process died.
    fn after_a_crash(&mut self) {
        let Some((key, deaths)) = self.note.read() else { return };
        if deaths >= DEATHS {
            self.set_aside(&key, "the relay died while reading it");
            return self.note.clear();
        }
        // Before any other, or that one's note would take the place of this one's count.
        self.note.begin(&key);
        if catch_unwind(AssertUnwindSafe(|| self.derive(&key, News::default()))).is_err() {
            self.set_aside(&key, "reading it panicked");
            self.kept.remove(&key);
        }
        self.note.done();
    }
}

impl Built {
    fn apply(&mut self, records: &[Record]) -> Result<(), String> {
        self.bytes += records.iter().map(|record| record.bytes.len()).sum::<usize>();
        let changes = changes(records)?;
        self.derived.changed(&changes);
        self.document.apply_changes(changes).map_err(|error| error.to_string())
    }
}

fn changes(records: &[Record]) -> Result<Vec<Change>, String> {
    let change = |record: &Record| {
        let change = Change::from_bytes(record.bytes.to_vec());
        change.map_err(|error| format!("change {}: {error}", record.hash))
    };
    records.iter().map(change).collect()
}

/// The file that names the document being built, and how often the process died in it.
struct Note {
    path: PathBuf,
}

impl Note {
    /// Writes the name. It needs to survive this process, not a power cut.
    fn begin(&self, key: &Key) {
        let deaths = match self.read() {
            Some((known, deaths)) if known == *key => deaths + 1,
            _ => 1,
        };
        self.write(&format!("{deaths} {} {}", key.0, key.1));
    }

    /// Building it went well, or panicked and was recorded.
    fn done(&self) {
        self.write("");
    }

    fn clear(&self) {
        self.write("");
    }

    fn write(&self, text: &str) {
        if let Err(error) = std::fs::write(&self.path, text) {
            tracing::warn!("{} can't be written: {error}", self.path.display());
        }
    }

    fn read(&self) -> Option<(Key, u32)> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let mut words = text.split(' ');
        let (deaths, scope, document) = (words.next()?, words.next()?, words.next()?);
        Some(((Scope::from(scope), document.parse().ok()?), deaths.parse().ok()?))
    }
}

/// The first change of a workspace's document.
pub fn new_workspace(name: &str) -> Result<Bytes, String> {
    first_change(create_workspace(name))
}

/// The first change of a member's profile document.
pub fn new_profile() -> Result<Bytes, String> {
    first_change(create_profile())
}

fn first_change(made: Result<Automerge, AutomergeError>) -> Result<Bytes, String> {
    let document = made.map_err(|error| error.to_string())?;
    let [change] = <[Change; 1]>::try_from(document.get_changes(&[]))
        .map_err(|changes| format!("{} changes instead of one", changes.len()))?;
    Ok(Bytes::copy_from_slice(change.raw_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_counts_deaths_of_one_document_in_a_row() {
        let folder = tempfile::tempdir().unwrap();
        let note = Note { path: folder.path().join("projecting") };
        let [a, b] = [0, 1].map(|_| (Scope::from("w/1"), DocumentId::random()));
        assert_eq!(note.read(), None);
        for deaths in 1..=3 {
            note.begin(&a);
            assert_eq!(note.read(), Some((a.clone(), deaths)));
        }
        note.begin(&b);
        assert_eq!(note.read(), Some((b, 1)));
        note.done();
        assert_eq!(note.read(), None);
    }
}
