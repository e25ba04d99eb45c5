//! Files on their way between this device and the relay: kept here until the relay has them, fetched when they are
//! looked at.
//!
//! Invariant: what is asked to be kept is durable here, or with the relay, before anything can name it.

use std::rc::Rc;

use skein_engine::blob::{BlobId, MAX_BYTES};
use wasm_bindgen_futures::spawn_local;

use super::Seat;
use crate::account::{get_blob, put_blob};
use crate::browser::sleep;
use crate::patch::Fault;

/// Between two tries of an upload that failed.
const AGAIN_AFTER_MS: u64 = 5_000;

impl Seat {
    /// Keeps a file on this device, durably, and brings it to the relay when there is a link. Without a store it goes to
    /// the relay at once, or fails.
    pub async fn put_blob(self: &Rc<Self>, bytes: Vec<u8>) -> Result<BlobId, Fault> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Fault::new("too-large", "a file may have 64 MiB"));
        }
        let id = BlobId::of(&bytes);
        match &self.store {
            Some(store) => {
                store.put_blob(id, bytes).await?;
                self.act(|device, _| device.blob_waits(id));
                self.upload();
            }
            None => put_blob(&self.account, id, &bytes).await?,
        }
        Ok(id)
    }

    /// A file: from this device, else from the relay. `None`: neither has it.
    pub async fn get_blob(&self, id: BlobId) -> Result<Option<Vec<u8>>, Fault> {
        if let Some(store) = &self.store
            && let Some(bytes) = store.blob(id).await?.filter(|bytes| BlobId::of(bytes) == id)
        {
            return Ok(Some(bytes));
        }
        let bytes = get_blob(&self.account, id).await?;
        match bytes {
            Some(bytes) if BlobId::of(&bytes) != id => {
                Err(Fault::new("refused", "what the relay sent is not this file"))
            }
            bytes => Ok(bytes),
        }
    }

    /// Brings what waits to the relay, one after the other, unless that is under way.
    pub(super) fn upload(self: &Rc<Self>) {
        if self.uploading.replace(true) {
            return;
        }
        let seat = self.clone();
        spawn_local(async move {
            while !seat.left.get() && seat.is_open() {
                let next = seat.device.borrow().waiting_blobs().find(|id| !seat.refused_blobs.borrow().contains(id));
                let Some(id) = next else { break };
                match seat.upload_one(id).await {
                    Ok(()) => seat.act(|device, _| device.blob_sent(id)),
                    Err(fault) if fault.code == "unreachable" => sleep(AGAIN_AFTER_MS).await,
                    Err(fault) => {
                        // It waits for the next start; what names it stays on this device.
                        seat.refused_blobs.borrow_mut().insert(id);
                        seat.dirty.borrow_mut().faults.push(fault);
                        seat.show_soon();
                    }
                }
            }
            seat.uploading.set(false);
        });
    }

    async fn upload_one(&self, id: BlobId) -> Result<(), Fault> {
        let Some(store) = &self.store else { return Ok(()) };
        let bytes = store.blob(id).await?;
        let bytes = bytes.ok_or_else(|| Fault::new("storage", format!("file {id} is not on this device any more")))?;
        put_blob(&self.account, id, &bytes).await?;
        store.blob_sent(id).await?;
        Ok(())
    }
}
