//! What the relay keeps on disk, in two sled databases. [`log`] holds what people and workers wrote: changes by
//! document, and the catalog rows derived from them. [`ledger`] holds what no client could bring back: who wrote it
//! (actor → writer), the highest epoch of each session. A broken log is moved aside and refilled by clients, and the
//! ledger still knows whose changes they bring.
//!
//! A broken ledger is written again from the log, in which each change has the principal who brought it ([`repair`]).
//!
//! [`firings`] is what the ledger keeps of tasks. [`database`] is the care that sled 0.34 needs, [`record`] the encoding. Invariant: when an append returns, what it
//! wrote survives a power cut.

pub mod database;
pub mod firings;
pub mod ledger;
pub mod log;
pub mod record;
pub mod repair;

use std::io;
use std::path::PathBuf;

use skein_engine::ids::{DocumentId, Scope};

/// Why the store could not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder can't be opened, and can't be moved aside either.
    #[error("the store at {} can't be opened: {reason}", path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A write failed. sled takes none after that until it is reopened, which is tried again every few seconds.
    #[error("the disk refuses to store: {0}")]
    Write(String),
    /// What is on disk can't be read. At the next start the folder is moved aside.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// One record can't be stored, whatever the state of the disk.
    #[error("a change of {0} bytes is too large to store")]
    TooLarge(usize),
    /// The task that worked on it was cut off.
    #[error("the store was closed")]
    Closed,
}

impl StoreError {
    /// Whether a group failed for this reason because of one of its records.
    pub fn is_of_one_record(&self) -> bool {
        matches!(self, Self::TooLarge(_))
    }
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => Self::Write(error.to_string()),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// A document's part of a key: the scope with its length, and the id.
pub fn document_key(scope: &Scope, document: DocumentId) -> Vec<u8> {
    let mut key = scope_key(scope);
    key.extend_from_slice(document.as_bytes());
    key
}

/// A scope's part of a key. Scopes are the relay's own and short.
fn scope_key(scope: &Scope) -> Vec<u8> {
    let name = scope.as_str().as_bytes();
    let length = u8::try_from(name.len()).expect("a scope is a letter and the id of a workspace or member");
    let mut key = Vec::with_capacity(name.len() + 17);
    key.push(length);
    key.extend_from_slice(name);
    key
}

/// Reads what [`document_key`] wrote.
fn read_document_key(key: &[u8]) -> Option<(Scope, DocumentId)> {
    let (length, rest) = key.split_first()?;
    let (scope, rest) = rest.split_at_checked(usize::from(*length))?;
    let document = rest.get(..16)?.try_into().ok()?;
    Some((Scope::from(std::str::from_utf8(scope).ok()?), DocumentId::from_bytes(document)))
}
