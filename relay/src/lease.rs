//! Leases: which worker runs which session. A pure state machine: time and the ledger's knowledge come in, decisions
//! come out; the catalog carries them out.
//!
//! Invariant: at most one claim of a session is live, each has an epoch higher than every one before it (session
//! rule 7), and a claim doesn't lapse while the change that makes its run is being stored (rule 8).

use std::collections::HashMap;

use skein_engine::ids::{ActorId, DocumentId, Epoch, PeerId, Principal, Scope, Timestamp};
use skein_engine::wire::catalog::Live;

/// Milliseconds for which a claim lives unless it is renewed. Workers renew every third of it, so that two lost
/// renewals end nothing, and a dead worker's session shows as such well within the 15 s that people may wait.
pub const TTL_MS: u64 = 6_000;
/// Milliseconds between two changes of what lists show of a live claim.
const SHOWN_EVERY_MS: u64 = 1_000;
/// Higher epochs aren't numbers in JavaScript.
const MAX_EPOCH: u64 = 1 << 52;

/// A document, as the hub names it.
type Key = (Scope, DocumentId);

/// The worker that holds a claim, in this start of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its token's principal.
    pub principal: Principal,
    /// The peer id that it uses on `/sync`.
    pub peer: PeerId,
}

/// A live claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its fencing token.
    pub epoch: Epoch,
    /// The actor under which it writes.
    pub actor: ActorId,
    /// Who holds it.
    pub holder: Holder,
    /// What lists show of it.
    pub live: Live,
    expires: Timestamp,
    stage: Stage,
    /// Its holder has given it back while the change was being stored.
    released: bool,
    /// When what lists show last changed, and whether it has changed since.
    shown: Timestamp,
    unshown: bool,
}

/// How far a claim has come: one claim makes one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has made none.
    Granted,
    /// The change that makes it is being stored.
    Beginning,
    /// It is made.
    Begun,
}

/// Why a claim or a step of it is refused, in words for the worker's log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Another worker has it.
    #[error("another worker runs this session (epoch {0})")]
    Taken(u64),
    /// The claim names an epoch that no relay has granted.
    #[error("epoch {0} is out of range")]
    Range(u64),
    /// There is no such claim, or it is someone else's, or it has lapsed.
    #[error("the claim with epoch {0} is not live")]
    NotLive(u64),
    /// It has made its run already.
    #[error("the claim with epoch {0} has begun a run already")]
    Begun(u64),
    /// The change is by another actor than the claim's.
    #[error("the change is not by the actor of the claim")]
    Actor,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// It lives on, and lists show the same.
    Silently,
    /// It lives on, and lists show something new.
    Shown,
}

/// All live claims.
#[derive(Debug, Default)]
pub struct Leases {
    live: HashMap<Key, Lease>,
}

impl Leases {
    /// Grants a session, if it is free. `named` is the highest epoch in the worker's replica, `highest` the highest
    /// that this relay granted. A worker that claims anew what it holds gets a new claim: it lost the answer.
    pub fn claim(
        &mut self,
        now: Timestamp,
        key: &Key,
        holder: Holder,
        actor: ActorId,
        named: Epoch,
        highest: Epoch,
    ) -> Result<Epoch, LeaseError> {
        self.taken(key, &holder)?;
        if named.0 >= MAX_EPOCH {
            return Err(LeaseError::Range(named.0));
        }
        // At least the clock in seconds: a relay restored from a backup repeats none.
        let epoch = Epoch((named.max(highest).0 + 1).max(now.0 / 1000));
        self.insert(now, key, epoch, holder, actor);
        Ok(epoch)
    }

    /// Takes up a claim that was live when the relay stopped: its worker has one time to live to renew it. Whether it
    /// has made its run isn't known.
    pub fn restore(&mut self, now: Timestamp, key: &Key, epoch: Epoch, holder: Holder, actor: ActorId) {
        self.insert(now, key, epoch, holder, actor);
    }

    /// Who holds a session, so that nobody else can claim it now.
    pub fn taken(&self, key: &Key, holder: &Holder) -> Result<(), LeaseError> {
        match self.live.get(key) {
            Some(lease) if lease.holder != *holder || lease.stage == Stage::Beginning => {
                Err(LeaseError::Taken(lease.epoch.0))
            }
            _ => Ok(()),
        }
    }

    fn insert(&mut self, now: Timestamp, key: &Key, epoch: Epoch, holder: Holder, actor: ActorId) {
        let live = Live { epoch, activity: None, usage: None, cost_micros: None };
        let lease = Lease {
            epoch,
            actor,
            holder,
            live,
            expires: now.plus_ms(TTL_MS),
            stage: Stage::Granted,
            released: false,
            shown: now,
            unshown: false,
        };
        self.live.insert(key.clone(), lease);
    }

    /// Whether this holder may store a change by this actor now; if so, the claim can't lapse until [`Leases::begun`].
    pub fn begin(
        &mut self,
        now: Timestamp,
        key: &Key,
        epoch: Epoch,
        holder: &Holder,
        actor: &ActorId,
    ) -> Result<(), LeaseError> {
        let lease = self.held(now, key, epoch, holder)?;
        if lease.actor != *actor {
            return Err(LeaseError::Actor);
        }
        if lease.stage != Stage::Granted {
            return Err(LeaseError::Begun(epoch.0));
        }
        lease.stage = Stage::Beginning;
        Ok(())
    }

    /// The change of [`Leases::begin`] is stored or refused; a sign of life either way. The claim, if it was given back
    /// meanwhile and ends now.
    pub fn begun(&mut self, now: Timestamp, key: &Key, epoch: Epoch, stored: bool) -> Option<Lease> {
        let lease = self.live.get_mut(key).filter(|lease| lease.epoch == epoch)?;
        lease.stage = if stored { Stage::Begun } else { Stage::Granted };
        lease.expires = now.plus_ms(TTL_MS);
        if lease.released { self.live.remove(key) } else { None }
    }

    /// Keeps a claim alive and takes what lists show of it.
    pub fn renew(&mut self, now: Timestamp, key: &Key, holder: &Holder, live: Live) -> Result<Renewed, LeaseError> {
        let lease = self.held(now, key, live.epoch, holder)?;
        lease.expires = now.plus_ms(TTL_MS);
        // A renewal without news keeps what was said before.
        let news = Live {
            epoch: live.epoch,
            activity: live.activity.or(lease.live.activity),
            usage: live.usage.or(lease.live.usage),
            cost_micros: live.cost_micros.or(lease.live.cost_micros),
        };
        lease.unshown |= news != lease.live;
        lease.live = news;
        Ok(if lease.show(now) { Renewed::Shown } else { Renewed::Silently })
    }

    /// Ends a claim at its holder's word. `None`: once the change that makes its run is stored or refused, since nobody
    /// else may run the session before that is known.
    pub fn release(
        &mut self,
        now: Timestamp,
        key: &Key,
        epoch: Epoch,
        holder: &Holder,
    ) -> Result<Option<Lease>, LeaseError> {
        let lease = self.held(now, key, epoch, holder)?;
        if lease.stage == Stage::Beginning {
            lease.released = true;
            return Ok(None);
        }
        Ok(self.live.remove(key))
    }

    /// Takes back a claim that could not be recorded, or whose session is gone.
    pub fn revoke(&mut self, key: &Key, epoch: Epoch) -> Option<Lease> {
        self.live.get(key).filter(|lease| lease.epoch == epoch)?;
        self.live.remove(key)
    }

    /// Ends what has lapsed.
    pub fn expire(&mut self, now: Timestamp) -> Vec<(Key, Lease)> {
        self.live.extract_if(|_, lease| lease.lapsed(now)).collect()
    }

    /// Claims with news that lists may show now.
    pub fn take_news(&mut self, now: Timestamp) -> Vec<Key> {
        self.live.iter_mut().filter_map(|(key, lease)| lease.show(now).then(|| key.clone())).collect()
    }

    /// When to call [`Leases::expire`] and [`Leases::take_news`] next.
    pub fn next(&self) -> Option<Timestamp> {
        let times = self.live.values().map(|lease| match lease.unshown {
            true => lease.expires.min(lease.shown.plus_ms(SHOWN_EVERY_MS)),
            false => lease.expires,
        });
        times.min()
    }

    /// The live claim of a session.
    pub fn get(&self, key: &Key) -> Option<&Lease> {
        self.live.get(key)
    }

    fn held(&mut self, now: Timestamp, key: &Key, epoch: Epoch, holder: &Holder) -> Result<&mut Lease, LeaseError> {
        let lease = self.live.get_mut(key);
        let lease = lease.filter(|lease| lease.epoch == epoch && lease.holder == *holder && !lease.released);
        let lease = lease.filter(|lease| !lease.lapsed(now));
        lease.ok_or(LeaseError::NotLive(epoch.0))
    }
}

impl Lease {
    fn lapsed(&self, now: Timestamp) -> bool {
        now >= self.expires && self.stage != Stage::Beginning
    }

    fn show(&mut self, now: Timestamp) -> bool {
        let due = self.unshown && now >= self.shown.plus_ms(SHOWN_EVERY_MS);
        if due {
            self.unshown = false;
            self.shown = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use skein_engine::wire::ephemeral::ActivityState;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn holder(name: &str) -> Holder {
        Holder { principal: Principal::from(name), peer: PeerId::from(name) }
    }

    fn actor(n: u8) -> ActorId {
        ActorId::from([n; 16].as_slice())
    }

    fn key() -> Key {
        (Scope::from("w/1"), DocumentId::from_bytes([1; 16]))
    }

    fn news(epoch: Epoch, activity: Option<ActivityState>) -> Live {
        Live { epoch, activity, usage: None, cost_micros: None }
    }

    fn claimed(leases: &mut Leases) -> Epoch {
        leases.claim(NOW, &key(), holder("a"), actor(1), Epoch(0), Epoch(0)).unwrap()
    }

    #[test]
    fn an_epoch_exceeds_the_relays_the_claims_and_the_clock() {
        let clock = NOW.0 / 1000;
        for (named, highest, expected) in
            [(0, 0, clock), (clock, 0, clock + 1), (0, clock + 5, clock + 6), (clock + 9, clock + 5, clock + 10)]
        {
            let mut leases = Leases::default();
            let epoch = leases.claim(NOW, &key(), holder("a"), actor(1), Epoch(named), Epoch(highest));
            assert_eq!(epoch, Ok(Epoch(expected)));
        }
        let refused = Leases::default().claim(NOW, &key(), holder("a"), actor(1), Epoch(u64::MAX), Epoch(0));
        assert_eq!(refused, Err(LeaseError::Range(u64::MAX)));
    }

    #[test]
    fn a_claimed_session_is_taken_until_it_is_released_or_lapses() {
        let mut leases = Leases::default();
        let epoch = claimed(&mut leases);
        let other = |leases: &mut Leases, now| leases.claim(now, &key(), holder("b"), actor(2), Epoch(0), epoch);
        assert_eq!(other(&mut leases, NOW.plus_ms(TTL_MS - 1)), Err(LeaseError::Taken(epoch.0)));
        assert_eq!(leases.expire(NOW.plus_ms(TTL_MS - 1)), []);
        assert_eq!(leases.expire(NOW.plus_ms(TTL_MS)).len(), 1);
        assert_eq!(other(&mut leases, NOW.plus_ms(TTL_MS)), Ok(Epoch(NOW.0 / 1000 + TTL_MS / 1000)));
        let late = leases.renew(NOW.plus_ms(TTL_MS), &key(), &holder("a"), news(epoch, None));
        assert_eq!(late, Err(LeaseError::NotLive(epoch.0)));
        assert!(leases.release(NOW.plus_ms(TTL_MS), &key(), epoch, &holder("a")).is_err());
    }

    #[test]
    fn a_renewed_claim_lives_on() {
        let mut leases = Leases::default();
        let epoch = claimed(&mut leases);
        for step in 1..10 {
            let now = NOW.plus_ms(step * TTL_MS / 3);
            leases.renew(now, &key(), &holder("a"), news(epoch, None)).unwrap();
            assert_eq!(leases.expire(now), []);
        }
    }

    #[test]
    fn a_worker_that_lost_the_answer_may_claim_again_and_its_old_epoch_is_dead() {
        let mut leases = Leases::default();
        let first = claimed(&mut leases);
        let second = leases.claim(NOW, &key(), holder("a"), actor(2), Epoch(0), first).unwrap();
        assert!(second > first);
        assert!(leases.renew(NOW, &key(), &holder("a"), news(first, None)).is_err());
    }

    #[test]
    fn only_the_holder_with_the_claims_actor_may_begin() {
        let mut leases = Leases::default();
        let epoch = claimed(&mut leases);
        let mut begin = |epoch, name, n| leases.begin(NOW, &key(), epoch, &holder(name), &actor(n));
        assert_eq!(begin(epoch, "b", 1), Err(LeaseError::NotLive(epoch.0)));
        assert_eq!(begin(Epoch(epoch.0 + 1), "a", 1), Err(LeaseError::NotLive(epoch.0 + 1)));
        assert_eq!(begin(epoch, "a", 2), Err(LeaseError::Actor));
        assert_eq!(begin(epoch, "a", 1), Ok(()));
    }

    #[test]
    fn a_claim_does_not_lapse_while_its_run_is_being_stored() {
        let mut leases = Leases::default();
        let epoch = claimed(&mut leases);
        leases.begin(NOW, &key(), epoch, &holder("a"), &actor(1)).unwrap();
        let late = NOW.plus_ms(10 * TTL_MS);
        assert_eq!(leases.expire(late), []);
        let other = leases.claim(late, &key(), holder("b"), actor(2), Epoch(0), epoch);
        assert_eq!(other, Err(LeaseError::Taken(epoch.0)));
        assert_eq!(leases.begun(late, &key(), epoch, true), None);
        assert_eq!(leases.expire(late), []);
        assert_eq!(leases.expire(late.plus_ms(TTL_MS)).len(), 1);
    }

    #[test]
    fn a_claim_given_back_while_its_run_is_being_stored_ends_when_that_is_known() {
        let mut leases = Leases::default();
        let epoch = claimed(&mut leases);
        leases.begin(NOW, &key(), epoch, &holder("a"), &actor(1)).unwrap();
        assert_eq!(leases.release(NOW, &key(), epoch, &holder("a")), Ok(None));
        let other = |leases: &mut Leases| leases.claim(NOW, &key(), holder("b"), actor(2), Epoch(0), epoch);
        assert_eq!(other(&mut leases), Err(LeaseError::Taken(epoch.0)));
        assert!(leases.renew(NOW, &key(), &holder("a"), news(epoch, None)).is_err());
        assert_eq!(leases.begun(NOW, &key(), epoch, true).map(|lease| lease.epoch), Some(epoch));
        assert!(other(&mut leases).is_ok());
    }

    #[test]
    fn a_claim_makes_one_run() {
        let mut leases = Leases::default();
        let epoch = claimed(&mut leases);
        let begin = |leases: &mut Leases| leases.begin(NOW, &key(), epoch, &holder("a"), &actor(1));
        begin(&mut leases).unwrap();
        assert_eq!(begin(&mut leases), Err(LeaseError::Begun(epoch.0)));
        leases.begun(NOW, &key(), epoch, false);
        begin(&mut leases).unwrap();
        leases.begun(NOW, &key(), epoch, true);
        assert_eq!(begin(&mut leases), Err(LeaseError::Begun(epoch.0)));
    }

    #[test]
    fn what_lists_show_changes_at_most_once_a_second_and_is_not_lost() {
        let mut leases = Leases::default();
        let epoch = claimed(&mut leases);
        let renew = |leases: &mut Leases, ms, state| {
            leases.renew(NOW.plus_ms(ms), &key(), &holder("a"), news(epoch, Some(state))).unwrap()
        };
        assert_eq!(renew(&mut leases, 10, ActivityState::Thinking), Renewed::Silently);
        assert_eq!(leases.next(), Some(NOW.plus_ms(1000)));
        assert_eq!(leases.take_news(NOW.plus_ms(999)), []);
        assert_eq!(leases.take_news(NOW.plus_ms(1000)), [key()]);
        assert_eq!(renew(&mut leases, 1500, ActivityState::Writing), Renewed::Silently);
        assert_eq!(renew(&mut leases, 2000, ActivityState::Writing), Renewed::Shown);
        assert_eq!(leases.get(&key()).unwrap().live.activity, Some(ActivityState::Writing));
        assert_eq!(leases.renew(NOW.plus_ms(5000), &key(), &holder("a"), news(epoch, None)), Ok(Renewed::Silently));
    }

    #[test]
    fn a_claim_restored_after_a_restart_lives_on_if_its_worker_renews() {
        let mut leases = Leases::default();
        leases.restore(NOW, &key(), Epoch(7), holder("a"), actor(1));
        let other = leases.claim(NOW, &key(), holder("b"), actor(2), Epoch(0), Epoch(7));
        assert_eq!(other, Err(LeaseError::Taken(7)));
        leases.renew(NOW.plus_ms(5000), &key(), &holder("a"), news(Epoch(7), None)).unwrap();
        assert_eq!(leases.expire(NOW.plus_ms(TTL_MS)), []);
    }
}
