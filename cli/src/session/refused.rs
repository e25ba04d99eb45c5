//! `skein session copy` and `discard`: the two ways out when the relay refuses what was written here.

use skein_engine::ids::DocumentId;

use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{Made, remark};

/// Saves a session as it is on this device as a new one.
pub(super) async fn copy(opened: &Opened, id: &str, as_json: bool) -> Result<(), Failure> {
    let id = opened.session(id).await?;
    let copy: DocumentId = opened.client.act(|device, now| device.save_as_copy(now, id)).await?;
    if let Err(refused) = opened.brought(copy).await {
        remark(&format!("the copy stays on this device alone: {refused}"));
    }
    Made::of(copy.to_string()).print(as_json)
}

/// Lets go of what the relay refused of a session.
pub(super) async fn discard(opened: &Opened, id: &str) -> Result<(), Failure> {
    let id = opened.session(id).await?;
    let count = opened.client.act(|device, _| device.discard_refused(id)).await?;
    if count == 0 {
        return Err(Failure::new(match opened.connected {
            true => "the relay refuses nothing of this session",
            false => "only a relay says what it refuses: this device is offline",
        }));
    }
    remark(&format!("{count} changes are gone from this device"));
    Ok(())
}
