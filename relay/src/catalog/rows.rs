//! The rows of one workspace's catalog with their cursors: each change of a row moves it to the end, so "what follows
//! cursor C" needs no history. Pure.
//!
//! Invariant: cursors only grow, over restarts too, since a start begins at the clock (in microseconds: no relay makes a
//! change in less).

use std::collections::{BTreeMap, HashMap};

use skein_engine::ids::{DocumentId, Timestamp};
use skein_engine::wire::catalog::Row;

/// Bytes of rows in one page, by estimate; a single larger row is a page of its own.
const PAGE_BYTES: usize = 256 << 10;

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
        let mut rows = Self { rows: HashMap::new(), by_cursor: BTreeMap::new(), cursor: now.0.saturating_mul(1_000) };
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
        let cursor = self.advance();
        self.by_cursor.insert(cursor, row.document);
        self.rows.insert(row.document, (cursor, row));
        (cursor, true)
    }

    /// The cursor of the last change.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// A cursor for a change of something beside the rows.
    pub fn advance(&mut self) -> u64 {
        self.cursor += 1;
        self.cursor
    }

    /// No cursor up to this one is given out again.
    pub fn skip(&mut self, cursor: u64) {
        self.cursor = self.cursor.max(cursor);
    }

    /// Whether "what follows this" can be answered.
    pub fn knows(&self, cursor: u64) -> bool {
        cursor <= self.cursor
    }

    /// The rows that changed after a cursor, each with its own, oldest change first.
    pub fn since(&self, cursor: u64) -> impl Iterator<Item = (u64, &Row)> {
        let following = self.by_cursor.range(cursor.saturating_add(1)..);
        following.filter_map(|(at, document)| Some((*at, self.get(document)?)))
    }

    /// At most `limit` rows that changed after a cursor.
    pub fn after(&self, cursor: u64, limit: usize) -> Page {
        let mut page = Page { cursor, rows: Vec::new(), complete: true };
        let mut bytes = 0;
        for (at, row) in self.since(cursor) {
            bytes += weight(row);
            if page.rows.len() == limit || (bytes > PAGE_BYTES && !page.rows.is_empty()) {
                page.complete = false;
                break;
            }
            page.cursor = at;
            page.rows.push(row.clone());
        }
        if page.complete {
            page.cursor = self.cursor.max(cursor);
        }
        page
    }
}

/// Bytes that a row takes on the wire before it is packed, about.
fn weight(row: &Row) -> usize {
    let texts = row.summary.as_ref().map_or(0, |summary| 500 + summary.name.len() + summary.preview.len());
    let sums = row.tombstone.as_ref().map_or(0, |tombstone| 250 * tombstone.spent.len());
    64 + 32 * row.heads.len() + texts + sums
}

#[cfg(test)]
mod tests {
    use skein_engine::wire::catalog::Tombstone;

    use super::*;

    fn row(n: u8, purged: bool) -> Row {
        let document = DocumentId::from_bytes([n; 16]);
        let tombstone = purged.then(|| Tombstone { at: Timestamp(0), by: "ada".to_owned(), spent: vec![] });
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
    fn a_large_row_makes_a_page_of_its_own() {
        let mut rows = Rows::new(Timestamp(0), vec![]);
        for n in 1..=3 {
            let heads = vec![automerge::ChangeHash([n; 32]); if n == 2 { 10_000 } else { 1 }];
            rows.put(Row { heads, ..row(n, false) });
        }
        let mut sizes = Vec::new();
        let mut cursor = 0;
        while sizes.len() < 3 {
            let page = rows.after(cursor, 100);
            (cursor, _) = (page.cursor, sizes.push(page.rows.len()));
        }
        assert_eq!(sizes, [1, 1, 1]);
    }

    #[test]
    fn a_restart_keeps_the_cursors_that_were_given_out() {
        let mut rows = Rows::new(Timestamp(1000), vec![]);
        assert!(!rows.knows(1_000_001));
        let (cursor, _) = rows.put(row(1, false));
        assert!(rows.knows(cursor));
        let restarted = Rows::new(Timestamp(2000), vec![(cursor, row(1, false))]);
        assert!(restarted.knows(cursor));
        assert_eq!(restarted.after(cursor, 10).rows, []);
        assert_eq!(restarted.after(0, 10).rows, [row(1, false)]);
    }
}
