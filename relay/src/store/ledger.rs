//! The ledger: what no client could bring back. Who each actor is, as of its first change, never rewritten; the highest
//! epoch and the last claim of each session; the documents that broke whoever read them.
//!
//! One sled tree: `w` document actor → writer, `e` document → claim, `q` document → why it is set aside. Everything
//! here blocks.

use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skein_engine::ids::{ActorId, DocumentId, Epoch, PeerId, Principal, Scope};
use skein_engine::session::conversation::Writer;
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

impl Ledger {
    /// Opens the ledger in a folder; the second value is what was found wrong.
    pub fn open(path: &Path) -> Result<(Self, Option<Damage>), StoreError> {
        let (database, damage) = Database::open(path, CACHE)?;
        Ok((Self(Arc::new(database)), damage))
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
        assert_eq!(ledger.open_claims().unwrap(), [(live, claim)]);
        assert_eq!(ledger.claim(&done).unwrap().unwrap().epoch, Epoch(9));
    }
}
