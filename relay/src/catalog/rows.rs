//! The rows of one workspace's catalog with their cursors: each change of a row moves it to the end, so "what follows
//! cursor C" needs no history. Pure.
//!
//! Invariant: cursors only grow, over restarts too, since a start begins at the clock.

use std::collections::{BTreeMap, HashMap};

use skein_engine::ids::{DocumentId, Timestamp};
use skein_engine::wire::catalog::Row;

/// See the module.
#[derive(Debug)]
pub struct Rows {
    rows: HashMap<DocumentId, (u64, Row)>,
    by_cursor: BTreeMap<u64, DocumentId>,
    /// The cursor of the last change.
    cursor: u64,
}

/// Rows that follow a cursor.
#[derive(Debug, PartialEq)]
pub struct Page {
    /// Stands for everything up to these rows.
    pub cursor: u64,
    /// Oldest change first.
    pub rows: Vec<Row>,
    /// Nothing follows.
    pub complete: bool,
}

impl Rows {
    /// The rows that were saved, each with its cursor.
    pub fn new(now: Timestamp, saved: Vec<(u64, Row)>) -> Self {
        let mut rows = Self { rows: HashMap::new(), by_cursor: BTreeMap::new(), cursor: now.0 };
        for (cursor, row) in saved {
            rows.cursor = rows.cursor.max(cursor);
            rows.by_cursor.insert(cursor, row.document);
            rows.rows.insert(row.document, (cursor, row));
        }
        rows
    }

    /// A row.
    pub fn get(&self, document: &DocumentId) -> Option<&Row> {
        self.rows.get(document).map(|(_, row)| row)
    }

    /// All rows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Row> {
        self.rows.values().map(|(_, row)| row)
    }

    /// Replaces a row. Its cursor, and whether it says something new.
    pub fn put(&mut self, row: Row) -> (u64, bool) {
        if let Some((cursor, known)) = self.rows.get(&row.document) {
            if *known == row {
                return (*cursor, false);
            }
            self.by_cursor.remove(cursor);
        }
        self.cursor += 1;
        self.by_cursor.insert(self.cursor, row.document);
        self.rows.insert(row.document, (self.cursor, row));
        (self.cursor, true)
    }

    /// Whether "what follows this" can be answered.
    pub fn knows(&self, cursor: u64) -> bool {
        cursor <= self.cursor
    }

    /// At most `limit` rows that changed after a cursor.
    pub fn after(&self, cursor: u64, limit: usize) -> Page {
        let mut following = self.by_cursor.range(cursor.saturating_add(1)..);
        let mut page = Page { cursor, rows: Vec::new(), complete: true };
        for (at, document) in following.by_ref().take(limit) {
            page.cursor = *at;
            page.rows.extend(self.get(document).cloned());
        }
        page.complete = following.next().is_none();
        if page.complete {
            page.cursor = self.cursor.max(cursor);
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u8, tombstone: bool) -> Row {
        let document = DocumentId::from_bytes([n; 16]);
        Row { document, heads: vec![], summary: None, live: None, tombstone }
    }

    #[test]
    fn a_client_that_asks_by_its_cursor_gets_each_changed_row_once_as_it_is_now() {
        let mut rows = Rows::new(Timestamp(1000), vec![]);
        for n in 1..=5 {
            assert!(rows.put(row(n, false)).1);
        }
        let first = rows.after(0, 100);
        assert_eq!((first.rows.len(), first.complete), (5, true));
        assert!(!rows.put(row(2, false)).1);
        assert!(rows.put(row(2, true)).1);
        assert!(rows.put(row(4, true)).1);
        assert!(rows.put(row(2, false)).1);
        let next = rows.after(first.cursor, 100);
        assert_eq!(next.rows, [row(4, true), row(2, false)]);
        assert_eq!(rows.after(next.cursor, 100).rows, []);
    }

    #[test]
    fn pages_follow_each_other_without_a_gap() {
        let mut rows = Rows::new(Timestamp(0), vec![]);
        for n in 1..=10 {
            assert!(rows.put(row(n, false)).1);
        }
        let (mut cursor, mut seen, mut pages) = (0, 0, 0);
        loop {
            let page = rows.after(cursor, 4);
            (cursor, seen, pages) = (page.cursor, seen + page.rows.len(), pages + 1);
            if page.complete {
                break;
            }
        }
        assert_eq!((seen, pages), (10, 3));
    }

    #[test]
    fn a_restart_keeps_the_cursors_that_were_given_out() {
        let mut rows = Rows::new(Timestamp(1000), vec![]);
        assert!(!rows.knows(1001));
        let (cursor, _) = rows.put(row(1, false));
        assert!(rows.knows(cursor));
        let restarted = Rows::new(Timestamp(2000), vec![(cursor, row(1, false))]);
        assert!(restarted.knows(cursor));
        assert_eq!(restarted.after(cursor, 10).rows, []);
        assert_eq!(restarted.after(0, 10).rows, [row(1, false)]);
    }
}
