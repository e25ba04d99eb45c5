//! Changes that parse and yet could break whoever applies them: whatever passes the checks, a replica survives; and what
//! automerge's own API writes is never refused.
#![allow(missing_docs, clippy::unwrap_used)]

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
