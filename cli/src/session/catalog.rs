//! What a person says to the relay's catalog of a session: that it was read, that it may go for good.

use std::time::Duration;

use skein_client::Event;
use skein_engine::device::{DeviceError, Notice};
use skein_engine::ids::DocumentId;

use super::change::Failed;
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::remark;
use crate::replica::session_id;

/// How long the relay may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Marks each as read as far as it has come.
pub(super) async fn read(opened: &Opened, given: &[String]) -> Result<(), Failure> {
    opened.listed().await;
    let mut outcome = Failed::default();
    let mut sessions = Vec::new();
    for given in given {
        let listed = session_id(given).and_then(|id| {
            let summary = opened.client.read(|device, now| device.summary(now, id));
            summary.map(|_| id).ok_or_else(|| DeviceError::NotHere(id).into())
        });
        sessions.extend(outcome.note(given, listed));
    }
    opened.client.act(|device, now| Ok(((), device.mark_read(now, &sessions)))).await?;
    let heard =
        opened.client.until(PATIENCE, |device, _| (!opened.connected || device.marks().is_sent()).then_some(()));
    if heard.await.is_none() {
        remark("the relay has not heard of it yet; a later command will tell it");
    }
    outcome.end(given.len())
}

/// Has the relay drop each, for every member and for good. Only what is deleted can be purged.
pub(super) async fn purge(opened: &Opened, given: &[String]) -> Result<(), Failure> {
    opened.listed().await;
    let mut outcome = Failed::default();
    for given in given {
        outcome.note(given, purge_one(opened, given).await);
    }
    outcome.end(given.len())
}

async fn purge_one(opened: &Opened, given: &str) -> Result<(), Failure> {
    let id = session_id(given)?;
    let mut notices = opened.client.notices();
    opened.client.act(|device, now| Ok(((), device.purge(now, id)?))).await?;
    let answered = async {
        loop {
            match notices.about(id).await {
                Some(Event::Notice(Notice::Purged { unsent: 0, .. })) => return Ok(()),
                Some(Event::Notice(Notice::Purged { unsent, .. })) => {
                    remark(&format!("{id}: {unsent} changes that the relay never had stay on this device"));
                    return Ok(());
                }
                Some(Event::Notice(Notice::NotPurged { reason, .. })) => return Err(Failure::new(reason)),
                // The answer may have been among what was missed.
                Some(_) if is_purged(opened, id) => return Ok(()),
                Some(_) => {}
                None => return Err(Failure::new("the connection has ended")),
            }
        }
    };
    let late = || Failure::new("the relay has not answered; whether the session is purged shows in a later list");
    tokio::time::timeout(PATIENCE, answered).await.unwrap_or_else(|_| Err(late()))
}

fn is_purged(opened: &Opened, id: DocumentId) -> bool {
    opened.client.read(|device, _| device.is_purged(id))
}
