//! The folder of a replica: which workspace it belongs to, who the device is there, the copy of the catalog, and the
//! documents ([`crate::store`]). It is what makes commands work offline.
//!
//! Invariant: files are replaced whole, by renaming; a file that can't be read counts as missing, except the workspace,
//! which is never guessed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skein_engine::ids::{DocumentId, random_id};
use skein_engine::wire::catalog::{Row, Welcome, WriterRow};
use skein_engine::wire::cbor;

use crate::store::{FileStore, StoreError};

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
    pub(crate) store: FileStore,
}

/// The copy of the catalog, as kept.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct KeptCatalog {
    pub(crate) cursor: u64,
    pub(crate) rows: Vec<Row>,
    pub(crate) writers: Vec<(DocumentId, Vec<WriterRow>)>,
}

impl Folder {
    /// Opens the folder, and makes it if it isn't there.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_owned(), store: FileStore::open(path)? })
    }

    /// Who the device is, if it has ever met its relay.
    pub(crate) fn identity(&self) -> Option<Welcome> {
        self.read("identity")
    }

    /// Keeps who the device is.
    pub(crate) fn keep_identity(&self, identity: &Welcome) -> Result<(), StoreError> {
        self.replace("identity", &cbor::encode(identity))?;
        self.replace("workspace", format!("{}\n", identity.workspace_document).as_bytes())
    }

    /// The copy of the catalog.
    pub(crate) fn catalog(&self) -> KeptCatalog {
        self.read("catalog").unwrap_or_default()
    }

    /// Keeps the copy of the catalog.
    pub(crate) fn keep_catalog(&self, catalog: &KeptCatalog) -> Result<(), StoreError> {
        self.replace("catalog", &cbor::encode(catalog))
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(file = %path.display(), %error, "can't be read");
                }
                return None;
            }
        };
        let read = cbor::decode(&bytes);
        if let Err(error) = &read {
            tracing::warn!(file = %path.display(), %error, "is not what this version writes; it is made anew");
        }
        read.ok()
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let (path, next) = (self.path.join(name), self.path.join(format!(".{name}.{}", random_id())));
        let written = File::create(&next)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_data()))
            .and_then(|()| fs::rename(&next, &path));
        written.map_err(|error| {
            let _ = fs::remove_file(&next);
            StoreError::at(&path)(error)
        })
    }
}
