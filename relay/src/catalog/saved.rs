//! The catalog as it was left: rows in the log, marks, claims and purges in the ledger; and what is kept of it as it
//! changes.
//!
//! Invariant: a purged document has no changes in the log once the catalog is open, whatever crashed in between.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skein_engine::ids::Scope;
use skein_engine::session::Summary;
use skein_engine::session::conversation::Status;
use skein_engine::wire::catalog::Row;
use skein_engine::wire::cbor;

use super::reading::Marking;
use super::rows::Rows;
use super::{Catalog, CatalogHandle, Key};
use crate::accounts::Accounts;
use crate::clock;
use crate::hub::HubHandle;
use crate::lease::Leases;
use crate::projector::{Projected, ProjectorHandle};
use crate::queries::Queries;
use crate::store::StoreError;
use crate::store::ledger::{Grave, Ledger};
use crate::store::log::Log;

/// Bytes of an ordinary summary, by far.
const MAX_SUMMARY: usize = 64 << 10;
/// Characters to which the texts of a larger one are cut.
const MAX_WORD: usize = 1_000;

/// A row as it is kept in the log.
#[derive(Serialize, Deserialize)]
pub struct SavedRow {
    /// Where it stands in the order of changes.
    pub cursor: u64,
    /// The row, without its lease.
    pub row: Row,
}

impl SavedRow {
    /// Keeps a row, derived when `group` was the last one of the log. Blocks.
    pub fn save(&self, log: &Log, key: &Key, group: u64) {
        if let Err(error) = log.save_row(key, &cbor::encode(self), group) {
            tracing::warn!("the row of {} was not saved: {error}", key.1);
        }
    }
}

/// The row of a purged document.
pub fn buried(key: &Key, grave: Grave) -> Row {
    Row { document: key.1, heads: grave.heads, summary: None, live: None, tombstone: Some(grave.tombstone) }
}

/// A summary of at most some [`MAX_SUMMARY`] bytes, whatever the document holds: every device gets it, and takes no page
/// that is too large.
fn bounded(summary: Summary) -> Summary {
    if cbor::encode(&summary).len() <= MAX_SUMMARY {
        return summary;
    }
    let clip = |text: String| match text.char_indices().nth(MAX_WORD) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    };
    Summary {
        name: clip(summary.name),
        agent: summary.agent.map(clip),
        position: summary.position.map(clip),
        task: summary.task.map(clip),
        duplicate_of: summary.duplicate_of.map(clip),
        preview: clip(summary.preview),
        strand: clip(summary.strand),
        reason: None,
        work: None,
        ..summary
    }
}

/// The row that a document gives. `known`: its row so far, whose summary stays where the document can't be read.
pub fn derived(projected: Projected, known: Option<&Row>) -> Row {
    let summary = match projected.broken {
        true => known.and_then(|row| row.summary.clone()),
        false => projected.summary.map(bounded),
    };
    Row { document: projected.key.1, heads: projected.heads, summary, live: None, tombstone: None }
}

/// Rows as they were saved.
#[derive(Default)]
pub struct Saved {
    /// Each with its cursor, in no order.
    pub rows: HashMap<Scope, Vec<(u64, Row)>>,
    /// Documents whose row must be derived again.
    pub stale: HashSet<Key>,
}

/// Reads all rows. Blocks.
pub fn read_rows(log: &Log) -> Result<Saved, StoreError> {
    let mut saved = Saved { rows: HashMap::new(), stale: log.uncovered()?.into_iter().collect() };
    for entry in log.rows()? {
        match cbor::decode::<SavedRow>(&entry.row) {
            Ok(SavedRow { cursor, row }) => {
                // Its lease may have ended while nobody looked.
                if row.summary.as_ref().is_some_and(|summary| summary.status == Status::Streaming) {
                    saved.stale.insert(entry.key.clone());
                }
                saved.rows.entry(entry.key.0).or_default().push((cursor, row));
            }
            Err(_) => _ = saved.stale.insert(entry.key),
        }
    }
    Ok(saved)
}

impl Catalog {
    /// Reads what was saved, and takes up the claims that were live when the relay stopped. Blocks.
    pub fn open(
        handle: &CatalogHandle,
        accounts: Arc<Accounts>,
        hub: HubHandle,
        projector: ProjectorHandle,
        log: Log,
        ledger: Ledger,
        queries: Queries,
    ) -> Result<Self, StoreError> {
        let Saved { rows: saved, mut stale } = read_rows(&log)?;
        let now = clock::now();
        let mut rows: HashMap<Scope, Rows> =
            saved.into_iter().map(|(scope, saved)| (scope, Rows::new(now, saved))).collect();
        for workspace in accounts.workspaces() {
            rows.entry(workspace.scope()).or_insert_with(|| Rows::new(now, Vec::new()));
        }
        let mut catalog = Self {
            accounts,
            hub,
            projector,
            log,
            ledger,
            queries,
            asks: handle.asks.clone(),
            rows,
            marks: HashMap::new(),
            marking: Marking::default(),
            purging: HashMap::new(),
            offers: HashMap::new(),
            connections: HashMap::new(),
            leases: Leases::default(),
            epochs: HashMap::new(),
            firing: Default::default(),
            unsent: HashSet::new(),
        };
        for (key, grave) in catalog.ledger.graves()? {
            stale.remove(&key);
            if catalog.log.holds(&key.0, key.1)? {
                catalog.log.delete_now(&key.0, key.1)?;
            }
            catalog.bury(&key, grave);
        }
        catalog.restore_marks()?;
        catalog.restore_claims()?;
        let group = catalog.log.group().saturating_sub(1);
        // Profiles have no rows.
        for key in stale.into_iter().filter(|(scope, _)| catalog.rows.contains_key(scope)) {
            catalog.projector.again(key, group);
        }
        Ok(catalog)
    }

    fn restore_marks(&mut self) -> Result<(), StoreError> {
        let workspaces: BTreeMap<Scope, Scope> = self
            .accounts
            .workspaces()
            .iter()
            .flat_map(|workspace| {
                let members = self.accounts.members(&workspace.id);
                members.into_iter().map(|member| (member.scope(), workspace.scope())).collect::<Vec<_>>()
            })
            .collect();
        for saved in self.ledger.marks()? {
            let Some(rows) = workspaces.get(&saved.scope).and_then(|scope| self.rows.get_mut(scope)) else { continue };
            let cursor = match saved.cursor {
                Some(cursor) => cursor,
                None => {
                    let cursor = rows.advance();
                    self.ledger.place_mark(&saved.scope, saved.mark, cursor)?;
                    cursor
                }
            };
            rows.skip(cursor);
            self.marks.entry(saved.scope).or_default().put(cursor, saved.mark);
        }
        Ok(())
    }

    /// Puts the tombstone of a document in the place of its row.
    pub(super) fn bury(&mut self, key: &Key, grave: Grave) {
        let Some(rows) = self.rows.get_mut(&key.0) else { return };
        let row = buried(key, grave);
        let (cursor, news) = rows.put(row.clone());
        if news {
            self.unsent.insert(key.0.clone());
            SavedRow { cursor, row }.save(&self.log, key, self.log.group());
        }
    }
}
