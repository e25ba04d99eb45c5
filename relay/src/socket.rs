//! The two WebSockets, `/sync` and `/catalog`: who is calling, and then to the task that answers.
//!
//! A token comes in `Authorization`, or as a one-use `ticket` from our own page (a page can't set headers on a
//! WebSocket), or, on `/sync` only, as `access_token` from clients that know nothing but an address.

use axum::Extension;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use skein_engine::sync::ConnectionInfo;

use crate::accounts::Caller;
use crate::connection::Leave;
use crate::http::{App, Problem, bearer};
use crate::server::Via;
use crate::{catalog, clock, connection, hub, outgoing};

/// What an address may carry.
#[derive(Deserialize)]
pub struct Credentials {
    ticket: Option<String>,
    access_token: Option<String>,
}

/// `GET /sync`.
pub async fn sync(
    State(app): State<App>,
    Query(credentials): Query<Credentials>,
    via: Option<Extension<Via>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let known = credentials.access_token.as_deref().and_then(|token| app.accounts.caller(clock::now(), token));
    let Some(caller) = known.or_else(|| caller(&app, &headers, &credentials)) else {
        return refused(&app, via, &headers, &credentials);
    };
    let Ok(slot) = app.sockets.clone().try_acquire_owned() else { return Problem::Busy.into_response() };
    let info = ConnectionInfo {
        scope: caller.workspace.scope(),
        private: caller.profile().into_iter().collect(),
        writer: caller.writer(),
        read_only: caller.read_only(),
    };
    connection::bounded(upgrade).on_upgrade(async move |socket| {
        let (id, frames) = (app.next_connection(), app.hub.frames.clone());
        let (sender, waiting) = outgoing::channel();
        if frames.send(hub::Frame::Connect(id, info, sender)).await {
            let leave = Leave { stop: app.stop.clone(), accounts: app.accounts.clone(), caller };
            connection::run(socket, waiting, frames, |event| hub::Frame::Event(id, event), leave).await;
        }
        drop(slot);
    })
}

/// `GET /catalog`.
pub async fn catalog(
    State(app): State<App>,
    Query(credentials): Query<Credentials>,
    via: Option<Extension<Via>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Some(caller) = caller(&app, &headers, &credentials) else {
        return refused(&app, via, &headers, &credentials);
    };
    let Ok(slot) = app.sockets.clone().try_acquire_owned() else { return Problem::Busy.into_response() };
    connection::bounded(upgrade).on_upgrade(async move |socket| {
        let (id, frames) = (app.next_connection(), app.catalog.frames.clone());
        let (sender, waiting) = outgoing::channel();
        if frames.send(catalog::Frame::Connect(id, Box::new(caller.clone()), sender)).await {
            let leave = Leave { stop: app.stop.clone(), accounts: app.accounts.clone(), caller };
            connection::run(socket, waiting, frames, |event| catalog::Frame::Event(id, event), leave).await;
        }
        drop(slot);
    })
}

fn caller(app: &App, headers: &HeaderMap, credentials: &Credentials) -> Option<Caller> {
    match &credentials.ticket {
        Some(ticket) => app.accounts.redeem(clock::now(), ticket),
        None => app.accounts.caller(clock::now(), bearer(headers)?),
    }
}

/// Nobody is let in without a token; one that is wrong is an attempt.
fn refused(app: &App, via: Option<Extension<Via>>, headers: &HeaderMap, credentials: &Credentials) -> Response {
    let tried = bearer(headers).or(credentials.ticket.as_deref()).or(credentials.access_token.as_deref());
    let problem = match tried {
        Some(_) => app.wrong(via.map(|Extension(via)| via)),
        None => Problem::Token,
    };
    problem.into_response()
}
