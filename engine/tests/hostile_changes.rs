//! Changes that parse and yet could break whoever applies them: whatever passes the checks, a replica survives; and what
//! automerge's own API writes is never refused.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "support/history.rs"]
mod history;

use automerge::Automerge;
use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use skein_engine::graph::change::ParsedChange;
use skein_engine::graph::{Added, ChangeGraph};

fn add(graph: &mut ChangeGraph, bytes: &[u8]) -> Added {
    graph.add(ParsedChange::parse(Bytes::copy_from_slice(bytes)).unwrap(), 0).remove(0).added
}

fn graph_of(doc: &Automerge) -> ChangeGraph {
    let mut graph = ChangeGraph::default();
    for change in doc.get_changes(&[]) {
        let added = add(&mut graph, change.raw_bytes());
        assert!(matches!(added, Added::New(_)), "{added:?} of {:#?}", change.decode());
    }
    graph
}

#[test]
fn ordinary_histories_are_never_refused() {
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let doc = history::history(&mut rng, 3, 60);
        let mut graph = graph_of(&doc);
        let mut heads = doc.get_heads();
        heads.sort();
        assert_eq!(graph.heads(), heads);
        // The same from the store, with the index built late; and compressed as automerge sends them.
        let mut loaded = ChangeGraph::default();
        for at in 0..graph.len() {
            loaded.load(graph.chunk(at).clone()).unwrap();
        }
        let mut more = history::fork(&mut rng, &doc);
        for _ in 0..10 {
            history::edit(&mut rng, &mut more, 30);
        }
        for mut change in more.get_changes(&doc.get_heads()) {
            let bytes = change.bytes().into_owned();
            assert!(matches!(add(&mut loaded, &bytes), Added::New(_)));
            assert!(matches!(add(&mut graph, change.raw_bytes()), Added::New(_)));
            assert_eq!(add(&mut graph, &bytes), Added::Known);
        }
        assert_eq!(loaded.heads(), graph.heads());
    }
}

/// A change of the history, or the next one, with something about it made up.
mod forge {
    use automerge::legacy::{ElementId, Key, MarkData, ObjectId, Op, OpId, OpType};
    use automerge::{ActorId, Automerge, Change, ExpandedChange, ObjType, ScalarValue};
    use rand::RngExt;
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use sha2::{Digest, Sha256};

    /// A change chunk around this data, with a checksum that is right.
    pub fn chunk(data: &[u8]) -> Vec<u8> {
        let mut length = Vec::new();
        let mut left = data.len();
        while left >= 0x80 {
            length.push(left as u8 | 0x80);
            left >>= 7;
        }
        length.push(left as u8);
        let hash = Sha256::new().chain_update([1]).chain_update(&length).chain_update(data).finalize();
        [&[0x85, 0x6f, 0x4a, 0x83], &hash[..4], &[1], &length, data].concat()
    }

    /// The data of a plain change chunk.
    pub fn data(chunk: &[u8]) -> &[u8] {
        let length = chunk[9..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        &chunk[9 + length..]
    }

    /// Flips bytes, behind the deps and the actor so that the change still finds its place.
    pub fn flip(rng: &mut StdRng, change: &Change) -> Vec<u8> {
        let mut data = data(change.raw_bytes()).to_vec();
        let start = 1 + 32 * change.deps().len() + 1 + change.actor_id().to_bytes().len();
        for _ in 0..rng.random_range(1..=2) {
            let at = rng.random_range(start..data.len());
            match rng.random_range(0..5) {
                0 => data[at] = rng.random(),
                1 => data[at] ^= 1 << rng.random_range(0..8),
                2 => data[at] = data[at].wrapping_add(1),
                3 => data[at] = data[at].wrapping_sub(1),
                _ => data.insert(at, rng.random()),
            }
        }
        chunk(&data)
    }

    /// All operations of a history: what a reference may hit.
    pub struct Pool {
        pub ops: Vec<(OpId, Op)>,
        actors: Vec<ActorId>,
    }

    impl Pool {
        pub fn of(doc: &Automerge) -> Self {
            let mut pool = Self { ops: Vec::new(), actors: vec![ActorId::from(vec![7; 16])] };
            for change in doc.get_changes(&[]) {
                let decoded = change.decode();
                for (offset, op) in decoded.operations.iter().enumerate() {
                    pool.ops.push((OpId(decoded.start_op.get() + offset as u64, decoded.actor_id.clone()), op.clone()));
                }
                if !pool.actors.contains(&decoded.actor_id) {
                    pool.actors.push(decoded.actor_id);
                }
            }
            pool
        }

        fn id(&self, rng: &mut StdRng, own: &ExpandedChange) -> OpId {
            match rng.random_range(0..10) {
                0 => OpId(rng.random_range(1..200), self.actors.choose(rng).unwrap().clone()),
                1 | 2 => {
                    let count = own.operations.len().max(1) as u64;
                    OpId(own.start_op.get() + rng.random_range(0..count + 1), own.actor_id.clone())
                }
                _ => self.ops.choose(rng).map_or(OpId(1, own.actor_id.clone()), |(id, _)| id.clone()),
            }
        }

        fn value(rng: &mut StdRng) -> ScalarValue {
            match rng.random_range(0..9) {
                0 => ScalarValue::Null,
                1 => ScalarValue::counter(i64::MAX),
                2 => ScalarValue::Int(i64::MIN),
                3 => ScalarValue::F64(f64::NAN),
                4 => ScalarValue::Unknown { type_code: rng.random_range(10..16), bytes: vec![1; 3] },
                5 => ScalarValue::Str("".into()),
                6 => ScalarValue::Str("two words".into()),
                7 => ScalarValue::Uint(u64::MAX),
                _ => ScalarValue::Timestamp(i64::MIN),
            }
        }

        /// One operation, mostly plausible: it copies the place of one that there is.
        fn op(&self, rng: &mut StdRng, own: &ExpandedChange) -> Op {
            let model = self.ops.choose(rng);
            let mut op = match model {
                Some((_, op)) => op.clone(),
                None => Op {
                    action: OpType::Put(Self::value(rng)),
                    obj: ObjectId::Root,
                    key: Key::Map("a".into()),
                    pred: Vec::new().into(),
                    insert: false,
                },
            };
            // It overwrites its model, or stands beside it.
            if let Some((id, model)) = model
                && rng.random_range(0..3) > 0
            {
                op.pred = vec![id.clone()].into();
                if model.insert {
                    op.insert = false;
                    op.key = Key::Seq(ElementId::Id(id.clone()));
                }
            }
            for _ in 0..[0, 0, 0, 1, 1, 2].choose(rng).copied().unwrap() {
                match rng.random_range(0..8) {
                    0 => {
                        op.obj = match rng.random_range(0..5) {
                            0 => ObjectId::Root,
                            _ => ObjectId::Id(self.id(rng, own)),
                        }
                    }
                    1 => {
                        op.key = match rng.random_range(0..4) {
                            0 => Key::Map(["a", "b", ""].choose(rng).copied().unwrap().into()),
                            1 => Key::Seq(ElementId::Head),
                            _ => Key::Seq(ElementId::Id(self.id(rng, own))),
                        }
                    }
                    2 => op.insert = !op.insert,
                    3 => op.pred = (0..rng.random_range(0..3)).map(|_| self.id(rng, own)).collect::<Vec<_>>().into(),
                    4 | 5 => op.action = self.action(rng),
                    6 => op.action = OpType::Delete,
                    _ => op.action = OpType::Increment(rng.random_range(-2..3)),
                }
            }
            op
        }

        fn action(&self, rng: &mut StdRng) -> OpType {
            match rng.random_range(0..7) {
                0 => OpType::Make(ObjType::Map),
                1 => OpType::Make(ObjType::List),
                2 => OpType::Make(ObjType::Text),
                3 => OpType::Make(ObjType::Table),
                4 => OpType::MarkEnd(rng.random()),
                5 => self
                    .ops
                    .iter()
                    .map(|(_, op)| &op.action)
                    .find(|action| matches!(action, OpType::MarkBegin(_)))
                    .cloned()
                    .unwrap_or(OpType::Delete),
                _ => OpType::Put(Self::value(rng)),
            }
        }

        /// A mark somewhere in a text, its end before or behind its beginning; or something of a text that no client writes.
        fn mark(&self, rng: &mut StdRng, own: &mut ExpandedChange) {
            let texts: Vec<_> =
                self.ops.iter().filter(|(_, op)| op.action == OpType::Make(ObjType::Text)).map(|(id, _)| id).collect();
            let Some(text) = texts.choose(rng) else { return };
            let obj = ObjectId::Id((*text).clone());
            let elements: Vec<_> =
                self.ops.iter().filter(|(_, op)| op.insert && op.obj == obj).map(|(id, _)| id).collect();
            let place = |rng: &mut StdRng| match elements.choose(rng) {
                Some(id) if rng.random_range(0..6) > 0 => Key::Seq(ElementId::Id((*id).clone())),
                _ => Key::head(),
            };
            let insert = |rng: &mut StdRng, action| Op {
                action,
                obj: obj.clone(),
                key: place(rng),
                pred: Vec::new().into(),
                insert: true,
            };
            if rng.random() {
                let action = if rng.random() { self.action(rng) } else { OpType::Put(Self::value(rng)) };
                own.operations.push(insert(rng, action));
                return;
            }
            let begin = OpType::MarkBegin(MarkData {
                name: ["bold", "", "link"].choose(rng).copied().unwrap().into(),
                value: Self::value(rng),
                expand: rng.random(),
            });
            let begin = insert(rng, begin);
            own.operations.push(begin);
            let end = OpType::MarkEnd(rng.random());
            let end = insert(rng, end);
            own.operations.push(end);
        }

        /// A change on top of this document, or on what it was before, by an actor that is new or not.
        pub fn change(&self, rng: &mut StdRng, doc: &Automerge) -> Vec<u8> {
            let changes = doc.get_changes(&[]);
            let mut own = match changes.choose(rng) {
                Some(change) if rng.random_range(0..12) == 0 => change.decode(),
                chosen => {
                    // On top of everything, or beside what came after some change.
                    let mut doc = match chosen {
                        Some(change) if rng.random_range(0..3) == 0 => doc.fork_at(&[change.hash()]).unwrap(),
                        _ => doc.clone(),
                    };
                    match rng.random_range(0..3) {
                        0 => doc.set_actor(self.actors.choose(rng).unwrap().clone()),
                        _ => doc.set_actor(ActorId::from(rng.random::<[u8; 16]>().to_vec())),
                    };
                    doc.empty_commit(automerge::transaction::CommitOptions::default());
                    doc.get_last_local_change().unwrap().decode()
                }
            };
            if rng.random_range(0..8) > 0 {
                own.operations.clear();
            }
            for _ in 0..rng.random_range(1..4) {
                if rng.random_range(0..5) == 0 {
                    self.mark(rng, &mut own);
                } else {
                    let op = self.op(rng, &own);
                    own.operations.push(op);
                }
            }
            match rng.random_range(0..60) {
                0 => own.seq = rng.random_range(0..5),
                1 => own.start_op = rng.random_range(1..100_000_u64).try_into().unwrap(),
                2 => own.time = *[i64::MIN, i64::MAX, -1].choose(rng).unwrap(),
                3 => own.deps = changes.choose(rng).map(|change| change.hash()).into_iter().collect(),
                4 => own.deps.push(changes.choose(rng).unwrap().hash()),
                5 => own.extra_bytes = vec![1, 2, 3, 4],
                6 => own.extra_bytes = vec![1, 3, 4],
                7 => own.actor_id = self.actors.choose(rng).unwrap().clone(),
                8 => own.message = Some("x".repeat(300)),
                9..12 => own.start_op = own.start_op.saturating_add(rng.random_range(1..1 << 17)),
                _ => {}
            }
            let bytes = Change::from(own).raw_bytes().to_vec();
            if rng.random_range(0..6) == 0 { flip(rng, &Change::from_bytes(bytes).unwrap()) } else { bytes }
        }
    }
}

/// A document with everything in it that a rule speaks of, its graph, and how to break each rule.
mod rules {
    use automerge::legacy::{ElementId, Key, ObjectId, Op, OpId, OpType};
    use automerge::marks::{ExpandMark, Mark};
    use automerge::transaction::Transactable;
    use automerge::{ActorId, Automerge, Change, ExpandedChange, ObjType, ROOT, ScalarValue};
    use bytes::Bytes;
    use skein_engine::graph::change::ParsedChange;
    use skein_engine::graph::{Added, ChangeGraph};

    pub struct Broken {
        doc: Automerge,
        actor: ActorId,
    }

    fn op(action: OpType, obj: ObjectId, key: Key, pred: Vec<OpId>, insert: bool) -> Op {
        Op { action, obj, key, pred: pred.into(), insert }
    }

    fn put() -> OpType {
        OpType::Put(ScalarValue::Int(1))
    }

    impl Broken {
        /// 1 map, 2 list, 3 text, 4 a (in the map), 5 first element, 6 second, 7 and 8 letters, 9 deletes the second.
        pub fn new() -> Self {
            let actor = ActorId::from(vec![1; 16]);
            let mut doc = Automerge::new().with_actor(actor.clone());
            doc.transact::<_, _, automerge::AutomergeError>(|tx| {
                let map = tx.put_object(ROOT, "map", ObjType::Map)?;
                let list = tx.put_object(ROOT, "list", ObjType::List)?;
                let text = tx.put_object(ROOT, "text", ObjType::Text)?;
                tx.put(&map, "a", 1)?;
                tx.insert(&list, 0, 1)?;
                tx.insert(&list, 1, 2)?;
                tx.splice_text(&text, 0, 0, "xy")?;
                tx.delete(&list, 1)
            })
            .unwrap();
            Self { doc, actor }
        }

        fn id(&self, counter: u64) -> OpId {
            OpId(counter, self.actor.clone())
        }

        fn object(&self, counter: u64) -> ObjectId {
            ObjectId::Id(self.id(counter))
        }

        fn element(&self, counter: u64) -> Key {
            Key::Seq(ElementId::Id(self.id(counter)))
        }

        fn graph(&self) -> ChangeGraph {
            super::graph_of(&self.doc)
        }

        fn next(&self) -> ExpandedChange {
            let mut doc = self.doc.clone().with_actor(ActorId::from(vec![2; 16]));
            doc.transact(|tx| tx.put(ROOT, "other", 1)).unwrap();
            doc.get_last_local_change().unwrap().decode()
        }

        fn code(&self, bytes: &[u8]) -> String {
            match self.graph().add(ParsedChange::parse(Bytes::copy_from_slice(bytes)).unwrap(), 0).remove(0).added {
                Added::Refused(refusal) => format!("{}: {}", refusal.code, refusal.message),
                other => format!("{other:?}"),
            }
        }

        pub fn of_change(&self, change: impl FnOnce(&mut ExpandedChange)) -> String {
            let mut next = self.next();
            change(&mut next);
            self.code(Change::from(next).raw_bytes())
        }

        fn of_ops(&self, ops: Vec<Op>) -> String {
            self.of_change(|change| change.operations = ops)
        }

        pub fn references(&self) -> Vec<(&'static str, String)> {
            let map = |name: &str| Key::Map(name.into());
            let mark = || {
                OpType::MarkBegin(automerge::legacy::MarkData {
                    name: "bold".into(),
                    value: ScalarValue::Boolean(true),
                    expand: false,
                })
            };
            let own = |counter| OpId(counter, ActorId::from(vec![2; 16]));
            let start = self.next().start_op.get();
            let one = |action, obj, key, pred, insert| self.of_ops(vec![op(action, obj, key, pred, insert)]);
            vec![
                ("object itself", one(OpType::Make(ObjType::Map), ObjectId::Id(own(start)), map("a"), vec![], false)),
                ("object unknown", one(put(), self.object(99), map("a"), vec![], false)),
                ("object no object", one(put(), self.object(4), map("a"), vec![], false)),
                ("map in list", one(put(), self.object(2), map("a"), vec![], false)),
                ("element in map", one(put(), self.object(1), self.element(5), vec![self.id(5)], false)),
                ("insert in map", one(put(), ObjectId::Root, map("a"), vec![], true)),
                ("head in map", one(put(), ObjectId::Root, Key::head(), vec![], true)),
                ("head overwritten", one(put(), self.object(2), Key::head(), vec![], false)),
                ("element elsewhere", one(put(), self.object(2), self.element(7), vec![], true)),
                ("element no insertion", one(put(), self.object(2), self.element(4), vec![], true)),
                ("element later", one(put(), self.object(2), Key::Seq(ElementId::Id(own(start + 1))), vec![], true)),
                ("predecessor elsewhere", one(put(), ObjectId::Root, map("b"), vec![self.id(1)], false)),
                ("predecessor in another object", one(put(), ObjectId::Root, map("a"), vec![self.id(4)], false)),
                ("predecessor a deletion", one(put(), self.object(2), self.element(6), vec![self.id(9)], false)),
                ("predecessor unknown", one(put(), ObjectId::Root, map("a"), vec![self.id(77)], false)),
                ("predecessor itself", one(put(), ObjectId::Root, map("a"), vec![own(start)], false)),
                ("insertion with predecessor", one(put(), self.object(2), self.element(5), vec![self.id(5)], true)),
                ("deletion of nothing", one(OpType::Delete, ObjectId::Root, map("a"), vec![], false)),
                ("increment of nothing", one(OpType::Increment(1), ObjectId::Root, map("a"), vec![], false)),
                ("element overwritten without predecessor", one(put(), self.object(2), self.element(5), vec![], false)),
                (
                    "mark in list",
                    self.of_ops(vec![
                        op(mark(), self.object(2), Key::head(), vec![], true),
                        op(OpType::MarkEnd(false), self.object(2), self.element(5), vec![], true),
                    ]),
                ),
                ("mark without end", one(mark(), self.object(3), Key::head(), vec![], true)),
                ("end without mark", one(OpType::MarkEnd(false), self.object(3), Key::head(), vec![], true)),
                (
                    "mark that ends before it begins",
                    self.of_ops(vec![
                        op(mark(), self.object(3), self.element(8), vec![], true),
                        op(OpType::MarkEnd(false), self.object(3), self.element(7), vec![], true),
                    ]),
                ),
                (
                    "mark that ends where it begins",
                    self.of_ops(vec![
                        op(mark(), self.object(3), self.element(7), vec![], true),
                        op(OpType::MarkEnd(false), self.object(3), self.element(7), vec![], true),
                    ]),
                ),
            ]
        }

        /// What the others leave as it is must pass, or they prove nothing.
        pub fn good(&self) -> String {
            let mut doc = self.doc.clone().with_actor(ActorId::from(vec![2; 16]));
            doc.transact::<_, _, automerge::AutomergeError>(|tx| {
                tx.put(ROOT, "other", 1)?;
                let text = automerge::ReadDoc::get(tx, ROOT, "text")?.unwrap().1;
                tx.mark(&text, Mark::new("bold".to_owned(), true, 0, 2), ExpandMark::Both)?;
                let list = automerge::ReadDoc::get(tx, ROOT, "list")?.unwrap().1;
                tx.put(&list, 0, 5)
            })
            .unwrap();
            self.code(doc.get_last_local_change().unwrap().raw_bytes())
        }

        pub fn a_predecessor_that_is_concurrent(&self) -> String {
            let mut graph = self.graph();
            let mut other = self.doc.clone().with_actor(ActorId::from(vec![3; 16]));
            other.transact(|tx| tx.put(ROOT, "other", 2)).unwrap();
            let concurrent = other.get_last_local_change().unwrap();
            assert!(matches!(super::add(&mut graph, concurrent.raw_bytes()), Added::New(_)));
            let mut next = self.next();
            next.operations[0].pred = vec![OpId(concurrent.start_op().get(), concurrent.actor_id().clone())].into();
            next.start_op = next.start_op.saturating_add(1);
            match super::add(&mut graph, Change::from(next).raw_bytes()) {
                Added::Refused(refusal) => refusal.code.to_owned(),
                other => format!("{other:?}"),
            }
        }

        /// The chunk of the next change with its data edited.
        pub fn of_data(&self, edit: impl FnOnce(&mut Vec<u8>)) -> String {
            let change = Change::from(self.next());
            let mut data = super::forge::data(change.raw_bytes()).to_vec();
            edit(&mut data);
            match ParsedChange::parse(super::forge::chunk(&data).into()) {
                Ok(_) => self.code(&super::forge::chunk(&data)),
                Err(error) => error.to_string(),
            }
        }
    }
}

#[test]
fn each_rule_about_references_is_kept() {
    let broken = rules::Broken::new();
    assert!(broken.good().starts_with("New"), "{}", broken.good());
    for (rule, said) in broken.references() {
        assert!(said.starts_with("reference"), "{rule}: {said}");
    }
    assert_eq!(broken.a_predecessor_that_is_concurrent(), "reference");
}

#[test]
fn each_rule_about_numbers_is_kept() {
    use automerge::{ActorId, ObjType, ScalarValue, legacy::OpType};
    let broken = rules::Broken::new();
    let first = ActorId::from(vec![1; 16]);
    for (rule, code, said) in [
        ("seq too high", "seq", broken.of_change(|change| change.seq = 2)),
        ("seq again", "seq", broken.of_change(|change| change.actor_id = first.clone())),
        ("counters below its deps", "ops", broken.of_change(|change| change.start_op = 9.try_into().unwrap())),
        ("counters far above", "ops", broken.of_change(|change| change.start_op = 100_000.try_into().unwrap())),
        (
            "a gap in an empty change",
            "ops",
            broken.of_change(|change| {
                change.operations.clear();
                change.start_op = 11.try_into().unwrap();
            }),
        ),
        (
            "its previous change is not before it",
            "seq",
            broken.of_change(|change| {
                change.actor_id = first.clone();
                change.seq = 2;
                change.deps.clear();
                change.start_op = 1.try_into().unwrap();
            }),
        ),
        ("a table", "encoding", broken.of_change(|change| change.operations[0].action = OpType::Make(ObjType::Table))),
        ("no time", "encoding", broken.of_change(|change| change.time = i64::MIN)),
        ("a footer", "encoding", broken.of_change(|change| change.extra_bytes = vec![9])),
        (
            "a counter beyond counting",
            "size",
            broken.of_change(|change| {
                change.operations[0].action = OpType::Put(ScalarValue::counter(i64::MAX));
            }),
        ),
    ] {
        assert!(said.starts_with(code), "{rule}: {said}");
    }
    let author = |change: &mut automerge::ExpandedChange| change.extra_bytes = vec![1, 2, 7, 7];
    assert!(broken.of_change(author).starts_with("New"));
    let late = broken.of_change(|change| {
        author(change);
        change.actor_id = first.clone();
        change.seq = 2;
    });
    assert!(late.starts_with("encoding"), "{late}");
}

#[test]
fn no_other_encoding_than_automerges_passes() {
    let broken = rules::Broken::new();
    // The next change puts one number under one key; its columns: key text, insert, action, value type, value, preds.
    let columns = [
        &[6, 0x15, 7, 0x34, 1, 0x42, 2, 0x56, 2, 0x57, 1, 0x70, 2][..],
        &[0x7f, 5, b'o', b't', b'h', b'e', b'r', 1, 0x7f, 1, 0x7f, 0x14, 1, 0x7f, 0],
    ]
    .concat();
    let replace = |with: &[u8]| {
        broken.of_data(|data| {
            let at = data.len() - columns.len();
            assert_eq!(data[at..], columns, "{data:x?}");
            data.truncate(at);
            data.extend_from_slice(with);
        })
    };
    assert!(replace(&columns).starts_with("New"));
    let edit = |at: usize, from: u8, to: &[u8]| {
        let mut with = columns.clone();
        assert_eq!(with[at], from);
        with.splice(at..=at, to.iter().copied());
        with
    };
    for (rule, with) in [
        // Lengths in the list of columns follow where an edit makes a column longer.
        ("an unknown column", edit(1, 0x15, &[0x16])),
        ("columns in another order", edit(3, 0x34, &[0x11])),
        ("an empty column", {
            let mut with = edit(4, 1, &[0]);
            with.remove(20);
            with
        }),
        ("a compressed column", edit(5, 0x42, &[0x4a])),
        ("a number in two bytes", {
            let mut with = edit(20, 1, &[0x81, 0]);
            with[4] = 2;
            with
        }),
        ("a run of one", edit(13, 0x7f, &[1])),
        ("an unknown action", edit(22, 1, &[9])),
        ("a value that is cut short", edit(24, 0x14, &[0x24])),
        ("a value that is too long", edit(24, 0x14, &[0x04])),
        ("a predecessor that isn't there", edit(27, 0, &[1])),
        ("something after the columns", [&columns[..], &[0]].concat()),
        ("a null action", {
            let mut with = edit(21, 0x7f, &[0]);
            with[22] = 1;
            with
        }),
        ("text that isn't UTF-8", edit(15, b'o', &[0xff])),
    ] {
        let said = replace(&with);
        assert!(said.starts_with("encoding") || said.starts_with("not a change"), "{rule}: {said}");
    }
    // Four million operations in a few bytes: counted before any is expanded.
    let millions = {
        let mut with = edit(21, 0x7f, &[0x80, 0x92, 0xf4, 0x01]);
        with[6] = 5;
        with
    };
    let said = replace(&millions);
    assert!(said.contains("more operations than"), "{said}");
}

/// What a replica, the projector and a browser do with a change.
fn live_with(doc: &mut Automerge, bytes: &[u8]) -> Result<(), String> {
    let change = automerge::Change::from_bytes(bytes.to_vec()).map_err(|error| format!("parse: {error}"))?;
    let hash = change.hash();
    let mut log = automerge::PatchLog::active();
    doc.apply_changes_log_patches([change], &mut log).map_err(|error| format!("apply: {error}"))?;
    if !doc.get_heads().contains(&hash) {
        return Err("apply: it isn't a head".to_owned());
    }
    doc.make_patches(&mut log);
    doc.hydrate(None);
    doc.current_state();
    for (object, kind) in history::objects(doc) {
        if kind == automerge::ObjType::Text {
            use automerge::ReadDoc;
            doc.text(&object).map_err(|error| format!("text: {error}"))?;
            doc.marks(&object).map_err(|error| format!("marks: {error}"))?;
            doc.spans(&object).map_err(|error| format!("spans: {error}"))?.count();
        }
    }
    let loaded = Automerge::load(&doc.save()).map_err(|error| format!("load: {error}"))?;
    if loaded.get_heads() != doc.get_heads() {
        return Err("load: other heads".to_owned());
    }
    let shown = |doc: &Automerge| serde_json::to_string(&automerge::AutoSerde::from(doc)).unwrap();
    if shown(&loaded) != shown(doc) {
        return Err("load: shows something else".to_owned());
    }
    let mut again = Automerge::new();
    again.apply_changes(loaded.get_changes(&[])).map_err(|error| format!("again: {error}"))?;
    if again.get_heads() != doc.get_heads() {
        return Err("again: other heads".to_owned());
    }
    Ok(())
}

/// The operations that a change names, for whoever looks into a failure.
fn named(doc: &Automerge, bytes: &[u8]) -> String {
    use automerge::legacy::{ElementId, Key, ObjectId};
    let Ok(change) = automerge::Change::from_bytes(bytes.to_vec()) else { return String::new() };
    let pool = forge::Pool::of(doc);
    let mut text = String::new();
    for op in change.decode().operations {
        text += &format!("{op:?}\n");
        let mut ids: Vec<_> = op.pred.iter().cloned().collect();
        if let ObjectId::Id(id) = op.obj {
            ids.push(id);
        }
        if let Key::Seq(ElementId::Id(id)) = op.key {
            ids.push(id);
        }
        for (id, named) in pool.ops.iter().filter(|(id, _)| ids.contains(id)) {
            text += &format!("    {id:?} {named:?}\n");
        }
    }
    text
}

fn survive(seeds: std::ops::Range<u64>, changes: usize) -> (usize, usize) {
    let (mut passed, mut broke) = (0, Vec::new());
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|why| println!("{why}")));
    for seed in seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut doc = history::history(&mut rng, 2, 25);
        let mut graph = graph_of(&doc);
        let mut pool = forge::Pool::of(&doc);
        for step in 0..changes {
            let bytes = pool.change(&mut rng, &doc);
            let Ok(change) = ParsedChange::parse(Bytes::from(bytes.clone())) else { continue };
            let before = graph.heads().to_vec();
            let added = graph.add(change, 0).remove(0).added;
            let Added::New(at) = added else {
                assert_eq!(graph.heads(), before);
                continue;
            };
            passed += 1;
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut doc = doc.clone();
                live_with(&mut doc, &bytes).map(|()| doc)
            }));
            match result {
                Ok(Ok(grown)) => {
                    doc = grown;
                    if passed % 20 == 0 {
                        pool = forge::Pool::of(&doc);
                    }
                    continue;
                }
                Ok(Err(error)) => broke.push((seed, step, format!("{error}\n{}", named(&doc, &bytes)))),
                Err(_) => broke.push((seed, step, format!("panic\n{}", named(&doc, &bytes)))),
            }
            graph.truncate(at);
        }
    }
    std::panic::set_hook(hook);
    for (seed, step, error) in &broke {
        println!("seed {seed}, change {step}: {error}");
    }
    (passed, broke.len())
}

/// More of them by hand: `SEEDS=1000 cargo test -p skein-engine --test hostile_changes`.
fn seeds() -> std::ops::Range<u64> {
    0..std::env::var("SEEDS").map_or(30, |seeds| seeds.parse().unwrap())
}

#[test]
fn whatever_passes_a_replica_survives() {
    let (passed, broke) = survive(seeds(), 300);
    println!("{passed} passed");
    assert_eq!(broke, 0);
    assert!(passed > 500, "only {passed} passed");
}
