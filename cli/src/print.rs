//! Standard output, standard error, and how things are written there: times, money, tables.

use std::io::{self, Write};

use serde::Serialize;
use skein_engine::ids::{Micros, Timestamp};

use crate::failure::Failure;

/// Writes to standard output, at once. A reader that has gone away (`… | head`) is no failure.
pub(crate) fn out(text: &str) -> Result<(), Failure> {
    out_while_read(text).map(drop)
}

/// The same; whether somebody still reads.
pub(crate) fn out_while_read(text: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => Ok(written.map(|()| true)?),
    }
}

/// Writes a line to standard output.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    out(&format!("{text}\n"))
}

/// Writes a value as JSON, for scripts and for people.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    line(&serde_json::to_string_pretty(value)?)
}

/// What was added: its id, or `{"id": …}`.
#[derive(Serialize)]
pub(crate) struct Made {
    id: String,
}

impl Made {
    pub(crate) fn of(id: impl Into<Option<String>>) -> Self {
        Self { id: id.into().unwrap_or_default() }
    }

    pub(crate) fn print(&self, as_json: bool) -> Result<(), Failure> {
        if as_json { json(self) } else { line(&self.id) }
    }
}

/// Says something beside the result, on standard error.
pub(crate) fn remark(sentence: &str) {
    // Without a standard error there is nobody to be told.
    let _ = writeln!(io::stderr().lock(), "{sentence}");
}

/// A time, to the minute, in UTC: `2026-11-25 03:12`.
pub(crate) fn time(at: Option<Timestamp>) -> String {
    let Some(at) = at else { return "–".into() };
    let minutes = at.0 / 60_000;
    let (year, month, day) = at.date();
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

/// Money: `$0.001234`; `cost unknown` where no price is known.
pub(crate) fn cost(micros: Option<Micros>, estimated: bool) -> String {
    match micros {
        None => "cost unknown".into(),
        Some(Micros(micros)) => {
            let about = if estimated { " (estimated)" } else { "" };
            format!("${}.{:06}{about}", micros / 1_000_000, micros % 1_000_000)
        }
    }
}

/// A length of time: `850 ms`, `12.3 s`, `4 min 5 s`.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms / 1_000 % 60),
    }
}

/// Columns padded to their widest cell, two spaces between; the last one as it is.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Text of others on a terminal: without control characters, which could rewrite what stands there, and without those
/// that turn the direction of what follows, which could make it read as something else.
pub(crate) fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|&c| !(c.is_control() || turns(c)) || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(time(Some(Timestamp(0))), "1970-01-01 00:00");
        assert_eq!(time(Some(Timestamp(951_782_400_000))), "2000-02-29 00:00");
        assert_eq!(time(Some(Timestamp(1_795_577_554_999))), "2026-11-25 03:32");
        assert_eq!(time(None), "–");
    }

    #[test]
    fn unknown_cost_is_not_zero() {
        assert_eq!(cost(None, false), "cost unknown");
        assert_eq!(cost(Some(Micros(0)), false), "$0.000000");
        assert_eq!(cost(Some(Micros(1_000_042)), true), "$1.000042 (estimated)");
    }

    #[test]
    fn control_characters_of_others_do_not_reach_the_terminal() {
        assert_eq!(plain("a\x1b[31mb\r\nc"), "a[31mb\nc");
        assert_eq!(plain("exe.\u{202e}gpj"), "exe.gpj");
    }
}
