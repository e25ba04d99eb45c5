//! A change of the history, or the next one, with something about it made up.

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
        let elements: Vec<_> = self.ops.iter().filter(|(_, op)| op.insert && op.obj == obj).map(|(id, _)| id).collect();
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
