//! The two WebSockets, `/sync` and `/catalog`: who is calling, and then to the task that answers.
//!
//! A token comes in `Authorization`, or as a one-use `ticket` from our own page (a page can't set headers on a
//! WebSocket), or, on `/sync` only, as `access_token` from clients that know nothing but an address.

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use skein_engine::sync::ConnectionInfo;

use crate::accounts::Caller;
use crate::http::{App, Problem, bearer};
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
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let known = credentials.access_token.as_deref().and_then(|token| app.accounts.caller(token));
    let Some(caller) = known.or_else(|| caller(&app, &headers, &credentials)) else {
        return Problem::Token.into_response();
    };
    let Ok(slot) = app.sockets.clone().try_acquire_owned() else { return Problem::Busy.into_response() };
    let info = ConnectionInfo {
        scope: caller.workspace.scope(),
        private: vec![(caller.member.profile, caller.member.scope())],
        writer: caller.writer(),
        read_only: caller.read_only(),
    };
    connection::bounded(upgrade).on_upgrade(async move |socket| {
        let (id, frames) = (app.next_connection(), app.hub.frames.clone());
        let (sender, waiting) = outgoing::channel();
        if frames.send(hub::Frame::Connect(id, info, sender)).await {
            connection::run(socket, waiting, frames, |event| hub::Frame::Event(id, event), app.stop.clone()).await;
        }
        drop(slot);
    })
}

/// `GET /catalog`.
pub async fn catalog(
    State(app): State<App>,
    Query(credentials): Query<Credentials>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Some(caller) = caller(&app, &headers, &credentials) else { return Problem::Token.into_response() };
    let Ok(slot) = app.sockets.clone().try_acquire_owned() else { return Problem::Busy.into_response() };
    connection::bounded(upgrade).on_upgrade(async move |socket| {
        let (id, frames) = (app.next_connection(), app.catalog.frames.clone());
        let (sender, waiting) = outgoing::channel();
        if frames.send(catalog::Frame::Connect(id, Box::new(caller), sender)).await {
            connection::run(socket, waiting, frames, |event| catalog::Frame::Event(id, event), app.stop.clone()).await;
        }
        drop(slot);
    })
}

fn caller(app: &App, headers: &HeaderMap, credentials: &Credentials) -> Option<Caller> {
    match &credentials.ticket {
        Some(ticket) => app.accounts.redeem(clock::now(), ticket),
        None => app.accounts.caller(bearer(headers)?),
    }
}
