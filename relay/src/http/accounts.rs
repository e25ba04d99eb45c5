//! Members, tokens, pairing codes and workspaces over HTTP; `docs/http.md` describes them for others.
//!
//! Who may do what is decided here, from the token's kind and its member's role: people only, never a worker or a tool;
//! members and workers' tokens by owners; workspaces by owners of the first one, who run the relay. What lies in another
//! workspace answers as what isn't there.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use skein_engine::session::conversation::{MemberRole, WriterKind};
use tokio::time::Instant;

use super::{App, Problem};
use crate::accounts::{Accounts, AccountsError, Caller, Ended, Member, name};
use crate::server::Via;
use crate::{clock, founding};

/// A secret in an answer is kept by nobody on its way.
const UNKEPT: [(axum::http::HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

type Body<T> = Result<Json<T>, JsonRejection>;

/// These addresses.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/members", get(members).post(add_member))
        .route("/members/{id}", patch(change_member).delete(remove_member))
        .route("/tokens", get(tokens).post(add_token))
        .route("/tokens/{id}", delete(revoke_token))
        .route("/codes", post(code))
        .route("/pair", post(pair))
        .route("/workspaces", get(workspaces).post(add_workspace))
}

fn said<T>(body: Body<T>) -> Result<T, Problem> {
    body.map(|Json(said)| said).map_err(|error| Problem::Bad(error.body_text()))
}

fn person(caller: &Caller) -> Result<(), Problem> {
    match caller.kind == WriterKind::Member && !caller.token_reads_only {
        true => Ok(()),
        false => Err(Problem::Forbidden("only a person's device may do this")),
    }
}

/// Owners of the workspace only.
pub fn owner(caller: &Caller) -> Result<(), Problem> {
    person(caller)?;
    if caller.is_owner() { Ok(()) } else { Err(Problem::Forbidden("only an owner may do this")) }
}

/// Does something to the accounts that waits for the disk. The body of the request may have taken its time: whoever
/// was turned out since its head came does nothing more.
async fn doing<T: Send + 'static>(
    app: &App,
    by: Option<&Caller>,
    act: impl FnOnce(&Accounts) -> Result<T, AccountsError> + Send + 'static,
) -> Result<T, Problem> {
    match by.map_or(Ok(()), |caller| app.accounts.standing(caller)) {
        Ok(()) => {}
        Err(Ended::Role) => return Err(Problem::Forbidden("your role was changed meanwhile: ask again")),
        Err(Ended::Revoked | Ended::Removed) => return Err(Problem::Token),
    }
    let accounts = app.accounts.clone();
    let done = tokio::task::spawn_blocking(move || act(&accounts)).await;
    done.map_err(|error| Problem::Failed(error.to_string()))?.map_err(Problem::Accounts)
}

// --- Members -------------------------------------------------------------------------------------------------------

fn shown(member: &Member, caller: &Caller) -> Value {
    json!({ "id": member.id, "name": member.name, "role": member.role, "you": member.id == caller.member.id })
}

async fn members(State(app): State<App>, caller: Caller) -> Json<Value> {
    let members = app.accounts.members(&caller.workspace.id);
    Json(members.iter().map(|member| shown(member, &caller)).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMember {
    name: String,
    #[serde(default = "member_role")]
    role: MemberRole,
}

fn member_role() -> MemberRole {
    MemberRole::Member
}

async fn add_member(State(app): State<App>, caller: Caller, body: Body<NewMember>) -> Result<Response, Problem> {
    owner(&caller)?;
    let NewMember { name: given, role } = said(body)?;
    let given = name(&given).map_err(Problem::Accounts)?;
    let (member, profile) = founding::member(&caller.workspace.id, &given, role).map_err(Problem::Failed)?;
    let (id, seeds) = (member.id.clone(), [profile.clone()]);
    let minted =
        doing(&app, Some(&caller), move |accounts| accounts.add_member(clock::now(), member, &profile)).await?;
    founding::plant(&app.hub, &seeds).await.map_err(Problem::Failed)?;
    app.catalog.members(caller.workspace.scope());
    let body = json!({ "id": id, "name": given, "role": role, "token": minted.token.reveal() });
    Ok((StatusCode::CREATED, UNKEPT, Json(body)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberChange {
    role: MemberRole,
}

async fn change_member(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    body: Body<MemberChange>,
) -> Result<Json<Value>, Problem> {
    owner(&caller)?;
    let MemberChange { role } = said(body)?;
    let workspace = caller.workspace.id.clone();
    let member = doing(&app, Some(&caller), move |accounts| accounts.set_role(&workspace, &id, role)).await?;
    Ok(Json(shown(&member, &caller)))
}

async fn remove_member(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    owner(&caller)?;
    let workspace = caller.workspace.id.clone();
    doing(&app, Some(&caller), move |accounts| accounts.remove_member(clock::now(), &workspace, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

// --- Tokens --------------------------------------------------------------------------------------------------------

/// Whose tokens a caller sees and revokes: an owner everyone's, others their own.
fn whose(caller: &Caller) -> Option<String> {
    (!caller.is_owner()).then(|| caller.member.id.clone())
}

async fn tokens(State(app): State<App>, caller: Caller) -> Result<Json<Value>, Problem> {
    person(&caller)?;
    let tokens = app.accounts.tokens(&caller.workspace.id, whose(&caller).as_deref());
    let tokens = tokens.iter().map(|(token, member)| {
        json!({
            "id": token.id,
            "name": token.name,
            "kind": token.kind,
            "readOnly": token.read_only || member.role == MemberRole::Viewer,
            "member": member.id,
            "memberName": member.name,
            "created": token.created,
            "lastUsed": token.used,
            "current": token.id == caller.token,
        })
    });
    Ok(Json(tokens.collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewToken {
    name: String,
    kind: WriterKind,
    #[serde(default)]
    read_only: bool,
}

async fn add_token(State(app): State<App>, caller: Caller, body: Body<NewToken>) -> Result<Response, Problem> {
    person(&caller)?;
    let NewToken { name: given, kind, read_only } = said(body)?;
    let given = name(&given).map_err(Problem::Accounts)?;
    match kind {
        WriterKind::Relay => return Err(Problem::Bad("there is no token of this kind".to_owned())),
        WriterKind::Worker if read_only => return Err(Problem::Bad("a worker has to write".to_owned())),
        WriterKind::Worker if !caller.is_owner() => {
            return Err(Problem::Forbidden("only an owner makes a worker's token"));
        }
        _ => {}
    }
    let member = caller.member.id.clone();
    let minted =
        doing(&app, Some(&caller), move |accounts| accounts.mint(clock::now(), &member, &given, kind, read_only))
            .await?;
    let body = json!({ "id": minted.id, "token": minted.token.reveal() });
    Ok((StatusCode::CREATED, UNKEPT, Json(body)).into_response())
}

async fn revoke_token(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    person(&caller)?;
    let (workspace, whose) = (caller.workspace.id.clone(), whose(&caller));
    doing(&app, Some(&caller), move |accounts| accounts.revoke(clock::now(), &workspace, whose.as_deref(), &id))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

// --- Pairing -------------------------------------------------------------------------------------------------------

/// A code for another device of the caller's, as an address that signs it in.
async fn code(
    State(app): State<App>,
    via: Option<Extension<Via>>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    person(&caller)?;
    let base = match (&app.public_url, headers.get(HOST).and_then(|host| host.to_str().ok())) {
        (Some(url), _) => url.to_string(),
        (None, Some(host)) => {
            let encrypted = via.is_some_and(|Extension(via)| via.encrypted);
            format!("{}://{host}", if encrypted { "https" } else { "http" })
        }
        (None, None) => return Err(Problem::Bad("the request has no usable Host header".to_owned())),
    };
    let (code, expires) = app.accounts.code(clock::now(), &caller.member.id, Some(&caller.token));
    let link = format!("{base}/#/sign-in?code={}", code.reveal());
    let body = json!({ "code": code.reveal(), "link": link, "expires": expires });
    Ok((StatusCode::CREATED, UNKEPT, Json(body)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pairing {
    code: String,
    name: String,
}

async fn pair(State(app): State<App>, via: Option<Extension<Via>>, body: Body<Pairing>) -> Result<Response, Problem> {
    let Pairing { code, name } = said(body)?;
    let address = via.map(|Extension(via)| via.address);
    if let Some(wait) = address.and_then(|address| app.attempts.wait(Instant::now(), address)) {
        return Err(Problem::Throttled(wait));
    }
    let token =
        doing(&app, None, move |accounts| accounts.pair(clock::now(), &code, &name)).await?.map_err(|error| {
            if let Some(address) = address {
                app.attempts.failed(Instant::now(), address);
            }
            Problem::Code(error)
        })?;
    Ok((UNKEPT, Json(json!({ "token": token.reveal() }))).into_response())
}

// --- Workspaces ----------------------------------------------------------------------------------------------------

/// Whether the caller runs this relay: an owner of its first workspace.
/// Whether the caller runs the relay: an owner of its first workspace.
pub fn operator(app: &App, caller: &Caller) -> bool {
    let first = app.accounts.workspaces().into_iter().next();
    caller.is_owner() && first.is_some_and(|first| first.id == caller.workspace.id)
}

async fn workspaces(State(app): State<App>, caller: Caller) -> Json<Value> {
    let all = operator(&app, &caller);
    let workspaces = app.accounts.workspaces();
    let seen = workspaces.iter().filter(|workspace| all || workspace.id == caller.workspace.id);
    let seen = seen.map(|workspace| {
        let yours = workspace.id == caller.workspace.id;
        let document = yours.then_some(workspace.document);
        json!({ "id": workspace.id, "name": workspace.name, "document": document, "yours": yours })
    });
    Json(seen.collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewWorkspace {
    name: String,
}

async fn add_workspace(State(app): State<App>, caller: Caller, body: Body<NewWorkspace>) -> Result<Response, Problem> {
    if !operator(&app, &caller) {
        return Err(Problem::Forbidden("only an owner of the relay's first workspace makes others"));
    }
    let given = name(&said(body)?.name).map_err(Problem::Accounts)?;
    let founded = founding::workspace(&given, &caller.member.name);
    let (workspace, owner, seeds) = founded.map_err(Problem::Failed)?;
    let (new, member, planted) = (workspace.clone(), owner.id.clone(), seeds.clone());
    let minted = doing(&app, Some(&caller), move |accounts| {
        accounts.found(workspace, owner, &seeds)?;
        accounts.mint(clock::now(), &member, "first token", WriterKind::Member, false)
    })
    .await?;
    founding::plant(&app.hub, &planted).await.map_err(Problem::Failed)?;
    let body = json!({
        "id": new.id,
        "name": new.name,
        "document": new.document,
        "token": minted.token.reveal(),
    });
    Ok((StatusCode::CREATED, UNKEPT, Json(body)).into_response())
}
