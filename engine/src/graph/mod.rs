//! The change graph of one document: encoded changes by hash, their deps, the heads; never the document itself.
//! Receiving, storing and forwarding a change costs the same in a new session and in one with 100,000 changes.
//!
//! In order of reading: [`change`] reads a change chunk without building anything; [`check`] is what it must pass before
//! it is stored, since a change that parses can still break whoever applies it; `columns`, `index` and `ancestry` are
//! what the check looks into.
//!
//! Invariant: every change stands after its deps, so that a prefix of the graph is closed under them.

mod ancestry;
pub mod change;
pub mod check;
mod columns;
mod index;

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;

use crate::ids::{ActorId, ChangeHash};
use ancestry::Ancestry;
use change::ParsedChange;
use check::{Passed, Refusal};
use index::OpIndex;

/// Changes that wait for deps: at most so many, of at most so many bytes, a document.
const MAX_WAITING: usize = 4096;
const MAX_WAITING_BYTES: usize = 32 << 20;
/// Refused hashes that a document remembers; beyond, the oldest are forgotten (and refused again when they come).
const MAX_REFUSED: usize = 4096;

/// Encoded changes of one document in an order in which each follows its deps.
#[derive(Debug, Default)]
pub struct ChangeGraph {
    nodes: Vec<Node>,
    by_hash: HashMap<ChangeHash, u32>,
    heads: Vec<ChangeHash>,
    actors: Vec<Actor>,
    actor_numbers: HashMap<ActorId, u32>,
    /// Counters that were skipped, over all changes.
    gaps: u64,
    /// Operations, over all changes.
    ops: u64,
    waiting: HashMap<ChangeHash, Waiting>,
    /// Which of them wait for a hash; each stands here under one dep that it lacks.
    waiting_for: HashMap<ChangeHash, Vec<ChangeHash>>,
    waiting_bytes: usize,
    refused: HashSet<ChangeHash>,
    refused_in_order: VecDeque<ChangeHash>,
    /// What the operations are; up to date with `nodes` or, before the first write, empty.
    index: OpIndex,
}

/// A change.
#[derive(Debug)]
struct Node {
    hash: ChangeHash,
    deps: Box<[u32]>,
    actor: u32,
    seq: u64,
    start_op: u64,
    ops: u64,
    gap: u64,
    bytes: Bytes,
    source: u64,
    /// Whether its deps were all the heads: then everything below it is before it.
    on_heads: bool,
    /// What is before it, where that was worth keeping.
    before: Option<Box<Ancestry>>,
}

impl Node {
    /// The highest counter in it and before it.
    fn max_op(&self) -> u64 {
        (self.start_op + self.ops).saturating_sub(1)
    }
}

/// An author, and its changes in order of `seq`.
#[derive(Debug)]
struct Actor {
    id: ActorId,
    changes: Vec<u32>,
}

/// A change whose deps aren't here.
#[derive(Debug)]
struct Waiting {
    change: ParsedChange,
    source: u64,
}

/// What [`ChangeGraph::add`] says of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is in the graph now, at this index.
    New(usize),
    /// It was there.
    Known,
    /// Its deps aren't there: kept aside, bounded, until they come.
    Waits,
    /// It broke a rule. It and what depends on it are never asked for again.
    Refused(Refusal),
}

/// What became of one change, of those that [`ChangeGraph::add`] touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The change.
    pub hash: ChangeHash,
    /// Who brought it, as [`ChangeGraph::add`] was told then.
    pub source: u64,
    /// What became of it.
    pub added: Added,
}

impl Outcome {
    /// Whether it was refused for what it is, not for what it depends on, nor as before.
    pub fn broke_a_rule(&self) -> bool {
        matches!(&self.added, Added::Refused(refusal) if !matches!(refusal.code, "dependency" | "refused"))
    }
}

impl ChangeGraph {
    /// Adds a change that was stored before, without the checks.
    pub fn load(&mut self, bytes: Bytes) -> Result<(), change::ParseError> {
        let change = ParsedChange::parse(bytes)?;
        if self.by_hash.contains_key(&change.hash) {
            return Ok(());
        }
        let broken = change::ParseError("stored, but its place in the graph is gone");
        let deps = self.resolve(&change.deps).ok_or(broken.clone())?;
        let ops = columns::Columns::read(change.columns()).map_err(change::ParseError)?.ops();
        let expected = self.actor_changes(&change.actor).len() as u64 + 1;
        if change.seq != expected {
            return Err(broken);
        }
        self.push(change, deps, Passed { ops, before: None }, u64::MAX);
        Ok(())
    }

    /// Checks and adds a change; those that waited for it follow. `source` says who brought it; it comes back in the
    /// outcomes, of which the first is this change's.
    pub fn add(&mut self, change: ParsedChange, source: u64) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut todo = VecDeque::from([Waiting { change, source }]);
        while let Some(Waiting { change, source }) = todo.pop_front() {
            let hash = change.hash;
            let added = self.add_one(change, source);
            // What waited for this one is ready, or refused with it.
            if matches!(added, Added::New(_) | Added::Refused(_)) {
                for hash in self.waiting_for.remove(&hash).unwrap_or_default() {
                    if let Some(waiting) = self.waiting.remove(&hash) {
                        self.waiting_bytes -= waiting.change.size();
                        todo.push_back(waiting);
                    }
                }
            }
            if added != Added::Waits || outcomes.is_empty() {
                outcomes.push(Outcome { hash, source, added });
            }
        }
        outcomes
    }

    fn add_one(&mut self, change: ParsedChange, source: u64) -> Added {
        if self.by_hash.contains_key(&change.hash) || self.waiting.contains_key(&change.hash) {
            return Added::Known;
        }
        if self.refused.contains(&change.hash) {
            return Added::Refused(Refusal::new("refused", "it was refused before"));
        }
        if change.deps.iter().any(|dep| self.refused.contains(dep)) {
            self.quarantine(change.hash);
            return Added::Refused(Refusal::new("dependency", "it depends on a change that was refused"));
        }
        let Some(deps) = self.resolve(&change.deps) else {
            return self.wait(change, source);
        };
        match check::check(self, &change, &deps) {
            Ok(passed) => {
                self.push(change, deps, passed, source);
                Added::New(self.nodes.len() - 1)
            }
            Err(refusal) => {
                self.quarantine(change.hash);
                Added::Refused(refusal)
            }
        }
    }

    fn wait(&mut self, change: ParsedChange, source: u64) -> Added {
        let size = change.size();
        if self.waiting.len() >= MAX_WAITING || self.waiting_bytes + size > MAX_WAITING_BYTES {
            return Added::Waits;
        }
        let Some(lacking) = change.deps.iter().find(|dep| !self.by_hash.contains_key(*dep)) else {
            return Added::Waits;
        };
        self.waiting_for.entry(*lacking).or_default().push(change.hash);
        self.waiting_bytes += size;
        self.waiting.insert(change.hash, Waiting { change, source });
        Added::Waits
    }

    fn quarantine(&mut self, hash: ChangeHash) {
        if self.refused.insert(hash) {
            self.refused_in_order.push_back(hash);
        }
        if self.refused_in_order.len() > MAX_REFUSED
            && let Some(oldest) = self.refused_in_order.pop_front()
        {
            self.refused.remove(&oldest);
        }
    }

    fn resolve(&self, hashes: &[ChangeHash]) -> Option<Box<[u32]>> {
        hashes.iter().map(|hash| self.by_hash.get(hash).copied()).collect()
    }

    fn push(&mut self, change: ParsedChange, deps: Box<[u32]>, passed: Passed, source: u64) {
        let Passed { ops, before } = passed;
        let on_heads = change.deps == self.heads;
        let number = self.nodes.len() as u32;
        let expected = deps.iter().map(|dep| self.nodes[*dep as usize].max_op()).max().unwrap_or(0) + 1;
        let gap = change.start_op.saturating_sub(expected);
        let actor = *self.actor_numbers.entry(change.actor.clone()).or_insert_with(|| {
            self.actors.push(Actor { id: change.actor, changes: Vec::new() });
            self.actors.len() as u32 - 1
        });
        self.actors[actor as usize].changes.push(number);
        self.by_hash.insert(change.hash, number);
        advance(&mut self.heads, &change.hash, &change.deps);
        self.gaps += gap;
        self.ops += ops;
        self.nodes.push(Node {
            hash: change.hash,
            deps,
            actor,
            seq: change.seq,
            start_op: change.start_op,
            ops,
            gap,
            bytes: change.bytes,
            source,
            on_heads,
            before,
        });
    }

    /// Forgets every change from this index on, as if they had never come: the store could not take them.
    pub fn truncate(&mut self, len: usize) {
        while self.nodes.len() > len
            && let Some(node) = self.nodes.pop()
        {
            self.by_hash.remove(&node.hash);
            self.actors[node.actor as usize].changes.pop();
            self.gaps -= node.gap;
            self.ops -= node.ops;
        }
        self.index.truncate(len);
        self.heads = self.heads_of_prefix(len);
    }

    /// The changes that nothing here depends on, sorted.
    pub fn heads(&self) -> &[ChangeHash] {
        &self.heads
    }

    /// The heads of the first `len` changes, sorted.
    pub fn heads_of_prefix(&self, len: usize) -> Vec<ChangeHash> {
        let mut inner = vec![false; len];
        for node in &self.nodes[..len] {
            for dep in &node.deps {
                inner[*dep as usize] = true;
            }
        }
        let mut heads: Vec<_> =
            self.nodes[..len].iter().zip(inner).filter(|(_, inner)| !inner).map(|(node, _)| node.hash).collect();
        heads.sort_unstable();
        heads
    }

    /// How many changes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The change chunk with this hash, as it came.
    pub fn bytes(&self, hash: &ChangeHash) -> Option<&Bytes> {
        self.position(hash).map(|at| self.chunk(at))
    }

    /// Where a change stands.
    pub fn position(&self, hash: &ChangeHash) -> Option<usize> {
        self.by_hash.get(hash).map(|at| *at as usize)
    }

    /// The hash of the change at an index below [`Self::len`].
    pub fn hash(&self, at: usize) -> ChangeHash {
        self.nodes[at].hash
    }

    /// The chunk of the change at an index below [`Self::len`], as it came.
    pub fn chunk(&self, at: usize) -> &Bytes {
        &self.nodes[at].bytes
    }

    /// Who brought the change at an index below [`Self::len`].
    pub fn source(&self, at: usize) -> u64 {
        self.nodes[at].source
    }

    /// The author and number of the change at an index below [`Self::len`].
    pub fn author(&self, at: usize) -> (&ActorId, u64) {
        (&self.actors[self.nodes[at].actor as usize].id, self.nodes[at].seq)
    }

    /// The deps of the change at an index below [`Self::len`].
    pub fn deps(&self, at: usize) -> impl Iterator<Item = usize> {
        self.nodes[at].deps.iter().map(|dep| *dep as usize)
    }

    /// Whether a change was refused here.
    pub fn is_refused(&self, hash: &ChangeHash) -> bool {
        self.refused.contains(hash)
    }

    /// Of the first `len` changes, those that are neither among `known` nor before one of them; in order.
    pub fn missing(&self, known: &[usize], len: usize) -> Vec<usize> {
        let mut has = vec![false; len];
        let mut highest = 0;
        for at in known.iter().filter(|at| **at < len) {
            has[*at] = true;
            highest = highest.max(at + 1);
        }
        for at in (0..highest).rev() {
            if has[at] {
                for dep in self.deps(at) {
                    has[dep] = true;
                }
            }
        }
        (0..len).filter(|at| !has[*at]).collect()
    }

    /// What is to be asked for so as to reach these heads: those that are unknown, and the deps of waiting changes. Never
    /// what was refused.
    pub fn wanted(&self, heads: &[ChangeHash]) -> Vec<ChangeHash> {
        let mut wanted = Vec::new();
        let mut seen = HashSet::new();
        let mut todo: Vec<ChangeHash> = heads.to_vec();
        while let Some(hash) = todo.pop() {
            if self.by_hash.contains_key(&hash) || self.refused.contains(&hash) || !seen.insert(hash) {
                continue;
            }
            match self.waiting.get(&hash) {
                Some(waiting) => todo.extend_from_slice(&waiting.change.deps),
                None => wanted.push(hash),
            }
        }
        wanted.sort_unstable();
        wanted
    }

    fn actor_changes(&self, actor: &ActorId) -> &[u32] {
        self.actor_numbers.get(actor).map_or(&[], |number| &self.actors[*number as usize].changes)
    }
}

/// Moves sorted heads on by one change.
pub(crate) fn advance(heads: &mut Vec<ChangeHash>, hash: &ChangeHash, deps: &[ChangeHash]) {
    heads.retain(|head| !deps.contains(head));
    if let Err(at) = heads.binary_search(hash) {
        heads.insert(at, *hash);
    }
}
