//! Tasks, with a real relay and real workers: each firing makes one session, and what can't run says why.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use skein_engine::session::Summary;
use skein_engine::session::conversation::Status;
use skein_engine::workspace::WorkspaceCommand;
use support::model::{ModelServer, status};
use support::{Stage, demo, provider};

const FAST: f64 = 4000.0;

/// Changes the workspace; the id of what was added.
async fn change(stage: &Stage, command: Value) -> String {
    let command: WorkspaceCommand = serde_json::from_value(command).unwrap();
    let known = stage.person.until(support::PATIENCE, |device, _| {
        let document = device.identity()?.workspace_document;
        device.document(document).ok().map(|_| ())
    });
    known.await.unwrap();
    let done = stage.person.act(|device, now| device.workspace_command(now, &command)).await.unwrap();
    done.id.unwrap_or_default()
}

async fn task(stage: &Stage, fields: Value) -> String {
    change(stage, json!({"type": "add-task", "name": "News", "fields": fields})).await
}

async fn post(stage: &Stage, path: &str, token: &str, key: Option<&str>, body: Value) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("{}{path}", stage.url)).bearer_auth(token);
    let request = match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    };
    let answer = request.body(body.to_string()).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

async fn runs(stage: &Stage, task: &str) -> Vec<Value> {
    let address = format!("{}/tasks/{task}/runs", stage.url);
    let answer = reqwest::Client::new().get(address).bearer_auth(stage.relay.owner_token()).send().await.unwrap();
    serde_json::from_str(&answer.error_for_status().unwrap().text().await.unwrap()).unwrap()
}

/// Waits for so many runs.
async fn ran(stage: &Stage, task: &str, count: usize) -> Vec<Value> {
    let waited = tokio::time::timeout(support::PATIENCE, async {
        loop {
            let found = runs(stage, task).await;
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never {count} runs"))
}

/// The sessions of a task, once each is in this state.
async fn sessions(stage: &Stage, task: &str, count: usize, wanted: Status) -> Vec<Summary> {
    let found = stage.person.until(support::PATIENCE, |device, now| {
        let of_task = device.summaries(now).into_iter().filter(|summary| summary.task.as_deref() == Some(task));
        let found: Vec<Summary> = of_task.collect();
        let ended = found.iter().all(|summary| summary.status == wanted && summary.work.is_none());
        (found.len() == count && ended && found.iter().all(|summary| summary.progress > 1)).then_some(found)
    });
    match found.await {
        Some(found) => found,
        None => panic!("{:#?}", stage.person.read(|device, now| device.summaries(now))),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_makes_one_session_however_many_workers_are_there_and_however_often_it_is_sent() {
    let stage = Stage::new().await;
    let _workers = [stage.worker(demo(FAST)), stage.worker(demo(FAST)), stage.worker(demo(FAST))];
    change(&stage, json!({"type": "add-action", "name": "Sum up", "template": "Sum up {{text}}", "fields": []})).await;
    let task = task(&stage, json!([{"action": ["Sum up", {"text": "nothing"}]}])).await;
    let owner = stage.relay.owner_token();
    let (code, made) = post(&stage, &format!("/tasks/{task}/token"), owner, None, json!({})).await;
    assert_eq!(code, 201, "{made}");
    let (token, path) = (made["token"].as_str().unwrap(), format!("/tasks/{task}/trigger"));
    assert!(made["url"].as_str().unwrap().ends_with(&path), "{made}");

    let body = json!({"set": {"text": "the news"}});
    let (code, first) = post(&stage, &path, token, Some("one"), body.clone()).await;
    assert_eq!(code, 202, "{first}");
    let (_, again) = post(&stage, &path, token, Some("one"), body).await;
    assert_eq!(first["run"], again["run"], "the same key is the same run");
    let made = sessions(&stage, &task, 1, Status::Active).await;
    assert!(made[0].name.starts_with("News, 20"), "{}", made[0].name);
    let found = runs(&stage, &task).await;
    assert_eq!((&found[0]["run"], &found[0]["session"]), (&first["run"], &json!(made[0].id)));
    let text = stage.conversation(made[0].id);
    let opened = stage.person.act(|device, now| Ok(((), device.open(now, made[0].id)))).await;
    assert!(opened.is_ok() && text.is_none());
    let first = stage.until(made[0].id, "said", |seen| seen.messages.first().cloned()).await;
    assert!(format!("{first:?}").contains("Sum up the news"), "{first:?}");

    // The token is good for this task and nothing else, and no other token is for it.
    for (token, path) in [(token, "/tasks/other/trigger"), (token, "/tickets"), (owner, &*path), ("wrong", &*path)] {
        assert_eq!(post(&stage, path, token, None, json!({})).await.0, 401, "{path}");
    }
    assert_eq!(post(&stage, &path, token, None, json!({"sets": {}})).await.0, 400);
    // What can't be rendered is a run that says why.
    post(&stage, &path, token, None, json!({"set": {"other": "x"}})).await;
    let failed = ran(&stage, &task, 2).await;
    assert!(failed[0]["session"].is_null() && failed[0]["error"].as_str().unwrap().contains("other"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_triggered_while_no_worker_was_there_runs_when_one_comes() {
    let stage = Stage::new().await;
    let task = task(&stage, json!([{"message": "Say hello."}])).await;
    let made = post(&stage, &format!("/tasks/{task}/token"), stage.relay.owner_token(), None, json!({})).await.1;
    let path = format!("/tasks/{task}/trigger");
    let (code, _) = post(&stage, &path, made["token"].as_str().unwrap(), None, Value::Null).await;
    assert_eq!(code, 400, "null is no wish");
    let (code, _) = post(&stage, &path, made["token"].as_str().unwrap(), None, json!({})).await;
    assert_eq!(code, 202);
    let _workers = [stage.worker(demo(FAST)), stage.worker(demo(FAST))];
    sessions(&stage, &task, 1, Status::Active).await;
    assert_eq!(runs(&stage, &task).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_takes_too_long_fails_with_what_it_wrote() {
    let stage = Stage::new().await;
    let _worker = stage.worker(demo(30.0));
    let task = task(&stage, json!([{"message": "A long one"}, {"timeout": 2_000}])).await;
    let made = post(&stage, &format!("/tasks/{task}/token"), stage.relay.owner_token(), None, json!({})).await.1;
    let path = format!("/tasks/{task}/trigger");
    post(&stage, &path, made["token"].as_str().unwrap(), None, json!({})).await;
    let failed = sessions(&stage, &task, 1, Status::Failed).await;
    assert!(format!("{:?}", failed[0].reason).contains("timeout"), "{:?}", failed[0].reason);
    assert!(failed[0].cost_micros.is_some_and(|cost| cost.0 > 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_only_a_person_can_mend_is_one_call_and_not_tried_again() {
    let stage = Stage::new().await;
    let body = r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#;
    let model = ModelServer::start(vec![status("401 Unauthorized", "", body)]).await;
    let task = task(&stage, json!([{"message": "Say hello."}, {"retries": 3}])).await;
    let made = post(&stage, &format!("/tasks/{task}/token"), stage.relay.owner_token(), None, json!({})).await.1;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let path = format!("/tasks/{task}/trigger");
    post(&stage, &path, made["token"].as_str().unwrap(), None, json!({})).await;
    let failed = sessions(&stage, &task, 1, Status::Failed).await;
    assert!(format!("{:?}", failed[0].reason).contains("key"));
    assert_eq!(model.bodies().len(), 1);
}
