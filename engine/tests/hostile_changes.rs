//! Changes that parse and yet could break whoever applies them: whatever passes the checks, a replica survives; and what
//! automerge's own API writes is never refused.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "support/forge.rs"]
mod forge;
#[path = "support/history.rs"]
mod history;
#[path = "support/rules.rs"]
mod rules;

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

/// Six of sixty histories of `@automerge/automerge` 3.5.0 (one change a line, in hex; histories are apart by an empty
/// line): counters, marks, blocks, spans, dates, merges. Others: `JAVASCRIPT_CHANGES=FILE`.
#[test]
fn what_javascript_writes_is_never_refused() {
    let file = std::env::var("JAVASCRIPT_CHANGES").map(std::fs::read_to_string);
    let histories = match &file {
        Ok(text) => text.as_ref().unwrap(),
        Err(_) => include_str!("support/javascript-changes.txt"),
    };
    let mut count = 0;
    for history in histories.split("\n\n") {
        let mut graph = ChangeGraph::default();
        for line in history.lines() {
            let added = add(&mut graph, &hex::decode(line).unwrap());
            let bytes = hex::decode(line).unwrap();
            assert!(
                matches!(added, Added::New(_)),
                "{added:?}: {:#?}",
                automerge::Change::from_bytes(bytes).unwrap().decode()
            );
            count += 1;
        }
    }
    assert!(count > 100, "only {count}");
}
