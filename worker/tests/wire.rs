//! What a provider's server does wrong, byte for byte over a real connection, and what becomes of the turn: what passes
//! by itself is waited out in sight of everybody, what only a person can mend is asked once.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use skein_client::{Event, Notices};
use skein_engine::device::Notice;
use skein_engine::ids::DocumentId;
use skein_engine::session::Command;
use skein_engine::session::conversation::{Conversation, Status};
use support::model::{ModelServer, Script, Step, openai, status, stream, stream_head};
use support::{Stage, answer, provider};

/// OpenAI's answer to too many requests: <https://platform.openai.com/docs/guides/error-codes>.
const LIMITED: &str =
    r#"{"error":{"message":"Rate limit reached for requests","type":"requests","code":"rate_limit_exceeded"}}"#;

fn limited(headers: &str) -> Script {
    status("429 Too Many Requests", headers, LIMITED)
}

fn said(text: &str) -> Script {
    stream([openai(&[text], Some("stop")).as_bytes()])
}

/// An answer that says this and whose connection then is lost.
fn cut_after(text: &str) -> Script {
    vec![stream_head(), Step::Send(openai(&[text], None).into_bytes()), Step::Cut]
}

/// Waits for the next thing that a run says it waits for.
async fn told(notices: &mut Notices, session: DocumentId) -> String {
    let waiting = async {
        loop {
            if let Some(Event::Notice(Notice::Activity { session: of, progress: Some(words), .. })) =
                notices.next().await
                && of == session
            {
                return words;
            }
        }
    };
    tokio::time::timeout(support::PATIENCE, waiting).await.unwrap()
}

fn error(conversation: &Conversation) -> (String, bool, String) {
    let error = conversation.turns.last().unwrap().error.clone().unwrap();
    (error.code, error.retryable, error.message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_the_provider_asks_for_is_shown_with_its_time_and_a_pause_ends_it_at_once() {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![limited("retry-after: 540\r\n"), said("Now.")]).await;
    let worker = stage.worker(provider("openai", model.address, ""));
    let mut notices = stage.person.notices();
    let session = stage.new_session("Hello").await;
    let words = told(&mut notices, session).await;
    assert!(words.starts_with("waiting for the provider until ") && words.ends_with(" UTC"), "{words}");
    assert_eq!(stage.conversation(session).unwrap().status, Status::Streaming);

    // Another session of the same provider doesn't knock meanwhile, and says so too.
    let other = stage.new_session("Hello, too").await;
    assert!(told(&mut notices, other).await.starts_with("waiting for the provider until "));
    assert_eq!(model.bodies().len(), 1);

    for session in [session, other] {
        let asked = Instant::now();
        stage.command(session, Command::Pause).await;
        stage.settled(session, Status::Paused).await;
        assert!(asked.elapsed() < Duration::from_millis(1500), "{:?}", asked.elapsed());
    }
    worker.stop().await;
    assert_eq!(model.bodies().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_wait_in_milliseconds_or_until_a_date_is_waited_out() {
    let stage = Stage::new().await;
    let date = "date: Wed, 25 Nov 2026 12:00:00 GMT\r\nretry-after: Wed, 25 Nov 2026 12:00:01 GMT\r\n";
    let model = ModelServer::start(vec![limited("retry-after-ms: 300\r\n"), limited(date), said("Here.")]).await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let begun = Instant::now();
    let session = stage.new_session("Hello").await;
    assert_eq!(answer(&stage.settled(session, Status::Active).await), "Here.");
    assert!(begun.elapsed() >= Duration::from_millis(1300), "{:?}", begun.elapsed());
    assert_eq!(model.bodies().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_of_more_than_ten_minutes_fails_at_once_with_its_time() {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![limited("retry-after: 7200\r\n")]).await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Hello").await;
    let (code, retryable, message) = error(&stage.settled(session, Status::Failed).await);
    assert_eq!((code.as_str(), retryable), ("rate_limit", true));
    assert!(message.contains("It asks to wait until ") && message.ends_with(" UTC."), "{message}");
    assert_eq!(model.bodies().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_cut_again_and_again_goes_on_for_as_long_as_each_try_brings_text() {
    let stage = Stage::new().await;
    let words = ["Alpha ", "beta ", "gamma ", "delta ", "epsilon ", "zeta ", "eta "];
    let mut scripts: Vec<Script> = words.iter().map(|word| cut_after(word)).collect();
    scripts.push(said("omega."));
    let model = ModelServer::start(scripts).await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Count").await;
    let done = stage.settled(session, Status::Active).await;
    assert_eq!(answer(&done), words.concat() + "omega.");
    assert_eq!((model.bodies().len(), done.turns.len()), (8, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_tries_that_bring_nothing_new_fail_the_turn_and_keep_what_came() {
    let stage = Stage::new().await;
    let wordless = vec![
        stream_head(),
        Step::Send(b": keep-alive\n\n".to_vec()),
        Step::Send(openai(&[""], None).into()),
        Step::Cut,
    ];
    let model = ModelServer::start(vec![cut_after("So far"), wordless, limited("retry-after-ms: 5\r\n")]).await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Hello").await;
    let failed = stage.settled(session, Status::Failed).await;
    let (_, retryable, message) = error(&failed);
    assert!(retryable, "{message}");
    assert_eq!(answer(&failed), "So far");
    assert_eq!(model.bodies().len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_person_can_mend_is_asked_once_and_says_what_to_do() {
    let cases = [
        (
            "400 Bad Request",
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens","code":"context_length_exceeded"}}"#,
            "context_too_long",
            "start a new session, duplicate",
        ),
        (
            "429 Too Many Requests",
            r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#,
            "quota",
            "choose another model",
        ),
        ("404 Not Found", r#"{"error":{"message":"The model `x` does not exist"}}"#, "bad_request", "does not exist"),
        ("403 Forbidden", "", "key", "set another one"),
    ];
    let stage = Stage::new().await;
    let model = ModelServer::start(cases.iter().map(|(line, body, ..)| status(line, "", body)).collect()).await;
    let _worker = stage.worker(provider("openai", model.address, "max_concurrent = 1"));
    for (asked, (_, _, code, advice)) in cases.iter().enumerate() {
        let session = stage.new_session("Hello").await;
        let (found, retryable, message) = error(&stage.settled(session, Status::Failed).await);
        assert_eq!((found.as_str(), retryable), (*code, false), "{message}");
        assert!(message.contains(advice), "{message}");
        assert_eq!(model.bodies().len(), asked + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_not_followed_and_says_where_it_leads() {
    let stage = Stage::new().await;
    let elsewhere = ModelServer::start(vec![said("Never.")]).await;
    let location = format!("location: http://{}/v2\r\n", elsewhere.address);
    let model = ModelServer::start(vec![status("307 Temporary Redirect", &location, "")]).await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Hello").await;
    let (code, _, message) = error(&stage.settled(session, Status::Failed).await);
    assert_eq!(code, "bad_request");
    assert!(message.contains(&elsewhere.address.to_string()) && message.contains("base_url"), "{message}");
    assert!(elsewhere.bodies().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_takes_one_request_at_a_time_is_asked_by_one_session_and_the_other_says_that_it_waits() {
    let stage = Stage::new().await;
    let begun = openai(&["Working"], None).into_bytes();
    let model = ModelServer::start(vec![vec![stream_head(), Step::Send(begun), Step::Hold], said("Mine.")]).await;
    let _worker = stage.worker(provider("openai", model.address, "max_concurrent = 1"));
    let mut notices = stage.person.notices();
    let first = stage.new_session("Hello").await;
    stage.spoken(first, 7).await;
    let second = stage.new_session("Hello, too").await;
    let words = told(&mut notices, second).await;
    assert!(words.contains("waiting for its turn") && words.contains("\"test\""), "{words}");
    assert_eq!(model.bodies().len(), 1);
    stage.command(second, Command::Pause).await;
    stage.settled(second, Status::Paused).await;
    stage.command(second, Command::Continue).await;
    told(&mut notices, second).await;
    stage.command(first, Command::Pause).await;
    assert_eq!(answer(&stage.settled(second, Status::Active).await), "Mine.");
    assert_eq!(model.hung_up(), 1);
}
