//! The example in `examples/javascript`, run as its page says: nothing in it is ours, and a worker answers what it writes.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use skein_tests::skein::{Home, Skein};
use skein_tests::within;
use tokio::process::Command;

/// Runs the example: what it printed, or what it complained of.
async fn example(skein: &Skein, arguments: &[&str]) -> Result<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/javascript");
    assert!(
        folder.join("node_modules").is_dir(),
        "run `npm ci` in examples/javascript first (`cargo xtask test` does)"
    );
    let mut node = Command::new("node");
    node.current_dir(folder).arg("sessions.js").args(arguments);
    node.env("SKEIN_RELAY", format!("http://{}", skein.address)).env("SKEIN_TOKEN", skein.token());
    let output = within("the example", node.kill_on_drop(true).output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[tokio::test]
async fn a_plain_javascript_client_creates_lists_reads_and_renames_a_session() {
    let skein = Home::new().serve().await;
    assert_eq!(example(&skein, &["list"]).await.unwrap(), "");
    let id = example(&skein, &["create", "From JavaScript", "Hello"]).await.unwrap();

    let data = skein.home.path("client");
    let url = format!("http://{}", skein.address);
    let token = skein.token();
    let place = ["--relay", &url, "--token", &token, "--data", data.to_str().unwrap()];
    let waited = skein.home.run(&[&["session", "wait", &id], &place[..]].concat()).await;
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));

    let listed = example(&skein, &["list"]).await.unwrap();
    assert_eq!(listed, format!("{id}  ACTIVE  From JavaScript"));
    let read = example(&skein, &["read", &id]).await.unwrap();
    let (question, answer) = read.split_once('\n').expect("it has been answered");
    assert_eq!(question, "user: Hello");
    assert!(answer.starts_with("assistant: ") && answer.len() > "assistant: ".len(), "{answer}");

    example(&skein, &["rename", &id, "Renamed in JavaScript"]).await.unwrap();
    let shown = skein.home.run(&[&["session", "show", &id, "--json"], &place[..]].concat()).await;
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((shown["name"].as_str(), shown["nameSource"].as_str()), (Some("Renamed in JavaScript"), Some("user")));

    let unknown = skein_engine::ids::DocumentId::random().to_string();
    assert!(example(&skein, &["read", &unknown]).await.is_err());
    assert!(example(&skein, &["create", "No message"]).await.unwrap_err().starts_with("usage:"));
}
