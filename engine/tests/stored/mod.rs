//! Documents with everything in them that this version writes, made by its own writers with fixed ids: what stored
//! fixtures are made from, what the JSON Schema must allow, and what is broken at random.

#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use automerge::transaction::Transaction;
use automerge::{ActorId, AutoSerde, Automerge};
use serde_json::Value;
use skein_engine::ids::{DocumentId, Epoch, Micros, Timestamp};
use skein_engine::price::Rates;
use skein_engine::profile::{self, Arrange, Listed, arrange};
use skein_engine::session::command::{self, Attachment, Command, Draft, Given, NewSession};
use skein_engine::session::conversation::{Conversation, Leases, MemberRole, Writer, WriterKind, Writers};
use skein_engine::session::model::{
    CallState, Continues, Cost, Origin, Part, PartKind, ProviderData, Run, RunError, RunState, Session, ToolCall, Usage,
};
use skein_engine::session::{conversation, read, write};
use skein_engine::testing;
use skein_engine::workspace::{self, create_profile, create_workspace};

pub const NOW: Timestamp = Timestamp(1_764_000_000_000);

pub fn actor(number: u8) -> ActorId {
    ActorId::from(vec![number; 16])
}

const PERSON: u8 = 1;
const WORKER: u8 = 2;

/// Who wrote these documents.
pub fn writers() -> Writers {
    let writer = |name: &str, kind| Writer { principal: name.to_owned().into(), kind, role: MemberRole::Owner };
    let mut writers = Writers::default();
    writers.rows.insert(actor(PERSON), writer("person", WriterKind::Member));
    writers.rows.insert(actor(WORKER), writer("worker", WriterKind::Worker));
    writers
}

pub fn see(document: &Automerge) -> (Session, Conversation) {
    let session = read::session(document);
    let conversation = conversation(&session, &Leases::default(), &writers(), NOW);
    (session, conversation)
}

/// As any program sees it that reads documents.
pub fn json(document: &Automerge) -> Value {
    serde_json::to_value(AutoSerde::from(document)).unwrap()
}

fn change<T, E: std::fmt::Debug>(
    document: &mut Automerge,
    by: u8,
    write: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
) -> T {
    document.set_actor(actor(by));
    let mut tx = document.transaction();
    let value = write(&mut tx).unwrap();
    tx.commit();
    value
}

pub fn command(document: &mut Automerge, command: &Command) -> Option<String> {
    let (session, seen) = see(document);
    let given = Given { by: "person", at: NOW, id: None };
    change(document, PERSON, |tx| command::apply(tx, &session, &seen, command, &given)).id
}

fn send(document: &mut Automerge, text: &str, files: Vec<Attachment>) -> String {
    let draft = Draft {
        text: text.into(),
        attachments: Some(files).filter(|files| !files.is_empty()),
        action: Some("action1".into()),
        ..Draft::default()
    };
    command(document, &Command::Send(draft)).unwrap()
}

fn file() -> Attachment {
    Attachment { blob: "ab".repeat(32), mime: "image/png".into(), name: "a.png".into(), size: 3 }
}

fn run(turn: &str, answers: &[&str], epoch: u64) -> Run {
    Run {
        agent: Some("agent1".into()),
        model: Some("some-model".into()),
        provider: Some("local".into()),
        preamble: Some("cd".repeat(32)),
        worker: Some("worker-peer".into()),
        started_at: Some(NOW),
        ..Run::new(turn, Epoch(epoch), answers.iter().map(|id| (*id).to_owned()).collect())
    }
}

const USAGE: Usage =
    Usage { input: 100, output: 20, reasoning: 5, cache_read: 50, cache_write: 7, cache_write_long: 3 };

/// Begins a run, says these parts and ends it; the message's id.
fn answer(document: &mut Automerge, run: &Run, parts: &[Part], end: RunState, why: &str) -> String {
    let error = RunError { code: "network".into(), message: "The link was lost.".into(), retryable: true };
    change(document, WORKER, |tx| {
        let prices = Rates::from_json(r#"{"input":1.0,"output":2.0}"#);
        write::begin_run(tx, &Run { prices, ..run.clone() })?;
        write::set_context(tx, &run.key(), 1_200, Some(Timestamp(NOW.0 + 300_000)))
    });
    let message = change(document, WORKER, |tx| write::begin_message(tx, run, "agent1", NOW));
    change(document, WORKER, |tx| parts.iter().try_for_each(|part| write::push_part(tx, &message, part).map(drop)));
    let cost = Cost { micros: Some(Micros(1234)), estimated: true, reported: true, ..Cost::default() };
    change(document, WORKER, |tx| {
        write::set_usage(tx, &run.key(), &USAGE, &cost)?;
        let error = (end == RunState::Failed).then_some(&error);
        write::end_run(tx, &run.key(), end, why, error, Timestamp(NOW.0 + 1500))
    });
    message
}

fn part(kind: PartKind) -> Part {
    Part { kind, provider: None }
}

fn call(id: &str, input: Option<&str>, state: CallState) -> Part {
    let call = ToolCall {
        id: id.into(),
        provider_id: Some("call_0".into()),
        name: "read_file".into(),
        input: input.map(str::to_owned),
        state,
    };
    part(PartKind::ToolCall(call))
}

/// A session in which everything has happened that a document of this version can hold.
pub fn session() -> Automerge {
    testing::seed(Some(7));
    let mut document = Automerge::new();
    let new = NewSession {
        name: Some("Everything".into()),
        agent: Some("agent1".into()),
        message: Some("one".into()),
        attachments: Some(vec![file()]),
        action: Some("action1".into()),
        position: Some("0000000001".into()),
        origin: Some(Origin::Task { task: "task1".into(), run: "run1".into() }),
        spend_limit: Some(Micros(5_000_000)),
    };
    change(&mut document, PERSON, |tx| command::create(tx, &new, &Given { by: "person", at: NOW, id: None }));
    let first = see(&document).1.queued[0].id.clone();
    let provider = Some(ProviderData { kind: "anthropic".into(), data: r#"{"signature":"x"}"#.into() });
    let said = answer(
        &mut document,
        &run(&first, &[&first], 10),
        &[
            Part { kind: PartKind::Thinking("hm".into()), provider },
            part(PartKind::Text("Half an".into())),
            call("call1", Some(r#"{"path":"a"}"#), CallState::Waiting),
        ],
        RunState::Paused,
        "approval",
    );
    change(&mut document, WORKER, |tx| write::push_chunk(tx, &said, 1, " answer"));
    command(&mut document, &Command::Approve { call: "call1".into(), for_session: true });
    let mut next = run(&first, &[&first], 11);
    next.place = Epoch(10);
    next.continues = Some(Continues { message: said, part: 2, bytes: 0 });
    let result = PartKind::ToolResult {
        call: "call1".into(),
        content: "contents".into(),
        is_error: false,
        blob: Some("ef".repeat(32)),
    };
    let parts = [
        call("call1", None, CallState::Running),
        part(result),
        part(PartKind::Other { summary: "searched the web".into() }),
        part(PartKind::Event { summary: "a worker was lost".into() }),
        part(PartKind::Error { code: "network".into(), message: "lost".into(), retryable: true }),
    ];
    let told = answer(&mut document, &next, &parts, RunState::Failed, "error");
    command(&mut document, &Command::Continue);
    let request = see(&document).1.work.unwrap().request;
    let mut last = run(&first, &[&first], 12);
    (last.place, last.request) = (Epoch(10), request);
    last.continues = Some(Continues { message: told.clone(), part: 4, bytes: 0 });
    answer(&mut document, &last, &[call("call2", Some("{}"), CallState::Waiting)], RunState::Paused, "approval");
    command(&mut document, &Command::Deny { call: "call2".into(), reason: Some("no".into()) });
    command(&mut document, &Command::Omit { message: told, part: 1 });
    let second = send(&mut document, "two", vec![]);
    let begun = run(&second, &[&second], 13);
    change(&mut document, WORKER, |tx| write::begin_run(tx, &begun));
    let leases = Leases { live: Some(Epoch(13)), workers: Some(1) };
    let live = |document: &mut Automerge, command: &Command| {
        let session = read::session(document);
        let seen = conversation(&session, &leases, &writers(), NOW);
        let given = Given { by: "person", at: NOW, id: None };
        change(document, PERSON, |tx| command::apply(tx, &session, &seen, command, &given)).id
    };
    let queued = live(&mut document, &Command::queue("three")).unwrap();
    live(&mut document, &Command::Steer { message: queued.clone() });
    live(&mut document, &Command::Pause);
    let cost = Cost { micros: Some(Micros(1)), ..Cost::default() };
    change(&mut document, WORKER, |tx| {
        write::set_usage(tx, &begun.key(), &USAGE, &cost)?;
        write::end_run(tx, &begun.key(), RunState::Paused, "pause", None, NOW)
    });
    command(&mut document, &Command::Edit { message: queued, text: "three and a half".into(), detach: vec![] });
    command(&mut document, &Command::Retry { message: Some(second) });
    command(&mut document, &Command::SmartRename);
    change(&mut document, WORKER, |tx| write::set_auto_name(tx, "A title", Epoch(14)));
    command(&mut document, &Command::Rename { name: "Everything".into() });
    command(&mut document, &Command::Archive);
    command(&mut document, &Command::Delete);
    testing::seed(None);
    document
}

/// A workspace, with one of each.
pub fn workspace() -> Automerge {
    testing::seed(Some(8));
    let mut document = create_workspace("Home").unwrap();
    let commands = [
        r#"{"type": "set-day-limit", "limit": 5000000}"#,
        r#"{"type": "add-agent", "name": "Reader", "fields": []}"#,
        r#"{"type": "add-action", "name": "Sum up", "template": "Sum up {{text}}", "fields": []}"#,
        r#"{"type": "set-integration", "integration": "files", "enabled": true}"#,
        r#"{"type": "set-policy", "integration": "files", "tool": "read_file", "policy": "allow"}"#,
    ];
    for command in commands {
        let command = serde_json::from_str(command).unwrap();
        let seen = workspace::workspace(&document);
        let given = Given { by: "person", at: NOW, id: None };
        change(&mut document, PERSON, |tx| workspace::command::apply(tx, &seen, &command, &given));
    }
    testing::seed(None);
    document
}

pub const LISTED: [[u8; 16]; 2] = [[3; 16], [4; 16]];

/// A profile with an order and a pin.
pub fn profile() -> Automerge {
    testing::seed(Some(9));
    let mut document = create_profile().unwrap();
    let [one, two] = LISTED.map(DocumentId::from_bytes);
    let list = [(one, "0000000001"), (two, "0000000002")];
    for command in [Arrange::Move { session: two, before: Some(one) }, Arrange::Pin { session: one }] {
        let seen = profile::read(&document);
        let listed = list.iter().map(|(session, own)| Listed { session: *session, own: Some((*own).to_owned()) });
        let listed: Vec<Listed> = listed.collect();
        change(&mut document, PERSON, |tx| arrange(tx, &seen, listed.clone(), &command, NOW));
    }
    testing::seed(None);
    document
}
