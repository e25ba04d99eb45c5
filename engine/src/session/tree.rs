//! A document as a tree of plain values, each with the operation that wrote it: what readers walk instead of the
//! document itself. Both kinds of string are one, numbers are as JavaScript left them, conflicting values stand side by
//! side, and every accessor folds or chooses among them in the same way on every replica.
//!
//! Invariant: any document gives a tree; its depth is bounded, whatever was nested.

use std::borrow::Cow;
use std::collections::BTreeSet;

use automerge::{Automerge, ObjId, ObjType, ReadDoc, ScalarValueRef, ValueRef};

use crate::ids::{ActorId, Timestamp};

/// Deeper containers are read as [`Value::Other`]; our own shapes have at most six levels.
const MAX_DEPTH: usize = 12;

/// A value, and the operation that put it there.
#[derive(Debug)]
pub(crate) struct Node {
    /// `counter@actor`: the same on every replica, unique in the document.
    pub id: ObjId,
    /// What it is.
    pub value: Value,
}

/// A value of a document.
#[derive(Debug)]
pub(crate) enum Value {
    /// A map's entries by key; the values of a conflicting key are adjacent, the winner last.
    Map(Vec<(String, Node)>),
    /// A list's elements; of a conflicting element, all values, the winner last.
    List(Vec<Vec<Node>>),
    /// A scalar string or a `Text`; with everyone who wrote letters of a `Text`.
    Text(String, BTreeSet<ActorId>),
    /// Any number without a fraction.
    Int(i64),
    /// A number with a fraction, or beyond what JavaScript counts exactly.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Null, bytes, what is too deep, what this version doesn't know.
    Other,
}

/// The whole document.
pub(crate) fn read(document: &Automerge) -> Node {
    let value = Value::Map(map(document, &ObjId::Root, 0));
    Node { id: ObjId::Root, value }
}

fn map(document: &Automerge, object: &ObjId, depth: usize) -> Vec<(String, Node)> {
    let mut entries = Vec::new();
    for item in document.map_range(object, ..) {
        if item.conflict {
            let all = document.get_all(object, item.key.as_ref()).unwrap_or_default();
            for (value, id) in all {
                let value = owned(document, value, &id, depth);
                entries.push((item.key.to_string(), Node { id, value }));
            }
        } else {
            let id = item.id();
            let value = borrowed(document, item.value, &id, depth);
            entries.push((item.key.into_owned(), Node { id, value }));
        }
    }
    entries
}

fn list(document: &Automerge, object: &ObjId, depth: usize) -> Vec<Vec<Node>> {
    let mut elements = Vec::new();
    for item in document.list_range(object, ..) {
        if item.conflict {
            let all = document.get_all(object, item.index).unwrap_or_default();
            let nodes = all.into_iter().map(|(value, id)| {
                let value = owned(document, value, &id, depth);
                Node { id, value }
            });
            elements.push(nodes.collect());
        } else {
            let id = item.id();
            let value = borrowed(document, item.value, &id, depth);
            elements.push(vec![Node { id, value }]);
        }
    }
    elements
}

fn container(document: &Automerge, kind: ObjType, id: &ObjId, depth: usize) -> Value {
    match kind {
        ObjType::Text => {
            let text = document.text(id).unwrap_or_default();
            let writers = document.list_range(id, ..).filter_map(|item| actor(&item.id())).collect();
            Value::Text(text, writers)
        }
        _ if depth >= MAX_DEPTH => Value::Other,
        ObjType::Map | ObjType::Table => Value::Map(map(document, id, depth + 1)),
        ObjType::List => Value::List(list(document, id, depth + 1)),
    }
}

fn borrowed(document: &Automerge, value: ValueRef<'_>, id: &ObjId, depth: usize) -> Value {
    match value {
        ValueRef::Object(kind) => container(document, kind, id, depth),
        ValueRef::Scalar(scalar) => match scalar {
            ScalarValueRef::Str(text) => Value::Text(Cow::into_owned(text), BTreeSet::new()),
            ScalarValueRef::Int(n) | ScalarValueRef::Counter(n) | ScalarValueRef::Timestamp(n) => Value::Int(n),
            ScalarValueRef::Uint(n) => i64::try_from(n).map_or(Value::Other, Value::Int),
            ScalarValueRef::F64(n) => whole(n),
            ScalarValueRef::Boolean(yes) => Value::Bool(yes),
            _ => Value::Other,
        },
    }
}

fn owned(document: &Automerge, value: automerge::Value<'_>, id: &ObjId, depth: usize) -> Value {
    use automerge::ScalarValue;
    match value {
        automerge::Value::Object(kind) => container(document, kind, id, depth),
        automerge::Value::Scalar(scalar) => match scalar.as_ref() {
            ScalarValue::Str(text) => Value::Text(text.to_string(), BTreeSet::new()),
            ScalarValue::Int(n) | ScalarValue::Timestamp(n) => Value::Int(*n),
            ScalarValue::Counter(n) => Value::Int(n.into()),
            ScalarValue::Uint(n) => i64::try_from(*n).map_or(Value::Other, Value::Int),
            ScalarValue::F64(n) => whole(*n),
            ScalarValue::Boolean(yes) => Value::Bool(*yes),
            _ => Value::Other,
        },
    }
}

/// JavaScript has one kind of number: one without a fraction is an integer, within what it can count exactly.
fn whole(n: f64) -> Value {
    const MAX_SAFE: f64 = 9_007_199_254_740_991.0;
    if n.fract() == 0.0 && n.abs() <= MAX_SAFE { Value::Int(n as i64) } else { Value::Float(n) }
}

fn actor(id: &ObjId) -> Option<ActorId> {
    match id {
        ObjId::Id(_, actor, _) => Some(actor.clone()),
        ObjId::Root => None,
    }
}

impl Node {
    /// Adds everyone who wrote any of this to `by`.
    pub(crate) fn writers(&self, by: &mut BTreeSet<ActorId>) {
        if let ObjId::Id(_, actor, _) = &self.id
            && !by.contains(actor)
        {
            by.insert(actor.clone());
        }
        match &self.value {
            Value::Map(entries) => entries.iter().for_each(|(_, node)| node.writers(by)),
            Value::List(elements) => elements.iter().flatten().for_each(|node| node.writers(by)),
            Value::Text(_, letters) => by.extend(letters.iter().cloned()),
            _ => {}
        }
    }
}

/// All values of one place: one, or several in conflict, the winner last. Empty: nothing there.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'a>(Values<'a>);

#[derive(Clone, Copy)]
enum Values<'a> {
    Entries(&'a [(String, Node)]),
    Element(&'a [Node]),
    One(&'a Node),
}

impl<'a> Slot<'a> {
    /// The whole document.
    pub(crate) fn root(node: &'a Node) -> Self {
        Self(Values::One(node))
    }

    /// The values, the winner last.
    pub(crate) fn nodes(self) -> impl DoubleEndedIterator<Item = &'a Node> {
        let (entries, element, one): (&[(String, Node)], &[Node], Option<&Node>) = match self.0 {
            Values::Entries(entries) => (entries, &[], None),
            Values::Element(nodes) => (&[], nodes, None),
            Values::One(node) => (&[], &[], Some(node)),
        };
        entries.iter().map(|(_, node)| node).chain(element).chain(one)
    }

    /// The winner.
    pub(crate) fn last(self) -> Option<&'a Node> {
        self.nodes().next_back()
    }

    /// Each of the values by itself.
    pub(crate) fn each(self) -> impl Iterator<Item = Slot<'a>> {
        self.nodes().map(|node| Slot(Values::One(node)))
    }

    /// Whether a map is among the values.
    pub(crate) fn is_map(self) -> bool {
        self.nodes().any(|node| matches!(node.value, Value::Map(_)))
    }

    /// A field of these maps: where several maps conflict, the winner's, or of the next that has one.
    pub(crate) fn field(self, key: &str) -> Slot<'a> {
        let found = self.nodes().rev().find_map(|node| {
            let Value::Map(entries) = &node.value else { return None };
            let start = entries.iter().position(|(k, _)| k == key)?;
            let count = entries[start..].iter().take_while(|(k, _)| k == key).count();
            Some(Slot(Values::Entries(&entries[start..start + count])))
        });
        found.unwrap_or(Slot(Values::Element(&[])))
    }

    /// The entries of all conflicting maps by key: a key that several hold comes several times.
    pub(crate) fn entries(self) -> Vec<(&'a str, Slot<'a>)> {
        let mut all = Vec::new();
        for node in self.nodes() {
            let Value::Map(entries) = &node.value else { continue };
            let mut rest = entries.as_slice();
            while let Some((key, _)) = rest.first() {
                let count = rest.iter().take_while(|(k, _)| k == key).count();
                let (same, others) = rest.split_at(count);
                all.push((key.as_str(), Slot(Values::Entries(same))));
                rest = others;
            }
        }
        all
    }

    /// The elements of all conflicting lists, one list after the other, the winner's last.
    pub(crate) fn elements(self) -> impl Iterator<Item = Slot<'a>> {
        self.nodes()
            .filter_map(|node| match &node.value {
                Value::List(elements) => Some(elements),
                _ => None,
            })
            .flatten()
            .map(|nodes| Slot(Values::Element(nodes)))
    }

    /// A string of either kind; of conflicting values the winner, if it is one.
    pub(crate) fn text(self) -> Option<&'a str> {
        match &self.last()?.value {
            Value::Text(text, _) => Some(text),
            _ => None,
        }
    }

    /// A string that isn't empty.
    pub(crate) fn word(self) -> Option<String> {
        self.text().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// A whole number.
    pub(crate) fn int(self) -> Option<i64> {
        match self.last()?.value {
            Value::Int(n) => Some(n),
            _ => None,
        }
    }

    /// A whole number that isn't negative.
    pub(crate) fn count(self) -> Option<u64> {
        self.int().and_then(|n| u64::try_from(n).ok())
    }

    /// Any finite number.
    pub(crate) fn number(self) -> Option<f64> {
        match self.last()?.value {
            Value::Int(n) => Some(n as f64),
            Value::Float(n) => Some(n).filter(|n| n.is_finite()),
            _ => None,
        }
    }

    /// A time.
    pub(crate) fn time(self) -> Option<Timestamp> {
        self.count().map(Timestamp)
    }

    /// True or false.
    pub(crate) fn bool(self) -> Option<bool> {
        match self.last()?.value {
            Value::Bool(yes) => Some(yes),
            _ => None,
        }
    }

    /// The strings of a list; a lone string counts as a list of one.
    pub(crate) fn texts(self) -> Option<Vec<String>> {
        match &self.last()?.value {
            Value::List(_) => Some(self.elements().filter_map(Slot::text).map(str::to_owned).collect()),
            Value::Text(text, _) => Some(vec![text.clone()]),
            _ => None,
        }
    }

    /// Everyone who wrote any of it.
    pub(crate) fn writers(self) -> Vec<ActorId> {
        let mut by = BTreeSet::new();
        self.nodes().for_each(|node| node.writers(&mut by));
        by.into_iter().collect()
    }

    /// The first operation among the winners of a map's fields: who made it.
    pub(crate) fn maker(self) -> Option<ActorId> {
        let Value::Map(entries) = &self.last()?.value else { return None };
        entries.iter().map(|(_, node)| &node.id).min().and_then(actor)
    }
}
