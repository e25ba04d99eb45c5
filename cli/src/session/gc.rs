//! `skein session gc`: what this device need not keep is dropped, and what it keeps takes less room.

use skein_engine::device::Keeps;

use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{json, line, remark};

/// Bytes of changes that are kept, as a browser does.
const MAX_BYTES: u64 = 256 << 20;

/// Keeps the recent sessions, at most so many, and the pinned ones.
pub(super) async fn gc(opened: &Opened, sessions: u32, as_json: bool) -> Result<(), Failure> {
    opened.listed().await;
    let sessions = usize::try_from(sessions).unwrap_or(usize::MAX);
    let collected = opened.client.collect(Keeps::Recent { sessions, bytes: MAX_BYTES }).await?;
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
