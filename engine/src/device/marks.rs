//! How far this device's member has read: what the relay is known to keep, and what it hasn't heard of yet. Both only
//! grow, so that devices agree whoever comes last.
//!
//! Invariant: a mark that was set here is sent until the relay has named one at least as high.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Device, Effects, Notice};
use crate::ids::{DocumentId, Timestamp};
use crate::wire::catalog::{MAX_MARKS, Mark, ToRelay};

/// See the module. The shell keeps it, as it is, beside the catalog's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// As the relay has said.
    kept: BTreeMap<DocumentId, u64>,
    /// Higher than that, and not acknowledged.
    #[serde(default)]
    unsent: BTreeMap<DocumentId, u64>,
}

impl Marks {
    /// How far this session was read; 0 if never.
    pub fn read(&self, session: DocumentId) -> u64 {
        [&self.kept, &self.unsent].into_iter().filter_map(|marks| marks.get(&session)).copied().max().unwrap_or(0)
    }

    /// Whether nothing waits for the relay.
    pub fn is_sent(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Takes in what another process of this device has kept meanwhile.
    pub fn merge(&mut self, other: Self) {
        for (session, progress) in other.kept {
            raise(&mut self.kept, session, progress);
        }
        for (session, progress) in other.unsent {
            raise(&mut self.unsent, session, progress);
        }
        self.unsent.retain(|session, progress| self.kept.get(session).is_none_or(|kept| kept < progress));
    }

    /// Sets a mark. Whether it is news.
    pub(super) fn set(&mut self, session: DocumentId, progress: u64) -> bool {
        progress > self.read(session) && raise(&mut self.unsent, session, progress)
    }

    /// The relay's marks; the sessions for which they are news, if only that the relay has heard of one's own.
    pub(super) fn heard(&mut self, marks: Vec<Mark>) -> Vec<DocumentId> {
        let mut changed = Vec::new();
        for Mark { session, progress } in marks {
            let is_news = progress > self.read(session);
            raise(&mut self.kept, session, progress);
            let heard = self.unsent.get(&session).is_some_and(|unsent| *unsent <= progress);
            if heard {
                self.unsent.remove(&session);
            }
            if is_news || heard {
                changed.push(session);
            }
        }
        changed
    }

    /// The relay begins anew, and may have lost what it kept: what isn't heard again is sent again.
    pub(super) fn reset(&mut self) {
        for (session, progress) in std::mem::take(&mut self.kept) {
            raise(&mut self.unsent, session, progress);
        }
    }

    /// A purged session has none.
    pub(super) fn forget(&mut self, session: DocumentId) {
        self.kept.remove(&session);
        self.unsent.remove(&session);
    }

    /// What the relay hasn't heard of, in frames.
    pub(super) fn to_send(&self) -> Vec<Vec<Mark>> {
        let marks: Vec<Mark> =
            self.unsent.iter().map(|(session, progress)| Mark { session: *session, progress: *progress }).collect();
        marks.chunks(MAX_MARKS).map(<[Mark]>::to_vec).collect()
    }
}

impl Device {
    /// The member has seen these sessions as they are now, on this device.
    pub fn mark_read(&mut self, now: Timestamp, sessions: &[DocumentId]) -> Effects {
        let mut effects = Effects::default();
        self.has_read(now, sessions, &mut effects);
        effects
    }

    /// How far the member has read, for the shell to keep.
    pub fn marks(&self) -> &Marks {
        &self.catalog.marks
    }

    /// What the shell has kept from an earlier start, or another process of this device since.
    pub fn restore_marks(&mut self, marks: Marks) {
        self.catalog.marks.merge(marks);
    }

    pub(super) fn has_read(&mut self, now: Timestamp, sessions: &[DocumentId], effects: &mut Effects) {
        let mut marks = Vec::new();
        for session in sessions {
            let Some(progress) = self.shared_summary(now, *session).map(|summary| summary.progress) else { continue };
            if self.catalog.marks.set(*session, progress) {
                marks.push(Mark { session: *session, progress });
                effects.notices.push(Notice::Summary(*session));
            }
        }
        // Before that, what the relay says may be higher.
        if self.catalog.caught_up {
            for marks in marks.chunks(MAX_MARKS) {
                self.tell_catalog(&ToRelay::Read { marks: marks.to_vec() }, effects);
            }
        }
    }

    /// The copy of the catalog is up to date: whatever the relay hasn't heard of goes out.
    pub(super) fn send_marks(&self, effects: &mut Effects) {
        for marks in self.catalog.marks.to_send() {
            self.tell_catalog(&ToRelay::Read { marks }, effects);
        }
    }
}

fn raise(marks: &mut BTreeMap<DocumentId, u64>, session: DocumentId, progress: u64) -> bool {
    let mark = marks.entry(session).or_insert(0);
    let news = progress > *mark;
    *mark = progress.max(*mark);
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_waits_until_the_relay_names_one_as_high() {
        let session = DocumentId::random();
        let mut marks = Marks::default();
        assert!(marks.set(session, 5) && !marks.set(session, 4) && !marks.set(session, 5));
        assert_eq!(marks.heard(vec![Mark { session, progress: 3 }]), []);
        assert_eq!(marks.to_send(), [vec![Mark { session, progress: 5 }]]);
        assert_eq!(marks.heard(vec![Mark { session, progress: 9 }]), [session]);
        assert!(marks.is_sent() && marks.read(session) == 9);
    }

    #[test]
    fn a_relay_that_lost_its_marks_hears_them_again() {
        let [a, b] = [DocumentId::random(), DocumentId::random()];
        let mut marks = Marks::default();
        marks.heard(vec![Mark { session: a, progress: 7 }, Mark { session: b, progress: 2 }]);
        marks.reset();
        assert_eq!((marks.read(a), marks.read(b)), (7, 2));
        marks.heard(vec![Mark { session: b, progress: 2 }]);
        assert_eq!(marks.to_send(), [vec![Mark { session: a, progress: 7 }]]);
    }

    #[test]
    fn two_processes_of_a_device_keep_the_higher_of_their_marks() {
        let [a, b] = [DocumentId::random(), DocumentId::random()];
        let (mut one, mut two) = (Marks::default(), Marks::default());
        one.set(a, 5);
        two.heard(vec![Mark { session: a, progress: 6 }]);
        two.set(b, 1);
        one.merge(two);
        assert_eq!((one.read(a), one.read(b)), (6, 1));
        assert_eq!(one.to_send(), [vec![Mark { session: b, progress: 1 }]]);
    }
}
