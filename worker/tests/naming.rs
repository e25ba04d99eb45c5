//! Titles, with a real relay, a real worker and a scripted model's server: what a model gives is taken if it is a
//! title, costs what it costs, and is never in the way of a person's own words.

#![allow(clippy::unwrap_used)]

mod support;

use skein_engine::ids::DocumentId;
use skein_engine::session::conversation::{Status, TurnState};
use skein_engine::session::model::{Run, RunState};
use skein_engine::session::summary::NameSource;
use skein_engine::session::{Command, Summary};
use support::model::{ModelServer, Script, Step, openai, status, stream, stream_head};
use support::{Stage, answer, provider};

fn says(text: &str) -> Script {
    stream([openai(&[text], Some("stop")).as_bytes()])
}

async fn named(stage: &Stage, session: DocumentId, wanted: impl Fn(&Summary) -> bool) -> Summary {
    let named = stage.person.until(support::PATIENCE, |device, now| {
        device.summary(now, session).filter(|summary| summary.name_source == NameSource::Auto && wanted(summary))
    });
    named.await.unwrap_or_else(|| panic!("never named: {:#?}", stage.summary(session)))
}

/// Runs that were made for titles.
fn naming_runs(stage: &Stage, session: DocumentId) -> Vec<Run> {
    let of = |run: &&Run| run.turn == "name" || run.turn.starts_with("name.");
    stage.person.read(|device, _| {
        let session = device.session(session).unwrap();
        session.runs.values().flatten().filter(of).cloned().collect()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_title_is_a_small_request_without_thinking_and_counted_by_itself() {
    let stage = Stage::new().await;
    let refused = r#"{"error":{"message":"Unrecognized request argument supplied: reasoning_effort"}}"#;
    let model = ModelServer::start(vec![
        says("Der Mond verdeckt die Sonne."),
        status("400 Bad Request", "", refused),
        says("Titel: „Wie eine Sonnenfinsternis entsteht“"),
    ])
    .await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Was ist eine Sonnenfinsternis?").await;
    let summary = named(&stage, session, |_| true).await;
    assert_eq!(summary.name, "Wie eine Sonnenfinsternis entsteht");
    let bodies = model.bodies();
    assert_eq!(bodies.len(), 3);
    for said in ["Was ist eine Sonnenfinsternis?", "Der Mond verdeckt die Sonne."] {
        assert!(bodies[2].contains(said), "{}", bodies[2]);
    }
    // A model that doesn't reason isn't told how much to.
    assert!(bodies[1].contains(r#""reasoning_effort":"low""#) && !bodies[2].contains("reasoning_effort"));
    let conversation = stage.settled(session, Status::Active).await;
    assert_eq!((conversation.turns.len(), conversation.turns[0].usage.output), (1, 5));
    let runs = naming_runs(&stage, session);
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].usage.input, runs[0].usage.output), (10, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_an_error_or_nothing_in_place_of_a_title_leaves_one_from_the_text() {
    let stage = Stage::new().await;
    let quota = r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#;
    let thought = "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n";
    let endless = openai(&["The sky is blue because ", &"of the light ".repeat(50)], None);
    let writes_on = vec![stream_head(), Step::Send(endless.into_bytes()), Step::Hold];
    for instead in [
        says("Paris is the capital of France."),
        says(""),
        stream([thought.as_bytes()]),
        status("429 Too Many Requests", "", quota),
        writes_on,
    ] {
        let model = ModelServer::start(vec![says("It is Paris."), instead]).await;
        let worker = stage.worker(provider("openai", model.address, ""));
        let session = stage.new_session("what's the capital of France, please?").await;
        assert_eq!(named(&stage, session, |_| true).await.name, "What's the capital of France please");
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persons_next_message_does_not_wait_for_a_title() {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![
        says("One."),
        vec![stream_head(), Step::Hold],
        says("Two."),
        says("Counting up slowly"),
    ])
    .await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Count").await;
    stage.settled(session, Status::Active).await;
    let asking = async {
        while model.bodies().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(support::PATIENCE, asking).await.unwrap();
    stage.send(session, "Go on").await;
    stage
        .until(session, "the second answer", |conversation| {
            let done = conversation.turns.len() == 2 && conversation.turns[1].state == TurnState::Completed;
            (done && answer(conversation) == "Two.").then_some(())
        })
        .await;
    assert_eq!(named(&stage, session, |_| true).await.name, "Counting up slowly");
    let mut states: Vec<_> = naming_runs(&stage, session).iter().map(|run| run.state).collect();
    states.sort_by_key(|state| *state == RunState::Completed);
    assert_eq!(states, [RunState::Failed, RunState::Completed]);
    assert_eq!(model.hung_up(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smart_rename_reads_the_whole_talk() {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![
        says("Take a tent."),
        says("Packing for a trip"),
        says("Then take chains for the tyres."),
        says("Winter camping by car"),
    ])
    .await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("What shall I pack?").await;
    assert_eq!(named(&stage, session, |_| true).await.name, "Packing for a trip");
    stage.send(session, "We go by car, in winter").await;
    stage
        .until(session, "the second answer", |conversation| {
            (conversation.turns.len() == 2 && conversation.turns[1].state == TurnState::Completed).then_some(())
        })
        .await;
    stage.command(session, Command::SmartRename).await;
    named(&stage, session, |summary| summary.name == "Winter camping by car").await;
    let asked = model.bodies().pop().unwrap();
    for said in ["What shall I pack?", "Take a tent.", "We go by car, in winter", "chains for the tyres"] {
        assert!(asked.contains(said), "{asked}");
    }
}
