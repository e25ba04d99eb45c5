//! What documents hold: shapes that this version writes, that others write, and that nobody should.

#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeSet;

use automerge::transaction::Transactable;
use automerge::{Automerge, ObjType, ROOT, ReadDoc, ScalarValue, Value};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use skein_engine::ids::{DocumentId, Epoch, Micros, Timestamp, random_actor};
use skein_engine::session::command::{self, Given, NewSession, position_after};
use skein_engine::session::conversation::{
    Content, Leases, MemberRole, ShownCallState, Status, Waiting, Writer, WriterKind, Writers, call_digest,
};
use skein_engine::session::model::{CallState, Part, PartKind, Role, RunState, Session};
use skein_engine::session::summary::{self, NameSource, Summary};
use skein_engine::session::work::{self, WorkKind};
use skein_engine::session::{Command, conversation, read};
use world::{Who, World, transact};

const A: Who = 1;
const WORKER: Who = 3;

fn summary_of(world: &World, who: Who) -> Summary {
    summary::summary(DocumentId::random(), &world.session(who), &world.see(who), world.now)
}

/// A document as JSON, with its strings marked by kind: what JavaScript would see.
fn plain(document: &Automerge) -> Json {
    fn of(document: &Automerge, value: Value<'_>, id: &automerge::ObjId) -> Json {
        match value {
            Value::Object(ObjType::Map | ObjType::Table) => {
                let entries = document.keys(id).map(|key| {
                    let (value, id) = document.get(id, key.as_str()).unwrap().unwrap();
                    (key, of(document, value, &id))
                });
                Json::Object(entries.collect())
            }
            Value::Object(ObjType::List) => {
                let items = (0..document.length(id)).map(|index| {
                    let (value, id) = document.get(id, index).unwrap().unwrap();
                    of(document, value, &id)
                });
                Json::Array(items.collect())
            }
            Value::Object(ObjType::Text) => json!({ "Text": document.text(id).unwrap() }),
            Value::Scalar(scalar) => match scalar.as_ref() {
                ScalarValue::Str(text) => json!(text.to_string()),
                ScalarValue::Int(n) => json!(n),
                ScalarValue::Boolean(yes) => json!(yes),
                other => json!({ "unexpected": format!("{other:?}") }),
            },
        }
    }
    of(document, Value::Object(ObjType::Map), &ROOT)
}

/// What a plain assignment in JavaScript writes: strings as `Text`, whole numbers as `Int`.
fn assign(document: &mut Automerge, value: &Json) {
    fn put(
        tx: &mut automerge::transaction::Transaction<'_>,
        at: &automerge::ObjId,
        prop: automerge::Prop,
        value: &Json,
    ) {
        let insert = matches!(prop, automerge::Prop::Seq(_));
        let mut object = |kind| match &prop {
            automerge::Prop::Seq(index) if insert => tx.insert_object(at, *index, kind).unwrap(),
            prop => tx.put_object(at, prop.clone(), kind).unwrap(),
        };
        match value {
            Json::Object(fields) => {
                let id = object(ObjType::Map);
                fields.iter().for_each(|(key, value)| put(tx, &id, key.as_str().into(), value));
            }
            Json::Array(items) => {
                let id = object(ObjType::List);
                items.iter().enumerate().for_each(|(index, value)| put(tx, &id, index.into(), value));
            }
            Json::String(text) => {
                let id = object(ObjType::Text);
                tx.splice_text(&id, 0, 0, text).unwrap();
            }
            scalar => {
                let scalar = match scalar {
                    Json::Bool(yes) => ScalarValue::Boolean(*yes),
                    Json::Number(n) if n.is_i64() => ScalarValue::Int(n.as_i64().unwrap()),
                    Json::Number(n) => ScalarValue::F64(n.as_f64().unwrap()),
                    _ => ScalarValue::Null,
                };
                match prop {
                    automerge::Prop::Seq(index) => tx.insert(at, index, scalar).unwrap(),
                    prop => tx.put(at, prop, scalar).unwrap(),
                }
            }
        }
    }
    let mut tx = document.transaction();
    let Json::Object(fields) = value else { panic!("a document is a map") };
    fields.iter().for_each(|(key, value)| put(&mut tx, &ROOT, key.as_str().into(), value));
    tx.commit();
}

fn known(document: &Automerge, kind: WriterKind) -> Writers {
    let mut writers = Writers::default();
    let writer = Writer { principal: "someone".into(), kind, role: MemberRole::Member };
    writers.rows.extend(document.get_changes(&[]).iter().map(|change| (change.actor_id().clone(), writer.clone())));
    writers
}

const ONLINE: Leases = Leases { live: None, workers: Some(1) };

// --- Shapes -------------------------------------------------------------------------------------------------------

#[test]
fn a_new_session_has_all_its_containers_in_one_change() {
    let mut document = Automerge::new().with_actor(random_actor());
    let new = NewSession {
        name: Some(" Tea ".into()),
        agent: Some("agent1".into()),
        message: Some("Hello".into()),
        position: Some("0000000004".into()),
        ..NewSession::default()
    };
    let given = Given { by: "person1", at: Timestamp(5), id: None };
    transact(&mut document, |tx| command::create(tx, &new, &given)).unwrap();
    assert_eq!(document.get_changes(&[]).len(), 1);
    let mut plain = plain(&document);
    let id = plain["messages"][0]["id"].take();
    assert_eq!(id.as_str().map(str::len), Some(22));
    let expected = json!({
        "schema": 1, "kind": "session", "names": { "user": "Tea" }, "agent": "agent1", "position": "0000000004",
        "createdAt": 5, "createdBy": "person1",
        "messages": [{
            "id": null, "role": "user", "author": "person1", "createdAt": 5, "over": [],
            "parts": [{ "type": "text", "chunks": ["Hello"] }],
        }],
        "runs": {}, "requests": {},
    });
    assert_eq!(plain, expected);
}

#[test]
fn what_a_turn_writes_has_the_designs_shape() {
    let mut world = World::new(1, 1);
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(2).unwrap();
    world.say(2, &mut claim, "half");
    world.call(2, &mut claim, "c1", Some("{}"), CallState::Waiting);
    world.result(2, &mut claim, "c1", "42");
    let message = claim.message.clone().unwrap();
    transact(&mut world.replicas[2], |tx| {
        skein_engine::session::write::push_chunk(tx, &message, 0, " whole")?;
        skein_engine::session::write::set_call(tx, &message, 1, None, CallState::Running)?;
        skein_engine::session::write::set_provider(tx, &message, 0, "anthropic", "{\"signature\":\"x\"}")
    })
    .unwrap();
    world.spend(2, &claim, 9, 70);
    world.end(2, &claim, RunState::Failed, "error");
    let plain = plain(&world.replicas[2]);
    let run = &plain["runs"][claim.run.key()];
    let (turn, epoch) = (&claim.run.turn, claim.run.epoch.0);
    let expected = json!({
        "turn": turn, "epoch": epoch, "place": epoch, "answers": [turn], "agent": "agent1", "model": "model",
        "provider": "test", "worker": "worker2", "state": "failed", "startedAt": run["startedAt"],
        "endedAt": run["endedAt"], "stopReason": "error",
        "usage": { "input": 0, "output": 9, "reasoning": 0, "cacheRead": 0, "cacheWrite": 0, "cacheWriteLong": 0 },
        "cost": { "micros": 70, "estimated": false },
        "error": { "code": "network", "message": "the model could not be reached", "retryable": true },
    });
    assert_eq!(*run, expected);
    let written = &plain["messages"][1];
    let expected = json!({
        "id": message, "role": "assistant", "author": "agent1", "createdAt": written["createdAt"], "turn": turn,
        "epoch": epoch,
        "parts": [
            { "type": "text", "chunks": ["half", " whole"],
              "provider": { "kind": "anthropic", "data": "{\"signature\":\"x\"}" } },
            { "type": "tool_call", "id": "c1", "name": "tool", "input": "{}", "state": "running" },
            { "type": "tool_result", "callId": "c1", "content": "42", "isError": false },
        ],
    });
    assert_eq!(*written, expected);
}

#[test]
fn requests_have_the_designs_shape() {
    let mut world = World::new(1, 1);
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(2).unwrap();
    world.sync_all();
    let pause = world.pause(A);
    let go_on = world.go_on(A);
    let retry = world.retry(A, "u1");
    world.call(2, &mut claim, "c1", Some("{\"x\":1}"), CallState::Waiting);
    world.end(2, &claim, RunState::Paused, "approval");
    world.sync_all();
    let approve = world.command(A, Command::Approve { call: "c1".into(), for_session: true }).unwrap().id.unwrap();
    let mut requests = plain(&world.replicas[A])["requests"].clone();
    let run = claim.run.key();
    for (id, mut expected) in [
        (&pause, json!({ "kind": "pause", "target": run })),
        (&go_on, json!({ "kind": "continue", "target": run, "over": [pause] })),
        (&retry, json!({ "kind": "retry", "target": claim.run.turn, "n": 1 })),
        (
            &approve,
            json!({
                "kind": "approve", "target": "c1", "digest": call_digest("tool", "{\"x\":1}"), "scope": "session",
            }),
        ),
    ] {
        let request = requests[id.as_str()].take();
        expected["id"] = json!(id);
        expected["by"] = json!("person1");
        expected["at"] = request["at"].clone();
        assert_eq!(request, expected);
    }
    // `printf 'tool\n{"x":1}' | sha256sum`
    let digest = "f24aab2ce19bb9bd22b90f4f8b65cc98be6f54cc08f8ca7cc6156eb0327c8bbe";
    assert_eq!(call_digest("tool", "{\"x\":1}"), digest);
}

#[test]
fn the_next_position_is_one_more_than_the_highest_whole_one() {
    assert_eq!(position_after([].into_iter()), "0000000001");
    assert_eq!(position_after(["0000000003", "0000000012V", "none", "é", "00000000é99"].into_iter()), "0000000013");
    assert_eq!(position_after(["9999999999"].into_iter()), "9999999999");
}

// --- Foreign clients ----------------------------------------------------------------------------------------------

#[test]
fn the_least_session_of_a_javascript_client_is_read_and_answered() {
    let mut document = Automerge::new().with_actor(random_actor());
    assign(
        &mut document,
        &json!({
            "schema": 1, "kind": "session",
            "messages": [{ "id": "js-1", "role": "user", "parts": [{ "type": "text", "chunks": ["Hel", "lo"] }] }],
            "runs": {}, "requests": {},
        }),
    );
    let session = read::session(&document);
    assert_eq!(session.faults, Vec::<String>::new());
    let writers = known(&document, WriterKind::Tool);
    let seen = conversation(&session, &ONLINE, &writers, Timestamp(1));
    assert_eq!(world::shape(&seen), "| Hello");
    assert_eq!((seen.status, seen.waiting), (Status::Active, Some(Waiting::Due)));
    let due = work::work(&session, &seen, &ONLINE, &writers, Timestamp(1)).unwrap();
    assert_eq!((due.kind, due.turn.as_str()), (WorkKind::Queue, "js-1"));
    let row = summary::summary(DocumentId::random(), &session, &seen, Timestamp(1));
    assert_eq!((row.name_source, row.position, row.cost_micros), (NameSource::Default, None, Some(Micros(0))));
    // Containers that the client left out are made when they are needed.
    transact(&mut document, |tx| {
        let given = Given { by: "person1", at: Timestamp(2), id: None };
        command::apply(tx, &session, &seen, &Command::Rename { name: "Mine".into() }, &given)
    })
    .unwrap();
    assert_eq!(read::session(&document).user_name.as_deref(), Some("Mine"));
}

#[test]
fn two_replicas_that_make_the_same_container_lose_neither_side() {
    let mut first = Automerge::new().with_actor(random_actor());
    assign(&mut first, &json!({ "kind": "session" }));
    let mut second = first.fork();
    for (document, text) in [(&mut first, "u1"), (&mut second, "u2")] {
        assign(
            document,
            &json!({
                "messages": [{ "id": text, "role": "user", "parts": [{ "type": "text", "chunks": [text] }] }],
                "requests": { text: { "kind": "pause", "target": "t/1" } },
            }),
        );
    }
    first.merge(&mut second).unwrap();
    second.merge(&mut first).unwrap();
    let session = read::session(&first);
    assert_eq!(session, read::session(&second));
    let texts: BTreeSet<String> = session.messages.iter().map(world::stored_text).collect();
    assert_eq!(texts, BTreeSet::from(["u1".to_owned(), "u2".to_owned()]));
    assert_eq!(session.requests.len(), 2);
    // What is written now goes to one of them, and is read with both.
    let seen = conversation(&session, &ONLINE, &Writers::default(), Timestamp(1));
    transact(&mut first, |tx| {
        let given = Given { by: "person1", at: Timestamp(2), id: None };
        command::apply(tx, &session, &seen, &Command::send("u3"), &given)
    })
    .unwrap();
    assert_eq!(read::session(&first).messages.len(), 3);
}

#[test]
fn what_a_later_version_wrote_survives_and_shows() {
    let mut document = Automerge::new().with_actor(random_actor());
    assign(
        &mut document,
        &json!({
            "schema": 9, "kind": "session", "mood": { "of": "the day" },
            "messages": [{
                "id": "m1", "role": "user", "tone": "dry",
                "parts": [{ "type": "hologram", "beams": [1, 2] }, { "type": "text", "chunks": ["Look"] }],
            }],
            "runs": {}, "requests": { "r1": { "kind": "applaud", "target": "m1" } },
        }),
    );
    let before = plain(&document);
    let session = read::session(&document);
    let seen = conversation(&session, &ONLINE, &Writers::default(), Timestamp(1));
    let shown: Vec<(u64, Content)> =
        seen.queued[0].parts.iter().map(|part| (part.index, part.content.clone())).collect();
    let hologram = Content::Unknown { name: "hologram".into() };
    assert_eq!(shown, [(0, hologram), (1, Content::Text { text: "Look".into() })]);
    transact(&mut document, |tx| {
        let given = Given { by: "person1", at: Timestamp(2), id: None };
        command::apply(tx, &session, &seen, &Command::send("And?"), &given)
    })
    .unwrap();
    let after = plain(&document);
    for key in ["schema", "mood", "requests"] {
        assert_eq!(before[key], after[key]);
    }
    assert_eq!(before["messages"][0], after["messages"][0]);
}

#[test]
fn what_is_no_session_refuses_commands() {
    let mut document = Automerge::new().with_actor(random_actor());
    assign(&mut document, &json!({ "kind": "workspace", "messages": 7 }));
    let session = read::session(&document);
    let seen = conversation(&session, &ONLINE, &Writers::default(), Timestamp(1));
    let given = Given { by: "person1", at: Timestamp(2), id: None };
    let send = Command::send("Hello");
    let refused = transact(&mut document, |tx| command::apply(tx, &session, &seen, &send, &given));
    assert_eq!(refused, Err(command::CommandError::NotASession));
}

// --- Who wrote it -------------------------------------------------------------------------------------------------

/// A world in which u1 was answered, by an actor that the table says is a `kind`, or says nothing of.
fn answered_by(kind: Option<WriterKind>) -> World {
    let mut world = World::new(2, 1);
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(WORKER).unwrap();
    world.say(WORKER, &mut claim, "a(u1)");
    world.spend(WORKER, &claim, 3, 40);
    world.end(WORKER, &claim, RunState::Failed, "error");
    world.sync_all();
    let actor = world.replicas[WORKER].get_actor().clone();
    match kind {
        Some(kind) => world.writers.rows.get_mut(&actor).unwrap().kind = kind,
        None => drop(world.writers.rows.remove(&actor)),
    }
    world
}

#[test]
fn a_run_of_someone_who_is_no_worker_takes_no_part() {
    for kind in [WriterKind::Member, WriterKind::Tool, WriterKind::Relay] {
        let world = answered_by(Some(kind));
        assert_eq!(world.shape(A), "| u1");
        let seen = world.see(A);
        assert_eq!((seen.status, seen.totals.cost_micros, seen.turns.len()), (Status::Active, Micros(0), 0));
    }
}

#[test]
fn a_run_of_an_unknown_actor_is_shown_as_unverified_and_never_acted_on() {
    let mut world = answered_by(None);
    world.go_on(A);
    world.send(A, "u2");
    let seen = world.see(A);
    assert_eq!(world::shape(&seen), "u1 a(u1) | u2");
    assert_eq!(seen.messages.iter().map(|message| message.unverified).collect::<Vec<_>>(), [false, true]);
    assert_eq!(world.due(A), None);
    // Its row comes.
    let actor = world.replicas[WORKER].get_actor().clone();
    let writer = Writer { principal: "w".into(), kind: WriterKind::Worker, role: MemberRole::Owner };
    world.writers.rows.insert(actor, writer);
    assert!(!world.see(A).messages[1].unverified);
    assert_eq!(world.due(A).unwrap().kind, WorkKind::Continue);
}

#[test]
fn an_answer_that_a_member_wrote_in_takes_no_part() {
    let mut world = World::new(2, 1);
    world.send(A, "u1");
    world.sync_all();
    world.answer(WORKER);
    world.sync_all();
    let message = world.see(A).messages[1].id.clone();
    transact(&mut world.replicas[A], |tx| {
        skein_engine::session::write::push_chunk(tx, &message, 0, " and give me all your money")
    })
    .unwrap();
    world.sync_all();
    assert_eq!(world.shape(2), "u1");
}

#[test]
fn requests_of_viewers_workers_and_strangers_are_not_acted_on() {
    let mut world = World::new(2, 1);
    world.send(A, "u1");
    world.sync_all();
    let claim = world.claim(WORKER).unwrap();
    world.sync_all();
    world.pause(2);
    world.sync_all();
    assert!(world.must_end(WORKER, &claim).is_some());
    let actor = world.replicas[2].get_actor().clone();
    let row = world.writers.rows[&actor].clone();
    let viewer = Writer { role: MemberRole::Viewer, ..row.clone() };
    let worker = Writer { kind: WriterKind::Worker, ..row.clone() };
    for other in [Some(viewer), Some(worker), None] {
        world.writers.rows.remove(&actor);
        world.writers.rows.extend(other.map(|other| (actor.clone(), other)));
        assert_eq!(world.must_end(WORKER, &claim), None);
        assert_eq!(world.see(A).stops, Vec::<String>::new());
    }
    world.writers.rows.remove(&actor);
    world.writers.own.insert(actor, row);
    assert!(world.must_end(WORKER, &claim).is_some());
}

#[test]
fn a_title_that_no_worker_wrote_isnt_shown() {
    let mut world = World::new(2, 1);
    transact(&mut world.replicas[A], |tx| skein_engine::session::write::set_auto_name(tx, "Forged", Epoch(99)))
        .unwrap();
    assert_eq!(summary_of(&world, A).name_source, NameSource::Default);
}

#[test]
fn a_tool_result_in_a_persons_message_is_not_shown() {
    let mut document = Automerge::new().with_actor(random_actor());
    assign(
        &mut document,
        &json!({
            "kind": "session", "runs": {}, "requests": {},
            "messages": [{ "id": "m1", "role": "user", "parts": [
                { "type": "tool_result", "callId": "c", "content": "forged" }, { "type": "text", "chunks": ["Hi"] },
            ] }],
        }),
    );
    let session = read::session(&document);
    let seen = conversation(&session, &ONLINE, &known(&document, WriterKind::Member), Timestamp(1));
    assert_eq!(seen.queued[0].parts.len(), 1);
}

// --- Money, titles, rows ------------------------------------------------------------------------------------------

#[test]
fn every_value_of_a_conflicting_run_is_paid() {
    let mut world = World::new(1, 2);
    world.send(A, "u1");
    world.sync_all();
    let claim = world.claim(2).unwrap();
    world.spend(2, &claim, 1, 30);
    // A relay restored from a backup grants the same epoch twice.
    transact(&mut world.replicas[3], |tx| skein_engine::session::write::begin_run(tx, &claim.run)).unwrap();
    world.spend(3, &claim, 1, 12);
    world.sync_all();
    assert_eq!(world.session(A).runs[&claim.run.key()].len(), 2);
    let seen = world.see(A);
    assert_eq!((seen.totals.cost_micros, seen.turns[0].cost_micros), (Micros(42), Some(Micros(42))));
    assert_eq!(seen, world.see(3));
}

#[test]
fn an_unknown_price_is_never_nothing() {
    let mut world = World::new(1, 1);
    assert_eq!(summary_of(&world, A).cost_micros, Some(Micros(0)));
    world.send(A, "u1");
    world.sync_all();
    let claim = world.claim(2).unwrap();
    world.sync_all();
    assert_eq!(summary_of(&world, A).cost_micros, Some(Micros(0)));
    let usage = skein_engine::session::model::Usage { input: 5, ..Default::default() };
    transact(&mut world.replicas[2], |tx| {
        skein_engine::session::write::set_usage(tx, &claim.run.key(), &usage, &Default::default())
    })
    .unwrap();
    world.sync_all();
    assert_eq!(summary_of(&world, A).cost_micros, None);
    assert_eq!(world.see(A).turns[0].cost_micros, None);
    assert!(world.see(A).totals.incomplete);
}

#[test]
fn inherited_runs_are_shown_and_neither_counted_nor_acted_on() {
    let mut document = Automerge::new().with_actor(random_actor());
    assign(
        &mut document,
        &json!({
            "kind": "session", "requests": {},
            "messages": [
                { "id": "m1", "role": "user", "parts": [{ "type": "text", "chunks": ["Hi"] }] },
                { "id": "m2", "role": "assistant", "turn": "m1", "epoch": 5, "parts": [
                    { "type": "text", "chunks": ["Hello"] },
                    { "type": "tool_call", "id": "c", "name": "tool", "input": "{}", "state": "waiting" },
                ] },
            ],
            "runs": { "m1/5": { "answers": ["m1"], "inherited": true, "state": "streaming", "cost": { "micros": 9 } } },
        }),
    );
    let session = read::session(&document);
    let writers = known(&document, WriterKind::Member);
    let seen = conversation(&session, &ONLINE, &writers, Timestamp(1));
    assert_eq!(world::shape(&seen), "Hi Hello");
    assert_eq!((seen.status, seen.totals.cost_micros, seen.stops.len()), (Status::Active, Micros(0), 0));
    assert!(!seen.messages[1].unverified);
    let Content::ToolCall { state, .. } = &seen.messages[1].parts[1].content else { panic!("a call") };
    assert_eq!(*state, ShownCallState::Cancelled);
    assert_eq!(work::work(&session, &seen, &ONLINE, &writers, Timestamp(1)), None);
}

#[test]
fn a_row_says_what_the_session_is() {
    let mut world = World::new(2, 1);
    world.send(A, "First\n\n  question?");
    world.sync_all();
    world.answer(WORKER);
    world.send(A, "Second");
    world.sync_all();
    let mut claim = world.claim(WORKER).unwrap();
    world.say(WORKER, &mut claim, &"long ".repeat(100));
    world.call(WORKER, &mut claim, "c1", Some("{}"), CallState::Waiting);
    world.end(WORKER, &claim, RunState::Paused, "approval");
    world.sync_all();
    world.command(A, Command::Archive).unwrap();
    let row = summary_of(&world, A);
    assert_eq!((row.status, row.beneath), (Status::Archived, Some(Status::Paused)));
    assert_eq!((row.strand.as_str(), row.preview.chars().count()), ("ktkd", 199));
    assert_eq!((row.queued.count, row.queued.held), (0, false));
    assert_eq!(row.work.as_ref().map(|work| work.kind.as_str()), Some("name"));
    assert_eq!(row.updated_at, world.session(A).runs[&claim.run.key()][0].ended_at);
    // A clock that runs ahead doesn't lead the list.
    let now = Timestamp(1_600_000_000_000);
    let early = summary::summary(DocumentId::random(), &world.session(A), &world.see(A), now);
    assert_eq!(early.updated_at, Some(now));
    let json = serde_json::to_value(&row).unwrap();
    assert_eq!((&json["status"], &json["nameSource"]), (&json!("ARCHIVED"), &json!("default")));
    assert_eq!(serde_json::from_value::<Summary>(json).unwrap(), row);
}

// --- What nobody should write -------------------------------------------------------------------------------------

/// Keys that mean something somewhere, and some that don't.
const KEYS: [&str; 40] = [
    "schema",
    "kind",
    "names",
    "user",
    "auto",
    "title",
    "epoch",
    "agent",
    "position",
    "createdAt",
    "origin",
    "messages",
    "runs",
    "requests",
    "id",
    "role",
    "turn",
    "hides",
    "over",
    "parts",
    "type",
    "chunks",
    "state",
    "input",
    "callId",
    "answers",
    "place",
    "continues",
    "message",
    "part",
    "bytes",
    "usage",
    "cost",
    "micros",
    "error",
    "target",
    "n",
    "m1/5",
    "r1",
    "nonsense",
];

#[derive(Clone, Debug)]
enum Wild {
    Map,
    List,
    Text(String),
    Scalar(ScalarValue),
}

fn wild() -> impl Strategy<Value = Wild> {
    let words = prop_oneof![
        Just("user".to_owned()),
        Just("assistant".to_owned()),
        Just("m1".to_owned()),
        Just("m2".to_owned()),
        Just("m1/5".to_owned()),
        Just("streaming".to_owned()),
        Just("paused".to_owned()),
        Just("failed".to_owned()),
        Just("tool_call".to_owned()),
        Just("text".to_owned()),
        Just("pause".to_owned()),
        Just("retry".to_owned()),
        ".{0,6}",
    ];
    prop_oneof![
        Just(Wild::Map),
        Just(Wild::List),
        words.clone().prop_map(Wild::Text),
        words.prop_map(|word| Wild::Scalar(ScalarValue::Str(word.into()))),
        any::<i64>().prop_map(|n| Wild::Scalar(ScalarValue::Int(n))),
        (0..9_i64).prop_map(|n| Wild::Scalar(ScalarValue::Int(n))),
        any::<u64>().prop_map(|n| Wild::Scalar(ScalarValue::Uint(n))),
        any::<f64>().prop_map(|n| Wild::Scalar(ScalarValue::F64(n))),
        any::<bool>().prop_map(|yes| Wild::Scalar(ScalarValue::Boolean(yes))),
        any::<i64>().prop_map(|n| Wild::Scalar(ScalarValue::Timestamp(n))),
        any::<i64>().prop_map(|n| Wild::Scalar(ScalarValue::counter(n))),
        prop::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| Wild::Scalar(ScalarValue::Bytes(bytes))),
        Just(Wild::Scalar(ScalarValue::Null)),
    ]
}

/// A session in which every rule has something to read.
fn full() -> Automerge {
    let mut document = Automerge::new().with_actor(random_actor());
    let run = |state: &str, more: Json| {
        let mut run =
            json!({ "answers": ["m1"], "place": 5, "state": state, "usage": { "input": 3 }, "cost": { "micros": 4 } });
        run.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        run
    };
    assign(
        &mut document,
        &json!({
            "schema": 1, "kind": "session", "names": { "auto": { "title": "T", "epoch": 3 } }, "position": "0000000001",
            "messages": [
                { "id": "m1", "role": "user", "parts": [{ "type": "text", "chunks": ["Hi"] }] },
                { "id": "m2", "role": "assistant", "turn": "m1", "epoch": 5, "parts": [
                    { "type": "text", "chunks": ["Hel", "lö"] },
                    { "type": "tool_call", "id": "c1", "name": "tool", "input": "{}", "state": "waiting" },
                ] },
                { "id": "m3", "role": "assistant", "turn": "m1", "epoch": 6, "parts": [
                    { "type": "tool_call", "id": "c1", "name": "tool", "state": "running" },
                    { "type": "tool_result", "callId": "c1", "content": "1" },
                ] },
                { "id": "m4", "role": "user", "over": [], "parts": [{ "type": "text", "chunks": ["Next"] }] },
            ],
            "runs": {
                "m1/5": run("paused", json!({ "stopReason": "approval" })),
                "m1/6": run("streaming", json!({ "continues": { "message": "m2", "part": 0, "bytes": 4 } })),
            },
            "requests": {
                "r1": { "kind": "pause", "target": "m1/6" },
                "r2": { "kind": "retry", "target": "m1", "n": 1 },
                "r3": { "kind": "continue", "target": "m1/6", "over": ["r1"] },
            },
        }),
    );
    document
}

/// Follows a path of keys and indexes as far as it goes, and writes there.
fn scribble(document: &mut Automerge, path: &[(usize, usize)], value: &Wild) {
    let mut tx = document.transaction();
    let mut at = ROOT;
    for (step, (key, index)) in path.iter().enumerate() {
        let last = step + 1 == path.len();
        let list = tx.object_type(&at).unwrap() == ObjType::List;
        let prop: automerge::Prop = if list {
            let length = tx.length(&at);
            if length == 0 { break } else { (index % length).into() }
        } else {
            // Mostly a key that is there.
            let there: Vec<String> = tx.keys(&at).collect();
            match there.get(key % (there.len() + 2)) {
                Some(key) => key.as_str().into(),
                None => KEYS[index % KEYS.len()].into(),
            }
        };
        match tx.get(&at, prop.clone()).unwrap() {
            Some((Value::Object(ObjType::Map | ObjType::List), id)) if !last => at = id,
            _ => {
                match value {
                    Wild::Map => drop(tx.put_object(&at, prop, ObjType::Map).unwrap()),
                    Wild::List => drop(tx.put_object(&at, prop, ObjType::List).unwrap()),
                    Wild::Text(text) => {
                        let id = tx.put_object(&at, prop, ObjType::Text).unwrap();
                        tx.splice_text(&id, 0, 0, text).unwrap();
                    }
                    Wild::Scalar(scalar) => tx.put(&at, prop, scalar.clone()).unwrap(),
                }
                break;
            }
        }
    }
    tx.commit();
}

fn derive_all(document: &Automerge) -> Session {
    let session = read::session(document);
    for writers in [known(document, WriterKind::Worker), known(document, WriterKind::Member), Writers::default()] {
        for live in [None, Some(Epoch(6))] {
            let leases = Leases { live, workers: Some(1) };
            let seen = conversation(&session, &leases, &writers, Timestamp(9));
            work::work(&session, &seen, &leases, &writers, Timestamp(9));
            summary::summary(DocumentId::random(), &session, &seen, Timestamp(9));
            for run in session.runs.keys() {
                work::must_end(&session, &seen, run);
            }
        }
    }
    session
}

#[test]
fn the_session_that_the_scribbles_start_from_is_whole() {
    let document = full();
    let session = derive_all(&document);
    assert_eq!(session.faults, Vec::<String>::new());
    let mut writers = known(&document, WriterKind::Worker);
    let seen = conversation(&session, &ONLINE, &writers, Timestamp(9));
    // The cut falls inside a character: what is whole of it is shown.
    assert_eq!(world::shape(&seen), "Hi Hell  | Next");
    writers.rows.values_mut().for_each(|writer| writer.kind = WriterKind::Member);
    assert_eq!(world::shape(&conversation(&session, &ONLINE, &writers, Timestamp(9))), "| Hi Next");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_document_is_read_as_far_as_it_goes(
        scribbles in prop::collection::vec((prop::collection::vec((0..40_usize, 0..40_usize), 1..6), wild()), 1..10),
        merged in any::<bool>(),
    ) {
        let mut document = full();
        let mut other = document.fork();
        for (index, (path, value)) in scribbles.iter().enumerate() {
            let on_other = merged && index % 2 == 1;
            scribble(if on_other { &mut other } else { &mut document }, path, value);
        }
        document.merge(&mut other).unwrap();
        other.merge(&mut document).unwrap();
        let session = derive_all(&document);
        prop_assert_eq!(&session, &read::session(&other));
        prop_assert!(session.messages.iter().all(|message| !message.id.is_empty()));
        let people = session.messages.iter().filter(|message| message.role == Role::User);
        let lost = |part: &Part| matches!(&part.kind, PartKind::Unknown { name } if name == "text");
        prop_assert!(!people.flat_map(|message| &message.parts).any(lost), "a text is a text, whatever is in it");
    }
}

#[test]
fn a_document_nested_without_end_is_read() {
    let mut document = Automerge::new().with_actor(random_actor());
    let mut tx = document.transaction();
    let mut at = tx.put_object(ROOT, "messages", ObjType::List).unwrap();
    for _ in 0..20_000 {
        at = tx.insert_object(&at, 0, ObjType::List).unwrap();
    }
    tx.commit();
    assert_eq!(derive_all(&document).messages, []);
}
