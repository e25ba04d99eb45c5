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
