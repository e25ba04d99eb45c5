//! The relay's addresses, and what stands before all of them: the check of `Host` and `Origin`, and the headers that
//! every answer carries. Failures are JSON, `{"error": {"code", "message"}}`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use skein_engine::session::conversation::{MemberRole, WriterKind};
use skein_engine::sync::ConnectionId;
use tokio::sync::{Semaphore, watch};

use crate::accounts::{Accounts, Caller, CodeError};
use crate::blobs::{self, BlobError, Blobs};
use crate::catalog::CatalogHandle;
use crate::guard::{self, From, Guard};
use crate::hub::HubHandle;
use crate::store::log::Log;
use crate::{clock, socket, web};

/// Bytes of a JSON body.
const MAX_JSON: usize = 64 << 10;

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    /// Who may come in.
    pub accounts: Arc<Accounts>,
    /// Blobs.
    pub blobs: Blobs,
    /// For `/sync`.
    pub hub: HubHandle,
    /// For `/catalog`.
    pub catalog: CatalogHandle,
    /// Asked whether it takes writes.
    pub log: Log,
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

/// The whole of it.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/whoami", get(whoami))
        .route("/tickets", post(ticket))
        .route("/tokens", post(token))
        .route("/pair", post(pair))
        .route("/sync", get(socket::sync))
        .route("/catalog", get(socket::catalog))
        .layer(DefaultBodyLimit::max(MAX_JSON))
        .route("/blobs/{id}", put(blobs::serve::put).get(blobs::serve::get))
        .method_not_allowed_fallback(async || Problem::Method)
        .fallback(web::file)
        .layer(middleware::from_fn_with_state(app.guard.clone(), check))
        .with_state(app)
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
                (ACCESS_CONTROL_ALLOW_METHODS, "GET, PUT, POST"),
                (ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, range"),
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
    /// A sign-in code.
    Code(CodeError),
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
        let (status, code, message) = match self {
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
        (status, Json(json!({ "error": { "code": code, "message": message } }))).into_response()
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
        bearer(&parts.headers).and_then(|token| app.accounts.caller(token)).ok_or(Problem::Token)
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
        "role": caller.member.role,
        "kind": caller.kind,
    }))
}

async fn ticket(State(app): State<App>, caller: Caller) -> Json<Value> {
    Json(json!({ "ticket": app.accounts.ticket(clock::now(), caller).reveal() }))
}

#[derive(Deserialize)]
struct TokenWish {
    name: String,
    kind: WriterKind,
}

/// Another token for the caller's member: a device's or a tool's by anyone, a worker's by owners only.
async fn token(
    State(app): State<App>,
    caller: Caller,
    body: Result<Json<TokenWish>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(TokenWish { name, kind }) = body.map_err(|error| Problem::Bad(error.body_text()))?;
    match kind {
        WriterKind::Relay => return Err(Problem::Bad("there is no token of this kind".to_owned())),
        WriterKind::Worker if caller.member.role != MemberRole::Owner => {
            return Err(Problem::Forbidden("only an owner makes a worker's token"));
        }
        _ if caller.kind != WriterKind::Member => return Err(Problem::Forbidden("only a person makes tokens")),
        _ => {}
    }
    let minted = minting(app, caller.member.id, name, kind).await?;
    Ok((StatusCode::CREATED, Json(json!({ "token": minted }))).into_response())
}

async fn minting(app: App, member: String, name: String, kind: WriterKind) -> Result<String, Problem> {
    let minted = tokio::task::spawn_blocking(move || app.accounts.mint(clock::now(), &member, &name, kind)).await;
    let minted = minted.map_err(|error| Problem::Failed(error.to_string()))?;
    Ok(minted.map_err(|error| Problem::Failed(error.to_string()))?.reveal().to_owned())
}

#[derive(Deserialize)]
struct Pairing {
    code: String,
    name: String,
}

async fn pair(State(app): State<App>, body: Result<Json<Pairing>, JsonRejection>) -> Result<Response, Problem> {
    let Json(Pairing { code, name }) = body.map_err(|error| Problem::Bad(error.body_text()))?;
    let paired = tokio::task::spawn_blocking(move || app.accounts.pair(clock::now(), &code, &name)).await;
    let paired = paired.map_err(|error| Problem::Failed(error.to_string()))?;
    let token = paired.map_err(|error| Problem::Failed(error.to_string()))?.map_err(Problem::Code)?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(json!({ "token": token.reveal() }))).into_response())
}
