//! What is wrong around Skein: its folder, its port, its settings, the relay or model that it wants to reach. Each ends
//! in one clear line where the user looks, never in a panic, a lost change or a turn that hangs.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::process::Output;
use std::time::Duration;

use skein_tests::skein::{Home, Skein};
use skein_tests::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Asserts that a command failed with `code` and one line on standard error that names each of `words`.
fn assert_one_line(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "\"{word}\" is not in: {said}");
    }
}

/// Starts `serve` where it can't, and returns how it ended.
async fn serve_in_vain(home: &Home, listen: &str) -> Output {
    let data = home.path("data");
    home.run(&["serve", "--data", data.to_str().unwrap(), "--listen", listen]).await
}

/// An address on which nothing listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = serve_in_vain(&Home::new(), &address).await;
    assert_one_line(&output, 1, &[&address]);
}

#[tokio::test]
async fn a_data_folder_that_is_a_file_is_named() {
    let home = Home::new();
    home.write("data", "not a folder");
    let output = serve_in_vain(&home, "127.0.0.1:0").await;
    assert_one_line(&output, 1, &[home.path("data").to_str().unwrap()]);
}

#[tokio::test]
async fn a_data_folder_that_another_relay_uses_is_named() {
    let mut skein = Home::new().serve().await;
    let output = serve_in_vain(&skein.home, "127.0.0.1:0").await;
    assert_one_line(&output, 1, &[skein.home.path("data").to_str().unwrap()]);
    assert!(skein.runs());
}

#[tokio::test]
async fn a_broken_store_is_set_aside_and_said_so_and_clients_fill_it_again() {
    let skein = Home::new().serve().await;
    let made = skein.session_json(&["new", "--name", "Kept by its device", "--message", "Hello"]).await;
    let id = made["id"].as_str().unwrap().to_owned();
    skein.session(&["wait", &id]).await;
    let listen = skein.address.to_string();
    let (home, _) = skein.terminate().await;

    let mut scribbled = 0;
    let mut folders = vec![home.path("data")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if ["db", "conf"].contains(&name.as_str()) || name.starts_with("snap") {
                // The store's own files: every byte of them turned.
                let bytes: Vec<u8> = std::fs::read(entry.path()).unwrap().iter().map(|byte| byte ^ 0xa5).collect();
                std::fs::write(entry.path(), bytes).unwrap();
                scribbled += 1;
            }
        }
    }
    assert!(scribbled > 0, "no file of the store was found");

    let skein = home.start("serve", &listen).await;
    let log = home.log();
    assert!(log.contains("moved to"), "it is not said that a store was set aside: {log}");
    // The device has the session still, and can show it.
    let shown = skein.session_json(&["show", &id]).await;
    assert_eq!(shown["name"], "Kept by its device");
}

#[tokio::test]
async fn a_typo_in_the_settings_is_named() {
    for (text, named) in [
        ("[worker]\nmodle = \"local/x\"\n", "modle"),
        ("[wroker]\nmodel = \"local/x\"\n", "wroker"),
        ("[worker]\nmodel = \n", "skein.toml"),
        ("[[provider]]\nname = \"x\"\nkind = \"opnai\"\nbase_url = \"http://127.0.0.1:1/v1\"\n", "opnai"),
    ] {
        let home = Home::new();
        home.write("skein.toml", text);
        let output = serve_in_vain(&home, "127.0.0.1:0").await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{text}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{text}: {said}");
        assert!(said.contains(named) && said.contains("skein.toml"), "{text}: {said}");
    }
}

#[tokio::test]
async fn a_wrong_option_is_wrong_usage() {
    for arguments in [&["serve", "--lisen", "x"][..], &["session", "nwe"], &["session", "show"], &["nothing"]] {
        let output = Home::new().run(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn a_session_that_is_not_there_is_named() {
    let skein = Home::new().serve().await;
    let unknown = skein_engine::ids::DocumentId::random().to_string();
    for id in [unknown.as_str(), "nonsense"] {
        let output = within("show", skein.command().args(["session", "show", id]).output()).await.unwrap();
        assert_one_line(&output, 1, &[id]);
    }
}

#[tokio::test]
async fn a_wrong_token_is_said_to_be_wrong() {
    let skein = Home::new().serve().await;
    let mut command = skein.command();
    command.env("SKEIN_TOKEN", "not-the-token").args(["session", "list"]);
    let output = within("list", command.output()).await.unwrap();
    assert_one_line(&output, 1, &["token"]);

    let mut command = skein.home.command();
    command.args(["worker", "--relay", &skein.url(""), "--token", "not-the-token"]);
    let output = within("worker", command.output()).await.unwrap();
    assert_one_line(&output, 1, &["token"]);
}

#[tokio::test]
async fn without_its_relay_the_command_line_works_on_its_replica_and_says_so() {
    let skein = Home::new().serve().await;
    let made = skein.session_json(&["new", "--message", "Before the relay went"]).await;
    let id = made["id"].as_str().unwrap().to_owned();
    skein.session(&["wait", &id]).await;
    let (listen, token) = (skein.address.to_string(), skein.token());
    let home = skein.kill().await;

    let offline = |arguments: &[&str]| {
        let mut command = home.command();
        command
            .env("SKEIN_RELAY", format!("http://{listen}"))
            .env("SKEIN_TOKEN", &token)
            .env("SKEIN_DATA", home.path("replica"))
            .arg("session")
            .args(arguments);
        command
    };
    let renamed = within("rename", offline(&["rename", &id, "Named offline"]).output()).await.unwrap();
    let said = String::from_utf8_lossy(&renamed.stderr);
    assert!(renamed.status.success(), "{said}");
    assert!(said.contains("offline"), "{said}");
    let shown = within("show", offline(&["show", &id, "--json"]).output()).await.unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["name"], "Named offline");
    // What can't be done without the relay ends, in time.
    let sent = within("send", offline(&["send", &id, "Written offline"]).output()).await.unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let waited = within("wait", offline(&["wait", &id, "--timeout", "2"]).output()).await.unwrap();
    assert_eq!(waited.status.code(), Some(3), "{}", String::from_utf8_lossy(&waited.stderr));

    let skein = home.start("serve", &listen).await;
    skein.session(&["wait", &id]).await;
    let shown = skein.session_json(&["show", &id]).await;
    assert_eq!(shown["name"], "Named offline");
    assert_eq!(shown["turns"].as_array().unwrap().len(), 2, "the message written offline is answered: {shown}");
}

/// Starts `serve` with an OpenAI-compatible model at `url`.
async fn serve_with_model(url: &str) -> Skein {
    let home = Home::new();
    home.write(
        "skein.toml",
        &format!(
            "[worker]\nmodel = \"local/some\"\n\n[[provider]]\nname = \"local\"\nkind = \"openai\"\nbase_url = \
             \"{url}\"\n"
        ),
    );
    home.serve().await
}

/// A message to a model that can't answer: the turn ends as failed, and says why.
async fn assert_turn_fails(skein: &Skein, words: &[&str]) {
    let made = skein.session_json(&["new", "--message", "Hello?"]).await;
    let id = made["id"].as_str().unwrap();
    let waited = tokio::time::timeout(
        Duration::from_secs(150),
        skein.command().args(["session", "wait", id, "--until", "failed", "--timeout", "120"]).output(),
    );
    let waited = waited.await.expect("wait ends by its own timeout").unwrap();
    let shown = skein.session_json(&["show", id]).await;
    assert_eq!(waited.status.code(), Some(0), "the turn hangs: {shown:#}");
    assert_eq!(shown["status"], "FAILED", "{shown:#}");
    let told = shown.to_string();
    for word in words {
        assert!(told.contains(word), "\"{word}\" is not in: {shown:#}");
    }
    // The message is there still.
    assert_eq!(shown["messages"][0]["parts"][0]["text"], "Hello?", "{shown:#}");
}

#[tokio::test]
async fn a_model_that_cannot_be_reached_fails_its_turn() {
    let address = nobody().await.to_string();
    let skein = serve_with_model(&format!("http://{address}/v1")).await;
    assert_turn_fails(&skein, &[&address]).await;
}

#[tokio::test]
async fn a_wrong_key_fails_its_turn_with_the_providers_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let body = "{\"error\": {\"message\": \"Incorrect API key provided: sk-wrong.\", \"type\": \
                        \"invalid_request_error\", \"code\": \"invalid_api_key\"}}";
            let answer = format!(
                "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: \
                 close\r\n\r\n{body}",
                body.len()
            );
            let mut buffer = [0; 65_536];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let skein = serve_with_model(&format!("http://{address}/v1")).await;
    assert_turn_fails(&skein, &["Incorrect API key"]).await;
    // A key that is wrong once is wrong again: nobody is asked twice.
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_signal_ends_it_cleanly() {
    let (home, status) = Home::new().serve().await.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", home.log());
}
