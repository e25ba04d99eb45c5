//! Commands on sessions that aren't on this device while it is offline: each waits, visibly, for its document, and is
//! done when that has come.
//!
//! A command's message or request gets its id when the command is queued, so that one that was done just before a crash
//! is recognised. It counts as given when it was: under that time, and over nothing that its author can't have seen.
//!
//! Invariant: a command leaves the queue when its change is written, or when a person lets it go; one that turns out to
//! be impossible stays, with the reason, so that what was written isn't lost.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Device, DeviceError, Effects, Notice};
use crate::ids::{DocumentId, Timestamp, random_id};
use crate::session::command::{self, Command, Done, Given};
use crate::session::{Conversation, Session};

/// A command that waits for its document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct WaitingCommand {
    /// Of this entry, and of the message or request that the command will make.
    pub id: String,
    /// The session.
    pub session: DocumentId,
    /// What is to be done.
    pub command: Command,
    /// The member who gave it.
    pub by: String,
    /// When, by this device's clock; later than every one before it.
    pub at: Timestamp,
    /// Why it could not be done when the document had come; `None`: it still waits.
    pub failed: Option<String>,
}

/// What has become of the queue, to be made durable.
#[derive(Clone, Debug, PartialEq)]
pub enum QueueWrite {
    /// Keep this entry, in place of the one with its id.
    Keep(WaitingCommand),
    /// Drop the entry with this id.
    Drop(String),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// In the order in which they were given.
    entries: Vec<WaitingCommand>,
    /// Sessions whose documents have come, as the shell was told.
    told: BTreeSet<DocumentId>,
    /// Entries that were given after that: the store may not have them yet when the others are done.
    late: BTreeSet<String>,
}

impl Queue {
    /// Whether a command waits for this document.
    pub(super) fn waits_for(&self, session: DocumentId) -> bool {
        self.entries.iter().any(|entry| entry.session == session && entry.failed.is_none())
    }

    /// How many wait, and how many turned out to be impossible.
    pub(super) fn counts(&self) -> (u64, u64) {
        let failed = self.entries.iter().filter(|entry| entry.failed.is_some()).count() as u64;
        (self.entries.len() as u64 - failed, failed)
    }

    /// A document is followed no longer: its coming is told anew.
    pub(super) fn left(&mut self, session: DocumentId) {
        self.told.remove(&session);
    }

    /// Takes out which entries of this session were given late.
    fn late_of(&mut self, session: DocumentId) -> BTreeSet<String> {
        let of_session = self.entries.iter().filter(|entry| entry.session == session);
        of_session.filter_map(|entry| self.late.take(&entry.id)).collect()
    }

    fn sort(&mut self) {
        self.entries.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    }
}

impl Device {
    /// Queues a command on a session that is listed but isn't here; its document is fetched when there is a link. Where
    /// the document is here, and nothing waits for it, the command is done at once. Durable when [`Effects::queue`] is.
    pub fn command_later(
        &mut self,
        now: Timestamp,
        session: DocumentId,
        command: &Command,
    ) -> Result<(Done, Effects), DeviceError> {
        // Never before what was given before it.
        if self.document(session).is_ok() && !self.queue.waits_for(session) {
            return self.command(now, session, command);
        }
        self.may_write()?;
        let by = self.member()?;
        let listed = self.catalog.row(session).is_some_and(|row| row.tombstone.is_none() && row.summary.is_some());
        if !listed {
            return Err(DeviceError::NotHere(session));
        }
        command::check_alone(command)?;
        let last = self.queue.entries.last().map(|entry| entry.at.plus_ms(1));
        let entry = WaitingCommand {
            id: random_id(),
            session,
            command: command.clone(),
            by,
            at: last.map_or(now, |last| last.max(now)),
            failed: None,
        };
        let done = Done { id: Some(entry.id.clone()) };
        let mut effects = Effects::default();
        effects.queue.push(QueueWrite::Keep(entry.clone()));
        effects.notices.push(Notice::Document(session));
        if self.queue.told.contains(&session) {
            self.queue.late.insert(entry.id.clone());
        }
        self.queue.entries.push(entry);
        self.follow(session, &mut effects);
        Ok((done, self.settle(effects)))
    }

    /// Puts back what an earlier start has left in the queue, or another process has put there.
    pub fn restore_queue(&mut self, entries: Vec<WaitingCommand>) -> Effects {
        let mut effects = Effects::default();
        for entry in entries {
            if self.queue.entries.iter().any(|known| known.id == entry.id) {
                continue;
            }
            if entry.failed.is_none() {
                self.follow(entry.session, &mut effects);
            }
            effects.notices.push(Notice::Document(entry.session));
            self.queue.entries.push(entry);
        }
        self.queue.sort();
        self.settle(effects)
    }

    /// What waits for the document of a session, or could not be done when it had come; in order.
    pub fn waiting_commands(&self, session: DocumentId) -> Vec<WaitingCommand> {
        self.all_waiting_commands().filter(|entry| entry.session == session).cloned().collect()
    }

    /// The same of all sessions.
    pub fn all_waiting_commands(&self) -> impl Iterator<Item = &WaitingCommand> {
        self.queue.entries.iter()
    }

    /// Lets a command go: it isn't done.
    pub fn drop_waiting(&mut self, id: &str) -> Effects {
        let mut effects = Effects::default();
        self.queue.entries.retain(|entry| {
            let dropped = entry.id == id;
            if dropped {
                effects.queue.push(QueueWrite::Drop(entry.id.clone()));
                effects.notices.push(Notice::Document(entry.session));
            }
            !dropped
        });
        self.settle(effects)
    }

    /// Does what waited for this document. Called when [`Effects::arrived`] has named it, while no other process does
    /// the same: `queued` are the ids of the entries that are still in the store.
    pub fn do_waiting(&mut self, now: Timestamp, session: DocumentId, queued: &BTreeSet<String>) -> Effects {
        let mut effects = Effects::default();
        self.queue.told.remove(&session);
        if self.document(session).is_err() {
            return effects;
        }
        // Theirs is the next turn: that the document is here is told again below.
        let late = self.queue.late_of(session);
        // What is no longer there was done, or let go, by another process.
        self.queue
            .entries
            .retain(|entry| entry.session != session || queued.contains(&entry.id) || late.contains(&entry.id));
        for mut entry in self.waiting_commands(session) {
            if entry.failed.is_some() || late.contains(&entry.id) {
                continue;
            }
            match self.do_entry(now, &entry, &mut effects) {
                Ok(()) => {
                    self.queue.entries.retain(|known| known.id != entry.id);
                    effects.queue.push(QueueWrite::Drop(entry.id));
                }
                Err(error) => {
                    entry.failed = Some(error.to_string());
                    let at = self.queue.entries.iter().position(|known| known.id == entry.id);
                    if let Some(at) = at {
                        self.queue.entries[at] = entry.clone();
                    }
                    effects.queue.push(QueueWrite::Keep(entry));
                }
            }
            effects.notices.push(Notice::Document(session));
        }
        self.settle(effects)
    }

    /// The session is gone for ever: what waits for it stays, to be read and let go.
    pub(super) fn fail_waiting(&mut self, session: DocumentId, effects: &mut Effects) {
        let why = DeviceError::Purged(session).to_string();
        for entry in &mut self.queue.entries {
            if entry.session == session && entry.failed.is_none() {
                entry.failed = Some(why.clone());
                effects.queue.push(QueueWrite::Keep(entry.clone()));
            }
        }
    }

    fn do_entry(&mut self, now: Timestamp, entry: &WaitingCommand, effects: &mut Effects) -> Result<(), DeviceError> {
        let command = self.filled_in(&entry.command)?;
        let (session, seen) = self.derive(now, entry.session)?;
        if is_done(session, &entry.id) {
            return Ok(());
        }
        let blind = blind(&command, seen);
        // The member may have been demoted since, and what is written then never reaches the others.
        self.may_write()?;
        let given = Given { by: &entry.by, at: entry.at, id: Some(&entry.id) };
        let (replicas, views) = (&mut self.replicas, &self.views);
        let seen = views.get(&entry.session).and_then(|view| view.derived());
        let seen = seen.ok_or(DeviceError::NotHere(entry.session))?;
        let replica = replicas.get_mut(&entry.session).ok_or(DeviceError::NotHere(entry.session))?;
        let conversation = blind.as_ref().unwrap_or(seen.1);
        let written = replica
            .write(|tx| command::apply(tx, seen.0, conversation, &command, &given))
            .ok_or(DeviceError::NotHere(entry.session))?;
        let (_, change) = written?;
        self.written(entry.session, change, effects);
        Ok(())
    }

    /// Tells the shell, once, which documents have come that commands wait for.
    pub(super) fn tell_arrived(&mut self, effects: &mut Effects) {
        if self.queue.entries.is_empty() {
            return;
        }
        let waited: BTreeSet<DocumentId> =
            self.queue.entries.iter().filter(|entry| entry.failed.is_none()).map(|entry| entry.session).collect();
        for session in waited {
            // With a link, all of it has to be here: what the command names may be in what is still to come.
            let here = self.document(session).is_ok() && (!self.link.is_open() || self.up_to_date(session));
            if here && self.queue.told.insert(session) {
                effects.arrived.push(session);
            }
        }
    }
}

/// Whether the message or the request with this id has been written.
fn is_done(session: &Session, id: &str) -> bool {
    session.messages.iter().any(|message| message.id == id) || session.requests.contains_key(id)
}

/// What the author of a message saw who did not have the document: none of what has stopped since.
fn blind(command: &Command, seen: &Conversation) -> Option<Conversation> {
    let writes = matches!(command, Command::Send(_) | Command::Edit { .. });
    (writes && !seen.stops.is_empty()).then(|| Conversation { stops: Vec::new(), ..seen.clone() })
}
