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
use super::words::{asked, facet, matching, snippet};

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

impl Filter {
    fn is_of_no_cost(&self) -> Result<(), QueryError> {
        let asked = self.min_cost.map(|_| QueryError::Bad("only runs have a cost: ask runs".to_owned()));
        asked.map_or(Ok(()), Err)
    }
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
    /// What the newest are known by.
    order: String,
}

impl Where {
    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.sql.push_str(if self.sql.is_empty() { " WHERE " } else { " AND " });
        self.sql.push_str(condition);
        self.values.push(value.into());
    }

    /// Conditions on a table, and the tables to read. What one index of the table can't answer alone (words, the tools of
    /// a message, several filters at once) is asked of its full-text index `words`, the newest first.
    fn of(filter: &Filter, table: &str, words: Option<&str>) -> Result<(Self, String), QueryError> {
        let mut all = Self::default();
        let mut facets = Vec::new();
        if let Some(session) = &filter.session {
            all.and(&format!("{table}.session = (SELECT id FROM sessions WHERE document = ?)"), session.clone());
            facets.push(facet("session", session));
        }
        let mut columns = vec![
            ("agent", &filter.agent),
            ("action", &filter.action),
            ("model", &filter.model),
            ("status", &filter.status),
        ];
        match table {
            "messages" => columns.push(("role", &filter.role)),
            "calls" => columns.push(("tool", &filter.tool)),
            _ => {}
        }
        for (column, value) in columns {
            if let Some(value) = value {
                all.and(&format!("{table}.{column} = ?"), value.clone());
                facets.push(facet(column, value));
            }
        }
        let mut by_words = filter.text.is_some() || facets.len() > 1;
        if let ("messages", Some(tool)) = (table, &filter.tool) {
            facets.push(facet("tool", tool));
            by_words = true;
        }
        let (id, from) = match words.filter(|_| by_words) {
            Some(words) => {
                let asked = filter
                    .text
                    .as_deref()
                    .map(|text| asked(text).ok_or_else(|| QueryError::Bad("there is no word in the text".to_owned())));
                all.and(&format!("{words} MATCH ?"), matching(&facets, asked.transpose()?.as_deref()));
                // In this order: SQLite would ask the index again for each row that a single filter leaves.
                (format!("{words}.rowid"), format!("{words} CROSS JOIN {table} ON {table}.id = {words}.rowid"))
            }
            None => (format!("{table}.id"), table.to_owned()),
        };
        let least = filter.since.map(|since| (">=", number_at(since)));
        let beyond = [filter.until.map(number_at), filter.after].into_iter().flatten().min().map(|end| ("<", end));
        for (compares, number) in least.into_iter().chain(beyond) {
            all.and(&format!("{id} {compares} ?"), number);
        }
        all.order = id;
        Ok((all, from))
    }
}

impl Store {
    /// Messages.
    pub fn messages(&self, filter: &Filter) -> Result<Rows<FoundMessage>, QueryError> {
        filter.is_of_no_cost()?;
        let (all, from) = Where::of(filter, "messages", Some("words"))?;
        let columns =
            "messages.id, document, name, message, role, author, agent, model, action, status, at, messages.text";
        self.page(filter, columns, &from, "messages", all, |row| {
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
        filter.is_of_no_cost()?;
        let (mut all, from) = Where::of(filter, "calls", Some("call_words"))?;
        if let Some(role) = &filter.role {
            all.and("'assistant' = ?", role.clone());
        }
        let columns = "calls.id, document, name, call, message, tool, agent, model, action, status, at, input, result";
        self.page(filter, columns, &from, "calls", all, |row| {
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
        if filter.text.is_some() || filter.role.is_some() || filter.tool.is_some() {
            return Err(QueryError::Bad("runs have no text, role or tool: ask messages or tools".to_owned()));
        }
        let (mut all, from) = Where::of(filter, "runs", None)?;
        if let Some(least) = filter.min_cost {
            all.and("runs.cost >= ?", i64::try_from(least).unwrap_or(i64::MAX));
        }
        // What a deleted session spent counts; it isn't listed.
        all.and("sessions.deleted = ?", false);
        let columns = "runs.id, document, name, run, turn, agent, model, action, runs.task, status, stop_reason, error, at, ended, \
                       input, output, reasoning, cache_read, cache_write, cache_write_long, cost, estimated";
        self.page(filter, columns, &from, "runs", all, |row| {
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
        table: &str,
        all: Where,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Rows<T>, QueryError> {
        let limit = filter.limit.max(1);
        let sql = format!(
            "SELECT {columns} FROM {from} JOIN sessions ON sessions.id = {table}.session{} ORDER BY {} DESC LIMIT {}",
            all.sql,
            all.order,
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
        // Whole quarter hours are sums; what lies in the first and the last one is read run by run.
        let (begin, end) = (since.map_or(0, |at| at.0), until.map_or(u64::MAX, |at| at.0));
        let (first, last) = (begin.div_ceil(BUCKET_MS), end / BUCKET_MS);
        let edges = match first < last {
            true => [(begin, first * BUCKET_MS), (last * BUCKET_MS, end)],
            false => [(begin, end), (0, 0)],
        };
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
            let mut read = |rows: &mut rusqlite::Rows<'_>| {
                while let Some(row) = rows.next()? {
                    let key = match by {
                        By::Day => {
                            let at = u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default().saturating_mul(BUCKET_MS);
                            schedule::day(Timestamp(at), zone).unwrap_or_default()
                        }
                        _ => row.get(0)?,
                    };
                    add(key, spending(row)?);
                }
                Ok::<_, QueryError>(())
            };
            if first < last {
                let sql = format!(
                    "SELECT {column}, {sums} FROM sums WHERE bucket >= ? AND bucket < ? AND runs > 0 GROUP BY {column}"
                );
                let bucket = |bucket: u64| i64::try_from(bucket).unwrap_or(i64::MAX);
                read(&mut self.connection.prepare_cached(&sql)?.query([bucket(first), bucket(last)])?)?;
            }
            let key = match by {
                By::Day => format!("at / {BUCKET_MS}"),
                _ => format!("ifnull({column}, '')"),
            };
            let each = sums.replace("sum(runs)", "count(*)");
            let sql = format!("SELECT {key}, {each} FROM runs WHERE id >= ? AND id < ? GROUP BY 1");
            for (from, to) in edges.into_iter().filter(|(from, to)| from < to) {
                let ids = [number_at(Timestamp(from)), number_at(Timestamp(to))];
                read(&mut self.connection.prepare_cached(&sql)?.query(ids)?)?;
            }
            let column = if by == By::Day { "day" } else { column };
            let sql = format!("SELECT {column}, {sums} FROM buried WHERE day >= ? AND day <= ? GROUP BY {column}");
            let mut statement = self.connection.prepare_cached(&sql)?;
            let day = |at: Timestamp| schedule::day(at, None).unwrap_or_default();
            // A day counts if some of it lies before the end.
            let until = until.map(|until| Timestamp(until.0.saturating_sub(1)));
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

#[cfg(test)]
mod tests {
    use skein_engine::ids::{DocumentId, Micros, Scope};

    use super::super::page::{CallRow, MessageRow, Page, RunRow};
    use super::*;

    /// Numbers that look random and are the same each time (Knuth's linear congruential generator).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % end
        }

        fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
            all[usize::try_from(self.below(all.len() as u64)).unwrap()]
        }

        fn maybe(&mut self, all: &[&str]) -> Option<String> {
            (self.below(2) == 0).then(|| self.one_of(all).to_owned())
        }
    }

    const AGENTS: [&str; 2] = ["a1", "a2"];
    const MODELS: [&str; 2] = ["p/m1", "p/m2"];
    const ACTIONS: [&str; 2] = ["x", "y"];
    const STATES: [&str; 2] = ["completed", "failed"];
    const TOOLS: [&str; 3] = ["read_file", "run", "fetch"];
    const WORDS: [&str; 4] = ["apple", "naïve", "東京", "TODO:"];

    fn at(numbers: &mut Numbers) -> Timestamp {
        Timestamp(1_790_000_000_000 + numbers.below(40) * 123_456)
    }

    fn page(session: u8, numbers: &mut Numbers) -> Page {
        let mut page = Page {
            scope: Scope::from("w/one"),
            session: DocumentId::from_bytes([session; 16]),
            heads: Vec::new(),
            deleted: numbers.below(6) == 0,
            name: format!("Session {session}"),
            task: numbers.maybe(&["t"]),
            messages: Vec::new(),
            calls: Vec::new(),
            runs: Vec::new(),
        };
        for n in 0..numbers.below(8) {
            let (agent, model) = (numbers.maybe(&AGENTS), numbers.maybe(&MODELS));
            let (action, status, at) = (numbers.maybe(&ACTIONS), numbers.one_of(&STATES), at(numbers));
            let id = format!("{session}-{n}");
            let tool = numbers.maybe(&TOOLS);
            page.messages.push(MessageRow {
                id: id.clone(),
                role: numbers.one_of(&["user", "assistant"]),
                author: None,
                agent: agent.clone(),
                model: model.clone(),
                action: action.clone(),
                status,
                at,
                tools: tool.iter().cloned().collect(),
                text: format!("{} {}", numbers.one_of(&WORDS), numbers.one_of(&WORDS)),
            });
            page.calls.extend(tool.map(|tool| CallRow {
                id: format!("{id}c"),
                message: id.clone(),
                tool,
                status,
                agent: agent.clone(),
                model: model.clone(),
                action: action.clone(),
                at,
                input: numbers.one_of(&WORDS).to_owned(),
                result: None,
            }));
            page.runs.push(RunRow {
                key: format!("{id}/1"),
                turn: id,
                agent,
                model,
                action,
                status,
                started: at,
                usage: Usage { input: numbers.below(100), ..Usage::default() },
                cost: Some(Micros(numbers.below(100))),
                ..RunRow::default()
            });
        }
        page
    }

    fn filter(numbers: &mut Numbers) -> Filter {
        let some = |numbers: &mut Numbers| numbers.below(4) == 0;
        Filter {
            session: some(numbers).then(|| DocumentId::from_bytes([numbers.below(12) as u8; 16]).to_string()),
            role: some(numbers).then(|| numbers.one_of(&["user", "assistant"]).to_owned()),
            tool: some(numbers).then(|| numbers.one_of(&TOOLS).to_owned()),
            agent: some(numbers).then(|| numbers.one_of(&AGENTS).to_owned()),
            action: some(numbers).then(|| numbers.one_of(&ACTIONS).to_owned()),
            model: some(numbers).then(|| numbers.one_of(&MODELS).to_owned()),
            status: some(numbers).then(|| numbers.one_of(&STATES).to_owned()),
            since: some(numbers).then(|| at(numbers)),
            until: some(numbers).then(|| at(numbers)),
            text: some(numbers).then(|| numbers.one_of(&["app", "naive", "京", "東京", "todo"]).to_owned()),
            min_cost: some(numbers).then(|| numbers.below(100)),
            limit: usize::try_from(1 + numbers.below(7)).unwrap(),
            after: None,
        }
    }

    /// All pages of a question, one after another.
    fn all<T>(filter: &Filter, ask: impl Fn(&Filter) -> Rows<T>) -> Vec<T> {
        let (mut filter, mut found) = (filter.clone(), Vec::new());
        loop {
            let page = ask(&filter);
            assert!(page.rows.len() <= filter.limit);
            found.extend(page.rows);
            let Some(next) = page.next else { return found };
            filter.after = Some(next.parse().unwrap());
        }
    }

    fn says(text: &str, words: &Option<String>) -> bool {
        let (text, words) = (text.to_lowercase().replace('ï', "i"), words.as_deref().unwrap_or_default());
        let chinese = words.chars().any(|letter| letter > '\u{3000}');
        words.is_empty()
            || text.split(' ').any(|word| if chinese { word.contains(words) } else { word.starts_with(words) })
    }

    #[test]
    fn every_question_gives_what_going_through_all_rows_gives() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::own(&folder.path().join("one.sqlite")).unwrap();
        let mut numbers = Numbers(11);
        let mut pages: BTreeMap<u8, Page> = BTreeMap::new();
        for round in 0..60 {
            // Sessions come, and are written anew with all that was there gone.
            let session = numbers.below(12) as u8;
            let page = page(session, &mut numbers);
            store.put(&page).unwrap();
            pages.insert(session, page);
            for _ in 0..if round < 40 { 2 } else { 20 } {
                check(&store, &pages, &filter(&mut numbers));
            }
        }
    }

    fn check(store: &Store, pages: &BTreeMap<u8, Page>, asked: &Filter) {
        let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let same = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let then =
            |at: Timestamp| asked.since.is_none_or(|since| at >= since) && asked.until.is_none_or(|end| at < end);
        let of = |page: &&Page| !page.deleted && same(&asked.session, &page.session.to_string());
        let sorted = |mut all: Vec<(i64, String)>| {
            all.sort();
            all
        };

        let free = Filter { min_cost: None, ..asked.clone() };
        let found = all(&free, |filter| store.messages(filter).unwrap());
        assert!(found.is_sorted_by(|a, b| a.at >= b.at));
        let found = sorted(found.into_iter().map(|row| (row.at, row.id)).collect());
        let rows = pages.values().filter(of).flat_map(|page| &page.messages).filter(|row| {
            let tool = asked.tool.as_ref().is_none_or(|tool| row.tools.contains(tool));
            let whose = is(&asked.agent, &row.agent) && is(&asked.model, &row.model) && is(&asked.action, &row.action);
            tool && whose
                && same(&asked.role, row.role)
                && same(&asked.status, row.status)
                && then(row.at)
                && says(&row.text, &asked.text)
        });
        assert_eq!(found, sorted(rows.map(|row| (row.at.0 as i64, row.id.clone())).collect()), "messages {asked:?}");

        let found = all(&free, |filter| store.calls(filter).unwrap());
        let found = sorted(found.into_iter().map(|row| (row.at, row.id)).collect());
        let rows = pages.values().filter(of).flat_map(|page| &page.calls).filter(|row| {
            let whose = is(&asked.agent, &row.agent) && is(&asked.model, &row.model) && is(&asked.action, &row.action);
            whose
                && same(&asked.tool, &row.tool)
                && same(&asked.role, "assistant")
                && same(&asked.status, row.status)
                && then(row.at)
                && says(&row.input, &asked.text)
        });
        assert_eq!(found, sorted(rows.map(|row| (row.at.0 as i64, row.id.clone())).collect()), "calls {asked:?}");

        let untold = Filter { text: None, role: None, tool: None, ..asked.clone() };
        let found = all(&untold, |filter| store.runs(filter).unwrap());
        let found = sorted(found.into_iter().map(|row| (row.started_at, row.id)).collect());
        let rows = pages.values().filter(of).flat_map(|page| &page.runs).filter(|row| {
            let whose = is(&asked.agent, &row.agent) && is(&asked.model, &row.model) && is(&asked.action, &row.action);
            let dear = asked.min_cost.is_none_or(|least| row.cost.is_some_and(|cost| cost.0 >= least));
            whose && dear && same(&asked.status, row.status) && then(row.started)
        });
        assert_eq!(found, sorted(rows.map(|row| (row.started.0 as i64, row.key.clone())).collect()), "runs {asked:?}");

        for by in [By::Agent, By::Model, By::Action, By::Task, By::Day] {
            let report = store.cost(by, Some("Pacific/Auckland"), asked.since, asked.until).unwrap();
            let mut sums: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
            let runs = pages.values().flat_map(|page| page.runs.iter().map(|row| (page.task.clone(), row)));
            for (task, row) in runs.filter(|(_, row)| then(row.started)) {
                let key = match by {
                    By::Agent => row.agent.clone(),
                    By::Model => row.model.clone(),
                    By::Action => row.action.clone(),
                    By::Task => task,
                    By::Day => schedule::day(row.started, Some("Pacific/Auckland")).ok(),
                };
                let sum = sums.entry(key.unwrap_or_default()).or_default();
                *sum = (sum.0 + 1, sum.1 + row.usage.input, sum.2 + row.cost.map_or(0, |cost| cost.0));
            }
            let report = report.into_iter().map(|row| (row.key, (row.runs, row.usage.input, row.cost_micros)));
            assert_eq!(report.collect::<BTreeMap<_, _>>(), sums, "{by:?}");
        }
    }
}
