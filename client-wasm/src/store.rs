//! What a device keeps in IndexedDB: changes, the catalog's rows, who wrote what, and who it is. One database for each
//! workspace, named by its document, so that a replica is never offered to another.
//!
//! Object stores, all of bytes: `records` by [document, hash], `documents` by document (1 while it holds changes that the
//! relay may not have), `kept` (heads, size, last use), `snapshots` (the end of the conversation), `rows` and `writers`
//! likewise by document, `queue` (commands that wait) by id, `blobs` and `outbox` (those that wait for the relay) by hash,
//! `meta` by name. What is in CBOR is the engine's own wire format.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use js_sys::Array;
use serde::{Deserialize, Serialize};
use skein_engine::blob::BlobId;
use skein_engine::device::{KeptDocument, Marks, QueueWrite, WaitingCommand};
use skein_engine::graph::change::ParsedChange;
use skein_engine::ids::{ChangeHash, DocumentId, Principal, Scope, Timestamp};
use skein_engine::session::snapshot::Snapshot;
use skein_engine::storage::Record;
use skein_engine::wire::catalog::{Row, Welcome, WriterRow};
use skein_engine::wire::cbor;
use wasm_bindgen::JsValue;

use crate::browser::now;
use crate::database::{Database, DatabaseError, Durability, Write, under};

const RECORDS: &str = "records";
const DOCUMENTS: &str = "documents";
const ROWS: &str = "rows";
const WRITERS: &str = "writers";
const META: &str = "meta";
const KEPT: &str = "kept";
const SNAPSHOTS: &str = "snapshots";
const QUEUE: &str = "queue";
const BLOBS: &str = "blobs";
const OUTBOX: &str = "outbox";
const STORES: &[&str] = &[RECORDS, DOCUMENTS, ROWS, WRITERS, META, KEPT, SNAPSHOTS, QUEUE, BLOBS, OUTBOX];
/// Of [`STORES`]: since 2 `kept`, `snapshots`, `queue`, `blobs` and `outbox`.
const VERSION: u32 = 2;

const SENT: u8 = 0;
const UNSENT: u8 = 1;

/// See the module.
pub struct Store {
    database: Database,
    last: Cell<u64>,
}

/// A change as it is kept; the rest of its record is read from its bytes.
#[derive(Serialize, Deserialize)]
struct KeptChange {
    /// Where it stands among the changes of its document: after its deps.
    n: u64,
    scope: Scope,
    from: Principal,
    bytes: bytes::Bytes,
}

/// What an earlier start has left.
#[derive(Default)]
pub struct Left {
    /// Rows of the catalog.
    pub rows: Vec<Row>,
    /// Up to where they are complete.
    pub cursor: u64,
    /// Who wrote which document.
    pub writers: Vec<(DocumentId, Vec<WriterRow>)>,
    /// How far the member has read.
    pub marks: Marks,
    /// Documents with changes that the relay may not have, and those that the catalog doesn't list.
    pub to_open: BTreeSet<DocumentId>,
    /// When the relay was last heard.
    pub last_contact: Option<Timestamp>,
    /// What is in the store.
    pub kept: Vec<KeptDocument>,
    /// Commands that wait for their documents.
    pub queue: Vec<WaitingCommand>,
    /// Blobs that the relay may not have.
    pub outbox: Vec<BlobId>,
}

/// What has changed of the catalog since it was last kept.
#[derive(Default)]
pub struct CatalogWrites {
    /// New or changed.
    pub rows: Vec<Row>,
    /// Gone.
    pub removed: Vec<DocumentId>,
    /// Up to where the rows are complete.
    pub cursor: u64,
    /// Who wrote which document, where that is new.
    pub writers: Vec<(DocumentId, Vec<WriterRow>)>,
    /// How far the member has read, where that is new.
    pub marks: Option<Marks>,
    /// Who this device is.
    pub identity: Option<Welcome>,
    /// When the relay was last heard.
    pub last_contact: Option<Timestamp>,
    /// Documents of which the relay has everything.
    pub sent: Vec<DocumentId>,
    /// What is in the store, where that is new.
    pub kept: Vec<KeptDocument>,
    /// Ends of conversations.
    pub snapshots: Vec<Snapshot>,
}

impl Store {
    /// Opens the database of a workspace, or makes it.
    pub async fn open(workspace: DocumentId) -> Result<Self, DatabaseError> {
        Ok(Self { database: Database::open(&name(workspace), VERSION, STORES).await?, last: Cell::new(0) })
    }

    /// Deletes it.
    pub async fn delete(workspace: DocumentId) -> Result<(), DatabaseError> {
        Database::delete(&name(workspace)).await
    }

    /// Appends changes, each after its deps, and brings the queue of commands up to date with them. `own`: documents with
    /// changes that the relay may not have. All of it or nothing is durable on return, through a power cut too if there is
    /// anything that the relay may not have.
    pub async fn append(
        &self,
        group: &[Record],
        queue: &[QueueWrite],
        own: &BTreeSet<DocumentId>,
    ) -> Result<(), DatabaseError> {
        let mut writes = Vec::new();
        let mut documents = BTreeSet::new();
        for record in group {
            let id = record.document.to_string();
            let kept = KeptChange {
                n: self.next(),
                scope: record.scope.clone(),
                from: record.received_from.clone(),
                bytes: record.bytes.clone(),
            };
            let key = Array::of2(&id.as_str().into(), &record.hash.to_string().into()).into();
            writes.push(Write::Add { store: RECORDS, key, value: cbor::encode(&kept) });
            documents.insert(record.document);
        }
        for id in documents {
            let key = JsValue::from_str(&id.to_string());
            writes.push(match own.contains(&id) {
                true => Write::Put { store: DOCUMENTS, key, value: vec![UNSENT] },
                false => Write::Add { store: DOCUMENTS, key, value: vec![SENT] },
            });
        }
        writes.extend(queue.iter().map(|write| match write {
            QueueWrite::Keep(entry) => put(QUEUE, entry.id.as_str().into(), entry),
            QueueWrite::Drop(id) => Write::Delete { store: QUEUE, key: id.as_str().into() },
        }));
        let relaxed = own.is_empty() && queue.is_empty();
        self.database.write(writes, if relaxed { Durability::Relaxed } else { Durability::Strict }).await
    }

    /// Drops documents with all that is kept beside them.
    pub async fn drop_documents(&self, documents: &[DocumentId]) -> Result<(), DatabaseError> {
        let mut writes = Vec::new();
        for id in documents.iter().map(DocumentId::to_string) {
            writes.push(Write::Delete { store: RECORDS, key: under(&id)?.into() });
            let stores = [DOCUMENTS, KEPT, SNAPSHOTS].into_iter();
            writes.extend(stores.map(|store| Write::Delete { store, key: id.as_str().into() }));
        }
        self.database.write(writes, Durability::Relaxed).await
    }

    /// The end of a conversation, as it was kept last.
    pub async fn snapshot(&self, session: DocumentId) -> Result<Option<Snapshot>, DatabaseError> {
        let kept = self.database.get(SNAPSHOTS, &session.to_string().into()).await?;
        Ok(kept.and_then(|bytes| Snapshot::decode(&bytes)))
    }

    /// Keeps a blob that the relay may not have. Durable on return.
    pub async fn put_blob(&self, id: BlobId, bytes: Vec<u8>) -> Result<(), DatabaseError> {
        let key = || JsValue::from_str(&id.to_string());
        let writes = vec![
            Write::Put { store: BLOBS, key: key(), value: bytes },
            Write::Put { store: OUTBOX, key: key(), value: Vec::new() },
        ];
        self.database.write(writes, Durability::Strict).await
    }

    /// A blob that is here.
    pub async fn blob(&self, id: BlobId) -> Result<Option<Vec<u8>>, DatabaseError> {
        self.database.get(BLOBS, &id.to_string().into()).await
    }

    /// The relay has it: it can be fetched from there.
    pub async fn blob_sent(&self, id: BlobId) -> Result<(), DatabaseError> {
        let key = || JsValue::from_str(&id.to_string());
        let stores = [BLOBS, OUTBOX].into_iter();
        self.database
            .write(stores.map(|store| Write::Delete { store, key: key() }).collect(), Durability::Relaxed)
            .await
    }

    /// Takes changes out: their person has let go of them. Durable on return.
    pub async fn discard(&self, changes: &[(DocumentId, Vec<ChangeHash>)]) -> Result<(), DatabaseError> {
        let each = changes.iter().flat_map(|(document, gone)| gone.iter().map(move |hash| (document, hash)));
        let writes = each.map(|(document, hash)| {
            let key = Array::of2(&document.to_string().as_str().into(), &hash.to_string().into()).into();
            Write::Delete { store: RECORDS, key }
        });
        self.database.write(writes.collect(), Durability::Strict).await
    }

    /// Every change of a document, each after its deps. What can't be read is left out: the relay has it, or nobody.
    pub async fn scan(&self, document: DocumentId) -> Result<Vec<Record>, DatabaseError> {
        let values = self.database.all(RECORDS, Some(&under(&document.to_string())?)).await?;
        let mut kept: Vec<KeptChange> = values.iter().filter_map(|value| cbor::decode(value).ok()).collect();
        kept.sort_by_key(|kept| kept.n);
        Ok(kept.into_iter().filter_map(|kept| record(document, kept)).collect())
    }

    /// Who this device is, as last heard.
    pub async fn identity(&self) -> Result<Option<Welcome>, DatabaseError> {
        self.meta("identity").await
    }

    /// Everything but the documents.
    pub async fn left(&self) -> Result<Left, DatabaseError> {
        let stored = self.database.all(ROWS, None).await?;
        let rows: Vec<Row> = decode_all(&stored);
        // What an earlier version wrote of the list can't be read: the relay is asked for all of it.
        let complete = rows.len() == stored.len();
        let writers = decode_all(&self.database.all(WRITERS, None).await?);
        let listed: BTreeSet<DocumentId> = rows.iter().map(|row| row.document).collect();
        let noted: Vec<KeptDocument> = decode_all(&self.database.all(KEPT, None).await?);
        let mut noted: BTreeMap<DocumentId, KeptDocument> =
            noted.into_iter().map(|kept| (kept.document, kept)).collect();
        let mut kept = Vec::new();
        let mut to_open = BTreeSet::new();
        // Keys and values of one object store come in the same order.
        let keys = self.database.keys(DOCUMENTS).await?;
        let marks = self.database.all(DOCUMENTS, None).await?;
        for (key, mark) in keys.iter().zip(marks) {
            let Ok(id) = key.parse::<DocumentId>() else { continue };
            let (used, heads) = (Timestamp(0), Vec::new());
            let known =
                noted.remove(&id).unwrap_or(KeptDocument { document: id, heads, bytes: 0, used, unsent: false });
            kept.push(KeptDocument { unsent: mark == [UNSENT], ..known });
            if mark == [UNSENT] || !listed.contains(&id) {
                to_open.insert(id);
            }
        }
        Ok(Left {
            rows,
            cursor: self.meta("cursor").await?.filter(|_| complete).unwrap_or(0),
            writers,
            marks: self.meta("marks").await?.unwrap_or_default(),
            to_open,
            last_contact: self.meta("contact").await?,
            kept,
            queue: decode_all(&self.database.all(QUEUE, None).await?),
            outbox: self.database.keys(OUTBOX).await?.iter().filter_map(|key| key.parse().ok()).collect(),
        })
    }

    /// Keeps what has changed of the catalog.
    pub async fn keep(&self, catalog: CatalogWrites) -> Result<(), DatabaseError> {
        let CatalogWrites { rows, removed, cursor, writers, marks, identity, last_contact, sent, kept, snapshots } =
            catalog;
        let key = |id: DocumentId| JsValue::from_str(&id.to_string());
        let mut writes = vec![put(META, "cursor".into(), &cursor)];
        writes.extend(rows.iter().map(|row| put(ROWS, key(row.document), row)));
        writes.extend(removed.into_iter().map(|id| Write::Delete { store: ROWS, key: key(id) }));
        writes.extend(writers.iter().map(|of| put(WRITERS, key(of.0), of)));
        writes.extend(marks.iter().map(|marks| put(META, "marks".into(), marks)));
        writes.extend(identity.iter().map(|identity| put(META, "identity".into(), identity)));
        writes.extend(last_contact.iter().map(|time| put(META, "contact".into(), time)));
        writes.extend(kept.iter().map(|kept| put(KEPT, key(kept.document), kept)));
        writes.extend(snapshots.iter().map(|snapshot| Write::Put {
            store: SNAPSHOTS,
            key: key(snapshot.session),
            value: snapshot.encode(),
        }));
        writes.extend(sent.into_iter().map(|id| Write::Put { store: DOCUMENTS, key: key(id), value: vec![SENT] }));
        self.database.write(writes, Durability::Relaxed).await
    }

    async fn meta<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, DatabaseError> {
        Ok(self.database.get(META, &name.into()).await?.and_then(|value| cbor::decode(&value).ok()))
    }

    /// Grows with time across starts, and within one even where the clock is set back.
    fn next(&self) -> u64 {
        let n = (now().0 * 1000).max(self.last.get() + 1);
        self.last.set(n);
        n
    }
}

/// What has changed between what is kept and what is.
pub fn changed_rows(kept: &mut BTreeMap<DocumentId, Row>, rows: Vec<Row>) -> (Vec<Row>, Vec<DocumentId>) {
    let present: BTreeSet<DocumentId> = rows.iter().map(|row| row.document).collect();
    let removed: Vec<DocumentId> = kept.keys().filter(|id| !present.contains(id)).copied().collect();
    for id in &removed {
        kept.remove(id);
    }
    let changed: Vec<Row> = rows.into_iter().filter(|row| kept.get(&row.document) != Some(row)).collect();
    kept.extend(changed.iter().map(|row| (row.document, row.clone())));
    (changed, removed)
}

fn name(workspace: DocumentId) -> String {
    ["skein/", &workspace.to_string()].concat()
}

fn put<T: Serialize>(store: &'static str, key: JsValue, value: &T) -> Write {
    Write::Put { store, key, value: cbor::encode(value) }
}

fn decode_all<T: serde::de::DeserializeOwned>(values: &[Vec<u8>]) -> Vec<T> {
    values.iter().filter_map(|value| cbor::decode(value).ok()).collect()
}

fn record(document: DocumentId, kept: KeptChange) -> Option<Record> {
    let change = ParsedChange::parse(kept.bytes).ok()?;
    Some(Record {
        scope: kept.scope,
        document,
        hash: change.hash,
        deps: change.deps,
        actor: change.actor,
        seq: change.seq,
        received_from: kept.from,
        bytes: change.bytes,
    })
}
