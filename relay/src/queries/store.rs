//! A workspace's file: its tables, and what is written into them. Blocks.
//!
//! A row's number begins with its time, so that the newest come first without sorting, full text too. What is spent is kept
//! as sums of quarter hours, which every time zone's days are made of; triggers keep them in line with the runs.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};
use skein_engine::ids::{ChangeHash, DocumentId, Timestamp};
use skein_engine::session::spent::Spent;

use super::page::{CallRow, MessageRow, Page, RunRow};
use super::words::{facet, indexed};

/// The version of the tables; a file of another is made anew.
const VERSION: i64 = 3;
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
    /// It isn't what this relay writes.
    #[error("the file of queries can't be used: {0}")]
    Damaged(String),
    /// The question makes no sense.
    #[error("{0}")]
    Bad(String),
}

impl QueryError {
    /// The file itself is at fault, so that trying again gives the same.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Sqlite(rusqlite::Error::SqliteFailure(error, _)) => {
                matches!(error.code, ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
            }
            _ => false,
        }
    }
}

/// Moves a file beside itself, with what belongs to it; the last one that was moved so is lost.
fn set_aside(path: &Path) -> io::Result<()> {
    for ending in ["", "-wal", "-shm"] {
        let named = |after: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(after);
            name
        };
        match std::fs::rename(named(ending), named(&format!(".broken{ending}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// See the module.
pub struct Store {
    pub(super) connection: Connection,
}

const TABLES: &str = "
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, document TEXT NOT NULL UNIQUE, name TEXT NOT NULL, task TEXT, heads BLOB NOT NULL,
    deleted INTEGER NOT NULL
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
    text, facets, content='', contentless_delete=1, tokenize='unicode61 remove_diacritics 2', prefix='2 3'
);
CREATE VIRTUAL TABLE call_words USING fts5 (
    text, facets, content='', contentless_delete=1, tokenize='unicode61 remove_diacritics 2', prefix='2 3'
);
";

impl Store {
    /// Opens a file for whoever writes it, or makes it. One that is no database, is damaged or of another version is moved
    /// aside and made anew; one that can't be opened for now (no room, too many files) is left alone.
    pub fn own(path: &Path) -> Result<Self, QueryError> {
        match Self::open(path).and_then(Self::checked) {
            Err(error) if error.is_damage() => {
                tracing::error!(%error, "the queries at {} are moved aside and made anew", path.display());
                set_aside(path).map_err(QueryError::Folder)?;
                Self::open(path)
            }
            opened => opened,
        }
    }

    /// As SQLite itself checks it.
    fn checked(self) -> Result<Self, QueryError> {
        let found: String = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found == "ok" { Ok(self) } else { Err(QueryError::Damaged(found)) }
    }

    /// Opens a file, or makes it, and moves none.
    pub fn open(path: &Path) -> Result<Self, QueryError> {
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
            return Err(QueryError::Damaged(format!("it is of version {version}, this relay writes {VERSION}")));
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
                "INSERT INTO sessions (document, name, task, heads, deleted) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (document) DO UPDATE SET name = ?2, task = ?3, heads = ?4, deleted = ?5",
            )?
            .execute(params![document, page.name, page.task, heads, page.deleted])?;
        let session: i64 =
            writing.query_row("SELECT id FROM sessions WHERE document = ?", [&document], |row| row.get(0))?;
        let (messages, calls): (&[_], &[_]) = if page.deleted { (&[], &[]) } else { (&page.messages, &page.calls) };
        put_messages(&writing, (session, &document), messages)?;
        put_calls(&writing, (session, &document), calls)?;
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
            put_messages(&writing, (id, &document), &[])?;
            put_calls(&writing, (id, &document), &[])?;
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
                summed(sum.runs),
                summed(usage.input),
                summed(usage.output),
                summed(usage.reasoning),
                summed(usage.cache_read),
                summed(usage.cache_write),
                summed(usage.cache_write_long),
                summed(sum.cost_micros.0),
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

/// Of what is summed: so little that a thousand such never pass what SQLite can add.
fn summed(n: u64) -> i64 {
    int(n.min(1 << 53))
}

/// Facets of what is known of a row.
fn facets(known: &[(&str, Option<&str>)]) -> String {
    let known = known.iter().filter_map(|(kind, value)| Some(facet(kind, (*value)?)));
    known.collect::<Vec<_>>().join(" ")
}

impl MessageRow {
    fn facets(&self, document: &str) -> String {
        let mut all = vec![
            ("session", Some(document)),
            ("role", Some(self.role)),
            ("agent", self.agent.as_deref()),
            ("model", self.model.as_deref()),
            ("action", self.action.as_deref()),
            ("status", Some(self.status)),
        ];
        all.extend(self.tools.iter().map(|tool| ("tool", Some(tool.as_str()))));
        facets(&all)
    }
}

impl CallRow {
    fn facets(&self, document: &str) -> String {
        facets(&[
            ("session", Some(document)),
            ("tool", Some(&self.tool)),
            ("agent", self.agent.as_deref()),
            ("model", self.model.as_deref()),
            ("action", self.action.as_deref()),
            ("status", Some(self.status)),
        ])
    }
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

fn put_messages(
    writing: &Transaction<'_>,
    (session, document): (i64, &str),
    rows: &[MessageRow],
) -> Result<(), QueryError> {
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
        writing.prepare_cached("INSERT INTO words (rowid, text, facets) VALUES (?, ?, ?)")?.execute(params![
            id,
            indexed(&row.text),
            row.facets(document)
        ])?;
    }
    before.into_values().try_for_each(|(id, _)| remove(writing, "messages", Some("words"), id))
}

fn put_calls(writing: &Transaction<'_>, (session, document): (i64, &str), rows: &[CallRow]) -> Result<(), QueryError> {
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
        writing.prepare_cached("INSERT INTO call_words (rowid, text, facets) VALUES (?, ?, ?)")?.execute(params![
            id,
            indexed(&text),
            row.facets(document)
        ])?;
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
                summed(usage.input),
                summed(usage.output),
                summed(usage.reasoning),
                summed(usage.cache_read),
                summed(usage.cache_write),
                summed(usage.cache_write_long),
                row.cost.map(|cost| summed(cost.0)),
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

#[cfg(test)]
mod tests {
    use std::fs;

    use skein_engine::ids::{Micros, Scope};
    use skein_engine::session::model::Usage;

    use super::super::ask::{By, Filter};
    use super::*;

    fn page(session: u8, says: &[&str], cost: u64) -> Page {
        let at = Timestamp(1_790_000_000_000);
        let message = |(n, text): (usize, &&str)| MessageRow {
            id: format!("m{session}-{n}"),
            role: "user",
            status: "completed",
            at: Timestamp(at.0 + n as u64),
            text: (*text).to_owned(),
            ..MessageRow::default()
        };
        let run = RunRow {
            key: format!("r{session}/1"),
            turn: format!("r{session}"),
            agent: Some("a".to_owned()),
            status: "completed",
            started: at,
            usage: Usage { input: 10, output: 5, ..Usage::default() },
            cost: Some(Micros(cost)),
            ..RunRow::default()
        };
        Page {
            scope: Scope::from("w/one"),
            session: DocumentId::from_bytes([session; 16]),
            heads: vec![automerge::ChangeHash([session; 32])],
            deleted: false,
            name: format!("Session {session}"),
            task: None,
            messages: says.iter().enumerate().map(message).collect(),
            calls: Vec::new(),
            runs: vec![run],
        }
    }

    fn all() -> Filter {
        Filter { limit: 500, ..Filter::default() }
    }

    fn texts(store: &Store, words: Option<&str>) -> Vec<String> {
        let filter = Filter { text: words.map(str::to_owned), ..all() };
        store.messages(&filter).unwrap().rows.into_iter().map(|row| row.text).collect()
    }

    fn cost(store: &Store) -> (u64, u64) {
        let report = store.cost(By::Agent, None, None, None).unwrap();
        report.iter().fold((0, 0), |(runs, cost), row| (runs + row.runs, cost + row.cost_micros))
    }

    #[test]
    fn what_is_hidden_or_written_anew_is_found_as_it_stands_now_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::own(&folder.path().join("one.sqlite")).unwrap();
        store.put(&page(1, &["first apple", "second pear"], 7)).unwrap();
        store.put(&page(1, &["first plum"], 9)).unwrap();
        assert_eq!(texts(&store, None), ["first plum"]);
        assert_eq!(texts(&store, Some("apple")), [""; 0]);
        assert_eq!(texts(&store, Some("pear")), [""; 0]);
        assert_eq!(texts(&store, Some("plu")), ["first plum"]);
        assert_eq!(cost(&store), (1, 9));
    }

    #[test]
    fn a_deleted_session_is_not_listed_but_counts_comes_back_and_counts_once_when_purged() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::own(&folder.path().join("one.sqlite")).unwrap();
        let standing = page(1, &["hello"], 7);
        let deleted = Page { deleted: true, ..standing.clone() };
        store.put(&page(2, &["another"], 1)).unwrap();
        store.put(&standing).unwrap();
        store.put(&deleted).unwrap();
        assert_eq!(texts(&store, None), ["another"]);
        assert_eq!(store.runs(&all()).unwrap().rows.len(), 1);
        assert_eq!(cost(&store), (2, 8));
        store.put(&standing).unwrap();
        assert_eq!(texts(&store, Some("hello")), ["hello"]);
        assert_eq!(store.runs(&all()).unwrap().rows.len(), 2);
        let spent = Spent {
            day: "2026-09-21".to_owned(),
            agent: Some("a".to_owned()),
            runs: 1,
            cost_micros: Micros(7),
            ..Spent::default()
        };
        store.bury(deleted.session, std::slice::from_ref(&spent)).unwrap();
        store.bury(deleted.session, &[spent]).unwrap();
        // What was derived before the purge and comes after it changes nothing.
        store.put(&deleted).unwrap();
        assert_eq!((texts(&store, None), cost(&store)), (vec!["another".to_owned()], (2, 8)));
    }

    #[test]
    fn costs_that_nothing_can_cost_break_no_report() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::own(&folder.path().join("one.sqlite")).unwrap();
        (1..=3).for_each(|session| store.put(&page(session, &["x"], u64::MAX)).unwrap());
        assert_eq!(cost(&store), (3, 3 << 53));
    }

    #[test]
    fn what_is_no_database_damaged_or_of_another_version_is_moved_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.sqlite");
        let full = |path: &Path| {
            let mut store = Store::own(path).unwrap();
            let long = "many words ".repeat(200);
            (1..=40).for_each(|session| store.put(&page(session, &[&long], 1)).unwrap());
            store.connection.pragma_update(None, "journal_mode", "DELETE").unwrap();
        };
        let spoil: [(&str, &dyn Fn()); 3] = [
            ("no database", &|| fs::write(&path, "no database at all").unwrap()),
            ("damaged", &|| {
                let mut bytes = fs::read(&path).unwrap();
                let end = bytes.len();
                bytes[8192..end - 4096].fill(0xa5);
                fs::write(&path, bytes).unwrap();
            }),
            ("version", &|| {
                let other = Connection::open(&path).unwrap();
                other.pragma_update(None, "user_version", VERSION + 1).unwrap();
            }),
        ];
        for (what, spoil) in spoil {
            full(&path);
            spoil();
            let before = fs::read(&path).unwrap();
            // Whoever only asks moves nothing.
            drop(Store::open(&path));
            assert!(path.exists(), "{what}");
            let store = Store::own(&path).unwrap();
            assert_eq!(store.heads().unwrap().len(), 0, "{what}");
            let aside = folder.path().join("one.sqlite.broken");
            assert_eq!(fs::read(&aside).unwrap().len(), before.len(), "{what}");
            fs::remove_file(aside).unwrap();
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_for_now_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.sqlite");
        // Not a file: SQLite can't open it, and it isn't the content's fault.
        fs::create_dir(&path).unwrap();
        assert!(Store::own(&path).is_err());
        assert!(path.is_dir());
    }
}
