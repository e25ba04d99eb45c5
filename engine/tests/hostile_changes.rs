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
    use automerge::legacy::{ElementId, Key, ObjectId, Op, OpId, OpType};
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
    fn data(chunk: &[u8]) -> &[u8] {
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
            for _ in 0..rng.random_range(0..3) {
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

        /// A change on top of this document, or on what it was before, by an actor that is new or not.
        pub fn change(&self, rng: &mut StdRng, doc: &Automerge) -> Vec<u8> {
            let changes = doc.get_changes(&[]);
            let mut own = match changes.choose(rng) {
                Some(change) if rng.random_range(0..3) == 0 => change.decode(),
                _ => {
                    let mut doc = doc.clone();
                    if rng.random() {
                        doc.set_actor(ActorId::from(vec![7; 16]));
                    }
                    doc.empty_commit(automerge::transaction::CommitOptions::default());
                    doc.get_last_local_change().unwrap().decode()
                }
            };
            let count = rng.random_range(1..6);
            if rng.random_range(0..4) > 0 {
                own.operations.clear();
            }
            for _ in 0..count {
                let op = self.op(rng, &own);
                own.operations.push(op);
            }
            // A mark is two operations: half the time its end is put where it belongs.
            if rng.random()
                && let Some(at) =
                    own.operations.iter().position(|op| matches!(op.action, OpType::MarkBegin(_)) && op.insert)
            {
                let mut end = own.operations[at].clone();
                end.action = OpType::MarkEnd(rng.random());
                if let Some((id, _)) =
                    self.ops.iter().filter(|(_, op)| op.insert && op.obj == end.obj).collect::<Vec<_>>().choose(rng)
                {
                    end.key = Key::Seq(ElementId::Id(id.clone()));
                }
                own.operations.insert(at + 1, end);
            }
            match rng.random_range(0..20) {
                0 => own.seq = rng.random_range(0..5),
                1 => own.start_op = rng.random_range(1..100_000_u64).try_into().unwrap(),
                2 => own.time = *[i64::MIN, i64::MAX, -1].choose(rng).unwrap(),
                3 => own.deps = changes.choose(rng).map(|change| change.hash()).into_iter().collect(),
                4 => own.deps.push(changes.choose(rng).unwrap().hash()),
                5 => own.extra_bytes = vec![1, 2, 3, 4],
                6 => own.extra_bytes = vec![1, 3, 4],
                7 => own.actor_id = self.actors.choose(rng).unwrap().clone(),
                8 => own.message = Some("x".repeat(300)),
                9 => own.start_op = own.start_op.saturating_add(rng.random_range(1..1 << 17)),
                _ => {}
            }
            let bytes = Change::from(own).raw_bytes().to_vec();
            if rng.random_range(0..4) == 0 { flip(rng, &Change::from_bytes(bytes).unwrap()) } else { bytes }
        }
    }
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
    0..std::env::var("SEEDS").map_or(40, |seeds| seeds.parse().unwrap())
}

#[test]
fn whatever_passes_a_replica_survives() {
    let (passed, broke) = survive(seeds(), 300);
    println!("{passed} passed");
    assert_eq!(broke, 0);
    assert!(passed > 500, "only {passed} passed");
}
