//! What workers ask of the catalog: to run a session, to store the change that makes a run, to stay at it.
//!
//! Invariant: an epoch is in the ledger before it is granted, so no restart repeats one; and nothing but the holder of
//! the live claim makes a run. What has to wait for the disk is asked in the background: the catalog waits for nobody.

use std::time::Duration;

use bytes::Bytes;
use skein_engine::graph::change::ParsedChange;
use skein_engine::ids::{ActorId, ChangeHash, DocumentId, Epoch};
use skein_engine::session::conversation::WriterKind;
use skein_engine::sync::ConnectionId;
use skein_engine::wire::catalog::{FromRelay, Live, Row};

use super::{Ask, Catalog, Key, blocking};
use crate::clock;
use crate::hub::HubHandle;
use crate::lease::{Holder, Lease, Renewed, TTL_MS};
use crate::store::StoreError;
use crate::store::ledger::Claim;

/// How long the heads of a session may take to be read.
const READING: Duration = Duration::from_secs(5);

/// A claim that is being looked into.
#[derive(Debug)]
pub(super) struct Asked {
    connection: ConnectionId,
    ask: u64,
    key: Key,
    holder: Holder,
    actor: ActorId,
}

impl Catalog {
    /// Takes up the claims that were live when the relay stopped: their workers have one time to live to come back.
    pub(super) fn restore_claims(&mut self) -> Result<(), StoreError> {
        let now = clock::now();
        for (key, claim) in self.ledger.open_claims()? {
            self.hub.set_live(key.clone(), Some((claim.epoch, claim.principal.clone())));
            self.projector.live(key.clone(), Some(claim.epoch));
            let holder = Holder { principal: claim.principal, peer: claim.peer };
            self.leases.restore(now, &key, claim.epoch, holder, claim.actor);
            self.show(&key);
        }
        Ok(())
    }

    /// A worker wants a session. First what is known of it is looked up, which may have to wait for the disk.
    pub(super) fn claim(&mut self, id: ConnectionId, ask: u64, session: DocumentId, actor: ActorId, named: Epoch) {
        let Some((key, holder)) = self.worker(id, session) else {
            return self.send(id, &FromRelay::Busy { ask, reason: "only a worker's token may claim".to_owned() });
        };
        if let Err(taken) = self.leases.taken(&key, &holder) {
            return self.send(id, &FromRelay::Busy { ask, reason: taken.to_string() });
        }
        let claim = Asked { connection: id, ask, key, holder, actor };
        let (hub, ledger, asks) = (self.hub.clone(), self.ledger.clone(), self.asks.clone());
        tokio::spawn(async move {
            let found = async {
                heads(&hub, &claim.key).await?;
                let of = claim.key.clone();
                let last = blocking(move || ledger.claim(&of)).await.map_err(|error| error.to_string())?;
                Ok(last.map_or(Epoch(0), |claim| claim.epoch))
            };
            let highest = found.await;
            let _ = asks.send(Ask::Sought { claim, named, highest });
        });
    }

    /// The highest epoch so far is known: the claim is made, and recorded before it is granted. The heads that the
    /// worker must hold are read after it is made, since until then another may have begun a run.
    pub(super) fn sought(&mut self, claim: Asked, named: Epoch, highest: Result<Epoch, String>) {
        let claimed = highest.and_then(|highest| {
            let highest = self.epochs.get(&claim.key).copied().unwrap_or_default().max(highest);
            let (holder, actor) = (claim.holder.clone(), claim.actor.clone());
            let claimed = self.leases.claim(clock::now(), &claim.key, holder, actor, named, highest);
            claimed.map_err(|error| error.to_string())
        });
        let epoch = match claimed {
            Ok(epoch) => epoch,
            Err(reason) => return self.send(claim.connection, &FromRelay::Busy { ask: claim.ask, reason }),
        };
        self.epochs.insert(claim.key.clone(), epoch);
        let Holder { principal, peer } = claim.holder.clone();
        let record = Claim { epoch, actor: claim.actor.clone(), principal, peer, ended: false };
        let (hub, ledger, asks) = (self.hub.clone(), self.ledger.clone(), self.asks.clone());
        tokio::spawn(async move {
            let of = claim.key.clone();
            let outcome = match blocking(move || ledger.grant(&of, &record)).await {
                Ok(()) => heads(&hub, &claim.key).await,
                Err(error) => Err(error.to_string()),
            };
            let _ = asks.send(Ask::Recorded { claim, epoch, outcome });
        });
    }

    /// The claim is on the disk: it is granted, unless whoever asked has gone.
    pub(super) fn recorded(&mut self, claim: Asked, epoch: Epoch, outcome: Result<Vec<ChangeHash>, String>) {
        let Asked { connection, ask, key, holder, .. } = claim;
        // It may have lapsed, been claimed anew or been purged while that took.
        let lives = self.leases.get(&key).is_some_and(|lease| lease.epoch == epoch);
        match outcome {
            Ok(heads) if lives && self.connections.contains_key(&connection) => {
                self.hub.set_live(key.clone(), Some((epoch, holder.principal)));
                self.projector.live(key.clone(), Some(epoch));
                self.show(&key);
                self.send(connection, &FromRelay::Granted { ask, epoch, ttl_ms: TTL_MS, heads });
            }
            outcome => {
                if let Some(lease) = self.leases.revoke(&key, epoch) {
                    self.ended(&key, &lease);
                }
                let reason = outcome.err().unwrap_or_else(|| "the claim has lapsed already".to_owned());
                self.send(connection, &FromRelay::Busy { ask, reason });
            }
        }
    }

    pub(super) fn begin(&mut self, id: ConnectionId, ask: u64, session: DocumentId, epoch: Epoch, change: Bytes) {
        let checked = (|| {
            let (key, holder) = self.worker(id, session).ok_or("only a worker's token may begin a run")?;
            let parsed = ParsedChange::parse(change.clone()).map_err(|error| error.to_string())?;
            let begun = self.leases.begin(clock::now(), &key, epoch, &holder, &parsed.actor);
            begun.map(|()| key).map_err(|error| error.to_string())
        })();
        let (key, writer) = match (checked, self.connections.get(&id)) {
            (Ok(key), Some(connection)) => (key, connection.caller.writer()),
            (Err(reason), _) => return self.send(id, &FromRelay::Refused { ask, reason }),
            (Ok(_), None) => return,
        };
        let (hub, asks) = (self.hub.clone(), self.asks.clone());
        tokio::spawn(async move {
            let outcome = hub.insert(key.clone(), writer, change).await;
            let _ = asks.send(Ask::Begun { key, epoch, connection: id, ask, outcome });
        });
    }

    pub(super) fn begun(
        &mut self,
        key: &Key,
        epoch: Epoch,
        connection: ConnectionId,
        ask: u64,
        outcome: Result<(), String>,
    ) {
        if let Some(lease) = self.leases.begun(clock::now(), key, epoch, outcome.is_ok()) {
            self.ended(key, &lease);
        }
        let answer = match outcome {
            Ok(()) => FromRelay::Stored { ask },
            Err(reason) => FromRelay::Refused { ask, reason },
        };
        self.send(connection, &answer);
    }

    pub(super) fn renew(&mut self, id: ConnectionId, ask: Option<u64>, session: DocumentId, live: Live) {
        let epoch = live.epoch;
        let renewed = self.worker(id, session).and_then(|(key, holder)| {
            let renewed = self.leases.renew(clock::now(), &key, &holder, live).ok()?;
            Some((key, renewed))
        });
        match renewed {
            Some((key, Renewed::Shown)) => self.show(&key),
            Some((_, Renewed::Silently)) => {}
            None => return self.send(id, &FromRelay::Lost { session, epoch }),
        }
        if let Some(ask) = ask {
            self.send(id, &FromRelay::Lives { ask });
        }
    }

    pub(super) fn release(&mut self, id: ConnectionId, session: DocumentId, epoch: Epoch) {
        let Some((key, holder)) = self.worker(id, session) else { return };
        // A claim that has lapsed was ended then.
        if let Ok(Some(lease)) = self.leases.release(clock::now(), &key, epoch, &holder) {
            self.ended(&key, &lease);
        }
    }

    /// Ends what has lapsed, tells who held it, and shows what has waited its second.
    pub(super) fn lapse(&mut self) {
        let now = clock::now();
        for (key, lease) in self.leases.expire(now) {
            self.lost(&key, &lease);
        }
        for key in self.leases.take_news(now) {
            self.show(&key);
        }
    }

    /// Ends a claim whose holder doesn't know it.
    pub(super) fn lost(&mut self, key: &Key, lease: &Lease) {
        self.ended(key, lease);
        let lost = FromRelay::Lost { session: key.1, epoch: lease.epoch };
        let of_scope = self.connections.iter().filter(|(_, connection)| connection.scope == key.0);
        let holders = of_scope.filter(|(_, connection)| connection.peer.as_ref() == Some(&lease.holder.peer));
        let holders: Vec<ConnectionId> = holders.map(|(id, _)| *id).collect();
        for id in holders {
            self.send(id, &lost);
        }
    }

    fn ended(&mut self, key: &Key, lease: &Lease) {
        self.hub.set_live(key.clone(), None);
        let claim = Claim {
            epoch: lease.epoch,
            actor: lease.actor.clone(),
            principal: lease.holder.principal.clone(),
            peer: lease.holder.peer.clone(),
            ended: true,
        };
        if let Err(error) = self.ledger.end(key, &claim) {
            tracing::warn!("the end of epoch {} of {} was not recorded: {error}", lease.epoch.0, key.1);
        }
        self.show(key);
        self.projector.live(key.clone(), None);
    }

    /// Puts what is known of a session's lease into its row.
    fn show(&mut self, key: &Key) {
        let live = self.leases.get(key).map(|lease| lease.live.clone());
        let Some(rows) = self.rows.get_mut(&key.0) else { return };
        let Some(row) = rows.get(&key.1) else { return };
        let row = Row { live, ..row.clone() };
        if rows.put(row).1 {
            self.unsent.insert(key.0.clone());
        }
    }

    /// The session's key and the holder, if this connection is a worker's.
    fn worker(&self, id: ConnectionId, session: DocumentId) -> Option<(Key, Holder)> {
        let connection = self.connections.get(&id)?;
        if connection.caller.kind != WriterKind::Worker || connection.caller.read_only() {
            return None;
        }
        let holder = Holder { principal: connection.caller.principal.clone(), peer: connection.peer.clone()? };
        Some(((connection.scope.clone(), session), holder))
    }
}

/// The durable heads of a session; in words why there are none.
async fn heads(hub: &HubHandle, key: &Key) -> Result<Vec<ChangeHash>, String> {
    let heads = tokio::time::timeout(READING, hub.heads(key.clone())).await;
    heads.map_err(|_| "the session can't be read now")?.ok_or_else(|| "there is no such session".to_owned())
}
