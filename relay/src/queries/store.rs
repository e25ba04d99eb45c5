//! A workspace's file: its tables, and what is written into them. Blocks.
//!
//! A row's number begins with its time, so that the newest come first without sorting, full text too. What is spent is kept
//! as sums of quarter hours, which every time zone's days are made of; triggers keep them in line with the runs.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use skein_engine::ids::{ChangeHash, DocumentId, Timestamp};
use skein_engine::session::spent::Spent;

use super::page::{CallRow, MessageRow, Page, RunRow};
use super::words::indexed;

/// The version of the tables; a file of another is made anew.
const VERSION: i64 = 1;
/// Milliseconds of a sum.
pub const BUCKET_MS: u64 = 15 * 60 * 1_000;
/// Bits of a row's number below its time.
const BELOW: u32 = 20;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The folder can't be made.
    #[error("the folder of queries can't be made: {0}")]
    Folder(std::io::Error),
    /// SQLite's own.
    #[error("the file of queries fails: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The question makes no sense.
    #[error("{0}")]
    Bad(String),
}

/// See the module.
pub struct Store {
    pub(super) connection: Connection,
}

const TABLES: &str = "
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, document TEXT NOT NULL UNIQUE, name TEXT NOT NULL, task TEXT, heads BLOB NOT NULL
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY, session INTEGER NOT NULL, message TEXT NOT NULL, role TEXT NOT NULL, author TEXT,
    agent TEXT, model TEXT, action TEXT, status TEXT NOT NULL, at INTEGER NOT NULL, text TEXT NOT NULL,
    digest BLOB NOT NULL, UNIQUE (session, message)
);
CREATE INDEX messages_session ON messages (session);
CREATE INDEX messages_role ON messages (role);
CREATE INDEX messages_agent ON messages (agent);
CREATE INDEX messages_model ON messages (model);
CREATE INDEX messages_action ON messages (action);
CREATE INDEX messages_status ON messages (status);
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, session INTEGER NOT NULL, call TEXT NOT NULL, message TEXT NOT NULL, tool TEXT NOT NULL,
    agent TEXT, model TEXT, action TEXT, status TEXT NOT NULL, at INTEGER NOT NULL, input TEXT NOT NULL, result TEXT,
    digest BLOB NOT NULL, UNIQUE (session, call)
);
CREATE INDEX calls_session ON calls (session);
CREATE INDEX calls_message ON calls (session, message);
CREATE INDEX calls_tool ON calls (tool);
CREATE INDEX calls_agent ON calls (agent);
CREATE INDEX calls_model ON calls (model);
CREATE INDEX calls_status ON calls (status);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, session INTEGER NOT NULL, run TEXT NOT NULL, turn TEXT NOT NULL, agent TEXT, model TEXT,
    action TEXT, task TEXT, status TEXT NOT NULL, stop_reason TEXT, error TEXT, at INTEGER NOT NULL, ended INTEGER,
    input INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL, cache_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL, cache_write_long INTEGER NOT NULL, cost INTEGER, incomplete INTEGER NOT NULL,
    estimated INTEGER NOT NULL, digest BLOB NOT NULL, UNIQUE (session, run)
);
CREATE INDEX runs_session ON runs (session);
CREATE INDEX runs_agent ON runs (agent);
CREATE INDEX runs_model ON runs (model);
CREATE INDEX runs_action ON runs (action);
CREATE INDEX runs_task ON runs (task);
CREATE INDEX runs_status ON runs (status);
CREATE INDEX runs_cost ON runs (cost);
CREATE TABLE sums (
    bucket INTEGER NOT NULL, agent TEXT NOT NULL, model TEXT NOT NULL, action TEXT NOT NULL, task TEXT NOT NULL,
    runs INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL,
    cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, cache_write_long INTEGER NOT NULL, cost INTEGER NOT NULL,
    incomplete INTEGER NOT NULL, estimated INTEGER NOT NULL, PRIMARY KEY (bucket, agent, model, action, task)
) WITHOUT ROWID;
CREATE TABLE graves (document TEXT NOT NULL);
CREATE INDEX graves_document ON graves (document);
CREATE TABLE buried (
    day TEXT NOT NULL, agent TEXT NOT NULL, model TEXT NOT NULL, action TEXT NOT NULL, task TEXT NOT NULL,
    runs INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL,
    cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, cache_write_long INTEGER NOT NULL, cost INTEGER NOT NULL,
    incomplete INTEGER NOT NULL, estimated INTEGER NOT NULL
);
CREATE TRIGGER runs_added AFTER INSERT ON runs BEGIN
    INSERT INTO sums VALUES (
        new.at / 900000, ifnull(new.agent, ''), ifnull(new.model, ''), ifnull(new.action, ''), ifnull(new.task, ''), 1,
        new.input, new.output, new.reasoning, new.cache_read, new.cache_write, new.cache_write_long,
        ifnull(new.cost, 0), new.incomplete, new.estimated)
    ON CONFLICT DO UPDATE SET
        runs = runs + 1, input = input + excluded.input, output = output + excluded.output,
        reasoning = reasoning + excluded.reasoning, cache_read = cache_read + excluded.cache_read,
        cache_write = cache_write + excluded.cache_write, cache_write_long = cache_write_long + excluded.cache_write_long,
        cost = cost + excluded.cost, incomplete = incomplete + excluded.incomplete,
        estimated = estimated + excluded.estimated;
END;
CREATE TRIGGER runs_removed AFTER DELETE ON runs BEGIN
    UPDATE sums SET
        runs = runs - 1, input = input - old.input, output = output - old.output, reasoning = reasoning - old.reasoning,
        cache_read = cache_read - old.cache_read, cache_write = cache_write - old.cache_write,
        cache_write_long = cache_write_long - old.cache_write_long, cost = cost - ifnull(old.cost, 0),
        incomplete = incomplete - old.incomplete, estimated = estimated - old.estimated
    WHERE bucket = old.at / 900000 AND agent = ifnull(old.agent, '') AND model = ifnull(old.model, '')
        AND action = ifnull(old.action, '') AND task = ifnull(old.task, '');
END;
CREATE VIRTUAL TABLE words USING fts5 (
    text, content='', contentless_delete=1, tokenize='unicode61 remove_diacritics 2', prefix='2 3'
);
CREATE VIRTUAL TABLE call_words USING fts5 (
    text, content='', contentless_delete=1, tokenize='unicode61 remove_diacritics 2', prefix='2 3'
);
";

impl Store {
    /// Opens a file, or makes it. One that can't be read, or is of another version, is made anew.
    pub fn open(path: &Path) -> Result<Self, QueryError> {
        match Self::try_open(path) {
            Err(error) if path.exists() => {
                tracing::error!(%error, "the queries at {} are made anew", path.display());
                for ending in ["", "-wal", "-shm"] {
                    let mut name = path.as_os_str().to_owned();
                    name.push(ending);
                    let _ = std::fs::remove_file(name);
                }
                Self::try_open(path)
            }
            opened => opened,
        }
    }

    fn try_open(path: &Path) -> Result<Self, QueryError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(QueryError::Folder)?;
        }
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        // It is a cache: what a power cut takes is derived again.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.pragma_update(None, "cache_size", -16_384)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version == 0 {
            let making = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            // Another connection may have made them meanwhile.
            if making.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? == 0 {
                making.execute_batch(TABLES)?;
                making.pragma_update(None, "user_version", VERSION)?;
            }
            making.commit()?;
        } else if version != VERSION {
            return Err(QueryError::Bad(format!("it is of version {version}, this relay writes {VERSION}")));
        }
        Ok(Self { connection })
    }

    /// The heads that each session was derived from.
    pub fn heads(&self) -> Result<HashMap<DocumentId, Vec<ChangeHash>>, QueryError> {
        let mut statement = self.connection.prepare("SELECT document, heads FROM sessions")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        let mut all = HashMap::new();
        for row in rows {
            let (document, heads) = row?;
            let heads = heads.chunks_exact(32).filter_map(|hash| ChangeHash::try_from(hash).ok());
            if let Ok(document) = document.parse() {
                all.insert(document, heads.collect());
            }
        }
        Ok(all)
    }

    /// Writes what a session says now: only what differs.
    pub fn put(&mut self, page: &Page) -> Result<(), QueryError> {
        let writing = self.connection.transaction()?;
        let document = page.session.to_string();
        if writing.query_row("SELECT 1 FROM graves WHERE document = ?", [&document], |_| Ok(())).optional()?.is_some() {
            return Ok(());
        }
        let heads: Vec<u8> = page.heads.iter().flat_map(|hash| hash.0).collect();
        writing
            .prepare_cached(
                "INSERT INTO sessions (document, name, task, heads) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (document) DO UPDATE SET name = ?2, task = ?3, heads = ?4",
            )?
            .execute(params![document, page.name, page.task, heads])?;
        let session: i64 =
            writing.query_row("SELECT id FROM sessions WHERE document = ?", [&document], |row| row.get(0))?;
        let (messages, calls): (&[_], &[_]) = if page.deleted { (&[], &[]) } else { (&page.messages, &page.calls) };
        put_messages(&writing, session, messages)?;
        put_calls(&writing, session, calls)?;
        put_runs(&writing, session, page.task.as_deref(), &page.runs)?;
        Ok(writing.commit()?)
    }

    /// Drops a session and keeps what it spent. Done twice it changes nothing.
    pub fn bury(&mut self, session: DocumentId, spent: &[Spent]) -> Result<(), QueryError> {
        let writing = self.connection.transaction()?;
        let document = session.to_string();
        if writing.query_row("SELECT 1 FROM graves WHERE document = ?", [&document], |_| Ok(())).optional()?.is_some() {
            return Ok(());
        }
        let id: Option<i64> = writing
            .query_row("SELECT id FROM sessions WHERE document = ?", [&document], |row| row.get(0))
            .optional()?;
        if let Some(id) = id {
            put_messages(&writing, id, &[])?;
            put_calls(&writing, id, &[])?;
            put_runs(&writing, id, None, &[])?;
            writing.execute("DELETE FROM sessions WHERE id = ?", [id])?;
        }
        writing.execute("INSERT INTO graves VALUES (?)", [&document])?;
        let mut add = writing.prepare("INSERT INTO buried VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
        for sum in spent {
            let usage = sum.usage;
            let word = |word: &Option<String>| word.clone().unwrap_or_default();
            add.execute(params![
                sum.day,
                word(&sum.agent),
                word(&sum.model),
                word(&sum.action),
                word(&sum.task),
                int(sum.runs),
                int(usage.input),
                int(usage.output),
                int(usage.reasoning),
                int(usage.cache_read),
                int(usage.cache_write),
                int(usage.cache_write_long),
                int(sum.cost_micros.0),
                sum.incomplete,
                sum.estimated,
            ])?;
        }
        drop(add);
        Ok(writing.commit()?)
    }
}

fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Rows of a session by their own id: number and digest.
fn known(
    writing: &Transaction<'_>,
    table: &str,
    key: &str,
    session: i64,
) -> Result<HashMap<String, (i64, Vec<u8>)>, QueryError> {
    let mut statement = writing.prepare_cached(&format!("SELECT {key}, id, digest FROM {table} WHERE session = ?"))?;
    let rows = statement.query_map([session], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A number that no row of a table has, of a time.
fn number(writing: &Transaction<'_>, table: &str, at: Timestamp) -> Result<i64, QueryError> {
    let least = int(at.0.min((1 << 42) - 1)) << BELOW;
    let last: Option<i64> = writing
        .prepare_cached(&format!("SELECT max(id) FROM {table} WHERE id BETWEEN ?1 AND ?2"))?
        .query_row([least, least | ((1 << BELOW) - 1)], |row| row.get(0))?;
    Ok(last.map_or(least, |last| last + 1))
}

/// The least number of a row of a time.
pub fn number_at(at: Timestamp) -> i64 {
    int(at.0.min((1 << 42) - 1)) << BELOW
}

fn put_messages(writing: &Transaction<'_>, session: i64, rows: &[MessageRow]) -> Result<(), QueryError> {
    let mut before = known(writing, "messages", "message", session)?;
    for row in rows {
        let digest = row.digest();
        let known = before.remove(&row.id);
        if known.as_ref().is_some_and(|(_, known)| *known == digest) {
            continue;
        }
        if let Some((id, _)) = known {
            remove(writing, "messages", Some("words"), id)?;
        }
        let id = number(writing, "messages", row.at)?;
        writing.prepare_cached("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(
            params![
                id,
                session,
                row.id,
                row.role,
                row.author,
                row.agent,
                row.model,
                row.action,
                row.status,
                int(row.at.0),
                row.text,
                digest,
            ],
        )?;
        writing
            .prepare_cached("INSERT INTO words (rowid, text) VALUES (?, ?)")?
            .execute(params![id, indexed(&row.text)])?;
    }
    before.into_values().try_for_each(|(id, _)| remove(writing, "messages", Some("words"), id))
}

fn put_calls(writing: &Transaction<'_>, session: i64, rows: &[CallRow]) -> Result<(), QueryError> {
    let mut before = known(writing, "calls", "call", session)?;
    for row in rows {
        let digest = row.digest();
        let known = before.remove(&row.id);
        if known.as_ref().is_some_and(|(_, known)| *known == digest) {
            continue;
        }
        if let Some((id, _)) = known {
            remove(writing, "calls", Some("call_words"), id)?;
        }
        let id = number(writing, "calls", row.at)?;
        writing.prepare_cached("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(
            params![
                id,
                session,
                row.id,
                row.message,
                row.tool,
                row.agent,
                row.model,
                row.action,
                row.status,
                int(row.at.0),
                row.input,
                row.result,
                digest,
            ],
        )?;
        let text = format!("{} {} {}", row.tool, row.input, row.result.as_deref().unwrap_or_default());
        writing
            .prepare_cached("INSERT INTO call_words (rowid, text) VALUES (?, ?)")?
            .execute(params![id, indexed(&text)])?;
    }
    before.into_values().try_for_each(|(id, _)| remove(writing, "calls", Some("call_words"), id))
}

fn put_runs(writing: &Transaction<'_>, session: i64, task: Option<&str>, rows: &[RunRow]) -> Result<(), QueryError> {
    let mut before = known(writing, "runs", "run", session)?;
    for row in rows {
        let digest = row.digest();
        let known = before.remove(&row.key);
        if known.as_ref().is_some_and(|(_, known)| *known == digest) {
            continue;
        }
        if let Some((id, _)) = known {
            remove(writing, "runs", None, id)?;
        }
        let id = number(writing, "runs", row.started)?;
        let usage = row.usage;
        writing
            .prepare_cached(
                "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                id,
                session,
                row.key,
                row.turn,
                row.agent,
                row.model,
                row.action,
                task,
                row.status,
                row.stop_reason,
                row.error,
                int(row.started.0),
                row.ended.map(|at| int(at.0)),
                int(usage.input),
                int(usage.output),
                int(usage.reasoning),
                int(usage.cache_read),
                int(usage.cache_write),
                int(usage.cache_write_long),
                row.cost.map(|cost| int(cost.0)),
                row.incomplete,
                row.estimated,
                digest,
            ])?;
    }
    before.into_values().try_for_each(|(id, _)| remove(writing, "runs", None, id))
}

fn remove(writing: &Transaction<'_>, table: &str, words: Option<&str>, id: i64) -> Result<(), QueryError> {
    writing.prepare_cached(&format!("DELETE FROM {table} WHERE id = ?"))?.execute([id])?;
    if let Some(words) = words {
        writing.prepare_cached(&format!("DELETE FROM {words} WHERE rowid = ?"))?.execute([id])?;
    }
    Ok(())
}
