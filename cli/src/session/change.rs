//! What is done to sessions that stand, to one or to several: what fails for one is done for the others all the same.

use skein_engine::ids::DocumentId;
use skein_engine::profile::Arrange;
use skein_engine::session::Command;

use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{line, remark};
use crate::replica::session_id;

/// Does what is asked of one session; the new message's or request's id.
pub(super) async fn act(opened: &Opened, id: DocumentId, command: Command) -> Result<Option<String>, Failure> {
    let done = opened.client.act(|device, now| device.command_later(now, id, &command)).await?;
    if opened
        .client
        .read(|device, _| device.waiting_commands(id).iter().any(|entry| Some(&entry.id) == done.id.as_ref()))
    {
        remark("this session is not on this device: it waits for its document, and is done when that has come");
        return Ok(done.id);
    }
    opened.brought(id).await?;
    Ok(done.id)
}

/// Does what is asked of one session, and prints nothing.
pub(super) async fn one(opened: &Opened, id: &str, command: Command) -> Result<(), Failure> {
    let id = opened.listed_session(id).await?;
    act(opened, id, command).await.map(drop)
}

/// Does what is asked of one session, and prints the id of the message that came of it.
pub(super) async fn told(opened: &Opened, id: &str, command: Command) -> Result<(), Failure> {
    let id = opened.listed_session(id).await?;
    act(opened, id, command).await?.map_or(Ok(()), |message| line(&message))
}

/// Does the same to each.
pub(super) async fn each(opened: &Opened, given: &[String], command: Command) -> Result<(), Failure> {
    let mut outcome = Failed::default();
    // All are asked for at once; each is waited for below.
    let ids: Vec<DocumentId> = given.iter().filter_map(|given| session_id(given).ok()).collect();
    opened.client.cast(|device, now| {
        let mut effects = skein_engine::device::Effects::default();
        ids.iter().for_each(|id| effects += device.open(now, *id));
        effects
    });
    let mut found = Vec::new();
    for given in given {
        if let Some(id) = outcome.note(given, opened.listed_session(given).await) {
            found.push(id);
        }
    }
    let outcomes = opened.client.act(|device, now| Ok(device.commands(now, &found, &command))).await?;
    for (id, done) in outcomes {
        if outcome.note(&id.to_string(), done.map_err(Failure::from)).is_some() {
            outcome.note(&id.to_string(), opened.brought(id).await);
        }
    }
    outcome.end(given.len())
}

/// Arranges each in the member's own list.
pub(super) async fn arranged(
    opened: &Opened,
    given: &[String],
    arrange: impl Fn(DocumentId) -> Arrange,
) -> Result<(), Failure> {
    opened.workspace().await;
    let mut outcome = Failed::default();
    for given in given {
        let Some(id) = outcome.note(given, session_id(given)) else { continue };
        let arrange = arrange(id);
        let done = opened.client.act(|device, now| Ok(((), device.arrange(now, &arrange)?))).await;
        outcome.note(given, done.map_err(Failure::from));
    }
    if let Some(profile) = opened.client.read(|device, _| device.identity()?.profile) {
        opened.brought(profile).await?;
    }
    outcome.end(given.len())
}

/// What failed for some of several sessions.
#[derive(Default)]
pub(super) struct Failed(Vec<(String, Failure)>);

impl Failed {
    pub(super) fn note<T>(&mut self, given: &str, outcome: Result<T, Failure>) -> Option<T> {
        outcome.map_err(|failure| self.0.push((given.to_owned(), failure))).ok()
    }

    /// One line that says it all.
    pub(super) fn end(mut self, asked: usize) -> Result<(), Failure> {
        match self.0.len() {
            0 => Ok(()),
            1 if asked == 1 => self.0.pop().map_or(Ok(()), |(_, failure)| Err(failure)),
            failed => {
                let causes: Vec<String> =
                    self.0.iter().map(|(given, failure)| format!("{given}: {}", failure.sentence)).collect();
                Err(Failure::new(format!("{failed} of {asked} failed: {}", causes.join("; "))))
            }
        }
    }
}
