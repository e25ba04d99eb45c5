//! `GET /sessions`: the list of sessions for tools that speak HTTP only. What it takes and gives is in `docs/http.md`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};
use skein_engine::ids::Timestamp;
use skein_engine::session::conversation::Status;

use crate::accounts::Caller;
use crate::catalog::listing::SessionQuery;
use crate::http::{App, Problem};

/// Sessions in one answer, unless `limit` says fewer.
const MOST: usize = 1_000;

/// The address's parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    status: Option<String>,
    archived: Option<bool>,
    #[serde(default)]
    deleted: bool,
    after: Option<u64>,
    updated_since: Option<u64>,
    limit: Option<usize>,
}

impl Parameters {
    fn query(self) -> Result<SessionQuery, Problem> {
        let words = self.status.iter().flat_map(|words| words.split(',')).filter(|word| !word.is_empty());
        let statuses = words.map(status).collect::<Result<_, _>>()?;
        let limit = self.limit.unwrap_or(MOST);
        if !(1..=MOST).contains(&limit) {
            return Err(Problem::Bad(format!("limit must be 1 to {MOST}")));
        }
        Ok(SessionQuery {
            statuses,
            archived: self.archived,
            deleted: self.deleted,
            after: self.after.unwrap_or(0),
            updated_since: self.updated_since.map(Timestamp),
            limit,
        })
    }
}

fn status(word: &str) -> Result<Status, Problem> {
    let upper = word.to_ascii_uppercase();
    let known = Status::deserialize(StrDeserializer::<Error>::new(&upper));
    known.map_err(|_| Problem::Bad(format!("\"{word}\" is no status: ACTIVE, STREAMING, PAUSED, FAILED, ARCHIVED")))
}

/// The handler.
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(parameters) = parameters.map_err(|error| Problem::Bad(error.body_text()))?;
    let listed = app.catalog.list(caller, parameters.query()?).await;
    let listed = listed.ok_or_else(|| Problem::Failed("the relay is stopping".to_owned()))?;
    let headers = [
        ("skein-cursor", HeaderValue::from(listed.cursor)),
        ("skein-more", HeaderValue::from_static(if listed.more { "true" } else { "false" })),
    ];
    Ok((headers, Json(listed.sessions)).into_response())
}
