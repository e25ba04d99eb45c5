//! When the end of a session's conversation is kept for painting it at once: when it has changed and rests, and when it
//! is closed. A session that is read in no time needs none.

use std::collections::BTreeMap;

use super::Device;
use crate::ids::{ChangeHash, DocumentId, Timestamp};
use crate::session::snapshot::Snapshot;

/// Bytes of changes below which a session is opened as fast as painted.
const WORTH_BYTES: u64 = 32 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// The heads at which each was taken last.
    taken: BTreeMap<DocumentId, Vec<ChangeHash>>,
    /// Taken when their sessions were closed, not given out yet.
    ready: Vec<Snapshot>,
}

impl Device {
    /// Snapshots to keep, in place of older ones of the same sessions: called now and then, and at the end.
    pub fn take_snapshots(&mut self, now: Timestamp) -> Vec<Snapshot> {
        let viewed: Vec<DocumentId> = self.views.keys().copied().collect();
        for session in viewed {
            // While a session streams it changes all the time.
            if self.catalog.live(session).is_none() {
                self.snapshot(now, session);
            }
        }
        std::mem::take(&mut self.snapshots.ready)
    }

    /// A document that is about to be closed leaves a snapshot behind.
    pub(super) fn note_snapshot(&mut self, session: DocumentId) {
        let listed = self.catalog.row(session).is_some_and(|row| row.summary.is_some());
        if listed || self.views.contains_key(&session) {
            self.snapshot(self.clock, session);
        }
    }

    fn snapshot(&mut self, now: Timestamp, session: DocumentId) {
        let Some(heads) = self.replicas.get(&session).map(|replica| replica.heads()) else { return };
        let small = self.keep.get(session).is_none_or(|kept| kept.bytes < WORTH_BYTES);
        if small || heads.is_empty() || self.snapshots.taken.get(&session) == Some(&heads) {
            return;
        }
        let Ok((found, conversation)) = self.derive(now, session) else { return };
        if found.is_session {
            let snapshot = Snapshot::of(session, heads.clone(), conversation);
            self.snapshots.ready.retain(|known| known.session != session);
            self.snapshots.ready.push(snapshot);
            self.snapshots.taken.insert(session, heads);
        }
    }
}
