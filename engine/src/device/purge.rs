//! Purged sessions: asking the relay for it, and what becomes of them here.
//!
//! Invariant: what the relay never had isn't dropped. A session with such changes stays, can be read and copied, and
//! takes no more of them.

use super::{Device, DeviceError, Effects, Notice};
use crate::ids::{DocumentId, Timestamp};
use crate::wire::catalog::ToRelay;

impl Device {
    /// Asks the relay to drop everything of a deleted session but the sums of what it spent. Answered by
    /// [`Notice::Purged`] or [`Notice::NotPurged`].
    pub fn purge(&mut self, now: Timestamp, session: DocumentId) -> Result<Effects, DeviceError> {
        let mut effects = Effects::default();
        if self.catalog.is_purged(session) {
            self.purged(session, &mut effects);
            return Ok(self.settle(effects));
        }
        let summary = self.shared_summary(now, session).ok_or(DeviceError::NotHere(session))?;
        if !self.catalog.is_up() {
            return Err(DeviceError::NoLink);
        }
        if summary.deleted_at.is_none() || self.unsent(session) {
            return Err(DeviceError::NotDeleted(session));
        }
        self.tell_catalog(&ToRelay::Purge { session }, &mut effects);
        Ok(effects)
    }

    /// Whether a session was purged, as far as this device has heard.
    pub fn is_purged(&self, session: DocumentId) -> bool {
        self.catalog.is_purged(session)
    }

    /// Purged sessions that are still here, since the relay never had all of them.
    pub fn kept_after_purge(&self) -> Vec<DocumentId> {
        self.replicas.keys().filter(|session| self.catalog.is_purged(**session)).copied().collect()
    }

    /// A session was purged: it goes from here too, unless something of it would be lost.
    pub(super) fn purged(&mut self, session: DocumentId, effects: &mut Effects) {
        self.catalog.marks.forget(session);
        let unsent = match self.replicas.get(&session) {
            // Whether something of it is unsent shows when it is here.
            Some(replica) if replica.is_loading() => return,
            Some(replica) => replica.pending + replica.refused.len() as u64,
            None => 0,
        };
        self.fail_waiting(session, effects);
        if unsent == 0 {
            if self.replicas.contains_key(&session) {
                self.unfollow(session, effects);
            }
            self.keep.forget(session);
            effects.drop.push(session);
        }
        effects.notices.push(Notice::Document(session));
        effects.notices.push(Notice::Purged { session, unsent });
    }
}
