//! Filters → rows, a page at a time, newest first; and reports of what was spent.
//!
//! Invariant: what is asked goes into statements as values and never as SQL, and no question runs for longer than
//! [`PATIENCE`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};
use serde::Serialize;
use skein_engine::ids::Timestamp;
use skein_engine::session::model::Usage;
use skein_engine::workspace::schedule;

use super::store::{BUCKET_MS, QueryError, Store, number_at};
use super::words::{asked, snippet};

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// SQLite's steps between two looks at the clock.
const STEPS: i32 = 10_000;
/// Characters of a text in a row; the whole stands in the session.
const MAX_TEXT: usize = 2_000;

/// What is asked of messages, calls and runs. Each field narrows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// The session's id.
    pub session: Option<String>,
    /// `user` or `assistant`; of messages.
    pub role: Option<String>,
    /// Its name; of messages those that call it.
    pub tool: Option<String>,
    /// Its id.
    pub agent: Option<String>,
    /// Its id.
    pub action: Option<String>,
    /// `PROVIDER/MODEL`.
    pub model: Option<String>,
    /// Of the turn, the call or the run.
    pub status: Option<String>,
    /// From then on.
    pub since: Option<Timestamp>,
    /// Before then.
    pub until: Option<Timestamp>,
    /// Words; of messages and calls.
    pub text: Option<String>,
    /// At least so many millionths of a dollar; of runs.
    pub min_cost: Option<u64>,
    /// At most so many rows.
    pub limit: usize,
    /// The row after which it goes on.
    pub after: Option<i64>,
}

/// A page of rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rows<T> {
    /// Newest first.
    pub rows: Vec<T>,
    /// Ask with this for those that follow; `None`: there are none.
    pub next: Option<String>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct FoundMessage {
    pub session: String,
    pub session_name: String,
    pub id: String,
    pub role: String,
    pub author: Option<String>,
    pub agent: Option<String>,
    pub model: Option<String>,
    pub action: Option<String>,
    pub status: String,
    pub at: i64,
    /// Its beginning.
    pub text: String,
    /// Around what was found, if words were asked for.
    pub snippet: Option<String>,
}

/// A tool call.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct FoundCall {
    pub session: String,
    pub session_name: String,
    pub id: String,
    pub message: String,
    pub tool: String,
    pub agent: Option<String>,
    pub model: Option<String>,
    pub action: Option<String>,
    pub status: String,
    pub at: i64,
    /// Its beginning.
    pub input: String,
    /// Its beginning.
    pub result: Option<String>,
    /// Around what was found, if words were asked for.
    pub snippet: Option<String>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct FoundRun {
    pub session: String,
    pub session_name: String,
    pub id: String,
    pub turn: String,
    pub agent: Option<String>,
    pub model: Option<String>,
    pub action: Option<String>,
    pub task: Option<String>,
    pub status: String,
    pub stop_reason: Option<String>,
    pub error: Option<String>,
    pub started_at: i64,
    pub ended_at: Option<i64>,
    pub usage: Usage,
    /// `None`: unknown.
    pub cost_micros: Option<i64>,
    pub estimated: bool,
}

/// What a report is by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The agent's id.
    Agent,
    /// `PROVIDER/MODEL`.
    Model,
    /// The action's id.
    Action,
    /// The task's id.
    Task,
    /// `2026-11-25`.
    Day,
}

/// A line of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spending {
    /// What it is of; empty: of none.
    pub key: String,
    /// How many runs.
    pub runs: u64,
    /// Tokens by class.
    pub usage: Usage,
    /// What is known of the cost.
    pub cost_micros: u64,
    /// Some of it is not known.
    pub incomplete: bool,
    /// Some of it is an estimate.
    pub estimated: bool,
}

/// Conditions and their values.
#[derive(Default)]
struct Where {
    sql: String,
    values: Vec<Value>,
}

impl Where {
    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.sql.push_str(if self.sql.is_empty() { " WHERE " } else { " AND " });
        self.sql.push_str(condition);
        self.values.push(value.into());
    }

    fn of(filter: &Filter, table: &str) -> Result<Self, QueryError> {
        let mut all = Self::default();
        let id = format!("{table}.id");
        if let Some(session) = &filter.session {
            all.and(&format!("{table}.session = (SELECT id FROM sessions WHERE document = ?)"), session.clone());
        }
        for (column, value) in
            [("agent", &filter.agent), ("action", &filter.action), ("model", &filter.model), ("status", &filter.status)]
        {
            if let Some(value) = value {
                all.and(&format!("{table}.{column} = ?"), value.clone());
            }
        }
        if let Some(since) = filter.since {
            all.and(&format!("{id} >= ?"), number_at(since));
        }
        if let Some(until) = filter.until {
            all.and(&format!("{id} < ?"), number_at(until));
        }
        if let Some(after) = filter.after {
            all.and(&format!("{id} < ?"), after);
        }
        Ok(all)
    }

    /// Words of a full-text table: the tables to read, the newest first.
    fn words(&mut self, text: &Option<String>, words: &str, table: &str) -> Result<String, QueryError> {
        let Some(text) = text else { return Ok(table.to_owned()) };
        let asked = asked(text).ok_or_else(|| QueryError::Bad("there is no word in the text".to_owned()))?;
        self.and(&format!("{words} MATCH ?"), asked);
        Ok(format!("{words} JOIN {table} ON {table}.id = {words}.rowid"))
    }
}

impl Store {
    /// Messages.
    pub fn messages(&self, filter: &Filter) -> Result<Rows<FoundMessage>, QueryError> {
        let mut all = Where::of(filter, "messages")?;
        if let Some(role) = &filter.role {
            all.and("messages.role = ?", role.clone());
        }
        if let Some(tool) = &filter.tool {
            all.and(
                "EXISTS (SELECT 1 FROM calls WHERE calls.session = messages.session AND calls.message = messages.message AND calls.tool = ?)",
                tool.clone(),
            );
        }
        let from = all.words(&filter.text, "words", "messages")?;
        let columns =
            "messages.id, document, name, message, role, author, agent, model, action, status, at, messages.text";
        self.page(filter, columns, &from, ("messages", filter.text.as_ref().map(|_| "words")), all, |row| {
            let text: String = row.get(11)?;
            Ok(FoundMessage {
                session: row.get(1)?,
                session_name: row.get(2)?,
                id: row.get(3)?,
                role: row.get(4)?,
                author: row.get(5)?,
                agent: row.get(6)?,
                model: row.get(7)?,
                action: row.get(8)?,
                status: row.get(9)?,
                at: row.get(10)?,
                snippet: filter.text.as_ref().map(|asked| snippet(&text, asked)),
                text: clip(text),
            })
        })
    }

    /// Tool calls.
    pub fn calls(&self, filter: &Filter) -> Result<Rows<FoundCall>, QueryError> {
        let mut all = Where::of(filter, "calls")?;
        if let Some(tool) = &filter.tool {
            all.and("calls.tool = ?", tool.clone());
        }
        let from = all.words(&filter.text, "call_words", "calls")?;
        let columns = "calls.id, document, name, call, message, tool, agent, model, action, status, at, input, result";
        self.page(filter, columns, &from, ("calls", filter.text.as_ref().map(|_| "call_words")), all, |row| {
            let (input, result): (String, Option<String>) = (row.get(11)?, row.get(12)?);
            let whole = || format!("{input} {}", result.as_deref().unwrap_or_default());
            Ok(FoundCall {
                session: row.get(1)?,
                session_name: row.get(2)?,
                id: row.get(3)?,
                message: row.get(4)?,
                tool: row.get(5)?,
                agent: row.get(6)?,
                model: row.get(7)?,
                action: row.get(8)?,
                status: row.get(9)?,
                at: row.get(10)?,
                snippet: filter.text.as_ref().map(|asked| snippet(&whole(), asked)),
                input: clip(input),
                result: result.map(clip),
            })
        })
    }

    /// Runs.
    pub fn runs(&self, filter: &Filter) -> Result<Rows<FoundRun>, QueryError> {
        let mut all = Where::of(filter, "runs")?;
        if let Some(least) = filter.min_cost {
            all.and("runs.cost >= ?", i64::try_from(least).unwrap_or(i64::MAX));
        }
        if filter.text.is_some() {
            return Err(QueryError::Bad("runs have no text: ask messages or tools".to_owned()));
        }
        // What a deleted session spent counts; it isn't listed.
        all.and("sessions.deleted = ?", false);
        let columns = "runs.id, document, name, run, turn, agent, model, action, runs.task, status, stop_reason, error, at, ended, \
                       input, output, reasoning, cache_read, cache_write, cache_write_long, cost, estimated";
        self.page(filter, columns, "runs", ("runs", None), all, |row| {
            Ok(FoundRun {
                session: row.get(1)?,
                session_name: row.get(2)?,
                id: row.get(3)?,
                turn: row.get(4)?,
                agent: row.get(5)?,
                model: row.get(6)?,
                action: row.get(7)?,
                task: row.get(8)?,
                status: row.get(9)?,
                stop_reason: row.get(10)?,
                error: row.get(11)?,
                started_at: row.get(12)?,
                ended_at: row.get(13)?,
                usage: usage(row, 14)?,
                cost_micros: row.get(20)?,
                estimated: row.get(21)?,
            })
        })
    }

    fn page<T>(
        &self,
        filter: &Filter,
        columns: &str,
        from: &str,
        (table, words): (&str, Option<&str>),
        all: Where,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Rows<T>, QueryError> {
        let limit = filter.limit.max(1);
        let order = words.map_or(format!("{table}.id"), |words| format!("{words}.rowid"));
        let sql = format!(
            "SELECT {columns} FROM {from} JOIN sessions ON sessions.id = {table}.session{} ORDER BY {order} DESC LIMIT {}",
            all.sql,
            limit + 1
        );
        self.in_time(|| {
            let mut statement = self.connection.prepare_cached(&sql)?;
            let found =
                statement.query_map(params_from_iter(all.values), |row| Ok((row.get::<_, i64>(0)?, read(row)?)))?;
            let mut found = found.collect::<Result<Vec<_>, _>>()?;
            let more = found.len() > limit;
            found.truncate(limit);
            let next = found.last().filter(|_| more).map(|(id, _)| id.to_string());
            Ok(Rows { rows: found.into_iter().map(|(_, row)| row).collect(), next })
        })
    }

    /// What was spent, the dearest first; days in their order. Of purged sessions the days are those of UTC.
    pub fn cost(
        &self,
        by: By,
        zone: Option<&str>,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Vec<Spending>, QueryError> {
        schedule::day(Timestamp(0), zone).map_err(|error| QueryError::Bad(error.to_string()))?;
        let column = match by {
            By::Agent => "agent",
            By::Model => "model",
            By::Action => "action",
            By::Task => "task",
            By::Day => "bucket",
        };
        let bucket = |at: Timestamp| i64::try_from(at.0 / BUCKET_MS).unwrap_or(i64::MAX);
        let (first, last) = (since.map_or(0, bucket), until.map_or(i64::MAX, bucket));
        let sums = "sum(runs), sum(input), sum(output), sum(reasoning), sum(cache_read), sum(cache_write), \
                    sum(cache_write_long), sum(cost), sum(incomplete), sum(estimated)";
        let mut all: BTreeMap<String, Spending> = BTreeMap::new();
        let mut add = |key: String, sum: Spending| {
            let known = all.entry(key.clone()).or_insert_with(|| Spending { key, ..Spending::default() });
            known.runs += sum.runs;
            known.usage += sum.usage;
            known.cost_micros = known.cost_micros.saturating_add(sum.cost_micros);
            known.incomplete |= sum.incomplete;
            known.estimated |= sum.estimated;
        };
        self.in_time(|| {
            let sql = format!(
                "SELECT {column}, {sums} FROM sums WHERE bucket >= ? AND bucket < ? AND runs > 0 GROUP BY {column}"
            );
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut rows = statement.query([first, last])?;
            while let Some(row) = rows.next()? {
                let key = match by {
                    By::Day => {
                        let at = u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default() * BUCKET_MS;
                        schedule::day(Timestamp(at), zone).unwrap_or_default()
                    }
                    _ => row.get(0)?,
                };
                add(key, spending(row)?);
            }
            let column = if by == By::Day { "day" } else { column };
            let sql = format!("SELECT {column}, {sums} FROM buried WHERE day >= ? AND day < ? GROUP BY {column}");
            let mut statement = self.connection.prepare_cached(&sql)?;
            let day = |at: Timestamp| schedule::day(at, None).unwrap_or_default();
            let mut rows = statement.query([since.map_or(String::new(), day), until.map_or("~".to_owned(), day)])?;
            while let Some(row) = rows.next()? {
                add(row.get(0)?, spending(row)?);
            }
            Ok(())
        })?;
        let mut all: Vec<Spending> = all.into_values().collect();
        if by != By::Day {
            all.sort_by(|a, b| b.cost_micros.cmp(&a.cost_micros).then_with(|| a.key.cmp(&b.key)));
        }
        Ok(all)
    }

    /// Lets questions take no longer than [`PATIENCE`] from now on, all together.
    pub fn hurry(&mut self) -> Result<(), QueryError> {
        let begun = Instant::now();
        Ok(self.connection.progress_handler(STEPS, Some(move || begun.elapsed() > PATIENCE))?)
    }

    fn in_time<T>(&self, ask: impl FnOnce() -> Result<T, QueryError>) -> Result<T, QueryError> {
        match ask() {
            Err(QueryError::Sqlite(rusqlite::Error::SqliteFailure(error, _)))
                if error.code == rusqlite::ErrorCode::OperationInterrupted =>
            {
                Err(QueryError::Bad("this question takes too long: narrow it".to_owned()))
            }
            answer => answer,
        }
    }
}

fn spending(row: &Row<'_>) -> rusqlite::Result<Spending> {
    let count = |index: usize| row.get::<_, i64>(index).map(|n| u64::try_from(n).unwrap_or_default());
    Ok(Spending {
        key: String::new(),
        runs: count(1)?,
        usage: usage(row, 2)?,
        cost_micros: count(8)?,
        incomplete: count(9)? > 0,
        estimated: count(10)? > 0,
    })
}

fn usage(row: &Row<'_>, from: usize) -> rusqlite::Result<Usage> {
    let count = |index: usize| row.get::<_, i64>(from + index).map(|n| u64::try_from(n).unwrap_or_default());
    Ok(Usage {
        input: count(0)?,
        output: count(1)?,
        reasoning: count(2)?,
        cache_read: count(3)?,
        cache_write: count(4)?,
        cache_write_long: count(5)?,
    })
}

fn clip(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}
