//! Core tools in whole turns: a model's server calls them, a real worker carries them out, as far as its operator allows.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use skein_engine::ids::DocumentId;
use skein_engine::session::Command;
use skein_engine::session::conversation::{Content, Conversation, ShownCallState, Status};
use skein_worker::Settings;
use support::calls::{model_that_calls, results, set_agent};
use support::model::ModelServer;
use support::{Stage, provider};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Settings with a folder and `[tools]`.
fn settings(model: &ModelServer, folder: &Path, tools: &str) -> Settings {
    let mut settings = provider("openai", model.address, &format!("[tools]\n{tools}"));
    settings.worker.folder = Some(folder.to_owned());
    settings
}

/// A session of an agent that lists all tools, with a name, so that no model is asked for one.
async fn session(stage: &Stage) -> DocumentId {
    set_agent(stage, json!([{"tools": ["*"]}])).await;
    let session = stage.new_session("Go").await;
    stage.command(session, Command::Rename { name: "Tools".into() }).await;
    session
}

fn is_called(conversation: &Conversation, wanted: ShownCallState) -> bool {
    let mut parts = conversation.messages.iter().flat_map(|message| &message.parts);
    parts.any(|part| matches!(&part.content, Content::ToolCall { state, .. } if *state == wanted))
}

fn folder_of(folder: &Path, session: DocumentId) -> PathBuf {
    folder.join(session.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_writes_runs_and_reads_where_its_operator_allows_it() {
    let (stage, folder) = (Stage::new().await, tempfile::tempdir().unwrap());
    let model = model_that_calls(&[
        ("write_file", json!({"path": "sum.sh", "content": "echo $((6 * 7))\n"})),
        ("run", json!({"command": "sh sum.sh > sum; echo ran"})),
        ("read_file", json!({"path": "sum"})),
        ("plan", json!({"items": [{"text": "Sum", "state": "done"}]})),
    ])
    .await;
    let session = session(&stage).await;
    let tools = "enabled = [\"write_file\", \"run\"]\nworkspaces = [\"*\"]";
    let _worker = stage.worker(settings(&model, folder.path(), tools));
    let done = stage.settled(session, Status::Active).await;
    let mut said: Vec<String> = results(&done).into_iter().map(|(content, _)| content).collect();
    // What only reads runs side by side.
    said[2..].sort();
    assert_eq!(said, ["Wrote 16 bytes to \"sum.sh\".", "ran\n[exit code 0]", "42\n", "[x] Sum"]);
    assert_eq!(std::fs::read_to_string(folder_of(folder.path(), session).join("sum")).unwrap(), "42\n");
    let offered = &model.bodies()[0];
    for name in ["read_file", "list_files", "search_files", "plan", "fetch_url", "write_file", "run"] {
        assert!(offered.contains(&format!("\"name\":\"{name}\"")), "{name}: {offered}");
    }
    assert!(!offered.contains("\"edit_file\"") && !offered.contains("$ref"), "not listed by the operator");
    let told = stage.person.until(support::PATIENCE, |device, _| {
        device.offers().iter().any(|offer| offer.tools.iter().any(|tool| tool == "run")).then_some(())
    });
    assert!(told.await.is_some(), "members see what is offered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_another_workspace_nothing_is_written_or_run() {
    let (stage, folder) = (Stage::new().await, tempfile::tempdir().unwrap());
    let marker = folder.path().join("marker");
    let model = model_that_calls(&[
        ("run", json!({"command": format!("touch {}", marker.display())})),
        ("write_file", json!({"path": "a", "content": "b"})),
    ])
    .await;
    let session = session(&stage).await;
    let tools = "enabled = [\"write_file\", \"edit_file\", \"run\"]\nworkspaces = [\"Elsewhere\"]";
    let _worker = stage.worker(settings(&model, folder.path(), tools));
    let done = stage.settled(session, Status::Active).await;
    let said = results(&done);
    assert!(said.len() == 2 && said.iter().all(|(_, is_error)| *is_error), "{said:?}");
    assert!(!model.bodies()[0].contains("\"run\"") && model.bodies()[0].contains("\"read_file\""));
    let told = stage.person.until(support::PATIENCE, |device, _| {
        let offers = device.offers();
        let offered = |tool: &str| offers.iter().any(|offer| offer.tools.iter().any(|one| one == tool));
        offered("plan").then(|| offered("run") || offered("write_file"))
    });
    assert_eq!(told.await, Some(false), "nor are they offered");
    assert!(!marker.exists() && !folder_of(folder.path(), session).join("a").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_ends_a_command_with_its_children_and_keeps_what_it_said() {
    let (stage, folder) = (Stage::new().await, tempfile::tempdir().unwrap());
    let number = format!("4321.{}", std::process::id());
    let command = format!("echo half; sleep {number} & sleep {number}");
    let model = model_that_calls(&[("run", json!({"command": command}))]).await;
    let session = session(&stage).await;
    let _worker = stage.worker(settings(&model, folder.path(), "enabled = [\"run\"]\nworkspaces = [\"*\"]"));
    let sleeping = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.starts_with("sleep") && line.contains(&number)).count()
    };
    let wait_for = async |count: usize| {
        let waited = tokio::time::timeout(support::PATIENCE, async {
            while sleeping() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.unwrap();
    };
    wait_for(2).await;
    let began = std::time::Instant::now();
    stage.command(session, Command::Pause).await;
    wait_for(0).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let paused = stage.settled(session, Status::Paused).await;
    let said = results(&paused);
    assert!(said.len() == 1 && said[0].1 && said[0].0.contains("half"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetching_asks_unless_the_host_is_listed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = heard.send(());
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").await;
        }
    });
    let input = json!({"url": format!("http://127.0.0.1:{port}/")});
    for (tools, asks) in
        [("private_addresses = true", true), ("private_addresses = true\nfetch_hosts = [\"127.0.0.1\"]", false)]
    {
        let (stage, folder) = (Stage::new().await, tempfile::tempdir().unwrap());
        let model = model_that_calls(&[("fetch_url", input.clone())]).await;
        let session = session(&stage).await;
        let _worker = stage.worker(settings(&model, folder.path(), tools));
        if asks {
            let waits = stage.settled(session, Status::Paused).await;
            assert!(is_called(&waits, ShownCallState::Waiting) && hears.try_recv().is_err(), "nothing was sent");
        } else {
            let done = stage.settled(session, Status::Active).await;
            assert_eq!(results(&done), [(format!("http://127.0.0.1:{port}/\n\nhello"), false)]);
            assert!(hears.try_recv().is_ok());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_sessions_folder_goes_and_others_stay() {
    let (stage, folder) = (Stage::new().await, tempfile::tempdir().unwrap());
    let model = model_that_calls(&[("write_file", json!({"path": "a", "content": "b"}))]).await;
    let session = session(&stage).await;
    let _worker = stage.worker(settings(&model, folder.path(), "enabled = [\"write_file\"]\nworkspaces = [\"*\"]"));
    stage.settled(session, Status::Active).await;
    let own = folder_of(folder.path(), session);
    let other = folder_of(folder.path(), DocumentId::random());
    std::fs::create_dir(&other).unwrap();
    assert!(own.join("a").exists());
    stage.command(session, Command::Delete).await;
    let purged = tokio::time::timeout(support::PATIENCE, async {
        while own.exists() {
            // Refused until the relay knows of the deletion.
            let _ = stage.person.act(|device, now| Ok(((), device.purge(now, session)?))).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    purged.await.unwrap();
    assert!(other.exists());
}
