//! A store that forgets at exit, for tests and for a browser that forbids storage.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use super::{Record, Storage};
use crate::ids::{DocumentId, Scope};

/// Records in memory, by (scope, document), in the order in which they were appended.
#[derive(Default, Debug)]
pub struct MemoryStorage {
    records: RefCell<BTreeMap<(Scope, DocumentId), Vec<Record>>>,
}

impl Storage for MemoryStorage {
    type Error = Infallible;

    async fn append(&self, group: &[Record]) -> Result<(), Infallible> {
        let mut records = self.records.borrow_mut();
        for record in group {
            let document = records.entry((record.scope.clone(), record.document)).or_default();
            if !document.iter().any(|known| known.hash == record.hash) {
                document.push(record.clone());
            }
        }
        Ok(())
    }

    async fn scan(&self, scope: &Scope, document: DocumentId) -> Result<Vec<Record>, Infallible> {
        Ok(self.records.borrow().get(&(scope.clone(), document)).cloned().unwrap_or_default())
    }

    async fn documents(&self, scope: &Scope) -> Result<Vec<DocumentId>, Infallible> {
        Ok(self.records.borrow().keys().filter(|(of, _)| of == scope).map(|(_, id)| *id).collect())
    }

    async fn delete(&self, scope: &Scope, document: DocumentId) -> Result<(), Infallible> {
        self.records.borrow_mut().remove(&(scope.clone(), document));
        Ok(())
    }
}
