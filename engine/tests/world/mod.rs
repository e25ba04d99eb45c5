//! A small world for tests of the session model: people's devices and workers with a replica each, and a relay that
//! grants leases. Nobody hears of anything before `sync`.

#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use automerge::Automerge;
use automerge::transaction::Transaction;
use skein_engine::ids::{ChangeHash, Epoch, Micros, Timestamp, random_actor};
use skein_engine::session::command::{self, Command, CommandError, Done, Given, NewSession};
use skein_engine::session::conversation::{
    Content, Conversation, Leases, MemberRole, ShownMessage, Status, Writer, WriterKind, Writers,
};
use skein_engine::session::model::{CallState, Cost, Part, PartKind, Role, Run, RunState, Session, ToolCall, Usage};
use skein_engine::session::work::{self, MustEnd, Work, WorkKind};
use skein_engine::session::{conversation, read, write};

/// Who holds a replica.
pub type Who = usize;

/// The relay's replica, which everyone syncs with.
pub const RELAY: Who = 0;

/// A replica's heads, and what it reads as.
type Reading = (Vec<ChangeHash>, Rc<Session>);

pub struct World {
    pub replicas: Vec<Automerge>,
    pub writers: Writers,
    /// The relay's highest epoch.
    pub epoch: Epoch,
    /// The claim that lives.
    pub live: Option<Epoch>,
    pub workers: Option<u32>,
    pub now: Timestamp,
    /// What each replica last read as.
    read: RefCell<BTreeMap<Who, Reading>>,
}

/// A worker's run, and the message that it writes.
#[derive(Clone, Debug)]
pub struct Claim {
    pub work: Work,
    pub run: Run,
    pub message: Option<String>,
}

impl World {
    /// A session that everyone has: replicas are the relay's, `people` devices' (from 1), and workers' after them.
    pub fn new(people: usize, workers: usize) -> Self {
        let mut world = Self {
            replicas: Vec::new(),
            writers: Writers::default(),
            epoch: Epoch(1_000),
            live: None,
            workers: Some(1),
            now: Timestamp(1_700_000_000_000),
            read: RefCell::default(),
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
        let writer = Writer { principal: format!("principal{who}").into(), kind, role };
        self.writers.rows.insert(actor.clone(), writer);
        self.replicas.push(Automerge::new().with_actor(actor));
        who
    }

    pub fn sync(&mut self, who: Who) {
        let (relay, others) = self.replicas.split_at_mut(1);
        let other = &mut others[who - 1];
        if other.get_heads() == relay[0].get_heads() {
            return;
        }
        other.merge(&mut relay[0]).unwrap();
        relay[0].merge(other).unwrap();
    }

    pub fn sync_all(&mut self) {
        for _ in 0..2 {
            for who in 1..self.replicas.len() {
                self.sync(who);
            }
        }
    }

    pub fn session(&self, who: Who) -> Rc<Session> {
        let heads = self.replicas[who].get_heads();
        let mut read = self.read.borrow_mut();
        match read.get(&who) {
            Some((known, session)) if *known == heads => session.clone(),
            _ => {
                let session = Rc::new(read::session(&self.replicas[who]));
                read.insert(who, (heads, session.clone()));
                session
            }
        }
    }

    pub fn leases(&self) -> Leases {
        Leases { live: self.live, workers: self.workers }
    }

    pub fn see(&self, who: Who) -> Conversation {
        conversation(&self.session(who), &self.leases(), &self.writers, self.now)
    }

    pub fn shape(&self, who: Who) -> String {
        shape(&self.see(who))
    }

    pub fn status(&self, who: Who) -> Status {
        self.see(who).status
    }

    // --- People --------------------------------------------------------------------------------------------------

    pub fn command(&mut self, who: Who, command: Command) -> Result<Done, CommandError> {
        self.now = self.now.plus_ms(1_000);
        let (session, seen) = (self.session(who), self.see(who));
        let by = format!("person{who}");
        let given = Given { by: &by, at: self.now, id: None };
        transact(&mut self.replicas[who], |tx| command::apply(tx, &session, &seen, &command, &given))
    }

    pub fn send(&mut self, who: Who, text: &str) -> String {
        self.command(who, Command::send(text)).unwrap().id.unwrap()
    }

    /// An edit is no command yet, but readers know it: a new message that hides what its author saw from there on.
    pub fn edit(&mut self, who: Who, hides: &[&str], text: &str) -> String {
        let over = self.see(who).stops;
        let session = self.session(who);
        let ids: Vec<String> = hides.iter().map(|text| id_of(&session, text)).collect();
        let id = skein_engine::ids::random_id();
        transact(&mut self.replicas[who], |tx| raw_message(tx, &id, text, &ids, &over)).unwrap();
        id
    }

    pub fn pause(&mut self, who: Who) -> String {
        self.command(who, Command::Pause).unwrap().id.unwrap()
    }

    pub fn go_on(&mut self, who: Who) -> String {
        self.command(who, Command::Continue).unwrap().id.unwrap()
    }

    pub fn retry(&mut self, who: Who, text: &str) -> String {
        let message = id_of(&self.session(who), text);
        self.command(who, Command::Retry { message: Some(message) }).unwrap().id.unwrap()
    }

    // --- Workers -------------------------------------------------------------------------------------------------

    pub fn due(&self, who: Who) -> Option<Work> {
        let session = self.session(who);
        work::work(&session, &self.see(who), &self.leases(), &self.writers, self.now)
    }

    /// Claims what is due and makes the run in one step with the relay (rules 7 and 8).
    pub fn claim(&mut self, who: Who) -> Option<Claim> {
        if self.live.is_some() {
            return None;
        }
        self.due(who)?;
        let known = self.session(who).runs.values().flatten().map(|run| run.epoch).max().unwrap_or_default();
        let epoch = Epoch(self.epoch.max(known).0 + 1);
        self.epoch = epoch;
        self.sync(who);
        let work = self.due(who)?;
        self.now = self.now.plus_ms(10);
        let run = Run {
            turn: work.turn.clone(),
            epoch,
            place: work.place.unwrap_or(epoch),
            answers: work.answers.clone(),
            continues: work.continues.clone(),
            request: work.request.clone(),
            inherited: false,
            agent: Some("agent1".into()),
            model: Some("model".into()),
            provider: Some("test".into()),
            preamble: None,
            worker: Some(format!("worker{who}")),
            state: RunState::Streaming,
            started_at: Some(self.now),
            ended_at: None,
            usage: Usage::default(),
            cost: Cost::default(),
            stop_reason: None,
            error: None,
            by: Vec::new(),
        };
        transact(&mut self.replicas[who], |tx| write::begin_run(tx, &run)).unwrap();
        self.live = Some(epoch);
        self.sync(who);
        Some(Claim { work, run, message: None })
    }

    /// Writes words into the run's message.
    pub fn say(&mut self, who: Who, claim: &mut Claim, words: &str) {
        let part = Part { kind: PartKind::Text(words.into()), provider: None };
        self.push(who, claim, part);
    }

    pub fn push(&mut self, who: Who, claim: &mut Claim, part: Part) -> (String, u64) {
        let now = self.now;
        transact(&mut self.replicas[who], |tx| {
            let message = match &claim.message {
                Some(message) => message.clone(),
                None => write::begin_message(tx, &claim.run, "agent1", now)?,
            };
            claim.message = Some(message.clone());
            let index = write::push_part(tx, &message, &part)?;
            Ok::<_, automerge::AutomergeError>((message, index))
        })
        .unwrap()
    }

    /// A call in this state; a later part of the same call has no input.
    pub fn call(&mut self, who: Who, claim: &mut Claim, id: &str, input: Option<&str>, state: CallState) {
        let call =
            ToolCall { id: id.into(), provider_id: None, name: "tool".into(), input: input.map(str::to_owned), state };
        self.push(who, claim, Part { kind: PartKind::ToolCall(call), provider: None });
    }

    pub fn result(&mut self, who: Who, claim: &mut Claim, id: &str, content: &str) {
        let kind = PartKind::ToolResult { call: id.into(), content: content.into(), is_error: false, blob: None };
        self.push(who, claim, Part { kind, provider: None });
    }

    pub fn spend(&mut self, who: Who, claim: &Claim, tokens: u64, micros: u64) {
        let usage = Usage { output: tokens, ..Usage::default() };
        let cost = Cost { micros: Some(Micros(micros)), estimated: false, reported: false };
        transact(&mut self.replicas[who], |tx| write::set_usage(tx, &claim.run.key(), &usage, &cost)).unwrap();
    }

    /// Ends the run, acknowledged, and releases the lease.
    pub fn end(&mut self, who: Who, claim: &Claim, state: RunState, reason: &str) {
        self.now = self.now.plus_ms(100);
        let error = (state == RunState::Failed).then(|| skein_engine::session::model::RunError {
            code: "network".into(),
            message: "the model could not be reached".into(),
            retryable: true,
        });
        let now = self.now;
        transact(&mut self.replicas[who], |tx| {
            write::end_run(tx, &claim.run.key(), state, reason, error.as_ref(), now)
        })
        .unwrap();
        self.sync(who);
        if self.live == Some(claim.run.epoch) {
            self.live = None;
        }
    }

    /// Answers what is due with `a(…)`, naming the texts that it answers.
    pub fn answer(&mut self, who: Who) -> Work {
        let mut claim = self.claim(who).expect("something is due");
        let words = self.words(who, &claim);
        self.say(who, &mut claim, &words);
        self.end(who, &claim, RunState::Completed, "end");
        claim.work
    }

    /// What [`World::answer`] says to a claim.
    pub fn words(&self, who: Who, claim: &Claim) -> String {
        let session = self.session(who);
        let asked: Vec<String> = claim.run.answers.iter().map(|id| text_of(&session, id)).collect();
        format!("a({})", asked.join("+"))
    }

    pub fn must_end(&self, who: Who, claim: &Claim) -> Option<MustEnd> {
        work::must_end(&self.session(who), &self.see(who), &claim.run.key())
    }

    /// The worker is gone; after a while so is its lease.
    pub fn die(&mut self) {
        self.live = None;
    }

    /// Everything due but a title is done; titles are given by the first words.
    pub fn settle(&mut self, who: Who) {
        while let Some(work) = self.due(who).filter(|work| work.kind != WorkKind::Name) {
            assert!(self.live.is_none(), "{work:?} is due under a lease that lives");
            self.answer(who);
        }
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

/// A person's message as other versions and clients write it.
pub fn raw_message(
    tx: &mut Transaction<'_>,
    id: &str,
    text: &str,
    hides: &[String],
    over: &[String],
) -> Result<(), automerge::AutomergeError> {
    use automerge::transaction::Transactable;
    use automerge::{ObjType, ROOT, ReadDoc};
    let (_, messages) = tx.get(ROOT, "messages")?.unwrap();
    let message = tx.insert_object(&messages, tx.length(&messages), ObjType::Map)?;
    tx.put(&message, "id", id)?;
    tx.put(&message, "role", "user")?;
    for (key, ids) in [("hides", hides), ("over", over)] {
        let list = tx.put_object(&message, key, ObjType::List)?;
        for (index, id) in ids.iter().enumerate() {
            tx.insert(&list, index, id.as_str())?;
        }
    }
    let parts = tx.put_object(&message, "parts", ObjType::List)?;
    let part = tx.insert_object(&parts, 0, ObjType::Map)?;
    tx.put(&part, "type", "text")?;
    let chunks = tx.put_object(&part, "chunks", ObjType::List)?;
    tx.insert(&chunks, 0, text)
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
