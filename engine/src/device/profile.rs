//! The member's own order and pins: their profile document, kept as plain data, and what a person does to it.

use std::collections::BTreeSet;

use super::{Device, DeviceError, Effects, Notice};
use crate::ids::{DocumentId, Timestamp};
use crate::profile::{self, Arrange, Listed};

impl Device {
    /// Moves, pins or unpins a session in this member's list.
    pub fn arrange(&mut self, now: Timestamp, arrange: &Arrange) -> Result<Effects, DeviceError> {
        let document = self.profile_document().ok_or(DeviceError::NoIdentity)?;
        self.document(document)?;
        let shared = self.shared_summaries(now).into_iter();
        let list = shared.map(|summary| Listed { session: summary.id, own: summary.position }).collect();
        let replica = self.replicas.get_mut(&document).ok_or(DeviceError::NotHere(document))?;
        let written = replica
            .write(|tx| profile::arrange(tx, &self.profile, list, arrange, now))
            .ok_or(DeviceError::NotHere(document))?;
        let ((), change) = written?;
        let mut effects = Effects::default();
        self.written(document, change, &mut effects);
        Ok(self.settle(effects))
    }

    /// The profile's document, once a relay has said which it is.
    pub(super) fn profile_document(&self) -> Option<DocumentId> {
        self.catalog.identity.as_ref().filter(|identity| identity.is_bound())?.profile
    }

    /// The profile document has changed: reads it, and tells which rows look different.
    pub(super) fn profile_changed(&mut self, effects: &mut Effects) {
        let document = self.profile_document().and_then(|document| self.replicas.get(&document)?.document());
        let new = document.map(profile::read).unwrap_or_default();
        let old = std::mem::replace(&mut self.profile, new);
        let order = old.order.keys().chain(self.profile.order.keys());
        let placed = order.filter(|session| old.order.get(session) != self.profile.order.get(session));
        let pins = old.pins.keys().chain(self.profile.pins.keys());
        let pinned = pins.filter(|session| old.pins.contains_key(session) != self.profile.pins.contains_key(session));
        let changed: BTreeSet<DocumentId> = placed.chain(pinned).copied().collect();
        effects.notices.extend(changed.into_iter().map(Notice::Summary));
    }
}
