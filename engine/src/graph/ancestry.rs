//! Which changes are before a change, without walking the whole graph for it.
//!
//! A change whose deps were all the heads has everything before it: most changes. Else the graph is walked back to such
//! a change, or to one whose ancestry was kept because the walk to it was long.

use std::collections::{BinaryHeap, HashMap};

use super::{ChangeGraph, Node};

/// A walk longer than this is kept with the change, so that the next needn't walk it again.
const LONG_WALK: usize = 64;

/// A set of changes that is closed under deps.
#[derive(Debug, Clone, Default)]
pub(super) struct Ancestry {
    /// Every change below this index,
    prefix: u32,
    /// and of these actors those up to this `seq`.
    actors: HashMap<u32, u64>,
}

impl Ancestry {
    /// Every change there is.
    pub(super) fn everything() -> Self {
        Self { prefix: u32::MAX, actors: HashMap::new() }
    }

    /// Whether a change is in it.
    pub(super) fn holds(&self, at: u32, node: &Node) -> bool {
        at < self.prefix || self.actors.get(&node.actor).is_some_and(|seq| *seq >= node.seq)
    }

    fn add(&mut self, actor: u32, seq: u64) {
        let known = self.actors.entry(actor).or_default();
        *known = seq.max(*known);
    }
}

impl ChangeGraph {
    /// These changes and all before them; and whether finding out took so long that it is worth keeping.
    pub(super) fn ancestry(&self, deps: &[u32]) -> (Ancestry, bool) {
        let mut ancestry = Ancestry::default();
        let mut todo: BinaryHeap<u32> = deps.iter().copied().collect();
        let mut last = None;
        let mut walked = 0;
        while let Some(at) = todo.pop() {
            if at < ancestry.prefix {
                break;
            }
            if last.replace(at) == Some(at) {
                continue;
            }
            walked += 1;
            let node = &self.nodes[at as usize];
            if node.on_heads {
                ancestry.prefix = at + 1;
            } else {
                ancestry.add(node.actor, node.seq);
                match &node.before {
                    Some(before) => {
                        ancestry.prefix = ancestry.prefix.max(before.prefix);
                        for (actor, seq) in &before.actors {
                            ancestry.add(*actor, *seq);
                        }
                    }
                    None => todo.extend(node.deps.iter()),
                }
            }
        }
        (ancestry, walked > LONG_WALK)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use automerge::Automerge;
    use bytes::Bytes;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::graph::Added;
    use crate::graph::change::ParsedChange;

    /// Replicas that write on their own for long, and merge seldom.
    fn graph(rng: &mut StdRng) -> ChangeGraph {
        let mut docs: Vec<_> = (0..4_u8).map(|n| Automerge::new().with_actor(vec![n].into())).collect();
        for _ in 0..600 {
            let at = rng.random_range(0..docs.len());
            if rng.random_range(0..150) == 0 {
                let mut other = docs[rng.random_range(0..4)].clone();
                docs[at].merge(&mut other).unwrap();
            }
            docs[at].empty_commit(automerge::transaction::CommitOptions::default());
        }
        let mut all = Automerge::new();
        for doc in &mut docs {
            all.merge(doc).unwrap();
        }
        let mut graph = ChangeGraph::default();
        for change in all.get_changes(&[]) {
            let change = ParsedChange::parse(Bytes::copy_from_slice(change.raw_bytes())).unwrap();
            assert!(matches!(graph.add(change, 0)[0].added, Added::New(_)));
        }
        graph
    }

    #[test]
    fn it_is_what_walking_the_whole_graph_finds() {
        let mut rng = StdRng::seed_from_u64(3);
        let graph = graph(&mut rng);
        assert!(graph.nodes.iter().any(|node| node.before.is_some()), "no walk was long");
        for _ in 0..300 {
            let deps: Vec<_> = (0..rng.random_range(1..4)).map(|_| rng.random_range(0..graph.len()) as u32).collect();
            let mut before: HashSet<u32> = HashSet::new();
            let mut todo = deps.clone();
            while let Some(at) = todo.pop() {
                if before.insert(at) {
                    todo.extend(graph.nodes[at as usize].deps.iter());
                }
            }
            let (ancestry, _) = graph.ancestry(&deps);
            for at in 0..graph.len() as u32 {
                assert_eq!(ancestry.holds(at, &graph.nodes[at as usize]), before.contains(&at), "{at} of {deps:?}");
            }
        }
    }
}
