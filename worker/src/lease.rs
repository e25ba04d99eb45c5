//! A claim that lives: renewed in the background, with what lists show of it, until it is released or lost. Dropping it
//! lets it lapse.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skein_engine::ids::{ActorId, DocumentId, Epoch, Micros};
use skein_engine::session::model::Usage;
use skein_engine::wire::catalog::{FromRelay, ToRelay};
use skein_engine::wire::ephemeral::ActivityState;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::link::{Link, Seen};

/// How often it is looked whether there is something to say.
const TICK: Duration = Duration::from_millis(500);
/// News for lists are said at most this often.
const NEWS_EVERY: Duration = Duration::from_secs(1);
/// How long the relay's word that a claim lives is waited for before it is asked again.
const WORD: Duration = Duration::from_secs(2);

/// What lists show of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shown {
    /// In a word.
    pub activity: Option<ActivityState>,
    /// The running estimate.
    pub usage: Option<Usage>,
    /// Its price.
    pub cost_micros: Option<Micros>,
}

/// See the module.
pub struct Lease {
    link: Arc<Link>,
    session: DocumentId,
    /// Of the claim.
    pub epoch: Epoch,
    /// Under which it writes.
    pub actor: ActorId,
    ttl: Duration,
    shown: Arc<Mutex<Shown>>,
    lost: watch::Receiver<bool>,
    renewal: JoinHandle<()>,
}

impl Lease {
    /// Asks for a session. `None`: someone else has it, or the relay does not answer.
    pub async fn claim(
        link: &Arc<Link>,
        session: DocumentId,
        highest: Epoch,
        seen: watch::Receiver<Seen>,
    ) -> Option<(Self, Vec<skein_engine::ids::ChangeHash>)> {
        let actor = skein_engine::ids::random_actor();
        let asked = actor.clone();
        let answer = link.ask(|ask| ToRelay::Claim { ask, session, actor: asked, epoch: highest }).await;
        match answer {
            Ok(FromRelay::Granted { epoch, ttl_ms, heads, .. }) => {
                let shown = Arc::default();
                let (sender, lost) = watch::channel(false);
                let ttl = Duration::from_millis(ttl_ms.max(300));
                let renewal = Renewal { link: link.clone(), session, epoch, ttl, seen, shown: Arc::clone(&shown) };
                let renewal = tokio::spawn(renewal.run(sender));
                Some((Self { link: link.clone(), session, epoch, actor, ttl, shown, lost, renewal }, heads))
            }
            Ok(FromRelay::Busy { reason, .. }) => {
                tracing::debug!(%session, reason, "the session is not ours to run");
                None
            }
            Ok(_) | Err(_) => None,
        }
    }

    /// Becomes true when the lease is lost.
    pub fn lost(&self) -> watch::Receiver<bool> {
        self.lost.clone()
    }

    /// Waits for the relay's word that the claim lives, so that what was acknowledged before was acknowledged under it.
    /// For ever, if it doesn't: wait for [`Lease::lost`] beside it. What may be done once begins right after.
    pub async fn lives(&self) {
        loop {
            let asked = Instant::now();
            let (session, epoch) = (self.session, self.epoch);
            let question =
                |ask| ToRelay::Renew { ask: Some(ask), session, epoch, activity: None, usage: None, cost_micros: None };
            let answer = tokio::time::timeout(WORD, self.link.ask(question)).await;
            // A process that slept since then knows nothing.
            if matches!(answer, Ok(Ok(FromRelay::Lives { .. }))) && asked.elapsed() < self.ttl {
                return;
            }
        }
    }

    /// What lists are to show from now on.
    pub fn show(&self, news: impl FnOnce(&mut Shown)) {
        news(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Gives it back. The last change must be acknowledged.
    pub fn release(self) {
        self.link.tell_relay(&ToRelay::Release { session: self.session, epoch: self.epoch });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

struct Renewal {
    link: Arc<Link>,
    session: DocumentId,
    epoch: Epoch,
    ttl: Duration,
    seen: watch::Receiver<Seen>,
    shown: Arc<Mutex<Shown>>,
}

impl Renewal {
    async fn run(mut self, lost: watch::Sender<bool>) {
        let mut renewed_at = Instant::now();
        let mut said = Shown::default();
        let mut connected = true;
        let mut tick = tokio::time::interval(TICK.min(self.ttl / 3));
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                changed = self.seen.changed() => if changed.is_err() { return },
            }
            if self.seen.borrow_and_update().lost.is_some_and(|epoch| epoch >= self.epoch) {
                lost.send_replace(true);
                return;
            }
            let was_connected = std::mem::replace(&mut connected, self.link.read(|device, _| device.is_welcome()));
            if renewed_at.elapsed() >= self.ttl {
                // The link was down, or this process slept: the relay can't have heard of us for as long, and the lease
                // has lapsed there.
                lost.send_replace(true);
                return;
            }
            let shown = *self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            let due = renewed_at.elapsed() >= self.ttl / 3 || !was_connected;
            let news = shown != said && renewed_at.elapsed() >= NEWS_EVERY;
            if connected && (due || news) {
                renewed_at = Instant::now();
                said = shown;
                self.link.tell_relay(&ToRelay::Renew {
                    ask: None,
                    session: self.session,
                    epoch: self.epoch,
                    activity: shown.activity,
                    usage: shown.usage,
                    cost_micros: shown.cost_micros,
                });
            }
        }
    }
}
