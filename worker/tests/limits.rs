//! What is spent is counted when a worker dies, and what may not be spent is not: limits pause and ask.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use serde_json::Value;
use skein_engine::ids::{DocumentId, Micros};
use skein_engine::session::Command;
use skein_engine::session::conversation::{Content, Reason, Status, TurnState, Waiting};
use skein_engine::session::spent::spent;
use skein_engine::workspace::WorkspaceCommand;
use skein_worker::Settings;
use support::model::{ModelServer, Step, openai, stream, stream_head};
use support::{Stage, answer, parts, provider};

/// Each answer of the server costs 10 × $0.10 + 5 × $0.20 = $2.
const PRICE: &str = "[[price]]\nmodel = \"test/some-model\"\ninput = 100000.0\noutput = 200000.0\ncache_read = 10000.0";
const DOLLAR: u64 = 1_000_000;

fn settings(model: &ModelServer) -> Settings {
    provider("openai", model.address, PRICE)
}

/// Requests that were no titles.
fn asked(model: &ModelServer) -> usize {
    model.bodies().iter().filter(|body| !body.contains("title")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_reached_holds_the_queue_and_only_a_raised_one_goes_on() {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![stream([openai(&["Yes."], Some("stop")).as_bytes()])]).await;
    let _worker = stage.worker(settings(&model));
    let session = stage.new_session("One").await;
    stage.command(session, Command::Rename { name: "Limited".into() }).await;
    let done = stage.settled(session, Status::Active).await;
    assert_eq!(done.totals.cost_micros, Micros(2 * DOLLAR));
    let resume = done.resume.unwrap();
    assert_eq!((resume.cached_until, resume.uncached_micros), (None, Some(Micros(3 * DOLLAR / 2))));

    stage.command(session, Command::SetSpendLimit { micros: Some(Micros(2 * DOLLAR)) }).await;
    stage.send(session, "Two").await;
    let limited = stage.settled(session, Status::Paused).await;
    let Some(Reason::Limit { message }) = &limited.reason else { panic!("{limited:#?}") };
    assert!(message.contains("of this session of $2.00 is reached ($2.00 spent)"), "{message}");
    assert_eq!(limited.turns[1].error.as_ref().unwrap().code, "spend_limit");
    assert_eq!(asked(&model), 1, "nothing is sent once it is reached");

    // What is queued is held; continuing without raising ends in the same way, without a call.
    stage
        .command(
            session,
            Command::Send(skein_engine::session::command::Draft {
                text: "Three".into(),
                queue: true,
                ..Default::default()
            }),
        )
        .await;
    let held = stage.until(session, "held", |conversation| conversation.waiting).await;
    assert_eq!(held, Waiting::HeldByLimit);
    let runs = limited.turns[1].run.clone();
    stage.command(session, Command::Continue).await;
    stage
        .until(session, "limited again", |conversation| {
            let again = conversation.turns.get(1).filter(|turn| turn.run != runs)?;
            (again.state == TurnState::Paused && conversation.status == Status::Paused).then_some(())
        })
        .await;
    assert_eq!(asked(&model), 1);

    // Raising it starts nothing by itself.
    stage.command(session, Command::SetSpendLimit { micros: None }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((asked(&model), stage.conversation(session).unwrap().status), (1, Status::Paused));
    stage.command(session, Command::Continue).await;
    let done = stage.settled(session, Status::Active).await;
    assert_eq!((done.turns.len(), asked(&model)), (3, 3), "the turn goes on, then the queue: {done:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_the_estimate_passes_stops_the_answer_and_keeps_it() {
    let stage = Stage::new().await;
    let text = "word ".repeat(40);
    let mut script = vec![stream_head()];
    for _ in 0..40 {
        script.push(Step::Send(openai(&[&text], None).into_bytes()));
        script.push(Step::Wait(Duration::from_millis(100)));
    }
    let model = ModelServer::start(vec![script]).await;
    let _worker = stage.worker(settings(&model));
    let session = stage.new_session("Go on").await;
    stage.command(session, Command::SetSpendLimit { micros: Some(Micros(20 * DOLLAR)) }).await;
    let limited = stage.settled(session, Status::Paused).await;
    assert!(answer(&limited).len() >= 400, "what came stays");
    assert!(matches!(limited.reason, Some(Reason::Limit { .. })) && limited.turns[0].estimated);
    assert!(limited.totals.cost_micros >= Micros(20 * DOLLAR), "{:?}", limited.totals);
    assert_eq!(model.hung_up(), 1, "the model's connection is cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_cant_be_kept_for_want_of_a_price_says_so() {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![stream([openai(&["Yes."], Some("stop")).as_bytes()])]).await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("One").await;
    stage.command(session, Command::SetSpendLimit { micros: Some(Micros(1)) }).await;
    stage.send(session, "Two").await;
    let done = stage.settled(session, Status::Active).await;
    assert!(done.totals.incomplete && done.turns.iter().all(|turn| turn.cost_micros.is_none()), "unknown, never 0");
    let said = |part: &Content| matches!(part, Content::Event { summary } if summary.contains("no price is known"));
    assert!(parts(&done).iter().any(said), "{done:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_worker_used_is_counted_as_an_estimate() {
    let stage = Stage::new().await;
    let begun = openai(&[&"word ".repeat(400)], None);
    let script = vec![
        stream_head(),
        Step::Send(begun.clone().into_bytes()),
        Step::Wait(Duration::from_millis(2300)),
        Step::Send(openai(&["more"], None).into_bytes()),
        Step::Hold,
    ];
    let model = ModelServer::start(vec![script, stream([openai(&["end."], Some("stop")).as_bytes()])]).await;
    let first = stage.worker(settings(&model));
    let session = stage.new_session("Go on").await;
    let counted = stage
        .until(session, "a checkpoint with its usage", |conversation| {
            let turn = conversation.turns.first()?;
            (turn.usage.output >= 400).then(|| turn.clone())
        })
        .await;
    assert!(counted.estimated && counted.cost_micros.is_some_and(|cost| cost.0 > 0), "{counted:?}");
    first.kill();
    let _second = stage.worker(settings(&model));
    let done = stage.settled(session, Status::Active).await;
    assert!(done.totals.usage.output >= counted.usage.output + 5 && done.totals.estimated, "{:?}", done.totals);
}

async fn day_limit(stage: &Stage, limit: Option<u64>) {
    let here = stage.person.until(support::PATIENCE, |device, _| {
        let document = device.identity()?.workspace_document;
        device.document(document).ok().map(|_| ())
    });
    here.await.unwrap();
    let command = WorkspaceCommand::SetDayLimit { limit: limit.map(Micros) };
    stage.person.act(|device, now| device.workspace_command(now, &command)).await.unwrap();
    let document = stage.person.read(|device, _| device.identity().unwrap().workspace_document);
    let stored = stage.person.until(support::PATIENCE, |device, _| device.acknowledged(document).then_some(()));
    stored.await.unwrap();
}

/// What the relay says that all sessions have cost, by day.
async fn reported(stage: &Stage) -> Vec<Value> {
    let answer = reqwest::Client::new().get(format!("{}/query/cost?by=day", stage.url));
    let answer = answer.bearer_auth(stage.relay.owner_token()).send().await.unwrap().error_for_status().unwrap();
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

async fn reports(stage: &Stage, micros: u64) {
    let told = tokio::time::timeout(support::PATIENCE, async {
        while reported(stage).await.iter().map(|day| day["costMicros"].as_u64().unwrap()).sum::<u64>() != micros {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(told.await.is_ok(), "{micros} expected: {:?}", reported(stage).await);
}

async fn named_session(stage: &Stage, text: &str) -> DocumentId {
    let session = stage.new_session(text).await;
    stage.command(session, Command::Rename { name: "A name of its own".into() }).await;
    session
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_a_day_counts_all_sessions_and_what_other_workers_spent() {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![stream([openai(&["Yes."], Some("stop")).as_bytes()])]).await;
    let first = stage.worker(settings(&model));
    day_limit(&stage, Some(4 * DOLLAR)).await;
    let one = named_session(&stage, "One").await;
    stage.settled(one, Status::Active).await;
    let two = named_session(&stage, "Two").await;
    stage.settled(two, Status::Active).await;
    // Whatever the relay has heard of yet, this worker knows what it spent.
    let three = named_session(&stage, "Three").await;
    let limited = stage.settled(three, Status::Paused).await;
    let Some(Reason::Limit { message }) = &limited.reason else { panic!("{limited:#?}") };
    assert!(message.contains("of the workspace for a day of $4.00 is reached ($4.00 spent)"), "{message}");
    assert!(message.contains("skein workspace limit"), "{message}");
    assert_eq!((limited.turns[0].error.as_ref().unwrap().code.as_str(), asked(&model)), ("spend_limit", 2));

    // Another worker asks the relay.
    reports(&stage, 4 * DOLLAR).await;
    first.stop().await;
    let _second = stage.worker(settings(&model));
    let four = named_session(&stage, "Four").await;
    stage.settled(four, Status::Paused).await;
    assert_eq!(asked(&model), 2, "nothing is sent");

    // Raised, it starts nothing; what is continued goes on, once.
    day_limit(&stage, Some(6 * DOLLAR)).await;
    stage.command(four, Command::Continue).await;
    stage.settled(four, Status::Active).await;
    stage.command(three, Command::Continue).await;
    stage.until(three, "limited again", |seen| (seen.turns[0].run != limited.turns[0].run).then_some(())).await;
    stage.settled(three, Status::Paused).await;
    assert_eq!(asked(&model), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_surface_says_the_same_sum() {
    let stage = Stage::new().await;
    let cheap = "[[price]]\nmodel = \"test/some-model\"\ninput = 0.13\noutput = 0.27";
    let model = ModelServer::start(vec![stream([openai(&["Yes."], Some("stop")).as_bytes()])]).await;
    let _worker = stage.worker(provider("openai", model.address, cheap));
    let session = named_session(&stage, "One").await;
    stage.settled(session, Status::Active).await;
    stage.send(session, "Two").await;
    stage.until(session, "two turns", |seen| (seen.turns.len() == 2).then_some(())).await;
    let done = stage.settled(session, Status::Active).await;
    // Each run: 10 × 0.13 + 5 × 0.27 = 2.65 micro-dollars, rounded once, to 3.
    assert_eq!(done.totals.cost_micros, Micros(6), "{:?}", done.totals);
    let by_turn: u64 = done.turns.iter().filter_map(|turn| turn.cost_micros).map(|micros| micros.0).sum();
    let by_day: u64 = stage.person.read(|device, _| {
        let (_, writers) = device.leases(session);
        spent(device.session(session).unwrap(), &writers).iter().map(|sum| sum.cost_micros.0).sum()
    });
    let listed = stage.person.until(support::PATIENCE, |device, now| {
        device.summary(now, session).and_then(|summary| summary.cost_micros).filter(|micros| *micros == Micros(6))
    });
    assert_eq!((by_turn, by_day, listed.await), (6, 6, Some(Micros(6))));
    reports(&stage, 6).await;
}
