//! The log: changes by document, in the order in which they came, and the catalog row that was last derived from them.
//! It is [`Storage`] on sled; nothing else of the relay knows that it is sled, so that a workspace's log can live
//! elsewhere.
//!
//! One tree, so that one batch makes a whole group durable: `c` document number piece → change, `u` document → the
//! group whose changes no row covers yet, `r` document → row. Invariant: a document with changes that its row doesn't
//! cover has a `u`, whatever crashed in between.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use skein_engine::ids::{ChangeHash, DocumentId, Scope};
use skein_engine::storage::{Record, Storage};
use sled::Batch;

use super::database::{Damage, Database};
use super::{StoreError, document_key, read_document_key, record, scope_key};

/// Bytes that sled may keep in memory.
const CACHE: u64 = 64 << 20;
/// Next record numbers kept in memory.
const NUMBERS: usize = 50_000;

/// A document, as the hub names it.
type Key = (Scope, DocumentId);

/// See the module. Clones are the same log.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    database: Database,
    /// The number of the next record, by document.
    next: Mutex<HashMap<Key, u64>>,
    group: AtomicU64,
}

/// A row as it was saved, for the catalog to read at start.
pub struct SavedRow {
    /// Whose.
    pub key: Key,
    /// What [`Log::save_row`] was given.
    pub row: Vec<u8>,
}

/// A document as it stands on the disk.
pub struct ReadDocument {
    /// Its intact changes, in the order in which they came.
    pub records: Vec<Record>,
    /// How many aren't intact.
    pub damaged: usize,
}

impl Log {
    /// Opens the log in a folder; the second value is what was found wrong.
    pub fn open(path: &Path) -> Result<(Self, Option<Damage>), StoreError> {
        let (database, damage) = Database::open(path, CACHE)?;
        let highest = database.read(|tree| {
            let mut highest = 0;
            for entry in tree.scan_prefix(b"u") {
                highest = highest.max(read_group(&entry?.1));
            }
            Ok(highest)
        })?;
        let inner = Inner { database, next: Mutex::default(), group: AtomicU64::new(highest + 1) };
        Ok((Self(Arc::new(inner)), damage))
    }

    /// How many groups were made durable, each with one flush and one `fdatasync`.
    #[cfg(test)]
    pub fn commits(&self) -> u64 {
        self.0.database.commits()
    }

    /// Why it takes no writes now, if so.
    pub fn dead(&self) -> Option<String> {
        self.0.database.dead()
    }

    /// Makes everything durable and lets go of the files.
    pub fn close(&self) {
        self.0.database.close();
    }

    /// The number that the next group will have.
    pub fn group(&self) -> u64 {
        self.0.group.load(Ordering::SeqCst)
    }

    /// Saves the row derived from a document when `group` was the last one. Derived again after a power cut, so it
    /// waits for no disk. Blocks.
    pub fn save_row(&self, key: &Key, row: &[u8], group: u64) -> Result<(), StoreError> {
        let document = document_key(&key.0, key.1);
        let mut value = crc32fast::hash(row).to_le_bytes().to_vec();
        value.extend_from_slice(row);
        self.0.database.write(|tree| {
            tree.insert(prefixed(b'r', &document), value)?;
            let uncovered = prefixed(b'u', &document);
            if let Some(value) = tree.get(&uncovered)?
                && read_group(&value) <= group
            {
                // Changes appended meanwhile have put another value here, which then stays.
                let _ = tree.compare_and_swap(uncovered, Some(value), None::<&[u8]>)?;
            }
            Ok(())
        })
    }

    /// Drops a row. Blocks.
    pub fn remove_row(&self, key: &Key) -> Result<(), StoreError> {
        let row = prefixed(b'r', &document_key(&key.0, key.1));
        self.0.database.write(|tree| tree.remove(row).map(|_| ()))
    }

    /// All saved rows that are intact. Blocks.
    pub fn rows(&self) -> Result<Vec<SavedRow>, StoreError> {
        self.0.database.read(|tree| {
            let mut rows = Vec::new();
            for entry in tree.scan_prefix(b"r") {
                let (key, value) = entry?;
                if let (Some(key), Some((sum, row))) = (read_document_key(&key[1..]), value.split_first_chunk::<4>())
                    && u32::from_le_bytes(*sum) == crc32fast::hash(row)
                {
                    rows.push(SavedRow { key, row: row.to_vec() });
                }
            }
            Ok(rows)
        })
    }

    /// Documents with changes that their row doesn't cover. Blocks.
    pub fn uncovered(&self) -> Result<Vec<Key>, StoreError> {
        self.0.database.read(|tree| {
            let keys = tree.scan_prefix(b"u").keys();
            keys.filter_map(|key| key.map(|key| read_document_key(&key[1..])).transpose()).collect()
        })
    }

    fn append_now(&self, group: &[Record]) -> Result<(), StoreError> {
        let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.len() > NUMBERS {
            next.clear();
        }
        let number = self.0.group.load(Ordering::SeqCst);
        let mut batch = Batch::default();
        let mut touched: HashMap<Key, u64> = HashMap::new();
        for record in group {
            let key = (record.scope.clone(), record.document);
            let document = document_key(&key.0, key.1);
            let n = match touched.get(&key).or_else(|| next.get(&key)) {
                Some(n) => *n,
                None => self.next_number(&document)?,
            };
            for (index, piece) in record::encode(record)?.into_iter().enumerate() {
                batch.insert(piece_key(&document, n, index as u16), piece);
            }
            batch.insert(prefixed(b'u', &document), &number.to_le_bytes());
            touched.insert(key, n + 1);
        }
        if let Err(error) = self.0.database.commit(batch) {
            // Some of it may stand there all the same: its numbers are taken, so they are read anew.
            next.retain(|key, _| !touched.contains_key(key));
            return Err(error);
        }
        next.extend(touched);
        self.0.group.store(number + 1, Ordering::SeqCst);
        Ok(())
    }

    fn next_number(&self, document: &[u8]) -> Result<u64, StoreError> {
        let last = self.0.database.read(|tree| tree.scan_prefix(prefixed(b'c', document)).next_back().transpose())?;
        Ok(last.and_then(|(key, _)| read_piece_key(&key)).map_or(0, |(n, _)| n + 1))
    }

    /// A number that grows with every change of a document. Blocks.
    pub fn length(&self, scope: &Scope, document: DocumentId) -> Result<u64, StoreError> {
        self.next_number(&document_key(scope, document))
    }

    /// [`Storage::scan`] for a thread that may block.
    pub fn scan_now(&self, scope: &Scope, document: DocumentId) -> Result<Vec<Record>, StoreError> {
        self.scan_what_is_left(scope, document).map(|(records, _)| records)
    }

    /// The same; `None`: the disk has lost some of it. Blocks.
    pub fn scan_whole(&self, scope: &Scope, document: DocumentId) -> Result<Option<Vec<Record>>, StoreError> {
        let (records, lost) = self.scan_what_is_left(scope, document)?;
        Ok((!lost).then_some(records))
    }

    /// Every record that can be read and used, and whether others are missing.
    fn scan_what_is_left(&self, scope: &Scope, document: DocumentId) -> Result<(Vec<Record>, bool), StoreError> {
        let ReadDocument { records, damaged } = self.read_now(scope, document)?;
        if damaged > 0 {
            tracing::error!(
                "{damaged} changes of {document} are damaged on disk: devices that hold them bring them back"
            );
        }
        let (records, lacking) = each_after_its_deps(records);
        Ok((records, lacking || damaged > 0))
    }

    /// A document as it stands on the disk. Blocks.
    pub fn read_now(&self, scope: &Scope, document: DocumentId) -> Result<ReadDocument, StoreError> {
        let prefix = prefixed(b'c', &document_key(scope, document));
        let entries = self.0.database.read(|tree| tree.scan_prefix(&prefix).collect::<sled::Result<Vec<_>>>())?;
        let mut records = Vec::new();
        let mut damaged = 0;
        let number = |key: &sled::IVec| read_piece_key(key).map(|(n, _)| n);
        for pieces in entries.chunk_by(|(a, _), (b, _)| number(a) == number(b)) {
            let values: Vec<_> = pieces.iter().map(|(_, value)| value.clone()).collect();
            match record::decode(scope, document, &values) {
                Some(record) => records.push(record),
                None => damaged += 1,
            }
        }
        Ok(ReadDocument { records, damaged })
    }

    /// [`Storage::documents`] for a thread that may block.
    pub fn documents_now(&self, scope: &Scope) -> Result<Vec<DocumentId>, StoreError> {
        let prefix = prefixed(b'c', &scope_key(scope));
        self.0.database.read(|tree| {
            let mut documents: Vec<DocumentId> = Vec::new();
            let mut from = prefix.clone();
            while let Some(entry) = tree.range(from.as_slice()..).next() {
                let (key, _) = entry?;
                if !key.starts_with(&prefix) {
                    break;
                }
                if let Some((_, document)) = read_document_key(&key[1..]) {
                    documents.push(document);
                }
                // Past the last piece of this document.
                from = key[..prefix.len() + 16].to_vec();
                from.extend_from_slice(&[0xff; 11]);
            }
            Ok(documents)
        })
    }

    /// Whether there is any change of a document. Blocks.
    pub fn holds(&self, scope: &Scope, document: DocumentId) -> Result<bool, StoreError> {
        let prefix = prefixed(b'c', &document_key(scope, document));
        self.0.database.read(|tree| tree.scan_prefix(&prefix).next().transpose()).map(|first| first.is_some())
    }

    /// [`Storage::delete`] for a thread that may block.
    pub fn delete_now(&self, scope: &Scope, document: DocumentId) -> Result<(), StoreError> {
        let document_part = document_key(scope, document);
        let prefix = prefixed(b'c', &document_part);
        let keys = self.0.database.read(|tree| tree.scan_prefix(&prefix).keys().collect::<sled::Result<Vec<_>>>())?;
        let mut batch = Batch::default();
        for key in keys {
            batch.remove(key);
        }
        batch.remove(prefixed(b'u', &document_part));
        self.0.next.lock().unwrap_or_else(PoisonError::into_inner).remove(&(scope.clone(), document));
        self.0.database.commit(batch)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let log = self.clone();
        tokio::task::spawn_blocking(move || call(&log)).await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Storage for Log {
    type Error = StoreError;

    async fn append(&self, group: &[Record]) -> Result<(), StoreError> {
        let group = group.to_vec();
        self.blocking(move |log| log.append_now(&group)).await
    }

    async fn scan(&self, scope: &Scope, document: DocumentId) -> Result<Vec<Record>, StoreError> {
        let scope = scope.clone();
        self.blocking(move |log| log.scan_now(&scope, document)).await
    }

    async fn documents(&self, scope: &Scope) -> Result<Vec<DocumentId>, StoreError> {
        let scope = scope.clone();
        self.blocking(move |log| log.documents_now(&scope)).await
    }

    async fn delete(&self, scope: &Scope, document: DocumentId) -> Result<(), StoreError> {
        let scope = scope.clone();
        self.blocking(move |log| log.delete_now(&scope, document)).await
    }
}

/// Each change once and after its deps; without those whose deps are missing (lost to damage, until a device brings
/// them back), and whether there are any. Linear for records that are in order, as all are unless some were damaged.
fn each_after_its_deps(records: Vec<Record>) -> (Vec<Record>, bool) {
    let mut seen: HashSet<ChangeHash> = HashSet::with_capacity(records.len());
    let mut ordered = Vec::with_capacity(records.len());
    let mut waiting = records;
    loop {
        let before = ordered.len();
        let mut rest = Vec::new();
        for record in waiting {
            if seen.contains(&record.hash) {
                continue;
            }
            if record.deps.iter().all(|dep| seen.contains(dep)) {
                seen.insert(record.hash);
                ordered.push(record);
            } else {
                rest.push(record);
            }
        }
        if rest.is_empty() || ordered.len() == before {
            return (ordered, !rest.is_empty());
        }
        waiting = rest;
    }
}

fn prefixed(kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(rest.len() + 1);
    key.push(kind);
    key.extend_from_slice(rest);
    key
}

fn piece_key(document: &[u8], n: u64, piece: u16) -> Vec<u8> {
    let mut key = prefixed(b'c', document);
    key.extend_from_slice(&n.to_be_bytes());
    key.extend_from_slice(&piece.to_be_bytes());
    key
}

/// The number of a record and of its piece.
fn read_piece_key(key: &[u8]) -> Option<(u64, u16)> {
    let (rest, piece) = key.split_last_chunk::<2>()?;
    let (_, n) = rest.split_last_chunk::<8>()?;
    Some((u64::from_be_bytes(*n), u16::from_be_bytes(*piece)))
}

fn read_group(value: &[u8]) -> u64 {
    value.try_into().map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::tests::record;

    fn scope() -> Scope {
        Scope::from("w/1")
    }

    #[test]
    fn what_was_appended_is_there_after_a_reopen_in_order_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (a, b) = (DocumentId::random(), DocumentId::random());
        let first = record(a, 1, &[], 10);
        let large = record(a, 2, &[first.hash], 300_000);
        let other = record(b, 3, &[], 10);
        {
            let (log, _) = Log::open(&path).unwrap();
            log.append_now(&[first.clone(), other.clone()]).unwrap();
            log.append_now(std::slice::from_ref(&large)).unwrap();
            log.close();
        }
        let (log, damage) = Log::open(&path).unwrap();
        assert_eq!(damage, None);
        let third = record(a, 4, &[large.hash], 10);
        log.append_now(std::slice::from_ref(&third)).unwrap();
        assert_eq!(log.scan_now(&scope(), a).unwrap(), [first, large, third]);
        assert_eq!(log.scan_now(&scope(), b).unwrap(), [other]);
        let mut documents = log.documents_now(&scope()).unwrap();
        documents.sort();
        let mut expected = [a, b];
        expected.sort();
        assert_eq!(documents, expected);
        assert_eq!(log.documents_now(&Scope::from("w/2")).unwrap(), []);
    }

    #[test]
    fn a_copy_of_the_files_taken_without_closing_holds_every_acknowledged_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (log, _) = Log::open(&path).unwrap();
        let document = DocumentId::random();
        let mut last: Vec<ChangeHash> = Vec::new();
        for n in 1..=40 {
            let record = record(document, n, &last, 5_000);
            last = vec![record.hash];
            log.append_now(&[record]).unwrap();
        }
        let crashed = folder.path().join("crashed");
        std::fs::create_dir(&crashed).unwrap();
        for name in ["conf", "db"] {
            std::fs::copy(path.join(name), crashed.join(name)).unwrap();
        }
        let (after, damage) = Log::open(&crashed).unwrap();
        assert_eq!(damage, None);
        let seqs: Vec<u64> = after.scan_now(&scope(), document).unwrap().iter().map(|record| record.seq).collect();
        assert_eq!(seqs, (1..=40).collect::<Vec<u64>>());
    }

    #[test]
    fn a_damaged_change_is_left_out_with_its_dependents_and_they_return_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(&folder.path().join("log")).unwrap();
        let document = DocumentId::random();
        let first = record(document, 1, &[], 10);
        let second = record(document, 2, &[first.hash], 10);
        let third = record(document, 3, &[second.hash], 10);
        log.append_now(&[first.clone(), second.clone(), third.clone()]).unwrap();
        let key = piece_key(&document_key(&scope(), document), 1, 0);
        log.0
            .database
            .write(|tree| {
                let mut value = tree.get(&key)?.unwrap();
                value[20] ^= 1;
                tree.insert(&key, value)
            })
            .unwrap();
        assert_eq!(log.scan_now(&scope(), document).unwrap(), std::slice::from_ref(&first));
        log.append_now(std::slice::from_ref(&second)).unwrap();
        assert_eq!(log.scan_now(&scope(), document).unwrap(), [first, second, third]);
    }

    #[test]
    fn a_row_covers_only_the_changes_it_was_derived_from() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(&folder.path().join("log")).unwrap();
        let key = (scope(), DocumentId::random());
        log.append_now(&[record(key.1, 1, &[], 10)]).unwrap();
        let derived_at = log.group() - 1;
        log.append_now(&[record(key.1, 2, &[], 10)]).unwrap();
        log.save_row(&key, b"one", derived_at).unwrap();
        assert_eq!(log.uncovered().unwrap(), std::slice::from_ref(&key));
        log.save_row(&key, b"two", log.group() - 1).unwrap();
        assert_eq!(log.uncovered().unwrap(), []);
        let rows = log.rows().unwrap();
        assert!(rows.len() == 1 && rows[0].key == key && rows[0].row == b"two");
    }

    #[test]
    fn a_deleted_document_is_gone_and_its_neighbour_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(&folder.path().join("log")).unwrap();
        let (a, b) = (DocumentId::random(), DocumentId::random());
        log.append_now(&[record(a, 1, &[], 100_000), record(b, 2, &[], 10)]).unwrap();
        log.delete_now(&scope(), a).unwrap();
        assert_eq!(log.scan_now(&scope(), a).unwrap(), []);
        assert_eq!(log.documents_now(&scope()).unwrap(), [b]);
        assert_eq!(log.scan_now(&scope(), b).unwrap().len(), 1);
    }
}
