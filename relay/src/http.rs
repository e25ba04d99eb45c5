//! The relay's addresses, and what stands before all of them: the check of `Host` and `Origin`, and the headers that
//! every answer carries. Failures are JSON, `{"error": {"code", "message"}}`.

mod accounts;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, HOST, ORIGIN, REFERRER_POLICY, RETRY_AFTER,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use skein_engine::sync::ConnectionId;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::accounts::{Accounts, AccountsError, Caller, CodeError, Throttle};
use crate::blobs::{self, BlobError, Blobs};
use crate::catalog::CatalogHandle;
use crate::guard::{self, From, Guard};
use crate::hub::HubHandle;
use crate::server::Via;
use crate::store::ledger::Ledger;
use crate::store::log::Log;
use crate::{archive, clock, sessions, socket, web};

pub use accounts::{operator, owner};
pub use tasks::Pace;

/// Bytes of a JSON body.
const MAX_JSON: usize = 64 << 10;
/// For the body of a request that has a small one, and its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    /// Who may come in.
    pub accounts: Arc<Accounts>,
    /// Wrong tokens and codes.
    pub attempts: Arc<Throttle>,
    /// Triggers of tasks.
    pub triggers: Arc<Pace>,
    /// The address at which browsers reach the relay, if it is configured; without a last slash.
    pub public_url: Option<Arc<str>>,
    /// Blobs.
    pub blobs: Blobs,
    /// For `/sync`.
    pub hub: HubHandle,
    /// For `/catalog`.
    pub catalog: CatalogHandle,
    /// Asked whether it takes writes.
    pub log: Log,
    /// Who wrote what, for archives.
    pub ledger: Ledger,
    /// Messages, calls and runs as rows.
    pub queries: crate::queries::Queries,
    /// The data folder, for what is being received.
    pub data: Arc<std::path::Path>,
    /// Host and Origin.
    pub guard: Arc<Guard>,
    /// Set when the relay stops.
    pub stop: watch::Receiver<bool>,
    /// The number of the last connection.
    pub connections: Arc<AtomicU64>,
    /// One for each WebSocket that may be open.
    pub sockets: Arc<Semaphore>,
}

impl App {
    /// A number that no connection of this start has had.
    pub fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl App {
    /// A wrong token or ticket came this way.
    pub fn wrong(&self, via: Option<Via>) -> Problem {
        match via.and_then(|via| self.attempts.failed(Instant::now(), via.address)) {
            Some(wait) => Problem::Throttled(wait),
            None => Problem::Token,
        }
    }
}

/// The whole of it.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/whoami", get(whoami))
        .route("/tickets", post(ticket))
        .merge(accounts::routes())
        .merge(tasks::routes())
        .merge(crate::queries::serve::routes())
        .route("/sessions", get(sessions::list))
        .route("/sync", get(socket::sync))
        .route("/catalog", get(socket::catalog))
        .layer(DefaultBodyLimit::max(MAX_JSON))
        .layer(middleware::from_fn(in_time))
        .route("/blobs/{id}", put(blobs::serve::put).get(blobs::serve::get))
        .route("/workspace/archive", get(archive::serve::give))
        .route("/workspaces/archive", post(archive::serve::take))
        .method_not_allowed_fallback(async || Problem::Method)
        .fallback(web::file)
        .layer(middleware::from_fn_with_state(app.guard.clone(), check))
        .with_state(app)
}

/// Bounds how long a small request may take, its body included.
async fn in_time(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(PATIENCE, next.run(request)).await;
    answered.unwrap_or_else(|_| Problem::Slow.into_response())
}

/// Lets in only what may come by this host and from this page, and puts the common headers on every answer.
async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let verdict = {
        let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
        guard.check(guard::host_of(request.uri(), text(HOST)), text(ORIGIN))
    };
    let (mut response, from) = match verdict {
        Err(refused) => (Problem::Guard(refused.to_string()).into_response(), None),
        Ok(From::Elsewhere(_)) if request.method() == Method::OPTIONS => {
            let allowed = [
                (ACCESS_CONTROL_ALLOW_METHODS, "GET, PUT, POST, PATCH, DELETE"),
                (ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, range"),
                // A page of a public site that may use a relay in a private network (Private Network Access).
                (HeaderName::from_static("access-control-allow-private-network"), "true"),
                (ACCESS_CONTROL_MAX_AGE, "600"),
            ];
            let from = request.headers().get(ORIGIN).cloned();
            ((StatusCode::NO_CONTENT, allowed).into_response(), from)
        }
        Ok(From::Elsewhere(_)) => {
            let from = request.headers().get(ORIGIN).cloned();
            (next.run(request).await, from)
        }
        Ok(From::Here) => (next.run(request).await, None),
    };
    let headers = response.headers_mut();
    if let Some(from) = from {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, from);
        let readable = HeaderValue::from_static(
            "content-length, content-range, accept-ranges, retry-after, skein-cursor, skein-more",
        );
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, readable);
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A request that was not done, as the client is told.
#[derive(Debug)]
pub enum Problem {
    /// No token, or a wrong one.
    Token,
    /// The token is good, but not for this.
    Forbidden(&'static str),
    /// By this host or from this page nobody comes in.
    Guard(String),
    /// There is nothing.
    NotFound,
    /// Not in this way.
    Method,
    /// Too many wrong tokens or codes from this address.
    Throttled(Duration),
    /// More often than may be.
    TooOften(Duration),
    /// It took too long to say what it wants.
    Slow,
    /// In the clear, to a relay that speaks TLS.
    NotEncrypted,
    /// A sign-in code.
    Code(CodeError),
    /// Members, tokens, workspaces.
    Accounts(AccountsError),
    /// The request makes no sense.
    Bad(String),
    /// A blob.
    Blob(BlobError),
    /// Too many at once.
    Busy,
    /// The relay's own fault.
    Failed(String),
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let wait = match &self {
            Self::Throttled(wait) | Self::TooOften(wait) => Some(wait.as_secs() + 1),
            _ => None,
        };
        let (status, code, message) = match self {
            Self::Throttled(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "throttled",
                format!("too many wrong attempts from this address: try again in {} s", wait.unwrap_or_default()),
            ),
            Self::TooOften(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "throttled",
                format!("too many at once: try again in {} s", wait.unwrap_or_default()),
            ),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "slow", "the request took too long".to_owned()),
            Self::NotEncrypted => {
                (StatusCode::BAD_REQUEST, "tls", "this relay speaks TLS: its address begins with https".to_owned())
            }
            Self::Accounts(error) => {
                let (status, code) = match &error {
                    AccountsError::NoMember | AccountsError::NoToken => (StatusCode::NOT_FOUND, "not-found"),
                    AccountsError::LastOwner => (StatusCode::CONFLICT, "last-owner"),
                    AccountsError::NameTaken(_) => (StatusCode::CONFLICT, "name-taken"),
                    AccountsError::TooMany => (StatusCode::CONFLICT, "too-many"),
                    AccountsError::Name => (StatusCode::BAD_REQUEST, "bad-request"),
                    AccountsError::Io(_) | AccountsError::Content(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
                };
                (status, code, error.to_string())
            }
            Self::Token => (
                StatusCode::UNAUTHORIZED,
                "token",
                "this token is not known here: sign in by the address that the relay prints at its start".to_owned(),
            ),
            Self::Forbidden(message) => (StatusCode::FORBIDDEN, "forbidden", message.to_owned()),
            Self::Guard(message) => (StatusCode::FORBIDDEN, "host", message),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "there is nothing here".to_owned()),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method", "this address takes no such request".to_owned()),
            Self::Code(error) => {
                let (status, code) = match error {
                    CodeError::Used => (StatusCode::GONE, "used"),
                    CodeError::Expired => (StatusCode::GONE, "expired"),
                    CodeError::Unknown => (StatusCode::NOT_FOUND, "unknown"),
                };
                (status, code, error.to_string())
            }
            Self::Bad(message) => (StatusCode::BAD_REQUEST, "bad-request", message),
            Self::Blob(error) => {
                let (status, code) = match &error {
                    BlobError::Hash(_) => (StatusCode::UNPROCESSABLE_ENTITY, "hash"),
                    BlobError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
                    BlobError::Upload(_) => (StatusCode::BAD_REQUEST, "upload"),
                    BlobError::Io(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
                };
                (status, code, error.to_string())
            }
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "the relay has too many connections".to_owned()),
            Self::Failed(message) => (StatusCode::INTERNAL_SERVER_ERROR, "failed", message),
        };
        let retry = wait.map(|seconds| [(RETRY_AFTER, HeaderValue::from(seconds))]);
        let mut response = (status, Json(json!({ "error": { "code": code, "message": message } }))).into_response();
        response.headers_mut().extend(retry.into_iter().flatten());
        response
    }
}

/// The token of `Authorization: Bearer T`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let via = parts.extensions.get::<Via>().copied();
        let token = bearer(&parts.headers).ok_or(Problem::Token)?;
        app.accounts.caller(clock::now(), token).ok_or_else(|| app.wrong(via))
    }
}

async fn health(State(app): State<App>) -> Response {
    let version = env!("CARGO_PKG_VERSION");
    match app.log.dead() {
        None => Json(json!({ "status": "ok", "version": version })).into_response(),
        Some(why) => {
            let body = json!({ "status": "read-only", "reason": why, "version": version });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

async fn whoami(caller: Caller) -> Json<Value> {
    Json(json!({
        "workspace": caller.workspace.id,
        "workspaceDocument": caller.workspace.document,
        "member": caller.member.id,
        "memberName": caller.member.name,
        "role": caller.role(),
        "kind": caller.kind,
    }))
}

async fn ticket(State(app): State<App>, caller: Caller) -> Json<Value> {
    Json(json!({ "ticket": app.accounts.ticket(clock::now(), &caller).reveal() }))
}
