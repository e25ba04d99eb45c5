//! What is measured. Each figure is the median of several runs with their spread; what is compared is measured in turn,
//! in the same run.

use automerge::{Automerge, Change};
use skein_engine::ids::{DocumentId, Micros, Timestamp};
use skein_engine::session::command::Given;
use skein_engine::session::conversation::{Conversation, Leases, Reason, Status, Writers};
use skein_engine::session::duplicate::{self, Source};
use skein_engine::session::list::{Query, Sort, list};
use skein_engine::session::model::{Cost, Part, PartKind, RunState, Usage};
use skein_engine::session::snapshot::Snapshot;
use skein_engine::session::summary::{Queued, Summary, summary};
use skein_engine::session::{Derived, Session, conversation, read, write};
use skein_engine::wire::catalog::{FromRelay, Row};
use skein_engine::wire::cbor;

use crate::prose::{Dice, prose};
use crate::sessions::{Author, NOW};

/// Where the engine runs: what is to be reached differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// This machine's own code.
    Native,
    /// WebAssembly.
    Wasm,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// The median.
    pub value: f64,
    /// Of the value.
    pub unit: &'static str,
    /// The least and the most, where it was measured several times.
    pub spread: Option<(f64, f64)>,
    /// What is to be reached: at most this.
    pub target: Option<f64>,
}

struct Bench<'a> {
    clock: &'a dyn Fn() -> f64,
    platform: Platform,
    figures: Vec<Figure>,
}

/// Milliseconds of several runs.
struct Times(Vec<f64>);

impl Times {
    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    fn spread(&self) -> (f64, f64) {
        let ends = |(low, high): (f64, f64), &time: &f64| (low.min(time), high.max(time));
        self.0.iter().fold((f64::INFINITY, 0.0), ends)
    }
}

/// Measures everything. `clock` gives milliseconds.
pub fn measure(platform: Platform, clock: &dyn Fn() -> f64) -> Vec<Figure> {
    let mut bench = Bench { clock, platform, figures: Vec::new() };
    bench.stored();
    bench.long_session();
    bench.whale();
    bench.lists();
    bench.figures
}

impl Bench<'_> {
    fn time<T>(&self, times: usize, mut run: impl FnMut() -> T) -> Times {
        let one = |_| {
            let begun = (self.clock)();
            let value = run();
            let took = (self.clock)() - begun;
            drop(value);
            took
        };
        Times((0..times).map(one).collect())
    }

    fn timed(&mut self, name: &str, target: Option<(f64, f64)>, times: &Times) {
        let target = target.map(|(native, wasm)| if self.platform == Platform::Native { native } else { wasm });
        let (value, spread) = (times.median(), Some(times.spread()));
        self.figures.push(Figure { name: name.to_owned(), value, unit: "ms", spread, target });
    }

    fn plain(&mut self, name: &str, value: f64, unit: &'static str, target: Option<f64>) {
        self.figures.push(Figure { name: name.to_owned(), value, unit, spread: None, target });
    }

    /// Bytes of streamed turns.
    fn stored(&mut self) {
        const TURNS: usize = 200;
        let mut author = Author::new(1);
        let (mut changes, mut bytes) = (0, 0);
        for turn in 0..TURNS {
            let question = author.question(20);
            let (parts, checkpoints) = ([150, 200, 150], [100, 200, 300, 400]);
            let written = author.answer(&question, &parts, &checkpoints);
            if turn == 0 {
                let compressed: usize = written.iter().map(Change::clone).map(|mut change| change.bytes().len()).sum();
                self.plain("stored per token, the first turn of a session", compressed as f64 / 500.0, "bytes", None);
            }
            changes += written.len();
            bytes += written.into_iter().map(|mut change| change.bytes().len()).sum::<usize>();
        }
        let tokens = (TURNS * 500) as f64;
        self.plain("stored per token, as committed", bytes as f64 / tokens, "bytes", Some(7.5));
        self.plain("changes of one turn", changes as f64 / TURNS as f64, "changes", None);
        let packed = author.document.save().len();
        self.plain("stored per token, packed (questions too)", packed as f64 / tokens, "bytes", Some(2.5));
    }

    /// A session of 2,000 messages, 1 M tokens and 1,000 runs.
    fn long_session(&mut self) {
        let mut author = Author::new(2);
        author.turns(1_000, &[300, 700]);
        let pack = author.document.save();
        let chunks: Vec<Vec<u8>> =
            author.document.get_changes(&[]).into_iter().map(|mut change| change.bytes().into_owned()).collect();
        let writers = author.writers.clone();
        let id = DocumentId::random();

        let loads = self.time(7, || {
            let document = Automerge::load(&pack).expect("it was saved just now");
            derive(&document, &writers, id)
        });
        self.timed("load: pack to conversation, 2,000 messages", Some((100.0, 300.0)), &loads);
        let parts = self.time(7, || Automerge::load(&pack).expect("it was saved just now"));
        self.timed("  of which automerge's load", None, &parts);
        let reads = self.time(7, || read::session(&author.document));
        self.timed("  of which the document as plain data", None, &reads);
        let session = read::session(&author.document);
        let shows = self.time(7, || conversation(&session, &Leases::default(), &writers, NOW));
        self.timed("  of which the conversation", None, &shows);
        let loads = self.time(3, || {
            let changes = chunks.iter().map(|bytes| Change::from_bytes(bytes.clone()));
            let changes: Vec<Change> = changes.map(|change| change.expect("it was written just now")).collect();
            let mut document = Automerge::new();
            document.apply_changes(changes).expect("they are a session's");
            derive(&document, &writers, id)
        });
        self.timed("the same from its 2,001 changes", None, &loads);

        let seen = conversation(&session, &Leases::default(), &writers, NOW);
        let source = || Source { id, document: &author.document, session: &session, seen: &seen };
        let given = Given { by: "person", at: NOW, id: None };
        let copies =
            self.time(5, || duplicate::duplicate(source(), None, "0000000002", &given).expect("it is a session"));
        self.timed("duplicate, 2,000 messages", Some((100.0, 100.0)), &copies);

        self.step_by_step(&mut author, id);
    }

    /// One change at a time: kept in line with the document, and from scratch, in turn.
    fn step_by_step(&mut self, author: &mut Author, id: DocumentId) {
        let mut derived = Derived::default();
        derived.summary(id, &author.document, NOW, || (Leases::default(), author.writers.clone()));
        let mut kept = [const { Vec::new() }; 4];
        let mut scratch = Vec::new();
        for _ in 0..9 {
            let question = author.question(20);
            kept[0].push(self.step(&mut derived, author, id));
            let run = author.run(&question);
            let words = author.words(60);
            let part = Part { kind: PartKind::Text(words.clone()), provider: None };
            let (message, index) = author.worker(|tx| {
                write::begin_run(tx, &run)?;
                let message = write::begin_message(tx, &run, "agent", NOW)?;
                let index = write::push_part(tx, &message, &part)?;
                Ok((message, index))
            });
            kept[1].push(self.step(&mut derived, author, id));
            author.worker(|tx| write::push_chunk(tx, &message, index, &words));
            kept[2].push(self.step(&mut derived, author, id));
            author.worker(|tx| {
                let usage = Usage { input: 900, output: 120, ..Usage::default() };
                let cost = Cost { micros: Some(Micros(2_000)), ..Cost::default() };
                write::set_usage(tx, &run.key(), &usage, &cost)?;
                write::end_run(tx, &run.key(), RunState::Completed, "end", None, Timestamp(NOW.0 + 5_000))
            });
            kept[3].push(self.step(&mut derived, author, id));
            let begun = (self.clock)();
            derive(&author.document, &author.writers, id);
            scratch.push((self.clock)() - begun);
        }
        let scratch = Times(scratch);
        self.timed("summary from scratch, 2,000 messages", None, &scratch);
        let names = ["a message was sent", "a run and its text began", "a part grew", "a run ended"];
        let mut worst: f64 = 0.0;
        for (name, times) in names.into_iter().zip(kept) {
            let times = Times(times);
            self.timed(&format!("  summary after one change: {name}"), None, &times);
            worst = worst.max(times.median());
        }
        self.plain("  the slowest of them / from scratch", worst / scratch.median(), "of it", Some(0.05));
    }

    fn step(&self, derived: &mut Derived, author: &Author, id: DocumentId) -> f64 {
        let change = author.last_change();
        let begun = (self.clock)();
        derived.changed(std::slice::from_ref(&change));
        let row = derived.summary(id, &author.document, NOW, || (Leases::default(), author.writers.clone()));
        let took = (self.clock)() - begun;
        drop(row);
        took
    }

    /// A session of 37,000 parts and 20 MB.
    fn whale(&mut self) {
        let mut author = Author::new(3);
        // 37 parts an answer, of 123 tokens each.
        author.turns(1_000, &[123; 37]);
        let id = DocumentId::random();
        let session = read::session(&author.document);
        let seen = conversation(&session, &Leases::default(), &author.writers, NOW);
        let snapshot = Snapshot::of(id, author.document.get_heads(), &seen).encode();
        self.plain("kept of a session of 37,000 parts, 20 MB", snapshot.len() as f64 / 1e3, "kB", None);
        let opens = self.time(9, || Snapshot::decode(&snapshot).expect("it was kept just now").into_conversation());
        self.timed("open it to its last 200 messages", Some((20.0, 60.0)), &opens);
        let reads = self.time(3, || read::session(&author.document));
        self.timed("  beside it: the whole document as plain data", None, &reads);
    }

    /// 10,000 rows.
    fn lists(&mut self) {
        let rows = rows(10_000);
        let agent = |_: &str| Some("An agent");
        let query =
            |sort, search: &str| Query { sort, search: search.to_owned(), descending: true, ..Query::default() };
        let (mut slowest, mut slowest_at) = (Times(Vec::new()), String::new());
        for sort in [
            Sort::Order,
            Sort::Name,
            Sort::Status,
            Sort::Agent,
            Sort::Cost,
            Sort::Duration,
            Sort::Updated,
            Sort::Created,
        ] {
            for search in ["", "ma"] {
                let query = query(sort, search);
                let times = self.time(9, || list(&rows, &query, agent).len());
                if times.median() > slowest.median() {
                    let filter = if search.is_empty() { "" } else { ", filtered by name" };
                    (slowest, slowest_at) = (times, format!("by {sort:?}{filter}").to_lowercase());
                }
            }
        }
        self.timed(&format!("list query over 10,000 rows, the slowest ({slowest_at})"), Some((2.0, 6.0)), &slowest);
        let query = query(Sort::Updated, "");
        let times = self.time(9, || list(&rows, &query, agent).len());
        self.timed("  by the last update", None, &times);
        self.catalog(rows);
    }

    fn catalog(&mut self, rows: Vec<Summary>) {
        let mut dice = Dice::new(5);
        let rows: Vec<Row> = rows
            .into_iter()
            .map(|summary| Row {
                document: summary.id,
                heads: vec![automerge::ChangeHash(std::array::from_fn(|_| dice.below(256) as u8))],
                summary: Some(summary),
                live: None,
                tombstone: None,
            })
            .collect();
        let frame = FromRelay::Rows { cursor: 10_000, reset: true, rows, complete: true };
        let bytes = cbor::encode(&frame);
        self.plain("catalog snapshot of 10,000 rows", bytes.len() as f64 / 1e6, "MB", Some(1.5));
        let encodes = self.time(5, || cbor::encode(&frame));
        self.timed("  written", Some((100.0, 100.0)), &encodes);
        let decodes = self.time(5, || cbor::decode::<FromRelay>(&bytes).expect("it was written just now"));
        self.timed("  read", None, &decodes);
    }
}

/// All that a view of a session needs.
fn derive(document: &Automerge, writers: &Writers, id: DocumentId) -> (Session, Conversation, Summary) {
    let session = read::session(document);
    let conversation = conversation(&session, &Leases::default(), writers, NOW);
    let row = summary(id, &session, &conversation, NOW);
    (session, conversation, row)
}

/// Rows as lists hold them: names, costs and times spread, some paused, failed or queued.
fn rows(count: usize) -> Vec<Summary> {
    let mut dice = Dice::new(4);
    let letters: Vec<char> = "kbt".chars().collect();
    let row = |n: usize| {
        let mut row = summary(DocumentId::random(), &Session::default(), &Conversation::default(), NOW);
        row.name = prose(&mut dice, 6);
        row.preview = prose(&mut dice, 40);
        row.strand = (0..24).map(|_| letters[dice.below(3)]).collect();
        row.agent = Some(format!("5Qm2vKTrbLcXyq8WnJd3A{}", dice.below(8)));
        row.cost_micros = (dice.below(10) > 0).then(|| Micros(dice.below(4_000_000) as u64));
        row.duration_ms = dice.below(900_000) as u64;
        row.created_at = Some(Timestamp(NOW.0 - dice.below(500_000) as u64 * 60_000));
        row.updated_at = row.created_at.map(|at| Timestamp(at.0 + dice.below(90_000_000) as u64));
        row.position = Some(format!("{:010}", n + 1));
        match dice.below(12) {
            0 => (row.status, row.reason) = (Status::Paused, Some(Reason::Approval { calls: vec!["c".repeat(22)] })),
            1 => row.status = Status::Failed,
            2 => row.queued = Queued { count: 1, held: false, reason: None },
            _ => {}
        }
        row
    };
    (0..count).map(row).collect()
}
