//! What a device keeps without being asked: the sessions that the catalog lists, the latest first, a few at a time.

use std::collections::{BTreeSet, VecDeque};

use crate::ids::{DocumentId, Timestamp};
use crate::wire::catalog::Row;

/// How many sessions a device keeps of its own accord.
const MAX_KEPT: usize = 200;
/// How many are on their way at once.
const MAX_ACTIVE: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Prefetch {
    /// All that was ever queued.
    listed: BTreeSet<DocumentId>,
    queue: VecDeque<DocumentId>,
    active: BTreeSet<DocumentId>,
}

impl Prefetch {
    /// Queues what the rows list: all of them, or those that have changed.
    pub(super) fn list<'a>(&mut self, rows: impl Iterator<Item = &'a Row>, changed: Option<&[DocumentId]>) {
        let mut sessions: Vec<(Option<Timestamp>, DocumentId)> = rows
            .filter(|row| !row.tombstone && changed.is_none_or(|changed| changed.binary_search(&row.document).is_ok()))
            .filter(|row| !self.listed.contains(&row.document))
            .filter_map(|row| row.summary.as_ref().map(|summary| (summary.updated_at, row.document)))
            .collect();
        sessions.sort_unstable_by(|a, b| b.cmp(a));
        let room = MAX_KEPT.saturating_sub(self.listed.len());
        for (_, document) in sessions.into_iter().take(room) {
            self.listed.insert(document);
            self.queue.push_back(document);
        }
    }

    /// What to open now. `arrived` says whether a document that was opened is there, or won't come.
    pub(super) fn next(&mut self, arrived: impl Fn(DocumentId) -> bool) -> Vec<DocumentId> {
        self.active.retain(|document| !arrived(*document));
        let mut next = Vec::new();
        while self.active.len() < MAX_ACTIVE {
            let Some(document) = self.queue.pop_front() else { break };
            self.active.insert(document);
            next.push(document);
        }
        next
    }
}
