//! Messages, tool calls and runs as rows that are fast to ask: an SQLite file for each workspace, fed by the projector.
//!
//! In order of reading: [`page`] (what a session says, as rows), [`store`] (a workspace's file, and what is written into
//! it), [`words`] (full text in any script), [`ask`] (filters → rows, pages, reports), [`serve`] (over HTTP). Here the
//! thread that writes.
//!
//! Invariant: a file is a cache. Beside each session stand the heads that it was derived from; what is missing, stale,
//! broken or of another version (moved aside as `….broken`) is derived again from documents. One file holds one workspace, so that no question can
//! reach into another's.

pub mod ask;
pub mod page;
pub mod serve;
pub mod store;
mod words;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use skein_engine::ids::{ChangeHash, DocumentId, Scope};
use skein_engine::session::spent::Spent;
use tokio::sync::mpsc;

use self::page::Page;
use self::store::{QueryError, Store};
use crate::catalog::saved::read_rows;
use crate::projector::ProjectorHandle;
use crate::store::StoreError;
use crate::store::ledger::Ledger;
use crate::store::log::Log;

/// The folder of the files.
pub const FOLDER: &str = "queries";

/// What sessions say and isn't written yet: of each the last.
type Waiting = Arc<Mutex<HashMap<(Scope, DocumentId), Page>>>;

enum Input {
    /// A session's page is waiting.
    Page(Scope, DocumentId),
    Bury {
        scope: Scope,
        session: DocumentId,
        spent: Vec<Spent>,
    },
    /// What was each session of a workspace derived from?
    Heads(Scope, std::sync::mpsc::Sender<HashMap<DocumentId, Vec<ChangeHash>>>),
    /// Answered when everything before is written.
    Settled(std::sync::mpsc::Sender<()>),
    Stop,
}

/// The way to the files.
#[derive(Clone)]
pub struct Queries {
    folder: Arc<Path>,
    waiting: Waiting,
    inputs: mpsc::UnboundedSender<Input>,
}

impl Queries {
    /// The files in a relay's data folder, and what a thread of its own runs until [`Queries::stop`].
    pub fn open(data: &Path) -> (Self, impl FnOnce() + Send + 'static) {
        let folder: Arc<Path> = data.join(FOLDER).into();
        let (inputs, coming) = mpsc::unbounded_channel();
        let waiting = Waiting::default();
        let writer = Writer { folder: folder.clone(), waiting: waiting.clone(), open: HashMap::new() };
        (Self { folder, waiting, inputs }, move || writer.run(coming))
    }

    /// What a session says now.
    pub fn put(&self, page: Page) {
        let key = (page.scope.clone(), page.session);
        // Whoever panicked with it left a whole map.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.insert(key.clone(), page).is_none() {
            let _ = self.inputs.send(Input::Page(key.0, key.1));
        }
    }

    /// A session was purged: what it spent stays.
    pub fn bury(&self, scope: Scope, session: DocumentId, spent: Vec<Spent>) {
        let _ = self.inputs.send(Input::Bury { scope, session, spent });
    }

    /// The heads that each session of a workspace was derived from. Blocks.
    pub fn heads(&self, scope: &Scope) -> HashMap<DocumentId, Vec<ChangeHash>> {
        let (sender, heads) = std::sync::mpsc::channel();
        let asked = self.inputs.send(Input::Heads(scope.clone(), sender));
        // Without the thread nothing is known, and nothing is written either.
        asked.ok().and_then(|()| heads.recv().ok()).unwrap_or_default()
    }

    /// A workspace's file, for questions. Blocks.
    pub fn reader(&self, scope: &Scope) -> Result<Store, QueryError> {
        let path = path(&self.folder, scope);
        let opened = match Store::open(&path) {
            Err(error) if error.is_damage() => {
                // Just after a start, whoever writes may not have looked at it yet.
                self.heads(scope);
                Store::open(&path)
            }
            opened => opened,
        };
        let mut store = opened?;
        store.hurry()?;
        Ok(store)
    }

    /// Waits until everything so far is written. Blocks.
    pub fn settle(&self) {
        let (sender, settled) = std::sync::mpsc::channel();
        if self.inputs.send(Input::Settled(sender)).is_ok() {
            // The thread has ended.
            let _ = settled.recv();
        }
    }

    /// Has everything derived again that is missing or stale, and what was purged buried. Blocks.
    pub fn catch_up(&self, log: &Log, ledger: &Ledger, projector: &ProjectorHandle) -> Result<usize, StoreError> {
        let rows = read_rows(log)?.rows;
        let graves = ledger.graves()?;
        let mut stale = 0;
        let mut buried = HashSet::new();
        for (key, grave) in graves {
            self.bury(key.0.clone(), key.1, grave.tombstone.spent);
            buried.insert(key);
        }
        for (scope, rows) in rows {
            let known = self.heads(&scope);
            let sessions = rows.into_iter().map(|(_, row)| row).filter(|row| row.summary.is_some());
            let standing = sessions.filter(|row| !buried.contains(&(scope.clone(), row.document)));
            for row in standing.filter(|row| known.get(&row.document) != Some(&row.heads)) {
                stale += 1;
                projector.again((scope.clone(), row.document), 0);
            }
        }
        Ok(stale)
    }

    /// Ends the thread.
    pub fn stop(&self) {
        let _ = self.inputs.send(Input::Stop);
    }
}

/// Where a workspace's file is. Scopes are the relay's own: a letter and an id.
fn path(folder: &Path, scope: &Scope) -> PathBuf {
    folder.join(format!("{}.sqlite", scope.as_str().replace('/', "-")))
}

/// The one that makes files, writes them and moves broken ones aside; whoever asks only reads.
struct Writer {
    folder: Arc<Path>,
    waiting: Waiting,
    open: HashMap<Scope, Store>,
}

impl Writer {
    fn run(mut self, mut inputs: mpsc::UnboundedReceiver<Input>) {
        while let Some(input) = inputs.blocking_recv() {
            let (scope, outcome) = match input {
                Input::Stop => return,
                Input::Settled(settled) => {
                    let _ = settled.send(());
                    continue;
                }
                Input::Heads(scope, answer) => {
                    let told = self.with(&scope, |store| {
                        let _ = answer.send(store.heads()?);
                        Ok(())
                    });
                    (scope, told)
                }
                Input::Page(scope, session) => {
                    let key = (scope, session);
                    let page = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                    let put = page.map_or(Ok(()), |page| self.with(&key.0, |store| store.put(&page)));
                    (key.0, put)
                }
                Input::Bury { scope, session, spent } => {
                    (scope.clone(), self.with(&scope, |store| store.bury(session, &spent)))
                }
            };
            if let Err(error) = outcome {
                // What is missing is found by its heads at the next start.
                tracing::error!(%error, "the queries of {} could not be written", scope.as_str());
                self.open.remove(&scope);
            }
        }
    }

    fn with(
        &mut self,
        scope: &Scope,
        act: impl FnOnce(&mut Store) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        if !self.open.contains_key(scope) {
            std::fs::create_dir_all(&self.folder).map_err(QueryError::Folder)?;
            self.open.insert(scope.clone(), Store::own(&path(&self.folder, scope))?);
        }
        let store = self.open.get_mut(scope).expect("it was opened just now");
        act(store)
    }
}
