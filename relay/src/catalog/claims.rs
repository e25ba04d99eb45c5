//! What workers ask of the catalog: to run a session, to store the change that makes a run, to stay at it.
//!
//! Invariant: an epoch is in the ledger before it is granted, so no restart repeats one; and nothing but the holder of
//! the live claim makes a run.

use bytes::Bytes;
use skein_engine::graph::change::ParsedChange;
use skein_engine::ids::{ActorId, ChangeHash, DocumentId, Epoch};
use skein_engine::session::conversation::WriterKind;
use skein_engine::sync::ConnectionId;
use skein_engine::wire::catalog::{FromRelay, Live, Row};

use super::{Ask, Catalog, Key, blocking};
use crate::clock;
use crate::lease::{Holder, Lease, Renewed, TTL_MS};
use crate::store::StoreError;
use crate::store::ledger::Claim;

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

    pub(super) async fn claim(
        &mut self,
        id: ConnectionId,
        ask: u64,
        session: DocumentId,
        actor: ActorId,
        named: Epoch,
    ) {
        let Some((key, holder)) = self.worker(id, session) else {
            return self.send(id, &FromRelay::Busy { ask, reason: "only a worker's token may claim".to_owned() });
        };
        let answer = match self.grant(&key, holder, actor, named).await {
            Ok((epoch, heads)) => FromRelay::Granted { ask, epoch, ttl_ms: TTL_MS, heads },
            Err(reason) => FromRelay::Busy { ask, reason },
        };
        self.send(id, &answer);
    }

    async fn grant(
        &mut self,
        key: &Key,
        holder: Holder,
        actor: ActorId,
        named: Epoch,
    ) -> Result<(Epoch, Vec<ChangeHash>), String> {
        let heads = self.hub.heads(key.clone()).await.ok_or("there is no such session")?;
        let (ledger, of) = (self.ledger.clone(), key.clone());
        let last = blocking(move || ledger.claim(&of)).await.map_err(|error| error.to_string())?;
        let highest = last.map_or(Epoch(0), |claim| claim.epoch);
        let claimed = self.leases.claim(clock::now(), key, holder.clone(), actor.clone(), named, highest);
        let epoch = claimed.map_err(|error| error.to_string())?;
        let claim =
            Claim { epoch, actor, principal: holder.principal.clone(), peer: holder.peer.clone(), ended: false };
        let (ledger, of) = (self.ledger.clone(), key.clone());
        if let Err(error) = blocking(move || ledger.grant(&of, &claim)).await {
            self.leases.revoke(key, epoch);
            self.show(key);
            return Err(error.to_string());
        }
        self.hub.set_live(key.clone(), Some((epoch, holder.principal)));
        self.projector.live(key.clone(), Some(epoch));
        self.show(key);
        Ok((epoch, heads))
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
        self.leases.begun(clock::now(), key, epoch);
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
        if let Ok(lease) = self.leases.release(clock::now(), &key, epoch, &holder) {
            self.ended(&key, &lease);
        }
    }

    /// Ends what has lapsed, tells who held it, and shows what has waited its second.
    pub(super) fn lapse(&mut self) {
        let now = clock::now();
        for (key, lease) in self.leases.expire(now) {
            self.ended(&key, &lease);
            let lost = FromRelay::Lost { session: key.1, epoch: lease.epoch };
            let holders: Vec<ConnectionId> = self
                .connections
                .iter()
                .filter(|(_, connection)| connection.scope == key.0)
                .filter(|(_, connection)| connection.peer.as_ref() == Some(&lease.holder.peer))
                .map(|(id, _)| *id)
                .collect();
            for id in holders {
                self.send(id, &lost);
            }
        }
        for key in self.leases.take_news(now) {
            self.show(&key);
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
