//! `skein session wait`: returns when nothing is queued (a held queue doesn't count), nothing is due for a worker, and
//! the status is one of those named.

use std::time::Duration;

use skein_client::Client;
use skein_engine::device::{Device, DeviceError};
use skein_engine::ids::{DocumentId, Timestamp};
use skein_engine::session::Summary;
use skein_engine::session::conversation::{Status, Waiting};
use skein_engine::session::work::{WorkKind, work};

use super::args::Until;
use super::transcript::status_word;
use crate::failure::Failure;
use crate::shutdown;

/// Waits; the summary then. Exit code 3 if the time is over before.
pub(crate) async fn wait(
    client: &Client,
    id: DocumentId,
    until: &[Until],
    timeout: Option<f64>,
) -> Result<Summary, Failure> {
    let timeout = match timeout {
        None => Duration::MAX,
        Some(seconds) => Duration::try_from_secs_f64(seconds)
            .map_err(|_| Failure::usage("--timeout is a number of seconds, 0 or more"))?,
    };
    let mut notices = client.notices();
    let settled = async {
        loop {
            if let Some(summary) = client.read(|device, now| settled(device, now, id, until))? {
                return Ok(summary);
            }
            if notices.about(id).await.is_none() {
                return Err(Failure::new("the connection has ended"));
            }
        }
    };
    tokio::select! {
        settled = tokio::time::timeout(timeout, settled) => settled.unwrap_or_else(|_| {
            let status = client.read(|device, now| device.summary(now, id)).map(|summary| summary.status);
            let status = status.map_or("unknown", status_word);
            Err(Failure::timeout(format!("waiting timed out; the session is {status}")))
        }),
        () = shutdown::signal() => Err(Failure::new("interrupted")),
    }
}

/// The summary, if the session has come to rest in one of the named states.
fn settled(
    device: &mut Device,
    now: Timestamp,
    id: DocumentId,
    until: &[Until],
) -> Result<Option<Summary>, DeviceError> {
    let conversation = device.conversation(now, id)?;
    let held = matches!(
        conversation.waiting,
        None | Some(Waiting::HeldByPause | Waiting::HeldByApproval | Waiting::HeldByFailure | Waiting::HeldByLimit)
    );
    let (leases, writers) = device.leases(id);
    let due = work(device.session(id)?, &conversation, &leases, &writers, now);
    // A title is not waited for, and a turn to be closed is paused already.
    let due = due.is_some_and(|work| !matches!(work.kind, WorkKind::Name | WorkKind::Close));
    let Some(summary) = device.summary(now, id) else { return Ok(None) };
    let wanted = |status: Status| match status {
        _ if until.is_empty() => conversation.status != Status::Streaming,
        Status::Active => until.contains(&Until::Active),
        Status::Streaming => until.contains(&Until::Streaming),
        Status::Paused => until.contains(&Until::Paused),
        Status::Failed => until.contains(&Until::Failed),
        Status::Archived => until.contains(&Until::Archived),
    };
    // Of an archived session both count: that it is archived, and what it is beneath.
    let wanted = wanted(conversation.status) || (summary.archived_at.is_some() && wanted(Status::Archived));
    // Who waits for streaming has what it wants as soon as it streams, whatever is queued behind.
    let streams = until.contains(&Until::Streaming) && conversation.status == Status::Streaming;
    Ok((streams || (held && !due && wanted)).then_some(summary))
}
