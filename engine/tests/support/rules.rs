//! A document with everything in it that a rule speaks of, its graph, and how to break each rule.

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
