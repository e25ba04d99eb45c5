//! What each member has read, with the cursor at which it last changed: "what follows cursor C" needs no history here
//! either. Cursors are those of the workspace's rows, so that one number stands for both. Pure.
//!
//! Invariant: a mark only grows.

use std::collections::{BTreeMap, HashMap};

use skein_engine::ids::DocumentId;
use skein_engine::wire::catalog::Mark;

/// Sessions of which one member's marks are kept.
pub const MAX_SESSIONS: usize = 200_000;

/// One member's marks.
#[derive(Debug, Default)]
pub struct Marks {
    /// Session → (cursor, how far).
    sessions: HashMap<DocumentId, (u64, u64)>,
    by_cursor: BTreeMap<u64, DocumentId>,
}

impl Marks {
    /// Whether this mark says more than is known.
    pub fn is_news(&self, mark: Mark) -> bool {
        match self.sessions.get(&mark.session) {
            Some((_, known)) => *known < mark.progress,
            None => self.sessions.len() < MAX_SESSIONS,
        }
    }

    /// Takes a mark, changed at this cursor.
    pub fn put(&mut self, cursor: u64, mark: Mark) {
        if let Some((old, known)) = self.sessions.get(&mark.session) {
            if *known >= mark.progress {
                return;
            }
            self.by_cursor.remove(old);
        }
        self.sessions.insert(mark.session, (cursor, mark.progress));
        self.by_cursor.insert(cursor, mark.session);
    }

    /// A purged session has none.
    pub fn forget(&mut self, session: DocumentId) {
        if let Some((cursor, _)) = self.sessions.remove(&session) {
            self.by_cursor.remove(&cursor);
        }
    }

    /// How far a session was read.
    pub fn read(&self, session: DocumentId) -> u64 {
        self.sessions.get(&session).map_or(0, |(_, progress)| *progress)
    }

    /// The marks that changed after one cursor, up to and with another, oldest first.
    pub fn between(&self, after: u64, until: u64) -> Vec<Mark> {
        if after >= until {
            return Vec::new();
        }
        let changed = self.by_cursor.range(after + 1..=until).map(|(_, session)| *session);
        changed.map(|session| Mark { session, progress: self.read(session) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_grow_and_are_given_out_once_each_as_they_are() {
        let [a, b] = [DocumentId::from_bytes([1; 16]), DocumentId::from_bytes([2; 16])];
        let mut marks = Marks::default();
        for (cursor, session, progress) in [(1, a, 3), (2, b, 1), (3, a, 5), (4, a, 4)] {
            marks.put(cursor, Mark { session, progress });
        }
        let [old, new] = [Mark { session: b, progress: 1 }, Mark { session: a, progress: 5 }];
        assert_eq!(marks.between(0, 4), [old, new]);
        assert_eq!(marks.between(2, 4), [new]);
        assert_eq!(marks.between(2, 2), []);
        assert!(!marks.is_news(new) && marks.is_news(Mark { progress: 6, ..new }));
        marks.forget(a);
        assert_eq!((marks.between(0, 9), marks.read(a)), (vec![old], 0));
    }
}
