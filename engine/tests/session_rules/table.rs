//! The table of `docs/session-rules.md`: each row a test, which quotes it.

use skein_engine::ids::DocumentId;
use skein_engine::position::{between, position_after};
use skein_engine::profile::{Place, Profile};
use skein_engine::session::Command;
use skein_engine::session::conversation::{Reason, ShownCallState, Status, TurnState, Waiting};
use skein_engine::session::model::{CallState, RunState};
use skein_engine::session::work::{MustEnd, WorkKind};

use crate::world;
use crate::{A, B, call_states, two_devices};

#[test]
fn every_row_of_the_table_has_its_test() {
    let rules = include_str!("../../../docs/session-rules.md");
    let table = rules.split("| two at once").nth(1).unwrap();
    let rows: Vec<&str> = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| "))
        .filter_map(|row| row.split(" | ").next())
        .collect();
    assert!(rows.len() > 15, "{rows:?}");
    let tests = include_str!("table.rs");
    for row in rows {
        assert!(tests.contains(&format!("/// {row}\n#[test]")), "no test quotes the row {row:?}");
    }
}

#[test]
fn a_message_is_answered_and_the_next_follows() {
    let (mut world, worker) = two_devices();
    world.ask(A, worker, "u1");
    world.send(B, "u2");
    world.sync_all();
    assert_eq!(world.shape(A), "u1 a(u1) | u2");
    world.answer(worker);
    world.sync_all();
    for who in [A, B, worker] {
        assert_eq!(world.shape(who), "u1 a(u1) u2 a(u2)");
    }
}

/// edit of u1, edit of u1
#[test]
fn two_edits_of_one_message_both_stay() {
    let (mut world, worker) = two_devices();
    world.ask(A, worker, "u1");
    world.edit(A, &["u1"], "u2");
    world.edit(B, &["u1"], "u3");
    world.sync_all();
    world.answer(worker);
    world.sync_all();
    let shape = world.shape(A);
    assert!(["u2 u3 a(u2+u3)", "u3 u2 a(u3+u2)"].contains(&shape.as_str()), "{shape}");
    assert_eq!(shape, world.shape(B));
}

/// edit of an edit
#[test]
fn an_edit_of_an_edit_stands_alone() {
    let (mut world, worker) = two_devices();
    world.ask(A, worker, "u1");
    world.edit(A, &["u1"], "u2");
    world.edit(A, &["u2"], "u3");
    world.sync_all();
    world.answer(worker);
    world.sync_all();
    assert_eq!(world.shape(B), "u3 a(u3)");
}

/// edit of u2 hiding u3, edit of u1
#[test]
fn an_edit_that_hides_what_follows_beside_an_edit_of_the_first() {
    let (mut world, worker) = two_devices();
    for text in ["u1", "u2", "u3"] {
        world.ask(A, worker, text);
    }
    world.edit(A, &["u2", "u3"], "u4");
    world.edit(B, &["u1", "u2", "u3"], "u5");
    world.sync_all();
    world.answer(worker);
    world.sync_all();
    let shape = world.shape(A);
    assert!(["u5 u4 a(u5+u4)", "u4 u5 a(u4+u5)"].contains(&shape.as_str()), "{shape}");
    assert_eq!(shape, world.shape(B));
}

/// edit of u1, send u2
#[test]
fn an_edit_beside_a_send_keeps_both() {
    let (mut world, worker) = two_devices();
    world.ask(A, worker, "u1");
    world.edit(A, &["u1"], "e1");
    world.ask(B, worker, "u2");
    let shape = world.shape(A);
    assert!(["e1 u2 a(e1+u2)", "u2 e1 a(u2+e1)"].contains(&shape.as_str()), "{shape}");
}

/// edit of u1 while its run streams
#[test]
fn an_edit_while_its_run_streams_ends_the_run_and_its_cost_counts() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    world.say(worker, &mut claim, "a(u1)");
    world.spend(worker, &claim, 10, 700);
    world.sync(worker);
    world.edit(A, &["u1"], "u2");
    world.sync_all();
    assert_eq!(world.must_end(worker, &claim), Some(MustEnd::Overtaken));
    world.end(worker, &claim, RunState::Completed, "overtaken");
    world.answer(worker);
    world.sync_all();
    assert_eq!(world.shape(A), "u2 a(u2)");
    assert_eq!(world.see(A).totals.cost_micros.0, 700);
    assert_eq!(world.see(A).totals.usage.output, 10);
}

/// u1 and u2 answered together, u2 edited
#[test]
fn one_of_two_messages_answered_together_is_edited() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.ask(A, worker, "u2");
    assert_eq!(world.shape(A), "u1 u2 a(u1+u2)");
    world.edit(A, &["u2"], "u3");
    world.sync_all();
    world.answer(worker);
    world.sync_all();
    assert_eq!(world.shape(B), "u1 u3 a(u1+u3)");
}

#[test]
fn the_first_of_two_messages_answered_together_is_edited() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.ask(A, worker, "u2");
    world.edit(A, &["u1", "u2"], "u3");
    world.sync_all();
    world.answer(worker);
    world.sync_all();
    assert_eq!(world.shape(B), "u3 a(u3)");
}

/// retry, retry (also a late one)
#[test]
fn two_retries_give_one_new_answer_paid_once() {
    let (mut world, worker) = two_devices();
    world.ask(A, worker, "u1");
    world.retry(A, "u1");
    world.retry(B, "u1");
    world.sync(A);
    let work = world.answer(worker);
    assert_eq!((work.kind, work.turn.ends_with(".1")), (WorkKind::Retry, true));
    // The late one.
    world.sync_all();
    assert_eq!(world.due(worker).map(|work| work.kind), Some(WorkKind::Name));
    assert_eq!(world.shape(B), "u1 a(u1)");
    assert_eq!(world.session(A).runs.len(), 2);
    // A retry of the new answer is another attempt.
    world.retry(B, "u1");
    world.sync_all();
    assert!(world.answer(worker).turn.ends_with(".2"));
}

/// retry, edit
#[test]
fn an_edit_wins_over_a_retry() {
    let (mut world, worker) = two_devices();
    world.ask(A, worker, "u1");
    world.retry(A, "u1");
    world.edit(B, &["u1"], "u2");
    world.sync_all();
    world.settle(worker);
    world.sync_all();
    assert_eq!(world.shape(A), "u2 a(u2)");
}

/// retry, send
#[test]
fn a_retry_beside_a_send_answers_both_in_their_places() {
    let (mut world, worker) = two_devices();
    world.ask(A, worker, "u1");
    world.retry(A, "u1");
    world.send(B, "u3");
    world.sync_all();
    let first = world.claim(worker).unwrap();
    assert_eq!(first.work.kind, WorkKind::Retry);
    let mut first = first;
    world.say(worker, &mut first, "again");
    world.end(worker, &first, RunState::Completed, "end");
    world.answer(worker);
    world.sync_all();
    assert_eq!(world.shape(A), "u1 again u3 a(u3)");
}

/// two sends, one reaches the worker first
#[test]
fn of_two_sends_one_that_arrives_later_is_shown_later() {
    let (mut world, worker) = two_devices();
    world.ask(A, worker, "u1");
    world.send(A, "u2");
    world.send(B, "u3");
    world.sync(B);
    world.answer(worker);
    world.sync_all();
    assert_eq!(world.shape(A), "u1 a(u1) u3 a(u3) | u2");
    world.answer(worker);
    world.sync_all();
    assert_eq!(world.shape(B), "u1 a(u1) u3 a(u3) u2 a(u2)");
}

/// u1 streams, u2 queued, then pause
#[test]
fn a_message_queued_before_a_pause_is_held_and_one_written_after_it_starts_both() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    world.say(worker, &mut claim, "half");
    world.sync_all();
    world.send(A, "u2");
    assert_eq!(world.see(A).waiting, Some(Waiting::BehindTurn));
    world.pause(A);
    world.sync_all();
    assert_eq!(world.must_end(worker, &claim), Some(MustEnd::Paused));
    world.end(worker, &claim, RunState::Paused, "pause");
    world.sync_all();
    let seen = world.see(B);
    assert_eq!(seen.status, Status::Paused);
    assert!(matches!(&seen.reason, Some(Reason::Person { by, .. }) if by == "person1"));
    assert_eq!(seen.waiting, Some(Waiting::HeldByPause));
    assert_eq!(world.due(worker), None);
    world.send(B, "u3");
    world.sync_all();
    let work = world.answer(worker);
    assert_eq!((work.kind, work.answers.len()), (WorkKind::Queue, 2));
    world.sync_all();
    assert_eq!(world.shape(A), "u1 half u2 u3 a(u2+u3)");
    assert_eq!(world.status(A), Status::Active);
}

/// u1 streams, u2 queued, a call asks
#[test]
fn a_message_queued_before_a_call_asks_is_held_until_the_decisions_run_is_done() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    world.sync_all();
    world.send(A, "u2");
    world.call(worker, &mut claim, "c1", Some("{}"), CallState::Waiting);
    world.end(worker, &claim, RunState::Paused, "approval");
    world.sync_all();
    let seen = world.see(A);
    assert_eq!(seen.reason, Some(Reason::Approval { calls: vec!["c1".into()] }));
    assert_eq!(seen.waiting, Some(Waiting::HeldByApproval));
    assert_eq!(world.due(worker), None);
    world.command(B, Command::Approve { call: "c1".into(), for_session: false }).unwrap();
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    assert_eq!(claim.work.kind, WorkKind::Decide);
    assert!(claim.work.continues.is_some() && claim.work.request.is_none());
    world.call(worker, &mut claim, "c1", None, CallState::Running);
    world.sync_all();
    assert_eq!(world.see(A).status, Status::Streaming);
    world.result(worker, &mut claim, "c1", "42");
    world.say(worker, &mut claim, "done");
    world.end(worker, &claim, RunState::Completed, "end");
    world.sync_all();
    assert_eq!(call_states(&world, A), [("c1".to_owned(), ShownCallState::Done)]);
    assert_eq!(world.shape(A), "u1  done | u2");
    world.answer(worker);
    world.sync_all();
    assert_eq!(world.shape(A), "u1  done u2 a(u2)");
}

/// u1 a1 u2 a2, retry of u1, pause, continue
#[test]
fn a_retry_of_an_earlier_answer_can_be_paused_and_continued() {
    let (mut world, worker) = two_devices();
    for text in ["u1", "u2"] {
        world.ask(A, worker, text);
    }
    world.retry(A, "u1");
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    world.say(worker, &mut claim, "other");
    world.sync_all();
    world.pause(B);
    world.sync_all();
    assert_eq!(world.must_end(worker, &claim), Some(MustEnd::Paused));
    world.end(worker, &claim, RunState::Paused, "pause");
    world.sync_all();
    assert_eq!(world.status(A), Status::Paused);
    world.go_on(A);
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    assert_eq!(claim.work.kind, WorkKind::Continue);
    world.say(worker, &mut claim, " answer");
    world.end(worker, &claim, RunState::Completed, "end");
    world.sync_all();
    assert_eq!(world.shape(B), "u1 other  answer u2 a(u2)");
    assert_eq!(world.status(B), Status::Active);
}

/// u1 fails, u2 was queued
#[test]
fn a_failure_holds_what_was_queued_before_it() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let claim = world.claim(worker).unwrap();
    world.sync_all();
    world.send(A, "u2");
    world.end(worker, &claim, RunState::Failed, "error");
    world.sync_all();
    let seen = world.see(A);
    assert_eq!(seen.status, Status::Failed);
    assert!(matches!(&seen.reason, Some(Reason::Failed { error }) if error.code == "network"));
    assert_eq!(seen.waiting, Some(Waiting::HeldByFailure));
    assert_eq!(world.due(worker), None);
    // Each of three ways goes on.
    let stopped = world.clone();
    world.retry(A, "u1");
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::Retry);
    let mut world = stopped.clone();
    world.go_on(A);
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::Continue);
    let mut world = stopped;
    world.send(A, "u3");
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().answers.len(), 2);
}

/// pause, continue
#[test]
fn a_pause_and_a_continue_that_saw_it_go_on() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    world.say(worker, &mut claim, "half");
    world.sync_all();
    world.pause(A);
    world.go_on(A);
    world.sync_all();
    assert_eq!(world.must_end(worker, &claim), Some(MustEnd::Paused));
    world.end(worker, &claim, RunState::Paused, "pause");
    let mut claim = world.claim(worker).unwrap();
    assert_eq!(claim.work.kind, WorkKind::Continue);
    assert_eq!(world.must_end(worker, &claim), None);
    world.say(worker, &mut claim, " whole");
    world.end(worker, &claim, RunState::Completed, "end");
    world.sync_all();
    assert_eq!(world.shape(B), "u1 half  whole");
    assert_eq!(world.status(B), Status::Active);
}

/// continue, a second pause it didn't see
#[test]
fn a_second_pause_that_the_continue_didnt_see_holds() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let claim = world.claim(worker).unwrap();
    world.sync_all();
    world.pause(B);
    world.pause(A);
    world.go_on(A);
    world.sync_all();
    world.end(worker, &claim, RunState::Paused, "pause");
    world.sync_all();
    assert_eq!(world.status(A), Status::Paused);
    assert_eq!(world.due(worker), None);
    world.go_on(A);
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::Continue);
}

/// worker dies, take-over, pause of the dead run
#[test]
fn a_pause_of_a_dead_run_holds_for_the_run_that_took_it_over() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let mut dead = world.claim(worker).unwrap();
    world.say(worker, &mut dead, "half");
    world.sync_all();
    world.pause(B);
    world.die();
    let taken = world.claim(worker).unwrap();
    assert_eq!(taken.work.kind, WorkKind::TakeOver);
    world.sync_all();
    assert_eq!(world.must_end(worker, &taken), Some(MustEnd::Paused));
    world.end(worker, &taken, RunState::Paused, "pause");
    world.sync_all();
    assert_eq!(world.status(A), Status::Paused);
    assert_eq!(world.shape(A), "u1 half");
}

#[test]
fn a_dead_run_under_a_pause_is_closed_without_a_call() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    world.claim(worker).unwrap();
    world.sync_all();
    world.pause(A);
    world.die();
    assert_eq!(world.status(A), Status::Paused);
    assert_eq!(world.see(A).turns[0].state, TurnState::Paused);
    world.sync_all();
    let close = world.claim(worker).unwrap();
    assert_eq!((close.work.kind, close.work.model.as_deref()), (WorkKind::Close, None));
    world.end(worker, &close, RunState::Paused, "pause");
    world.sync_all();
    assert_eq!(world.due(worker), None);
    world.go_on(B);
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::Continue);
}

/// user's rename, automatic name
#[test]
fn a_persons_name_stands_over_an_automatic_one() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    world.answer(worker);
    let naming = world.claim(worker).unwrap();
    assert_eq!(naming.work.kind, WorkKind::Name);
    world.command(A, Command::Rename { name: "Mine".into() }).unwrap();
    world::transact(&mut world.replicas[worker], |tx| {
        skein_engine::session::write::set_auto_name(tx, "Theirs", naming.run.epoch)
    })
    .unwrap();
    world.end(worker, &naming, RunState::Completed, "end");
    world.sync_all();
    for who in [A, B, worker] {
        let (session, seen) = (world.session(who), world.see(who));
        let id = skein_engine::ids::DocumentId::random();
        let summary = skein_engine::session::summary::summary(id, &session, &seen, world.now);
        assert_eq!(summary.name, "Mine");
    }
    assert_eq!(world.due(worker), None);
}

#[test]
fn a_restored_session_takes_its_new_place() {
    let (mut world, _) = two_devices();
    world.command(A, Command::Archive).unwrap();
    world.sync_all();
    assert!(world.session(B).archived_at.is_some());
    world.command(B, Command::Restore { position: "0000000009".into() }).unwrap();
    world.sync_all();
    let session = world.session(A);
    assert_eq!((session.archived_at, session.position.as_deref()), (None, Some("0000000009")));
    // What isn't archived stays where it is.
    world.command(A, Command::Restore { position: "0000000010".into() }).unwrap();
    assert_eq!(world.session(A).position.as_deref(), Some("0000000009"));
}

/// restore, another member's drag to the end
#[test]
fn a_session_restored_beside_another_members_drag_to_the_end_is_last_for_both() {
    let id = |n| DocumentId::from_bytes([n; 16]);
    let (first, second, archived) = (id(1), id(2), id(3));
    // One restores what had stood between the others: a whole number after all.
    let restored = position_after(["0000000001", "0000000002", "0000000003"].into_iter());
    // Another, who hasn't heard of it, drags the first to the end: a fraction after the last.
    let dragged = Place { position: between(Some("0000000003"), None).unwrap(), over: Some("0000000001".into()) };
    // And had dragged the archived one itself to the end before that.
    let stale = Place { position: "0000000009".into(), over: Some("0000000002".into()) };
    let mine = Profile { order: [(first, dragged), (archived, stale)].into(), pins: Default::default() };
    for profile in [mine, Profile::default()] {
        let own = [(first, "0000000001"), (second, "0000000003"), (archived, restored.as_str())];
        let last = own.iter().max_by_key(|(session, own)| profile.position(*session, Some(own)).unwrap().to_owned());
        assert_eq!(last.unwrap().0, archived);
    }
}
