//! What a member sees of the workspace, and does to it: agents, actions, integrations, tasks.

use super::{Device, DeviceError, Effects};
use crate::ids::{DocumentId, Timestamp};
use crate::session::command::{Done, Given};
use crate::workspace::command::apply;
use crate::workspace::{Workspace, WorkspaceCommand, WorkspaceError, workspace};

impl Device {
    /// The workspace document, if it is here; empty otherwise.
    pub fn workspace(&self) -> Workspace {
        let document = self.workspace_document().and_then(|document| self.document(document).ok());
        document.map(workspace).unwrap_or_default()
    }

    /// Does what a member asks. Refused at once where the relay would refuse it: a viewer only reads.
    pub fn workspace_command(
        &mut self,
        now: Timestamp,
        command: &WorkspaceCommand,
    ) -> Result<(Done, Effects), DeviceError> {
        let by = self.member()?;
        self.may_write()?;
        let document = self.workspace_document().ok_or(WorkspaceError::NotHere)?;
        match self.document(document) {
            Err(DeviceError::NotHere(_) | DeviceError::Opening(_)) => return Err(WorkspaceError::NotHere.into()),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let seen = self.workspace();
        let replica = self.replicas.get_mut(&document).ok_or(WorkspaceError::NotHere)?;
        let written = replica.write(|tx| apply(tx, &seen, command, &Given { by: &by, at: now, id: None }));
        let (done, change) = written.ok_or(WorkspaceError::NotHere)??;
        let mut effects = Effects::default();
        self.written(document, change, &mut effects);
        Ok((done, self.settle(effects)))
    }

    fn workspace_document(&self) -> Option<DocumentId> {
        self.identity().filter(|identity| identity.is_bound()).map(|identity| identity.workspace_document)
    }
}
