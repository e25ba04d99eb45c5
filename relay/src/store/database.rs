//! One sled database, with the care that sled 0.34.7 needs. Its `flush` uses `sync_file_range`, which makes nothing
//! durable, so each commit also calls `fdatasync` on its file; after a failed write it takes no more until it is
//! reopened; a flipped byte can panic it, when opening or later, so it runs under `catch_unwind`; and a folder that
//! can't be opened is moved aside, with a loud message, rather than keeping the relay from starting.
//!
//! Where a flipped byte doesn't stop it, sled takes what is before it and drops what follows without a word (measured:
//! one byte in the first quarter cost 41 of 50 commits). So each commit carries a number, the last one that was made
//! durable is also in a file of its own, and a start that finds fewer says so.
//!
//! Everything here blocks; callers are on threads that may.

use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::StoreError;
use crate::{clock, durable};

/// How long after a failed write, or a failed try to reopen, the next try is.
const REOPEN_AFTER: Duration = Duration::from_secs(3);
/// Left in a folder that was found damaged while running: at the next start it is moved aside.
const DAMAGED: &str = "DAMAGED";
/// The key of the last commit's number. Callers' keys begin with a letter.
const COUNT: &[u8] = b"#";
/// The file with the number of the last commit that was made durable, and its checksum.
const COUNT_FILE: &str = "commits";
/// Databases up to this many bytes on disk are read whole when opened, so that damage shows at once.
const READ_WHOLE: u64 = 128 << 20;

/// See the module.
pub struct Database {
    path: PathBuf,
    cache_bytes: u64,
    open: RwLock<Option<Open>>,
    /// When a write failed, or reopening was last tried.
    dead: Mutex<Option<(Instant, String)>>,
    /// Nobody wants it open any more.
    closed: AtomicBool,
    /// The number of the last commit.
    commits: Mutex<u64>,
}

/// What a start found wrong, and did about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It could not be opened.
    #[error(
        "the store could not be opened and was moved to {}; a new one was begun, and devices that connect bring back \
         what they hold", .0.display()
    )]
    MovedAside(PathBuf),
    /// Its end was lost.
    #[error(
        "the last {lost} of {of} writes to the store at {} were lost by the disk; devices that connect bring back what \
         they hold", path.display()
    )]
    Lost {
        /// The folder.
        path: PathBuf,
        /// Commits that are missing.
        lost: u64,
        /// Commits that there were.
        of: u64,
    },
}

struct Open {
    db: sled::Db,
    /// sled's file, for `fdatasync`.
    file: File,
}

impl Database {
    /// Opens or makes the database in `path`.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<(Self, Option<Damage>), StoreError> {
        let failed = |reason: String| StoreError::Open { path: path.to_owned(), reason };
        let counted = read_count(path);
        let first = match std::fs::exists(path.join(DAMAGED)) {
            Ok(true) => Err("it was found damaged while running".to_owned()),
            _ => Open::new(path, cache_bytes).and_then(|open| match open.read_whole().and_then(|()| open.count())? {
                0 if counted > 0 => Err(format!("nothing is left of {counted} writes")),
                _ => Ok(open),
            }),
        };
        let (open, mut damage) = match first {
            Ok(open) => (open, None),
            Err(reason) => {
                let aside = aside(path);
                tracing::error!("the store at {} is broken: {reason}", path.display());
                std::fs::rename(path, &aside).map_err(|error| failed(format!("{reason}; moving it aside: {error}")))?;
                (Open::new(path, cache_bytes).map_err(failed)?, Some(Damage::MovedAside(aside)))
            }
        };
        let count = open.count().map_err(failed)?;
        if damage.is_none() && count < counted {
            damage = Some(Damage::Lost { path: path.to_owned(), lost: counted - count, of: counted });
        }
        if let Some(damage) = &damage {
            tracing::error!("{damage}");
        }
        // The names of what sled has just made must be durable too.
        for folder in [path, path.parent().unwrap_or(Path::new("."))] {
            durable::sync_folder(folder).map_err(|error| failed(error.to_string()))?;
        }
        let database = Self {
            path: path.to_owned(),
            cache_bytes,
            open: RwLock::new(Some(open)),
            dead: Mutex::new(None),
            closed: AtomicBool::new(false),
            commits: Mutex::new(if damage.is_none() { count.max(counted) } else { count }),
        };
        Ok((database, damage))
    }

    /// Reads. What sled finds damaged marks the folder for moving aside at the next start.
    pub fn read<T>(&self, read: impl FnOnce(&sled::Tree) -> sled::Result<T>) -> Result<T, StoreError> {
        self.guarded(|open| read(&open.db).map_err(StoreError::from))
    }

    /// Writes without waiting for durability: for what can be derived again.
    pub fn write<T>(&self, write: impl FnOnce(&sled::Tree) -> sled::Result<T>) -> Result<T, StoreError> {
        self.revive()?;
        let written = self.guarded(|open| write(&open.db).map_err(StoreError::from));
        written.inspect_err(|error| self.mark_dead(error))
    }

    /// Applies a batch, all of it or nothing; on return it is durable, with everything written before.
    pub fn commit(&self, mut batch: sled::Batch) -> Result<(), StoreError> {
        self.revive()?;
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *commits + 1;
        batch.insert(COUNT, &number.to_le_bytes());
        let committed = self.guarded(|open| {
            open.db.apply_batch(batch)?;
            open.db.flush()?;
            open.file.sync_data().map_err(|error| StoreError::Write(error.to_string()))
        });
        match &committed {
            Ok(()) => {
                *commits = number;
                // Not waiting for the disk: after a power cut an older number stands there, which proves less.
                if let Err(error) = write_count(&self.path, number) {
                    tracing::warn!("the number of commits can't be kept: {error}");
                }
            }
            Err(error) => self.mark_dead(error),
        }
        committed
    }

    /// How many commits were made durable.
    #[cfg(test)]
    pub fn commits(&self) -> u64 {
        *self.commits.lock().unwrap()
    }

    /// Why it takes no writes now, if so.
    pub fn dead(&self) -> Option<String> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, why)| why.clone())
    }

    /// Makes everything durable and lets go of the files. Later calls fail with [`StoreError::Closed`].
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let open = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(open) = open else { return };
        let closed = catch_unwind(AssertUnwindSafe(move || {
            if let Err(error) = open.db.flush() {
                tracing::error!("the store can't be flushed: {error}");
            }
            drop(open);
        }));
        if closed.is_err() {
            tracing::error!("the store at {} broke while closing", self.path.display());
        }
    }

    fn guarded<T>(&self, call: impl FnOnce(&Open) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let guard = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let open = guard.as_ref().ok_or(StoreError::Closed)?;
        let result = catch_unwind(AssertUnwindSafe(|| call(open)))
            .unwrap_or_else(|panic| Err(StoreError::Damaged(message(&*panic))));
        if let Err(StoreError::Damaged(reason)) = &result {
            tracing::error!("the store at {} is damaged: {reason}", self.path.display());
            if let Err(error) = File::create(self.path.join(DAMAGED)) {
                tracing::error!("and can't be marked for moving aside: {error}");
            }
        }
        result
    }

    fn mark_dead(&self, error: &StoreError) {
        if !error.is_of_one_record() {
            let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
            *dead = Some((Instant::now(), error.to_string()));
        }
    }

    /// After a failed write: opens the database anew, now and then.
    fn revive(&self) -> Result<(), StoreError> {
        let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((since, why)) = dead.as_mut() else { return Ok(()) };
        if since.elapsed() < REOPEN_AFTER {
            return Err(StoreError::Write(why.clone()));
        }
        *since = Instant::now();
        let mut guard = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if self.closed.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        // Dropping what is write-dead may panic; the new one is opened either way. After a try that failed there is none.
        let old = guard.take();
        let _ = catch_unwind(AssertUnwindSafe(move || drop(old)));
        match Open::new(&self.path, self.cache_bytes) {
            Ok(open) => {
                tracing::info!("the store at {} takes writes again", self.path.display());
                *guard = Some(open);
                *dead = None;
                Ok(())
            }
            Err(reason) => Err(StoreError::Write(reason)),
        }
    }
}

impl Open {
    fn new(path: &Path, cache_bytes: u64) -> Result<Self, String> {
        let opened = catch_unwind(|| {
            // A database that was just dropped may hold its lock a moment longer. (Ours, on the data folder, is what
            // keeps a second relay out.)
            let until = Instant::now() + Duration::from_secs(3);
            loop {
                let config = sled::Config::new().path(path).cache_capacity(cache_bytes).flush_every_ms(None);
                match config.open() {
                    Err(sled::Error::Io(error))
                        if error.to_string().contains("could not acquire lock") && Instant::now() < until =>
                    {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    other => return other,
                }
            }
        });
        let db = opened.map_err(|panic| message(&*panic))?.map_err(|error| error.to_string())?;
        let file = File::options().read(true).write(true).open(path.join("db")).map_err(|error| error.to_string())?;
        Ok(Self { db, file })
    }

    /// The number of the last commit that is there.
    fn count(&self) -> Result<u64, String> {
        let value = self.db.get(COUNT).map_err(|error| error.to_string())?;
        Ok(value.and_then(|value| value.as_ref().try_into().ok()).map_or(0, u64::from_le_bytes))
    }

    fn read_whole(&self) -> Result<(), String> {
        let read = catch_unwind(AssertUnwindSafe(|| {
            if self.db.size_on_disk()? <= READ_WHOLE {
                for entry in self.db.iter() {
                    entry?;
                }
            }
            Ok::<(), sled::Error>(())
        }));
        read.map_err(|panic| message(&*panic))?.map_err(|error| error.to_string())
    }
}

fn write_count(folder: &Path, count: u64) -> std::io::Result<()> {
    let number = count.to_le_bytes();
    let sum = crc32fast::hash(&number).to_le_bytes();
    let mut file = File::options().write(true).create(true).truncate(false).open(folder.join(COUNT_FILE))?;
    file.write_all(&[&number[..], &sum].concat())
}

/// The number in the file; 0 if there is none that can be trusted.
fn read_count(folder: &Path) -> u64 {
    let content = std::fs::read(folder.join(COUNT_FILE)).unwrap_or_default();
    let Some((number, sum)) = content.split_first_chunk::<8>() else { return 0 };
    if sum == crc32fast::hash(number).to_le_bytes() { u64::from_le_bytes(*number) } else { 0 }
}

/// A free name beside `path`.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".broken-{}", clock::now().0));
    PathBuf::from(name)
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(database: &Database, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        batch.insert(key, value);
        database.commit(batch)
    }

    #[test]
    fn a_database_takes_writes_again_after_a_failed_one() {
        let folder = tempfile::tempdir().unwrap();
        let (database, _) = Database::open(&folder.path().join("log"), 1 << 20).unwrap();
        put(&database, b"a", b"1").unwrap();
        let failed = database.write::<()>(|_| Err(sled::Error::Io(std::io::Error::other("no space left"))));
        assert!(matches!(failed, Err(StoreError::Write(_))));
        assert!(matches!(put(&database, b"b", b"2"), Err(StoreError::Write(why)) if why.contains("no space left")));
        assert!(database.dead().is_some());
        database.dead.lock().unwrap().as_mut().unwrap().0 -= REOPEN_AFTER;
        put(&database, b"b", b"2").unwrap();
        assert_eq!(database.dead(), None);
        assert_eq!(database.read(|tree| tree.get(b"a")).unwrap().as_deref(), Some(&b"1"[..]));
    }

    #[test]
    fn a_database_that_could_not_be_reopened_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, away) = (folder.path().join("log"), folder.path().join("away"));
        let (database, _) = Database::open(&path, 1 << 20).unwrap();
        put(&database, b"a", b"1").unwrap();
        let _ = database.write::<()>(|_| Err(sled::Error::Io(std::io::Error::other("no space left"))));
        std::fs::rename(&path, &away).unwrap();
        std::fs::write(&path, "in its place").unwrap();
        database.dead.lock().unwrap().as_mut().unwrap().0 -= REOPEN_AFTER;
        assert!(put(&database, b"b", b"2").is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&away, &path).unwrap();
        database.dead.lock().unwrap().as_mut().unwrap().0 -= REOPEN_AFTER;
        put(&database, b"b", b"2").unwrap();
        assert_eq!(database.read(|tree| tree.get(b"a")).unwrap().as_deref(), Some(&b"1"[..]));
        database.close();
        assert!(matches!(put(&database, b"c", b"3"), Err(StoreError::Closed)));
    }

    #[test]
    fn a_folder_found_damaged_is_moved_aside_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (database, damage) = Database::open(&path, 1 << 20).unwrap();
        assert_eq!(damage, None);
        put(&database, b"a", b"1").unwrap();
        let damaged = database.read::<()>(|_| panic!("a flipped byte"));
        assert!(matches!(damaged, Err(StoreError::Damaged(why)) if why == "a flipped byte"));
        database.close();
        let (database, damage) = Database::open(&path, 1 << 20).unwrap();
        let Some(Damage::MovedAside(aside)) = damage else { panic!("{damage:?}") };
        assert!(aside.join("db").exists());
        assert_eq!(database.read(|tree| tree.get(b"a")).unwrap(), None);
    }

    #[test]
    fn a_flipped_byte_anywhere_is_said_and_never_changes_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (database, _) = Database::open(&path, 1 << 20).unwrap();
        for n in 0..50_u8 {
            put(&database, &[b'k', n], &[n; 900]).unwrap();
        }
        database.close();
        drop(database);
        let names = ["conf", "db", COUNT_FILE];
        let intact = names.map(|name| std::fs::read(path.join(name)).unwrap());
        let used = intact[1].iter().rposition(|byte| *byte != 0).unwrap();
        for step in 0..12 {
            std::fs::remove_dir_all(&path).unwrap();
            std::fs::create_dir_all(&path).unwrap();
            for (name, content) in names.iter().zip(&intact) {
                std::fs::write(path.join(name), content).unwrap();
            }
            let at = step * used / 12;
            let mut bytes = intact[1].clone();
            bytes[at] ^= 0x55;
            std::fs::write(path.join("db"), &bytes).unwrap();
            let (database, damage) = Database::open(&path, 1 << 20).unwrap();
            let mut left = 0;
            for n in 0..50_u8 {
                if let Some(value) = database.read(|tree| tree.get([b'k', n])).unwrap() {
                    assert_eq!(&value[..], [n; 900], "a value changed silently");
                    left += 1;
                }
            }
            assert!(left == 50 || damage.is_some(), "byte {at}: {left} of 50 are left, and nothing was said");
            database.close();
        }
    }
}
