//! Which sessions a list shows, and in what order: rows and a query in, rows out. Pure, and fast enough to run at every
//! keystroke over 10,000 rows: what is compared is made once a row.

use std::cmp::Ordering;

use super::conversation::{Reason, Status};
use super::summary::Summary;

/// What is asked for. The default: all that aren't archived, in the member's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The archive, or everything else.
    pub archived: bool,
    /// Of this kind only.
    pub kind: Option<Kind>,
    /// Of this agent (its id) only.
    pub agent: Option<String>,
    /// Words that all stand in the name, whatever their case and accents.
    pub search: String,
    /// The column that is ordered by.
    pub sort: Sort,
    /// Downwards.
    pub descending: bool,
}

/// A kind of session, as lists filter by it. One session can be of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call, a failure or a limit waits for a person; archived ones count as well.
    NeedsYou,
    /// Messages wait.
    Queued,
    /// Of this status; of an archived one the status beneath.
    Of(Status),
}

/// A column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The member's own order (rule 17).
    #[default]
    Order,
    /// By name: without regard to case and accents, numbers by their value.
    Name,
    /// What needs a person first.
    Status,
    /// By the agent's name.
    Agent,
    /// Unknown ones as the least.
    Cost,
    /// Streaming time.
    Duration,
    /// The last update.
    Updated,
    /// When it was made.
    Created,
}

impl Query {
    /// Whether a session is among those asked for. Deleted ones never are.
    pub fn takes(&self, row: &Summary) -> bool {
        self.takes_but_for_words(row) && words(&self.search).iter().all(|word| folded(&row.name).contains(word))
    }

    fn takes_but_for_words(&self, row: &Summary) -> bool {
        row.deleted_at.is_none()
            && (row.status == Status::Archived) == self.archived
            && self.kind.is_none_or(|kind| is_of(row, kind))
            && self.agent.as_ref().is_none_or(|agent| row.agent.as_ref() == Some(agent))
    }
}

/// The rows that a query asks for, in its order; equals by id. `agent_name`: of an agent's id.
pub fn list<'a, 'n>(
    rows: impl IntoIterator<Item = &'a Summary>,
    query: &Query,
    agent_name: impl Fn(&str) -> Option<&'n str>,
) -> Vec<&'a Summary> {
    let words = words(&query.search);
    let named = |row: &Summary| {
        if words.is_empty() {
            return true;
        }
        let name = folded(&row.name);
        words.iter().all(|word| name.contains(word))
    };
    let kept = rows.into_iter().filter(|row| query.takes_but_for_words(row) && named(row));
    let descending = query.descending;
    match query.sort {
        Sort::Order => by(kept, descending, |row| row.position.as_deref().unwrap_or("~")),
        Sort::Name => by(kept, descending, |row| natural(&row.name)),
        Sort::Status => by(kept, descending, rank),
        Sort::Agent => by(kept, descending, |row| {
            let agent = row.agent.as_deref().unwrap_or_default();
            natural(agent_name(agent).unwrap_or(agent))
        }),
        Sort::Cost => by(kept, descending, |row| row.cost_micros),
        Sort::Duration => by(kept, descending, |row| row.duration_ms),
        Sort::Updated => by(kept, descending, |row| row.updated_at.or(row.created_at)),
        Sort::Created => by(kept, descending, |row| row.created_at),
    }
}

fn by<'a, K: Ord>(
    rows: impl Iterator<Item = &'a Summary>,
    descending: bool,
    key: impl Fn(&'a Summary) -> K,
) -> Vec<&'a Summary> {
    let mut keyed: Vec<(K, &Summary)> = rows.map(|row| (key(row), row)).collect();
    keyed.sort_unstable_by(|(a, this), (b, other)| {
        let order = if descending { b.cmp(a) } else { a.cmp(b) };
        order.then_with(|| this.id.cmp(&other.id))
    });
    keyed.into_iter().map(|(_, row)| row).collect()
}

/// Whether a person is called: by a call, a limit or a failure.
pub fn needs_you(row: &Summary) -> bool {
    match beneath(row) {
        Status::Failed => true,
        Status::Paused => asks(row) || matches!(row.reason, Some(Reason::Limit { .. })),
        Status::Active | Status::Streaming | Status::Archived => false,
    }
}

/// Calls wait for a person. Once all are decided the reason stays until a worker goes on, but names none.
fn asks(row: &Summary) -> bool {
    matches!(&row.reason, Some(Reason::Approval { calls }) if !calls.is_empty())
}

fn beneath(row: &Summary) -> Status {
    match row.status {
        Status::Archived => row.beneath.unwrap_or_default(),
        status => status,
    }
}

fn is_of(row: &Summary, kind: Kind) -> bool {
    match kind {
        Kind::NeedsYou => needs_you(row),
        Kind::Queued => row.queued.count > 0,
        Kind::Of(Status::Archived) => row.status == Status::Archived,
        Kind::Of(status) => beneath(row) == status,
    }
}

/// In the order of the column.
fn rank(row: &Summary) -> u8 {
    let by_limit = matches!(row.reason, Some(Reason::Limit { .. }));
    match row.status {
        Status::Archived if !needs_you(row) => 6,
        _ => match beneath(row) {
            Status::Paused if asks(row) || by_limit => 0,
            Status::Failed => 1,
            Status::Streaming => 2,
            Status::Active if row.queued.count > 0 => 3,
            Status::Paused => 4,
            Status::Active | Status::Archived => 5,
        },
    }
}

fn words(search: &str) -> Vec<String> {
    folded(search).split_whitespace().map(str::to_owned).collect()
}

/// A name as it is ordered: folded, and each number with its length before it, so that bytes compare as numbers do.
#[derive(PartialEq, Eq)]
struct Natural {
    /// The first bytes, which decide nearly always.
    first: u128,
    all: Vec<u8>,
}

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> Ordering {
        self.first.cmp(&other.first).then_with(|| self.all.cmp(&other.all))
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn natural(name: &str) -> Natural {
    let name = folded(name);
    let mut all = Vec::with_capacity(name.len() + 2);
    let mut rest = name.trim().as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if !byte.is_ascii_digit() {
            all.push(byte);
            rest = after;
            continue;
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, after) = rest.split_at(digits);
        let zeros = number.iter().take_while(|&&digit| digit == b'0').count();
        let number = &number[zeros.min(digits - 1)..];
        all.extend([b'0', u8::try_from(number.len()).unwrap_or(u8::MAX)]);
        all.extend(number);
        rest = after;
    }
    let mut first = [0; 16];
    let count = all.len().min(16);
    first[..count].copy_from_slice(&all[..count]);
    Natural { first: u128::from_be_bytes(first), all }
}

/// Letters of Latin script with their accents, after the letter without.
const ACCENTS: &[(char, &str)] = &[
    ('a', "àáâãäåāăąǎ"),
    ('c', "çćĉċč"),
    ('d', "ďđ"),
    ('e', "èéêëēĕėęě"),
    ('g', "ĝğġģ"),
    ('h', "ĥ"),
    ('i', "ìíîïĩīĭįǐ"),
    ('j', "ĵ"),
    ('k', "ķ"),
    ('l', "ĺļľł"),
    ('n', "ñńņňǹ"),
    ('o', "òóôõöøōŏőǒ"),
    ('r', "ŕŗř"),
    ('s', "śŝşšș"),
    ('t', "ţťț"),
    ('u', "ùúûüũūŭůűųǔ"),
    ('w', "ŵ"),
    ('y', "ýÿŷ"),
    ('z', "źżž"),
];

/// Small letters without accents. Only those of Latin script are taken apart; others stay as they are.
fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut folded = String::with_capacity(text.len());
    for letter in text.chars().flat_map(char::to_lowercase) {
        // Accents that stand by themselves.
        if ('\u{300}'..='\u{36f}').contains(&letter) {
            continue;
        }
        let plain = ACCENTS.iter().find(|(_, accented)| !letter.is_ascii() && accented.contains(letter));
        folded.push(plain.map_or(letter, |(plain, _)| *plain));
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{DocumentId, Micros, Timestamp};
    use crate::session::summary::summary;
    use crate::session::{Conversation, Session};

    fn row(name: &str, change: impl FnOnce(&mut Summary)) -> Summary {
        let mut row = summary(DocumentId::random(), &Session::default(), &Conversation::default(), Timestamp(0));
        row.name = name.to_owned();
        change(&mut row);
        row
    }

    fn names(rows: &[Summary], query: &Query) -> Vec<String> {
        list(rows, query, |_| None).into_iter().map(|row| row.name.clone()).collect()
    }

    fn sorted(sort: Sort) -> Query {
        Query { sort, ..Query::default() }
    }

    #[test]
    fn the_members_order_is_by_bytes_and_what_has_no_place_is_last() {
        let at = |position: &str| Some(position.to_owned());
        let rows = [
            row("c", |_| {}),
            row("b", |row| row.position = at("0000000002")),
            row("a", |row| row.position = at("0000000001z")),
            row("gone", |row| row.deleted_at = Some(Timestamp(1))),
            row("archived", |row| row.status = Status::Archived),
        ];
        assert_eq!(names(&rows, &Query::default()), ["a", "b", "c"]);
        assert_eq!(names(&rows, &Query { archived: true, ..Query::default() }), ["archived"]);
    }

    #[test]
    fn names_sort_without_case_and_accents_and_numbers_by_value() {
        let rows = ["Build 10", "build 9", "Ábc", "abd", "Build 010b"].map(|name| row(name, |_| {}));
        assert_eq!(names(&rows, &sorted(Sort::Name)), ["Ábc", "abd", "build 9", "Build 10", "Build 010b"]);
        let down = Query { descending: true, ..sorted(Sort::Name) };
        assert_eq!(names(&rows, &down)[0], "Build 010b");
    }

    #[test]
    fn a_search_finds_every_word_whatever_its_case_and_accents() {
        let rows = ["Café notes, Łódź", "Cafe\u{301} plan", "Notes"].map(|name| row(name, |_| {}));
        let search = |text: &str| Query { search: text.to_owned(), ..sorted(Sort::Name) };
        assert_eq!(names(&rows, &search("CAFE")), ["Café notes, Łódź", "Cafe\u{301} plan"]);
        assert_eq!(names(&rows, &search("notes łodz")), ["Café notes, Łódź"]);
        assert_eq!(names(&rows, &search("  ")).len(), 3);
        assert!(search("plán").takes(&rows[1]) && !search("plán").takes(&rows[2]));
    }

    #[test]
    fn what_needs_a_person_comes_first_and_is_found() {
        let calls =
            |calls: &[&str]| Some(Reason::Approval { calls: calls.iter().map(|call| (*call).to_owned()).collect() });
        let rows = [
            row("active", |_| {}),
            row("paused", |row| row.status = Status::Paused),
            row("decided", |row| (row.status, row.reason) = (Status::Paused, calls(&[]))),
            row("queued", |row| row.queued.count = 1),
            row("streaming", |row| row.status = Status::Streaming),
            row("failed", |row| row.status = Status::Failed),
            row("asks", |row| (row.status, row.reason) = (Status::Paused, calls(&["c"]))),
        ];
        let order = names(&rows, &sorted(Sort::Status));
        assert_eq!(order[..4], ["asks", "failed", "streaming", "queued"]);
        assert_eq!(order[6], "active");
        let of = |kind| Query { kind: Some(kind), ..sorted(Sort::Name) };
        assert_eq!(names(&rows, &of(Kind::NeedsYou)), ["asks", "failed"]);
        assert_eq!(names(&rows, &of(Kind::Queued)), ["queued"]);
        assert_eq!(names(&rows, &of(Kind::Of(Status::Paused))), ["asks", "decided", "paused"]);
    }

    #[test]
    fn numbers_sort_by_value_and_unknown_costs_are_the_least() {
        let rows = [
            row("dear", |row| row.cost_micros = Some(Micros(9))),
            row("unknown", |row| row.cost_micros = None),
            row("free", |row| row.cost_micros = Some(Micros(0))),
        ];
        assert_eq!(names(&rows, &sorted(Sort::Cost)), ["unknown", "free", "dear"]);
        let rows = [
            row("new", |row| (row.updated_at, row.duration_ms) = (Some(Timestamp(9)), 1)),
            row("old", |row| (row.created_at, row.duration_ms) = (Some(Timestamp(3)), 2)),
        ];
        assert_eq!(names(&rows, &sorted(Sort::Updated)), ["old", "new"]);
        assert_eq!(names(&rows, &sorted(Sort::Duration)), ["new", "old"]);
    }
}
