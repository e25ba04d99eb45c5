//! Document → [`Session`]: accepts both kinds of string, folds conflicting containers, keeps conflicting runs, and never
//! panics on what it finds. What can't be read is left out, or gets the mildest meaning, and is named in `faults`.

use std::collections::{BTreeMap, HashSet};

use automerge::Automerge;

use super::model::{
    AutoName, CallState, Continues, Cost, Message, Origin, Part, PartKind, ProviderData, Request, RequestKind, Role,
    Run, RunError, RunState, Session, ToolCall, Usage,
};
use super::rules::{Rule, off};
use super::tree::{self, Slot};
use crate::ids::{Epoch, Micros};
use crate::price::Rates;

/// The version of the shapes that this engine writes, and the newest that it knows.
pub const SCHEMA: i64 = 1;
/// A document of nothing but faults need not name them all.
const MAX_FAULTS: usize = 100;

/// Reads a whole document by walking its ranges (reading field by field is ten times slower).
pub fn session(document: &Automerge) -> Session {
    whole(&tree::read(document)).0
}

/// The same, with what could not be read by where it stands.
pub(crate) fn whole(tree: &tree::Node) -> (Session, FaultsByPlace) {
    let root = Slot::root(tree);
    let mut faults = FaultsByPlace::default();
    let mut session = head(root);
    session.messages = messages(root.field("messages"), &mut faults);
    session.runs = runs(root.field("runs"), &mut faults);
    session.requests = requests(root.field("requests"), &mut faults);
    faults.head = std::mem::take(&mut session.faults);
    for (key, kind) in [("messages", "list"), ("runs", "map"), ("requests", "map")] {
        let container = root.field(key);
        let fits = if kind == "list" { container.is_list() } else { container.is_map() };
        if container.stands() && !fits {
            faults.head.push(format!("{key} is not a {kind}"));
        }
    }
    session.faults = faults.words();
    (session, faults)
}

/// Everything but messages, runs and requests; its faults are those of what it reads.
pub(crate) fn head(root: Slot<'_>) -> Session {
    let names = root.field("names");
    let mut auto_names: Vec<_> = names.field("auto").each().filter_map(auto_name).collect();
    auto_names.sort_by_key(|name| name.epoch);
    Session {
        schema: root.field("schema").int().unwrap_or_default(),
        is_session: root.field("kind").text() == Some("session"),
        user_name: names.field("user").word(),
        auto_names,
        agent: root.field("agent").word(),
        position: highest(root.field("position")),
        created_at: root.field("createdAt").time(),
        created_by: root.field("createdBy").word(),
        archived_at: root.field("archivedAt").time(),
        deleted_at: root.field("deletedAt").time(),
        origin: origin(root.field("origin")),
        spend_limit: root.field("spendLimit").count().map(Micros),
        maker: root.maker(),
        faults: head_faults(root),
        ..Session::default()
    }
}

/// What of the root is of the wrong type, and whether it is a newer version's.
fn head_faults(root: Slot<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    match root.field("schema").int() {
        Some(schema) if schema > SCHEMA => {
            faults.push(format!("written by a newer version (schema {schema}): some of it may not be shown"));
        }
        Some(schema) if schema > 0 => {}
        _ => faults.push("schema is missing, or no number".to_owned()),
    }
    if root.field("kind").text() != Some("session") {
        faults.push("kind does not say that it is a session".to_owned());
    }
    let strange = |slot: Slot<'_>, readable: bool| slot.stands() && !readable;
    for key in ["agent", "position", "createdBy"] {
        if strange(root.field(key), root.field(key).text().is_some()) {
            faults.push(format!("{key} is not a string"));
        }
    }
    for key in ["createdAt", "archivedAt", "deletedAt", "spendLimit"] {
        if strange(root.field(key), root.field(key).count().is_some()) {
            faults.push(format!("{key} is not a whole number from 0"));
        }
    }
    let names = root.field("names");
    if strange(names, names.is_map()) {
        faults.push("names is not a map".to_owned());
    }
    if strange(names.field("user"), names.field("user").text().is_some()) {
        faults.push("names.user is not a string".to_owned());
    }
    if strange(names.field("auto"), names.field("auto").field("title").text().is_some()) {
        faults.push("names.auto is not a title".to_owned());
    }
    if strange(root.field("origin"), origin(root.field("origin")).is_some()) {
        faults.push("origin is not understood".to_owned());
    }
    faults
}

/// What could not be read, in words, by where it stands, so that a part of a document can be read again by itself.
#[derive(Debug, Default)]
pub(crate) struct FaultsByPlace {
    /// Outside of messages, runs and requests.
    pub head: Vec<String>,
    /// By the element's index in the list.
    pub messages: BTreeMap<usize, Vec<String>>,
    /// By key.
    pub runs: BTreeMap<String, Vec<String>>,
    /// By id.
    pub requests: BTreeMap<String, Vec<String>>,
    /// Some are not here: there were too many.
    pub cut: bool,
}

impl FaultsByPlace {
    /// All of them, in the document's order.
    pub(crate) fn words(&self) -> Vec<String> {
        let all = self.messages.values().chain(self.runs.values()).chain(self.requests.values());
        self.head.iter().chain(all.flatten()).take(MAX_FAULTS).cloned().collect()
    }

    /// Replaces those of one place. Whether they have changed.
    pub(crate) fn put<K: Ord>(
        &mut self,
        place: impl FnOnce(&mut Self) -> &mut BTreeMap<K, Vec<String>>,
        key: K,
        noted: Faults,
    ) -> bool {
        let known = place(self);
        let changed = known.get(&key).map_or(&[][..], Vec::as_slice) != noted.0.as_slice();
        if noted.0.is_empty() {
            known.remove(&key);
        } else {
            known.insert(key, noted.0);
        }
        self.is_full();
        changed
    }

    /// Whether there is no room for more.
    fn is_full(&mut self) -> bool {
        self.cut |= self.messages.len() + self.runs.len() + self.requests.len() > MAX_FAULTS;
        self.cut
    }
}

/// What a document holds that can't be read, in words.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<String>);

impl Faults {
    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if self.0.len() < MAX_FAULTS {
            self.0.push(what());
        }
    }
}

/// Of conflicting positions the highest (rule 17).
fn highest(position: Slot<'_>) -> Option<String> {
    if off(Rule::HighestPosition) { position.word() } else { position.each().filter_map(Slot::word).max() }
}

fn auto_name(name: Slot<'_>) -> Option<AutoName> {
    let epoch = Epoch(name.field("epoch").count().unwrap_or_default());
    Some(AutoName { title: name.field("title").word()?, epoch, by: name.writers() })
}

fn origin(origin: Slot<'_>) -> Option<Origin> {
    match origin.field("kind").text()? {
        "task" => Some(Origin::Task { task: origin.field("task").word()?, run: origin.field("run").word()? }),
        "duplicate" => Some(Origin::Duplicate {
            session: origin.field("session").word()?,
            // Of a session without answers nothing is copied.
            message: origin.field("message").word().unwrap_or_default(),
        }),
        _ => None,
    }
}

fn messages(list: Slot<'_>, faults: &mut FaultsByPlace) -> Vec<Message> {
    let mut ids = HashSet::new();
    let mut messages = Vec::new();
    for (index, slot) in list.elements().enumerate() {
        let mut noted = Faults::default();
        if let Some(message) = message(index, slot, |id| ids.contains(id), &mut noted) {
            ids.insert(message.id.clone());
            messages.push(message);
        }
        if !noted.0.is_empty() && !faults.is_full() {
            faults.messages.insert(index, noted.0);
        }
    }
    messages
}

/// The message of an element, if it is one. `taken`: whether an earlier message has this id.
pub(crate) fn message(
    index: usize,
    slot: Slot<'_>,
    taken: impl Fn(&str) -> bool,
    faults: &mut Faults,
) -> Option<Message> {
    if !slot.is_map() {
        faults.note(|| format!("messages[{index}] is not a map"));
        return None;
    }
    let turn = slot.field("turn").word();
    let epoch = slot.field("epoch").count().map(Epoch);
    let role = match slot.field("role").text() {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some(other) => {
            faults.note(|| format!("messages[{index}].role is {other:?}"));
            return None;
        }
        None => {
            faults.note(|| format!("messages[{index}].role is not a string"));
            if turn.is_some() && epoch.is_some() { Role::Assistant } else { Role::User }
        }
    };
    // What has no id of its own is still known by the operation that made it, alike on every replica.
    let id = slot.field("id").word().filter(|id| !taken(id)).unwrap_or_else(|| {
        faults.note(|| format!("messages[{index}].id is missing, or another message's"));
        slot.last().map(|node| node.id.to_string()).unwrap_or_default()
    });
    let parts = slot
        .field("parts")
        .elements()
        .enumerate()
        .map(|(n, part_slot)| part(part_slot, || format!("messages[{index}].parts[{n}]"), faults));
    Some(Message {
        parts: parts.collect(),
        id,
        role,
        author: slot.field("author").word(),
        created_at: slot.field("createdAt").time(),
        turn,
        epoch,
        hides: slot.field("hides").texts().unwrap_or_default(),
        over: slot.field("over").texts(),
        action: slot.field("action").word(),
        by: slot.writers(),
    })
}

/// A part never falls away, so that the indexes of those after it hold.
fn part(slot: Slot<'_>, place: impl Fn() -> String, faults: &mut Faults) -> Part {
    let name = slot.field("type").text().unwrap_or_default();
    let text = |field: &str| slot.field(field).text().unwrap_or_default().to_owned();
    let known = match name {
        "text" => Some(PartKind::Text(chunks(slot))),
        "thinking" => Some(PartKind::Thinking(chunks(slot))),
        "tool_call" => slot.field("id").word().map(|id| PartKind::ToolCall(tool_call(id, slot))),
        "tool_result" => slot.field("callId").word().map(|call| PartKind::ToolResult {
            call,
            content: text("content"),
            is_error: slot.field("isError").bool().unwrap_or_default(),
            blob: slot.field("blob").word(),
        }),
        "other" => Some(PartKind::Other { summary: text("summary") }),
        "attachment" => slot.field("blob").word().map(|blob| PartKind::Attachment {
            blob,
            mime: text("mime"),
            name: text("name"),
            size: slot.field("size").count().unwrap_or_default(),
        }),
        "error" => Some(PartKind::Error {
            code: text("code"),
            message: text("message"),
            retryable: slot.field("retryable").bool().unwrap_or_default(),
        }),
        "event" => Some(PartKind::Event { summary: text("summary") }),
        _ => None,
    };
    let kind = known.unwrap_or_else(|| {
        faults.note(|| format!("{} of type {name:?} is not understood", place()));
        PartKind::Unknown { name: name.to_owned() }
    });
    let provider = slot.field("provider");
    let provider = provider
        .field("kind")
        .word()
        .map(|kind| ProviderData { kind, data: provider.field("data").text().unwrap_or_default().to_owned() });
    Part { kind, provider }
}

fn chunks(slot: Slot<'_>) -> String {
    let chunks = slot.field("chunks");
    // A plain assignment of a foreign client may hold the words as one string.
    match chunks.text().or_else(|| slot.field("text").text()) {
        Some(text) => text.to_owned(),
        None => chunks.elements().filter_map(Slot::text).collect(),
    }
}

fn tool_call(id: String, slot: Slot<'_>) -> ToolCall {
    let state = match slot.field("state").text() {
        Some("preparing") => CallState::Preparing,
        Some("waiting") => CallState::Waiting,
        Some("running") => CallState::Running,
        Some("denied") => CallState::Denied,
        Some("cancelled") => CallState::Cancelled,
        Some("in_doubt") => CallState::InDoubt,
        // What can't be read never runs.
        _ => CallState::Cut,
    };
    ToolCall {
        id,
        provider_id: slot.field("providerId").word(),
        name: slot.field("name").text().unwrap_or_default().to_owned(),
        input: slot.field("input").text().map(str::to_owned),
        state,
    }
}

fn runs(map: Slot<'_>, faults: &mut FaultsByPlace) -> BTreeMap<String, Vec<Run>> {
    let mut all: BTreeMap<String, Vec<Run>> = BTreeMap::new();
    for (key, slot) in map.entries() {
        let mut noted = Faults::default();
        let values = runs_of(key, slot, &mut noted);
        if !values.is_empty() {
            all.entry(key.to_owned()).or_default().extend(values);
        }
        if !noted.0.is_empty() && !faults.is_full() {
            faults.runs.entry(key.to_owned()).or_default().append(&mut noted.0);
        }
    }
    all
}

/// All values of one key of `runs`.
pub(crate) fn runs_of(key: &str, slot: Slot<'_>, faults: &mut Faults) -> Vec<Run> {
    let Some((turn, epoch)) = parse_key(key) else {
        faults.note(|| format!("runs has the key {key:?}"));
        return Vec::new();
    };
    let mut values = Vec::new();
    for value in slot.each() {
        if value.is_map() {
            values.push(run(turn, epoch, value, faults));
        } else {
            faults.note(|| format!("runs[{key:?}] is not a map"));
        }
    }
    values
}

/// `turn/epoch`, with the epoch written in the one way that [`Run::key`] writes it.
fn parse_key(key: &str) -> Option<(&str, Epoch)> {
    let (turn, epoch) = key.rsplit_once('/')?;
    let number: u64 = epoch.parse().ok()?;
    (!turn.is_empty() && number.to_string() == epoch).then_some((turn, Epoch(number)))
}

fn run(turn: &str, epoch: Epoch, slot: Slot<'_>, faults: &mut Faults) -> Run {
    let mut error = run_error(slot.field("error"));
    let state = match slot.field("state").text() {
        Some("streaming") => RunState::Streaming,
        Some("paused") => RunState::Paused,
        Some("completed") => RunState::Completed,
        Some("failed") => RunState::Failed,
        _ => {
            faults.note(|| format!("runs[\"{turn}/{}\"].state is not understood", epoch.0));
            error.get_or_insert_with(|| RunError {
                code: "unreadable".into(),
                message: "what became of this turn cannot be read".into(),
                retryable: true,
            });
            RunState::Failed
        }
    };
    let usage = slot.field("usage");
    let count = |field: &str| usage.field(field).count().unwrap_or_default();
    let cost = slot.field("cost");
    let strange = |slot: Slot<'_>| slot.stands() && slot.count().is_none();
    let counts = ["input", "output", "reasoning", "cacheRead", "cacheWrite", "cacheWriteLong"];
    let uncounted = usage.stands() && (!usage.is_map() || counts.iter().any(|key| strange(usage.field(key))));
    if uncounted {
        faults.note(|| format!("runs[\"{turn}/{}\"].usage can't be read whole", epoch.0));
    }
    let unpriced = cost.stands() && (!cost.is_map() || strange(cost.field("micros")));
    if unpriced {
        faults.note(|| format!("runs[\"{turn}/{}\"].cost can't be read", epoch.0));
    }
    Run {
        turn: turn.to_owned(),
        epoch,
        place: slot.field("place").count().map_or(epoch, Epoch),
        answers: slot.field("answers").texts().unwrap_or_default(),
        continues: continues(slot.field("continues")),
        request: slot.field("request").word(),
        inherited: slot.field("inherited").bool().unwrap_or_default(),
        agent: slot.field("agent").word(),
        model: slot.field("model").word(),
        provider: slot.field("provider").word(),
        preamble: slot.field("preamble").word(),
        worker: slot.field("worker").word(),
        state,
        started_at: slot.field("startedAt").time(),
        ended_at: slot.field("endedAt").time(),
        usage: Usage {
            input: count("input"),
            output: count("output"),
            reasoning: count("reasoning"),
            cache_read: count("cacheRead"),
            cache_write: count("cacheWrite"),
            cache_write_long: count("cacheWriteLong"),
        },
        cost: Cost {
            micros: cost.field("micros").count().map(Micros),
            estimated: cost.field("estimated").bool().unwrap_or_default(),
            reported: cost.field("reported").bool().unwrap_or_default(),
            unreadable: uncounted || unpriced,
        },
        prices: slot.field("prices").text().and_then(Rates::from_json),
        context: slot.field("context").count(),
        cached_until: slot.field("cachedUntil").time(),
        stop_reason: slot.field("stopReason").word(),
        error,
        by: slot.writers(),
    }
}

fn continues(slot: Slot<'_>) -> Option<Continues> {
    Some(Continues {
        message: slot.field("message").word()?,
        part: slot.field("part").count()?,
        bytes: slot.field("bytes").count()?,
    })
}

fn run_error(slot: Slot<'_>) -> Option<RunError> {
    slot.is_map().then(|| RunError {
        code: slot.field("code").text().unwrap_or_default().to_owned(),
        message: slot.field("message").text().unwrap_or_default().to_owned(),
        retryable: slot.field("retryable").bool().unwrap_or_default(),
    })
}

fn requests(map: Slot<'_>, faults: &mut FaultsByPlace) -> BTreeMap<String, Request> {
    let mut requests = BTreeMap::new();
    for (id, slot) in map.entries() {
        let mut noted = Faults::default();
        if let Some(request) = request(id, slot, &mut noted) {
            requests.insert(id.to_owned(), request);
        }
        if !noted.0.is_empty() && !faults.is_full() {
            faults.requests.entry(id.to_owned()).or_default().append(&mut noted.0);
        }
    }
    requests
}

/// The request under one id, if it is one.
pub(crate) fn request(id: &str, slot: Slot<'_>, faults: &mut Faults) -> Option<Request> {
    if !slot.is_map() {
        faults.note(|| format!("requests[{id:?}] is not a map"));
        return None;
    }
    let kind = request_kind(slot).unwrap_or_else(|| {
        faults.note(|| format!("requests[{id:?}] is not understood"));
        RequestKind::Unknown { name: slot.field("kind").text().unwrap_or_default().to_owned() }
    });
    Some(Request {
        id: id.to_owned(),
        kind,
        author: slot.field("by").word(),
        at: slot.field("at").time(),
        by: slot.writers(),
    })
}

fn request_kind(slot: Slot<'_>) -> Option<RequestKind> {
    let target = || slot.field("target").word();
    Some(match slot.field("kind").text()? {
        "pause" => RequestKind::Pause { target: target()? },
        "continue" => RequestKind::Continue { target: target()?, over: slot.field("over").texts().unwrap_or_default() },
        "steer" => RequestKind::Steer { target: target()? },
        "retry" => RequestKind::Retry { target: target()?, n: slot.field("n").count()? },
        "approve" => RequestKind::Approve {
            target: target()?,
            digest: slot.field("digest").word()?,
            for_session: slot.field("scope").text() == Some("session"),
        },
        "deny" => RequestKind::Deny { target: target()?, reason: slot.field("reason").word() },
        "smart-rename" => RequestKind::SmartRename { title: slot.field("title").word() },
        "omit" => RequestKind::Omit { message: slot.field("message").word()?, part: slot.field("part").count()? },
        _ => return None,
    })
}
