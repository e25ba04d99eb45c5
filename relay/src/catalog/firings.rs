//! Tasks that are due: a worker says so, and brings the first change of the session. The first to say it has it recorded
//! and stored; everyone after is told that it is taken.
//!
//! Invariant: one firing makes one session, however many workers ask and whenever this process ends: it is recorded with
//! its session's id before that session is stored, and only the relay stores it.

use bytes::Bytes;
use skein_engine::ids::Scope;
use skein_engine::session::conversation::WriterKind;
use skein_engine::sync::ConnectionId;
use skein_engine::wire::catalog::{Firing, FromRelay};

use super::{Ask, Catalog, blocking};

/// Characters of an id.
const MAX_ID: usize = 64;
/// Triggers that are told at a time: some 3 MB at most.
const MAX_TOLD: usize = 200;
/// Characters of a reason.
const MAX_REASON: usize = 1_000;

impl Catalog {
    pub(super) fn fire(&mut self, id: ConnectionId, ask: u64, mut firing: Firing, change: Option<Bytes>) {
        let Some(connection) = self.connections.get(&id) else { return };
        let caller = connection.caller.clone();
        let refuse = |reason: &str| FromRelay::Refused { ask, reason: reason.to_owned() };
        if caller.kind != WriterKind::Worker || caller.read_only() {
            return self.send(id, &refuse("only a worker's token may fire tasks, and its member may not be a viewer"));
        }
        let ids = [&firing.task, &firing.id, &firing.run];
        if ids.iter().any(|id| id.is_empty() || id.len() > MAX_ID || id.contains('\0')) {
            return self.send(id, &refuse("an id of a firing has 1 to 64 characters"));
        }
        if firing.session.is_some() != change.is_some() {
            return self.send(id, &refuse("a firing has a session and its first change, or neither"));
        }
        firing.error = firing.error.map(|error| error.chars().take(MAX_REASON).collect());
        let (scope, writer) = (connection.scope.clone(), caller.writer());
        let listed = |rows: &super::rows::Rows| firing_session(rows, &firing.session);
        // The workspace's own document has no row.
        let is_workspace = firing.session == Some(caller.workspace.document);
        if is_workspace || self.rows.get(&scope).is_some_and(listed) {
            return self.send(id, &refuse("this session is there already"));
        }
        let (ledger, hub, asks, firing_lock) =
            (self.ledger.clone(), self.hub.clone(), self.asks.clone(), self.firing.clone());
        let known: std::collections::HashSet<_> =
            self.rows.get(&scope).map(|rows| rows.iter().map(|row| row.document).collect()).unwrap_or_default();
        tokio::spawn(async move {
            // Two workers may say the same at once.
            let _alone = firing_lock.lock().await;
            let (of, task, name, reading) = (scope.clone(), firing.task.clone(), firing.id.clone(), ledger.clone());
            let recorded = blocking(move || reading.firing(&of, &task, &name)).await;
            let taken = match recorded {
                Err(error) => Err(error.to_string()),
                Ok(None) => Ok(false),
                Ok(Some(Firing { session: None, .. })) => Ok(true),
                // Recorded and never stored: this process ended in between.
                Ok(Some(Firing { session: Some(session), .. })) => {
                    Ok(known.contains(&session) || hub.heads((scope.clone(), session)).await.is_some())
                }
            };
            let frame = match taken {
                Ok(true) => FromRelay::Taken { ask },
                Ok(false) => {
                    let (of, record) = (scope.clone(), firing.clone());
                    let stored = match blocking(move || ledger.fire(&of, &record)).await {
                        Err(error) => Err(error.to_string()),
                        Ok(()) => match (firing.session, change) {
                            (Some(session), Some(change)) => hub.insert((scope, session), writer, change).await,
                            _ => Ok(()),
                        },
                    };
                    match stored {
                        Ok(()) => FromRelay::Fired { ask },
                        Err(reason) => FromRelay::Refused { ask, reason },
                    }
                }
                Err(reason) => FromRelay::Refused { ask, reason },
            };
            let _ = asks.send(Ask::Say { connection: id, frame: Box::new(frame) });
        });
    }

    /// What has been fired in the workspace.
    pub(super) fn firings(&mut self, id: ConnectionId, ask: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        if connection.caller.kind != WriterKind::Worker {
            return self.refuse(id, "only a worker's token may ask for firings");
        }
        let (scope, ledger, asks) = (connection.scope.clone(), self.ledger.clone(), self.asks.clone());
        tokio::spawn(async move {
            let frame = match blocking(move || ledger.latest(&scope)).await {
                Ok(firings) => FromRelay::Firings { ask, firings },
                Err(error) => FromRelay::Refused { ask, reason: error.to_string() },
            };
            let _ = asks.send(Ask::Say { connection: id, frame: Box::new(frame) });
        });
    }

    /// Tells every worker of a workspace what was triggered and not fired yet.
    pub(super) fn tell_triggers(&mut self, scope: &Scope) {
        let workers = self.offers.get(scope).map(|offers| offers.keys().copied().collect::<Vec<_>>());
        for id in workers.unwrap_or_default() {
            self.triggers(id, scope.clone());
        }
    }

    /// Tells one.
    pub(super) fn triggers(&mut self, id: ConnectionId, scope: Scope) {
        let (ledger, asks) = (self.ledger.clone(), self.asks.clone());
        tokio::spawn(async move {
            match blocking(move || ledger.triggered(&scope)).await {
                Ok(triggers) if triggers.is_empty() => {}
                Ok(mut triggers) => {
                    // Those that are told are fired first; the others are told at the next trigger or offer.
                    triggers.sort_by_key(|trigger| trigger.at);
                    triggers.truncate(MAX_TOLD);
                    let frame = Box::new(FromRelay::Triggered { triggers });
                    let _ = asks.send(Ask::Say { connection: id, frame });
                }
                Err(error) => tracing::error!(%error, "what was triggered can't be read"),
            }
        });
    }
}

fn firing_session(rows: &super::rows::Rows, session: &Option<skein_engine::ids::DocumentId>) -> bool {
    session.as_ref().is_some_and(|session| rows.get(session).is_some())
}
