//! Random but ordinary histories: what automerge's own API writes on several replicas that merge now and then.

#![allow(dead_code)]

use automerge::marks::{ExpandMark, Mark};
use automerge::transaction::{Transactable, Transaction};
use automerge::{ActorId, Automerge, AutomergeError, ObjId, ObjType, ROOT, ReadDoc, ScalarValue, Value};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

/// Every object that can be seen in a document.
pub fn objects(doc: &impl ReadDoc) -> Vec<(ObjId, ObjType)> {
    let mut found = vec![(ROOT, ObjType::Map)];
    let mut at = 0;
    while at < found.len() && found.len() < 40 {
        let (object, kind) = found[at].clone();
        at += 1;
        let mut add = |value: Option<(Value<'_>, ObjId)>| {
            if let Some((Value::Object(kind), id)) = value {
                found.push((id, kind));
            }
        };
        if kind == ObjType::List {
            for index in 0..doc.length(&object).min(20) {
                add(doc.get(&object, index).unwrap());
            }
        } else if kind == ObjType::Map {
            for key in doc.keys(&object).collect::<Vec<_>>() {
                add(doc.get(&object, key.as_str()).unwrap());
            }
        }
    }
    found
}

fn scalar(rng: &mut StdRng) -> ScalarValue {
    match rng.random_range(0..10) {
        0 => ScalarValue::Null,
        1 => ScalarValue::Boolean(rng.random()),
        2 => ScalarValue::Uint(rng.random_range(0..300)),
        3 => ScalarValue::Int(rng.random_range(-300..300)),
        4 => ScalarValue::F64(rng.random()),
        5 => ScalarValue::Bytes(vec![1, 2, 3]),
        6 => ScalarValue::counter(rng.random_range(-5..5)),
        7 => ScalarValue::Timestamp(rng.random_range(-9..1_700_000_000_000)),
        _ => ScalarValue::Str(["", "a", "hello", "längere Wörter 🧶"].choose(rng).copied().unwrap().into()),
    }
}

fn make(rng: &mut StdRng) -> ObjType {
    *[ObjType::Map, ObjType::List, ObjType::Text].choose(rng).unwrap()
}

/// One operation or a few.
fn edit_once(rng: &mut StdRng, tx: &mut Transaction<'_>) -> Result<(), AutomergeError> {
    let objects = objects(tx);
    let (object, kind) = objects.choose(rng).unwrap().clone();
    let length = tx.length(&object);
    match kind {
        ObjType::Map | ObjType::Table => {
            let key = *["a", "b", "c", "messages", "ü"].choose(rng).unwrap();
            match rng.random_range(0..8) {
                0..3 => tx.put(&object, key, scalar(rng))?,
                3 | 4 => drop(tx.put_object(&object, key, make(rng))?),
                5 => {
                    if matches!(tx.get(&object, key)?, Some((Value::Scalar(value), _)) if matches!(value.as_ref(), ScalarValue::Counter(_)))
                    {
                        tx.increment(&object, key, rng.random_range(-3..4))?;
                    } else {
                        tx.put(&object, key, ScalarValue::counter(1))?;
                    }
                }
                _ => {
                    if tx.get(&object, key)?.is_some() {
                        tx.delete(&object, key)?;
                    }
                }
            }
        }
        ObjType::List => match rng.random_range(0..7) {
            0 | 1 => tx.insert(&object, rng.random_range(0..=length), scalar(rng))?,
            2 => drop(tx.insert_object(&object, rng.random_range(0..=length), make(rng))?),
            3 if length > 0 => tx.put(&object, rng.random_range(0..length), scalar(rng))?,
            4 if length > 0 => drop(tx.put_object(&object, rng.random_range(0..length), make(rng))?),
            5 if length > 0 => tx.delete(&object, rng.random_range(0..length))?,
            _ => {
                let at = rng.random_range(0..=length);
                let delete = rng.random_range(0..=(length - at).min(3)) as isize;
                tx.splice(&object, at, delete, (0..rng.random_range(0..4)).map(|_| scalar(rng)).collect::<Vec<_>>())?;
            }
        },
        ObjType::Text => match rng.random_range(0..8) {
            0..4 => {
                let at = rng.random_range(0..=length);
                let delete = rng.random_range(0..=(length - at).min(4)) as isize;
                let text = ["", "x", "some words", "aaaaaaaaaaaaaaaa", "ä🧶e"].choose(rng).unwrap();
                tx.splice_text(&object, at, delete, text)?;
            }
            4 | 5 if length > 1 => {
                let start = rng.random_range(0..length - 1);
                let end = rng.random_range(start + 1..=length);
                let expand =
                    *[ExpandMark::Both, ExpandMark::None, ExpandMark::Before, ExpandMark::After].choose(rng).unwrap();
                let name = ["bold", "link"].choose(rng).unwrap();
                if rng.random_range(0..3) == 0 {
                    tx.unmark(&object, name, start, end, expand)?;
                } else {
                    tx.mark(&object, Mark::new((*name).to_owned(), scalar(rng), start, end), expand)?;
                }
            }
            6 => {
                let at = rng.random_range(0..=length);
                tx.split_block(&object, at)?;
                match rng.random_range(0..4) {
                    0 => drop(tx.replace_block(&object, at)?),
                    1 => tx.join_block(&object, at)?,
                    _ => {}
                }
            }
            _ => {
                let text = tx.text(&object)?;
                tx.update_text(&object, text.replace('a', "o"))?;
            }
        },
    }
    Ok(())
}

/// One change of up to `most` edits; sometimes an empty one.
pub fn edit(rng: &mut StdRng, doc: &mut Automerge, most: usize) {
    if rng.random_range(0..30) == 0 {
        doc.empty_commit(automerge::transaction::CommitOptions::default().with_message("empty"));
        return;
    }
    let mut tx = doc.transaction();
    for _ in 0..rng.random_range(1..=most) {
        // What automerge itself refuses (an index inside a character) is no edit.
        let _ = edit_once(rng, &mut tx);
    }
    tx.commit();
}

/// A fresh replica with an actor of its own.
pub fn fork(rng: &mut StdRng, doc: &Automerge) -> Automerge {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    doc.clone().with_actor(ActorId::from(bytes.to_vec()))
}

/// Replicas that edited at the same time and merged now and then; the last merge has everything.
pub fn history(rng: &mut StdRng, replicas: usize, steps: usize) -> Automerge {
    let mut first = fork(rng, &Automerge::new());
    edit(rng, &mut first, 6);
    let mut docs: Vec<_> = (0..replicas).map(|_| fork(rng, &first)).collect();
    for _ in 0..steps {
        let at = rng.random_range(0..docs.len());
        match rng.random_range(0..6) {
            0 => {
                let mut other = docs[rng.random_range(0..docs.len())].clone();
                docs[at].merge(&mut other).unwrap();
            }
            1 if rng.random_range(0..4) == 0 => docs[at] = fork(rng, &docs[at]),
            _ => edit(rng, &mut docs[at], 4),
        }
    }
    let mut all = docs.remove(0);
    for mut doc in docs {
        all.merge(&mut doc).unwrap();
    }
    all
}
