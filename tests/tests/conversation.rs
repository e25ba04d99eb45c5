//! Whole conversations from the command line: relay and worker apart, a worker that dies in mid-turn, a viewer that
//! comes late, pause and continue, a call that waits for its person.

#![allow(clippy::unwrap_used)]

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use skein_tests::skein::{Home, Skein};
use skein_tests::{PATIENCE, within};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// Long enough to be stopped in the middle, short enough to be waited for.
const SPEED: &str = "[worker]\ndemo_speed = 120\n";
const LONG: &str = "A long story, please.";

async fn begin(skein: &Skein, message: &str) -> String {
    let made = skein.session_json(&["new", "--name", "A conversation", "--message", message]).await;
    made["id"].as_str().unwrap().to_owned()
}

/// The words of all answers.
fn said(shown: &Value) -> String {
    let messages = shown["messages"].as_array().unwrap().iter();
    let parts = messages
        .filter(|message| message["role"] == "assistant")
        .flat_map(|message| message["parts"].as_array().unwrap())
        .filter(|part| part["type"] == "text");
    parts.map(|part| part["text"].as_str().unwrap()).collect()
}

/// Waits until some words of the answer are in the document, with its turn streaming still.
async fn until_words_are_kept(skein: &Skein, id: &str) -> String {
    let begun = Instant::now();
    loop {
        let shown = skein.session_json(&["show", id]).await;
        if !said(&shown).is_empty() {
            assert_eq!(shown["status"], "STREAMING", "{shown:#}");
            return said(&shown);
        }
        assert!(begun.elapsed() < PATIENCE, "no words come: {shown:#}\nserver: {}", skein.home.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the demo model says to [`LONG`] when nothing cuts it.
async fn whole_story(skein: &Skein) -> String {
    let id = begin(skein, LONG).await;
    skein.session(&["wait", &id, "--timeout", "60"]).await;
    let story = said(&skein.session_json(&["show", &id]).await);
    assert!(story.len() > 500, "{story}");
    story
}

#[tokio::test]
async fn a_worker_that_dies_in_mid_turn_is_followed_by_another() {
    let home = Home::new();
    home.write("skein.toml", SPEED);
    let relay = home.start("relay", "127.0.0.1:0").await;
    let token = relay.worker_token().await;

    let mut first = relay.worker(&token);
    let id = begin(&relay, LONG).await;
    let kept = until_words_are_kept(&relay, &id).await;
    first.kill().await.unwrap();

    let _second = relay.worker(&token);
    relay.session(&["wait", &id, "--timeout", "60"]).await;
    let shown = relay.session_json(&["show", &id]).await;
    assert_eq!(shown["turns"].as_array().unwrap().len(), 1, "{shown:#}");
    assert_eq!(shown["turns"][0]["state"], "completed", "{shown:#}");
    assert!(said(&shown).starts_with(&kept), "what was kept is gone: {shown:#}");
    assert_eq!(said(&shown), whole_story(&relay).await);
}

#[tokio::test]
async fn a_viewer_that_comes_late_sees_every_word_once() {
    let home = Home::new();
    home.write("skein.toml", SPEED);
    let skein = home.serve().await;
    let id = begin(&skein, LONG).await;
    until_words_are_kept(&skein, &id).await;
    let mut tail =
        skein.command().args(["session", "tail", &id]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    skein.session(&["wait", &id, "--timeout", "60"]).await;
    // Its last words may be on their way still.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pid = tail.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let mut seen = String::new();
    within("the end of tail", tail.stdout.take().unwrap().read_to_string(&mut seen)).await.unwrap();
    let story = said(&skein.session_json(&["show", &id]).await);
    assert_eq!(seen.matches(story.trim()).count(), 1, "seen:\n{seen}\n\nthe story:\n{story}");
    let first_words: String = story.chars().take(40).collect();
    assert_eq!(seen.matches(&first_words).count(), 1, "{seen}");
}

#[tokio::test]
async fn a_paused_turn_keeps_what_came_and_continues_to_the_same_words() {
    let home = Home::new();
    home.write("skein.toml", SPEED);
    let skein = home.serve().await;
    let id = begin(&skein, LONG).await;
    let kept = until_words_are_kept(&skein, &id).await;
    // Written before the pause: it is held by it.
    skein.session(&["send", &id, "And then?"]).await;
    skein.session(&["pause", &id]).await;
    skein.session(&["wait", &id, "--until", "paused", "--timeout", "30"]).await;
    let paused = skein.session_json(&["show", &id]).await;
    assert_eq!(paused["status"], "PAUSED", "{paused:#}");
    assert!(said(&paused).starts_with(&kept), "{paused:#}");
    assert_eq!((&paused["queued"]["count"], &paused["queued"]["held"]), (&1.into(), &true.into()), "{paused:#}");

    skein.session(&["continue", &id]).await;
    skein.session(&["wait", &id, "--timeout", "60"]).await;
    let shown = skein.session_json(&["show", &id]).await;
    assert_eq!(shown["status"], "ACTIVE", "{shown:#}");
    let turns = shown["turns"].as_array().unwrap();
    assert_eq!(turns.len(), 2, "the held message is answered in the end: {shown:#}");
    let story = whole_story(&skein).await;
    assert!(said(&shown).starts_with(&story), "{shown:#}");
}

#[tokio::test]
async fn a_call_waits_for_its_person() {
    let home = Home::new();
    home.write("skein.toml", SPEED);
    let skein = home.serve().await;
    for (decision, state) in [("approve", "done"), ("deny", "denied")] {
        let id = begin(&skein, "Use approve").await;
        skein.session(&["wait", &id, "--until", "paused", "--timeout", "30"]).await;
        let shown = skein.session_json(&["show", &id]).await;
        let calls = |shown: &Value| -> Vec<Value> {
            let parts = shown["messages"].as_array().unwrap().iter().flat_map(|m| m["parts"].as_array().unwrap());
            parts.filter(|part| part["type"] == "tool_call").cloned().collect()
        };
        let waiting = calls(&shown);
        assert_eq!(waiting.len(), 1, "{shown:#}");
        assert_eq!(waiting[0]["state"], "waiting", "{shown:#}");
        skein.session(&[decision, &id, waiting[0]["id"].as_str().unwrap()]).await;
        skein.session(&["wait", &id, "--until", "active", "--timeout", "30"]).await;
        let shown = skein.session_json(&["show", &id]).await;
        assert_eq!(calls(&shown)[0]["state"], state, "{shown:#}");
        assert!(!said(&shown).is_empty(), "{shown:#}");
    }
}
