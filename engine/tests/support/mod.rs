//! A relay without sockets and a disk that obeys the test, and peers that are automerge's own: what they say goes
//! through the hub as real frames.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};

use automerge::sync::{Message, State, SyncDoc};
use automerge::{ActorId, Automerge, ChangeHash};
use bytes::Bytes;
use skein_engine::ids::{DocumentId, PeerId, Principal, Scope, Timestamp};
use skein_engine::session::conversation::{MemberRole, Writer, WriterKind};
use skein_engine::storage::Record;
use skein_engine::sync::hub::Key;
use skein_engine::sync::{ConnectionId, ConnectionInfo, Effects, Hub};
use skein_engine::wire::frame::{Frame, PROTOCOL_VERSION, SyncFrame};

pub const RELAY: &str = "relay";

/// A hub, its disk, and what it sent.
pub struct Relay {
    pub hub: Hub,
    pub now: Timestamp,
    pub records: BTreeMap<Key, Vec<Record>>,
    /// Who is bound to which actor, as a ledger would keep it.
    pub writers: BTreeMap<Key, Vec<(ActorId, Writer)>>,
    /// Groups that wait for the disk.
    pub queued: Vec<(u64, Record)>,
    /// Whether the disk is as fast as the hub.
    pub instant: bool,
    pub outbox: BTreeMap<ConnectionId, VecDeque<Bytes>>,
    pub closed: BTreeMap<ConnectionId, String>,
    pub sent: usize,
    pub wake: Option<Timestamp>,
    next: u64,
}

pub fn writer(name: &str) -> Writer {
    Writer { principal: Principal::from(name), kind: WriterKind::Member, role: MemberRole::Member }
}

pub fn info(scope: &str, name: &str) -> ConnectionInfo {
    ConnectionInfo { scope: Scope::from(scope), private: Vec::new(), writer: writer(name), read_only: false }
}

impl Relay {
    pub fn new() -> Self {
        Self {
            hub: Hub::new(PeerId::from(RELAY)),
            now: Timestamp(1_000_000),
            records: BTreeMap::new(),
            writers: BTreeMap::new(),
            queued: Vec::new(),
            instant: true,
            outbox: BTreeMap::new(),
            closed: BTreeMap::new(),
            sent: 0,
            wake: None,
            next: 1,
        }
    }

    /// The relay starts again on the same disk.
    pub fn restart(&mut self) {
        self.hub = Hub::new(PeerId::from(RELAY));
        self.queued.clear();
        self.outbox.clear();
        self.wake = None;
    }

    pub fn connect(&mut self, info: ConnectionInfo) -> ConnectionId {
        let connection = ConnectionId(self.next);
        self.next += 1;
        let effects = self.hub.connect(self.now, connection, info);
        self.outbox.insert(connection, VecDeque::new());
        self.take(effects);
        connection
    }

    pub fn join(&mut self, info: ConnectionInfo, peer: &str) -> ConnectionId {
        let connection = self.connect(info);
        let join = Frame::Join { sender: PeerId::from(peer), versions: vec![PROTOCOL_VERSION.to_owned()] };
        self.receive(connection, &join);
        assert!(matches!(self.frames(connection).as_slice(), [Frame::Peer { .. }]));
        connection
    }

    pub fn receive(&mut self, connection: ConnectionId, frame: &Frame) {
        self.receive_bytes(connection, &frame.encode());
    }

    pub fn receive_bytes(&mut self, connection: ConnectionId, frame: &[u8]) {
        let effects = self.hub.receive(self.now, connection, frame);
        self.take(effects);
    }

    pub fn disconnect(&mut self, connection: ConnectionId) {
        let effects = self.hub.disconnect(self.now, connection);
        self.outbox.remove(&connection);
        self.take(effects);
    }

    /// The disk takes what it was given.
    pub fn sync_disk(&mut self) {
        while !self.queued.is_empty() {
            let group = std::mem::take(&mut self.queued);
            let mut tickets = Vec::new();
            for (ticket, record) in group {
                tickets.push(ticket);
                let records = self.records.entry((record.scope.clone(), record.document)).or_default();
                if !records.iter().any(|known| known.hash == record.hash) {
                    records.push(record);
                }
            }
            let effects = self.hub.stored(self.now, &tickets);
            self.take(effects);
        }
    }

    /// Time passes, and the hub wakes as it asked to.
    pub fn pass(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        while let Some(at) = self.wake.filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let effects = self.hub.wake(self.now);
            self.take(effects);
            if self.wake.is_some_and(|next| next <= at) {
                self.now = self.now.plus_ms(1);
            }
        }
        self.now = until;
    }

    pub fn take(&mut self, effects: Effects) {
        self.wake = effects.wake;
        for (connection, bytes) in effects.send {
            self.sent += 1;
            if let Some(outbox) = self.outbox.get_mut(&connection) {
                outbox.push_back(bytes);
            }
        }
        self.closed.extend(effects.close);
        for (key, actor, writer) in effects.writers {
            self.writers.entry(key).or_default().push((actor, writer));
        }
        self.queued.extend(effects.store);
        for key in effects.load {
            let records = self.records.get(&key).cloned().unwrap_or_default();
            let writers = self.writers.get(&key).cloned().unwrap_or_default();
            let effects = self.hub.loaded(self.now, key, records, writers);
            self.take(effects);
        }
        if self.instant {
            self.sync_disk();
        }
    }

    /// What was sent to a connection and not read yet.
    pub fn raw(&mut self, connection: ConnectionId) -> Vec<Bytes> {
        self.outbox.get_mut(&connection).map(std::mem::take).unwrap_or_default().into()
    }

    pub fn frames(&mut self, connection: ConnectionId) -> Vec<Frame> {
        self.raw(connection).iter().map(|bytes| Frame::decode(bytes).unwrap()).collect()
    }
}

/// A peer with one document, as automerge-repo keeps it.
pub struct Peer {
    pub name: String,
    pub id: DocumentId,
    pub doc: Automerge,
    pub state: State,
    pub connection: Option<ConnectionId>,
    pub unavailable: usize,
    pub errors: Vec<Frame>,
    pub said: usize,
}

impl Peer {
    pub fn new(name: &str, id: DocumentId, doc: Automerge) -> Self {
        Self {
            name: name.to_owned(),
            id,
            doc,
            state: State::new(),
            connection: None,
            unavailable: 0,
            errors: Vec::new(),
            said: 0,
        }
    }

    pub fn connect(&mut self, relay: &mut Relay) {
        self.connect_as(relay, info("w/one", "ann"));
    }

    pub fn connect_as(&mut self, relay: &mut Relay, info: ConnectionInfo) {
        // What was in flight is lost; what both sides were known to have is kept, as automerge-repo does.
        self.state = State::decode(&self.state.encode()).unwrap();
        self.connection = Some(relay.join(info, &self.name));
        self.speak(relay);
    }

    pub fn disconnect(&mut self, relay: &mut Relay) {
        if let Some(connection) = self.connection.take() {
            relay.disconnect(connection);
        }
    }

    /// Says what there is to say.
    pub fn speak(&mut self, relay: &mut Relay) -> bool {
        let Some(connection) = self.connection else { return false };
        let Some(message) = self.doc.generate_sync_message(&mut self.state) else { return false };
        self.said += 1;
        let frame = SyncFrame {
            sender: PeerId::from(self.name.as_str()),
            target: PeerId::from(RELAY),
            document: self.id,
            data: message.encode().into(),
        };
        let unknown = self.doc.get_heads().is_empty() && self.said == 1;
        relay.receive(connection, &if unknown { Frame::Request(frame) } else { Frame::Sync(frame) });
        true
    }

    /// Reads one message. Whether there was one.
    pub fn listen(&mut self, relay: &mut Relay) -> bool {
        let Some(connection) = self.connection else { return false };
        let Some(bytes) = relay.outbox.get_mut(&connection).and_then(VecDeque::pop_front) else { return false };
        match Frame::decode(&bytes).unwrap() {
            Frame::Sync(frame) => {
                assert_eq!(frame.document, self.id);
                let message = Message::decode(&frame.data).unwrap();
                self.doc.receive_sync_message(&mut self.state, message).unwrap();
                self.speak(relay);
            }
            Frame::DocUnavailable { .. } => self.unavailable += 1,
            error @ Frame::Error { .. } => self.errors.push(error),
            other => panic!("unexpected {other:?}"),
        }
        true
    }

    pub fn heads(&self) -> Vec<ChangeHash> {
        let mut heads = self.doc.get_heads();
        heads.sort();
        heads
    }
}

/// Lets everybody talk until nobody has anything to say.
pub fn settle(relay: &mut Relay, peers: &mut [Peer]) {
    for _ in 0..10_000 {
        let mut any = false;
        for peer in peers.iter_mut() {
            while peer.listen(relay) {
                any = true;
            }
            any |= peer.speak(relay);
        }
        if !any {
            return;
        }
    }
    panic!("they never stop talking");
}
