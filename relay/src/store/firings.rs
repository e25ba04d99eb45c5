//! What the ledger keeps of tasks: each firing with the session that it made, what was triggered and not fired yet, and
//! the tokens that trigger. Everything here blocks, and is durable on return.
//!
//! Keys: `f` scope task id → firing, `g` scope task id → trigger, `h` SHA-256 of a token → scope and task, `i` scope task →
//! that SHA-256. An id that sorts is written so that it sorts.

use serde::{Deserialize, Serialize};
use skein_engine::ids::Scope;
use skein_engine::wire::catalog::{Firing, MAX_FIRINGS, Trigger};
use skein_engine::wire::cbor;
use sled::Batch;

use super::ledger::Ledger;
use super::{StoreError, scope_key};

/// Firings of one task that are kept.
const KEPT: usize = 1_000;
/// Triggers of one task that may wait.
pub const MAX_WAITING: usize = 1_000;

/// A token's task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggers {
    /// Where.
    pub scope: Scope,
    /// Its id.
    pub task: String,
}

impl Ledger {
    /// A firing, if it is recorded.
    pub fn firing(&self, scope: &Scope, task: &str, id: &str) -> Result<Option<Firing>, StoreError> {
        let value = self.database().read(|tree| tree.get(key(b'f', scope, task, id)))?;
        Ok(value.as_deref().and_then(|bytes| cbor::decode(bytes).ok()))
    }

    /// Records a firing, in place of one with its id; what it answers waits no longer.
    pub fn fire(&self, scope: &Scope, firing: &Firing) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let mut kept = self.of_task(scope, &firing.task)?;
        kept.retain(|other| other.id != firing.id);
        let beyond = (kept.len() + 1).saturating_sub(KEPT);
        for old in kept.into_iter().take(beyond) {
            batch.remove(key(b'f', scope, &old.task, &old.id));
        }
        batch.insert(key(b'f', scope, &firing.task, &firing.id), cbor::encode(firing));
        batch.remove(key(b'g', scope, &firing.task, &firing.id));
        self.database().commit(batch)
    }

    /// The firings of a task, oldest first.
    pub fn of_task(&self, scope: &Scope, task: &str) -> Result<Vec<Firing>, StoreError> {
        let mut firings: Vec<Firing> = self.scan(&prefix(b'f', scope, Some(task)))?;
        firings.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        Ok(firings)
    }

    /// The latest of every task, oldest first.
    pub fn latest(&self, scope: &Scope) -> Result<Vec<Firing>, StoreError> {
        let mut firings: Vec<Firing> = self.scan(&prefix(b'f', scope, None))?;
        firings.sort_by(|a, b| (&a.task, a.at, &a.id).cmp(&(&b.task, b.at, &b.id)));
        let latest =
            firings.chunk_by(|a, b| a.task == b.task).flat_map(|of| &of[of.len().saturating_sub(MAX_FIRINGS)..]);
        Ok(latest.cloned().collect())
    }

    /// All firings of a workspace.
    pub fn all_firings(&self, scope: &Scope) -> Result<Vec<Firing>, StoreError> {
        self.scan(&prefix(b'f', scope, None))
    }

    /// Records firings that came with an archive, where none of their id is known.
    pub fn keep_firings(&self, scope: &Scope, firings: &[Firing]) -> Result<(), StoreError> {
        for firing in firings {
            if self.firing(scope, &firing.task, &firing.id)?.is_none() {
                self.fire(scope, firing)?;
            }
        }
        Ok(())
    }

    /// Keeps a trigger until it is fired. `false`: too many of its task wait already.
    pub fn trigger(&self, scope: &Scope, trigger: &Trigger) -> Result<bool, StoreError> {
        let waiting = self.scan::<Trigger>(&prefix(b'g', scope, Some(&trigger.task)))?;
        if waiting.len() >= MAX_WAITING {
            return Ok(false);
        }
        let mut batch = Batch::default();
        batch.insert(key(b'g', scope, &trigger.task, &trigger.id), cbor::encode(trigger));
        self.database().commit(batch).map(|()| true)
    }

    /// What was triggered and not fired yet, in a workspace.
    pub fn triggered(&self, scope: &Scope) -> Result<Vec<Trigger>, StoreError> {
        self.scan(&prefix(b'g', scope, None))
    }

    /// Lets a token, by its hash, trigger a task, and the one before no longer.
    pub fn let_trigger(&self, hash: &[u8], triggers: &Triggers) -> Result<(), StoreError> {
        let of_task = key(b'i', &triggers.scope, &triggers.task, "");
        let mut batch = Batch::default();
        if let Some(before) = self.database().read(|tree| tree.get(&of_task))? {
            batch.remove([b"h".as_slice(), &before].concat());
        }
        batch.insert([b"h".as_slice(), hash].concat(), cbor::encode(triggers));
        batch.insert(of_task, hash);
        self.database().commit(batch)
    }

    /// What a token, by its hash, triggers.
    pub fn triggers(&self, hash: &[u8]) -> Result<Option<Triggers>, StoreError> {
        let value = self.database().read(|tree| tree.get([b"h".as_slice(), hash].concat()))?;
        Ok(value.as_deref().and_then(|bytes| cbor::decode(bytes).ok()))
    }

    fn scan<T: serde::de::DeserializeOwned>(&self, prefix: &[u8]) -> Result<Vec<T>, StoreError> {
        self.database().read(|tree| {
            let values = tree.scan_prefix(prefix).values().collect::<sled::Result<Vec<_>>>()?;
            Ok(values.iter().filter_map(|value| cbor::decode(value).ok()).collect())
        })
    }
}

/// A key's part that all of a task, or of a workspace, share.
fn prefix(kind: u8, scope: &Scope, task: Option<&str>) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend(scope_key(scope));
    if let Some(task) = task {
        key.extend_from_slice(task.as_bytes());
        key.push(0);
    }
    key
}

fn key(kind: u8, scope: &Scope, task: &str, id: &str) -> Vec<u8> {
    let mut key = prefix(kind, scope, Some(task));
    key.extend_from_slice(id.as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use skein_engine::ids::Timestamp;

    use super::*;

    fn firing(task: &str, at: u64) -> Firing {
        let (task, run) = (task.to_owned(), format!("r{at}"));
        Firing {
            task,
            id: at.to_string(),
            at: Timestamp(at),
            run,
            session: None,
            error: None,
            values: Default::default(),
        }
    }

    #[test]
    fn firings_are_kept_by_task_and_workspace_and_a_token_triggers_one_task() {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, _) = Ledger::open(folder.path()).unwrap();
        let (here, there) = (Scope::from("w/a"), Scope::from("w/b"));
        for at in [9, 10, 11] {
            ledger.fire(&here, &firing("t", at)).unwrap();
        }
        ledger.fire(&here, &firing("tt", 1)).unwrap();
        ledger.fire(&there, &firing("t", 7)).unwrap();
        let ids = |firings: Vec<Firing>| firings.into_iter().map(|firing| firing.id).collect::<Vec<_>>();
        assert_eq!(ids(ledger.of_task(&here, "t").unwrap()), ["9", "10", "11"]);
        assert_eq!(ids(ledger.latest(&here).unwrap()), ["9", "10", "11", "1"]);
        assert_eq!(ledger.firing(&there, "t", "9").unwrap(), None);

        let (id, run, task) = ("x".to_owned(), "r".to_owned(), "t".to_owned());
        let trigger = Trigger { task, id, at: Timestamp(5), run, values: Default::default() };
        assert!(ledger.trigger(&here, &trigger).unwrap());
        assert_eq!((ledger.triggered(&here).unwrap().len(), ledger.triggered(&there).unwrap().len()), (1, 0));
        ledger.fire(&here, &Firing { id: "x".into(), ..firing("t", 5) }).unwrap();
        assert!(ledger.triggered(&here).unwrap().is_empty(), "it is fired");

        let triggers = Triggers { scope: here, task: "t".into() };
        ledger.let_trigger(b"one", &triggers).unwrap();
        ledger.let_trigger(b"two", &triggers).unwrap();
        assert_eq!(ledger.triggers(b"one").unwrap(), None, "a new token ends the one before");
        assert_eq!(ledger.triggers(b"two").unwrap(), Some(triggers));
    }
}
