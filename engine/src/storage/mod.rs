//! What a store must offer: content-addressed records of changes, appended in groups that are durable when the call
//! returns. The shells own a store and call it; the core itself only says what to store and is told what is stored.
//!
//! Implementations: [`memory`] for tests, sled in the relay, append-only files in the native client, IndexedDB in the
//! browser.

pub mod memory;

use bytes::Bytes;

use crate::ids::{ActorId, ChangeHash, DocumentId, Principal, Scope};

/// One change of one document, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where the document belongs.
    pub scope: Scope,
    /// The document.
    pub document: DocumentId,
    /// The change's own hash; within a document each is stored once.
    pub hash: ChangeHash,
    /// The changes it depends on.
    pub deps: Vec<ChangeHash>,
    /// Who wrote it.
    pub actor: ActorId,
    /// Its number among that actor's changes, from 1.
    pub seq: u64,
    /// Who first brought it.
    pub received_from: Principal,
    /// The change chunk, in the encoding in which it came (plain or compressed).
    pub bytes: Bytes,
}

/// A durable log of changes by document. No `Send` bound: in a browser nothing is `Send`.
#[allow(async_fn_in_trait)]
pub trait Storage {
    /// Why the store could not do it. After an error of `append`, none of the group counts as stored.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Appends a group. On return all of it is durable: it survives a power cut.
    async fn append(&self, group: &[Record]) -> Result<(), Self::Error>;

    /// Every record of a document, each after its deps.
    async fn scan(&self, scope: &Scope, document: DocumentId) -> Result<Vec<Record>, Self::Error>;

    /// Every document of a scope.
    async fn documents(&self, scope: &Scope) -> Result<Vec<DocumentId>, Self::Error>;

    /// Drops a document's records. Durable on return.
    async fn delete(&self, scope: &Scope, document: DocumentId) -> Result<(), Self::Error>;
}
