//! What the relay won't take: a change that breaks its rules, and everything that a device writes whose member, or token,
//! may only read. It stays here, is counted apart, and its person has two ways out: a copy of the session as it is here,
//! or to let go of what was refused.
//!
//! Invariant: nothing that was refused goes without being asked to.

use automerge::Automerge;

use super::replica::Replica;
use super::{Device, DeviceError, Effects, Notice};
use crate::ids::{DocumentId, Timestamp};
use crate::session::conversation::MemberRole;

impl Device {
    /// Saves a session as it is here, queued messages included, as a new session of this member's own: its id, and what
    /// to store and send. Whoever may only read keeps it on this device alone.
    pub fn save_as_copy(&mut self, now: Timestamp, session: DocumentId) -> Result<(DocumentId, Effects), DeviceError> {
        let (_, seen) = self.derive(now, session)?;
        let last = seen.queued.last().map(|message| message.id.clone());
        self.duplicate(now, session, last.as_deref())
    }

    /// Lets go of what the relay refused of a document, and of what depends on it: how many changes. The document is as
    /// the relay and the rest of this device's own changes have it; what is gone is in [`Effects::discard`].
    pub fn discard_refused(&mut self, document: DocumentId) -> Result<(usize, Effects), DeviceError> {
        self.document(document)?;
        let replica = self.replicas.get_mut(&document).ok_or(DeviceError::NotHere(document))?;
        let gone = replica.discard().map_err(|why| DeviceError::Broken { document, why })?;
        // What named a blob may be gone.
        replica.hold_for(&self.uploads);
        let mut effects = Effects::default();
        if gone.is_empty() {
            return Ok((0, effects));
        }
        let count = gone.len();
        effects.discard.push((document, gone));
        // What was derived counts on changes that are no more.
        self.views.remove(&document);
        self.document_changed(document, &[], &mut effects);
        self.push_sync(document, &mut effects);
        if self.replicas.get(&document).and_then(Replica::document).is_some_and(Automerge::is_empty) {
            // It was made here, and the relay never took any of it.
            self.unfollow(document, &mut effects);
        }
        Ok((count, self.settle(effects)))
    }

    /// Tells of what has been refused since the last time, because the relay takes nothing from here.
    pub(super) fn tell_refused(&mut self, document: DocumentId, effects: &mut Effects) {
        let Some(replica) = self.replicas.get_mut(&document) else { return };
        let message = "this device may only read: nothing that is written here reaches the others";
        effects.notices.extend(replica.take_untold().into_iter().map(|hash| Notice::Refused {
            document,
            hash: hash.to_string(),
            message: message.to_owned(),
        }));
    }

    /// Whether this device's member may write, as far as the relay has last said; a device that has met none may.
    pub(super) fn may_write(&self) -> Result<(), DeviceError> {
        match &self.catalog.identity {
            Some(identity) if identity.role == MemberRole::Viewer => Err(DeviceError::ReadOnly),
            _ => Ok(()),
        }
    }
}
