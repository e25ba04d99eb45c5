//! Purging a session: a person asks, the projector sums up what was spent, the ledger records that it is gone, the hub
//! forgets it and takes nothing more of it, the log drops its changes; then its row is a tombstone.
//!
//! Invariant: what is recorded as purged stays so: a start after a crash carries on from the ledger's record.

use skein_engine::ids::DocumentId;
use skein_engine::session::conversation::WriterKind;
use skein_engine::sync::ConnectionId;
use skein_engine::wire::catalog::{FromRelay, Tombstone};

use super::{Ask, Catalog, Key, blocking};
use crate::clock;
use crate::hub::HubHandle;
use crate::projector::ProjectorHandle;
use crate::store::ledger::{Grave, Ledger};

impl Catalog {
    pub(super) fn purge(&mut self, id: ConnectionId, session: DocumentId) {
        let Some(connection) = self.connections.get(&id) else { return };
        let key = (connection.scope.clone(), session);
        let row = self.rows.get(&key.0).and_then(|rows| rows.get(&session));
        let refused = match row {
            _ if connection.caller.kind != WriterKind::Member => Some("only a person purges sessions"),
            _ if connection.caller.read_only() => Some("a viewer purges nothing"),
            // A member can make it look like a session, and the workspace is nothing without it.
            _ if session == connection.caller.workspace.document => Some("it is no session"),
            None => Some("there is no such session"),
            Some(_) => None,
        };
        if let Some(reason) = refused {
            return self.send(id, &FromRelay::NotPurged { session, reason: reason.to_owned() });
        }
        if row.is_some_and(|row| row.tombstone.is_some()) {
            return self.send(id, &FromRelay::Purged { session });
        }
        let by = connection.caller.member.id.clone();
        let waiting = self.purging.entry(key.clone()).or_default();
        let first = waiting.is_empty();
        waiting.insert(id);
        if first {
            let (projector, ledger, hub) = (self.projector.clone(), self.ledger.clone(), self.hub.clone());
            let asks = self.asks.clone();
            tokio::spawn(async move {
                let outcome = carry_out(&projector, ledger, &hub, &key, by).await;
                let _ = asks.send(Ask::Buried { key, outcome });
            });
        }
    }

    pub(super) fn buried(&mut self, key: Key, outcome: Result<Grave, String>) {
        let session = key.1;
        let answer = match outcome {
            Ok(grave) => {
                self.queries.bury(key.0.clone(), session, grave.tombstone.spent.clone());
                if let Some(epoch) = self.leases.get(&key).map(|lease| lease.epoch)
                    && let Some(lease) = self.leases.revoke(&key, epoch)
                {
                    self.lost(&key, &lease);
                }
                for (member, marks) in &mut self.marks {
                    if marks.read(session) > 0 {
                        marks.forget(session);
                        if let Err(error) = self.ledger.drop_mark(member, session) {
                            tracing::warn!("a mark of a purged session was not dropped: {error}");
                        }
                    }
                }
                self.bury(&key, grave);
                FromRelay::Purged { session }
            }
            Err(reason) => FromRelay::NotPurged { session, reason },
        };
        for id in self.purging.remove(&key).unwrap_or_default() {
            self.send(id, &answer);
        }
    }
}

async fn carry_out(
    projector: &ProjectorHandle,
    ledger: Ledger,
    hub: &HubHandle,
    key: &Key,
    by: String,
) -> Result<Grave, String> {
    let (heads, spent) = projector.spent(key.clone()).await?;
    let grave = Grave { heads, tombstone: Tombstone { at: clock::now(), by, spent } };
    let (of, recorded) = (key.clone(), grave.clone());
    blocking(move || ledger.bury(&of, &recorded)).await.map_err(|error| error.to_string())?;
    // From here on it is purged. What the disk doesn't drop now, it drops at the next start.
    if let Err(error) = hub.purge(key.clone()).await {
        tracing::error!("the changes of the purged session {} are still on the disk: {error}", key.1);
    }
    Ok(grave)
}
