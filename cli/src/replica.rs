//! What every command does on this device's replica: wait until it is as new as it can be had, change it, and wait until
//! the relay has the change. Without a relay it works on what is here.

use std::time::Duration;

use skein_client::{Client, Event};
use skein_engine::device::{Device, DeviceError, Notice};
use skein_engine::ids::DocumentId;
use skein_engine::workspace::{Workspace, WorkspaceCommand};

use crate::args::Place;
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::remark;

/// How long the relay may take to bring what it has, or to acknowledge what it was sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a command's steps on the replica, and closes it, whatever came of them.
pub(crate) async fn on_replica(
    place: &Place,
    steps: impl AsyncFnOnce(&Opened) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let opened = place.open().await?;
    let client = opened.client.clone();
    let done = steps(&opened).await;
    if done.is_ok() {
        opened.emptied().await;
    }
    drop(opened);
    client.close().await;
    done
}

impl Opened {
    /// Waits until nothing is being read from the store any more.
    pub(crate) async fn loaded(&self) {
        self.client.until(PATIENCE, |device, _| (!device.is_loading()).then_some(())).await;
    }

    /// Waits until the list, in the member's own order, is as new as it can be had.
    pub(crate) async fn listed(&self) {
        self.loaded().await;
        self.fresh(|device| {
            let profile = device.identity().and_then(|identity| identity.profile);
            device.sync_state().caught_up && profile.is_none_or(|profile| device.up_to_date(profile))
        })
        .await;
    }

    /// Waits, if the relay is there, until something has come from it; says so if it doesn't.
    async fn fresh(&self, come: impl Fn(&mut Device) -> bool) {
        if self.connected && self.client.until(PATIENCE, |device, _| come(device).then_some(())).await.is_none() {
            remark("the relay is slow: this may not be its latest state");
        }
    }

    /// The workspace's agents, actions, integrations and tasks, as new as they can be had.
    pub(crate) async fn workspace(&self) -> Workspace {
        self.listed().await;
        self.fresh(|device| {
            let document = device.identity().map(|identity| identity.workspace_document);
            document.is_some_and(|document| device.document(document).is_ok() && device.up_to_date(document))
        })
        .await;
        self.client.read(|device, _| device.workspace())
    }

    /// Changes the workspace; the id of what was added.
    pub(crate) async fn change(&self, command: WorkspaceCommand) -> Result<Option<String>, Failure> {
        self.workspace().await;
        let done = self.client.act(|device, now| device.workspace_command(now, &command)).await?;
        if let Some(document) = self.client.read(|device, _| Some(device.identity()?.workspace_document)) {
            self.brought(document).await?;
        }
        Ok(done.id)
    }

    /// Opens a session, as new as it can be had.
    pub(crate) async fn session(&self, given: &str) -> Result<DocumentId, Failure> {
        let client = &self.client;
        let id = session_id(given)?;
        client.cast(|device, now| device.open(now, id));
        if self.connected {
            self.workspace().await;
            self.fresh(|device| match device.document(id) {
                Ok(_) => device.up_to_date(id) && device.sync_state().caught_up,
                Err(DeviceError::Opening(_)) => false,
                Err(_) => true,
            })
            .await;
        }
        self.loaded().await;
        match client.read(|device, _| device.session(id).map(|session| session.is_session)) {
            Ok(true) => Ok(id),
            Ok(false) => Err(Failure::new(format!("{id} is a document, but no session"))),
            Err(error) => Err(error.into()),
        }
    }

    /// The same for a command: it can wait for a session that is only listed here.
    pub(crate) async fn listed_session(&self, given: &str) -> Result<DocumentId, Failure> {
        let found = self.session(given).await;
        let id = session_id(given)?;
        let elsewhere = self.client.read(|device, now| {
            let missing = matches!(device.document(id), Err(DeviceError::NotHere(_) | DeviceError::Opening(_)));
            missing && device.summary(now, id).is_some()
        });
        if elsewhere { Ok(id) } else { found }
    }

    /// Waits, if the relay is there, until it has what waited on this device: commands, files, changes.
    async fn emptied(&self) {
        let state = self.client.read(|device, _| device.sync_state());
        if self.connected && state.waiting + state.uploads > 0 {
            let empty = |device: &mut Device, _| {
                let state = device.sync_state();
                (state.waiting + state.uploads + state.pending == 0).then_some(())
            };
            if self.client.until(PATIENCE, empty).await.is_none() {
                remark("something still waits on this device to be sent; a later command will bring it");
            }
        }
        if state.failed > 0 {
            remark("a command that waited could not be done: see `skein session waiting`");
        }
    }

    /// Waits until the relay has what was written here. It is safe here in any case.
    pub(crate) async fn brought(&self, id: DocumentId) -> Result<(), Failure> {
        if !self.connected {
            return Ok(());
        }
        match tokio::time::timeout(PATIENCE, acknowledged(&self.client, id)).await {
            Ok(settled) => settled,
            Err(_) => {
                remark("saved on this device; the relay has not acknowledged it yet, a later command will bring it");
                Ok(())
            }
        }
    }
}

/// Ends when the relay has everything of a document, or has refused some of it.
async fn acknowledged(client: &Client, id: DocumentId) -> Result<(), Failure> {
    let mut notices = client.notices();
    let mut why = "the relay refused the change".to_owned();
    loop {
        if client.read(|device, _| device.acknowledged(id)) {
            return Ok(());
        }
        if client.read(|device, _| device.refused(id)) {
            return Err(Failure::new(why));
        }
        if let Some(Event::Notice(Notice::Refused { message, .. })) = notices.about(id).await {
            why = format!("the relay refused the change: {message}");
        }
    }
}

/// What can be no session's id is no session.
pub(crate) fn session_id(given: &str) -> Result<DocumentId, Failure> {
    given.parse().map_err(|_| Failure::new(format!("there is no session \"{given}\"")))
}
