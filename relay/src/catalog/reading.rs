//! What people say that they have read. Marks that come while others are on their way to the disk wait, and go together.
//!
//! Invariant: a mark is durable before any device hears of it.

use std::collections::BTreeMap;

use skein_engine::ids::{DocumentId, Scope};
use skein_engine::session::conversation::WriterKind;
use skein_engine::sync::ConnectionId;
use skein_engine::wire::catalog::{FromRelay, MAX_MARKS, Mark};

use super::{Ask, Catalog, blocking};
use crate::store::StoreError;

/// Marks on their way to the disk.
#[derive(Debug, Default)]
pub(super) struct Marking {
    waiting: BTreeMap<(Scope, DocumentId), u64>,
    busy: bool,
}

impl Catalog {
    pub(super) fn read(&mut self, id: ConnectionId, marks: Vec<Mark>) {
        let Some(connection) = self.connections.get(&id) else { return };
        if connection.caller.kind == WriterKind::Worker {
            return self.refuse(id, "a worker reads for nobody");
        }
        if connection.caller.token_reads_only {
            // It may say nothing for its member, who hasn't read what a program has.
            return;
        }
        if marks.len() > MAX_MARKS {
            return self.refuse(id, "these are too many marks for one message");
        }
        let member = connection.caller.member.scope();
        let kept = self.marks.entry(member.clone()).or_default();
        let (news, known): (Vec<Mark>, Vec<Mark>) = marks.into_iter().partition(|mark| kept.is_news(*mark));
        // The same mark may have come from another device: this one still waits to hear of it.
        let known = known.into_iter().map(|mark| Mark { progress: kept.read(mark.session), ..mark });
        let known: Vec<Mark> = known.filter(|mark| mark.progress > 0).collect();
        for mark in news {
            let waiting = self.marking.waiting.entry((member.clone(), mark.session)).or_insert(0);
            *waiting = mark.progress.max(*waiting);
        }
        if !known.is_empty() {
            self.send(id, &FromRelay::Read { marks: known, cursor: None });
        }
        self.keep_marks();
    }

    fn keep_marks(&mut self) {
        if self.marking.busy || self.marking.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.marking.waiting).into_iter();
        let waiting = waiting.map(|((member, session), progress)| (member, Mark { session, progress }));
        // A higher one may have been placed while it waited, and must not be written over.
        let marks: Vec<(Scope, Mark)> =
            waiting.filter(|(member, mark)| self.marks.get(member).is_none_or(|kept| kept.is_news(*mark))).collect();
        if marks.is_empty() {
            return;
        }
        self.marking.busy = true;
        let (ledger, asks) = (self.ledger.clone(), self.asks.clone());
        tokio::spawn(async move {
            let kept = marks.clone();
            let outcome = blocking(move || ledger.keep_marks(&kept)).await;
            let _ = asks.send(Ask::Marked { marks, outcome });
        });
    }

    pub(super) fn marked(&mut self, marks: Vec<(Scope, Mark)>, outcome: Result<(), StoreError>) {
        self.marking.busy = false;
        match outcome {
            Ok(()) => marks.into_iter().for_each(|(member, mark)| self.place_mark(&member, mark)),
            // Their devices keep them, and say them again on their next connection.
            Err(error) => tracing::warn!("{} marks were not kept: {error}", marks.len()),
        }
        self.keep_marks();
    }

    fn place_mark(&mut self, member: &Scope, mark: Mark) {
        let of_member = |caller: &crate::accounts::Caller| caller.member.scope() == *member;
        let connection = self.connections.values().find(|connection| of_member(&connection.caller));
        // Without a connection of theirs any workspace's cursor would be a guess: it is placed at the next start.
        let scope = match connection {
            Some(connection) => connection.scope.clone(),
            None => match self.scope_of_member(member) {
                Some(scope) => scope,
                None => return,
            },
        };
        let Some(rows) = self.rows.get_mut(&scope) else { return };
        let cursor = rows.advance();
        self.marks.entry(member.clone()).or_default().put(cursor, mark);
        self.unsent.insert(scope);
        if let Err(error) = self.ledger.place_mark(member, mark, cursor) {
            tracing::warn!("where a mark stands was not noted: {error}");
        }
    }

    fn scope_of_member(&self, member: &Scope) -> Option<Scope> {
        let workspaces = self.accounts.workspaces();
        let found = workspaces
            .iter()
            .find(|workspace| self.accounts.members(&workspace.id).iter().any(|known| known.scope() == *member));
        found.map(crate::accounts::Workspace::scope)
    }
}
