//! What each command of a person writes, and what it refuses; copies of sessions.

#![allow(clippy::unwrap_used)]

mod world;

use automerge::Automerge;
use skein_engine::ids::{DocumentId, Micros, Timestamp, random_actor};
use skein_engine::session::command::{self, Attachment, Command, CommandError, Draft, Given, NewSession};
use skein_engine::session::conversation::{Content, Conversation, Leases, ShownCallState, Status, Writers};
use skein_engine::session::duplicate::{Source, duplicate};
use skein_engine::session::model::{CallState, Origin, RequestKind, RunState, Session};
use skein_engine::session::work::{MustEnd, WorkKind};
use skein_engine::session::{conversation, read, write};
use world::{World, id_of, shape, transact};

const A: world::Who = 1;
const B: world::Who = 2;
const WORKER: world::Who = 3;

fn world() -> World {
    World::new(2, 1)
}

/// Sends and has it answered: `text a(text)`.
fn talk(world: &mut World, texts: &[&str]) {
    for text in texts {
        world.send(A, text);
        world.sync_all();
        world.settle(WORKER);
        world.sync_all();
    }
}

fn edit(world: &mut World, who: world::Who, of: &str, text: &str) -> Result<command::Done, CommandError> {
    let message = id_of(&world.session(who), of);
    world.command(who, Command::Edit { message, text: text.into(), detach: vec![] })
}

fn file(name: &str) -> Attachment {
    Attachment { blob: "ab".repeat(32), mime: "image/png".into(), name: name.into(), size: 3 }
}

fn changes(world: &World, who: world::Who) -> usize {
    world.replicas[who].get_changes(&[]).len()
}

#[test]
fn an_edit_hides_what_its_author_sees_from_there_on() {
    let mut world = world();
    talk(&mut world, &["u1", "u2", "u3"]);
    edit(&mut world, A, "u2", "u4").unwrap();
    assert_eq!(world.shape(A), "u1 a(u1) | u4");
    world.sync_all();
    world.settle(WORKER);
    world.sync_all();
    assert_eq!(world.shape(B), "u1 a(u1) u4 a(u4)");
}

#[test]
fn an_edit_of_a_queued_message_keeps_its_place_and_the_others() {
    let mut world = world();
    for text in ["u1", "u2", "u3"] {
        world.send(A, text);
    }
    edit(&mut world, A, "u2", "u4").unwrap();
    assert_eq!(world.shape(A), "| u1 u4 u3");
}

#[test]
fn send_now_of_a_held_message_is_an_edit_with_the_same_text() {
    let mut world = world();
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(WORKER).unwrap();
    world.say(WORKER, &mut claim, "half");
    world.sync_all();
    world.send(A, "u2");
    world.pause(A);
    world.sync_all();
    world.end(WORKER, &claim, RunState::Paused, "pause");
    world.sync_all();
    assert!(world.due(WORKER).is_none(), "u2 was written before the pause");
    edit(&mut world, A, "u2", "u2").unwrap();
    world.sync_all();
    assert_eq!(world.due(WORKER).map(|work| work.kind), Some(WorkKind::Queue));
}

#[test]
fn an_edit_keeps_attachments_and_action_and_drops_the_detached() {
    let mut world = world();
    let draft = Draft {
        text: "u1".into(),
        attachments: Some(vec![file("a.png"), file("b.png")]),
        action: Some("action1".into()),
        ..Draft::default()
    };
    world.command(A, Command::Send(draft)).unwrap();
    let message = id_of(&world.session(A), "u1");
    let done =
        world.command(A, Command::Edit { message: message.clone(), text: "u2".into(), detach: vec![0] }).unwrap();
    let session = world.session(A);
    let edited = session.messages.iter().find(|message| Some(&message.id) == done.id.as_ref()).unwrap();
    assert_eq!(edited.action.as_deref(), Some("action1"));
    let queued = &world.see(A).queued[0];
    assert!(matches!(&queued.parts[0].content, Content::Attachment { name, .. } if name == "b.png"));
    assert_eq!(queued.parts.len(), 2);
    let unknown = Command::Edit { message: edited.id.clone(), text: "u3".into(), detach: vec![1] };
    assert_eq!(world.command(A, unknown).unwrap_err(), CommandError::Unknown { what: "attachment", id: "1".into() });
}

#[test]
fn what_cannot_be_edited_says_why() {
    let mut world = world();
    talk(&mut world, &["u1"]);
    let answer = world.see(A).messages[1].id.clone();
    let command =
        |message: &str, text: &str| Command::Edit { message: message.into(), text: text.into(), detach: vec![] };
    assert_eq!(world.command(A, command(&answer, "x")).unwrap_err(), CommandError::NotAPersons);
    assert!(matches!(world.command(A, command("nothing", "x")).unwrap_err(), CommandError::Unknown { .. }));
    let message = id_of(&world.session(A), "u1");
    assert_eq!(world.command(A, command(&message, " ")).unwrap_err(), CommandError::Empty);
}

#[test]
fn attachments_without_words_are_a_message_and_nonsense_is_refused() {
    let mut world = world();
    let draft = |files: Vec<Attachment>| Command::Send(Draft { attachments: Some(files), ..Draft::default() });
    world.command(A, draft(vec![file("a.png")])).unwrap();
    assert_eq!(world.see(A).queued.len(), 1);
    assert_eq!(world.command(A, draft(vec![])).unwrap_err(), CommandError::Empty);
    let bad = Attachment { blob: "../../etc/passwd".into(), ..file("a.png") };
    assert_eq!(world.command(A, draft(vec![bad])).unwrap_err(), CommandError::BadAttachment);
    assert_eq!(world.command(A, draft(vec![file("a\nb")])).unwrap_err(), CommandError::BadName);
    assert_eq!(world.command(A, draft(vec![file("a.png"); 101])).unwrap_err(), CommandError::BadAttachment);
}

#[test]
fn a_steer_names_the_streaming_run_and_needs_a_queued_message() {
    let mut world = world();
    let id = world.send(A, "u1");
    assert_eq!(world.command(A, Command::Steer { message: id }).unwrap_err(), CommandError::NothingStreams);
    world.sync_all();
    let mut claim = world.claim(WORKER).unwrap();
    world.say(WORKER, &mut claim, "half");
    world.sync_all();
    let id = world.send(A, "u2");
    world.command(A, Command::Steer { message: id }).unwrap();
    world.sync_all();
    assert_eq!(world.must_end(WORKER, &claim), Some(MustEnd::Steered));
}

#[test]
fn a_smart_rename_gives_up_the_persons_name_unless_one_is_given_meanwhile() {
    let mut world = world();
    talk(&mut world, &["u1"]);
    world.command(A, Command::Rename { name: "Mine".into() }).unwrap();
    world.sync_all();
    world.command(A, Command::SmartRename).unwrap();
    world.command(B, Command::Rename { name: "Ours".into() }).unwrap();
    assert_eq!(world.session(A).user_name, None);
    let session = world.session(A);
    let asked = session.requests.values().find_map(|request| match &request.kind {
        RequestKind::SmartRename { title } => Some(title.clone()),
        _ => None,
    });
    assert_eq!(asked, Some(Some("Mine".into())));
    world.sync_all();
    assert_eq!(world.session(A).user_name.as_deref(), Some("Ours"));
    assert!(world.due(WORKER).is_none(), "a person's name stands");
}

#[test]
fn agent_limit_archive_and_deletion_write_only_what_changes() {
    let mut world = world();
    let twice = |world: &mut World, command: Command| {
        let before = changes(world, A);
        world.command(A, command.clone()).unwrap();
        assert_eq!(changes(world, A), before + 1, "{command:?}");
        world.command(A, command.clone()).unwrap();
        assert_eq!(changes(world, A), before + 1, "{command:?}");
    };
    twice(&mut world, Command::SetAgent { agent: "agent2".into() });
    twice(&mut world, Command::SetSpendLimit { micros: Some(Micros(5)) });
    assert_eq!(world.session(A).spend_limit, Some(Micros(5)));
    twice(&mut world, Command::SetSpendLimit { micros: None });
    twice(&mut world, Command::Archive);
    twice(&mut world, Command::Restore { position: "0000000009".into() });
    twice(&mut world, Command::Delete);
    assert!(world.session(A).deleted_at.is_some());
    twice(&mut world, Command::Undelete);
    twice(&mut world, Command::Rename { name: "Name".into() });
    assert_eq!(world.session(A).position.as_deref(), Some("0000000009"));
    let nothing = Command::SetSpendLimit { micros: Some(Micros(0)) };
    assert_eq!(world.command(A, nothing).unwrap_err(), CommandError::BadLimit);
}

#[test]
fn a_deleted_session_starts_nothing_and_stops_what_runs_until_it_is_undone() {
    let mut world = world();
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(WORKER).unwrap();
    world.say(WORKER, &mut claim, "half");
    world.command(A, Command::Delete).unwrap();
    world.send(B, "u2");
    world.sync_all();
    assert_eq!(world.must_end(WORKER, &claim), Some(MustEnd::Paused));
    world.end(WORKER, &claim, RunState::Completed, "end");
    world.sync_all();
    assert!(world.due(WORKER).is_none());
    world.command(B, Command::Undelete).unwrap();
    world.sync_all();
    assert_eq!(world.due(WORKER).map(|work| work.kind), Some(WorkKind::Queue));
}

#[test]
fn an_omitted_part_is_marked_once_and_only_files_and_results_can_be() {
    let mut world = world();
    let draft = Draft { text: "u1".into(), attachments: Some(vec![file("a.png")]), ..Draft::default() };
    let message = world.command(A, Command::Send(draft)).unwrap().id.unwrap();
    let omit = |part| Command::Omit { message: message.clone(), part };
    assert!(world.command(A, omit(0)).unwrap().id.is_some());
    assert!(world.command(A, omit(0)).unwrap().id.is_none());
    world.sync_all();
    assert!(world.see(B).queued[0].parts[0].omitted && !world.see(B).queued[0].parts[1].omitted);
    assert_eq!(world.command(A, omit(1)).unwrap_err(), CommandError::NotOmittable);
    assert_eq!(world.command(A, omit(9)).unwrap_err(), CommandError::Unknown { what: "part", id: "9".into() });
}

#[test]
fn a_session_can_come_from_a_task_and_an_action() {
    let new = NewSession {
        message: Some("Go".into()),
        action: Some("action1".into()),
        origin: Some(Origin::Task { task: "task1".into(), run: "run1".into() }),
        spend_limit: Some(Micros(7)),
        ..NewSession::default()
    };
    let mut document = Automerge::new().with_actor(random_actor());
    transact(&mut document, |tx| command::create(tx, &new, &Given { by: "p", at: Timestamp(1), id: None })).unwrap();
    let session = read::session(&document);
    assert_eq!(session.origin, new.origin);
    assert_eq!(session.messages[0].action.as_deref(), Some("action1"));
    assert_eq!(session.spend_limit, Some(Micros(7)));
    assert_eq!(session.faults, Vec::<String>::new());
}

/// A copy of what `A` sees, as everybody reads it who knows that `A` made it.
fn copy(world: &World, at: Option<&str>) -> (Automerge, Session, Conversation) {
    let (session, seen) = (world.session(A), world.see(A));
    let source =
        Source { id: DocumentId::from_bytes([7; 16]), document: &world.replicas[A], session: &session, seen: &seen };
    let given = Given { by: "person1", at: Timestamp(9), id: None };
    let at = at.map(|text| {
        let mut all = seen.messages.iter().chain(&seen.queued);
        all.rfind(|message| world::text(message) == text).unwrap().id.clone()
    });
    let copy = duplicate(source, at.as_deref(), "0000000002", &given).unwrap();
    let read = read::session(&copy);
    let writer = world.writers.get(world.replicas[A].get_actor()).unwrap().clone();
    let mut writers = Writers::default();
    writers.rows.insert(copy.get_actor().clone(), writer);
    let leases = Leases { live: None, workers: Some(1) };
    let shown = conversation(&read, &leases, &writers, world.now);
    (copy, read, shown)
}

#[test]
fn a_copy_shows_the_same_counts_nothing_and_starts_nothing() {
    let mut world = world();
    talk(&mut world, &["u1", "u2"]);
    world.send(A, "u3");
    world.sync_all();
    let mut claim = world.claim(WORKER).unwrap();
    world.say(WORKER, &mut claim, "half");
    world.call(WORKER, &mut claim, "c1", Some("{}"), CallState::Waiting);
    world.spend(WORKER, &claim, 3, 5);
    world.end(WORKER, &claim, RunState::Paused, "approval");
    world.sync_all();
    world.send(A, "u4");
    let (_, session, shown) = copy(&world, None);
    assert_eq!(shape(&shown), "u1 a(u1) u2 a(u2) u3 half");
    assert_eq!((shown.status, shown.work.is_none(), shown.stops.len()), (Status::Active, true, 0));
    assert_eq!(shown.totals.cost_micros, Micros(0));
    assert_eq!(shown.turns[2].cost_micros, Some(Micros(5)), "its turn still shows what it cost");
    assert!(shown.turns.iter().all(|turn| turn.inherited));
    let calls = shown.messages.iter().flat_map(|message| &message.parts).filter_map(|part| match part.content {
        Content::ToolCall { state, .. } => Some(state),
        _ => None,
    });
    assert_eq!(calls.collect::<Vec<_>>(), [ShownCallState::Cancelled]);
    assert_eq!(session.faults, Vec::<String>::new());
    assert!(matches!(&session.origin, Some(Origin::Duplicate { .. })));
}

#[test]
fn a_copy_up_to_a_message_holds_nothing_of_what_lay_after() {
    let mut world = world();
    talk(&mut world, &["u1", "u2", "u3"]);
    let (document, _, shown) = copy(&world, Some("a(u2)"));
    assert_eq!(shape(&shown), "u1 a(u1) u2 a(u2)");
    let bytes = document.save_nocompress();
    assert!(!bytes.windows(2).any(|pair| pair == b"u3"));
    // It ends with a question: nothing answers by itself.
    let (_, _, shown) = copy(&world, Some("u2"));
    assert_eq!(shape(&shown), "u1 a(u1) u2");
    assert!(shown.work.is_none() && shown.queued.is_empty());
    let (_, _, shown) = copy(&world, Some("u1"));
    assert_eq!((shape(&shown).as_str(), shown.work.is_none()), ("u1", true));
}

#[test]
fn a_copy_of_a_continued_and_retried_turn_is_one_text() {
    let mut world = world();
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(WORKER).unwrap();
    world.say(WORKER, &mut claim, "one ");
    world.sync(WORKER);
    world.die();
    let mut claim = world.claim(WORKER).unwrap();
    world.say(WORKER, &mut claim, "two");
    world.end(WORKER, &claim, RunState::Completed, "end");
    world.sync_all();
    let (_, _, shown) = copy(&world, None);
    assert_eq!(shape(&shown), "u1 one  two");
    world.retry(A, "u1");
    world.sync_all();
    world.settle(WORKER);
    world.sync_all();
    let (_, _, shown) = copy(&world, None);
    assert_eq!(shape(&shown), "u1 a(u1)");
}

#[test]
fn a_copy_goes_on_and_keeps_its_names() {
    let mut world = world();
    talk(&mut world, &["u1"]);
    let claim = world.claim(WORKER).unwrap();
    assert_eq!(claim.work.kind, WorkKind::Name);
    let epoch = claim.run.epoch;
    transact(&mut world.replicas[WORKER], |tx| write::set_auto_name(tx, "A title", epoch)).unwrap();
    world.end(WORKER, &claim, RunState::Completed, "end");
    world.sync_all();
    let (mut document, session, shown) = copy(&world, None);
    assert_eq!(shown.auto_title.as_deref(), Some("A title"));
    let given = Given { by: "person1", at: Timestamp(10), id: None };
    transact(&mut document, |tx| command::apply(tx, &session, &shown, &Command::send("u2"), &given)).unwrap();
    let mut writers = Writers::default();
    let writer = world.writers.get(world.replicas[A].get_actor()).unwrap().clone();
    writers.rows.insert(document.get_actor().clone(), writer);
    let read = read::session(&document);
    let shown = conversation(&read, &Leases { live: None, workers: Some(1) }, &writers, world.now);
    assert_eq!(shape(&shown), "u1 a(u1) | u2");
    assert_eq!(shown.work.map(|work| work.kind), Some(WorkKind::Queue));
}
