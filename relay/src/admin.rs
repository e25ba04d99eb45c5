//! What is done to a data folder while no relay runs on it: all rows derived anew, everything that is stored checked.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use skein_engine::graph::change::ParsedChange;
use skein_engine::ids::{DocumentId, Scope};
use tokio::sync::mpsc;

use crate::accounts::Workspace;
use crate::catalog::rows::Rows;
use crate::catalog::saved::{SavedRow, buried, derived, read_rows};
use crate::config::RelayError;
use crate::projector::Projected;
use crate::queries::{self, Queries};
use crate::relay::Stores;
use crate::store::StoreError;
use crate::store::database::Damage;
use crate::store::log::Log;
use crate::{clock, projector, relay};

/// What [`rebuild_summaries`] has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Documents whose row was derived.
    pub documents: usize,
    /// Rows that say something else now.
    pub changed: usize,
    /// Rows of documents that aren't there.
    pub removed: usize,
    /// Documents that can't be read: their rows say what they said before.
    pub unreadable: usize,
}

/// What [`verify`] has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Documents.
    pub documents: usize,
    /// Changes that are as they came.
    pub changes: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
}

/// The stores of a folder that no relay uses.
struct Opened {
    stores: Stores,
    // Held as long as the stores are open.
    _lock: std::fs::File,
}

impl Opened {
    fn new(data: &Path) -> Result<Self, RelayError> {
        let path = data.join(relay::ACCOUNTS);
        // A folder named by mistake is not made into a relay's.
        std::fs::metadata(&path).map_err(|source| RelayError::Data { path, source })?;
        let lock = relay::lock(data)?;
        Ok(Self { stores: Stores::open(data)?, _lock: lock })
    }
}

/// Derives the row of every document from its changes, whatever the rows say now. No relay may be running on the folder.
pub async fn rebuild_summaries(data: &Path) -> Result<Rebuilt, RelayError> {
    let folder = data.to_owned();
    let opened = blocking(move || Opened::new(&folder)).await?;
    let opened = Arc::new(opened);
    let (done, mut rows) = mpsc::unbounded_channel();
    let told = move |projected: Projected| _ = done.send(projected);
    let (handle, project) =
        projector::runner(data, opened.stores.log.clone(), opened.stores.ledger.clone(), told, None);
    let thread = std::thread::spawn(project);
    let group = opened.stores.log.group().saturating_sub(1);
    let mut rebuilt = Rebuilt::default();
    for scope in opened.stores.accounts.workspaces().iter().map(Workspace::scope) {
        let (of, log) = (scope.clone(), opened.stores.log.clone());
        let documents = blocking(move || Ok(log.documents_now(&of)?)).await?;
        documents.iter().for_each(|document| handle.again((scope.clone(), *document), group));
        // What could not be built is tried again later: such a row may come twice, or while another workspace is done.
        let wanted: HashSet<DocumentId> = documents.into_iter().collect();
        let mut projected = HashMap::with_capacity(wanted.len());
        while projected.len() < wanted.len()
            && let Some(row) = rows.recv().await
        {
            if row.key.0 == scope && wanted.contains(&row.key.1) {
                projected.insert(row.key.1, row);
            }
        }
        let projected = projected.into_values().collect();
        let (of, with) = (scope.clone(), opened.clone());
        rebuilt = blocking(move || put(&with, &of, projected, rebuilt)).await?;
    }
    handle.stop();
    // One that panicked has said so.
    let _ = thread.join();
    blocking(move || {
        opened.stores.close();
        Ok(rebuilt)
    })
    .await
}

fn put(opened: &Opened, scope: &Scope, projected: Vec<Projected>, mut rebuilt: Rebuilt) -> Result<Rebuilt, RelayError> {
    let saved = read_rows(&opened.stores.log)?.rows.remove(scope).unwrap_or_default();
    let mut rows = Rows::new(clock::now(), saved);
    let listed: Vec<DocumentId> = rows.iter().map(|row| row.document).collect();
    let mut there: HashSet<DocumentId> = HashSet::new();
    let graves: HashMap<_, _> = opened.stores.ledger.graves()?.into_iter().filter(|(key, _)| key.0 == *scope).collect();
    for projected in projected.into_iter().filter(|projected| !graves.contains_key(&projected.key)) {
        let (key, group) = (projected.key.clone(), projected.group);
        there.insert(key.1);
        rebuilt.documents += 1;
        rebuilt.unreadable += usize::from(projected.broken);
        let row = derived(projected, rows.get(&key.1));
        let (cursor, news) = rows.put(row.clone());
        rebuilt.changed += usize::from(news);
        SavedRow { cursor, row }.save(&opened.stores.log, &key, group);
    }
    for (key, grave) in graves {
        there.insert(key.1);
        let row = buried(&key, grave);
        let (cursor, news) = rows.put(row.clone());
        rebuilt.changed += usize::from(news);
        SavedRow { cursor, row }.save(&opened.stores.log, &key, opened.stores.log.group());
    }
    for document in listed.into_iter().filter(|document| !there.contains(document)) {
        opened.stores.log.remove_row(&(scope.clone(), document))?;
        rebuilt.removed += 1;
    }
    Ok(rebuilt)
}

/// Makes the queries of every workspace anew, from their documents. How many sessions are in them now. No relay may be
/// running on the folder.
pub async fn rebuild_queries(data: &Path) -> Result<usize, RelayError> {
    let folder = data.to_owned();
    let opened = blocking(move || Opened::new(&folder)).await?;
    let files = data.join(queries::FOLDER);
    match std::fs::remove_dir_all(&files) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(RelayError::Data { path: files, source: error });
        }
        _ => {}
    }
    let (queries, write) = Queries::open(data);
    let pages = queries.clone();
    let (done, mut rows) = mpsc::unbounded_channel();
    let told = move |projected: Projected| _ = done.send(projected.key);
    let (log, ledger) = (opened.stores.log.clone(), opened.stores.ledger.clone());
    let (handle, project) =
        projector::runner(data, log.clone(), ledger.clone(), told, Some(Box::new(move |page| pages.put(page))));
    let threads = [std::thread::spawn(project), std::thread::spawn(write)];
    let (asked, deriving) = (queries.clone(), handle.clone());
    let waiting = blocking(move || Ok(asked.catch_up(&log, &ledger, &deriving)?)).await?;
    let mut read = HashSet::new();
    while read.len() < waiting
        && let Some(key) = rows.recv().await
    {
        read.insert(key);
    }
    handle.stop();
    let settled = queries.clone();
    blocking(move || {
        settled.settle();
        settled.stop();
        // One that panicked has said so.
        threads.into_iter().for_each(|thread| _ = thread.join());
        opened.stores.close();
        Ok(())
    })
    .await?;
    Ok(waiting)
}

/// Reads every change and checks it: its checksum, its hash, that what it depends on is there. No relay may be running
/// on the folder. Nothing is repaired, but a store that can't be opened is moved aside, as at a start.
pub async fn verify(data: &Path) -> Result<Verified, RelayError> {
    let folder = data.to_owned();
    blocking(move || {
        let opened = Opened::new(&folder)?;
        let mut verified =
            Verified { problems: opened.stores.damage.iter().map(Damage::to_string).collect(), ..Verified::default() };
        let listed: HashSet<_> = read_rows(&opened.stores.log)?
            .rows
            .into_iter()
            .flat_map(|(scope, rows)| rows.into_iter().map(move |(_, row)| (scope.clone(), row.document)))
            .collect();
        let uncovered: HashSet<_> = opened.stores.log.uncovered()?.into_iter().collect();
        for scope in opened.stores.scopes() {
            for document in opened.stores.log.documents_now(&scope)? {
                check(&opened.stores.log, &scope, document, &mut verified)?;
                let key = (scope.clone(), document);
                if scope.is_workspace() && !listed.contains(&key) && !uncovered.contains(&key) {
                    verified.problems.push(format!("{document} has no row: run `skein admin rebuild-summaries`"));
                }
            }
        }
        opened.stores.close();
        Ok(verified)
    })
    .await
}

fn check(log: &Log, scope: &Scope, document: DocumentId, verified: &mut Verified) -> Result<(), StoreError> {
    let read = log.read_now(scope, document)?;
    verified.documents += 1;
    let mut problem = |count: usize, what: &str| {
        if count > 0 {
            verified.problems.push(format!("{document}: {count} of its changes {what}"));
        }
    };
    problem(read.damaged, "are damaged on the disk");
    let there: HashSet<_> = read.records.iter().map(|record| record.hash).collect();
    let lacking = read.records.iter().filter(|record| record.deps.iter().any(|dep| !there.contains(dep))).count();
    problem(lacking, "depend on changes that are not there");
    let other = read.records.iter().filter(|record| {
        !ParsedChange::parse(record.bytes.clone())
            .is_ok_and(|change| change.hash == record.hash && change.actor == record.actor && change.seq == record.seq)
    });
    problem(other.count(), "are not what they are stored as");
    verified.changes += read.records.len();
    verified.bytes += read.records.iter().map(|record| record.bytes.len() as u64).sum::<u64>();
    Ok(())
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, RelayError> + Send + 'static,
) -> Result<T, RelayError> {
    tokio::task::spawn_blocking(call).await.unwrap_or_else(|error| Err(RelayError::Workspace(error.to_string())))
}
