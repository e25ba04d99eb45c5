//! What can end a run from outside, and what viewers ask for, as one stream that a run waits on beside its model.

use std::sync::Arc;

use skein_engine::ids::{DocumentId, Timestamp};
use skein_engine::session::model::RunKey;
use skein_engine::session::work::{MustEnd, must_end};
use tokio::sync::watch;

use crate::link::{Link, Seen};
use crate::page::now;

/// Why a run must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its lease is lost: nothing may be written any more.
    Lost,
    /// The worker is stopping: the run stays streaming, and is taken up again.
    Stopping,
    /// A pause holds.
    Paused,
    /// It is no longer shown, or is answered again.
    Overtaken,
    /// A steer holds: at the next tool boundary.
    Steered,
    /// The time that its task gives a run is over.
    TimedOut,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// See [`Why`].
    End(Why),
    /// A viewer wants the uncommitted text.
    TailRequest,
}

/// See the module.
pub struct Signals {
    link: Arc<Link>,
    session: DocumentId,
    run: RunKey,
    seen: watch::Receiver<Seen>,
    lost: watch::Receiver<bool>,
    stopping: watch::Receiver<bool>,
    changes: Option<u64>,
    tail_requests: u64,
    must_end: Option<MustEnd>,
    deadline: Option<Timestamp>,
}

impl Signals {
    /// Of one run.
    pub fn new(
        link: Arc<Link>,
        session: DocumentId,
        run: RunKey,
        seen: watch::Receiver<Seen>,
        lost: watch::Receiver<bool>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let tail_requests = seen.borrow().tail_requests;
        Self { link, session, run, seen, lost, stopping, changes: None, tail_requests, must_end: None, deadline: None }
    }

    /// Ends the run at this moment.
    pub fn end_at(&mut self, deadline: Option<Timestamp>) {
        self.deadline = deadline;
    }

    /// Why the run must stop, as of now.
    pub fn now(&mut self) -> Option<Why> {
        if *self.lost.borrow_and_update() {
            return Some(Why::Lost);
        }
        if *self.stopping.borrow_and_update() {
            return Some(Why::Stopping);
        }
        let changes = self.seen.borrow_and_update().changes;
        if self.changes != Some(changes) {
            self.changes = Some(changes);
            self.must_end = self.link.read(|device, now| {
                let conversation = device.conversation(now, self.session).ok()?;
                must_end(device.session(self.session).ok()?, &conversation, &self.run)
            });
        }
        let over = || self.deadline.is_some_and(|deadline| now(&self.link) >= deadline);
        let must_end = self.must_end.map(|why| match why {
            MustEnd::Paused => Why::Paused,
            MustEnd::Overtaken => Why::Overtaken,
            MustEnd::Steered => Why::Steered,
        });
        must_end.filter(|why| *why != Why::Steered).or_else(|| over().then_some(Why::TimedOut)).or(must_end)
    }

    /// The next signal. A steer is none: it waits for a tool boundary, where [`Signals::now`] is asked. Safe to cancel.
    pub async fn next(&mut self) -> Signal {
        loop {
            if let Some(why) = self.now().filter(|why| *why != Why::Steered) {
                return Signal::End(why);
            }
            let asked = self.seen.borrow().tail_requests;
            if asked != self.tail_requests {
                self.tail_requests = asked;
                return Signal::TailRequest;
            }
            self.changed().await;
        }
    }

    /// Waits for a reason to stop, and for nothing else.
    pub async fn end(&mut self) -> Why {
        loop {
            if let Signal::End(why) = self.next().await {
                return why;
            }
        }
    }

    /// Waits until the relay has everything that this replica wrote, or there is a reason to stop. What the relay has
    /// refused it will never have: nothing that is written here counts any more.
    pub async fn acknowledged(&mut self) -> Result<(), Why> {
        loop {
            let session = self.session;
            let (has, refused) = self.link.read(|device, _| (device.acknowledged(session), device.refused(session)));
            if has {
                return Ok(());
            }
            if refused {
                return Err(Why::Lost);
            }
            if let Some(why) = self.now().filter(|why| *why != Why::Steered) {
                return Err(why);
            }
            self.changed().await;
        }
    }

    async fn changed(&mut self) {
        let over = tokio::select! {
            changed = self.seen.changed() => changed.is_err(),
            changed = self.lost.changed() => changed.is_err(),
            changed = self.stopping.changed() => changed.is_err(),
            () = until(self.deadline, &self.link) => false,
        };
        if over {
            // One of the senders is gone: its word has been given, or the node is; either way don't spin.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// Waits for a moment by the worker's clock; for ever if there is none.
async fn until(deadline: Option<Timestamp>, link: &Link) {
    match deadline {
        Some(deadline) => {
            let ms = deadline.0.saturating_sub(now(link).0);
            tokio::time::sleep(std::time::Duration::from_millis(ms + 1)).await;
        }
        None => std::future::pending().await,
    }
}
