//! Tasks over HTTP: what was fired, a token that triggers, and the trigger itself; `docs/http.md` describes them.
//!
//! The token of a trigger is good for one task and nothing else. What it triggers is on the disk when the answer comes; a
//! worker makes the session.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use skein_engine::ids::{DocumentId, Scope, random_id};
use skein_engine::session::conversation::WriterKind;
use skein_engine::wire::catalog::{Firing, Trigger};
use tokio::time::Instant;

use super::{App, Problem};
use crate::accounts::{Caller, Secret};
use crate::bucket::Bucket;
use crate::clock;
use crate::server::Via;
use crate::store::StoreError;
use crate::store::firings::Triggers;

/// Times that a task may be triggered at once.
const BURST: f64 = 60.0;
/// How many more each second.
const PER_SECOND: f64 = 1.0;
/// Values for placeholders.
const MAX_VALUES: usize = 100;
/// Bytes of all of them: each firing that may be tried again keeps them.
const MAX_VALUES_BYTES: usize = 16 << 10;
/// Characters of a run's id.
const MAX_RUN: usize = 60;

/// How often each task was triggered lately.
#[derive(Default)]
pub struct Pace(Mutex<HashMap<(Scope, String), Bucket>>);

impl Pace {
    /// Takes one; how long to wait if there is none.
    fn take(&self, now: Instant, task: &(Scope, String)) -> Option<Duration> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.retain(|of, bucket| of == task || !bucket.is_full(now));
        let bucket = buckets.entry(task.clone()).or_insert_with(|| Bucket::new(now, BURST, PER_SECOND));
        let wait = bucket.wait(now, 1.0);
        if wait.is_zero() {
            bucket.take(now, 1.0);
        }
        (!wait.is_zero()).then_some(wait)
    }
}

/// These addresses.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/tasks/{task}/runs", get(runs).post(ran))
        .route("/tasks/{task}/token", post(token))
        .route("/tasks/{task}/trigger", post(trigger))
}

/// A task's id as it may be: what isn't there is fired never.
fn task_id(task: String) -> Result<String, Problem> {
    let fits = (1..=64).contains(&task.len()) && task.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if fits { Ok(task) } else { Err(Problem::NotFound) }
}

async fn stored<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| Problem::Failed(error.to_string()))?;
    done.map_err(|error| Problem::Failed(error.to_string()))
}

async fn runs(State(app): State<App>, caller: Caller, Path(task): Path<String>) -> Result<Json<Vec<Firing>>, Problem> {
    let (task, scope) = (task_id(task)?, caller.workspace.scope());
    let mut firings = stored(move || app.ledger.of_task(&scope, &task)).await?;
    firings.reverse();
    Ok(Json(firings))
}

/// A run that a person began.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ran {
    run: String,
    session: DocumentId,
}

/// A device has made a session of a task by hand: it is listed with the others.
async fn ran(
    State(app): State<App>,
    caller: Caller,
    Path(task): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Firing>), Problem> {
    if !matches!(caller.kind, WriterKind::Member | WriterKind::Tool) || caller.read_only() {
        return Err(Problem::Forbidden("a worker fires tasks at /catalog, and a viewer runs none"));
    }
    let (task, scope) = (task_id(task)?, caller.workspace.scope());
    let Ran { run, session } = serde_json::from_slice(&body).map_err(|error| Problem::Bad(error.to_string()))?;
    let fits = (1..=MAX_RUN).contains(&run.len()) && run.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !fits {
        return Err(Problem::Bad(format!("a run's id is 1 to {MAX_RUN} letters and digits")));
    }
    if app.hub.heads((scope.clone(), session)).await.is_none() {
        return Err(Problem::NotFound);
    }
    let (at, values) = (clock::now(), BTreeMap::new());
    let firing = Firing { task, id: format!("m{run}"), at, run, session: Some(session), error: None, values };
    let (kept, ledger) = (firing.clone(), app.ledger.clone());
    let firing = stored(move || match ledger.firing(&scope, &kept.task, &kept.id)? {
        // Said once more, since the answer was lost; another session makes it no other run.
        Some(recorded) => Ok(recorded),
        None => ledger.fire(&scope, &kept).map(|()| kept),
    });
    Ok((StatusCode::CREATED, Json(firing.await?)))
}

async fn token(
    State(app): State<App>,
    caller: Caller,
    via: Option<Extension<Via>>,
    Path(task): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if caller.kind != WriterKind::Member || caller.read_only() {
        return Err(Problem::Forbidden("only a member's device may do this"));
    }
    let task = task_id(task)?;
    let secret = Secret::random::<24>("skt_");
    let hash = Sha256::digest(secret.reveal());
    let triggers = Triggers { scope: caller.workspace.scope(), task: task.clone() };
    let ledger = app.ledger.clone();
    stored(move || ledger.let_trigger(&hash, &triggers)).await?;
    let base = match &app.public_url {
        Some(url) => url.to_string(),
        None => {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
            let encrypted = via.is_some_and(|Extension(via)| via.encrypted);
            format!("{}://{host}", if encrypted { "https" } else { "http" })
        }
    };
    let body = json!({ "url": format!("{base}/tasks/{task}/trigger"), "token": secret.reveal() });
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    set: BTreeMap<String, String>,
}

async fn trigger(
    State(app): State<App>,
    via: Option<Extension<Via>>,
    Path(task): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let via = via.map(|Extension(via)| via);
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(hash) = bearer.map(|token| Sha256::digest(token.trim())) else { return Err(app.wrong(via)) };
    let ledger = app.ledger.clone();
    let triggers = stored(move || ledger.triggers(&hash)).await?;
    let Some(Triggers { scope, task }) = triggers.filter(|triggers| triggers.task == task) else {
        return Err(app.wrong(via));
    };
    if let Some(wait) = app.triggers.take(Instant::now(), &(scope.clone(), task.clone())) {
        return Err(Problem::TooOften(wait));
    }
    let wanted: Wanted = match body.iter().all(u8::is_ascii_whitespace) {
        true => Wanted::default(),
        false => serde_json::from_slice(&body).map_err(|error| Problem::Bad(error.to_string()))?,
    };
    if wanted.set.len() > MAX_VALUES {
        return Err(Problem::Bad(format!("at most {MAX_VALUES} values")));
    }
    if wanted.set.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_VALUES_BYTES {
        return Err(Problem::Bad("at most 16 KiB of values".to_owned()));
    }
    // The same key is the same firing, however often it is sent.
    let id = match headers.get("idempotency-key").and_then(|key| key.to_str().ok()) {
        Some(key) => format!("k{}", &hex::encode(Sha256::digest(key))[..32]),
        None => random_id(),
    };
    let (of, task_of, name, ledger) = (scope.clone(), task.clone(), id.clone(), app.ledger.clone());
    let known = stored(move || {
        let fired = ledger.firing(&of, &task_of, &name)?;
        let waits = ledger.triggered(&of)?.into_iter().find(|other| other.task == task_of && other.id == name);
        Ok((fired, waits))
    })
    .await?;
    match known {
        (Some(Firing { run, session, .. }), _) => return Ok(accepted(&run, session)),
        (None, Some(Trigger { run, .. })) => return Ok(accepted(&run, None)),
        (None, None) => {}
    }
    let trigger = Trigger { task, id, at: clock::now(), run: random_id(), values: wanted.set };
    let (of, kept, ledger) = (scope.clone(), trigger.clone(), app.ledger.clone());
    if !stored(move || ledger.trigger(&of, &kept)).await? {
        return Err(Problem::Busy);
    }
    app.catalog.triggered(scope);
    Ok(accepted(&trigger.run, None))
}

fn accepted(run: &str, session: Option<DocumentId>) -> Response {
    let body: Value = json!({ "run": run, "session": session });
    (StatusCode::ACCEPTED, Json(body)).into_response()
}
