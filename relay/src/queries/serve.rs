//! `GET /query/messages`, `/tools`, `/runs` and `/cost`; `docs/http.md` describes them.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;
use skein_engine::ids::Timestamp;

use super::ask::{By, Filter};
use super::store::{QueryError, Store};
use crate::accounts::Caller;
use crate::http::{App, Problem};

/// Rows of one answer.
const MOST: usize = 500;
/// Rows, unless `limit` says otherwise.
const USUAL: usize = 50;
/// Characters of a parameter.
const MAX_WORD: usize = 500;

/// These addresses.
pub fn routes() -> Router<App> {
    Router::new().route("/query/{what}", get(query))
}

/// The address's parameters.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Parameters {
    session: Option<String>,
    role: Option<String>,
    tool: Option<String>,
    agent: Option<String>,
    action: Option<String>,
    model: Option<String>,
    status: Option<String>,
    since: Option<u64>,
    until: Option<u64>,
    text: Option<String>,
    #[serde(rename = "min-cost")]
    min_cost: Option<u64>,
    limit: Option<usize>,
    after: Option<String>,
    by: Option<String>,
    tz: Option<String>,
}

impl Parameters {
    fn filter(self) -> Result<Filter, Problem> {
        let words =
            [&self.session, &self.role, &self.tool, &self.agent, &self.action, &self.model, &self.status, &self.text];
        if words.into_iter().flatten().any(|word| word.chars().count() > MAX_WORD) {
            return Err(Problem::Bad(format!("a parameter has at most {MAX_WORD} characters")));
        }
        let limit = self.limit.unwrap_or(USUAL);
        if !(1..=MOST).contains(&limit) {
            return Err(Problem::Bad(format!("limit must be 1 to {MOST}")));
        }
        let after = self.after.map(|after| after.parse::<i64>()).transpose();
        Ok(Filter {
            session: self.session,
            role: self.role,
            tool: self.tool,
            agent: self.agent,
            action: self.action,
            model: self.model,
            status: self.status.map(|status| status.to_lowercase()),
            since: self.since.map(Timestamp),
            until: self.until.map(Timestamp),
            text: self.text,
            min_cost: self.min_cost,
            limit,
            after: after.map_err(|_| Problem::Bad("after is none that an answer gave".to_owned()))?,
        })
    }
}

/// Asks a workspace's file.
type Question = Box<dyn FnOnce(&Store) -> Result<Value, QueryError> + Send>;

async fn query(
    State(app): State<App>,
    caller: Caller,
    Path(what): Path<String>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(parameters) = parameters.map_err(|error| Problem::Bad(error.body_text()))?;
    let ask: Question = match what.as_str() {
        "messages" | "tools" | "runs" => {
            if parameters.by.is_some() || parameters.tz.is_some() {
                return Err(Problem::Bad("by and tz are for /query/cost".to_owned()));
            }
            let filter = parameters.filter()?;
            Box::new(move |store| match what.as_str() {
                "messages" => store.messages(&filter).map(json),
                "tools" => store.calls(&filter).map(json),
                _ => store.runs(&filter).map(json),
            })
        }
        "cost" => {
            let by = match parameters.by.as_deref() {
                Some("agent") => By::Agent,
                Some("model") => By::Model,
                Some("action") => By::Action,
                Some("task") => By::Task,
                Some("day") | None => By::Day,
                Some(_) => return Err(Problem::Bad("by must be agent, model, action, task or day".to_owned())),
            };
            let (zone, since, until) = (parameters.tz, parameters.since, parameters.until);
            Box::new(move |store| store.cost(by, zone.as_deref(), since.map(Timestamp), until.map(Timestamp)).map(json))
        }
        _ => return Err(Problem::NotFound),
    };
    let (queries, scope) = (app.queries.clone(), caller.workspace.scope());
    let answered = tokio::task::spawn_blocking(move || queries.reader(&scope).and_then(|store| ask(&store))).await;
    match answered.map_err(|error| Problem::Failed(error.to_string()))? {
        Ok(answer) => Ok(Json(answer)),
        Err(QueryError::Bad(why)) => Err(Problem::Bad(why)),
        Err(error) => Err(Problem::Failed(error.to_string())),
    }
}

fn json<T: serde::Serialize>(value: T) -> Value {
    serde_json::to_value(value).expect("rows are always JSON")
}
