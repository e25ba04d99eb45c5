//! The sessions of a workspace as a list for tools that speak HTTP only: what was asked for, in the order of changes.

use skein_engine::ids::Timestamp;
use skein_engine::session::Summary;
use skein_engine::session::conversation::Status;

use super::Catalog;
use crate::accounts::Caller;

/// Which sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionQuery {
    /// Of these statuses; empty: of any.
    pub statuses: Vec<Status>,
    /// `Some(true)`: only archived ones, `Some(false)`: only others.
    pub archived: Option<bool>,
    /// Deleted ones too.
    pub deleted: bool,
    /// Whose row has changed since this cursor.
    pub after: u64,
    /// Updated at this time or later.
    pub updated_since: Option<Timestamp>,
    /// At most so many.
    pub limit: usize,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// In the order in which they changed, the latest last; `unread` is the caller's.
    pub sessions: Vec<Summary>,
    /// Stands for everything up to them: what follows it has changed later.
    pub cursor: u64,
    /// More follow.
    pub more: bool,
}

impl SessionQuery {
    fn wants(&self, summary: &Summary) -> bool {
        (self.deleted || summary.deleted_at.is_none())
            && (self.statuses.is_empty() || self.statuses.contains(&summary.status))
            && self.archived.is_none_or(|archived| archived == summary.archived_at.is_some())
            && self.updated_since.is_none_or(|since| summary.updated_at.is_some_and(|at| at >= since))
    }
}

impl Catalog {
    pub(super) fn listed(&self, caller: &Caller, query: &SessionQuery) -> Listed {
        let mut listed = Listed { sessions: Vec::new(), cursor: query.after, more: false };
        let Some(rows) = self.rows.get(&caller.workspace.scope()) else { return listed };
        let marks = self.marks.get(&caller.member.scope());
        for (cursor, row) in rows.since(query.after) {
            let Some(summary) = row.summary.as_ref().filter(|summary| query.wants(summary)) else { continue };
            if listed.sessions.len() == query.limit {
                listed.more = true;
                return listed;
            }
            let read = marks.map_or(0, |marks| marks.read(row.document));
            listed.sessions.push(Summary { unread: summary.progress > read, ..summary.clone() });
            listed.cursor = cursor;
        }
        listed.cursor = rows.cursor().max(query.after);
        listed
    }
}
