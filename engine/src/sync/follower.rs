//! What one connection is known to have of one document, and when it is to be spoken to.
//!
//! Invariant: what a follower was sent is a number, a prefix of the graph's order, never a set; so a thousand followers
//! in step cost a thousand numbers, and the same message serves them all.

use std::collections::HashSet;

use crate::ids::{ChangeHash, Timestamp};

/// How long a peer's heads may differ from ours before it gets a fresh message.
const DIFFERS_MS: u64 = 10_000;
/// The pause between fresh messages doubles up to this.
const LONGEST_PAUSE_MS: u64 = 600_000;
/// How often in a minute a peer may say that it has lost everything, and get everything.
const MAX_RESTARTS: u8 = 4;
const RESTARTS_WITHIN_MS: u64 = 60_000;
/// Hashes that a connection may ask for, or be asked for, or be refused, one by one.
const MAX_REMEMBERED: usize = 512;
/// Heads that are kept of a peer; one that names more gets no fresh messages.
const MAX_HEADS: usize = 256;

/// One connection, as to one document.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// It gets the READ_ONLY flag, and its changes are refused.
    pub(super) read_only: bool,
    /// It said that it takes no changes.
    pub(super) deaf: bool,
    /// Changes below this index it has, or was sent.
    pub(super) prefix: usize,
    /// As it last said; empty if they were too many to keep.
    pub(super) heads: Vec<ChangeHash>,
    too_many_heads: bool,
    /// Whether its first message was answered.
    pub(super) greeted: bool,
    /// Whether its next message is answered whole, as if it were the first.
    pub(super) whole: bool,
    /// Its first message waits for an answer until its socket takes one.
    pub(super) unanswered: bool,
    /// Its socket was full when there was something to send.
    pub(super) behind: bool,
    /// Until when its request for an unknown document is held.
    pub(super) held_until: Option<Timestamp>,
    /// What it asked for by hash, and got.
    answered: HashSet<ChangeHash>,
    /// What it was asked for by hash.
    asked: HashSet<ChangeHash>,
    /// Its changes that were refused, and it was told.
    told_refused: HashSet<ChangeHash>,
    /// When a fresh message is due, while its heads differ from ours.
    fresh_at: Option<Timestamp>,
    pause: u64,
    restarts: u8,
    restarted_at: Timestamp,
}

impl Follower {
    pub(super) fn new(read_only: bool) -> Self {
        Self { read_only, pause: DIFFERS_MS, ..Self::default() }
    }

    /// It begins anew: the next answer is as to a first message. Too often is as not at all.
    pub(super) fn restart(&mut self, now: Timestamp) {
        if now.ms_since(self.restarted_at) > RESTARTS_WITHIN_MS {
            self.restarts = 0;
            self.restarted_at = now;
        }
        self.restarts = self.restarts.saturating_add(1);
        if self.restarts <= MAX_RESTARTS {
            self.greeted = false;
            self.prefix = 0;
            self.answered.clear();
            self.asked.clear();
        }
    }

    /// Whether it may have this change by asking: once a connection.
    pub(super) fn may_ask(&mut self, hash: &ChangeHash) -> bool {
        self.answered.len() < MAX_REMEMBERED && self.answered.insert(*hash)
    }

    /// Of these hashes, those that it wasn't asked for yet; now it is.
    pub(super) fn ask(&mut self, wanted: Vec<ChangeHash>) -> Vec<ChangeHash> {
        wanted.into_iter().filter(|hash| self.asked.len() < MAX_REMEMBERED && self.asked.insert(*hash)).collect()
    }

    /// Whether it has not been told of this refusal.
    pub(super) fn tell_refused(&mut self, hash: &ChangeHash) -> bool {
        self.told_refused.len() < MAX_REMEMBERED && self.told_refused.insert(*hash)
    }

    /// Whether it was told of this refusal.
    pub(super) fn was_told(&self, hash: &ChangeHash) -> bool {
        self.told_refused.contains(hash)
    }

    /// Keeps the heads that it names.
    pub(super) fn names(&mut self, heads: &[ChangeHash]) {
        self.too_many_heads = heads.len() > MAX_HEADS;
        self.heads.clear();
        if !self.too_many_heads {
            self.heads.extend_from_slice(heads);
        }
    }

    /// Compares what it last said with our heads. Whether a fresh message may come due.
    pub(super) fn compare(&mut self, now: Timestamp, ours: &[ChangeHash]) -> bool {
        if self.heads == ours || self.too_many_heads {
            self.fresh_at = None;
            self.pause = DIFFERS_MS;
        } else if self.fresh_at.is_none() {
            self.fresh_at = Some(now.plus_ms(self.pause));
        }
        self.fresh_at.is_some()
    }

    /// Whether a fresh message is due; the pause until the next doubles.
    pub(super) fn take_fresh(&mut self, now: Timestamp) -> bool {
        let due = self.fresh_at.is_some_and(|at| at <= now);
        if due {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE_MS);
            self.fresh_at = Some(now.plus_ms(self.pause));
            self.asked.clear();
        }
        due
    }

    /// When [`Self::take_fresh`] will be true.
    pub(super) fn fresh_at(&self) -> Option<Timestamp> {
        self.fresh_at
    }
}
