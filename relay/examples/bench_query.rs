//! The figures of queries: `cargo xtask bench query [--json FILE]`. A workspace of 100,000 messages, made up but shaped as
//! real ones are (few words are frequent, most are rare; a session's messages follow one another), is asked every kind of
//! question, each of a file that was just opened, as over HTTP. Not a test: nothing here passes or fails.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::Instant;

use skein_engine::ids::{DocumentId, Micros, Scope, Timestamp};
use skein_engine::session::model::Usage;
use skein_relay::queries::ask::{By, Filter};
use skein_relay::queries::page::{CallRow, MessageRow, Page, RunRow};
use skein_relay::queries::store::Store;

const SESSIONS: u64 = 1_000;
const MESSAGES: u64 = 100;
/// Each kind of question is asked so often.
const TIMES: usize = 100;
/// The first message's time.
const FIRST: u64 = 1_770_000_000_000;

/// Numbers that look random and are the same each time (a linear congruential generator, Knuth's constants).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    /// Of some 16,000 words, the first are the most frequent.
    fn word(&mut self) -> String {
        let bits = self.below(15);
        let rank = self.below(1 << bits);
        let syllables = ["ka", "lo", "mi", "ren", "tas", "vu", "xe", "bor", "ned", "fi"];
        let mut word: String = rank.to_string().bytes().map(|digit| syllables[usize::from(digit - b'0')]).collect();
        if rank % 50 == 7 {
            word.push_str("東京の天気");
        }
        word
    }

    fn text(&mut self, most: u64) -> String {
        let words = 5 + self.below(most);
        (0..words).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }
}

fn document(session: u64) -> DocumentId {
    DocumentId::from_bytes(u128::from(session + 1).to_be_bytes())
}

fn page(session: u64, numbers: &mut Numbers) -> Page {
    let (agent, model) = (Some(format!("agent{}", numbers.below(8))), Some(format!("p/model{}", numbers.below(5))));
    let action = (numbers.below(10) == 0).then(|| format!("action{}", numbers.below(6)));
    let begun = FIRST + session * 3_600_000 * 6;
    let mut page = Page {
        scope: Scope::from("w/bench"),
        session: document(session),
        heads: Vec::new(),
        deleted: false,
        name: numbers.text(3),
        task: (numbers.below(5) == 0).then(|| format!("task{}", numbers.below(4))),
        messages: Vec::new(),
        calls: Vec::new(),
        runs: Vec::new(),
    };
    for n in 0..MESSAGES {
        let called = (n % 2 == 1 && numbers.below(3) == 0).then(|| format!("tool{}", numbers.below(12)));
        let (at, asks) = (Timestamp(begun + n * 45_000), n % 2 == 0);
        let status = if numbers.below(40) == 0 { "failed" } else { "completed" };
        page.messages.push(MessageRow {
            id: format!("{session}-{n}"),
            role: if asks { "user" } else { "assistant" },
            author: None,
            agent: agent.clone(),
            model: model.clone(),
            action: action.clone(),
            status,
            at,
            tools: called.iter().cloned().collect(),
            text: numbers.text(if asks { 40 } else { 200 }),
        });
        if asks {
            continue;
        }
        page.runs.push(RunRow {
            key: format!("{session}-{n}/1"),
            turn: format!("{session}-{n}"),
            agent: agent.clone(),
            model: model.clone(),
            action: action.clone(),
            status,
            started: at,
            ended: Some(Timestamp(at.0 + 20_000)),
            usage: Usage { input: numbers.below(9_000), output: numbers.below(900), ..Usage::default() },
            cost: Some(Micros(numbers.below(50_000))),
            ..RunRow::default()
        });
        if let Some(tool) = called {
            page.calls.push(CallRow {
                id: format!("{session}-{n}c"),
                message: format!("{session}-{n}"),
                tool,
                status: if numbers.below(30) == 0 { "failed" } else { "done" },
                agent: agent.clone(),
                model: model.clone(),
                action: action.clone(),
                at,
                input: format!("{{\"path\": \"{}\"}}", numbers.word()),
                result: Some(numbers.text(150)),
            });
        }
    }
    page
}

/// A question: its name, and what gives how many rows.
type Question = (&'static str, Box<dyn Fn(&Store) -> usize>);

fn messages(name: &'static str, narrow: impl FnOnce(&mut Filter)) -> Question {
    let filter = filter(narrow);
    (name, Box::new(move |store| store.messages(&filter).unwrap().rows.len()))
}

fn calls(name: &'static str, narrow: impl FnOnce(&mut Filter)) -> Question {
    let filter = filter(narrow);
    (name, Box::new(move |store| store.calls(&filter).unwrap().rows.len()))
}

fn runs(name: &'static str, narrow: impl FnOnce(&mut Filter)) -> Question {
    let filter = filter(narrow);
    (name, Box::new(move |store| store.runs(&filter).unwrap().rows.len()))
}

fn report(name: &'static str, by: By, zone: Option<&'static str>) -> Question {
    (name, Box::new(move |store| store.cost(by, zone, None, None).unwrap().len()))
}

fn filter(narrow: impl FnOnce(&mut Filter)) -> Filter {
    let mut filter = Filter { limit: 50, ..Filter::default() };
    narrow(&mut filter);
    filter
}

fn word(word: &str) -> Option<String> {
    Some(word.to_owned())
}

fn questions() -> Vec<Question> {
    let middle = Timestamp(FIRST + SESSIONS * 3_600_000 * 3);
    vec![
        messages("messages, newest", |_| {}),
        messages("messages, 500 of a role", |f| (f.role, f.limit) = (word("user"), 500)),
        messages("messages of a session", |f| f.session = Some(document(10).to_string())),
        messages("messages of an agent and a model, failed", |f| {
            (f.agent, f.model, f.status) = (word("agent3"), word("p/model2"), word("failed"));
        }),
        messages("messages of an action before a time", |f| (f.action, f.until) = (word("action2"), Some(middle))),
        messages("messages that call a tool", |f| f.tool = word("tool4")),
        messages("messages that call a tool that nobody called", |f| f.tool = word("tool99")),
        messages("messages of an agent that isn't there", |f| f.agent = word("nobody")),
        messages("a frequent word", |f| f.text = word("ka")),
        messages("500 with a frequent word", |f| (f.text, f.limit) = (word("ka"), 500)),
        messages("a rare word", |f| f.text = word("lomirentasvu")),
        messages("a letter", |f| f.text = word("k")),
        messages("two frequent words of an agent, failed", |f| {
            (f.text, f.agent, f.status) = (word("lo mi"), word("agent5"), word("failed"));
        }),
        messages("a frequent word in an old session", |f| {
            (f.text, f.session) = (word("ka"), Some(document(5).to_string()));
        }),
        messages("a frequent word of an agent that isn't there", |f| (f.text, f.agent) = (word("ka"), word("nobody"))),
        messages("a frequent word before most", |f| (f.text, f.until) = (word("ka"), Some(Timestamp(FIRST + 90_000)))),
        messages("a phrase of Japanese", |f| f.text = word("東京の天気")),
        calls("calls of a tool that failed", |f| (f.tool, f.status) = (word("tool3"), word("failed"))),
        calls("a word in calls", |f| f.text = word("ren")),
        runs("runs that failed", |f| f.status = word("failed")),
        runs("runs of at least 4 cents", |f| f.min_cost = Some(40_000)),
        runs("runs that cost more than any", |f| f.min_cost = Some(90_000)),
        report("cost by agent", By::Agent, None),
        report("cost by model", By::Model, None),
        report("cost by task", By::Task, None),
        report("cost by day in Auckland", By::Day, Some("Pacific/Auckland")),
    ]
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let json = arguments.by_ref().find(|argument| argument == "--json").and_then(|_| arguments.next());
    let path = std::env::temp_dir().join(format!("skein-bench-query-{}", std::process::id())).join("bench.sqlite");
    let mut numbers = Numbers(7);
    let begun = Instant::now();
    let mut store = Store::own(&path).unwrap();
    (0..SESSIONS).for_each(|session| store.put(&page(session, &mut numbers)).unwrap());
    drop(store);
    println!("{} messages written in {:.1} s", SESSIONS * MESSAGES, begun.elapsed().as_secs_f64());

    let mut figures = Vec::new();
    let mut worst: f64 = 0.0;
    for (name, ask) in questions() {
        let mut rows = 0;
        let mut took: Vec<f64> = (0..TIMES)
            .map(|_| {
                let begun = Instant::now();
                let mut store = Store::open(&path).unwrap();
                store.hurry().unwrap();
                rows = ask(&store);
                begun.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        took.sort_by(f64::total_cmp);
        let p99 = took[TIMES * 99 / 100 - 1];
        worst = worst.max(p99);
        println!("{name:<48} p50 {:>8.2} ms   p99 {p99:>8.2} ms   {rows} rows", took[TIMES / 2]);
        figures.push((format!("{name}, p99"), p99));
    }
    println!("the slowest of them, p99: {worst:.2} ms (target: at most 20 ms)");
    figures.push(("any filter, search or report over 100,000 messages, p99".to_owned(), worst));
    if let Some(file) = json {
        let rows: Vec<serde_json::Value> = figures
            .iter()
            .map(|(figure, value)| serde_json::json!({"figure": figure, "value": value, "unit": "ms", "target": 20}))
            .collect();
        std::fs::write(&file, serde_json::to_vec_pretty(&rows).unwrap()).unwrap();
    }
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}
