//! The sessions that are measured, written as a worker writes them.

use automerge::transaction::{Transactable, Transaction};
use automerge::{ActorId, Automerge, AutomergeError, Change, ObjType, ROOT, ReadDoc, ScalarValue};
use skein_engine::ids::{Epoch, Micros, Timestamp, random_actor, random_id};
use skein_engine::session::command::{self, Given, NewSession};
use skein_engine::session::conversation::{MemberRole, Writer, WriterKind, Writers};
use skein_engine::session::model::{Cost, Part, PartKind, Run, RunState, Usage};
use skein_engine::session::write;

use crate::prose::{Dice, prose};

/// When everything that is measured happens.
pub const NOW: Timestamp = Timestamp(1_790_000_000_000);

/// A session under construction: a person and a worker, one document.
pub struct Author {
    /// The document.
    pub document: Automerge,
    /// Who the two are.
    pub writers: Writers,
    person: ActorId,
    worker: ActorId,
    epoch: u64,
    dice: Dice,
}

impl Author {
    /// An empty session.
    pub fn new(seed: u64) -> Self {
        let (person, worker) = (random_actor(), random_actor());
        let mut writers = Writers::default();
        for (actor, kind) in [(&person, WriterKind::Member), (&worker, WriterKind::Worker)] {
            let writer = Writer { principal: "bench".into(), kind, role: MemberRole::Owner };
            writers.rows.insert(actor.clone(), writer);
        }
        let mut author =
            Self { document: Automerge::new(), writers, person, worker, epoch: 1_790_000_000, dice: Dice::new(seed) };
        let new = NewSession { position: Some("0000000001".into()), ..NewSession::default() };
        author.person(|tx| command::create(tx, &new, &given()).map_err(|error| error.to_string()));
        author
    }

    fn act<T, E: std::fmt::Debug>(
        &mut self,
        actor: ActorId,
        write: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> T {
        self.document.set_actor(actor);
        let mut tx = self.document.transaction();
        let value = write(&mut tx).expect("a session of our own making takes it");
        tx.commit();
        value
    }

    /// A change by the person.
    pub fn person<T, E: std::fmt::Debug>(&mut self, write: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>) -> T {
        self.act(self.person.clone(), write)
    }

    /// A change by the worker.
    pub fn worker<T>(&mut self, write: impl FnOnce(&mut Transaction<'_>) -> Result<T, AutomergeError>) -> T {
        self.act(self.worker.clone(), write)
    }

    /// Prose.
    pub fn words(&mut self, tokens: usize) -> String {
        prose(&mut self.dice, tokens)
    }

    /// A person's message of so many tokens: its id.
    pub fn question(&mut self, tokens: usize) -> String {
        let id = random_id();
        let text = self.words(tokens);
        self.person(|tx| message(tx, &id, &text));
        id
    }

    /// The change that was made last.
    pub fn last_change(&self) -> Change {
        self.document.get_last_local_change().expect("a session begins with a change")
    }

    /// The run that answers a message.
    pub fn run(&mut self, answers: &str) -> Run {
        self.epoch += 7;
        Run {
            agent: Some("5Qm2vKTrbLcXyq8WnJd3Az".into()),
            model: Some("a-model-of-some-size".into()),
            provider: Some("provider".into()),
            preamble: Some("3f9d6a1b0c2e4f5a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f50".into()),
            worker: Some("4kYbC0ZpTtWmQ2nJvXrLaE".into()),
            started_at: Some(NOW),
            ..Run::new(answers.to_owned(), Epoch(self.epoch), vec![answers.to_owned()])
        }
    }

    /// What a worker writes of a turn, in as many changes as the worker makes: `parts`, thinking first, each cut where
    /// `checkpoints` fall (in tokens from the turn's beginning).
    pub fn answer(&mut self, question: &str, parts: &[usize], checkpoints: &[usize]) -> Vec<Change> {
        let run = self.run(question);
        self.worker(|tx| write::begin_run(tx, &run));
        let mut changes = vec![self.last_change()];
        let mut message: Option<String> = None;
        let mut from = 0;
        // What is left of a part goes with the beginning of the next.
        let mut rest: Option<(u64, String)> = None;
        for (n, &tokens) in parts.iter().enumerate() {
            let text = self.words(tokens);
            // The part begins with what has come by then: a token or two.
            let mut cuts = vec![text.len().min(8)];
            let within = checkpoints.iter().filter(|&&at| at > from && at < from + tokens);
            cuts.extend(within.map(|at| (at - from) * text.len() / tokens));
            cuts.push(text.len());
            let first = text[..cuts[0]].to_owned();
            let kind = if n == 0 { PartKind::Thinking(first) } else { PartKind::Text(first) };
            let part = Part { kind, provider: None };
            let (id, index) = self.worker(|tx| {
                let id = match &message {
                    Some(id) => id.clone(),
                    None => write::begin_message(tx, &run, "5Qm2vKTrbLcXyq8WnJd3Az", NOW)?,
                };
                if let Some((part, text)) = &rest {
                    write::push_chunk(tx, &id, *part, text)?;
                }
                let index = write::push_part(tx, &id, &part)?;
                Ok((id, index))
            });
            changes.push(self.last_change());
            if n + 1 < parts.len() {
                let last = cuts.pop().unwrap_or_default();
                let from = cuts.last().copied().unwrap_or_default();
                rest = Some((index, text[from..last].to_owned()));
            }
            for pair in cuts.windows(2) {
                self.worker(|tx| write::push_chunk(tx, &id, index, &text[pair[0]..pair[1]]));
                changes.push(self.last_change());
            }
            message = Some(id);
            from += tokens;
        }
        let output: usize = parts.iter().sum();
        let usage = Usage { input: 1_200, output: output as u64, cache_read: 20_000, ..Usage::default() };
        let cost = Cost { micros: Some(Micros(12_345)), ..Cost::default() };
        let end = Timestamp(NOW.0 + 9_000);
        self.worker(|tx| {
            write::set_usage(tx, &run.key(), &usage, &cost)?;
            write::end_run(tx, &run.key(), RunState::Completed, "end", None, end)
        });
        changes.push(self.last_change());
        changes
    }

    /// Many turns at once, one change for each question and each answer: what a long session holds, without the time
    /// that writing it checkpoint by checkpoint takes.
    pub fn turns(&mut self, turns: usize, parts: &[usize]) {
        for _ in 0..turns {
            let question = self.question(20);
            let run = self.run(&question);
            let words: Vec<String> = parts.iter().map(|&tokens| self.words(tokens)).collect();
            let output: usize = parts.iter().sum();
            let usage = Usage { input: 1_200, output: output as u64, cache_read: 20_000, ..Usage::default() };
            let cost = Cost { micros: Some(Micros(12_345)), ..Cost::default() };
            self.worker(|tx| {
                write::begin_run(tx, &run)?;
                let id = write::begin_message(tx, &run, "5Qm2vKTrbLcXyq8WnJd3Az", NOW)?;
                for (n, text) in words.into_iter().enumerate() {
                    let kind =
                        if n % 2 == 0 && parts.len() > 1 { PartKind::Thinking(text) } else { PartKind::Text(text) };
                    write::push_part(tx, &id, &Part { kind, provider: None })?;
                }
                write::set_usage(tx, &run.key(), &usage, &cost)?;
                write::end_run(tx, &run.key(), RunState::Completed, "end", None, Timestamp(NOW.0 + 9_000))
            });
        }
    }
}

/// A message as a command writes it, which would read all of the session first.
fn message(tx: &mut Transaction<'_>, id: &str, text: &str) -> Result<(), AutomergeError> {
    let word = |text: &str| ScalarValue::Str(text.into());
    let Some((_, messages)) = tx.get(ROOT, "messages")? else {
        return Err(AutomergeError::InvalidObjId("messages".into()));
    };
    let message = tx.insert_object(&messages, tx.length(&messages), ObjType::Map)?;
    tx.put(&message, "id", word(id))?;
    tx.put(&message, "role", word("user"))?;
    tx.put(&message, "author", word("person"))?;
    tx.put(&message, "createdAt", NOW.0 as i64)?;
    tx.put_object(&message, "over", ObjType::List)?;
    let parts = tx.put_object(&message, "parts", ObjType::List)?;
    let part = tx.insert_object(&parts, 0, ObjType::Map)?;
    tx.put(&part, "type", word("text"))?;
    let chunks = tx.put_object(&part, "chunks", ObjType::List)?;
    tx.insert(&chunks, 0, word(text))
}

fn given() -> Given<'static> {
    Given { by: "person", at: NOW, id: None }
}
