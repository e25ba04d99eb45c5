//! A document as a tree of plain values, each with the operation that wrote it: what readers walk instead of the
//! document itself. Both kinds of string are one, numbers are as JavaScript left them, conflicting values stand side by
//! side, and every accessor folds or chooses among them in the same way on every replica.
//!
//! Invariant: any document gives a tree; its depth is bounded, whatever was nested.

use std::borrow::Cow;
use std::collections::BTreeSet;

use automerge::iter::{DocItem, DocObjItem};
use automerge::{Automerge, ObjId, ObjType, ReadDoc, ScalarValueRef, ValueRef};

use super::hash::HashMap;
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
    Map(Vec<(Key, Node)>),
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

/// The whole document, in one walk over its operations: asking each container for its range takes four times as long.
pub(crate) fn read(document: &Automerge) -> Node {
    let mut walk = Walk::default();
    walk.containers.push(Container { value: Value::Map(Vec::new()), depth: 0 });
    walk.by_id.insert(ObjId::Root, 0);
    let (mut last, mut container) = (None, None);
    for DocObjItem { obj, item } in document.iter() {
        if last.as_ref() != Some(&obj) {
            container = walk.by_id.get(&*obj).copied();
            last = Some(obj);
        }
        // One that isn't known was read already, since it is in conflict, or lies too deep.
        if let Some(container) = container {
            walk.take(document, container, last.as_deref().unwrap_or(&ObjId::Root), item);
        }
    }
    Node { id: ObjId::Root, value: walk.root() }
}

/// The root, with the containers under these keys left unread.
pub(crate) fn root_without(document: &Automerge, unread: &[&str]) -> Node {
    let mut entries = Vec::new();
    for item in document.map_range(ObjId::Root, ..) {
        if unread.contains(&&*item.key) {
            entries.push((Cow::Owned(item.key.to_string()), Node { id: item.id(), value: Value::Other }));
        } else {
            entries.extend(entry_at(document, &ObjId::Root, &item.key, 0));
        }
    }
    Node { id: ObjId::Root, value: Value::Map(entries) }
}

/// The values of one key of a map, as they stand in the tree of the whole document; `map` is one of the root's.
pub(crate) fn entry(document: &Automerge, map: &ObjId, key: &str) -> Vec<(Key, Node)> {
    entry_at(document, map, key, 1)
}

fn entry_at(document: &Automerge, map: &ObjId, key: &str, depth: usize) -> Vec<(Key, Node)> {
    let all = document.get_all(map, key).unwrap_or_default();
    let nodes = all.into_iter().map(|(value, id)| {
        let value = owned(document, value, &id, depth);
        (known(key.into()), Node { id, value })
    });
    nodes.collect()
}

/// The values of one element of a list, likewise.
pub(crate) fn element(document: &Automerge, list: &ObjId, index: usize) -> Vec<Node> {
    let all = document.get_all(list, index).unwrap_or_default();
    let nodes = all.into_iter().map(|(value, id)| {
        let value = owned(document, value, &id, 1);
        Node { id, value }
    });
    nodes.collect()
}

/// Containers that have been met, each filled as the walk comes to it: parents before their children.
#[derive(Default)]
struct Walk {
    containers: Vec<Container>,
    by_id: HashMap<ObjId, usize>,
    /// Which container stands in which place of which other.
    places: Vec<Place>,
}

struct Container {
    value: Value,
    /// Of what it holds.
    depth: usize,
}

struct Place {
    parent: usize,
    slot: usize,
    child: usize,
}

impl Walk {
    fn take(&mut self, document: &Automerge, parent: usize, object: &ObjId, item: DocItem<'_>) {
        let depth = self.containers[parent].depth;
        match item {
            DocItem::Map(item) if item.conflict => {
                let Value::Map(entries) = &mut self.containers[parent].value else { return };
                let key = known(item.key);
                for (value, id) in document.get_all(object, &*key).unwrap_or_default() {
                    let value = owned(document, value, &id, depth);
                    entries.push((key.clone(), Node { id, value }));
                }
            }
            DocItem::Map(item) => {
                let id = item.id();
                let value = self.value(document, parent, item.value, &id);
                let Value::Map(entries) = &mut self.containers[parent].value else { return };
                entries.push((known(item.key), Node { id, value }));
            }
            DocItem::List(item) if item.conflict => {
                let Value::List(elements) = &mut self.containers[parent].value else { return };
                let all = document.get_all(object, item.index).unwrap_or_default();
                let nodes = all.into_iter().map(|(value, id)| {
                    let value = owned(document, value, &id, depth);
                    Node { id, value }
                });
                elements.push(nodes.collect());
            }
            DocItem::List(item) => {
                let id = item.id();
                let value = self.value(document, parent, item.value, &id);
                let Value::List(elements) = &mut self.containers[parent].value else { return };
                elements.push(vec![Node { id, value }]);
            }
            // Texts are read whole where they are met.
            DocItem::Text(_) => {}
        }
    }

    /// A value that is about to stand at the end of `parent`. A container is put there when everything is read.
    fn value(&mut self, document: &Automerge, parent: usize, value: ValueRef<'_>, id: &ObjId) -> Value {
        let depth = self.containers[parent].depth;
        let empty = match value {
            ValueRef::Object(ObjType::Map) if depth < MAX_DEPTH => Value::Map(Vec::new()),
            ValueRef::Object(ObjType::List) if depth < MAX_DEPTH => Value::List(Vec::new()),
            value => return borrowed(document, value, id, depth),
        };
        let slot = match &self.containers[parent].value {
            Value::Map(entries) => entries.len(),
            Value::List(elements) => elements.len(),
            _ => 0,
        };
        let child = self.containers.len();
        self.containers.push(Container { value: empty, depth: depth + 1 });
        self.by_id.insert(id.clone(), child);
        self.places.push(Place { parent, slot, child });
        Value::Other
    }

    fn root(mut self) -> Value {
        // Children are met after their parents, so that backwards each is full when it is put into its place.
        for Place { parent, slot, child } in self.places.into_iter().rev() {
            let value = std::mem::replace(&mut self.containers[child].value, Value::Other);
            let node = match &mut self.containers[parent].value {
                Value::Map(entries) => entries.get_mut(slot).map(|(_, node)| node),
                Value::List(elements) => elements.get_mut(slot).and_then(|nodes| nodes.last_mut()),
                _ => None,
            };
            if let Some(node) = node {
                node.value = value;
            }
        }
        std::mem::replace(&mut self.containers[0].value, Value::Other)
    }
}

/// A key of a map: those of our own shapes cost no allocation.
pub(crate) type Key = Cow<'static, str>;

fn known(key: Cow<'_, str>) -> Key {
    macro_rules! known {
        ($($name:literal)*) => {
            match &*key {
                $($name => Cow::Borrowed($name),)*
                _ => Cow::Owned(key.into_owned()),
            }
        };
    }
    known!(
        "action" "agent" "answers" "at" "author" "blob" "by" "bytes" "cacheRead" "cacheWrite" "cacheWriteLong" "callId"
        "chunks" "code" "content" "continues" "cost" "createdAt" "data" "digest" "endedAt" "epoch" "error" "estimated"
        "hides" "id" "inherited" "input" "isError" "kind" "message" "micros" "mime" "model" "n" "name" "output" "over"
        "part" "parts" "place" "preamble" "provider" "providerId" "reason" "reasoning" "reported" "request" "retryable"
        "role" "scope" "size" "startedAt" "state" "stopReason" "summary" "target" "text" "title" "turn" "type" "usage"
        "worker"
    )
}

fn map(document: &Automerge, object: &ObjId, depth: usize) -> Vec<(Key, Node)> {
    let mut entries = Vec::new();
    for item in document.map_range(object, ..) {
        if item.conflict {
            let all = document.get_all(object, item.key.as_ref()).unwrap_or_default();
            for (value, id) in all {
                let value = owned(document, value, &id, depth);
                entries.push((known(item.key.clone()), Node { id, value }));
            }
        } else {
            let id = item.id();
            let value = borrowed(document, item.value, &id, depth);
            entries.push((known(item.key), Node { id, value }));
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
    Entries(&'a [(Key, Node)]),
    Element(&'a [Node]),
    One(&'a Node),
}

impl<'a> Slot<'a> {
    /// The whole document.
    pub(crate) fn root(node: &'a Node) -> Self {
        Self(Values::One(node))
    }

    /// Of [`entry`].
    pub(crate) fn of_entry(entries: &'a [(Key, Node)]) -> Self {
        Self(Values::Entries(entries))
    }

    /// Of [`element`].
    pub(crate) fn of_element(nodes: &'a [Node]) -> Self {
        Self(Values::Element(nodes))
    }

    /// The one container that stands here, if it is of this kind; `Err`: there is something else, or more than one.
    pub(crate) fn only(self, kind: ObjType) -> Result<Option<ObjId>, ()> {
        let mut nodes = self.nodes();
        match (nodes.next(), nodes.next()) {
            (None, _) => Ok(None),
            (Some(Node { id, value: Value::Map(_) }), None) if kind == ObjType::Map => Ok(Some(id.clone())),
            (Some(Node { id, value: Value::List(_) }), None) if kind == ObjType::List => Ok(Some(id.clone())),
            _ => Err(()),
        }
    }

    /// The values, the winner last.
    pub(crate) fn nodes(self) -> impl DoubleEndedIterator<Item = &'a Node> {
        let (entries, element, one): (&[(Key, Node)], &[Node], Option<&Node>) = match self.0 {
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

    /// Whether anything stands here: a null doesn't, nor what this version can't tell from one.
    pub(crate) fn stands(self) -> bool {
        self.last().is_some_and(|node| !matches!(node.value, Value::Other))
    }

    /// Whether a list is among the values.
    pub(crate) fn is_list(self) -> bool {
        self.nodes().any(|node| matches!(node.value, Value::List(_)))
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
                all.push((&**key, Slot(Values::Entries(same))));
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
