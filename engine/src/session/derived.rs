//! A session as it is derived step by step: the document as plain data, and its conversation, each brought in line with
//! what has changed instead of made anew. What everyone who keeps a document holds beside it.
//!
//! Invariant: at every step it is what [`super::read::session`] and [`super::conversation()`] give for the same document,
//! leases and writers. Reading and showing cost in proportion to the changes; what stands in which order is decided anew
//! each time, in one pass over ids (some 0.2 µs a message).

use automerge::{Automerge, Change};

use super::conversation::{Conversation, Difference, Leases, Writers};
use super::live::Live;
use super::model::Session;
use super::outline::Outline;
use super::shown::{self, Kept};
use super::summary::{self, Summary};
use crate::ids::{DocumentId, Timestamp};

/// See the module.
#[derive(Debug, Default)]
pub struct Derived {
    live: Option<Live>,
    kept: Option<Kept>,
    /// Whether the conversation is that of now.
    current: bool,
    difference: Difference,
}

impl Derived {
    /// These changes are in the document now, in the order of their application.
    pub fn changed(&mut self, changes: &[Change]) {
        if let Some(live) = &mut self.live {
            changes.iter().for_each(|change| live.told(change));
        }
        self.current = false;
    }

    /// Leases or writers have changed.
    pub fn surroundings_changed(&mut self) {
        self.current = false;
    }

    /// The document as plain data. Changes that weren't told are found, at the cost of reading everything.
    pub fn session(&mut self, document: &Automerge) -> &Session {
        self.catch_up(document).session()
    }

    fn catch_up(&mut self, document: &Automerge) -> &Live {
        match &mut self.live {
            Some(live) => {
                if live.catch_up(document) {
                    self.current = false;
                }
            }
            None => {
                self.live = Some(Live::new(document));
                self.current = false;
            }
        }
        self.live.as_ref().expect("it was put there just now")
    }

    /// Document and conversation. `surroundings` is asked only if the conversation has to be derived.
    pub fn conversation(
        &mut self,
        document: &Automerge,
        now: Timestamp,
        surroundings: impl FnOnce() -> (Leases, Writers),
    ) -> (&Session, &Conversation) {
        self.catch_up(document);
        let live = self.live.as_ref().expect("it was caught up with just now");
        if !self.current {
            let (leases, writers) = surroundings();
            let outline = Outline::new(live.session(), &leases, &writers);
            let first = self.kept.is_none();
            let kept = self.kept.get_or_insert_default();
            let mut difference = shown::update(kept, &outline, Some(live.stamps()), &writers, now);
            difference.all |= first;
            self.difference.add(difference);
            self.current = true;
        }
        (live.session(), &self.kept.as_ref().expect("it was derived just now").conversation)
    }

    /// What the last [`Derived::conversation`] gave, if nothing has been told since.
    pub fn current(&self) -> Option<(&Session, &Conversation)> {
        let (live, kept) = self.live.as_ref().zip(self.kept.as_ref()).filter(|_| self.current)?;
        Some((live.session(), &kept.conversation))
    }

    /// The document as plain data, as of the last time that it was asked for.
    pub fn last_session(&self) -> Option<&Session> {
        self.live.as_ref().map(Live::session)
    }

    /// The row of this session, if it is one.
    pub fn summary(
        &mut self,
        id: DocumentId,
        document: &Automerge,
        now: Timestamp,
        surroundings: impl FnOnce() -> (Leases, Writers),
    ) -> Option<Summary> {
        let (session, conversation) = self.conversation(document, now, surroundings);
        session.is_session.then(|| summary::summary(id, session, conversation, now))
    }

    /// What differs in the conversation since this was last asked.
    pub fn take_difference(&mut self) -> Difference {
        std::mem::take(&mut self.difference)
    }
}
