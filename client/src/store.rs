//! The store of a native replica: one append-only file a document, in a folder that several commands of one user share.
//! A file is locked while it is written or read, and no longer. Whoever does so shares a lock of the whole store, which
//! [`crate::gc`] takes for itself alone to put one file in the place of another.
//!
//! Invariant: on return of [`Storage::append`] the records are on the disk, each once, also when another process has
//! appended meanwhile; a record cut short by a crash is cut off before anything is written behind it. What this device
//! has written itself is noted as unsent until the relay is known to have it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use skein_engine::device::RELAY;
use skein_engine::ids::{ChangeHash, DocumentId, Scope, random_id};
use skein_engine::storage::{Record, Storage};

use crate::log;

/// Why the store could not do it: which file, and what the system said.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{cause}: {}", path.display())]
pub struct StoreError {
    /// The file or folder.
    pub path: PathBuf,
    /// In words.
    pub cause: String,
}

impl StoreError {
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { path: path.to_owned(), cause: error.to_string() }
    }
}

/// See the module. Clones are the same store.
#[derive(Clone, Debug)]
pub struct FileStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) documents: PathBuf,
    unsent: PathBuf,
    lock: PathBuf,
    /// Ends the names of this process's own notes of what is unsent.
    process: String,
    files: Mutex<BTreeMap<DocumentId, Known>>,
}

/// What this process knows of a file.
#[derive(Debug, Default)]
struct Known {
    /// Which of the files that have stood at this place was read: compacting one puts another there.
    generation: Option<log::Generation>,
    /// Up to where it was read.
    read: u64,
    /// How long it was then: behind the last whole record there may be what a crash has cut short.
    length: u64,
    hashes: HashSet<ChangeHash>,
    /// What another process wrote and nobody here has been given yet: it was read over while something was appended.
    unseen: HashSet<ChangeHash>,
    /// Notes of unsent changes that were there before the file was last read: what they stand for has been read.
    notes: BTreeSet<PathBuf>,
}

impl FileStore {
    /// Opens the store in a folder, and makes it if it isn't there.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let (documents, unsent) = (folder.join("documents"), folder.join("unsent"));
        for folder in [&documents, &unsent] {
            fs::create_dir_all(folder).map_err(StoreError::at(folder))?;
        }
        let lock = folder.join("lock");
        let inner = Inner { documents, unsent, lock, process: random_id(), files: Mutex::default() };
        inner.remove_halves()?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Documents with changes that the relay is not known to have.
    pub fn unsent(&self) -> Result<Vec<DocumentId>, StoreError> {
        let mut documents = names(&self.inner.unsent)?;
        documents.dedup();
        Ok(documents)
    }

    /// Every document that is here.
    pub fn stored(&self) -> Result<Vec<DocumentId>, StoreError> {
        names(&self.inner.documents)
    }

    /// The relay has everything of this document that was appended by this process or read by it.
    pub async fn sent(&self, document: DocumentId) -> Result<(), StoreError> {
        self.blocking(move |inner| inner.sent(document)).await
    }

    /// Whether another process has appended to a document since this one gave out what is in it.
    pub fn has_grown(&self, document: DocumentId) -> bool {
        let (length, unseen) =
            self.inner.files().get(&document).map_or((0, false), |known| (known.length, !known.unseen.is_empty()));
        // Shorter: it was compacted, and may have grown since.
        unseen || fs::metadata(self.inner.path(document)).is_ok_and(|file| file.len() != length)
    }

    /// The documents that are here, with the bytes of their files and when they were last written.
    pub(crate) fn files(&self) -> Result<Vec<(DocumentId, u64, SystemTime)>, StoreError> {
        let mut files = Vec::new();
        for document in names(&self.inner.documents)? {
            if let Ok(file) = fs::metadata(self.inner.path(document)) {
                files.push((document, file.len(), file.modified().unwrap_or(SystemTime::UNIX_EPOCH)));
            }
        }
        Ok(files)
    }

    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = self.inner.clone();
        let folder = inner.documents.clone();
        let joined = tokio::task::spawn_blocking(move || run(&inner)).await;
        joined.unwrap_or_else(|error| Err(StoreError { path: folder, cause: error.to_string() }))
    }
}

impl Storage for FileStore {
    type Error = StoreError;

    async fn append(&self, group: &[Record]) -> Result<(), StoreError> {
        let mut files: BTreeMap<DocumentId, Vec<Record>> = BTreeMap::new();
        for record in group {
            files.entry(record.document).or_default().push(record.clone());
        }
        self.blocking(move |inner| {
            files.into_iter().try_for_each(|(document, records)| inner.append(document, &records))
        })
        .await
    }

    async fn scan(&self, scope: &Scope, document: DocumentId) -> Result<Vec<Record>, StoreError> {
        let scope = scope.clone();
        self.blocking(move |inner| inner.scan(&scope, document)).await
    }

    async fn documents(&self, _scope: &Scope) -> Result<Vec<DocumentId>, StoreError> {
        self.blocking(|inner| names(&inner.documents)).await
    }

    async fn delete(&self, _scope: &Scope, document: DocumentId) -> Result<(), StoreError> {
        self.blocking(move |inner| inner.drop_document(document).map(drop)).await
    }
}

impl Inner {
    fn files(&self) -> MutexGuard<'_, BTreeMap<DocumentId, Known>> {
        // A panic while it was held leaves at worst a file to be read again from where it was read last.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn path(&self, document: DocumentId) -> PathBuf {
        self.documents.join(format!("{document}.log"))
    }

    /// While this is held, no file is put in the place of another.
    fn shared(&self) -> Result<File, StoreError> {
        let file = self.lock_file()?;
        file.lock_shared().map_err(StoreError::at(&self.lock))?;
        Ok(file)
    }

    /// While this is held, nobody reads or writes.
    pub(crate) fn alone(&self) -> Result<File, StoreError> {
        let file = self.lock_file()?;
        file.lock().map_err(StoreError::at(&self.lock))?;
        Ok(file)
    }

    fn lock_file(&self) -> Result<File, StoreError> {
        let options = OpenOptions::new().write(true).create(true).truncate(false).open(&self.lock);
        options.map_err(StoreError::at(&self.lock))
    }

    /// Removes what a crash has left of files that were to take the place of others.
    fn remove_halves(&self) -> Result<(), StoreError> {
        let halves = || {
            let entries = fs::read_dir(&self.documents).map_err(StoreError::at(&self.documents))?;
            let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
            let is_half = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            Ok::<Vec<PathBuf>, StoreError>(paths.filter(is_half).collect())
        };
        if halves()?.is_empty() {
            return Ok(());
        }
        // Whoever is just writing one is waited for.
        let _alone = self.alone()?;
        halves()?.iter().try_for_each(|half| fs::remove_file(half).map_err(StoreError::at(half)))
    }

    /// Drops a document, unless something of it is noted as unsent. Whether it did; durable on return.
    pub(crate) fn drop_document(&self, document: DocumentId) -> Result<bool, StoreError> {
        let _alone = self.alone()?;
        if !self.notes(document)?.is_empty() {
            return Ok(false);
        }
        let path = self.path(document);
        self.files().remove(&document);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::at(&path)(error)),
            _ => sync_folder(&self.documents).map(|()| true),
        }
    }

    fn append(&self, document: DocumentId, records: &[Record]) -> Result<(), StoreError> {
        let _shared = self.shared()?;
        let path = self.path(document);
        let at = |error| StoreError::at(&path)(error);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(at)?;
        // Released when `file` is dropped.
        file.lock().map_err(at)?;
        let mut files = self.files();
        let known = files.entry(document).or_default();
        let scope = records.first().map_or_else(|| Scope::from(""), |record| record.scope.clone());
        read_on(&mut file, &path, known, &scope, document)?;
        // Also where another process made it, and didn't come to write in it.
        let is_new = known.read == 0;

        let mut bytes = Vec::new();
        let mut added = Vec::new();
        for record in records {
            known.unseen.remove(&record.hash);
            if !known.hashes.contains(&record.hash) && !added.contains(&record.hash) {
                log::encode(record, &mut bytes);
                added.push(record.hash);
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if records.iter().any(|record| record.received_from.as_str() != RELAY) {
            self.note_unsent(document, known)?;
        }
        // What a crash has left behind the last whole record goes: it was never reported as stored.
        file.set_len(known.read).map_err(at)?;
        file.seek(SeekFrom::Start(known.read)).map_err(at)?;
        if let Err(error) = file.write_all(&bytes).and_then(|()| file.sync_data()) {
            // The disk may be full: leave the file as it was. If that fails too, the next reader cuts it off.
            let _ = file.set_len(known.read);
            return Err(StoreError::at(&path)(error));
        }
        if is_new {
            sync_folder(&self.documents)?;
        }
        known.read += bytes.len() as u64;
        known.length = known.read;
        known.hashes.extend(added);
        Ok(())
    }

    fn scan(&self, scope: &Scope, document: DocumentId) -> Result<Vec<Record>, StoreError> {
        let _shared = self.shared()?;
        let path = self.path(document);
        // Before the file: what a note stands for is written under the lock that is waited for here.
        let notes = self.notes(document)?;
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::at(&path)(error)),
        };
        file.lock_shared().map_err(StoreError::at(&path))?;
        let mut known = Known::default();
        let records = read_on(&mut file, &path, &mut known, scope, document)?;
        known.unseen.clear();
        let mut files = self.files();
        known.notes = files.remove(&document).map(|known| known.notes).unwrap_or_default();
        known.notes.extend(notes);
        files.insert(document, known);
        Ok(in_order(records))
    }

    fn sent(&self, document: DocumentId) -> Result<(), StoreError> {
        let _shared = self.shared()?;
        let path = self.path(document);
        let mut file = File::open(&path).map_err(StoreError::at(&path))?;
        // Nobody appends, or notes that, meanwhile.
        file.lock().map_err(StoreError::at(&path))?;
        let mut files = self.files();
        let Some(known) = files.get_mut(&document) else { return Ok(()) };
        read_on(&mut file, &path, known, &Scope::from(""), document)?;
        if !known.unseen.is_empty() {
            // Another process has appended what isn't known here: its note stays.
            return Ok(());
        }
        for note in std::mem::take(&mut known.notes) {
            match fs::remove_file(&note) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StoreError::at(&note)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn notes(&self, document: DocumentId) -> Result<Vec<PathBuf>, StoreError> {
        let prefix = format!("{document}.");
        let entries = fs::read_dir(&self.unsent).map_err(StoreError::at(&self.unsent))?;
        let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        Ok(paths.filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix))).collect())
    }

    fn note_unsent(&self, document: DocumentId, known: &mut Known) -> Result<(), StoreError> {
        let note = self.unsent.join(format!("{document}.{}", self.process));
        known.notes.insert(note.clone());
        // Another process may have removed it: it knew that everything up to then was sent.
        if !note.exists() {
            File::create(&note).map_err(StoreError::at(&note))?;
            sync_folder(&self.unsent)?;
        }
        Ok(())
    }
}

/// Reads what has been appended since this process read the file last.
fn read_on(
    file: &mut File,
    path: &Path,
    known: &mut Known,
    scope: &Scope,
    document: DocumentId,
) -> Result<Vec<Record>, StoreError> {
    let at = |error| StoreError::at(path)(error);
    let generation = log::generation(file).map_err(at)?;
    let mut before = HashSet::new();
    known.length = file.metadata().map_err(at)?.len();
    if known.length < known.read || known.generation != generation {
        // It was compacted, or someone has put an older copy in its place.
        (known.read, before) = (0, std::mem::take(&mut known.hashes));
    }
    known.generation = generation;
    if known.read == 0 && known.generation.is_some() {
        known.read = log::GENERATION_BYTES;
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(known.read)).map_err(at)?;
    file.read_to_end(&mut bytes).map_err(at)?;
    let scanned = log::scan(&bytes, scope, document);
    if scanned.damaged > 0 {
        let damaged = scanned.damaged;
        tracing::warn!(file = %path.display(), damaged, "a part of this file is damaged; the relay will be asked for it");
    }
    known.read += scanned.whole as u64;
    for record in &scanned.records {
        if known.hashes.insert(record.hash) && !before.contains(&record.hash) {
            known.unseen.insert(record.hash);
        }
    }
    Ok(scanned.records)
}

/// Each record after those that it depends on, which only damage can have put out of order.
pub(crate) fn in_order(records: Vec<Record>) -> Vec<Record> {
    let here: HashSet<ChangeHash> = records.iter().map(|record| record.hash).collect();
    let mut placed = HashSet::new();
    let mut ordered = Vec::with_capacity(records.len());
    let mut rest = records;
    while !rest.is_empty() {
        let before = ordered.len();
        let mut later = Vec::new();
        for record in rest {
            if record.deps.iter().all(|dep| placed.contains(dep) || !here.contains(dep)) {
                placed.insert(record.hash);
                ordered.push(record);
            } else {
                later.push(record);
            }
        }
        if ordered.len() == before {
            // A cycle can't come from honest hashes: give what is left as it is.
            ordered.append(&mut later);
        }
        rest = later;
    }
    ordered
}

/// The documents that the files of a folder are named after, sorted.
fn names(folder: &Path) -> Result<Vec<DocumentId>, StoreError> {
    let entries = fs::read_dir(folder).map_err(StoreError::at(folder))?;
    let mut documents: Vec<DocumentId> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_string_lossy().split('.').next()?.parse().ok()).collect();
    documents.sort_unstable();
    Ok(documents)
}

/// Makes the making and removing of files in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(StoreError::at(folder))
}
