//! What is derived step by step is what is derived from scratch: document, conversation and row, after every step of
//! random histories in which people, workers and foreign clients write at once, on every replica.

#![allow(clippy::unwrap_used)]

mod world;

use automerge::transaction::{Transactable, Transaction};
use automerge::{Automerge, ObjId, ObjType, ROOT, ReadDoc, ScalarValue, Value};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use skein_engine::ids::{DocumentId, Timestamp};
use skein_engine::session::command::{Command, Draft};
use skein_engine::session::conversation::{Conversation, Difference, Leases, ShownMessage, Writers};
use skein_engine::session::model::{CallState, RunState};
use skein_engine::session::{Derived, conversation, read, summary};
use world::{Claim, Who, World, transact};

/// `SKEIN_HISTORIES` asks for more.
const HISTORIES: u64 = 12;
const STEPS: usize = 60;
const PEOPLE: usize = 2;
const WORKERS: usize = 2;

/// A replica as a view of it is kept.
struct Watched {
    derived: Derived,
    heads: Vec<automerge::ChangeHash>,
    surroundings: (Leases, Writers),
    now: Timestamp,
    /// What a page shows that is told of nothing but differences.
    page: Conversation,
}

impl Watched {
    fn new() -> Self {
        Self {
            derived: Derived::default(),
            heads: Vec::new(),
            surroundings: Default::default(),
            now: Timestamp(0),
            page: Conversation::default(),
        }
    }

    /// Tells what is new in a document, and compares. `tell`: or leave it to be found out.
    fn follow(&mut self, world: &World, document: &Automerge, tell: bool) {
        if tell {
            self.derived.changed(&document.get_changes(&self.heads));
        }
        self.heads = document.get_heads();
        let surroundings = (world.leases(world::RELAY), world.writers.clone());
        if self.surroundings != surroundings || self.now != world.now {
            self.now = world.now;
            self.derived.surroundings_changed();
            self.surroundings = surroundings.clone();
        }
        let id = DocumentId::random();
        let kept = self.derived.conversation(document, world.now, || surroundings.clone());
        let session = read::session(document);
        assert_eq!(*kept.0, session);
        let seen = conversation(&session, &surroundings.0, &surroundings.1, world.now);
        assert_eq!(*kept.1, seen);
        let row = summary::summary(id, &session, &seen, world.now);
        let kept = self.derived.summary(id, document, world.now, || surroundings.clone());
        assert_eq!(kept, session.is_session.then_some(row));
        let difference = self.derived.take_difference();
        self.page = applied(&self.page, &difference, &seen);
        assert_eq!(self.page, seen, "what differs: {difference:?}");
    }
}

/// What a page shows that takes of `now` only what `difference` names.
fn applied(page: &Conversation, difference: &Difference, now: &Conversation) -> Conversation {
    if difference.all {
        return now.clone();
    }
    let known = |message: &ShownMessage| {
        let mut all = page.messages.iter().chain(&page.queued);
        all.rfind(|known| known.id == message.id).cloned()
    };
    let take = |was: &[ShownMessage], is: &[ShownMessage]| -> Vec<ShownMessage> {
        let order: Vec<&ShownMessage> = if difference.order { is.iter().collect() } else { was.iter().collect() };
        let one = |message: &&ShownMessage| match difference.messages.contains(&message.id) {
            true => is.iter().find(|fresh| fresh.id == message.id).cloned().unwrap(),
            false => known(message).unwrap(),
        };
        order.iter().map(one).collect()
    };
    let head = if difference.head { now } else { page };
    let turns = now.turns.iter().map(|turn| match difference.turns.contains(&turn.id) {
        true => turn.clone(),
        false => page.turns.iter().find(|known| known.id == turn.id).cloned().unwrap(),
    });
    Conversation {
        messages: take(&page.messages, &now.messages),
        queued: take(&page.queued, &now.queued),
        turns: turns.collect(),
        ..head.clone()
    }
}

struct History {
    world: World,
    random: StdRng,
    claims: Vec<Option<Claim>>,
    watched: Vec<Watched>,
    count: u32,
    /// Whether foreign clients write, too.
    foreign: bool,
}

impl History {
    fn new(seed: u64) -> Self {
        let world = World::new(PEOPLE, WORKERS);
        let watched = world.replicas.iter().map(|_| Watched::new()).collect();
        Self {
            world,
            random: StdRng::seed_from_u64(seed),
            claims: vec![None; PEOPLE + WORKERS + 1],
            watched,
            count: 0,
            foreign: seed % 2 == 1,
        }
    }

    fn words(&mut self) -> String {
        self.count += 1;
        format!("w{}. ", self.count)
    }

    fn step(&mut self) {
        let who = self.random.random_range(1..=PEOPLE + WORKERS);
        match self.random.random_range(0..10) {
            0..=1 => self.world.sync(who),
            2 if self.foreign => self.foreign(who),
            _ if who > PEOPLE => self.worker(who),
            _ => self.person(who),
        }
        for who in 0..self.world.replicas.len() {
            // Several steps at once, now and then, and now and then untold.
            if self.random.random_bool(0.6) {
                let tell = self.random.random_bool(0.9);
                self.watched[who].follow(&self.world, &self.world.replicas[who], tell);
            }
        }
    }

    fn person(&mut self, who: Who) {
        let text = self.words();
        let seen = self.world.see(who);
        let calls: Vec<String> = seen.stops.iter().filter(|stop| stop.starts_with('c')).cloned().collect();
        let command = match self.random.random_range(0..12) {
            0..=3 => Command::Send(Draft { text, ..Draft::default() }),
            4 => Command::Pause,
            5 => Command::Continue,
            6 => Command::Retry { message: None },
            7 => Command::Rename { name: text },
            8 => Command::Archive,
            9 if !seen.queued.is_empty() => Command::Remove { message: seen.queued[0].id.clone() },
            9 if !seen.messages.is_empty() => {
                let hides: Vec<String> = seen.messages.iter().skip(1).map(|message| message.id.clone()).collect();
                let id = skein_engine::ids::random_id();
                let over = seen.stops.clone();
                return transact(&mut self.world.replicas[who], |tx| {
                    world::raw_message(tx, &id, &text, &hides, Some(&over))
                })
                .unwrap();
            }
            10 if !calls.is_empty() => Command::Approve { call: calls[0].clone(), for_session: true },
            11 if !calls.is_empty() => Command::Deny { call: calls[0].clone(), reason: None },
            _ => Command::Continue,
        };
        let _ = self.world.command(who, command);
    }

    fn worker(&mut self, who: Who) {
        let Some(mut claim) = self.claims[who].take().or_else(|| self.world.claim(who)) else { return };
        let words = self.words();
        match self.random.random_range(0..9) {
            0..=2 => self.world.say(who, &mut claim, &words),
            3 => {
                claim.message = None;
                self.world.say(who, &mut claim, &words);
            }
            4 => match &claim.message {
                Some(message) => {
                    let grown = transact(&mut self.world.replicas[who], |tx| {
                        skein_engine::session::write::push_chunk(tx, message, 0, &words)
                    });
                    // The first part is a call: it has no chunks.
                    let _ = grown;
                }
                None => self.world.spend(who, &claim, 7, 9),
            },
            5 => self.world.spend(who, &claim, u64::from(self.count), 3),
            6 => {
                self.count += 1;
                self.world.call(who, &mut claim, &format!("c{}", self.count), Some("{}"), CallState::Waiting);
                return self.world.end(who, &claim, RunState::Paused, "approval");
            }
            7 => {
                let states = [RunState::Completed, RunState::Failed, RunState::Paused];
                let state = states[self.random.random_range(0..3)];
                return self.world.end(who, &claim, state, "end");
            }
            _ => return self.world.die(),
        }
        self.claims[who] = Some(claim);
    }

    /// What other programs write, and what nobody should.
    fn foreign(&mut self, who: Who) {
        let mut random = StdRng::seed_from_u64(self.random.random());
        let text = self.words();
        transact(&mut self.world.replicas[who], |tx| meddle(tx, &mut random, &text)).unwrap();
    }
}

/// Any container of the document.
fn container(tx: &Transaction<'_>, random: &mut StdRng) -> (ObjType, ObjId) {
    let mut at = (ObjType::Map, ROOT);
    for _ in 0..random.random_range(0..5) {
        let inside: Vec<(ObjType, ObjId)> = match at.0 {
            ObjType::Map | ObjType::Table => tx
                .map_range(&at.1, ..)
                .filter_map(|item| match item.value {
                    automerge::ValueRef::Object(kind) => Some((kind, item.id())),
                    _ => None,
                })
                .collect(),
            ObjType::List => tx
                .list_range(&at.1, ..)
                .filter_map(|item| match item.value {
                    automerge::ValueRef::Object(kind) => Some((kind, item.id())),
                    _ => None,
                })
                .collect(),
            ObjType::Text => Vec::new(),
        };
        if inside.is_empty() {
            break;
        }
        at = inside[random.random_range(0..inside.len())].clone();
    }
    at
}

fn meddle(tx: &mut Transaction<'_>, random: &mut StdRng, text: &str) -> Result<(), automerge::AutomergeError> {
    let keys = ["id", "role", "type", "state", "epoch", "names", "user", "chunks", "parts", "new", "kind", "answers"];
    let key = keys[random.random_range(0..keys.len())];
    let scalar = match random.random_range(0..6) {
        0 => ScalarValue::Str(text.into()),
        1 => ScalarValue::Int(random.random_range(0..9)),
        2 => ScalarValue::F64(0.5),
        3 => ScalarValue::Null,
        4 => ScalarValue::Str("user".into()),
        _ => ScalarValue::counter(3),
    };
    match random.random_range(0..10) {
        // What plain clients do.
        0..=2 => {
            let Some((Value::Object(ObjType::List), messages)) = tx.get(ROOT, "messages")? else { return Ok(()) };
            let at = random.random_range(0..=tx.length(&messages));
            let message = tx.insert_object(&messages, at, ObjType::Map)?;
            tx.put(&message, "id", if random.random_bool(0.9) { text } else { "twice" })?;
            tx.put(&message, "role", if random.random_bool(0.8) { "user" } else { "narrator" })?;
            let parts = tx.put_object(&message, "parts", ObjType::List)?;
            let part = tx.insert_object(&parts, 0, ObjType::Map)?;
            let kind = tx.put_object(&part, "type", ObjType::Text)?;
            tx.splice_text(&kind, 0, 0, if random.random_bool(0.8) { "text" } else { "hologram" })?;
            let words = tx.put_object(&part, "text", ObjType::Text)?;
            tx.splice_text(&words, 0, 0, text)
        }
        3 => {
            let Some((Value::Object(ObjType::Map), runs)) = tx.get(ROOT, "runs")? else { return Ok(()) };
            let key = ["a/1", "odd", "a/2"][random.random_range(0..3)];
            let run = tx.put_object(&runs, key, ObjType::Map)?;
            tx.put(&run, "state", "completed")
        }
        4 => {
            let Some((Value::Object(ObjType::Map), requests)) = tx.get(ROOT, "requests")? else { return Ok(()) };
            if random.random_bool(0.5) {
                tx.put(&requests, text, 5)
            } else {
                let request = tx.put_object(&requests, text, ObjType::Map)?;
                tx.put(&request, "kind", "dance")
            }
        }
        // Another whole container: both stand there once they meet.
        5 if random.random_bool(0.3) => {
            let kind = [ObjType::Map, ObjType::List, ObjType::Text][random.random_range(0..3)];
            let key = ["messages", "runs", "requests", "names"][random.random_range(0..4)];
            tx.put_object(ROOT, key, kind).map(drop)
        }
        // What nobody should.
        _ => {
            let (kind, object) = container(tx, random);
            let length = tx.length(&object);
            let at = random.random_range(0..=length);
            match kind {
                ObjType::Map | ObjType::Table => match random.random_range(0..3) {
                    0 => tx.put_object(&object, key, ObjType::Map).map(drop),
                    1 if object != ROOT => tx.delete(&object, key),
                    _ => tx.put(&object, key, scalar),
                },
                ObjType::List if at < length && random.random_bool(0.3) => tx.delete(&object, at),
                ObjType::List if at < length && random.random_bool(0.3) => tx.put(&object, at, scalar),
                ObjType::List => tx.insert(&object, at, scalar),
                ObjType::Text => tx.splice_text(&object, at, 0, "é"),
            }
        }
    }
}

#[test]
fn whatever_happens_the_kept_session_is_the_one_that_is_read_from_scratch() {
    for seed in 0..histories() {
        let outcome = std::panic::catch_unwind(|| {
            let mut history = History::new(seed);
            for _ in 0..STEPS {
                history.step();
            }
            history.world.sync_all();
            for (watched, document) in history.watched.iter_mut().zip(&history.world.replicas) {
                watched.follow(&history.world, document, true);
            }
        });
        assert!(outcome.is_ok(), "history {seed}");
    }
}

fn histories() -> u64 {
    std::env::var("SKEIN_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(HISTORIES)
}
