//! Schedules of tasks, with a real relay and real workers: what was missed, what overlaps, and one run for each time that
//! it was due, whoever dies in between.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use skein_engine::ids::Timestamp;
use skein_engine::session::Summary;
use skein_engine::workspace::{WorkspaceCommand, schedule};
use support::{Stage, demo};

const HOUR: u64 = 3_600_000;
const FAST: f64 = 4000.0;

/// Changes the workspace as it would have been changed so long ago; the id of what was added.
async fn change(stage: &Stage, ago_ms: u64, command: Value) -> String {
    let command: WorkspaceCommand = serde_json::from_value(command).unwrap();
    let known = stage.person.until(support::PATIENCE, |device, _| {
        let document = device.identity()?.workspace_document;
        device.document(document).ok().map(|_| ())
    });
    known.await.unwrap();
    let then = |now: Timestamp| Timestamp(now.0 - ago_ms);
    let done = stage.person.act(|device, now| device.workspace_command(then(now), &command)).await.unwrap();
    done.id.unwrap_or_default()
}

async fn task(stage: &Stage, name: &str, ago_ms: u64, fields: Value) -> String {
    change(stage, ago_ms, json!({"type": "add-task", "name": name, "fields": fields})).await
}

/// An hourly schedule that was last due half an hour ago, so that nothing falls due in the course of a test.
fn hourly(stage: &Stage) -> String {
    let minute = stage.person.read(|_, now| now.0 / 60_000 % 60);
    format!("{} * * * *", (minute + 30) % 60)
}

/// When a task that was made so long ago has been due.
fn due(stage: &Stage, cron: &str, ago_ms: u64) -> BTreeSet<String> {
    let now = stage.person.read(|_, now| now);
    let due = schedule::latest(cron, None, Timestamp(now.0 - ago_ms), now, 100).unwrap();
    due.into_iter().map(|due| due.at.0.to_string()).collect()
}

async fn runs(stage: &Stage, task: &str) -> Vec<Value> {
    let address = format!("{}/tasks/{task}/runs", stage.url);
    let answer = reqwest::Client::new().get(address).bearer_auth(stage.relay.owner_token()).send().await.unwrap();
    serde_json::from_str(&answer.error_for_status().unwrap().text().await.unwrap()).unwrap()
}

/// Waits until the runs are as wanted.
async fn until(stage: &Stage, task: &str, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let waited = tokio::time::timeout(support::PATIENCE, async {
        loop {
            let found = runs(stage, task).await;
            if wanted(&found) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    match waited.await {
        Ok(found) => found,
        Err(_) => panic!("never {what}: {:#?}", runs(stage, task).await),
    }
}

fn ids(runs: &[Value]) -> BTreeSet<String> {
    let ids: BTreeSet<String> = runs.iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), runs.len(), "each once: {runs:#?}");
    ids
}

/// Waits until the list has the task's sessions, so many, all at rest.
async fn sessions(stage: &Stage, task: &str, count: usize) -> Vec<Summary> {
    let found = stage.person.until(support::PATIENCE, |device, now| {
        let mut found = device.summaries(now);
        found.retain(|summary| summary.task.as_deref() == Some(task));
        let rest = |summary: &Summary| summary.work.is_none() && summary.duration_ms > 0;
        (found.len() >= count && found.iter().all(rest)).then_some(found)
    });
    let found = found.await.unwrap_or_else(|| panic!("never {count} sessions at rest"));
    assert_eq!(found.len(), count);
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_is_made_up_for_once_each_however_many_workers_come_and_die() {
    let stage = Stage::new().await;
    let (ago, cron) = (3 * HOUR, hourly(&stage));
    let fields = |missed: &str| json!([{"message": "Hi"}, {"cron": cron}, {"missed": missed}, {"overlap": "parallel"}]);
    let all = task(&stage, "All", ago, fields("all")).await;
    let one = task(&stage, "One", ago, fields("one")).await;
    let skip = task(&stage, "Skip", ago, fields("skip")).await;
    let paused = json!([{"message": "Hi"}, {"cron": cron}, {"missed": "all"}, {"paused": true}]);
    let paused = task(&stage, "Paused", ago, paused).await;
    let was_due = due(&stage, &cron, ago);

    let dies = stage.worker(demo(FAST));
    let stays = stage.worker(demo(FAST));
    // As soon as one is fired, by either, this one is gone, wherever it just was.
    until(&stage, &all, "one run", |runs| !runs.is_empty()).await;
    dies.kill();
    let ran = until(&stage, &all, "all that was due", |runs| runs.len() >= was_due.len()).await;
    assert_eq!(ids(&ran), was_due);
    let ran = until(&stage, &one, "one run", |runs| !runs.is_empty()).await;
    assert_eq!(ids(&ran).into_iter().next(), was_due.iter().next_back().cloned(), "the last one");
    let made = sessions(&stage, &all, was_due.len()).await;
    let runs_of: BTreeSet<&str> = ran.iter().filter_map(|run| run["run"].as_str()).collect();
    assert_eq!((made.len(), runs_of.len()), (was_due.len(), 1));

    // Whoever comes later finds nothing left to do; nor does a schedule that was resumed make up for its rest.
    stays.stop().await;
    change(&stage, 0, json!({"type": "set-task", "task": paused, "fields": [{"paused": false}]})).await;
    let _later = stage.worker(demo(FAST));
    let last = task(&stage, "Last", ago, fields("one")).await;
    until(&stage, &last, "a later task's run", |runs| !runs.is_empty()).await;
    for (task, count) in [(&all, was_due.len()), (&one, 1), (&skip, 0), (&paused, 0)] {
        assert_eq!(runs(&stage, task).await.len(), count);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_task_that_cannot_run_says_so_and_stops_no_other() {
    let stage = Stage::new().await;
    change(&stage, 0, json!({"type": "add-action", "name": "Ask", "template": "On {{a}}", "fields": []})).await;
    let cron = hourly(&stage);
    let action = json!([{"action": ["Ask", {"a": "x"}]}, {"cron": cron}, {"missed": "one"}]);
    let bad = task(&stage, "A bad one", 2 * HOUR, action).await;
    change(&stage, 0, json!({"type": "set-action", "action": "Ask", "fields": [{"template": "On {{b}}"}]})).await;
    let never = json!([{"message": "x"}, {"cron": cron}, {"missed": "one"}, {"tz": "Europe/Berlin"}]);
    let good = task(&stage, "B good one", 2 * HOUR, never).await;
    let _worker = stage.worker(demo(FAST));
    let failed = until(&stage, &bad, "a run that says why", |runs| !runs.is_empty()).await;
    assert!(failed[0]["session"].is_null() && failed[0]["error"].as_str().unwrap().contains("\"a\""), "{failed:?}");
    until(&stage, &good, "the other's run", |runs| !runs.is_empty()).await;
    sessions(&stage, &good, 1).await;
}

/// A token that triggers.
async fn token(stage: &Stage, task: &str) -> String {
    let address = format!("{}/tasks/{task}/token", stage.url);
    let answer = reqwest::Client::new().post(address).bearer_auth(stage.relay.owner_token()).send().await.unwrap();
    let made: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    made["token"].as_str().unwrap().to_owned()
}

async fn trigger(stage: &Stage, task: &str, token: &str) -> u16 {
    let address = format!("{}/tasks/{task}/trigger", stage.url);
    reqwest::Client::new().post(address).bearer_auth(token).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_due_while_it_runs_falls_out_waits_or_runs_beside() {
    let stage = Stage::new().await;
    let _worker = stage.worker(demo(120.0));
    let mut tasks = Vec::new();
    for overlap in ["skip", "queue", "parallel"] {
        let id = task(&stage, overlap, 0, json!([{"message": "A long one"}, {"overlap": overlap}])).await;
        let token = token(&stage, &id).await;
        assert_eq!(trigger(&stage, &id, &token).await, 202);
        tasks.push((id, token));
    }
    for (id, token) in &tasks {
        until(&stage, id, "its first run", |runs| runs.len() == 1).await;
        assert_eq!(trigger(&stage, id, token).await, 202);
    }
    let skipped = until(&stage, &tasks[0].0, "one that fell out", |runs| runs.len() == 2).await;
    assert!(skipped.iter().any(|run| run["error"].as_str().is_some_and(|why| why.starts_with("Skipped"))));
    until(&stage, &tasks[2].0, "one beside", |runs| runs.iter().filter(|run| !run["session"].is_null()).count() == 2)
        .await;
    assert_eq!(runs(&stage, &tasks[1].0).await.len(), 1, "it waits");
    until(&stage, &tasks[1].0, "the one that waited", |runs| runs.len() == 2).await;
    let queued = sessions(&stage, &tasks[1].0, 2).await;
    let (first, second) = (&queued[0], &queued[1]);
    let [first, second] = if first.created_at < second.created_at { [first, second] } else { [second, first] };
    assert!(second.created_at.unwrap().0 >= first.created_at.unwrap().0 + first.duration_ms, "one after the other");
}
