//! What a change must pass before it is stored (design, "Sync"): the rules that keep whoever applies it from panicking,
//! from a corrupt document, and from exhausting memory. No document is built: an operation's references are looked up
//! in the changes that made what they name.
//!
//! Invariant: a change that fails leaves the graph and its index as they were.

use super::ancestry::Ancestry;
use super::change::ParsedChange;
use super::columns::{self, Columns, Id, Key, Op};
use super::index::NONE;
use super::{ChangeGraph, Node};

/// Counters that a change may skip: automerge's `changeAt` counts from the whole document's highest.
const MAX_GAP: u64 = 1 << 16;
/// Counters that a document may skip, and operations that it may hold: together they fit automerge's 32 bits.
const MAX_GAPS: u64 = 1 << 24;
const MAX_DOCUMENT_OPS: u64 = 1 << 24;
/// Predecessors that the operations of a change may name.
const MAX_PREDS: u64 = 1 << 20;
/// Steps that finding the order of a change's marks may take.
const MAX_STEPS: u32 = 1 << 22;
/// Where a counter may begin, and by how much one operation may move it: so none leaves 64 bits, whatever a document
/// holds. (automerge sums them unchecked.)
const MAX_COUNTER: u64 = 1 << 53;
const MAX_INCREMENT: u64 = 1 << 38;
/// Times beyond JavaScript's whole numbers are no times.
const MAX_TIME: u64 = 1 << 53;
/// The author that a first change may name.
const MAX_AUTHOR_BYTES: u64 = 1024;
const AUTHOR_FOOTER: u8 = 1;

/// The rule that a change broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// A short word: `seq`, `ops`, `encoding`, `reference`, `size`, `dependency`, ….
    pub code: &'static str,
    /// One sentence.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

fn encoding(why: &'static str) -> Refusal {
    Refusal::new("encoding", why)
}

fn reference(why: &'static str) -> Refusal {
    Refusal::new("reference", why)
}

/// What the check found out of a change that passed.
pub(super) struct Passed {
    /// How many operations it holds.
    pub(super) ops: u64,
    /// What is before it, where that is worth keeping.
    pub(super) before: Option<Box<Ancestry>>,
}

/// Checks a change whose deps are all in the graph, and indexes its operations.
pub(super) fn check(graph: &mut ChangeGraph, change: &ParsedChange, deps: &[u32]) -> Result<Passed, Refusal> {
    check_header(graph, change)?;
    let (before, keep) =
        if change.deps == graph.heads { (Ancestry::everything(), false) } else { graph.ancestry(deps) };
    if let Some(previous) = graph.actor_changes(&change.actor).last()
        && !before.holds(*previous, &graph.nodes[*previous as usize])
    {
        return Err(Refusal::new("seq", "its actor's previous change is not before it"));
    }
    let mut columns = Columns::read(change.columns()).map_err(encoding)?;
    check_counters(graph, change, deps, columns.ops())?;
    check_footer(change, columns.footer)?;
    build_index(graph)?;
    index_ops(graph, change, &before, &mut columns)?;
    Ok(Passed { ops: columns.ops(), before: keep.then(|| Box::new(before)) })
}

fn check_header(graph: &ChangeGraph, change: &ParsedChange) -> Result<(), Refusal> {
    let expected = graph.actor_changes(&change.actor).len() as u64 + 1;
    if change.seq != expected {
        let message = format!("it is its actor's change {expected} here, but says {}", change.seq);
        return Err(Refusal::new("seq", message));
    }
    if !change.deps.is_sorted_by(|a, b| a < b) {
        return Err(encoding("its deps are not in order"));
    }
    if !change.others.is_sorted_by(|a, b| a < b) || change.others.contains(&change.actor) {
        return Err(encoding("its actors are not in order"));
    }
    if change.time.unsigned_abs() > MAX_TIME {
        return Err(encoding("its time is none"));
    }
    Ok(())
}

fn check_counters(graph: &ChangeGraph, change: &ParsedChange, deps: &[u32], ops: u64) -> Result<(), Refusal> {
    let highest = deps.iter().map(|dep| graph.nodes[*dep as usize].max_op()).max().unwrap_or(0);
    let Some(gap) = change.start_op.checked_sub(highest + 1) else {
        return Err(Refusal::new("ops", "its operations are numbered below what it depends on"));
    };
    if gap > if ops == 0 { 0 } else { MAX_GAP } || graph.gaps + gap > MAX_GAPS {
        return Err(Refusal::new("ops", "its operations are numbered far beyond what it depends on"));
    }
    if graph.ops + ops > MAX_DOCUMENT_OPS {
        return Err(Refusal::new("size", "the document holds as many operations as it may"));
    }
    Ok(())
}

fn check_footer(change: &ParsedChange, footer: &[u8]) -> Result<(), Refusal> {
    if footer.is_empty() {
        return Ok(());
    }
    let mut reader = crate::sync::message::Reader::new(footer);
    let is_author = reader.take(1).is_ok_and(|kind| kind == [AUTHOR_FOOTER])
        && reader.prefixed().is_ok_and(|author| author.len() as u64 <= MAX_AUTHOR_BYTES)
        && reader.is_empty();
    if is_author && change.seq == 1 { Ok(()) } else { Err(encoding("something follows its columns")) }
}

/// Indexes the changes that were loaded, unless they are.
fn build_index(graph: &mut ChangeGraph) -> Result<(), Refusal> {
    for at in graph.index.changes()..graph.nodes.len() {
        let broken = |why: String| Refusal::new("index", format!("a stored change can't be indexed: {why}"));
        let change = ParsedChange::parse(graph.nodes[at].bytes.clone()).map_err(|error| broken(error.to_string()))?;
        let mut columns = Columns::read(change.columns()).map_err(|why| broken(why.to_owned()))?;
        // It has passed when it was stored: what it names is before it.
        index_ops(graph, &change, &Ancestry::everything(), &mut columns).map_err(|error| broken(error.to_string()))?;
    }
    Ok(())
}

/// Checks a change's operations and adds them to the index, as its next change's.
fn index_ops(
    graph: &mut ChangeGraph,
    change: &ParsedChange,
    before: &Ancestry,
    columns: &mut Columns<'_>,
) -> Result<(), Refusal> {
    let (first, names) = (graph.index.len(), graph.index.names());
    let actors = std::iter::once(&change.actor)
        .chain(&change.others)
        .map(|actor| graph.actor_numbers.get(actor).copied())
        .collect::<Vec<_>>();
    let mut operations = Operations {
        used: vec![false; actors.len()],
        actors,
        graph,
        change,
        before,
        first,
        preds: 0,
        steps: 0,
        open_mark: None,
    };
    let result = operations.check(columns);
    match result {
        Ok(()) => graph.index.close_change(first),
        Err(_) => graph.index.drop_change(first, names),
    }
    result
}

/// The operations of one change, while they are checked.
struct Operations<'a> {
    graph: &'a mut ChangeGraph,
    change: &'a ParsedChange,
    before: &'a Ancestry,
    /// The graph's numbers of the change's actors; the author's, and any other's, may be new.
    actors: Vec<Option<u32>>,
    used: Vec<bool>,
    first: u32,
    preds: u64,
    steps: u32,
    /// A mark that has begun, and its object: the next operation ends it.
    open_mark: Option<(u32, u32)>,
}

impl Operations<'_> {
    fn check(&mut self, columns: &mut Columns<'_>) -> Result<(), Refusal> {
        for _ in 0..columns.ops() {
            let op = columns.next_op().map_err(encoding)?;
            self.check_op(&op, columns)?;
        }
        columns.finish().map_err(encoding)?;
        if self.open_mark.is_some() {
            return Err(reference("a mark has no end"));
        }
        if self.used.iter().skip(1).any(|used| !used) {
            return Err(encoding("it names an actor that no operation uses"));
        }
        Ok(())
    }

    fn check_op(&mut self, op: &Op<'_>, columns: &mut Columns<'_>) -> Result<(), Refusal> {
        check_fields(op)?;
        let object = match op.object {
            None => NONE,
            Some(id) => self.resolve(id)?,
        };
        let kind = if object == NONE { columns::MAKE_MAP } else { self.graph.index.action(object) };
        let key = match (kind, op.key) {
            (columns::MAKE_MAP, Key::Map(name)) if !op.insert && !name.is_empty() => self.graph.index.name(name),
            (columns::MAKE_LIST | columns::MAKE_TEXT, Key::Head) if op.insert => NONE,
            (columns::MAKE_LIST | columns::MAKE_TEXT, Key::Element(id)) => {
                let element = self.resolve(id)?;
                if !self.graph.index.is_insert(element) || self.graph.index.object(element) != object {
                    return Err(reference("an element is not one of its object"));
                }
                element
            }
            (columns::MAKE_MAP | columns::MAKE_LIST | columns::MAKE_TEXT, _) => {
                return Err(reference("a key doesn't fit its object"));
            }
            _ => return Err(reference("an object was never made")),
        };
        self.check_preds(op, object, key, columns)?;
        if op.action == columns::MARK && kind != columns::MAKE_TEXT {
            return Err(reference("a mark is not in a text"));
        }
        // Two values of one element of a text, of which the lower goes: automerge 0.12 panics making the patch (`expose`
        // in its `change/batch.rs`). Nobody needs them: a text is spliced.
        if kind == columns::MAKE_TEXT && !op.insert && op.action != columns::DELETE {
            return Err(Refusal::new("text", "an element of a text is overwritten, not spliced"));
        }
        let number = self.graph.index.push(op.action, op.insert, object, key);
        self.check_mark(op, number, object)
    }

    fn check_preds(&mut self, op: &Op<'_>, object: u32, key: u32, columns: &mut Columns<'_>) -> Result<(), Refusal> {
        self.preds = self.preds.saturating_add(op.preds);
        if self.preds > MAX_PREDS {
            return Err(Refusal::new("size", "its operations name too many predecessors"));
        }
        let writes_element = !op.insert && matches!(op.key, Key::Element(_));
        let needs_one = writes_element || matches!(op.action, columns::DELETE | columns::INCREMENT);
        if op.insert && op.preds > 0 || needs_one && op.preds == 0 {
            return Err(reference("an operation has predecessors that it can't have, or lacks them"));
        }
        let mut last: Option<Id> = None;
        for _ in 0..op.preds {
            let id = columns.pred().map_err(encoding)?;
            let pred = self.resolve(id)?;
            if last.is_some_and(|last| self.order(last) >= self.order(id)) {
                return Err(encoding("predecessors are not in order"));
            }
            last = Some(id);
            let index = &self.graph.index;
            if index.action(pred) == columns::DELETE || index.object(pred) != object || index.place(pred) != key {
                return Err(reference("a predecessor wrote elsewhere, or is a deletion"));
            }
        }
        Ok(())
    }

    fn check_mark(&mut self, op: &Op<'_>, number: u32, object: u32) -> Result<(), Refusal> {
        let ends = op.action == columns::MARK && op.mark_name.is_none();
        match self.open_mark.take() {
            Some((begin, of)) if ends && of == object => {
                if self.is_before(begin, number)? {
                    Ok(())
                } else {
                    Err(reference("a mark ends before it begins"))
                }
            }
            None if !ends => {
                if op.action == columns::MARK {
                    self.open_mark = Some((number, object));
                }
                Ok(())
            }
            _ => Err(reference("a mark's beginning and end are apart")),
        }
    }

    /// The number of the operation that an id names: of this change, if it came earlier, or of one before it.
    fn resolve(&mut self, id: Id) -> Result<u32, Refusal> {
        let missing = || reference("it names an operation that is not before it");
        let actor = usize::try_from(id.actor).map_err(|_| missing())?;
        *self.used.get_mut(actor).ok_or_else(missing)? = true;
        if actor == 0 && id.counter >= self.change.start_op {
            let number = u64::from(self.first) + (id.counter - self.change.start_op);
            return if number < u64::from(self.graph.index.len()) { Ok(number as u32) } else { Err(missing()) };
        }
        let changes = &self.graph.actors[self.actors[actor].ok_or_else(missing)? as usize].changes;
        let nodes = &self.graph.nodes;
        let at = changes.partition_point(|at| nodes[*at as usize].start_op <= id.counter);
        let at = *changes.get(at.wrapping_sub(1)).ok_or_else(missing)?;
        let node: &Node = &nodes[at as usize];
        let offset = id.counter - node.start_op;
        if offset >= node.ops || !self.before.holds(at, node) || at as usize >= self.graph.index.changes() {
            return Err(missing());
        }
        Ok(self.graph.index.first(at) + offset as u32)
    }

    /// Ids are ordered by counter, then by actor.
    fn order(&self, id: Id) -> (u64, &[u8]) {
        let actor = match id.actor {
            0 => &self.change.actor,
            other => &self.change.others[other as usize - 1],
        };
        (id.counter, actor.to_bytes())
    }

    /// Whether an element comes before another of the same object, in document order. Elements form a tree: each hangs
    /// on the one that it was put behind, and of those behind the same one, the one with the highest id comes first.
    fn is_before(&mut self, one: u32, other: u32) -> Result<bool, Refusal> {
        let (mut x, mut y) = (one, other);
        let (mut under_x, mut under_y) = (None, None);
        // A parent has a lower number than its children; the head has the lowest.
        let height = |op: u32| if op == NONE { -1 } else { i64::from(op) };
        while x != y {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(Refusal::new("size", "its marks take too long to place"));
            }
            if height(x) > height(y) {
                under_x = Some(x);
                x = self.graph.index.key(x);
            } else {
                under_y = Some(y);
                y = self.graph.index.key(y);
            }
        }
        Ok(match (under_x, under_y) {
            (Some(x), Some(y)) => self.id_of(x) > self.id_of(y),
            (None, Some(_)) => true,
            _ => false,
        })
    }

    fn id_of(&self, op: u32) -> (u64, &[u8]) {
        if op >= self.first {
            return (self.change.start_op + u64::from(op - self.first), self.change.actor.to_bytes());
        }
        let change = self.graph.index.change_of(op);
        let node = &self.graph.nodes[change];
        let offset = u64::from(op - self.graph.index.first(change as u32));
        (node.start_op + offset, self.graph.actors[node.actor as usize].id.to_bytes())
    }
}

/// The fields of an operation that stand for themselves: no value, name or expand flag where none belongs.
fn check_fields(op: &Op<'_>) -> Result<(), Refusal> {
    const NULL: u8 = 0;
    const SIGNED: u8 = 4;
    const COUNTER: u8 = 8;
    let plain = !op.expand && op.mark_name.is_none();
    let fits = match op.action {
        columns::MAKE_MAP | columns::MAKE_LIST | columns::MAKE_TEXT => plain && op.value_type == NULL,
        columns::SET => plain,
        columns::DELETE => plain && op.value_type == NULL && !op.insert,
        columns::INCREMENT => plain && op.value_type == SIGNED && !op.insert,
        columns::MARK => op.insert && (op.mark_name.is_some() || op.value_type == NULL),
        _ => return Err(encoding("an operation of an unknown kind")),
    };
    if !fits {
        return Err(encoding("an operation has a field that it can't have"));
    }
    if op.value_type == COUNTER && op.number.unsigned_abs() > MAX_COUNTER
        || op.action == columns::INCREMENT && op.number.unsigned_abs() > MAX_INCREMENT
    {
        return Err(Refusal::new("size", "a counter is beyond all counting"));
    }
    Ok(())
}
