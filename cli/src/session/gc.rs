//! `skein session gc`: what this device need not keep is dropped, and what it keeps takes less room.

use skein_engine::device::Keeps;

use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{json, line, remark};

/// Keeps the recent sessions and the pinned ones, as a browser does.
pub(super) async fn gc(opened: &Opened, as_json: bool) -> Result<(), Failure> {
    opened.listed().await;
    let collected = opened.client.collect(Keeps::default()).await?;
    if as_json {
        return json(&collected);
    }
    if collected.in_use {
        remark("another process has this replica open: nothing was dropped");
    }
    let freed = collected.bytes_before.saturating_sub(collected.bytes_after);
    let (kept, dropped) = (collected.kept, collected.dropped.len());
    line(&format!("{kept} documents kept, {dropped} dropped, {freed} of {} bytes freed", collected.bytes_before))
}
