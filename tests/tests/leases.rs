//! Workers as processes that sleep and die: whatever becomes of them, a session has one answer, the same for every
//! reader, and no screen shows for long that somebody is writing who isn't.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use serde_json::Value;
use skein_tests::skein::{Home, Skein};
use skein_tests::{PATIENCE, within};
use tokio::process::{Child, Command};

/// Long enough to be stopped in the middle.
const SPEED: &str = "[worker]\ndemo_speed = 120\n";
const LONG: &str = "A long story, please.";
/// Nobody may see a dead worker write for longer.
const DEAD_WITHIN: Duration = Duration::from_secs(15);

async fn begin(skein: &Skein, message: &str) -> String {
    let made = skein.session_json(&["new", "--name", "A story", "--message", message]).await;
    made["id"].as_str().unwrap().to_owned()
}

fn texts(shown: &Value, role: &str) -> Vec<String> {
    let messages = shown["messages"].as_array().unwrap().iter().filter(|message| message["role"] == role);
    let text = |message: &Value| {
        let parts = message["parts"].as_array().unwrap().iter().filter(|part| part["type"] == "text");
        parts.map(|part| part["text"].as_str().unwrap()).collect::<String>()
    };
    messages.map(text).collect()
}

async fn signal(process: &Child, name: &str) {
    let pid = process.id().unwrap().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().await.unwrap().success());
}

/// Waits until the list shows a session like this.
async fn until_listed(skein: &Skein, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    within(what, async {
        loop {
            if let Some(row) = skein.listed().await.into_iter().find(|row| row["id"] == id && wanted(row)) {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

/// Waits until words of the answer are in the document, and its turn streams still.
async fn until_words_are_kept(skein: &Skein, id: &str) {
    let kept = |row: &Value| row["status"] == "STREAMING" && !row["preview"].as_str().unwrap().starts_with(LONG);
    until_listed(skein, id, "the first words of an answer", kept).await;
}

/// What a device shows that has never seen the session before.
async fn shown_anew(skein: &Skein, id: &str, name: &str) -> Value {
    let mut command = skein.command();
    command.env("SKEIN_DATA", skein.home.path(name)).args(["session", "show", id, "--json"]);
    let output = within("skein session show", command.output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_worker_that_sleeps_past_its_lease_and_wakes_spoils_nothing() {
    let home = Home::new();
    home.write("skein.toml", SPEED);
    let relay = home.start("relay", "127.0.0.1:0").await;
    let token = relay.worker_token().await;
    let sleeper = relay.worker(&token);
    let id = begin(&relay, LONG).await;
    until_words_are_kept(&relay, &id).await;
    signal(&sleeper, "-STOP").await;
    let mut other = relay.worker(&token);
    relay.session(&["wait", &id, "--timeout", "60"]).await;
    let before = relay.session_json(&["show", &id]).await;

    // It wakes in the middle of its sentence, and must be the one that answers next.
    signal(&sleeper, "-CONT").await;
    other.kill().await.unwrap();
    relay.session(&["send", &id, LONG]).await;
    relay.session(&["wait", &id, "--timeout", "60"]).await;

    let readers = [
        relay.session_json(&["show", &id]).await,
        shown_anew(&relay, &id, "second device").await,
        shown_anew(&relay, &id, "third device").await,
    ];
    for shown in &readers {
        assert_eq!(shown["messages"], readers[0]["messages"], "every reader sees the same");
        assert_eq!(shown["costMicros"], readers[0]["costMicros"]);
        assert_eq!(shown["status"], "ACTIVE", "{shown:#}");
        let turns = shown["turns"].as_array().unwrap();
        assert!(turns.len() == 2 && turns.iter().all(|turn| turn["state"] == "completed"), "{shown:#}");
        assert_eq!(texts(shown, "user"), [LONG, LONG]);
    }
    let first = texts(&before, "assistant").concat();
    let both = texts(&readers[0], "assistant").concat();
    let second = both.strip_prefix(&first).unwrap_or_else(|| panic!("the first answer has changed:\n{first}\n{both}"));
    // The demo tells everyone the same story: nothing of the one that was cut is there twice, or lacking.
    assert!(first.len() > 500, "{first}");
    let whole = begin(&relay, LONG).await;
    relay.session(&["wait", &whole, "--timeout", "60"]).await;
    let whole = texts(&relay.session_json(&["show", &whole]).await, "assistant").concat();
    assert_eq!(first, whole);
    assert!(!second.is_empty());
}

#[tokio::test]
async fn nobody_shows_a_dead_worker_writing_for_long() {
    let home = Home::new();
    home.write("skein.toml", SPEED);
    let relay = home.start("relay", "127.0.0.1:0").await;
    let mut worker = relay.worker(&relay.worker_token().await);
    let id = begin(&relay, LONG).await;
    until_words_are_kept(&relay, &id).await;
    // A device that was looking, and goes on looking at what it has.
    assert_eq!(relay.session_json(&["show", &id]).await["status"], "STREAMING");
    worker.kill().await.unwrap();
    let killed = Instant::now();
    let row = until_listed(&relay, &id, "the end of a dead worker's turn", |row| row["status"] != "STREAMING").await;
    println!("a dead worker's session is no longer STREAMING after {:?}", killed.elapsed());
    assert_eq!((row["status"].as_str(), row["queued"]["reason"].as_str()), (Some("ACTIVE"), Some("workerLost")));
    let shown = relay.session_json(&["show", &id]).await;
    assert!(killed.elapsed() < DEAD_WITHIN && DEAD_WITHIN < PATIENCE);
    assert_eq!(shown["status"], "ACTIVE", "{shown:#}");
    assert!(!texts(&shown, "assistant").concat().is_empty(), "what was there is kept: {shown:#}");
}
