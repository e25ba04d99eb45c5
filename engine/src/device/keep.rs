//! Which documents a device keeps without being asked, and which it lets go. The catalog's rows and what is in the store
//! flow in; what to bring up to date, and what to drop, flow out.
//!
//! A document whose row has other heads than the store is opened, synced and closed again, a few at a time, so that a
//! device that keeps thousands follows only what is looked at and what streams.
//!
//! Invariant: nothing is let go that the relay may not have, that is open, that is pinned, or that no row lists.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::{Device, Effects};
use crate::ids::{ChangeHash, DocumentId, Timestamp};
use crate::wire::catalog::Row;

/// How many are on their way at once.
const MAX_ARRIVING: usize = 8;
/// How many that stream are followed to their end.
const MAX_STREAMING: usize = 16;
/// What a session that isn't here yet is taken for, in bytes.
const ASSUMED_BYTES: u64 = 32 << 10;

/// Which session documents a device keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// What is opened, and nothing of its own accord.
    Opened,
    /// The latest sessions, by their last change or their last use here, and those that are pinned.
    Recent {
        /// At most so many, not counting pinned ones.
        sessions: usize,
        /// At most so many bytes of changes, all together. Pinned ones count, and are kept beyond it.
        bytes: u64,
    },
    /// All of them.
    All,
}

impl Default for Keeps {
    fn default() -> Self {
        Self::Recent { sessions: 200, bytes: 256 << 20 }
    }
}

/// A document in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDocument {
    /// Which.
    pub document: DocumentId,
    /// As they were when it was last closed; empty: not known.
    pub heads: Vec<ChangeHash>,
    /// Bytes of its changes.
    pub bytes: u64,
    /// When it was last opened by someone.
    pub used: Timestamp,
    /// Whether the relay may lack something of it.
    pub unsent: bool,
}

impl KeptDocument {
    /// Whether a relay with these heads has all of it, as far as is known.
    fn may_be_with(&self, heads: &[ChangeHash]) -> bool {
        self.heads.is_empty() || self.heads == heads
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Keep {
    keeps: Keeps,
    kept: BTreeMap<DocumentId, KeptDocument>,
    /// To be brought up to date, in order.
    queue: VecDeque<DocumentId>,
    /// Open for no other reason than to be brought up to date.
    active: BTreeSet<DocumentId>,
    /// The row's heads at the last try: a document that doesn't come is asked for again when there is news of it.
    tried: BTreeMap<DocumentId, Vec<ChangeHash>>,
    /// What was changed or used before this is not kept: the limits are reached by later ones.
    floor: Timestamp,
}

/// How a document that was opened to be brought up to date stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It is on its way.
    Arriving,
    /// It is here, and streams.
    Streaming,
    /// It is here, or won't come.
    Done,
}

impl Keep {
    pub(super) fn new(keeps: Keeps) -> Self {
        Self {
            keeps,
            kept: BTreeMap::new(),
            queue: VecDeque::new(),
            active: BTreeSet::new(),
            tried: BTreeMap::new(),
            floor: Timestamp(0),
        }
    }

    /// What the store has, as it was known at the end of an earlier start.
    pub(super) fn restore(&mut self, kept: Vec<KeptDocument>) {
        self.kept.extend(kept.into_iter().map(|kept| (kept.document, kept)));
    }

    /// What is in the store, as far as it was told.
    pub(super) fn kept(&self) -> impl Iterator<Item = &KeptDocument> {
        self.kept.values()
    }

    /// One document in the store.
    pub(super) fn get(&self, document: DocumentId) -> Option<&KeptDocument> {
        self.kept.get(&document)
    }

    /// The entry of a document that is now in the store.
    pub(super) fn entry(&mut self, document: DocumentId) -> &mut KeptDocument {
        self.kept.entry(document).or_insert_with(|| KeptDocument {
            document,
            heads: Vec::new(),
            bytes: 0,
            used: Timestamp(0),
            unsent: false,
        })
    }

    /// It is dropped from the store.
    pub(super) fn forget(&mut self, document: DocumentId) {
        self.kept.remove(&document);
        self.tried.remove(&document);
    }

    /// Someone opens it: it isn't closed when it has arrived.
    pub(super) fn opened(&mut self, document: DocumentId) {
        self.active.remove(&document);
    }

    /// Queues what should be kept and isn't up to date: of all rows, or of those that have changed.
    pub(super) fn list<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a Row>,
        changed: Option<&[DocumentId]>,
        pinned: impl Fn(DocumentId) -> bool,
    ) {
        if self.keeps == Keeps::Opened {
            return;
        }
        let rows = rows.filter(|row| changed.is_none_or(|changed| changed.binary_search(&row.document).is_ok()));
        let ranked = self.ranked(rows);
        if changed.is_none() {
            let (others, fit) = self.fitting(&ranked, &pinned, self.keeps);
            let last = fit.checked_sub(1).filter(|_| fit < others.len());
            self.floor = last.map_or(Timestamp(0), |last| others[last].0);
        }
        for (recency, row) in ranked {
            let wanted = recency >= self.floor || pinned(row.document);
            if wanted && self.is_due(row) && !self.queue.contains(&row.document) {
                self.queue.push_back(row.document);
            }
        }
    }

    /// Sessions by when they were last changed or used, the latest first.
    fn ranked<'a>(&self, rows: impl Iterator<Item = &'a Row>) -> Vec<(Timestamp, &'a Row)> {
        let mut ranked: Vec<(Timestamp, &Row)> = rows
            .filter(|row| row.tombstone.is_none())
            .filter_map(|row| {
                let used = self.kept.get(&row.document).map_or(Timestamp(0), |kept| kept.used);
                row.summary.as_ref().map(|summary| (summary.updated_at.unwrap_or_default().max(used), row))
            })
            .collect();
        ranked.sort_unstable_by(|(a, row), (b, other)| b.cmp(a).then(row.document.cmp(&other.document)));
        ranked
    }

    /// Those of these sessions that aren't pinned, and how many of them, from the first on, the limits leave room for.
    fn fitting<'a>(
        &self,
        ranked: &[(Timestamp, &'a Row)],
        pinned: impl Fn(DocumentId) -> bool,
        keeps: Keeps,
    ) -> (Vec<(Timestamp, &'a Row)>, usize) {
        let (pins, others): (Vec<_>, Vec<_>) = ranked.iter().copied().partition(|(_, row)| pinned(row.document));
        let Keeps::Recent { sessions, bytes } = keeps else {
            let all = others.len();
            return (others, all);
        };
        let size = |row: &Row| self.kept.get(&row.document).map_or(ASSUMED_BYTES, |kept| kept.bytes);
        let mut taken: u64 = pins.iter().map(|(_, row)| size(row)).sum();
        let fit = others.iter().take(sessions).take_while(|(_, row)| {
            taken = taken.saturating_add(size(row));
            taken <= bytes
        });
        // The latest one is kept however large it is.
        let fit = fit.count().max(1).min(others.len());
        (others, fit)
    }

    fn is_due(&self, row: &Row) -> bool {
        !self.active.contains(&row.document)
            && self.kept.get(&row.document).is_none_or(|kept| kept.heads != row.heads)
            && self.tried.get(&row.document) != Some(&row.heads)
    }

    /// What is open only to be brought up to date.
    fn active(&self) -> Vec<DocumentId> {
        self.active.iter().copied().collect()
    }

    /// What to close, and what to open, given how what is open stands. `heads` are those of a document's row, unless it
    /// is open.
    fn step<'a>(
        &mut self,
        standing: &[(DocumentId, Progress)],
        heads: impl Fn(DocumentId) -> Option<&'a [ChangeHash]>,
    ) -> (Vec<DocumentId>, Vec<DocumentId>) {
        let mut close = Vec::new();
        let (mut arriving, mut streaming) = (0, 0);
        for (document, progress) in standing {
            match progress {
                Progress::Arriving => arriving += 1,
                Progress::Streaming if streaming < MAX_STREAMING => streaming += 1,
                Progress::Streaming | Progress::Done => {
                    self.active.remove(document);
                    close.push(*document);
                }
            }
        }
        let mut open = Vec::new();
        while arriving < MAX_ARRIVING {
            let Some(document) = self.queue.pop_front() else { break };
            let Some(heads) = heads(document) else { continue };
            self.tried.insert(document, heads.to_vec());
            self.active.insert(document);
            open.push(document);
            arriving += 1;
        }
        (close, open)
    }

    /// What to drop from the store, the oldest first. `protected`: open, or needed in any case.
    pub(super) fn excess<'a>(
        &self,
        keeps: Keeps,
        rows: impl Iterator<Item = &'a Row>,
        pinned: impl Fn(DocumentId) -> bool,
        protected: impl Fn(DocumentId) -> bool,
    ) -> Vec<DocumentId> {
        let rows: Vec<&Row> = rows.filter(|row| self.kept.contains_key(&row.document)).collect();
        let purged = rows.iter().filter(|row| row.tombstone.is_some()).map(|row| row.document);
        let mut excess: Vec<DocumentId> = purged.collect();
        if let Keeps::Recent { .. } = keeps {
            // What isn't here takes no room.
            let (others, fit) = self.fitting(&self.ranked(rows.into_iter()), &pinned, keeps);
            // With other heads than here the relay may be behind: it was restored from a backup.
            let has = |row: &Row| self.kept.get(&row.document).is_some_and(|kept| kept.may_be_with(&row.heads));
            excess.extend(others[fit..].iter().rev().filter(|(_, row)| has(row)).map(|(_, row)| row.document));
        }
        excess.retain(|document| !protected(*document) && self.kept.get(document).is_some_and(|kept| !kept.unsent));
        excess
    }
}

impl Device {
    /// What an earlier start has told of the store by [`Device::kept_documents`]. Called before
    /// [`Device::restore_catalog`].
    pub fn restore_kept(&mut self, kept: Vec<KeptDocument>) {
        self.keep.restore(kept);
    }

    /// What is in the store, for the shell to keep beside it.
    pub fn kept_documents(&mut self) -> Vec<KeptDocument> {
        let open: Vec<DocumentId> = self.replicas.keys().copied().collect();
        open.into_iter().for_each(|document| self.note_kept(document));
        // What was opened and turned out not to exist is not in the store.
        self.keep.kept().filter(|kept| kept.bytes > 0).cloned().collect()
    }

    /// Lets go of what these limits leave no room for: [`Effects::drop`].
    pub fn evict(&mut self, keeps: Keeps) -> Effects {
        let mut effects = Effects::default();
        let identity = self.catalog.identity.as_ref();
        let own = identity.map(|identity| (identity.workspace_document, identity.profile));
        let excess = self.keep.excess(
            keeps,
            self.catalog.rows(),
            |session| self.profile.pins.contains_key(&session),
            |id| {
                self.replicas.contains_key(&id)
                    || self.queue.waits_for(id)
                    || own.is_some_and(|(workspace, profile)| workspace == id || profile == Some(id))
            },
        );
        excess.iter().for_each(|document| self.keep.forget(*document));
        effects.drop = excess;
        self.settle(effects)
    }

    /// Someone uses a document now.
    pub(super) fn used(&mut self, now: Timestamp, document: DocumentId) {
        self.keep.entry(document).used = now;
    }

    /// What is open is in the store as it is here.
    pub(super) fn note_kept(&mut self, document: DocumentId) {
        let Some(replica) = self.replicas.get(&document).filter(|replica| !replica.heads().is_empty()) else { return };
        let (heads, unsent) = (replica.heads(), replica.pending > 0 || !replica.refused.is_empty());
        let kept = self.keep.entry(document);
        kept.heads = heads;
        kept.unsent = unsent;
    }

    /// Rows have come: all that there are, or those that changed.
    pub(super) fn list_kept(&mut self, changed: Option<&[DocumentId]>) {
        let pins = &self.profile.pins;
        self.keep.list(self.catalog.rows(), changed, |session| pins.contains_key(&session));
    }

    /// Opens what is to be brought up to date, and closes what has been.
    pub(super) fn bring_up_to_date(&mut self, effects: &mut Effects) {
        if !self.link.is_up() || !self.catalog.caught_up {
            return;
        }
        let progress = |document| match self.replicas.get(&document) {
            None => Progress::Done,
            Some(replica) if replica.is_loading() => Progress::Arriving,
            Some(replica) if replica.unavailable || replica.broken().is_some() => Progress::Done,
            Some(_) if !self.up_to_date(document) => Progress::Arriving,
            Some(_) if self.catalog.live(document).is_some() => Progress::Streaming,
            Some(_) => Progress::Done,
        };
        let standing = self.keep.active().into_iter().map(|document| (document, progress(document)));
        let standing: Vec<(DocumentId, Progress)> = standing.collect();
        let (catalog, replicas) = (&self.catalog, &self.replicas);
        let heads =
            |document| catalog.row(document).filter(|_| !replicas.contains_key(&document)).map(|row| &*row.heads);
        let (close, open) = self.keep.step(&standing, heads);
        close.into_iter().for_each(|document| *effects += self.close(document));
        open.into_iter().for_each(|document| self.follow(document, effects));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Leases, Session, Summary, Writers, conversation, summary};
    use crate::wire::catalog::Tombstone;

    fn row(n: u8, at: u64) -> Row {
        let (document, session) = (DocumentId::from_bytes([n; 16]), Session::default());
        let empty = conversation(&session, &Leases::default(), &Writers::default(), Timestamp(at));
        let summary = summary::summary(document, &session, &empty, Timestamp(at));
        let summary = Summary { updated_at: Some(Timestamp(at)), ..summary };
        let hash = automerge::ChangeHash([n; 32]);
        Row { document, heads: vec![hash], summary: Some(summary), live: None, tombstone: None }
    }

    fn kept(row: &Row, bytes: u64) -> KeptDocument {
        let (document, heads) = (row.document, row.heads.clone());
        KeptDocument { document, heads, bytes, used: Timestamp(0), unsent: false }
    }

    const ONE: Keeps = Keeps::Recent { sessions: 1, bytes: u64::MAX };

    #[test]
    fn pinned_sessions_are_fetched_and_kept_beyond_the_limits() {
        let rows = [row(1, 10), row(2, 20), row(3, 30)];
        let pinned = |document| document == rows[0].document;
        let mut keep = Keep::new(ONE);
        keep.list(rows.iter(), None, pinned);
        assert_eq!(keep.queue, [rows[2].document, rows[0].document]);
        keep.restore(rows.iter().map(|row| kept(row, 5)).collect());
        assert_eq!(keep.excess(ONE, rows.iter(), pinned, |_| false), [rows[1].document]);
    }

    #[test]
    fn what_the_relay_has_other_heads_of_stays() {
        let mut rows = [row(1, 10), row(2, 20), row(3, 30)];
        let mut keep = Keep::new(ONE);
        keep.restore(rows.iter().map(|row| kept(row, 5)).collect());
        // It was restored from a backup.
        rows[0].heads = vec![automerge::ChangeHash([9; 32])];
        assert_eq!(keep.excess(ONE, rows.iter(), |_| false, |_| false), [rows[1].document]);
    }

    #[test]
    fn a_purged_session_goes_unless_something_of_it_is_unsent() {
        let mut rows = [row(1, 10), row(2, 20)];
        let tombstone = Tombstone { at: Timestamp(9), by: "ada".to_owned(), spent: vec![] };
        rows.iter_mut().for_each(|row| row.tombstone = Some(tombstone.clone()));
        let mut keep = Keep::new(Keeps::All);
        keep.restore(vec![kept(&rows[0], 5), KeptDocument { unsent: true, ..kept(&rows[1], 5) }]);
        assert_eq!(keep.excess(Keeps::All, rows.iter(), |_| false, |_| false), [rows[0].document]);
    }

    #[test]
    fn what_does_not_come_is_asked_for_again_only_when_there_is_news() {
        let mut rows = [row(1, 10)];
        let mut keep = Keep::new(Keeps::All);
        let document = rows[0].document;
        keep.list(rows.iter(), None, |_| false);
        assert_eq!(keep.step(&[], |_| Some(&rows[0].heads)).1, [document]);
        assert_eq!(keep.step(&[(document, Progress::Done)], |_| None).0, [document]);
        keep.list(rows.iter(), None, |_| false);
        assert!(keep.queue.is_empty());
        rows[0].heads = vec![automerge::ChangeHash([9; 32])];
        keep.list(rows.iter(), Some(&[document]), |_| false);
        assert_eq!(keep.queue, [document]);
    }
}
