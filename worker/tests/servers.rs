//! Integrations in whole turns: a model's server calls tools of real MCP servers (two by the protocol's makers, and one
//! that does what servers shouldn't), through a real worker, as far as operator and members allow.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use skein_engine::ids::DocumentId;
use skein_engine::session::Command;
use skein_engine::session::conversation::{Content, Conversation, Reason, Status};
use skein_engine::wire::catalog::{Health, OfferedIntegration};
use skein_worker::Settings;
use support::calls::{calls, change, done, model_that_calls, results, set_agent};
use support::model::ModelServer;
use support::{PATIENCE, Stage, parts, provider};

/// A file of `tests/js`.
fn file(path: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/js");
    assert!(folder.join("node_modules").is_dir(), "run `npm ci` in tests/js first (`cargo xtask test` does)");
    folder.join(path).to_str().unwrap().to_owned()
}

/// A server of the protocol's makers.
fn made(name: &str) -> String {
    file(&format!("node_modules/@modelcontextprotocol/server-{name}/dist/index.js"))
}

/// An `[[integration]]` that runs a file with Node.
fn node(name: &str, arguments: &[&str], tools: &str) -> String {
    let command: Vec<&str> = ["node"].into_iter().chain(arguments.iter().copied()).collect();
    format!("[[integration]]\nname = \"{name}\"\ncommand = {command:?}\ntools = {{ {tools} }}\n")
}

fn hostile(log: &Path, tools: &str) -> String {
    node("odd", &[&file("hostile.js"), log.to_str().unwrap()], tools)
}

fn settings(model: &ModelServer, integrations: &str) -> Settings {
    provider("openai", model.address, integrations)
}

/// A session of an agent that lists all integrations, with a name, so that no model is asked for one.
async fn session(stage: &Stage) -> DocumentId {
    set_agent(stage, json!([{"integrations": ["*"]}])).await;
    let session = stage.new_session("Go").await;
    stage.command(session, Command::Rename { name: "Servers".into() }).await;
    session
}

/// Waits until a worker offers an integration like that.
async fn offered(stage: &Stage, name: &str, wanted: impl Fn(&OfferedIntegration) -> bool) -> OfferedIntegration {
    let found = stage.person.until(PATIENCE, |device, _| {
        let mut offers = device.offers().iter().filter_map(|offer| offer.integrations.get(name));
        offers.find(|one| wanted(one)).cloned()
    });
    found.await.unwrap_or_else(|| panic!("{:?}", stage.person.read(|device, _| device.offers().to_vec())))
}

async fn up(stage: &Stage, name: &str) -> OfferedIntegration {
    offered(stage, name, |one| one.health == Health::Up).await
}

/// The calls that wait for a person.
fn waiting(conversation: &Conversation) -> Vec<String> {
    match &conversation.reason {
        Some(Reason::Approval { calls }) => calls.clone(),
        other => panic!("{other:?}"),
    }
}

/// Names of the tools that a model was offered.
fn tools(body: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(body).unwrap();
    let tools = body["tools"].as_array().cloned().unwrap_or_default();
    tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the server's log holds something.
async fn heard(log: &Path, wanted: &str) -> String {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            if text.contains(wanted) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never heard {wanted}: {:?}", std::fs::read_to_string(log)))
}

/// What a server of the makers gives in each of its ways.
async fn gives_everything(stage: &Stage, model: &ModelServer, session: DocumentId) {
    let done = stage.settled(session, Status::Active).await;
    let said = results(&done);
    assert!(said.iter().all(|(_, is_error)| !is_error), "{said:#?}");
    let said: Vec<&str> = said.iter().map(|(content, _)| content.as_str()).collect();
    assert_eq!(said[0], "Echo: grüße");
    assert!(said[1].contains('5'), "{said:?}");
    assert!(said[2].contains("temperature"), "{said:?}");
    assert!(said[4].contains("completed"), "{said:?}");
    let picture = |part: &Content| matches!(part, Content::Attachment { mime, .. } if mime == "image/png");
    assert!(parts(&done).iter().any(picture), "{done:#?}");
    assert!(model.bodies()[1].contains("data:image/png;base64,"), "the model sees the picture");
}

fn all_ways() -> Vec<(&'static str, Value)> {
    vec![
        ("every__echo", json!({"message": "grüße"})),
        ("every__get-sum", json!({"a": 2, "b": 3})),
        ("every__get-structured-content", json!({"location": "Chicago"})),
        ("every__get-tiny-image", json!({})),
        ("every__trigger-long-running-operation", json!({"duration": 0.2, "steps": 2})),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_of_a_real_server_run_over_its_standard_input_and_output() {
    let stage = Stage::new().await;
    let model = model_that_calls(&all_ways()).await;
    let every = node("every", &[&made("everything"), "stdio"], "\"*\" = \"allow\"");
    let _worker = stage.worker(settings(&model, &every));
    let session = session(&stage).await;
    gives_everything(&stage, &model, session).await;
    let every = up(&stage, "every").await;
    assert!(every.tools.iter().any(|tool| tool == "echo") && every.policy["*"] == "allow", "{every:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_of_a_real_server_run_over_http() {
    let stage = Stage::new().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _server = tokio::process::Command::new("node")
        .args([&made("everything"), "streamableHttp"])
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let model = model_that_calls(&all_ways()).await;
    let every = format!(
        "[[integration]]\nname = \"every\"\nurl = \"http://127.0.0.1:{port}/mcp\"\n\
         headers_env = {{ X-Path = \"PATH\" }}\ntools = {{ \"*\" = \"allow\" }}"
    );
    let _worker = stage.worker(settings(&model, &every));
    // It may come up later than the worker, which then tries again.
    up(&stage, "every").await;
    let session = session(&stage).await;
    gives_everything(&stage, &model, session).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_lets_ask_waits_and_members_only_tighten() {
    let (stage, folder) = (Stage::new().await, tempfile::tempdir().unwrap());
    // Where links lead is what the server compares.
    let root = folder.path().canonicalize().unwrap();
    std::fs::write(root.join("note"), "a note").unwrap();
    let path = |name: &str| root.join(name).to_str().unwrap().to_owned();
    let model = model_that_calls(&[
        ("files__read_text_file", json!({"path": path("note")})),
        ("files__write_file", json!({"path": path("new"), "content": "new"})),
        ("files__create_directory", json!({"path": path("folder")})),
        ("files__move_file", json!({"source": path("note"), "destination": path("gone")})),
    ])
    .await;
    let policy = "\"*\" = \"ask\", read_text_file = \"allow\", list_directory = \"allow\", move_file = \"deny\"";
    let _worker = stage.worker(settings(&model, &node("files", &[&made("filesystem"), &path("")], policy)));
    let own = json!({"type": "set-policy", "integration": "files", "tool": "list_directory", "policy": "deny"});
    let loosened = json!({"type": "set-policy", "integration": "files", "tool": "write_file", "policy": "allow"});
    let session = {
        set_agent(&stage, json!([])).await;
        change(&stage, own).await;
        change(&stage, loosened).await;
        session(&stage).await
    };
    let waits = stage.settled(session, Status::Paused).await;
    let calls = waiting(&waits);
    assert_eq!(calls.len(), 2, "the floor holds, whatever members allow: {calls:?}");
    let offered = tools(&model.bodies()[0]);
    assert!(offered.contains(&"files__read_text_file".into()) && offered.contains(&"files__write_file".into()));
    for denied in ["files__list_directory", "files__move_file"] {
        assert!(!offered.contains(&denied.into()), "{denied}");
    }
    assert!(!root.join("new").exists() && !root.join("folder").exists() && root.join("note").exists());

    stage.command(session, Command::Approve { call: calls[0].clone(), for_session: false }).await;
    let half = stage.settled(session, Status::Paused).await;
    assert_eq!(waiting(&half), calls[1..], "nothing goes on before all are decided");
    assert!(!root.join("new").exists());
    stage.command(session, Command::Deny { call: calls[1].clone(), reason: Some("no folders here".into()) }).await;
    let done = stage.settled(session, Status::Active).await;
    assert_eq!(std::fs::read_to_string(root.join("new")).unwrap(), "new");
    assert!(!root.join("folder").exists());
    let said = results(&done);
    assert!(said.iter().any(|(content, is_error)| content == "a note" && !is_error), "{said:?}");
    assert!(model.bodies()[1].contains("no folders here"), "the model is told why");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_integration_that_members_disabled_or_the_agent_doesnt_list_offers_nothing() {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![done()]).await;
    let folder = tempfile::tempdir().unwrap();
    let more = hostile(&folder.path().join("log"), "").replace("\"odd\"", "\"more\"");
    let both = hostile(&folder.path().join("log"), "") + &more;
    let _worker = stage.worker(settings(&model, &both));
    let odd = |text: &str, prefix: &str| tools(text).iter().any(|name| name.starts_with(prefix));
    set_agent(&stage, json!([{"integrations": ["odd"]}])).await;
    for (disabled, offers) in [(false, true), (true, false)] {
        if disabled {
            change(&stage, json!({"type": "set-integration", "integration": "odd", "enabled": false})).await;
        }
        let session = stage.new_session("Go").await;
        stage.command(session, Command::Rename { name: "Servers".into() }).await;
        stage.settled(session, Status::Active).await;
        let body = model.bodies().pop().unwrap();
        assert_eq!((odd(&body, "odd__"), odd(&body, "more__")), (offers, false), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_servers_lies_noise_and_odd_tools_are_shown_where_they_happen_and_spoil_nothing_else() {
    let (stage, folder) = (Stage::new().await, tempfile::tempdir().unwrap());
    let log = folder.path().join("log");
    let model = model_that_calls(&[
        ("odd__twice", json!({})),
        ("odd__liar", json!({})),
        ("odd__empty", json!({})),
        ("odd__fails", json!({})),
        ("odd__noisy", json!({})),
        ("odd__environment", json!({})),
        ("odd__asks", json!({})),
        ("odd__adds", json!({})),
        ("odd__twice", json!(["no", "object"])),
    ])
    .await;
    let _worker = stage.worker(settings(&model, &hostile(&log, "\"*\" = \"allow\"")));
    let session = session(&stage).await;
    let ended = stage.settled(session, Status::Active).await;
    let said = results(&ended);
    let starts = ["answer 1", "no number", "", "it didn't work", "through the noise"];
    for (number, start) in starts.into_iter().enumerate() {
        assert!(said[number].0.starts_with(start), "{start}: {said:#?}");
        assert_eq!(said[number].1, start == "it didn't work", "{said:#?}");
    }
    let variables: Vec<&str> = said[5].0.split(' ').collect();
    assert!(variables.contains(&"PATH") && !variables.iter().any(|name| name.starts_with("CARGO")), "{variables:?}");
    assert!(said[6].0.contains("it was told: decline") && said[6].0.contains("Who are you?"), "{:?}", said[6]);
    assert_eq!(said[7].0, "added");
    assert!(said[8].1 && said[8].0.contains("no JSON object"), "{said:#?}");

    let names = tools(&model.bodies()[0]);
    for odd in ["odd__no_schema", "odd__odd_schema", "odd__huge_schema"] {
        assert!(!names.contains(&odd.to_owned()), "{odd} can't be offered");
    }
    assert_eq!(names.iter().filter(|name| *name == "odd__twice").count(), 1);
    let fits =
        |name: &String| name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    assert!(names.iter().all(fits), "{names:?}");
    assert!(model.bodies()[0].contains("\"$ref\":\"#/$defs/n\""));
    offered(&stage, "odd", |one| one.tools.iter().any(|tool| tool == "added")).await;

    // Names that providers don't take lead back to the server's own.
    let mapped = |part: &str| names.iter().find(|name| name.contains(part)).unwrap().clone();
    let odd = [mapped("dotted_name"), mapped("xxxx"), mapped("gr__e")];
    let calling: Vec<(&str, Value)> = odd.iter().map(|name| (name.as_str(), json!({}))).collect();
    let model = model_that_calls(&calling).await;
    let other = Stage::new().await;
    let _worker = other.worker(settings(&model, &hostile(&log, "\"*\" = \"allow\"")));
    let session = self::session(&other).await;
    let said = results(&other.settled(session, Status::Active).await);
    let told: Vec<&str> = said.iter().map(|(content, _)| content.as_str()).collect();
    assert_eq!(told, ["called dotted.name", &format!("called {}", "x".repeat(100)), "called größe"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_in_a_call_is_said_to_and_comes_back() {
    let (stage, folder) = (Stage::new().await, tempfile::tempdir().unwrap());
    let log = folder.path().join("log");
    let model = ModelServer::start(vec![
        calls(&[("odd__dies", json!({}))]),
        done(),
        calls(&[("odd__twice", json!({}))]),
        done(),
    ])
    .await;
    let _worker = stage.worker(settings(&model, &hostile(&log, "\"*\" = \"allow\"")));
    let session = session(&stage).await;
    let said = results(&stage.settled(session, Status::Active).await);
    assert!(said[0].1 && said[0].0.contains("odd"), "{said:?}");
    let starts = || std::fs::read_to_string(&log).unwrap().matches("\"initialize\"").count();
    let back = stage.person.until(PATIENCE, |device, _| {
        let mut offers = device.offers().iter().filter_map(|offer| offer.integrations.get("odd"));
        (starts() == 2 && offers.any(|one| one.health == Health::Up)).then_some(())
    });
    back.await.unwrap();
    stage.send(session, "And now?").await;
    let ended =
        stage.until(session, "again", |conversation| (results(conversation).len() == 2).then(|| results(conversation)));
    assert_eq!(ended.await[1], ("answer 1".to_owned(), false));
    let log = std::fs::read_to_string(&log).unwrap();
    assert_eq!(log.matches("\"dies\"").count(), 1, "what may have had effects isn't called again by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_list_takes_no_other_server_along_and_one_that_cant_start_says_why() {
    let (stage, folder) = (Stage::new().await, tempfile::tempdir().unwrap());
    let log = folder.path().join("log");
    let model = model_that_calls(&[("odd__twice", json!({}))]).await;
    let endless = node("endless", &[&file("hostile.js"), log.to_str().unwrap(), "endless"], "");
    let missing = "[[integration]]\nname = \"missing\"\ncommand = [\"no-such-program-anywhere\"]\n";
    let _worker = stage.worker(settings(&model, &(hostile(&log, "\"*\" = \"allow\"") + &endless + missing)));
    let session = session(&stage).await;
    let said = results(&stage.settled(session, Status::Active).await);
    assert_eq!(said, [("answer 1".to_owned(), false)]);
    assert!(up(&stage, "endless").await.tools.len() <= 500);
    let down = offered(&stage, "missing", |one| matches!(one.health, Health::Down { .. })).await;
    assert!(matches!(down.health, Health::Down { reason } if reason.contains("no-such-program-anywhere")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_cancels_the_call_at_its_server_which_ends_with_the_worker() {
    let (stage, folder) = (Stage::new().await, tempfile::tempdir().unwrap());
    let log = folder.path().join("log");
    let model = model_that_calls(&[("odd__hangs", json!({}))]).await;
    let worker = stage.worker(settings(&model, &hostile(&log, "\"*\" = \"allow\"")));
    let session = session(&stage).await;
    heard(&log, "\"hangs\"").await;
    stage.command(session, Command::Pause).await;
    let paused = stage.settled(session, Status::Paused).await;
    heard(&log, "notifications/cancelled").await;
    assert!(results(&paused)[0].0.contains("stopped"), "{:?}", results(&paused));
    let running = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.contains(log.to_str().unwrap())).count()
    };
    assert_eq!(running(), 1, "one for all sessions");
    worker.stop().await;
    let ended = tokio::time::timeout(PATIENCE, async {
        while running() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    ended.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_asks_once_asks_once_in_a_session_and_what_asks_always_asks_again() {
    for (policy, asks_again) in [("once", false), ("ask", true)] {
        let (stage, folder) = (Stage::new().await, tempfile::tempdir().unwrap());
        let log = folder.path().join("log");
        let call = || calls(&[("odd__twice", json!({}))]);
        let model = ModelServer::start(vec![call(), done(), call(), done()]).await;
        let _worker = stage.worker(settings(&model, &hostile(&log, &format!("twice = \"{policy}\""))));
        let session = session(&stage).await;
        let waits = stage.settled(session, Status::Paused).await;
        let for_session = policy == "ask";
        stage.command(session, Command::Approve { call: waiting(&waits)[0].clone(), for_session }).await;
        assert_eq!(results(&stage.settled(session, Status::Active).await).len(), 1);
        stage.send(session, "Again").await;
        let wanted = if asks_again { Status::Paused } else { Status::Active };
        let asked = |conversation: &Conversation| {
            let ended = conversation.turns.len() == 2 && conversation.turns[1].ended_at.is_some();
            (ended && conversation.status == wanted).then(|| results(conversation).len())
        };
        let ran = stage.until(session, "decided", asked).await;
        assert_eq!(ran, if asks_again { 1 } else { 2 }, "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_of_another_device_while_no_worker_runs_is_carried_out_once_by_the_next() {
    let (stage, folder) = (Stage::new().await, tempfile::tempdir().unwrap());
    let log = folder.path().join("log");
    let model = model_that_calls(&[("odd__twice", json!({"n": 1})), ("odd__empty", json!({}))]).await;
    let odd = hostile(&log, "\"*\" = \"ask\"");
    let first = stage.worker(settings(&model, &odd));
    let session = session(&stage).await;
    let waits = stage.settled(session, Status::Paused).await;
    first.stop().await;

    let phone = support::device(&stage.url, stage.relay.owner_token()).await;
    phone.cast(|device, now| device.open(now, session));
    let seen = phone.until(PATIENCE, |device, now| {
        let conversation = device.conversation(now, session).ok()?;
        let asked = skein_engine::session::approval::asked(&conversation);
        (asked.len() == 2).then_some(asked)
    });
    let seen = seen.await.unwrap();
    assert_eq!((seen[0].tool.as_str(), seen[0].input.as_str()), ("odd__twice", "{\"n\":1}"));
    for call in waiting(&waits) {
        let command = Command::Approve { call, for_session: false };
        phone.act(|device, now| device.command(now, session, &command)).await.unwrap();
    }
    let called = |log: &Path| std::fs::read_to_string(log).unwrap_or_default().matches("tools/call").count();
    assert_eq!(called(&log), 0, "nothing ran before its worker came back");
    let _second = stage.worker(settings(&model, &odd));
    let _third = stage.worker(settings(&model, &odd));
    let ended = stage.settled(session, Status::Active).await;
    assert_eq!((results(&ended).len(), called(&log)), (2, 2));
}
