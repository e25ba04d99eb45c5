//! What a worker does beyond a person's device: claims over `/catalog`, writes under a claim's actor, live text.

use automerge::transaction::Transaction;
use automerge::{AutomergeError, Change};
use bytes::Bytes;

use super::replica::{Replica, transact};
use super::sessions::surroundings;
use super::{Device, DeviceError, Effects};
use crate::ids::{ActorId, DocumentId, PeerId};
use crate::session::command::CommandError;
use crate::session::conversation::{Leases, Writers};
use crate::wire::catalog::ToRelay;
use crate::wire::ephemeral::Ephemeral;

impl Device {
    /// The peer id of this start, which a run's `worker` names.
    pub fn peer(&self) -> &PeerId {
        &self.peer
    }

    /// A frame for `/catalog`; dropped while that link is down.
    pub fn ask(&mut self, frame: &ToRelay) -> Effects {
        let mut effects = Effects::default();
        self.tell_catalog(frame, &mut effects);
        effects
    }

    /// The lease and the writers of a session, as last heard.
    pub fn leases(&self, session: DocumentId) -> (Leases, Writers) {
        match self.replicas.get(&session) {
            Some(replica) => surroundings(&self.catalog, replica),
            None => surroundings(&self.catalog, &Replica::loading(session, false)),
        }
    }

    /// Writes to a document under this device's actor for it.
    pub fn write<T>(
        &mut self,
        document: DocumentId,
        write: impl FnOnce(&mut Transaction<'_>) -> Result<T, AutomergeError>,
    ) -> Result<(T, Effects), DeviceError> {
        self.document(document)?;
        let replica = self.replicas.get_mut(&document).ok_or(DeviceError::NotHere(document))?;
        let written = replica.write(write).ok_or(DeviceError::NotHere(document))?;
        let (value, change) = written.map_err(refused)?;
        let mut effects = Effects::default();
        self.written(document, change, &mut effects);
        self.tell_sync_state(&mut effects);
        Ok((value, effects))
    }

    /// Makes a change without keeping it, for `begin`: under `actor`, on the replica's heads. The change chunk.
    pub fn prepare(
        &self,
        document: DocumentId,
        actor: &ActorId,
        write: impl FnOnce(&mut Transaction<'_>) -> Result<(), AutomergeError>,
    ) -> Result<Bytes, DeviceError> {
        let mut copy = self.document(document)?.fork().with_actor(actor.clone());
        let ((), change) = transact(&mut copy, write).map_err(refused)?;
        match change {
            Some(mut change) => Ok(change.bytes().into_owned().into()),
            None => Err(CommandError::Document("it holds no operation".into()).into()),
        }
    }

    /// Takes over a prepared change that the relay has stored, and writes under its actor from now on. Idempotent: the
    /// relay may have forwarded the change already.
    pub fn adopt(&mut self, document: DocumentId, actor: &ActorId, change: &[u8]) -> Result<Effects, DeviceError> {
        self.document(document)?;
        let change = Change::from_bytes(change.to_vec())
            .map_err(|error| DeviceError::Command(CommandError::Document(error.to_string())))?;
        let replica = self.replicas.get_mut(&document).ok_or(DeviceError::NotHere(document))?;
        let change = replica.adopt(actor, change).map_err(|why| DeviceError::Broken { document, why })?;
        // The actor is this device's own now: that changes who wrote what, also where the change was here already.
        self.surroundings_changed(document);
        let mut effects = Effects::default();
        self.written(document, change, &mut effects);
        self.tell_sync_state(&mut effects);
        Ok(effects)
    }

    /// Sends an ephemeral message on a document; dropped while `/sync` is down.
    pub fn broadcast(&mut self, document: DocumentId, message: &Ephemeral) -> Effects {
        let mut effects = Effects::default();
        effects.sync.extend(self.link.ephemeral(document, message));
        effects
    }
}

fn refused(error: AutomergeError) -> DeviceError {
    CommandError::Document(error.to_string()).into()
}
