//! Every rule by its number, and those of its clauses that the table doesn't reach. Number 19 is "Who wrote it".

use skein_engine::ids::{DocumentId, Epoch, Micros};
use skein_engine::position::position_after;
use skein_engine::profile::{Place, Profile};
use skein_engine::session::Command;
use skein_engine::session::conversation::{
    Conversation, Leases, MemberRole, ShownCallState, Status, Waiting, WriterKind, Writers, conversation,
};
use skein_engine::session::model::{AutoName, CallState, Cost, Part, PartKind, Run, RunState, Session, Usage};
use skein_engine::session::summary::NameSource;
use skein_engine::session::work::{MustEnd, WorkKind};
use skein_engine::session::write;

use crate::world::{self, Claim, RELAY, Who, World, id_of, transact};
use crate::{A, B, call_states, two_devices};

/// A session with this message, answered.
fn answered(text: &str) -> (World, Who) {
    let (mut world, worker) = two_devices();
    world.ask(A, worker, text);
    (world, worker)
}

fn asks(world: &mut World, worker: Who, call: &str) -> Claim {
    let mut claim = world.claim(worker).unwrap();
    world.call(worker, &mut claim, call, Some("{}"), CallState::Waiting);
    world.end(worker, &claim, RunState::Paused, "approval");
    world.sync_all();
    claim
}

/// A message that hides this one and nothing else.
fn hide_one(world: &mut World, who: Who, hidden: &str, text: &str) {
    let id = id_of(&world.session(who), hidden);
    let new = skein_engine::ids::random_id();
    transact(&mut world.replicas[who], |tx| world::raw_message(tx, &new, text, &[id], Some(&[]))).unwrap();
}

fn run(turn: &str, epoch: u64, answers: &[&str]) -> Run {
    Run {
        state: RunState::Completed,
        usage: Usage { output: 5, ..Usage::default() },
        cost: Cost { micros: Some(Micros(70)), ..Cost::default() },
        ..Run::new(turn, Epoch(epoch), answers.iter().map(|id| (*id).to_owned()).collect())
    }
}

/// What one writes who may not: a run with words of its own.
fn forge(world: &mut World, who: Who, run: &Run, words: &str) {
    transact(&mut world.replicas[who], |tx| {
        write::begin_run(tx, run)?;
        let message = write::begin_message(tx, run, "agent1", skein_engine::ids::Timestamp(1))?;
        let part = Part { kind: PartKind::Text(words.into()), provider: None };
        write::push_part(tx, &message, &part).map(drop)
    })
    .unwrap();
}

#[test]
fn rule_1_what_a_hidden_message_hides_stays_hidden() {
    let (mut world, worker) = answered("u1");
    hide_one(&mut world, A, "u1", "u2");
    hide_one(&mut world, A, "u2", "u3");
    world.sync_all();
    world.answer(worker);
    world.sync_all();
    assert_eq!(world.shape(B), "u3 a(u3)");
}

#[test]
fn rule_2_the_run_with_the_highest_epoch_is_a_messages_current_one() {
    let (mut world, worker) = answered("u1");
    let first = world.see(A).front.unwrap();
    world.retry(A, "u1");
    world.sync_all();
    world.answer(worker);
    assert_ne!(world.see(worker).front.unwrap(), first);
    assert_eq!(world.see(worker).turns.len(), 1);
}

#[test]
fn rule_3_a_run_goes_with_the_last_message_that_it_answers() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.send(A, "u2");
    world.sync_all();
    world.answer(worker);
    hide_one(&mut world, worker, "u2", "u3");
    assert_eq!(world.shape(worker), " | u1 u3".trim_start());
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.ask(A, worker, "u2");
    hide_one(&mut world, A, "u1", "u3");
    assert_eq!(world.shape(A), "u2 a(u1+u2) | u3");
}

#[test]
fn rule_3_the_front_run_is_the_one_that_began_last_wherever_it_stands() {
    let (mut world, worker) = two_devices();
    for text in ["u1", "u2"] {
        world.ask(A, worker, text);
    }
    world.retry(A, "u1");
    world.sync_all();
    let claim = world.claim(worker).unwrap();
    assert_eq!(world.see(worker).front, Some(claim.run.key()));
    assert_eq!(world.status(worker), Status::Streaming);
}

#[test]
fn rule_4_a_message_of_a_client_that_knows_no_stops_goes_over_all() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let claim = world.claim(worker).unwrap();
    world.sync_all();
    world.pause(A);
    world.sync_all();
    world.end(worker, &claim, RunState::Paused, "pause");
    world.foreign_message(B, "u2");
    world.sync_all();
    assert_eq!(world.due(worker).map(|work| work.kind), Some(WorkKind::Queue));
}

#[test]
fn rule_4_one_message_must_have_seen_every_stop() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let claim = world.claim(worker).unwrap();
    world.sync_all();
    world.pause(A);
    world.send(A, "u2");
    world.pause(B);
    world.send(B, "u3");
    world.sync_all();
    world.end(worker, &claim, RunState::Paused, "pause");
    world.sync_all();
    assert_eq!(world.due(worker), None);
    assert_eq!(world.see(A).waiting, Some(Waiting::HeldByPause));
    world.send(A, "u4");
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().answers.len(), 3);
}

#[test]
fn rule_5_runs_stand_by_place_and_a_text_goes_on_where_its_worker_saw_it_end() {
    let (mut world, worker) = two_devices();
    for text in ["u1", "u2"] {
        world.ask(A, worker, text);
    }
    world.retry(A, "u1");
    world.sync_all();
    let mut dead = world.claim(worker).unwrap();
    world.say(worker, &mut dead, "half");
    world.sync_all();
    world.die();
    let mut taken = world.claim(worker).unwrap();
    world.say(worker, &mut taken, " whole");
    world.append(worker, &mut dead, " late");
    world.end(worker, &taken, RunState::Completed, "end");
    world.sync_all();
    assert_eq!(world.shape(B), "u1 half  whole u2 a(u2)");
}

#[test]
fn rule_6_a_retry_answers_only_what_is_visible_and_stands_where_the_answer_stood() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.ask(A, worker, "u2");
    hide_one(&mut world, A, "u1", "u3");
    world.retry(A, "u2");
    world.sync_all();
    let place = world.session(A).runs.values().flatten().next().unwrap().place;
    let work = world.due(worker).unwrap();
    assert_eq!((work.kind, work.place, work.continues), (WorkKind::Retry, Some(place), None));
    assert_eq!(work.answers, [id_of(&world.session(A), "u2")]);
}

#[test]
fn rule_7_an_epoch_is_above_the_relays_the_claims_and_the_clock() {
    let (mut world, worker) = answered("u1");
    let given = world.epoch;
    assert!(given.0 >= 1_700_000_000, "at least the clock");
    // A relay that has forgotten it, and a clock that stands still: the claim names it.
    world.epoch = Epoch(0);
    world.now = skein_engine::ids::Timestamp(5_000);
    world.send(A, "u2");
    world.sync_all();
    assert!(world.claim(worker).unwrap().run.epoch > given);
    // A relay that has forgotten it, and a worker that never knew: the clock is above it.
    let (mut world, worker) = two_devices();
    let backup = world.back_up();
    world.send(A, "u1");
    world.sync_all();
    let lost = world.claim(worker).unwrap().run.epoch;
    world.restore(&backup);
    world.crash(worker, true);
    world.send(A, "u2");
    world.sync(A);
    world.sync(worker);
    assert!(world.claim(worker).unwrap().run.epoch > lost);
    assert_eq!(world.broken, []);
}

#[test]
fn rule_8_a_run_begins_only_while_its_claim_lives() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let grant = world.grant(worker).unwrap();
    world.die();
    assert!(world.begin(worker, grant).is_none());
    assert_eq!(world.session(worker).runs.len(), 0);
}

#[test]
fn rule_8_what_is_due_is_derived_again_on_the_heads_of_the_grant() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let queued = world.see(A).queued[0].id.clone();
    world.command(A, Command::Remove { message: queued }).unwrap();
    world.sync(A);
    // The worker hasn't heard of it when it asks.
    let grant = world.grant(worker).unwrap();
    assert!(world.begin(worker, grant).is_none());
    assert_eq!(world.live, None, "and the claim is given back");
}

#[test]
fn rule_8_a_lease_is_released_when_the_last_change_is_acknowledged() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    world.answer(worker);
    assert_eq!(world.live, None);
    assert_eq!(world.see(RELAY).status, Status::Active);
    assert_eq!(world.shape(RELAY), "u1 a(u1)");
}

#[test]
fn rule_9_what_was_asked_of_a_run_ends_with_the_next_request() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let claim = world.claim(worker).unwrap();
    world.sync_all();
    world.pause(A);
    world.sync_all();
    world.end(worker, &claim, RunState::Paused, "pause");
    world.sync_all();
    world.go_on(A);
    world.sync_all();
    let claim = world.claim(worker).unwrap();
    assert_eq!(world.must_end(worker, &claim), None, "the pause was over");
    world.die();
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::TakeOver);
}

#[test]
fn rule_10_no_continue_is_in_force_while_a_call_waits() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let claim = asks(&mut world, worker, "c1");
    // Our own command refuses; another client may write it, over all that it sees.
    world.foreign_request(A, &[("kind", "continue"), ("target", &claim.run.key()), ("over", "c1")]);
    world.sync_all();
    assert_eq!(world.due(worker), None);
}

#[test]
fn rule_11_a_retry_is_served_once_its_turn_exists_whatever_became_of_that() {
    let (mut world, worker) = answered("u1");
    let u1 = id_of(&world.session(A), "u1");
    let served = run(&format!("{u1}.1"), world.epoch.0 + 1, &["another"]);
    transact(&mut world.replicas[worker], |tx| write::begin_run(tx, &served)).unwrap();
    world.sync_all();
    world.retry(A, "u1");
    world.sync_all();
    assert_eq!(world.due(worker).map(|work| work.kind), Some(WorkKind::Name));
}

#[test]
fn rule_11_a_late_retry_of_an_earlier_attempt_is_served() {
    let (mut world, worker) = answered("u1");
    world.retry(A, "u1");
    world.sync(A);
    world.sync(worker);
    world.answer(worker);
    world.retry(B, "u1");
    world.sync_all();
    assert_eq!(world.due(worker).map(|work| work.kind), Some(WorkKind::Name));
}

#[test]
fn rule_12_a_steered_run_ends_and_the_queue_is_next() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let claim = world.claim(worker).unwrap();
    world.sync_all();
    world.send(A, "u2");
    let queued = world.see(A).queued[0].id.clone();
    world.command(A, Command::Steer { message: queued }).unwrap();
    world.sync_all();
    assert_eq!(world.must_end(worker, &claim), Some(MustEnd::Steered));
    world.end(worker, &claim, RunState::Completed, "steered");
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::Queue);
}

#[test]
fn rule_13_a_lost_run_goes_before_the_queue_and_a_retry_before_both() {
    let (mut world, worker) = answered("u1");
    world.send(A, "u2");
    world.sync_all();
    world.claim(worker).unwrap();
    world.sync_all();
    world.send(A, "u3");
    world.die();
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::TakeOver);
    world.retry(A, "u1");
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::Retry);
}

#[test]
fn rule_14_an_approval_of_another_input_asks_again() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    asks(&mut world, worker, "c1");
    let other = skein_engine::session::conversation::call_digest("tool", "{\"path\":\"/\"}");
    let approval = [("kind", "approve"), ("target", "c1"), ("digest", other.as_str()), ("scope", "once")];
    world.foreign_request(B, &approval);
    world.sync_all();
    assert_eq!((world.due(worker), world.see(A).stops), (None, vec!["c1".to_owned()]));
}

#[test]
fn rule_14_the_state_of_a_call_is_that_of_its_last_part() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    asks(&mut world, worker, "c1");
    world.command(A, Command::Deny { call: "c1".into(), reason: None }).unwrap();
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    world.call(worker, &mut claim, "c1", None, CallState::Denied);
    world.sync_all();
    assert_eq!(call_states(&world, A), [("c1".to_owned(), ShownCallState::Denied)]);
}

#[test]
fn rule_14_a_call_that_was_cut_asks_nobody_and_never_runs() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let mut claim = world.claim(worker).unwrap();
    world.call(worker, &mut claim, "c1", Some("{\"a\":"), CallState::Cut);
    world.call(worker, &mut claim, "c2", None, CallState::Preparing);
    world.die();
    world.sync_all();
    let cut = |id: &str| (id.to_owned(), ShownCallState::Cut);
    assert_eq!(call_states(&world, A), [cut("c1"), cut("c2")]);
    assert_eq!(world.see(A).stops, Vec::<String>::new());
    assert!(world.command(A, Command::Approve { call: "c1".into(), for_session: false }).is_err());
}

#[test]
fn rule_15_archived_stands_over_the_status_beneath_and_what_is_sent_is_answered() {
    let (mut world, worker) = answered("u1");
    world.command(A, Command::Archive).unwrap();
    world.send(B, "u2");
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::Queue);
    let claim = world.claim(worker).unwrap();
    world.end(worker, &claim, RunState::Failed, "error");
    world.sync_all();
    let summary = world.summary(A);
    assert_eq!((summary.status, summary.beneath), (Status::Archived, Some(Status::Failed)));
}

#[test]
fn rule_15_a_session_deleted_beside_a_send_starts_nothing_until_that_is_undone() {
    let (mut world, worker) = answered("u1");
    world.command(A, Command::Delete).unwrap();
    world.send(B, "u2");
    world.command(B, Command::SetAgent { agent: "agent2".into() }).unwrap();
    world.sync_all();
    assert_eq!(world.due(worker), None);
    assert_eq!(world.shape(A), "u1 a(u1) | u2");
    world.command(B, Command::Undelete).unwrap();
    world.sync_all();
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::Queue);
    assert_eq!(world.session(A).agent.as_deref(), Some("agent2"));
}

#[test]
fn rule_15_a_run_whose_lease_is_dead_doesnt_stream() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    world.claim(worker).unwrap();
    world.sync_all();
    assert_eq!(world.status(A), Status::Streaming);
    world.die();
    assert_eq!(world.status(A), Status::Active);
}

#[test]
fn rule_16_of_automatic_titles_the_highest_epoch_counts_and_a_persons_goes_before_all() {
    let session = Session {
        is_session: true,
        auto_names: [(1, "older"), (2, "newer")]
            .map(|(epoch, title)| AutoName { title: title.into(), epoch: Epoch(epoch), by: Vec::new() })
            .into(),
        ..Session::default()
    };
    let seen = conversation(&session, &Leases::default(), &Writers::default(), Default::default());
    assert_eq!(seen.auto_title.as_deref(), Some("newer"));
    let (mut world, worker) = answered("u1");
    let naming = world.claim(worker).unwrap();
    world.title(worker, &naming, "automatic");
    world.end(worker, &naming, RunState::Completed, "end");
    world.sync_all();
    assert_eq!(world.summary(A).name, "automatic");
    // One gives it back to the agent, another, who doesn't know, gives it a name of their own.
    world.command(A, Command::SmartRename).unwrap();
    world.command(B, Command::Rename { name: "mine".into() }).unwrap();
    world.sync_all();
    for who in [A, B, worker] {
        let summary = world.summary(who);
        assert_eq!((summary.name.as_str(), summary.name_source), ("mine", NameSource::User));
    }
    assert_eq!(world.due(worker), None);
}

#[test]
fn rule_17_a_members_own_order_counts_until_the_session_is_restored() {
    let id = DocumentId::from_bytes([1; 16]);
    let place = Place { position: "0000000001V".into(), over: Some("0000000003".into()) };
    let profile = Profile { order: [(id, place)].into(), pins: Default::default() };
    assert_eq!(profile.position(id, Some("0000000003")), Some("0000000001V"));
    assert_eq!(profile.position(id, Some("0000000009")), Some("0000000009"));
    assert_eq!(position_after(["0000000003", "0000000008zz"].into_iter()), "0000000009");
}

#[test]
fn rule_17_of_two_restores_at_once_the_higher_position_counts() {
    // The same actors both times: of the two values the document itself prefers the lower one once.
    for higher in [A, B] {
        skein_engine::testing::seed(Some(17));
        let (mut world, _) = two_devices();
        world.command(A, Command::Archive).unwrap();
        world.sync_all();
        for who in [A, B] {
            let position = if who == higher { "0000000009" } else { "0000000004" };
            world.command(who, Command::Restore { position: position.into() }).unwrap();
        }
        world.sync_all();
        assert_eq!(world.session(A).position.as_deref(), Some("0000000009"));
        assert_eq!(world.session(B).position.as_deref(), Some("0000000009"));
    }
}

#[test]
fn rule_18_every_value_of_a_conflicting_key_counts() {
    let (mut world, worker) = two_devices();
    let other = world.join(WriterKind::Worker, MemberRole::Owner);
    world.send(A, "u1");
    world.sync_all();
    let u1 = id_of(&world.session(A), "u1");
    for who in [worker, other] {
        transact(&mut world.replicas[who], |tx| write::begin_run(tx, &run(&u1, 7, &[&u1]))).unwrap();
    }
    world.sync_all();
    assert_eq!(money(&world.see(A)), (10, 140));
}

#[test]
fn rule_18_inherited_runs_are_shown_and_not_counted() {
    let (mut world, _) = two_devices();
    world.send(A, "u1");
    let u1 = id_of(&world.session(A), "u1");
    let inherited = Run { inherited: true, ..run(&u1, 7, &[&u1]) };
    forge(&mut world, A, &inherited, "copied");
    world.sync_all();
    assert_eq!((world.shape(B), money(&world.see(B))), ("u1 copied".to_owned(), (0, 0)));
}

fn money(seen: &Conversation) -> (u64, u64) {
    (seen.totals.usage.output, seen.totals.cost_micros.0)
}

#[test]
fn rule_19_what_a_worker_must_have_written_and_a_person_did_takes_no_part() {
    let (mut world, worker) = answered("u1");
    let (u1, before) = (id_of(&world.session(B), "u1"), money(&world.see(B)));
    let epoch = Epoch(world.epoch.0 + 5);
    forge(&mut world, B, &run(&u1, epoch.0, &[&u1]), "forged");
    transact(&mut world.replicas[B], |tx| write::set_auto_name(tx, "forged", epoch)).unwrap();
    world.sync_all();
    assert_eq!((world.shape(A), money(&world.see(A))), ("u1 a(u1)".to_owned(), before));
    assert_eq!(world.see(A).auto_title, None);
    assert_eq!(world.due(worker).map(|work| work.kind), Some(WorkKind::Name));
}

#[test]
fn rule_19_a_run_of_someone_unknown_is_shown_as_unverified_and_never_acted_on() {
    let (mut world, worker) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let u1 = id_of(&world.session(A), "u1");
    let actor = world.replicas[worker].get_actor().clone();
    let row = world.writers.rows.remove(&actor).unwrap();
    forge(&mut world, worker, &Run { state: RunState::Streaming, ..run(&u1, 7, &[&u1]) }, "whose?");
    world.sync_all();
    let seen = world.see(A);
    assert!(seen.messages[1].unverified);
    assert_eq!(world.due(worker), None);
    world.writers.rows.insert(actor, row);
    assert!(!world.see(A).messages[1].unverified);
    assert_eq!(world.due(worker).unwrap().kind, WorkKind::TakeOver);
}

#[test]
fn rule_19_what_a_reader_asks_or_says_takes_no_part() {
    let (mut world, worker) = two_devices();
    let viewer = world.join(WriterKind::Member, MemberRole::Viewer);
    world.send(A, "u1");
    world.sync_all();
    let claim = world.claim(worker).unwrap();
    world.sync_all();
    world.foreign_request(viewer, &[("kind", "pause"), ("target", &claim.run.key())]);
    transact(&mut world.replicas[viewer], |tx| world::raw_message(tx, "v1", "said", &[], None)).unwrap();
    world.sync_all();
    assert_eq!(world.must_end(worker, &claim), None);
    assert_eq!(world.see(A).queued, []);
}

#[test]
fn rule_19_an_inherited_run_is_the_makers_or_nobodys() {
    let (mut world, _) = two_devices();
    world.send(A, "u1");
    world.sync_all();
    let u1 = id_of(&world.session(A), "u1");
    let inherited = Run { inherited: true, ..run(&u1, 7, &[&u1]) };
    forge(&mut world, B, &inherited, "forged");
    world.sync_all();
    assert_eq!(world.shape(A), "| u1");
}
