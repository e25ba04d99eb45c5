//! The ledger: what no client could bring back. Who each actor is, as of its first change, never rewritten; the highest
//! epoch and the last claim of each session; the documents that broke whoever read them; what is left of purged ones;
//! what each member has read.
//!
//! One sled tree: `w` document actor → writer, `e` document → claim, `q` document → why it is set aside, `t` document →
//! what is left of it, `m` member session → mark. Everything here blocks.

use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skein_engine::ids::{ActorId, ChangeHash, DocumentId, Epoch, PeerId, Principal, Scope};
use skein_engine::session::conversation::Writer;
use skein_engine::wire::catalog::{Mark, Tombstone};
use skein_engine::wire::cbor;
use sled::Batch;

use super::database::{Damage, Database};
use super::{StoreError, document_key, read_document_key};

/// Bytes that sled may keep in memory.
const CACHE: u64 = 16 << 20;

type Key = (Scope, DocumentId);

/// See the module. Clones are the same ledger.
#[derive(Clone)]
pub struct Ledger(Arc<Database>);

/// The last claim of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The highest epoch granted.
    pub epoch: Epoch,
    /// The actor that was taken for it.
    pub actor: ActorId,
    /// Who holds it.
    pub principal: Principal,
    /// The worker's peer id.
    pub peer: PeerId,
    /// It was released or lapsed.
    pub ended: bool,
}

/// What is left of a purged document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grave {
    /// Its last heads: what devices have beyond them was never here.
    pub heads: Vec<ChangeHash>,
    /// What its row says.
    pub tombstone: Tombstone,
}

/// How far a member has read in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedMark {
    /// The member's.
    pub scope: Scope,
    /// How far.
    pub mark: Mark,
    /// The catalog's cursor at which it changed; `None`: the relay ended before it was given out.
    pub cursor: Option<u64>,
}

impl Ledger {
    /// Opens the ledger in a folder; the second value is what was found wrong.
    pub fn open(path: &Path) -> Result<(Self, Option<Damage>), StoreError> {
        let (database, damage) = Database::open(path, CACHE)?;
        Ok((Self(Arc::new(database)), damage))
    }

    /// Where it is kept.
    pub(super) fn database(&self) -> &Database {
        &self.0
    }

    /// Makes everything durable and lets go of the files.
    pub fn close(&self) {
        self.0.close();
    }

    /// Binds actors to their writers. One that is bound stays as it was. Durable on return.
    pub fn bind(&self, writers: &[(Key, ActorId, Writer)]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let mut new = false;
        for ((scope, document), actor, writer) in writers {
            let mut key = prefixed(b'w', scope, *document);
            key.extend_from_slice(actor.to_bytes());
            if self.0.read(|tree| tree.contains_key(&key))? {
                continue;
            }
            batch.insert(key, cbor::encode(writer));
            new = true;
        }
        if new { self.0.commit(batch) } else { Ok(()) }
    }

    /// Who wrote a document.
    pub fn writers(&self, (scope, document): &Key) -> Result<Vec<(ActorId, Writer)>, StoreError> {
        let prefix = prefixed(b'w', scope, *document);
        self.0.read(|tree| {
            let mut writers = Vec::new();
            for entry in tree.scan_prefix(&prefix) {
                let (key, value) = entry?;
                if let Some(writer) = decode(&value) {
                    writers.push((ActorId::from(&key[prefix.len()..]), writer));
                }
            }
            Ok(writers)
        })
    }

    /// The last claim of a session.
    pub fn claim(&self, (scope, document): &Key) -> Result<Option<Claim>, StoreError> {
        let value = self.0.read(|tree| tree.get(prefixed(b'e', scope, *document)))?;
        Ok(value.as_deref().and_then(decode))
    }

    /// Records a claim before it is granted. Durable on return.
    pub fn grant(&self, (scope, document): &Key, claim: &Claim) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.insert(prefixed(b'e', scope, *document), cbor::encode(claim));
        self.0.commit(batch)
    }

    /// Records that a claim has ended; not waiting for the disk, since one that reads as live only lapses again.
    pub fn end(&self, (scope, document): &Key, claim: &Claim) -> Result<(), StoreError> {
        let ended = Claim { ended: true, ..claim.clone() };
        self.0.write(|tree| tree.insert(prefixed(b'e', scope, *document), cbor::encode(&ended)).map(|_| ()))
    }

    /// The claims that were live when the relay stopped.
    pub fn open_claims(&self) -> Result<Vec<(Key, Claim)>, StoreError> {
        self.0.read(|tree| {
            let mut claims = Vec::new();
            for entry in tree.scan_prefix(b"e") {
                let (key, value) = entry?;
                if let (Some(key), Some(claim)) = (read_document_key(&key[1..]), decode::<Claim>(&value))
                    && !claim.ended
                {
                    claims.push((key, claim));
                }
            }
            Ok(claims)
        })
    }

    /// Records that a document is purged, and lets go of who wrote it. Durable on return.
    pub fn bury(&self, (scope, document): &Key, grave: &Grave) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let writers = prefixed(b'w', scope, *document);
        for key in self.0.read(|tree| tree.scan_prefix(&writers).keys().collect::<sled::Result<Vec<_>>>())? {
            batch.remove(key);
        }
        batch.insert(prefixed(b't', scope, *document), cbor::encode(grave));
        self.0.commit(batch)
    }

    /// All purged documents.
    pub fn graves(&self) -> Result<Vec<(Key, Grave)>, StoreError> {
        self.0.read(|tree| {
            let mut graves = Vec::new();
            for entry in tree.scan_prefix(b"t") {
                let (key, value) = entry?;
                if let (Some(key), Some(grave)) = (read_document_key(&key[1..]), decode(&value)) {
                    graves.push((key, grave));
                }
            }
            Ok(graves)
        })
    }

    /// Keeps marks, which replace lower ones. Durable on return.
    pub fn keep_marks(&self, marks: &[(Scope, Mark)]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (scope, mark) in marks {
            batch.insert(prefixed(b'm', scope, mark.session), cbor::encode(&(mark.progress, None::<u64>)));
        }
        self.0.commit(batch)
    }

    /// Notes at which cursor a mark was given out; not waiting for the disk: without a note it is given out again.
    pub fn place_mark(&self, scope: &Scope, mark: Mark, cursor: u64) -> Result<(), StoreError> {
        let value = cbor::encode(&(mark.progress, Some(cursor)));
        self.0.write(|tree| tree.insert(prefixed(b'm', scope, mark.session), value).map(|_| ()))
    }

    /// Drops a mark.
    pub fn drop_mark(&self, scope: &Scope, session: DocumentId) -> Result<(), StoreError> {
        self.0.write(|tree| tree.remove(prefixed(b'm', scope, session)).map(|_| ()))
    }

    /// All marks.
    pub fn marks(&self) -> Result<Vec<SavedMark>, StoreError> {
        self.0.read(|tree| {
            let mut marks = Vec::new();
            for entry in tree.scan_prefix(b"m") {
                let (key, value) = entry?;
                if let (Some((scope, session)), Some((progress, cursor))) =
                    (read_document_key(&key[1..]), decode::<(u64, Option<u64>)>(&value))
                {
                    marks.push(SavedMark { scope, mark: Mark { session, progress }, cursor });
                }
            }
            Ok(marks)
        })
    }

    /// Why a document is set aside, if it is.
    pub fn set_aside(&self, (scope, document): &Key) -> Result<Option<String>, StoreError> {
        let value = self.0.read(|tree| tree.get(prefixed(b'q', scope, *document)))?;
        Ok(value.map(|why| String::from_utf8_lossy(&why).into_owned()))
    }

    /// Sets a document aside: nothing builds it any more. Durable on return.
    pub fn put_aside(&self, (scope, document): &Key, why: &str) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.insert(prefixed(b'q', scope, *document), why.as_bytes());
        self.0.commit(batch)
    }
}

fn decode<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    cbor::decode(value).ok()
}

fn prefixed(kind: u8, scope: &Scope, document: DocumentId) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend(document_key(scope, document));
    key
}

#[cfg(test)]
mod tests {
    use skein_engine::session::conversation::{MemberRole, WriterKind};

    use super::*;

    fn writer(name: &str) -> Writer {
        Writer { principal: Principal::from(name), kind: WriterKind::Member, role: MemberRole::Member }
    }

    #[test]
    fn an_actor_stays_who_it_was_at_its_first_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let key = (Scope::from("w/1"), DocumentId::random());
        let other = (Scope::from("w/2"), key.1);
        let actor = ActorId::from([7; 16].as_slice());
        {
            let (ledger, _) = Ledger::open(&path).unwrap();
            ledger.bind(&[(key.clone(), actor.clone(), writer("first"))]).unwrap();
            ledger.bind(&[(key.clone(), actor.clone(), writer("second"))]).unwrap();
            ledger.close();
        }
        let (ledger, _) = Ledger::open(&path).unwrap();
        assert_eq!(ledger.writers(&key).unwrap(), [(actor, writer("first"))]);
        assert_eq!(ledger.writers(&other).unwrap(), []);
    }

    #[test]
    fn claims_are_known_after_a_restart_and_only_the_live_ones_are_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let [live, done] = [0, 1].map(|_| (Scope::from("w/1"), DocumentId::random()));
        let claim = Claim {
            epoch: Epoch(9),
            actor: ActorId::from([7; 16].as_slice()),
            principal: Principal::from("worker"),
            peer: PeerId::from("peer"),
            ended: false,
        };
        {
            let (ledger, _) = Ledger::open(&path).unwrap();
            ledger.grant(&live, &claim).unwrap();
            ledger.grant(&done, &claim).unwrap();
            ledger.end(&done, &claim).unwrap();
            ledger.close();
        }
        let (ledger, _) = Ledger::open(&path).unwrap();
        assert_eq!(ledger.open_claims().unwrap(), [(live.clone(), claim)]);
        assert_eq!(ledger.claim(&done).unwrap().unwrap().epoch, Epoch(9));
    }
    #[test]
    fn marks_and_graves_are_there_after_a_reopen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let key = (Scope::from("w/1"), DocumentId::random());
        let scope = Scope::from("m/1");
        let [placed, open] = [3, 5].map(|progress| Mark { session: DocumentId::random(), progress });
        let tombstone = Tombstone { at: skein_engine::ids::Timestamp(7), by: "ada".to_owned(), spent: vec![] };
        let grave = Grave { heads: vec![automerge::ChangeHash([9; 32])], tombstone };
        {
            let (ledger, _) = Ledger::open(&path).unwrap();
            let actor = ActorId::from([7; 16].as_slice());
            ledger.bind(&[(key.clone(), actor, writer("first"))]).unwrap();
            ledger.keep_marks(&[(scope.clone(), placed), (scope.clone(), open)]).unwrap();
            ledger.place_mark(&scope, placed, 11).unwrap();
            ledger.bury(&key, &grave).unwrap();
            ledger.close();
        }
        let (ledger, _) = Ledger::open(&path).unwrap();
        assert_eq!(ledger.writers(&key).unwrap(), []);
        assert_eq!(ledger.graves().unwrap(), [(key, grave)]);
        let mut marks = ledger.marks().unwrap();
        marks.sort_by_key(|saved| saved.mark.progress);
        let saved = |mark, cursor| SavedMark { scope: scope.clone(), mark, cursor };
        assert_eq!(marks, [saved(placed, Some(11)), saved(open, None)]);
        ledger.drop_mark(&scope, open.session).unwrap();
        assert_eq!(ledger.marks().unwrap(), [saved(placed, Some(11))]);
    }
}
