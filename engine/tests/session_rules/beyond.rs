//! What the table doesn't say: take-overs, calls in doubt, decisions, naming, and commands that can't be done.

use skein_engine::session::Command;
use skein_engine::session::command::CommandError;
use skein_engine::session::conversation::{Reason, ShownCallState, Status, TurnState, Waiting};
use skein_engine::session::model::{CallState, RunState};
use skein_engine::session::work::{MustEnd, WorkKind};

use crate::world::{self, id_of};
use crate::{A, B, call_states, two_devices};

#[test]
fn a_dead_run_is_taken_over_from_its_last_checkpoint_and_late_words_of_it_are_not_shown() {
    let (mut world, worker) = two_devices();
    let other = world.join(
        skein_engine::session::conversation::WriterKind::Worker,
        skein_engine::session::conversation::MemberRole::Owner,
    );
    world.send(A, "u1");
    world.sync_all();
    let mut dead = world.claim(worker).unwrap();
    world.say(worker, &mut dead, "half");
    world.sync_all();
    world.die();
    let seen = world.see(A);
    assert_eq!((seen.status, seen.waiting), (Status::Active, Some(Waiting::WorkerLost)));
    assert_eq!(seen.turns[0].state, TurnState::Lost);
    let mut taken = world.claim(other).unwrap();
    assert_eq!(taken.work.kind, WorkKind::TakeOver);
    assert_eq!(taken.work.model.as_deref(), Some("test/model"));
    let message = dead.message.clone().unwrap();
    world::transact(&mut world.replicas[worker], |tx| {
        skein_engine::session::write::push_chunk(tx, &message, 0, " late")
    })
    .unwrap();
    world.say(worker, &mut dead, "later still");
    dead.message = None;
    world.say(worker, &mut dead, "and again");
    world.say(other, &mut taken, " whole");
    world.end(other, &taken, RunState::Completed, "end");
    world.sync_all();
    for who in [A, B, worker, other] {
        assert_eq!(world.shape(who), "u1 half  whole");
    }
}

#[test]
fn after_three_take_overs_a_turn_is_given_up() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let mut kinds = Vec::new();
    for _ in 0..5 {
        let claim = world.claim(worker).unwrap();
        kinds.push(claim.work.kind);
        if claim.work.kind == WorkKind::GiveUp {
            world.end(worker, &claim, RunState::Failed, "lost");
        }
        world.die();
    }
    use WorkKind::{GiveUp, Queue, TakeOver};
    assert_eq!(kinds, [Queue, TakeOver, TakeOver, TakeOver, GiveUp]);
    world.sync_all();
    assert_eq!(world.status(A), Status::Failed);
    // A person's continue gives it three more.
    world.go_on(A);
    world.sync_all();
    world.claim(worker).unwrap();
    world.die();
    assert_eq!(world.due(worker).unwrap().kind, TakeOver);
}

#[test]
fn carrying_out_a_decision_is_no_take_over() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    for n in 0..4 {
        let mut claim = world.claim(worker).unwrap();
        let call = format!("c{n}");
        if n > 0 {
            world.result(worker, &mut claim, &format!("c{}", n - 1), "done");
        }
        world.call(worker, &mut claim, &call, Some("{}"), CallState::Waiting);
        world.end(worker, &claim, RunState::Paused, "approval");
        world.sync_all();
        world.command(A, Command::Approve { call, for_session: false }).unwrap();
        world.sync_all();
    }
    assert_eq!(world.claim(worker).unwrap().work.kind, WorkKind::Decide);
    world.die();
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::TakeOver);
}

#[test]
fn a_call_that_was_running_when_its_worker_died_is_in_doubt_and_the_first_approval_doesnt_answer_that() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    world.call(worker, &mut claim, "c1", Some("{\"x\":1}"), CallState::Waiting);
    world.end(worker, &claim, RunState::Paused, "approval");
    world.sync_all();
    world.command(A, Command::Approve { call: "c1".into(), for_session: false }).unwrap();
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    assert!(world.see(worker).decisions.contains_key("c1"));
    world.call(worker, &mut claim, "c1", None, CallState::Running);
    world.sync_all();
    assert_eq!(call_states(&world, A), [("c1".to_owned(), ShownCallState::Running)]);
    world.die();
    assert_eq!(call_states(&world, A), [("c1".to_owned(), ShownCallState::InDoubt)]);
    let mut taken = world.claim(worker).unwrap();
    assert_eq!(taken.work.kind, WorkKind::TakeOver);
    world.call(worker, &mut taken, "c1", None, CallState::InDoubt);
    world.end(worker, &taken, RunState::Paused, "approval");
    world.sync_all();
    assert_eq!(world.due(worker), None);
    assert_eq!(world.see(A).reason, Some(Reason::Approval { calls: vec!["c1".into()] }));
    world.command(A, Command::Deny { call: "c1".into(), reason: Some("no".into()) }).unwrap();
    world.command(B, Command::Approve { call: "c1".into(), for_session: false }).unwrap();
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::Decide);
    use skein_engine::session::conversation::Decision;
    assert!(matches!(&world.see(worker).decisions["c1"], Decision::Denied { reason: Some(why), .. } if why == "no"));
}

#[test]
fn a_message_written_to_a_question_doesnt_go_over_the_doubt_that_came_of_it() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    world.call(worker, &mut claim, "c1", Some("{}"), CallState::Waiting);
    world.end(worker, &claim, RunState::Paused, "approval");
    world.sync_all();
    // One lets it run, another writes something else instead; the worker has yet to hear of that.
    world.command(A, Command::Approve { call: "c1".into(), for_session: false }).unwrap();
    world.send(B, "u2");
    world.sync(A);
    world.sync(worker);
    let mut decided = world.claim(worker).unwrap();
    world.call(worker, &mut decided, "c1", None, CallState::Running);
    world.sync_all();
    world.die();
    let mut taken = world.claim(worker).unwrap();
    world.call(worker, &mut taken, "c1", None, CallState::InDoubt);
    world.end(worker, &taken, RunState::Paused, "approval");
    world.sync_all();
    assert_eq!(world.due(worker), None);
    assert_eq!(world.see(B).waiting, Some(Waiting::HeldByApproval));
    assert_eq!(call_states(&world, B), [("c1".to_owned(), ShownCallState::InDoubt)]);
    world.send(B, "u3");
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().answers.len(), 2);
}

#[test]
fn a_run_goes_on_only_when_all_its_waiting_calls_are_decided() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    world.call(worker, &mut claim, "c1", Some("{}"), CallState::Waiting);
    world.call(worker, &mut claim, "c2", Some("{}"), CallState::Waiting);
    world.end(worker, &claim, RunState::Paused, "approval");
    world.sync_all();
    world.command(A, Command::Approve { call: "c1".into(), for_session: false }).unwrap();
    world.sync_all();
    assert_eq!(world.due(worker), None);
    assert_eq!(world.see(A).stops, ["c2"]);
    assert!(world.see(A).allowed_tools.contains("tool"));
    assert_eq!(world.command(A, Command::Continue), Err(CommandError::CallWaits));
    assert_eq!(
        world.command(A, Command::Approve { call: "c1".into(), for_session: false }),
        Err(CommandError::NotWaiting)
    );
    world.command(B, Command::Deny { call: "c2".into(), reason: None }).unwrap();
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::Decide);
}

#[test]
fn a_message_instead_of_a_decision_cancels_the_call() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    world.call(worker, &mut claim, "c1", Some("{}"), CallState::Waiting);
    world.end(worker, &claim, RunState::Paused, "approval");
    world.sync_all();
    world.command(B, Command::queue("later")).unwrap();
    world.sync_all();
    assert_eq!(world.due(worker), None);
    world.ask(A, worker, "no, this");
    assert_eq!(call_states(&world, A), [("c1".to_owned(), ShownCallState::Cancelled)]);
    assert_eq!(
        world.command(A, Command::Approve { call: "c1".into(), for_session: false }),
        Err(CommandError::NotWaiting)
    );
}

#[test]
fn a_pause_over_decided_calls_waits_for_its_continue() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    world.sync_all();
    world.pause(B);
    world.call(worker, &mut claim, "c1", Some("{}"), CallState::Waiting);
    world.end(worker, &claim, RunState::Paused, "approval");
    world.sync_all();
    world.command(A, Command::Approve { call: "c1".into(), for_session: false }).unwrap();
    world.sync_all();
    assert_eq!(world.due(worker), None);
    assert!(matches!(world.see(A).reason, Some(Reason::Person { .. })));
    world.go_on(A);
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::Continue);
    world.claim(worker).unwrap();
    assert!(world.see(worker).decisions.contains_key("c1"));
}

#[test]
fn a_queued_message_can_be_removed_and_an_answered_one_not() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.send(A, "u2");
    let u2 = id_of(&world.session(A), "u2");
    world.command(A, Command::Remove { message: u2 }).unwrap();
    assert_eq!(world.shape(A), "| u1");
    world.sync_all();
    world.answer(worker);
    world.sync_all();
    assert_eq!(world.shape(B), "u1 a(u1)");
    let u1 = id_of(&world.session(A), "u1");
    assert_eq!(world.command(A, Command::Remove { message: u1 }), Err(CommandError::NotQueued));
    let unknown = world.command(A, Command::Remove { message: "none".into() });
    assert!(matches!(unknown, Err(CommandError::Unknown { what: "message", .. })));
}

#[test]
fn a_command_that_cant_be_done_says_why() {
    let (mut world, worker) = two_devices();
    let send = |text: &str| Command::send(text);
    let rename = |name: &str| Command::Rename { name: name.into() };
    assert_eq!(world.command(A, send(" \n")), Err(CommandError::Empty));
    assert_eq!(world.command(A, send(&"x".repeat((1 << 20) + 1))), Err(CommandError::TooLong));
    assert_eq!(world.command(A, rename("")), Err(CommandError::Empty));
    assert_eq!(world.command(A, rename("a\nb")), Err(CommandError::BadName));
    assert_eq!(world.command(A, rename(&"é".repeat(201))), Err(CommandError::BadName));
    assert_eq!(world.command(A, rename(&"é".repeat(200))).map(|_| ()), Ok(()));
    assert_eq!(world.command(A, Command::Pause), Err(CommandError::NothingStreams));
    assert_eq!(world.command(A, Command::Continue), Err(CommandError::NothingStopped));
    assert_eq!(world.command(A, Command::Retry { message: None }), Err(CommandError::NothingAnswered));
    let approve = world.command(A, Command::Approve { call: "none".into(), for_session: false });
    assert!(matches!(approve, Err(CommandError::Unknown { what: "call", .. })));
    world.ask(A, worker, "u1");
    assert_eq!(world.command(A, Command::Pause), Err(CommandError::NothingStreams));
    assert_eq!(world.command(A, Command::Continue), Err(CommandError::NothingStopped));
}

#[test]
fn a_worker_waits_for_nothing_offline_and_says_so() {
    let (mut world, _) = two_devices();
    world.send(A, "u1");
    assert_eq!(world.see(A).waiting, Some(Waiting::Due));
    world.workers = Some(0);
    assert_eq!(world.see(A).waiting, Some(Waiting::NoWorker));
    world.workers = None;
    assert_eq!(world.see(A).waiting, Some(Waiting::Offline));
}

#[test]
fn a_title_is_due_once_after_the_first_completed_turn() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let claim = world.claim(worker).unwrap();
    assert_eq!(world.due(worker), None);
    world.end(worker, &claim, RunState::Failed, "error");
    assert_eq!(world.due(worker), None);
    world.sync_all();
    world.go_on(A);
    world.sync_all();
    world.answer(worker);
    let naming = world.claim(worker).unwrap();
    assert_eq!((naming.work.kind, naming.work.turn.as_str()), (WorkKind::Name, "name"));
    assert_eq!(world.must_end(worker, &naming), None);
    // It is never shown, and gives way to other work.
    world.sync_all();
    world.send(A, "u2");
    world.sync_all();
    assert_eq!(world.must_end(worker, &naming), Some(MustEnd::Overtaken));
    world.end(worker, &naming, RunState::Failed, "overtaken");
    assert_eq!(world.answer(worker).kind, WorkKind::Queue);
    let naming = world.claim(worker).unwrap();
    assert_eq!(naming.work.kind, WorkKind::Name);
    world::transact(&mut world.replicas[worker], |tx| {
        skein_engine::session::write::set_auto_name(tx, "A title", naming.run.epoch)
    })
    .unwrap();
    world.end(worker, &naming, RunState::Completed, "end");
    world.sync_all();
    assert_eq!(world.due(worker), None);
    assert_eq!(world.see(A).auto_title.as_deref(), Some("A title"));
    assert_eq!(world.see(A).turns.len(), 2);
}

#[test]
fn a_deleted_session_starts_nothing_and_stops_what_runs() {
    use automerge::transaction::Transactable;
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let claim = world.claim(worker).unwrap();
    world.sync_all();
    world::transact(&mut world.replicas[A], |tx| tx.put(automerge::ROOT, "deletedAt", 1_i64)).unwrap();
    world.sync_all();
    assert_eq!(world.must_end(worker, &claim), Some(MustEnd::Paused));
    world.die();
    assert_eq!(world.due(worker), None);
}
