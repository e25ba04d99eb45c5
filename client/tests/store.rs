//! The store of append-only files: what a crash, a bad disk and a second process leave of it.
// The helpers of a test may fail as the test may.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ROOT};
use skein_client::FileStore;
use skein_engine::device::RELAY;
use skein_engine::ids::{DocumentId, Principal, Scope};
use skein_engine::storage::{Record, Storage};
use tempfile::TempDir;

/// A chain of changes of one document.
fn records(document: DocumentId, count: i64, from: &str) -> Vec<Record> {
    let mut written = AutoCommit::new();
    for value in 0..count {
        written.put(ROOT, "value", value).unwrap();
        written.commit();
    }
    let changes = written.get_changes(&[]);
    let record = |mut change: automerge::Change| Record {
        scope: scope(),
        document,
        hash: change.hash(),
        deps: change.deps().to_vec(),
        actor: change.actor_id().clone(),
        seq: change.seq(),
        received_from: Principal::from(from),
        bytes: change.bytes().into_owned().into(),
    };
    changes.into_iter().map(record).collect()
}

fn scope() -> Scope {
    Scope::from("w/test")
}

struct Place {
    folder: TempDir,
    document: DocumentId,
}

impl Place {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), document: DocumentId::random() }
    }

    fn open(&self) -> FileStore {
        FileStore::open(self.folder.path()).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("documents").join(format!("{}.log", self.document))
    }

    async fn scan(&self) -> Vec<Record> {
        self.open().scan(&scope(), self.document).await.unwrap()
    }
}

#[tokio::test]
async fn what_was_appended_is_there_after_a_restart_each_once() {
    let place = Place::new();
    let records = records(place.document, 20, "me");
    let store = place.open();
    store.append(&records[..15]).await.unwrap();
    store.append(&records).await.unwrap();
    place.open().append(&records[5..]).await.unwrap();
    assert_eq!(place.scan().await, records);
    assert_eq!(place.open().documents(&scope()).await.unwrap(), [place.document]);
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_wherever_it_was_torn() {
    let place = Place::new();
    let records = records(place.document, 3, "me");
    place.open().append(&records[..2]).await.unwrap();
    let whole = fs::read(place.file()).unwrap();
    place.open().append(&records[2..]).await.unwrap();
    let last = fs::read(place.file()).unwrap();
    for end in whole.len() + 1..last.len() {
        fs::write(place.file(), &last[..end]).unwrap();
        assert_eq!(place.scan().await, records[..2], "torn at {end}");
    }
    // Written again behind it, the record is whole, and so is the file.
    place.open().append(&records[2..]).await.unwrap();
    assert_eq!(fs::read(place.file()).unwrap(), last);
    assert_eq!(place.scan().await, records);
}

#[tokio::test]
async fn a_flipped_byte_costs_its_record_and_no_other() {
    let place = Place::new();
    let records = records(place.document, 3, "me");
    place.open().append(&records[..1]).await.unwrap();
    let first = fs::metadata(place.file()).unwrap().len() as usize;
    place.open().append(&records[1..2]).await.unwrap();
    let second = fs::metadata(place.file()).unwrap().len() as usize;
    place.open().append(&records[2..]).await.unwrap();
    let whole = fs::read(place.file()).unwrap();
    let rest = [records[0].clone(), records[2].clone()];
    for at in first..second {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(place.file(), &damaged).unwrap();
        assert_eq!(place.scan().await, rest, "flipped at {at}");
    }
    // The relay brings it again: it is appended, and read before what depends on it.
    place.open().append(&records[1..2]).await.unwrap();
    assert_eq!(place.scan().await, records);
}

#[tokio::test]
async fn two_processes_append_to_one_document_at_once_and_nothing_is_lost() {
    let place = Place::new();
    let (ours, theirs) = (records(place.document, 60, "me"), records(place.document, 60, "me"));
    let (one, two) = (place.open(), place.open());
    let writer = |store: FileStore, records: Vec<Record>| async move {
        for record in records {
            store.append(std::slice::from_ref(&record)).await.unwrap();
        }
    };
    tokio::join!(writer(one, ours.clone()), writer(two, theirs.clone()));
    let found = place.scan().await;
    assert_eq!(found.len(), ours.len() + theirs.len());
    assert!(ours.iter().chain(&theirs).all(|record| found.contains(record)));
}

#[tokio::test]
async fn a_store_sees_what_another_process_appended() {
    let place = Place::new();
    let records = records(place.document, 4, "me");
    let ours = place.open();
    ours.append(&records[..2]).await.unwrap();
    assert!(!ours.has_grown(place.document));
    place.open().append(&records[2..]).await.unwrap();
    assert!(ours.has_grown(place.document));
    assert_eq!(ours.scan(&scope(), place.document).await.unwrap(), records);
    assert!(!ours.has_grown(place.document));
}

#[tokio::test]
async fn what_a_crash_cut_short_is_nothing_to_be_read() {
    let place = Place::new();
    let records = records(place.document, 2, "me");
    place.open().append(&records).await.unwrap();
    let path = place.file();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let store = place.open();
    assert_eq!(store.scan(&scope(), place.document).await.unwrap(), records[..1]);
    assert!(!store.has_grown(place.document), "whoever reads it again finds the same");
}

#[tokio::test]
async fn what_is_appended_after_a_compaction_is_seen_and_stays_noted() {
    let place = Place::new();
    let records = records(place.document, 40, "me");
    let (ours, theirs) = (place.open(), place.open());
    theirs.append(&records[..39]).await.unwrap();
    ours.scan(&scope(), place.document).await.unwrap();
    theirs.compact(&scope(), place.document).await.unwrap();
    theirs.append(&records[39..]).await.unwrap();
    assert!(ours.has_grown(place.document), "though the file is shorter than it was");
    ours.sent(place.document).await.unwrap();
    assert_eq!(place.open().unsent().unwrap(), [place.document]);
}

#[tokio::test]
async fn what_is_unsent_is_noted_until_it_is_sent() {
    let place = Place::new();
    let records = records(place.document, 3, "me");
    let store = place.open();
    store.append(&records[..2]).await.unwrap();
    assert_eq!(place.open().unsent().unwrap(), [place.document]);
    store.sent(place.document).await.unwrap();
    assert!(place.open().unsent().unwrap().is_empty());
    store.append(&records[2..]).await.unwrap();
    assert_eq!(place.open().unsent().unwrap(), [place.document]);
    // A later process that has read it may send it as well.
    let later = place.open();
    later.scan(&scope(), place.document).await.unwrap();
    later.sent(place.document).await.unwrap();
    assert!(place.open().unsent().unwrap().is_empty());
}

#[tokio::test]
async fn what_another_process_wrote_unseen_stays_noted() {
    let place = Place::new();
    let records = records(place.document, 2, "me");
    let ours = place.open();
    ours.append(&records[..1]).await.unwrap();
    place.open().append(&records[1..]).await.unwrap();
    ours.sent(place.document).await.unwrap();
    assert_eq!(place.open().unsent().unwrap(), [place.document], "it was never read by the one that says sent");
}

#[tokio::test]
async fn what_was_read_over_while_appending_is_unseen_until_it_is_given_out() {
    let place = Place::new();
    let (ours, theirs) = (records(place.document, 2, "me"), records(place.document, 3, "me"));
    let (one, other) = (place.open(), place.open());
    one.append(&ours[..1]).await.unwrap();
    other.append(&theirs[..1]).await.unwrap();
    // Their note is known here from now on, and stands for what they append next as well.
    one.scan(&scope(), place.document).await.unwrap();
    other.append(&theirs[1..]).await.unwrap();
    one.append(&ours[1..]).await.unwrap();
    assert!(one.has_grown(place.document), "it was read over, and given to nobody");
    one.sent(place.document).await.unwrap();
    assert_eq!(place.open().unsent().unwrap(), [place.document]);
    // Brought by the relay, or read: then it is seen.
    one.append(&theirs[1..2]).await.unwrap();
    assert!(one.has_grown(place.document));
    one.scan(&scope(), place.document).await.unwrap();
    assert!(!one.has_grown(place.document));
    one.sent(place.document).await.unwrap();
    assert!(place.open().unsent().unwrap().is_empty());
}

#[tokio::test]
async fn what_came_from_the_relay_is_not_unsent() {
    let place = Place::new();
    place.open().append(&records(place.document, 2, RELAY)).await.unwrap();
    assert!(place.open().unsent().unwrap().is_empty());
}

#[tokio::test]
async fn files_of_anything_else_harm_nobody() {
    let place = Place::new();
    let records = records(place.document, 2, "me");
    place.open().append(&records).await.unwrap();
    fs::write(place.folder.path().join("documents/notes.txt"), "x").unwrap();
    assert_eq!(place.open().documents(&scope()).await.unwrap(), [place.document]);
    for junk in [&b""[..], b"SKN1", b"SKN1\xff\xff\xff\xff", &[0; 5000]] {
        OpenOptions::new().append(true).open(place.file()).unwrap().write_all(junk).unwrap();
        assert_eq!(place.scan().await, records);
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named_in_the_error() {
    let place = Place::new();
    let file = place.folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = FileStore::open(&file).unwrap_err().to_string();
    assert!(error.contains("file"), "{error}");
}

#[tokio::test]
async fn a_compacted_file_is_smaller_and_holds_the_same() {
    let place = Place::new();
    let mut records = records(place.document, 40, "me");
    records[..20].iter_mut().for_each(|record| record.received_from = Principal::from(RELAY));
    let store = place.open();
    store.append(&records).await.unwrap();
    let before = fs::read(place.file()).unwrap();
    // What the disk has damaged goes; what is whole behind it stays.
    let mut damaged = before.clone();
    let at = before.len() / 2;
    damaged[at] ^= 0xff;
    fs::write(place.file(), &damaged).unwrap();
    let left = place.scan().await;
    assert_eq!(left.len(), 39);
    place.open().compact(&scope(), place.document).await.unwrap();
    assert!(fs::metadata(place.file()).unwrap().len() < before.len() as u64 * 2 / 3);
    assert_eq!(place.scan().await, left);
    assert_eq!(place.open().unsent().unwrap(), [place.document], "what is unsent still is");

    // A process that had read the old file goes on with the new one.
    store.append(&records).await.unwrap();
    assert_eq!(place.scan().await.len(), 40);
    assert_eq!(store.scan(&scope(), place.document).await.unwrap().len(), 40);
    let compacted = fs::read(place.file()).unwrap();
    for end in [10, 21, compacted.len() - 1] {
        fs::write(place.file(), &compacted[..end]).unwrap();
        assert!(place.scan().await.iter().all(|record| records.contains(record)), "torn at {end}");
    }
}

#[tokio::test]
async fn what_is_appended_while_files_are_compacted_is_not_lost() {
    let place = Place::new();
    let records = records(place.document, 60, "me");
    let (one, two) = (place.open(), place.open());
    let writing = async {
        for record in &records {
            one.append(std::slice::from_ref(record)).await.unwrap();
        }
    };
    let (document, scope) = (place.document, scope());
    let compacting = async {
        for _ in 0..30 {
            two.compact(&scope, document).await.unwrap();
        }
    };
    tokio::join!(writing, compacting);
    assert_eq!(place.scan().await, records);
    assert_eq!(one.scan(&scope, place.document).await.unwrap(), records);
}

#[tokio::test]
async fn a_crash_in_the_middle_of_compacting_loses_nothing() {
    let place = Place::new();
    let records = records(place.document, 5, "me");
    place.open().append(&records).await.unwrap();
    let half = place.folder.path().join("documents").join(format!(".{}.half", place.document));
    fs::write(&half, b"SKG1 and half a file").unwrap();
    assert_eq!(place.open().documents(&scope()).await.unwrap(), [place.document]);
    assert_eq!(place.scan().await, records);
    assert!(!half.exists(), "it is cleared away at the next opening");
}

#[tokio::test]
async fn what_is_unsent_is_not_deleted() {
    let place = Place::new();
    let store = place.open();
    store.append(&records(place.document, 2, "me")).await.unwrap();
    store.delete(&scope(), place.document).await.unwrap();
    assert_eq!(place.scan().await.len(), 2);
    store.sent(place.document).await.unwrap();
    store.delete(&scope(), place.document).await.unwrap();
    assert!(place.scan().await.is_empty() && !place.file().exists());
}
