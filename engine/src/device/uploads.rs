//! Blobs that this device keeps until the relay has them, and the changes that name them: a change follows its blob.
//!
//! A document with such a change is held: what comes is taken, but of what is here the relay is told only what it has
//! already, until the last of its blobs has been acknowledged.

use super::{Device, Effects};
use crate::blob::BlobId;
use crate::ids::DocumentId;

impl Device {
    /// A blob stands in this device's store, durably, and the relay isn't known to have it. Said before a command names
    /// it, and at start for what an earlier one has left.
    pub fn blob_waits(&mut self, blob: BlobId) -> Effects {
        if self.uploads.insert(blob) {
            // What was read from the store before may name it: another process has written that.
            self.replicas.values_mut().for_each(|replica| replica.hold_for(&self.uploads));
        }
        self.settle(Effects::default())
    }

    /// The relay has stored a blob, durably: what waited for it is sent.
    pub fn blob_sent(&mut self, blob: BlobId) -> Effects {
        let mut effects = Effects::default();
        if self.uploads.remove(&blob) {
            let held = self.replicas.values_mut().filter(|replica| replica.is_held());
            let freed = held.filter_map(|replica| {
                replica.hold_for(&self.uploads);
                (!replica.is_held()).then_some(replica.id)
            });
            let freed: Vec<DocumentId> = freed.collect();
            freed.into_iter().for_each(|document| self.push_sync(document, &mut effects));
        }
        self.settle(effects)
    }

    /// Blobs that the relay isn't known to have.
    pub fn waiting_blobs(&self) -> impl Iterator<Item = BlobId> {
        self.uploads.iter().copied()
    }
}
