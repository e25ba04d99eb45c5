//! One document of the relay: its graph, how much of it is durable, and its followers.
//!
//! Invariant: heads that are named, and changes that are sent, are durable.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::effects::ConnectionId;
use super::follower::Follower;
use super::message::{Flags, Have, Message};
use crate::graph::{ChangeGraph, advance};
use crate::ids::{ActorId, ChangeHash, DocumentId, PeerId, Principal, Timestamp};
use crate::session::conversation::{Writer, WriterKind};
use crate::sync::bloom::BloomFilter;
use crate::wire::frame::{EVERYONE, Frame, SyncFrame};

/// What [`Document`] hands to whoever sends.
pub(super) type Send = Vec<(ConnectionId, Bytes)>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) graph: ChangeGraph,
    /// Changes below this index are durable.
    durable: usize,
    heads: Arc<[ChangeHash]>,
    /// Durable, but not before something that isn't.
    stored_ahead: HashSet<usize>,
    pub(super) followers: BTreeMap<ConnectionId, Follower>,
    /// Actors whose writer is recorded.
    pub(super) authors: HashMap<ActorId, Author>,
    /// When something was last said on it.
    pub(super) active: Timestamp,
    /// The last answer to a follower all of whose heads were known: a thousand that return together share it.
    shared: Option<(Known, Bytes)>,
}

/// Who an actor is bound to.
#[derive(Debug)]
pub(super) struct Author {
    principal: Principal,
    is_worker: bool,
    /// Its first change in this log came from that principal. Of a log that was lost, others may bring back what they
    /// have.
    began: bool,
}

/// What decides an answer to a follower all of whose heads are known: these, how much is durable, and read-only or not.
type Known = (Vec<usize>, usize, bool);

/// How a document's messages are addressed.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) sender: PeerId,
    pub(super) document: DocumentId,
}

impl Address {
    fn frame(&self, message: &Message) -> Bytes {
        Frame::Sync(SyncFrame {
            sender: self.sender.clone(),
            target: EVERYONE.into(),
            document: self.document,
            data: message.encode().into(),
        })
        .encode()
        .into()
    }
}

impl Document {
    /// A document as the store has it.
    pub(super) fn loaded(
        graph: ChangeGraph,
        writers: Vec<(ActorId, Writer)>,
        first_from: &HashMap<ActorId, Principal>,
        now: Timestamp,
    ) -> Self {
        let author = |(actor, writer): (ActorId, Writer)| {
            let began = first_from.get(&actor) == Some(&writer.principal);
            let is_worker = writer.kind == WriterKind::Worker;
            (actor, Author { principal: writer.principal, is_worker, began })
        };
        Self {
            durable: graph.len(),
            heads: graph.heads().into(),
            graph,
            authors: writers.into_iter().map(author).collect(),
            active: now,
            ..Self::default()
        }
    }

    /// Whether a principal may bring a new change of an actor. A worker's actor is its own: else whoever reads its
    /// changes could go on under its name, and be believed.
    pub(super) fn may_bring(&self, actor: &ActorId, principal: &Principal) -> bool {
        let author = self.authors.get(actor);
        author.is_none_or(|author| !author.is_worker || !author.began || author.principal == *principal)
    }

    /// A change of an actor is to be stored. Whether it is the first of one that nobody knew.
    pub(super) fn brought(&mut self, actor: &ActorId, seq: u64, writer: &Writer) -> bool {
        if let Some(author) = self.authors.get_mut(actor) {
            author.began |= seq == 1 && author.principal == writer.principal;
            return false;
        }
        let is_worker = writer.kind == WriterKind::Worker;
        let author = Author { principal: writer.principal.clone(), is_worker, began: seq == 1 };
        self.authors.insert(actor.clone(), author);
        true
    }

    /// The durable heads.
    pub(super) fn heads(&self) -> &[ChangeHash] {
        &self.heads
    }

    /// Lets go of the answer that followers who return share.
    pub(super) fn forget_answer(&mut self) {
        self.shared = None;
    }

    /// Whether there is nothing durable.
    pub(super) fn is_unknown(&self) -> bool {
        self.durable == 0
    }

    /// Whether everything is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.durable == self.graph.len()
    }

    /// A change of the graph has become durable.
    pub(super) fn stored(&mut self, at: usize) {
        if at >= self.durable {
            self.stored_ahead.insert(at);
        }
    }

    /// The first of these changes could not be stored: it goes, and what stands after it. What went, with who brought it.
    pub(super) fn not_stored(&mut self, at: usize) -> Vec<(ChangeHash, u64)> {
        let from = at.max(self.durable);
        let gone: Vec<_> = (from..self.graph.len()).map(|at| (self.graph.hash(at), self.graph.source(at))).collect();
        for at in from..self.graph.len() {
            let (actor, seq) = self.graph.author(at);
            if seq == 1 {
                self.authors.remove(actor);
            }
        }
        self.graph.truncate(from);
        self.stored_ahead.retain(|stored| *stored < from);
        gone
    }

    /// Moves on to what has become durable, and tells every follower that can take it. Whether the heads have changed.
    pub(super) fn flush(
        &mut self,
        now: Timestamp,
        address: &Address,
        congested: &HashSet<ConnectionId>,
        send: &mut Send,
    ) -> bool {
        let before = self.durable;
        let mut heads = self.heads.to_vec();
        while self.stored_ahead.remove(&self.durable) {
            let deps: Vec<_> = self.graph.deps(self.durable).map(|dep| self.graph.hash(dep)).collect();
            advance(&mut heads, &self.graph.hash(self.durable), &deps);
            self.durable += 1;
        }
        if self.durable == before {
            return false;
        }
        self.heads = heads.into();
        self.shared = None;
        let mut encoded = HashMap::new();
        let mut followers = std::mem::take(&mut self.followers);
        for (connection, follower) in &mut followers {
            follower.compare(now, &self.heads);
            follower.held_until = None;
            if congested.contains(connection) {
                follower.behind = true;
            } else if !follower.unanswered {
                send.push((*connection, self.catch_up(*connection, follower, address, &mut encoded)));
            }
        }
        self.followers = followers;
        true
    }

    /// Everything durable that a follower wasn't sent, in one message; those in step share it.
    fn catch_up(
        &self,
        connection: ConnectionId,
        follower: &mut Follower,
        address: &Address,
        encoded: &mut HashMap<(usize, Option<ConnectionId>, bool), Bytes>,
    ) -> Bytes {
        follower.greeted = true;
        if follower.deaf {
            follower.prefix = self.durable;
        }
        let range = follower.prefix..self.durable;
        let own = range.clone().any(|at| self.graph.source(at) == connection.0).then_some(connection);
        let prefix = std::mem::replace(&mut follower.prefix, self.durable);
        encoded
            .entry((prefix, own, follower.read_only))
            .or_insert_with(|| {
                let changes = range
                    .filter(|at| own.is_none_or(|own| self.graph.source(*at) != own.0))
                    .map(|at| self.graph.chunk(at).clone())
                    .collect();
                address.frame(&self.message(changes, follower.read_only))
            })
            .clone()
    }

    /// A message that says: this is what there is, now you have it all; send what I lack.
    fn message(&self, changes: Vec<Bytes>, read_only: bool) -> Message {
        Message {
            heads: self.heads.to_vec(),
            need: Vec::new(),
            have: vec![Have { last_sync: self.heads.to_vec(), bloom: BloomFilter::default() }],
            changes,
            flags: read_only.then_some(Flags { read_only: true, reset: false }),
        }
    }

    /// What a follower says, without its changes, which are in the graph by now. Answers, or keeps silent (design,
    /// "Silence rule": a stock peer whose change is refused would talk for ever).
    pub(super) fn hear(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        message: Message,
        address: &Address,
        congested: bool,
        send: &mut Send,
    ) {
        let Some(mut follower) = self.followers.remove(&connection) else { return };
        let lost_all = message.heads.is_empty() && !follower.heads.is_empty();
        if message.flags.is_some_and(|flags| flags.reset) || lost_all {
            follower.restart(now);
        }
        if let Some(flags) = message.flags {
            follower.deaf = flags.read_only;
        }
        follower.names(&message.heads);
        follower.compare(now, &self.heads);
        if congested {
            follower.behind = true;
            if !follower.greeted || follower.whole {
                follower.unanswered = true;
            }
        } else if follower.greeted && !(std::mem::take(&mut follower.whole) && message.heads != *self.heads) {
            self.answer_later(connection, &mut follower, &message, address, send);
        } else {
            self.answer_first(connection, &mut follower, &message, address, send);
        }
        self.followers.insert(connection, follower);
    }

    /// Its socket has room again: what it missed, in one message.
    pub(super) fn drained(&mut self, connection: ConnectionId, address: &Address, send: &mut Send) {
        let Some(mut follower) = self.followers.remove(&connection) else { return };
        if std::mem::take(&mut follower.behind) {
            if std::mem::take(&mut follower.unanswered) {
                // Only its heads were kept: if they don't say enough, what it says next does.
                let message = Message { heads: follower.heads.clone(), ..Message::default() };
                self.answer_first(connection, &mut follower, &message, address, send);
                follower.whole = true;
            } else if follower.prefix < self.durable {
                send.push((connection, self.catch_up(connection, &mut follower, address, &mut HashMap::new())));
            }
        }
        self.followers.insert(connection, follower);
    }

    /// To a peer whose heads have differed from ours for too long.
    pub(super) fn refresh(
        &mut self,
        now: Timestamp,
        address: &Address,
        congested: &HashSet<ConnectionId>,
        send: &mut Send,
    ) {
        let mut followers = std::mem::take(&mut self.followers);
        for (connection, follower) in &mut followers {
            if self.is_unknown() || follower.deaf || congested.contains(connection) || !follower.take_fresh(now) {
                continue;
            }
            // Who holds a change that was refused, or would be, differs for ever, and knows why.
            let ours = |head| self.graph.position(head).is_some();
            if follower.heads.iter().any(|head| self.graph.is_refused(head) || follower.was_told(head))
                || follower.read_only && !follower.heads.iter().all(ours)
            {
                continue;
            }
            let message = Message { heads: follower.heads.clone(), ..Message::default() };
            self.answer_first(*connection, follower, &message, address, send);
            follower.whole = true;
        }
        self.followers = followers;
    }

    /// When [`Self::refresh`] has something to do.
    pub(super) fn fresh_at(&self) -> Option<Timestamp> {
        self.followers.values().filter_map(Follower::fresh_at).min()
    }

    fn answer_first(
        &mut self,
        connection: ConnectionId,
        follower: &mut Follower,
        message: &Message,
        address: &Address,
        send: &mut Send,
    ) {
        follower.greeted = true;
        follower.prefix = self.durable;
        let mut known = self.known(&message.heads);
        let need = if follower.read_only { Vec::new() } else { follower.ask(self.graph.wanted(&message.heads)) };
        let all_known = known.len() == message.heads.len();
        if all_known && !follower.deaf && need.is_empty() && message.need.is_empty() {
            let key = (known, self.durable, follower.read_only);
            let bytes = match &self.shared {
                Some((shared, bytes)) if *shared == key => bytes.clone(),
                _ => {
                    let missing = self.graph.missing(&key.0, self.durable);
                    address.frame(&self.message(self.chunks(missing), follower.read_only))
                }
            };
            self.shared = Some((key, bytes.clone()));
            send.push((connection, bytes));
            return;
        }
        let mut missing;
        let mut reply = self.message(Vec::new(), follower.read_only);
        if all_known {
            missing = self.graph.missing(&known, self.durable);
        } else {
            // Its filters say what it has beyond the heads that are known to both.
            known.extend(message.have.iter().flat_map(|have| self.known(&have.last_sync)));
            known.sort_unstable();
            known.dedup();
            let ours = self.graph.missing(&known, self.durable);
            let hashes: Vec<_> = ours.iter().map(|at| self.graph.hash(*at)).collect();
            let mut last_sync: Vec<_> = known.iter().map(|at| self.graph.hash(*at)).collect();
            last_sync.sort_unstable();
            reply.have = vec![Have { last_sync, bloom: BloomFilter::of(hashes.iter()) }];
            missing = if message.have.is_empty() { Vec::new() } else { self.beyond(&message.have, ours) };
        }
        missing.extend(self.known(&message.need));
        if follower.deaf {
            missing.clear();
        }
        missing.sort_unstable();
        missing.dedup();
        reply.need = need;
        reply.changes = self.chunks(missing);
        send.push((connection, address.frame(&reply)));
    }

    fn answer_later(
        &mut self,
        connection: ConnectionId,
        follower: &mut Follower,
        message: &Message,
        address: &Address,
        send: &mut Send,
    ) {
        let asked: Vec<_> = message.need.iter().filter(|hash| follower.may_ask(hash)).copied().collect();
        let chunks = if follower.deaf { Vec::new() } else { self.chunks(self.known(&asked)) };
        let need = if follower.read_only { Vec::new() } else { follower.ask(self.graph.wanted(&message.heads)) };
        if chunks.is_empty() && (need.is_empty() || self.is_unknown()) {
            return;
        }
        let reply = Message { need, ..self.message(chunks, follower.read_only) };
        send.push((connection, address.frame(&reply)));
    }

    /// Of these changes of ours, those that none of a peer's filters holds, and what depends on them.
    fn beyond(&self, have: &[Have], ours: Vec<usize>) -> Vec<usize> {
        let mut beyond = HashSet::new();
        for at in &ours {
            let hash = self.graph.hash(*at);
            let new = !have.iter().any(|have| have.bloom.may_contain(&hash));
            if new || self.graph.deps(*at).any(|dep| beyond.contains(&dep)) {
                beyond.insert(*at);
            }
        }
        ours.into_iter().filter(|at| beyond.contains(at)).collect()
    }

    /// Where these stand, of those that are durable; sorted.
    fn known(&self, hashes: &[ChangeHash]) -> Vec<usize> {
        let mut known: Vec<_> =
            hashes.iter().filter_map(|hash| self.graph.position(hash)).filter(|at| *at < self.durable).collect();
        known.sort_unstable();
        known
    }

    fn chunks(&self, at: Vec<usize>) -> Vec<Bytes> {
        at.into_iter().map(|at| self.graph.chunk(at).clone()).collect()
    }
}
