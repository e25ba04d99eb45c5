//! Runs of a task: begun by hand, listed with what they cost, and triggered from outside.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde::Serialize;
use serde_json::json;
use skein_engine::ids::{DocumentId, Micros, Timestamp, random_id};
use skein_engine::session::Summary;
use skein_engine::session::conversation::Reason;
use skein_engine::session::model::Origin;
use skein_engine::wire::catalog::Firing;
use skein_engine::workspace::opening::TaskRun;
use skein_engine::workspace::schedule;

use super::now;
use crate::action::once;
use crate::args::Place;
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{cost, line, out, remark, table, time};
use crate::session::begin;
use crate::session::transcript::{one_line, status_word};

/// Begins a run: this device makes its session.
pub(super) async fn begun(
    opened: &Opened,
    place: &Place,
    given: &str,
    set: Vec<(String, String)>,
    as_json: bool,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Begun {
        run: String,
        session: DocumentId,
    }
    let workspace = opened.workspace().await;
    let (id, task) = workspace.task(given)?;
    let (run, values) = (random_id(), once(set)?);
    let when = schedule::local(now(), task.tz.as_deref());
    let new = task.session(&workspace, TaskRun { task: id, run: &run, when: &when, values: &values });
    let session = begin(opened, new.map_err(|error| Failure::new(error.to_string()))?).await?;
    if opened.connected {
        // The session says itself which run it is: without this it is only not listed by everyone.
        let noted =
            place.ask()?.send(Method::POST, &path(id, "runs"), &json!({ "run": run, "session": session })).await;
        if let Err(failure) = noted {
            remark(&format!("the run has begun, but the relay did not note it: {failure}"));
        }
    }
    if as_json { crate::print::json(&Begun { run, session }) } else { line(&session.to_string()) }
}

/// A run, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    /// `None`: the relay has not heard of it, and its session isn't here.
    run: Option<String>,
    session: Option<DocumentId>,
    fired_at: Option<Timestamp>,
    /// Of its session; without one `SKIPPED`, `FAILED` or, if it was purged, `PURGED`.
    status: &'static str,
    cost_micros: Option<Micros>,
    error: Option<String>,
}

/// Lists runs, the last one first: those that the relay knows, and sessions of the task that it was not told of.
pub(super) async fn list(opened: &Opened, place: &Place, given: &str, as_json: bool) -> Result<(), Failure> {
    let workspace = opened.workspace().await;
    let id = workspace.task(given)?.0.to_owned();
    let firings: Vec<Firing> = if opened.connected { place.ask()?.get(&path(&id, "runs")).await? } else { Vec::new() };
    let known: BTreeSet<DocumentId> = firings.iter().filter_map(|firing| firing.session).collect();
    let mut runs: Vec<Run> = firings.into_iter().map(|firing| of_firing(opened, firing)).collect();
    let others = opened.client.read(|device, now| {
        let mut all = device.summaries(now);
        all.retain(|summary| summary.task.as_ref() == Some(&id) && !known.contains(&summary.id));
        all
    });
    runs.extend(others.iter().map(|summary| of_session(opened, summary)));
    runs.sort_by_key(|run| std::cmp::Reverse(run.fired_at));
    if as_json {
        return crate::print::json(&runs);
    }
    let rows = runs.iter().map(|run| {
        vec![
            time(run.fired_at),
            run.status.to_owned(),
            if run.session.is_some() { cost(run.cost_micros, false) } else { String::new() },
            run.session.map_or_else(|| "–".into(), |session| session.to_string()),
            one_line(run.error.as_deref().unwrap_or_default()),
        ]
    });
    out(&table(&rows.collect::<Vec<_>>()))
}

fn of_firing(opened: &Opened, firing: Firing) -> Run {
    let (run, fired_at) = (Some(firing.run), Some(firing.at));
    let Some(session) = firing.session else {
        let skipped = firing.error.as_ref().is_some_and(|error| error.starts_with("Skipped"));
        let status = if skipped { "SKIPPED" } else { "FAILED" };
        return Run { run, session: None, fired_at, status, cost_micros: Some(Micros(0)), error: firing.error };
    };
    let (summary, spent) = opened.client.read(|device, now| {
        let spent = device.tombstone(session).map(|left| {
            let known = left.spent.iter().all(|spent| !spent.incomplete);
            let sum = left.spent.iter().fold(0_u64, |sum, spent| sum.saturating_add(spent.cost_micros.0));
            known.then_some(Micros(sum))
        });
        (device.summary(now, session), spent)
    });
    match (summary, spent) {
        (Some(summary), _) => Run { run, fired_at, ..of_session(opened, &summary) },
        (None, spent) => Run {
            run,
            session: Some(session),
            fired_at,
            status: if spent.is_some() { "PURGED" } else { "ACTIVE" },
            cost_micros: spent.flatten(),
            error: None,
        },
    }
}

fn of_session(opened: &Opened, summary: &Summary) -> Run {
    let run = opened.client.read(|device, _| match &device.session(summary.id).ok()?.origin {
        Some(Origin::Task { run, .. }) => Some(run.clone()),
        _ => None,
    });
    let error = match &summary.reason {
        Some(Reason::Failed { error }) => Some(error.message.clone()),
        Some(Reason::Limit { message }) => Some(message.clone()),
        _ => None,
    };
    Run {
        run,
        session: Some(summary.id),
        fired_at: summary.created_at,
        status: status_word(summary.beneath.unwrap_or(summary.status)),
        cost_micros: summary.cost_micros,
        error,
    }
}

/// Makes a token that triggers the task; the one before triggers it no longer.
pub(super) async fn trigger(opened: &Opened, place: &Place, given: &str, as_json: bool) -> Result<(), Failure> {
    if !opened.connected {
        return Err(Failure::new("the relay can't be reached, and only the relay can let a token trigger a task"));
    }
    let workspace = opened.workspace().await;
    let (id, _) = workspace.task(given)?;
    let made = place.ask()?.send(Method::POST, &path(id, "token"), &json!({})).await?;
    if as_json {
        return crate::print::json(&made);
    }
    let rows = ["url", "token"].map(|key| vec![key.to_owned(), made[key].as_str().unwrap_or_default().to_owned()]);
    out(&table(&rows))
}

/// What tasks have cost, by id.
pub(super) fn costs(opened: &Opened) -> BTreeMap<String, skein_engine::device::TaskCost> {
    opened.client.read(|device, now| device.task_costs(now))
}

fn path(task: &str, what: &str) -> String {
    format!("/tasks/{task}/{what}")
}
