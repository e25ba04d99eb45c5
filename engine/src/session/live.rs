//! A session kept as plain data beside its document: of each change, only the messages, runs and requests that it wrote
//! in are read again.
//!
//! Changes flow in (as they were applied), then the document as it is after them. What a change means is taken from its
//! operations: each names the object that it writes in, and the document knows where that object stands.
//!
//! Invariant: [`Live::session`] is what [`super::read::session`] gives for the same document. Whatever can't be followed
//! (conflicting containers, deleted elements, changes that were not told) is read anew from the beginning.

use std::collections::BTreeSet;

use automerge::legacy::{Key, ObjectId, OpType};
use automerge::{Automerge, Change, ObjId, ObjType, Prop, ReadDoc};

use super::hash::{HashMap, HashSet};
use super::model::{Run, Session};
use super::read::{self, Faults, FaultsByPlace};
use super::tree::{self, Slot};
use crate::ids::{ActorId, ChangeHash, Epoch};

/// Writes that wait to be followed. Beyond that, reading everything is no more work.
const MAX_WRITES: usize = 4096;
/// The containers whose elements are read one by one.
const CONTAINERS: [&str; 3] = ["messages", "runs", "requests"];

/// See the module.
#[derive(Debug)]
pub(crate) struct Live {
    session: Session,
    faults: FaultsByPlace,
    stamps: Stamps,
    /// Where messages, runs and requests stand; `None`: in no one place, so that nothing can be followed.
    places: Option<Places>,
    /// Elements of the list of messages, and those of them that are no messages.
    elements: usize,
    skipped: Vec<usize>,
    /// Heads that the document has once what was told is in it.
    heads: BTreeSet<ChangeHash>,
    /// What changes wrote that aren't read yet; `None`: not all of it is known.
    writes: Option<Vec<Write>>,
    /// How often everything was read.
    readings: u64,
}

#[derive(Debug)]
struct Places {
    messages: Option<ObjId>,
    runs: Option<ObjId>,
    requests: Option<ObjId>,
}

/// An operation on an object that was there before its change.
#[derive(Debug)]
struct Write {
    object: ObjId,
    /// In a map.
    key: Option<String>,
    /// It inserts an element that is a map of this id.
    inserted: Option<ObjId>,
}

/// Versions of what was read: two equal stamps of one document stand for equal contents.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    last: u64,
    /// By message, as in [`Session::messages`].
    messages: Vec<u64>,
    /// By turn and epoch; of all values of a key together.
    runs: HashMap<String, Vec<(Epoch, u64)>>,
}

impl Stamps {
    /// Of a message, by its index in the session.
    pub(crate) fn message(&self, index: usize) -> u64 {
        self.messages.get(index).copied().unwrap_or_default()
    }

    /// Of all values of a run's key.
    pub(crate) fn run(&self, turn: &str, epoch: Epoch) -> u64 {
        let claims = self.runs.get(turn).map_or(&[][..], Vec::as_slice);
        claims.iter().find(|(known, _)| *known == epoch).map_or(0, |(_, stamp)| *stamp)
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn set_run(&mut self, values: &[Run], stamp: u64) {
        let Some(run) = values.first() else { return };
        let claims = self.runs.entry(run.turn.clone()).or_default();
        claims.retain(|(known, _)| *known != run.epoch);
        claims.push((run.epoch, stamp));
    }

    /// Of a session that was read anew: what is as it was keeps its stamp.
    fn renew(&mut self, old: &Session, new: &Session) {
        let known = std::mem::take(self);
        self.last = known.last;
        for (index, message) in new.messages.iter().enumerate() {
            let same = old.messages.get(index) == Some(message);
            let stamp = if same { known.message(index) } else { self.next() };
            self.messages.push(stamp);
        }
        for (key, values) in &new.runs {
            let same = values.first().filter(|_| old.runs.get(key) == Some(values));
            let stamp = same.map(|run| known.run(&run.turn, run.epoch));
            let stamp = stamp.unwrap_or_else(|| self.next());
            self.set_run(values, stamp);
        }
    }
}

/// What must be read again.
#[derive(Default)]
struct Stale {
    head: bool,
    messages: BTreeSet<usize>,
    inserted: BTreeSet<usize>,
    runs: BTreeSet<String>,
    requests: BTreeSet<String>,
}

/// It can't be told what a change did: read everything.
struct Lost;

impl Live {
    /// Reads a document.
    pub(crate) fn new(document: &Automerge) -> Self {
        let mut live = Self {
            session: Session::default(),
            faults: FaultsByPlace::default(),
            stamps: Stamps::default(),
            places: None,
            elements: 0,
            skipped: Vec::new(),
            heads: BTreeSet::new(),
            writes: None,
            readings: 0,
        };
        live.read(document);
        live
    }

    /// The document as of the last [`Live::catch_up`].
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Versions of what is in it.
    pub(crate) fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// This change is in the document now. In the order of application, or everything is read again.
    pub(crate) fn told(&mut self, change: &Change) {
        for dep in change.deps() {
            self.heads.remove(dep);
        }
        self.heads.insert(change.hash());
        if self.places.is_none() {
            self.writes = None;
        }
        let Some(writes) = &mut self.writes else { return };
        let change = change.decode();
        let mut made = HashSet::default();
        for (counter, operation) in (change.start_op.get()..).zip(&change.operations) {
            let object = match &operation.obj {
                ObjectId::Root => ObjId::Root,
                ObjectId::Id(id) => object(id.counter(), id.actor()),
            };
            let makes = matches!(operation.action, OpType::Make(_));
            // What stands in an object of the same change is read with that object.
            if !made.contains(&object) {
                let key = match &operation.key {
                    Key::Map(key) => Some(key.to_string()),
                    Key::Seq(_) => None,
                };
                let inserts = operation.insert && operation.action == OpType::Make(ObjType::Map);
                let inserted = inserts.then(|| self::object(counter, &change.actor_id));
                writes.push(Write { object, key, inserted });
            }
            if makes {
                made.insert(self::object(counter, &change.actor_id));
            }
        }
        if writes.len() > MAX_WRITES {
            self.writes = None;
        }
    }

    /// Reads what was told. Whether anything has changed.
    pub(crate) fn catch_up(&mut self, document: &Automerge) -> bool {
        let told = self.heads.iter().copied().collect::<Vec<_>>() == document.get_heads();
        match self.writes.take() {
            Some(writes) if told && writes.is_empty() => {
                self.writes = Some(writes);
                return false;
            }
            Some(writes) if told => {
                let followed = self.stale(document, &writes).and_then(|stale| self.follow(document, stale));
                if followed.is_ok() {
                    self.writes = Some(Vec::new());
                    return true;
                }
            }
            _ => {}
        }
        self.read(document);
        true
    }

    /// Reads everything.
    fn read(&mut self, document: &Automerge) {
        self.readings += 1;
        let tree = tree::read(document);
        let (session, faults) = read::whole(&tree);
        self.stamps.renew(&self.session, &session);
        let root = Slot::root(&tree);
        let of = |key, kind| root.field(key).only(kind).map_err(|()| Lost);
        let places = || {
            let messages = of("messages", ObjType::List)?;
            Ok::<_, Lost>(Places { messages, runs: of("runs", ObjType::Map)?, requests: of("requests", ObjType::Map)? })
        };
        self.places = places().ok().filter(|_| !faults.cut);
        self.elements = root.field("messages").elements().count();
        self.skipped.clear();
        if self.elements != session.messages.len() {
            let is_message = |index, slot| read::message(index, slot, |_| false, &mut Faults::default()).is_some();
            let elements = root.field("messages").elements().enumerate();
            self.skipped =
                elements.filter(|(index, slot)| !is_message(*index, *slot)).map(|(index, _)| index).collect();
        }
        self.session = session;
        self.faults = faults;
        self.heads = document.get_heads().into_iter().collect();
        self.writes = Some(Vec::new());
    }

    /// Where these writes are.
    fn stale(&self, document: &Automerge, writes: &[Write]) -> Result<Stale, Lost> {
        let places = self.places.as_ref().ok_or(Lost)?;
        let mut stale = Stale::default();
        let mut seen = HashSet::default();
        for Write { object, key, inserted } in writes {
            let object = Some(object);
            match key {
                Some(key) if object == Some(&ObjId::Root) => {
                    if CONTAINERS.contains(&key.as_str()) {
                        return Err(Lost);
                    }
                    stale.head = true;
                    continue;
                }
                Some(key) if object == places.runs.as_ref() => {
                    stale.runs.insert(key.clone());
                    continue;
                }
                Some(key) if object == places.requests.as_ref() => {
                    stale.requests.insert(key.clone());
                    continue;
                }
                None if object == places.messages.as_ref() => {
                    // Whatever else is done to a list of messages, no client of ours does.
                    let made = inserted.as_ref().ok_or(Lost)?;
                    match document.parents(made).map_err(|_| Lost)?.next().map(|parent| parent.prop) {
                        Some(Prop::Seq(index)) => stale.inserted.insert(index),
                        _ => return Err(Lost),
                    };
                    continue;
                }
                _ => {}
            }
            if let Some(object) = object.filter(|object| seen.insert(*object)) {
                self.owner(document, places, object, &mut stale)?;
            }
        }
        stale.messages.retain(|index| !stale.inserted.contains(index));
        let much = stale.messages.len() + stale.inserted.len() + stale.runs.len() + stale.requests.len();
        // Reading one by one costs more an element than reading them all.
        if much > 64 + self.elements / 8 { Err(Lost) } else { Ok(stale) }
    }

    /// Which message, run or request an object is in.
    fn owner(&self, document: &Automerge, places: &Places, object: &ObjId, stale: &mut Stale) -> Result<(), Lost> {
        let mut path: Vec<(ObjId, Prop)> =
            document.parents(object).map_err(|_| Lost)?.map(|parent| (parent.obj, parent.prop)).collect();
        let Some((_, Prop::Map(key))) = path.pop() else { return Err(Lost) };
        if !CONTAINERS.contains(&key.as_str()) {
            stale.head = true;
            return Ok(());
        }
        match path.pop() {
            Some((list, Prop::Seq(index))) if Some(&list) == places.messages.as_ref() => {
                stale.messages.insert(index);
            }
            Some((map, Prop::Map(key))) if Some(&map) == places.runs.as_ref() => {
                stale.runs.insert(key);
            }
            Some((map, Prop::Map(key))) if Some(&map) == places.requests.as_ref() => {
                stale.requests.insert(key);
            }
            _ => return Err(Lost),
        }
        Ok(())
    }

    fn follow(&mut self, document: &Automerge, stale: Stale) -> Result<(), Lost> {
        let places = self.places.take().ok_or(Lost)?;
        let mut faults = false;
        if let Some(list) = &places.messages {
            if document.length(list) != self.elements + stale.inserted.len() {
                return Err(Lost);
            }
            for index in stale.inserted {
                faults |= self.insert(document, list, index)?;
            }
            for index in stale.messages {
                faults |= self.replace(document, list, index)?;
            }
        }
        if let Some(map) = &places.runs {
            for key in stale.runs {
                faults |= self.run(document, map, key);
            }
        }
        if let Some(map) = &places.requests {
            for id in stale.requests {
                faults |= self.request(document, map, id);
            }
        }
        if stale.head {
            let root = tree::root_without(document, &CONTAINERS);
            let old = std::mem::take(&mut self.session);
            let Session { messages, runs, requests, faults: known, .. } = old;
            let head = read::head(Slot::root(&root));
            faults |= head.faults != self.faults.head;
            self.faults.head = head.faults.clone();
            self.session = Session { messages, runs, requests, faults: known, ..head };
        }
        if faults {
            self.session.faults = self.faults.words();
        }
        self.places = Some(places);
        // Too many faults to keep apart.
        if self.faults.cut { Err(Lost) } else { Ok(()) }
    }

    /// A new element of the list of messages. Whether faults have changed.
    fn insert(&mut self, document: &Automerge, list: &ObjId, index: usize) -> Result<bool, Lost> {
        let appended = index == self.elements;
        // What is known by its index would have to move.
        let movable = self.skipped.is_empty() && self.faults.messages.is_empty();
        if index > self.elements || !(appended || movable) {
            return Err(Lost);
        }
        let nodes = tree::element(document, list, index);
        let slot = Slot::of_element(&nodes);
        if slot.field("id").text().is_some_and(|id| self.session.messages.iter().any(|known| known.id == id)) {
            return Err(Lost);
        }
        let mut noted = Faults::default();
        let message = read::message(index, slot, |_| false, &mut noted);
        if !appended && (message.is_none() || !noted.0.is_empty()) {
            return Err(Lost);
        }
        self.elements += 1;
        match message {
            Some(message) => {
                let stamp = self.stamps.next();
                let at = if appended { self.session.messages.len() } else { index };
                self.session.messages.insert(at, message);
                self.stamps.messages.insert(at, stamp);
            }
            None => self.skipped.push(index),
        }
        Ok(self.faults.put(|faults| &mut faults.messages, index, noted))
    }

    /// An element that was there before. Whether faults have changed.
    fn replace(&mut self, document: &Automerge, list: &ObjId, index: usize) -> Result<bool, Lost> {
        let Err(skipped) = self.skipped.binary_search(&index) else { return Err(Lost) };
        let at = index - skipped;
        let nodes = tree::element(document, list, index);
        let mut noted = Faults::default();
        let earlier = self.session.messages.get(..at).ok_or(Lost)?;
        let taken = |id: &str| earlier.iter().any(|known| known.id == id);
        let message = read::message(index, Slot::of_element(&nodes), taken, &mut noted).ok_or(Lost)?;
        let stamp = self.stamps.next();
        let known = self.session.messages.get_mut(at).filter(|known| known.id == message.id).ok_or(Lost)?;
        *known = message;
        self.stamps.messages[at] = stamp;
        Ok(self.faults.put(|faults| &mut faults.messages, index, noted))
    }

    fn run(&mut self, document: &Automerge, map: &ObjId, key: String) -> bool {
        let entries = tree::entry(document, map, &key);
        let mut noted = Faults::default();
        let values =
            if entries.is_empty() { Vec::new() } else { read::runs_of(&key, Slot::of_entry(&entries), &mut noted) };
        if values.is_empty() {
            self.session.runs.remove(&key);
        } else {
            let stamp = self.stamps.next();
            self.stamps.set_run(&values, stamp);
            self.session.runs.insert(key.clone(), values);
        }
        self.faults.put(|faults| &mut faults.runs, key, noted)
    }

    fn request(&mut self, document: &Automerge, map: &ObjId, id: String) -> bool {
        let entries = tree::entry(document, map, &id);
        let mut noted = Faults::default();
        let read = if entries.is_empty() { None } else { read::request(&id, Slot::of_entry(&entries), &mut noted) };
        match read {
            Some(request) => _ = self.session.requests.insert(id.clone(), request),
            None => _ = self.session.requests.remove(&id),
        }
        self.faults.put(|faults| &mut faults.requests, id, noted)
    }
}

fn object(counter: u64, actor: &ActorId) -> ObjId {
    // The last is where to look for the actor first.
    ObjId::Id(counter, actor.clone(), 0)
}

#[cfg(test)]
mod tests {
    use automerge::transaction::{Transactable, Transaction};
    use automerge::{AutomergeError, ROOT};

    use super::*;
    use crate::ids::{Timestamp, random_actor};
    use crate::session::command::{self, Given, NewSession};
    use crate::session::model::{Part, PartKind, RunState};
    use crate::session::{read, write};

    fn run(turn: &str) -> Run {
        Run::new(turn, Epoch(1), vec![turn.to_owned()])
    }

    struct Followed {
        document: Automerge,
        live: Live,
    }

    impl Followed {
        fn new() -> Self {
            let mut document = Automerge::new().with_actor(random_actor());
            let given = Given { by: "someone", at: Timestamp(1), id: None };
            let mut tx = document.transaction();
            command::create(&mut tx, &NewSession { message: Some("Hello".into()), ..NewSession::default() }, &given)
                .expect("an empty document takes a session");
            tx.commit();
            let live = Live::new(&document);
            Self { document, live }
        }

        /// Writes, tells, and compares. How often everything was read for that.
        fn write<T>(&mut self, write: impl FnOnce(&mut Transaction<'_>) -> Result<T, AutomergeError>) -> (T, u64) {
            let mut tx = self.document.transaction();
            let value = write(&mut tx).expect("the document takes it");
            tx.commit();
            let change = self.document.get_last_local_change().expect("a change was made");
            self.live.told(&change);
            let before = self.live.readings;
            assert!(self.live.catch_up(&self.document));
            assert_eq!(*self.live.session(), read::session(&self.document));
            (value, self.live.readings - before)
        }
    }

    #[test]
    fn a_turn_is_followed_without_reading_the_document_again() {
        let mut followed = Followed::new();
        let run = run(&followed.live.session().messages[0].id);
        let text = Part { kind: PartKind::Text("One".into()), provider: None };
        let ((), readings) = followed.write(|tx| write::begin_run(tx, &run));
        assert_eq!(readings, 0);
        let (message, readings) = followed.write(|tx| write::begin_message(tx, &run, "agent", Timestamp(2)));
        assert_eq!(readings, 0);
        let (_, readings) = followed.write(|tx| write::push_part(tx, &message, &text));
        assert_eq!(readings, 0);
        let ((), readings) = followed.write(|tx| write::push_chunk(tx, &message, 0, " two"));
        assert_eq!(readings, 0);
        let end = Timestamp(3);
        let ((), readings) = followed.write(|tx| write::end_run(tx, &run.key(), RunState::Completed, "end", None, end));
        assert_eq!(readings, 0);
        let ((), readings) = followed.write(|tx| tx.put(ROOT, "archivedAt", 5));
        assert_eq!(readings, 0);
        assert_eq!(followed.live.session().messages.len(), 2);
    }

    #[test]
    fn what_cant_be_followed_is_read_again() {
        let mut followed = Followed::new();
        let (_, messages) = followed.document.get(ROOT, "messages").expect("it is there").expect("it is there");
        assert_eq!(followed.write(|tx| tx.delete(&messages, 0)).1, 1, "a deleted element");
        assert_eq!(followed.write(|tx| tx.put_object(ROOT, "runs", ObjType::Map)).1, 1, "another container");
        assert_eq!(followed.write(|tx| tx.put(ROOT, "requests", 5)).1, 1, "no container");
        assert_eq!(followed.write(|tx| tx.put(ROOT, "archivedAt", 5)).1, 1, "there is nothing to follow in it");
    }

    #[test]
    fn a_change_that_was_not_told_is_found() {
        let mut followed = Followed::new();
        let mut tx = followed.document.transaction();
        tx.put(ROOT, "archivedAt", 5).expect("the document takes it");
        tx.commit();
        assert!(followed.live.catch_up(&followed.document));
        assert_eq!(*followed.live.session(), read::session(&followed.document));
        assert!(!followed.live.catch_up(&followed.document), "nothing has changed since");
    }
}
