//! A small world for tests of the session model: people's devices and workers with a replica each, and a relay that
//! grants leases. Nobody hears of anything before `sync`.
//!
//! Here is who holds what and how it spreads; `people` and `workers` are what they do, `ledger` what has really
//! happened, `invariants` what must follow from it, and `history` does all of it at random.

#![allow(dead_code, missing_docs, clippy::unwrap_used)]

pub mod history;
pub mod invariants;
pub mod ledger;
mod people;
mod workers;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use automerge::transaction::Transaction;
use automerge::{Automerge, Change};
use skein_engine::ids::{ActorId, ChangeHash, DocumentId, Epoch, Timestamp, random_actor};
use skein_engine::session::command::{self, Given, NewSession};
use skein_engine::session::conversation::{
    Content, Conversation, Leases, MemberRole, ShownMessage, Status, Writer, WriterKind, Writers,
};
use skein_engine::session::model::{PartKind, Role, Session};
use skein_engine::session::summary::{self, Summary};
use skein_engine::session::{conversation, read};

use ledger::{Known, Ledger};
#[allow(unused_imports)]
pub use people::raw_message;
#[allow(unused_imports)]
pub use workers::Claim;

/// Who holds a replica.
pub type Who = usize;

/// The relay's replica, which everyone syncs with.
pub const RELAY: Who = 0;

/// Readings that are kept: most replicas are at the same heads as another, or at those of a moment ago.
const READINGS: usize = 8;

#[derive(Clone)]
pub struct World {
    pub replicas: Vec<Automerge>,
    /// Every change that anyone has sent, in an order in which each follows what it builds on.
    changes: Vec<Change>,
    by_hash: BTreeMap<ChangeHash, usize>,
    /// Which of them each replica holds, and its heads when it last was in step with that.
    holds: Vec<(Known, Vec<ChangeHash>)>,
    /// The relay's replica is brought up to what the relay holds only when it is looked at ([`World::raise_relay`]).
    pub lazy_relay: bool,
    pub writers: Writers,
    /// The relay's highest epoch.
    pub epoch: Epoch,
    /// The claim that lives.
    pub live: Option<Epoch>,
    pub workers: Option<u32>,
    pub now: Timestamp,
    pub ledger: Ledger,
    /// Who has no link to the relay, with the leases as last heard.
    pub apart: BTreeMap<Who, Leases>,
    /// Whether the relay was ever restored from a backup.
    pub restored: bool,
    /// Invariants that did not hold when something was done, with what happened.
    pub broken: Vec<(&'static str, String)>,
    readings: RefCell<Vec<Reading>>,
    /// The writers that the readings were made with.
    read_with: RefCell<Writers>,
}

/// What a document with these heads reads as.
#[derive(Clone)]
struct Reading {
    heads: Vec<ChangeHash>,
    session: Rc<Session>,
    seen: Vec<(Leases, Rc<Conversation>)>,
}

/// The relay as it was.
pub struct Backup {
    document: Automerge,
    holds: (Known, Vec<ChangeHash>),
    epoch: Epoch,
    known: Known,
}

impl World {
    /// A session that everyone has: replicas are the relay's, `people` devices' (from 1), and workers' after them.
    pub fn new(people: usize, workers: usize) -> Self {
        let mut world = Self {
            replicas: Vec::new(),
            changes: Vec::new(),
            by_hash: BTreeMap::new(),
            holds: Vec::new(),
            lazy_relay: false,
            writers: Writers::default(),
            epoch: Epoch(0),
            live: None,
            workers: Some(1),
            now: Timestamp(1_700_000_000_000),
            ledger: Ledger::default(),
            apart: BTreeMap::new(),
            restored: false,
            broken: Vec::new(),
            readings: RefCell::default(),
            read_with: RefCell::default(),
        };
        world.join(WriterKind::Relay, MemberRole::Owner);
        let first = world.join(WriterKind::Member, MemberRole::Owner);
        let new = NewSession { position: Some("0000000001".into()), ..NewSession::default() };
        let given = Given { by: "person1", at: world.now, id: None };
        transact(&mut world.replicas[first], |tx| command::create(tx, &new, &given)).unwrap();
        for _ in 1..people {
            world.join(WriterKind::Member, MemberRole::Member);
        }
        for _ in 0..workers {
            world.join(WriterKind::Worker, MemberRole::Owner);
        }
        world.sync_all();
        world
    }

    /// Another replica, empty until it syncs.
    pub fn join(&mut self, kind: WriterKind, role: MemberRole) -> Who {
        let actor = random_actor();
        let who = self.replicas.len();
        self.introduce(&actor, Writer { principal: format!("principal{who}").into(), kind, role });
        self.replicas.push(Automerge::new().with_actor(actor));
        self.ledger.known.push(Known::default());
        self.holds.push(Default::default());
        who
    }

    /// Whoever starts again takes a fresh actor.
    pub fn fresh_actor(&mut self, who: Who) {
        let writer = self.writers.get(self.replicas[who].get_actor()).unwrap().clone();
        let actor = random_actor();
        self.introduce(&actor, writer);
        self.replicas[who].set_actor(actor);
    }

    /// Who has written nothing yet changes no reading.
    fn introduce(&mut self, actor: &ActorId, writer: Writer) {
        self.read_with.get_mut().rows.insert(actor.clone(), writer.clone());
        self.writers.rows.insert(actor.clone(), writer);
    }

    pub fn sync(&mut self, who: Who) {
        if self.apart.contains_key(&who) || who == RELAY {
            return;
        }
        self.push_changes(who);
        self.pull_changes(who);
        if !self.lazy_relay {
            self.raise_relay();
        }
    }

    pub fn sync_all(&mut self) {
        let linked: Vec<Who> = (1..self.replicas.len()).filter(|who| !self.apart.contains_key(who)).collect();
        for &who in &linked {
            self.push_changes(who);
        }
        for &who in &linked {
            self.pull_changes(who);
        }
        if !self.lazy_relay {
            self.raise_relay();
        }
    }

    /// The relay gets what a replica holds.
    fn push_changes(&mut self, who: Who) {
        let heads = self.replicas[who].get_heads();
        if heads != self.holds[who].1 {
            for change in self.replicas[who].get_changes(&self.holds[who].1) {
                let index = *self.by_hash.entry(change.hash()).or_insert(self.changes.len());
                if index == self.changes.len() {
                    self.changes.push(change);
                }
                self.holds[who].0.add(index);
            }
            self.holds[who].1 = heads;
        }
        let holds = self.holds[who].0.clone();
        self.holds[RELAY].0.join(&holds);
        let known = self.ledger.known[who].clone();
        self.ledger.known[RELAY].join(&known);
    }

    /// A replica gets what the relay holds.
    fn pull_changes(&mut self, who: Who) {
        let relay = self.holds[RELAY].0.clone();
        let new: Vec<Change> = relay.beyond(&self.holds[who].0).map(|index| self.changes[index].clone()).collect();
        if !new.is_empty() {
            self.replicas[who].apply_changes(new).unwrap();
            self.holds[who].0.join(&relay);
            self.holds[who].1 = self.replicas[who].get_heads();
        }
        let known = self.ledger.known[RELAY].clone();
        self.ledger.known[who].join(&known);
    }

    /// Brings the relay's replica up to what the relay holds.
    pub fn raise_relay(&mut self) {
        let relay = &mut self.replicas[RELAY];
        let held = (0..self.changes.len()).filter(|&index| self.holds[RELAY].0.holds(index));
        let new: Vec<Change> = held
            .filter(|&index| relay.get_change_meta_by_hash(&self.changes[index].hash()).is_none())
            .map(|index| self.changes[index].clone())
            .collect();
        if !new.is_empty() {
            relay.apply_changes(new).unwrap();
        }
        self.holds[RELAY].1 = relay.get_heads();
    }

    /// Loses the link to the relay: nothing comes or goes, and leases are as last heard.
    pub fn part(&mut self, who: Who) {
        let leases = Leases { live: self.live, workers: None };
        self.apart.entry(who).or_insert(leases);
    }

    pub fn rejoin(&mut self, who: Who) {
        self.apart.remove(&who);
    }

    pub fn back_up(&mut self) -> Backup {
        self.raise_relay();
        Backup {
            document: self.replicas[RELAY].clone(),
            holds: self.holds[RELAY].clone(),
            epoch: self.epoch,
            known: self.ledger.known[RELAY].clone(),
        }
    }

    /// The relay is as it was at the backup; whoever was at work has lost the lease.
    pub fn restore(&mut self, backup: &Backup) {
        self.replicas[RELAY] = backup.document.clone();
        self.holds[RELAY] = backup.holds.clone();
        self.epoch = backup.epoch;
        self.ledger.known[RELAY] = backup.known.clone();
        self.live = None;
        self.restored = true;
    }

    /// Starts again from what the relay has, or from its own disk.
    pub fn crash(&mut self, who: Who, loses_unsent: bool) {
        if loses_unsent {
            self.raise_relay();
            let writer = self.replicas[who].get_actor().clone();
            self.replicas[who] = self.replicas[RELAY].clone().with_actor(writer);
            self.ledger.known[who] = self.ledger.known[RELAY].clone();
            self.holds[who] = self.holds[RELAY].clone();
        }
        self.fresh_actor(who);
    }

    fn reading<T>(&self, who: Who, look: impl FnOnce(&mut Reading) -> T) -> T {
        let heads = self.replicas[who].get_heads();
        let mut readings = self.readings.borrow_mut();
        match readings.iter().position(|reading| reading.heads == heads) {
            Some(index) => readings[..=index].rotate_right(1),
            None => {
                let session = Rc::new(read::session(&self.replicas[who]));
                readings.truncate(READINGS - 1);
                readings.insert(0, Reading { heads, session, seen: Vec::new() });
            }
        }
        look(&mut readings[0])
    }

    pub fn session(&self, who: Who) -> Rc<Session> {
        self.reading(who, |reading| reading.session.clone())
    }

    pub fn leases(&self, who: Who) -> Leases {
        self.apart.get(&who).cloned().unwrap_or(Leases { live: self.live, workers: self.workers })
    }

    /// What somebody sees, as of now.
    pub fn see(&self, who: Who) -> Conversation {
        conversation(&self.session(who), &self.leases(who), &self.writers, self.now)
    }

    /// The same, but how long a run has been streaming may be as of a moment ago.
    pub fn look(&self, who: Who) -> Rc<Conversation> {
        let leases = self.leases(who);
        if *self.read_with.borrow() != self.writers {
            self.read_with.replace(self.writers.clone());
            self.readings.borrow_mut().clear();
        }
        self.reading(who, |reading| match reading.seen.iter().find(|(known, _)| *known == leases) {
            Some((_, seen)) => seen.clone(),
            None => {
                let seen = Rc::new(conversation(&reading.session, &leases, &self.writers, self.now));
                reading.seen.push((leases, seen.clone()));
                seen
            }
        })
    }

    pub fn summary(&self, who: Who) -> Summary {
        summary::summary(DocumentId::from_bytes([7; 16]), &self.session(who), &self.look(who), self.now)
    }

    pub fn shape(&self, who: Who) -> String {
        shape(&self.look(who))
    }

    pub fn status(&self, who: Who) -> Status {
        self.look(who).status
    }
}

/// `u1 a(u1) | u2`: texts in order, the queue after a bar.
pub fn shape(conversation: &Conversation) -> String {
    let words = |messages: &[ShownMessage]| messages.iter().map(text).collect::<Vec<_>>().join(" ");
    let answered = words(&conversation.messages);
    match conversation.queued.is_empty() {
        true => answered,
        false => format!("{answered} | {}", words(&conversation.queued)).trim_start().to_owned(),
    }
}

pub fn text(message: &ShownMessage) -> String {
    let texts = message.parts.iter().filter_map(|part| match &part.content {
        Content::Text { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

pub fn transact<T, E: From<automerge::AutomergeError>>(
    document: &mut Automerge,
    write: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let mut tx = document.transaction();
    match write(&mut tx) {
        Ok(value) => {
            tx.commit();
            Ok(value)
        }
        Err(error) => {
            tx.rollback();
            Err(error)
        }
    }
}

pub fn text_of(session: &Session, id: &str) -> String {
    let message = session.messages.iter().find(|message| message.id == id);
    message.map(stored_text).unwrap_or_default()
}

pub fn stored_text(message: &skein_engine::session::model::Message) -> String {
    let texts = message.parts.iter().filter_map(|part| match &part.kind {
        PartKind::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// The id of the person's message with this text.
pub fn id_of(session: &Session, text: &str) -> String {
    let found = session.messages.iter().find(|message| message.role == Role::User && stored_text(message) == text);
    found.unwrap_or_else(|| panic!("no message {text:?}")).id.clone()
}
