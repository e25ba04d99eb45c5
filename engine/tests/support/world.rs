//! A relay's hub with a small catalog beside it, and devices with stores of their own. Nothing moves by itself.

#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use automerge::transaction::Transaction;
use automerge::{Automerge, AutomergeError, Change};
use bytes::Bytes;
use skein_engine::device::{Device, DeviceConfig, Effects, Keeps, Notice, QueueWrite, WaitingCommand};
use skein_engine::ids::{ActorId, ChangeHash, DocumentId, Epoch, PeerId, Principal, Scope, Timestamp, random_actor};
use skein_engine::session::command::NewSession;
use skein_engine::session::conversation::{Leases, MemberRole, Writer, WriterKind, Writers};
use skein_engine::session::model::Run;
use skein_engine::session::{Command, conversation, read, summary, write};
use skein_engine::storage::Record;
use skein_engine::sync::hub::{self, Key};
use skein_engine::sync::{ConnectionId, ConnectionInfo, Hub};
use skein_engine::wire::catalog::{FromRelay, Live, Mark, Row, ToRelay, Tombstone, VERSION, Welcome, WriterRow};
use skein_engine::wire::cbor;
use skein_engine::wire::ephemeral::Ephemeral;
use skein_engine::workspace;

/// When everything happens, unless time is said to pass.
pub const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Rounds after which a world that doesn't come to rest has a bug.
const MAX_ROUNDS: usize = 10_000;

/// A device, its store, and what is on its way.
pub struct Node {
    pub device: Device,
    pub peer: PeerId,
    /// Everything that it was told.
    pub notices: Vec<Notice>,
    /// The most documents that were ever on their way to it at once.
    pub most_loading: usize,
    name: String,
    worker: bool,
    /// What its member may do, as the relay has it.
    pub role: MemberRole,
    keeps: Keeps,
    store: BTreeMap<DocumentId, Vec<Record>>,
    /// Commands that wait for their documents, as stored.
    pub queue: BTreeMap<String, WaitingCommand>,
    connection: Option<ConnectionId>,
    to_relay: VecDeque<Bytes>,
    from_relay: VecDeque<Bytes>,
    to_catalog: VecDeque<Bytes>,
    from_catalog: VecDeque<Bytes>,
    followed: Vec<DocumentId>,
}

impl Node {
    /// What it has stored of a document.
    pub fn stored(&self, id: DocumentId) -> Vec<Record> {
        self.store.get(&id).cloned().unwrap_or_default()
    }
}

type Records = BTreeMap<Key, Vec<Record>>;

pub struct World {
    pub nodes: Vec<Node>,
    /// Whether the relay's disk takes what it is given.
    pub relay_stores: bool,
    hub: Hub,
    records: Records,
    /// Handed to the disk, not yet on it.
    storing: Vec<(u64, Record)>,
    writers: BTreeMap<Key, Vec<(ActorId, Writer)>>,
    rows: BTreeMap<DocumentId, Row>,
    /// What each member has read.
    marks: BTreeMap<Principal, BTreeMap<DocumentId, u64>>,
    workspace: DocumentId,
    next_connection: u64,
    now: Timestamp,
}

fn scope() -> Scope {
    Scope::from("w/world")
}

impl World {
    pub fn new() -> Self {
        let workspace = DocumentId::random();
        let mut world = Self {
            nodes: Vec::new(),
            relay_stores: true,
            hub: Hub::new(PeerId::from("relay")),
            records: Records::new(),
            storing: Vec::new(),
            writers: BTreeMap::new(),
            rows: BTreeMap::new(),
            marks: BTreeMap::new(),
            workspace,
            next_connection: 1,
            now: NOW,
        };
        let document = workspace::create_workspace("World").unwrap();
        world.keep(document.get_changes(&[]), workspace);
        world
    }

    fn keep(&mut self, changes: Vec<Change>, document: DocumentId) {
        for mut change in changes {
            let record = Record {
                scope: scope(),
                document,
                hash: change.hash(),
                deps: change.deps().to_vec(),
                actor: change.actor_id().clone(),
                seq: change.seq(),
                received_from: Principal::from("relay"),
                bytes: change.bytes().into_owned().into(),
            };
            self.records.entry((scope(), document)).or_default().push(record);
        }
    }

    /// A device of a member, or a worker.
    pub fn add(&mut self, name: &str, worker: bool) -> usize {
        self.add_node(name, worker, Keeps::Opened)
    }

    /// A device that keeps what the catalog lists.
    pub fn add_keeping(&mut self, name: &str, keeps: Keeps) -> usize {
        self.add_node(name, false, keeps)
    }

    fn add_node(&mut self, name: &str, worker: bool, keeps: Keeps) -> usize {
        let peer = PeerId::from(format!("{name}-{}-{}", self.next_connection, self.nodes.len()));
        let device = Device::new(DeviceConfig { peer: peer.clone(), identity: None, keeps });
        self.nodes.push(Node {
            device,
            peer,
            notices: Vec::new(),
            most_loading: 0,
            name: name.into(),
            worker,
            role: MemberRole::Member,
            keeps,
            store: BTreeMap::new(),
            queue: BTreeMap::new(),
            connection: None,
            to_relay: VecDeque::new(),
            from_relay: VecDeque::new(),
            to_catalog: VecDeque::new(),
            from_catalog: VecDeque::new(),
            followed: Vec::new(),
        });
        self.nodes.len() - 1
    }

    pub fn welcome(&self, node: usize) -> Welcome {
        let node = &self.nodes[node];
        Welcome {
            version: VERSION,
            workspace: "world".into(),
            workspace_document: self.workspace,
            profile: None,
            member: node.name.clone(),
            member_name: node.name.clone(),
            role: node.role,
            kind: if node.worker { WriterKind::Worker } else { WriterKind::Member },
            members: Vec::new(),
            now: self.now,
        }
    }

    fn writer(&self, node: usize) -> Writer {
        let node = &self.nodes[node];
        let kind = if node.worker { WriterKind::Worker } else { WriterKind::Member };
        Writer { principal: Principal::from(node.name.as_str()), kind, role: node.role }
    }

    // --- What devices do -----------------------------------------------------------------------------------------

    pub fn create(&mut self, node: usize, new: &NewSession) -> DocumentId {
        let (id, effects) = self.nodes[node].device.create(NOW, new).unwrap();
        self.carry(node, effects);
        id
    }

    pub fn command(&mut self, node: usize, id: DocumentId, command: Command) {
        let (_, effects) = self.nodes[node].device.command(NOW, id, &command).unwrap();
        self.carry(node, effects);
    }

    pub fn open(&mut self, node: usize, id: DocumentId) {
        let effects = self.nodes[node].device.open(NOW, id);
        self.carry(node, effects);
    }

    /// Whatever a device does.
    pub fn act(&mut self, node: usize, step: impl FnOnce(&mut Device) -> Effects) {
        let effects = step(&mut self.nodes[node].device);
        self.carry(node, effects);
    }

    pub fn close(&mut self, node: usize, id: DocumentId) {
        let effects = self.nodes[node].device.close(id);
        self.carry(node, effects);
    }

    pub fn write<T>(
        &mut self,
        node: usize,
        id: DocumentId,
        write: impl FnOnce(&mut Transaction<'_>) -> Result<T, AutomergeError>,
    ) -> T {
        let (value, effects) = self.nodes[node].device.write(id, write).unwrap();
        self.carry(node, effects);
        value
    }

    pub fn broadcast(&mut self, node: usize, id: DocumentId, message: &Ephemeral) {
        let effects = self.nodes[node].device.broadcast(id, message);
        self.carry(node, effects);
    }

    /// A worker begins the run that answers everything queued, as rule 8 says.
    pub fn begin(&mut self, node: usize, id: DocumentId, epoch: u64) -> Run {
        let device = &mut self.nodes[node].device;
        let queued = device.conversation(NOW, id).unwrap().queued;
        let answers: Vec<String> = queued.into_iter().map(|message| message.id).collect();
        let run = Run {
            agent: Some("agent".into()),
            model: Some("m".into()),
            provider: Some("p".into()),
            worker: Some(self.nodes[node].peer.as_str().to_owned()),
            started_at: Some(NOW),
            ..Run::new(answers.last().expect("something is queued").clone(), Epoch(epoch), answers)
        };
        self.set_live(id, Some((Epoch(epoch), self.nodes[node].name.clone())));
        let actor = random_actor();
        let change = self.nodes[node].device.prepare(id, &actor, |tx| write::begin_run(tx, &run)).unwrap();
        let writer = self.writer(node);
        let (stored, effects) = self.hub.insert(self.now, &(scope(), id), &writer, change.clone());
        stored.unwrap();
        self.carry_hub(effects);
        let effects = self.nodes[node].device.adopt(id, &actor, &change).unwrap();
        self.carry(node, effects);
        run
    }

    fn carry(&mut self, node: usize, effects: Effects) {
        let mut pending = VecDeque::from([effects]);
        while let Some(effects) = pending.pop_front() {
            let node = &mut self.nodes[node];
            for record in effects.store {
                let known = node.store.entry(record.document).or_default();
                if !known.iter().any(|one| one.hash == record.hash) {
                    known.push(record);
                }
            }
            for write in effects.queue {
                match write {
                    QueueWrite::Keep(entry) => _ = node.queue.insert(entry.id.clone(), entry),
                    QueueWrite::Drop(id) => _ = node.queue.remove(&id),
                }
            }
            for (document, gone) in effects.discard {
                node.store.entry(document).or_default().retain(|record| !gone.contains(&record.hash));
            }
            for document in effects.drop {
                node.store.remove(&document);
            }
            if node.connection.is_some() {
                node.to_relay.extend(effects.sync);
                node.to_catalog.extend(effects.catalog);
            }
            node.notices.extend(effects.notices);
            node.most_loading = node.most_loading.max(effects.load.len());
            for document in effects.load {
                let records = node.store.get(&document).cloned().unwrap_or_default();
                pending.push_back(node.device.loaded(NOW, document, records));
            }
            for session in effects.arrived {
                let queued = node.queue.keys().cloned().collect();
                pending.push_back(node.device.do_waiting(NOW, session, &queued));
            }
        }
    }

    /// What a device does with a message on `/sync`: in words why it hangs up, if it does.
    pub fn receive(&mut self, node: usize, bytes: &[u8]) -> Option<String> {
        let mut effects = self.nodes[node].device.sync_received(self.now, bytes);
        let close = effects.close_sync.take();
        self.carry(node, effects);
        close
    }

    // --- Connections ---------------------------------------------------------------------------------------------

    pub fn connect(&mut self, node: usize) {
        if self.nodes[node].connection.is_some() {
            return;
        }
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let read_only = self.nodes[node].role == MemberRole::Viewer;
        let info = ConnectionInfo { scope: scope(), private: Vec::new(), writer: self.writer(node), read_only };
        let effects = self.hub.connect(self.now, connection, info);
        self.carry_hub(effects);
        self.nodes[node].connection = Some(connection);
        let mut effects = self.nodes[node].device.catalog_opened(NOW);
        effects += self.nodes[node].device.sync_opened(NOW);
        self.carry(node, effects);
    }

    pub fn disconnect(&mut self, node: usize) {
        let Some(connection) = self.nodes[node].connection.take() else { return };
        let effects = self.hub.disconnect(self.now, connection);
        self.carry_hub(effects);
        let node_ = &mut self.nodes[node];
        for queue in [&mut node_.to_relay, &mut node_.from_relay, &mut node_.to_catalog, &mut node_.from_catalog] {
            queue.clear();
        }
        node_.followed.clear();
        let mut effects = node_.device.sync_closed(NOW);
        effects += node_.device.catalog_closed(NOW);
        self.carry(node, effects);
    }

    /// The process ends and starts again, with its store and its copy of the catalog.
    pub fn restart(&mut self, node: usize) {
        self.disconnect(node);
        let identity = self.nodes[node].device.identity().cloned();
        let (rows, cursor) = self.nodes[node].device.catalog_rows();
        let marks = self.nodes[node].device.marks().clone();
        let writers = self.nodes[node].device.writer_rows();
        let kept = self.nodes[node].device.kept_documents();
        let peer = PeerId::from(format!("{}-{}", self.nodes[node].name, self.next_connection));
        self.next_connection += 1;
        let keeps = self.nodes[node].keeps;
        let mut device = Device::new(DeviceConfig { peer: peer.clone(), identity, keeps });
        for (document, rows) in writers {
            device.restore_writers(document, rows);
        }
        device.restore_kept(kept);
        device.restore_marks(marks);
        let mut effects = device.restore_catalog(rows, cursor);
        effects += device.restore_queue(self.nodes[node].queue.values().cloned().collect());
        self.nodes[node].device = device;
        self.nodes[node].peer = peer;
        self.carry(node, effects);
    }

    // --- The relay -----------------------------------------------------------------------------------------------

    fn carry_hub(&mut self, effects: hub::Effects) {
        let mut pending = VecDeque::from([effects]);
        while let Some(effects) = pending.pop_front() {
            for (connection, bytes) in effects.send {
                if let Some(node) = self.nodes.iter_mut().find(|node| node.connection == Some(connection)) {
                    node.from_relay.push_back(bytes);
                }
            }
            assert!(effects.close.is_empty(), "the relay hangs up: {:?}", effects.close);
            for (key, actor, writer) in effects.writers {
                self.writers.entry(key.clone()).or_default().push((actor.clone(), writer.clone()));
                let frame = FromRelay::Writers { document: key.1, rows: vec![WriterRow { actor, writer }] };
                let bytes: Bytes = cbor::encode(&frame).into();
                for node in self.nodes.iter_mut().filter(|node| node.followed.contains(&key.1)) {
                    node.from_catalog.push_back(bytes.clone());
                }
            }
            for key in effects.load {
                let records = self.records.get(&key).cloned().unwrap_or_default();
                let writers = self.writers.get(&key).cloned().unwrap_or_default();
                pending.push_back(self.hub.loaded(self.now, key, records, writers));
            }
            self.storing.extend(effects.store);
        }
    }

    /// Makes the row of a document anew.
    fn project(&mut self, document: DocumentId) {
        let mut built = Automerge::new();
        let records = self.records.get(&(scope(), document)).cloned().unwrap_or_default();
        let changes: Vec<Change> =
            records.into_iter().map(|record| Change::from_bytes(record.bytes.to_vec()).unwrap()).collect();
        built.apply_changes(changes).unwrap();
        let session = read::session(&built);
        let live = self.rows.get(&document).and_then(|row| row.live.clone());
        let leases = Leases { live: live.as_ref().map(|live| live.epoch), workers: Some(1) };
        let rows = self.writers.get(&(scope(), document)).cloned().unwrap_or_default();
        let writers = Writers { rows: rows.into_iter().collect(), own: BTreeMap::new() };
        let shown = conversation(&session, &leases, &writers, NOW);
        let summary = session.is_session.then(|| summary::summary(document, &session, &shown, NOW));
        let row = Row { document, heads: built.get_heads(), summary, live, tombstone: None };
        self.rows.insert(document, row.clone());
        self.tell_row(row);
    }

    fn tell_row(&mut self, row: Row) {
        let frame = FromRelay::Rows { cursor: 1, reset: false, rows: vec![row], complete: true };
        let bytes: Bytes = cbor::encode(&frame).into();
        for node in self.nodes.iter_mut().filter(|node| node.connection.is_some()) {
            node.from_catalog.push_back(bytes.clone());
        }
    }

    /// A worker's lease of a session begins or ends.
    pub fn set_live(&mut self, id: DocumentId, live: Option<(Epoch, String)>) {
        let claim = live.as_ref().map(|(epoch, worker)| (*epoch, Principal::from(worker.as_str())));
        self.hub.set_live(&(scope(), id), claim);
        let row = self.rows.get_mut(&id).expect("it has a row");
        row.live = live.map(|(epoch, _)| Live { epoch, activity: None, usage: None, cost_micros: None });
        let row = row.clone();
        self.tell_row(row);
    }

    fn hear_catalog(&mut self, node: usize, bytes: &[u8]) {
        let answers = match cbor::decode::<ToRelay>(bytes).unwrap() {
            ToRelay::Hello { .. } => {
                let marks = self.marks.entry(self.writer(node).principal).or_default().iter();
                let marks = marks.map(|(session, progress)| Mark { session: *session, progress: *progress }).collect();
                let rows = self.rows.values().cloned().collect();
                vec![
                    FromRelay::Welcome(self.welcome(node)),
                    FromRelay::Rows { cursor: 0, reset: true, rows: Vec::new(), complete: false },
                    FromRelay::Read { marks, cursor: None },
                    FromRelay::Rows { cursor: 1, reset: false, rows, complete: true },
                ]
            }
            ToRelay::Read { marks } => {
                let kept = self.marks.entry(self.writer(node).principal).or_default();
                for mark in &marks {
                    let known = kept.entry(mark.session).or_insert(0);
                    *known = mark.progress.max(*known);
                }
                let read = FromRelay::Read { marks, cursor: Some(1) };
                let bytes = Bytes::from(cbor::encode(&read));
                for other in 0..self.nodes.len() {
                    if self.nodes[other].connection.is_some() && self.writer(other) == self.writer(node) {
                        self.nodes[other].from_catalog.push_back(bytes.clone());
                    }
                }
                Vec::new()
            }
            ToRelay::Follow { document } => {
                self.nodes[node].followed.push(document);
                let rows = self.writers.get(&(scope(), document)).cloned().unwrap_or_default();
                let rows = rows.into_iter().map(|(actor, writer)| WriterRow { actor, writer }).collect();
                vec![FromRelay::Writers { document, rows }]
            }
            ToRelay::Unfollow { document } => {
                self.nodes[node].followed.retain(|followed| *followed != document);
                Vec::new()
            }
            _ => Vec::new(),
        };
        self.nodes[node].from_catalog.extend(answers.iter().map(|answer| Bytes::from(cbor::encode(answer))));
    }

    /// The relay purges a session.
    pub fn purge(&mut self, id: DocumentId) {
        let effects = self.hub.purge(&(scope(), id));
        self.carry_hub(effects);
        self.records.remove(&(scope(), id));
        let row = self.rows.get_mut(&id).expect("it has a row");
        let tombstone = Tombstone { at: NOW, by: "ann".to_owned(), spent: Vec::new() };
        *row = Row { summary: None, live: None, tombstone: Some(tombstone), ..row.clone() };
        let row = row.clone();
        self.tell_row(row);
    }

    /// The relay's records as of now.
    pub fn backup(&self) -> Records {
        self.records.clone()
    }

    /// The relay starts again from a backup.
    pub fn restore(&mut self, records: Records) {
        self.records = records;
        self.hub = Hub::new(PeerId::from("relay"));
        self.storing.clear();
        let documents: Vec<DocumentId> = self.rows.keys().copied().collect();
        documents.into_iter().for_each(|document| self.project(document));
    }

    pub fn relay_heads(&self, id: DocumentId) -> Vec<ChangeHash> {
        self.hub.heads(&(scope(), id)).unwrap_or_default()
    }

    pub fn heads(&self, node: usize, id: DocumentId) -> Vec<ChangeHash> {
        self.nodes[node].device.document(id).map(Automerge::get_heads).unwrap_or_default()
    }

    // --- Time and delivery ---------------------------------------------------------------------------------------

    /// Time passes for the relay.
    pub fn pass_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        let effects = self.hub.wake(self.now);
        self.carry_hub(effects);
    }

    /// Delivers everything, until nothing is on its way.
    pub fn deliver(&mut self) {
        self.deliver_some(MAX_ROUNDS);
        assert!(!self.step(), "the world does not come to rest");
    }

    /// Delivers at most so many rounds of messages.
    pub fn deliver_some(&mut self, rounds: usize) {
        for _ in 0..rounds {
            if !self.step() {
                return;
            }
        }
    }

    /// One message each way for everyone, and one group to the disk. Whether anything happened.
    fn step(&mut self) -> bool {
        let mut moved = false;
        for node in 0..self.nodes.len() {
            if let Some(bytes) = self.nodes[node].to_catalog.pop_front() {
                self.hear_catalog(node, &bytes);
                moved = true;
            }
            if let Some(bytes) = self.nodes[node].from_catalog.pop_front() {
                let effects = self.nodes[node].device.catalog_received(NOW, &bytes);
                self.carry(node, effects);
                moved = true;
            }
            if let (Some(bytes), Some(connection)) =
                (self.nodes[node].to_relay.pop_front(), self.nodes[node].connection)
            {
                let effects = self.hub.receive(self.now, connection, &bytes);
                self.carry_hub(effects);
                moved = true;
            }
            if let Some(bytes) = self.nodes[node].from_relay.pop_front() {
                assert_eq!(self.receive(node, &bytes), None);
                moved = true;
            }
        }
        if self.relay_stores && !self.storing.is_empty() {
            let group = std::mem::take(&mut self.storing);
            let tickets: Vec<u64> = group.iter().map(|(ticket, _)| *ticket).collect();
            let documents: BTreeSet<DocumentId> = group.iter().map(|(_, record)| record.document).collect();
            for (_, record) in group {
                self.records.entry((record.scope.clone(), record.document)).or_default().push(record);
            }
            let effects = self.hub.stored(self.now, &tickets);
            self.carry_hub(effects);
            documents.into_iter().for_each(|document| self.project(document));
            moved = true;
        }
        moved
    }

    // --- What was heard ------------------------------------------------------------------------------------------

    /// Live text that a device was told of since the last time: offset and text.
    pub fn grown(&mut self, node: usize) -> Vec<(u64, String)> {
        let notices = std::mem::take(&mut self.nodes[node].notices);
        let grown = notices.into_iter().filter_map(|notice| match notice {
            Notice::Grew { offset, text, .. } => Some((offset, text)),
            _ => None,
        });
        grown.collect()
    }

    /// How often a worker was asked for uncommitted text since the last time.
    pub fn asked(&mut self, node: usize) -> usize {
        let notices = std::mem::take(&mut self.nodes[node].notices);
        notices.iter().filter(|n| matches!(n, Notice::Ephemeral { message: Ephemeral::TailRequest, .. })).count()
    }
}
