//! The catalog: one task that owns the rows of every workspace, who follows them, which workers are connected and which
//! of them runs what. Frames of `/catalog` come in from sockets, rows from the projector, writers from the commit task.
//!
//! [`rows`] is the order of changes, [`marks`] what members have read, [`claims`] what workers ask, [`reading`] and
//! [`purges`] what people ask, [`listing`] what tools ask over HTTP; [`saved`] is how it begins. A connection that doesn't keep up gets no queue of
//! rows: it is remembered how far it got, and it is sent the rest, as it then is, when it has drained.

mod claims;
mod firings;
pub mod listing;
mod marks;
mod purges;
mod reading;
pub mod rows;
pub mod saved;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use skein_engine::ids::{ChangeHash, DocumentId, Epoch, PeerId, Scope};
use skein_engine::session::conversation::WriterKind;
use skein_engine::sync::ConnectionId;
use skein_engine::wire::catalog::{
    FromRelay, MAX_MARKS, Mark, Member, Offer, Row, ToRelay, VERSION, Welcome, WriterRow,
};
use skein_engine::wire::cbor;
use tokio::sync::{mpsc, oneshot};

use crate::accounts::{Accounts, Caller};
use crate::clock;
use crate::commit::NewWriters;
use crate::connection::{Event, Inbox};
use crate::hub::HubHandle;
use crate::lease::Leases;
use crate::outgoing::{Outgoing, Pushed};
use crate::projector::{Projected, ProjectorHandle};
use crate::queries::Queries;
use crate::store::StoreError;
use crate::store::ledger::{Grave, Ledger};
use crate::store::log::Log;
use listing::{Listed, SessionQuery};
use marks::Marks;
use reading::Marking;
use rows::{Page, Rows};
use saved::SavedRow;

/// Rows in one message.
const PAGE: usize = 500;
/// Documents whose writers one connection may follow.
const MAX_FOLLOWED: usize = 20_000;

/// Bytes of a peer id: rows and leases hold it.
const MAX_PEER: usize = 256;

type Key = (Scope, DocumentId);

/// From a socket.
#[derive(Debug)]
pub enum Frame {
    /// A connection whose token is good.
    Connect(ConnectionId, Box<Caller>, Outgoing),
    /// Something of it.
    Event(ConnectionId, Event),
}

/// From within the relay.
enum Ask {
    Projected(Box<Projected>),
    Writers(NewWriters),
    Members(Scope),
    Sought { claim: claims::Asked, named: Epoch, highest: Result<Epoch, String> },
    Recorded { claim: claims::Asked, epoch: Epoch, outcome: Result<Vec<ChangeHash>, String> },
    Begun { key: Key, epoch: Epoch, connection: ConnectionId, ask: u64, outcome: Result<(), String> },
    Marked { marks: Vec<(Scope, Mark)>, outcome: Result<(), StoreError> },
    Buried { key: Key, outcome: Result<Grave, String> },
    List { caller: Box<Caller>, query: SessionQuery, answer: oneshot::Sender<Listed> },
    Say { connection: ConnectionId, frame: Box<FromRelay> },
    Triggered(Scope),
    Stop,
}

/// The way to the task.
#[derive(Clone)]
pub struct CatalogHandle {
    /// For sockets.
    pub frames: Inbox<Frame>,
    asks: mpsc::UnboundedSender<Ask>,
}

impl CatalogHandle {
    /// A document's row has been derived.
    pub fn projected(&self, projected: Projected) {
        let _ = self.asks.send(Ask::Projected(Box::new(projected)));
    }

    /// These actors are known now.
    pub fn writers(&self, writers: NewWriters) {
        if !writers.is_empty() {
            let _ = self.asks.send(Ask::Writers(writers));
        }
    }

    /// A workspace has other members than before.
    pub fn members(&self, workspace: Scope) {
        let _ = self.asks.send(Ask::Members(workspace));
    }

    /// What is left of a purged document, as the ledger records it already.
    pub fn buried(&self, key: Key, grave: Grave) {
        let _ = self.asks.send(Ask::Buried { key, outcome: Ok(grave) });
    }

    /// How far members have read, as the ledger records it already.
    pub fn marked(&self, marks: Vec<(Scope, Mark)>) {
        let _ = self.asks.send(Ask::Marked { marks, outcome: Ok(()) });
    }

    /// The sessions of the caller's workspace; `None` while the relay stops.
    pub async fn list(&self, caller: Caller, query: SessionQuery) -> Option<Listed> {
        let (answer, listed) = oneshot::channel();
        self.asks.send(Ask::List { caller: Box::new(caller), query, answer }).ok()?;
        listed.await.ok()
    }

    /// A task of a workspace was triggered from outside.
    pub fn triggered(&self, workspace: Scope) {
        let _ = self.asks.send(Ask::Triggered(workspace));
    }

    /// Ends the task.
    pub fn stop(&self) {
        let _ = self.asks.send(Ask::Stop);
    }
}

/// The task's ends of its channels.
pub struct Mailbox {
    frames: mpsc::Receiver<Frame>,
    asks: mpsc::UnboundedReceiver<Ask>,
}

/// The way to the task, which is started once the others that it needs are.
pub fn channel() -> (CatalogHandle, Mailbox) {
    let (frames, frames_end) = Inbox::new();
    let (asks, asks_end) = mpsc::unbounded_channel();
    (CatalogHandle { frames, asks }, Mailbox { frames: frames_end, asks: asks_end })
}

/// The task.
pub struct Catalog {
    accounts: std::sync::Arc<Accounts>,
    hub: HubHandle,
    projector: ProjectorHandle,
    log: Log,
    ledger: Ledger,
    queries: Queries,
    asks: mpsc::UnboundedSender<Ask>,
    rows: HashMap<Scope, Rows>,
    /// By the member's own scope.
    marks: HashMap<Scope, Marks>,
    marking: Marking,
    /// Sessions being purged, and who asked.
    purging: HashMap<Key, BTreeSet<ConnectionId>>,
    offers: HashMap<Scope, BTreeMap<ConnectionId, Offer>>,
    connections: HashMap<ConnectionId, Connection>,
    leases: Leases,
    /// The highest epochs granted in this start, also those that the ledger hasn't recorded yet.
    epochs: HashMap<Key, Epoch>,
    /// Held while a firing is recorded and its session stored.
    firing: std::sync::Arc<tokio::sync::Mutex<()>>,
    /// Scopes with rows that not everyone was sent.
    unsent: HashSet<Scope>,
}

struct Connection {
    caller: Caller,
    scope: Scope,
    outgoing: Outgoing,
    /// Once it has said hello.
    peer: Option<PeerId>,
    /// What it was sent.
    cursor: u64,
    /// It must forget what it has, since its cursor was unknown.
    reset: bool,
    /// It hasn't been told yet that it is up to date.
    behind: bool,
    congested: bool,
    follows: HashSet<DocumentId>,
}

impl Catalog {
    /// Runs until it is told to stop.
    pub async fn run(mut self, mut mailbox: Mailbox) {
        loop {
            let lapse = self.leases.next().map(clock::instant);
            tokio::select! {
                biased;
                ask = mailbox.asks.recv() => match ask {
                    None | Some(Ask::Stop) => break,
                    Some(ask) => self.ask(ask),
                },
                frame = mailbox.frames.recv() => match frame {
                    None => break,
                    Some(frame) => self.frame(frame).await,
                },
                () = tokio::time::sleep_until(lapse.unwrap_or_else(tokio::time::Instant::now)), if lapse.is_some() => {}
            }
            self.lapse();
            for scope in std::mem::take(&mut self.unsent) {
                self.send_rows(&scope);
            }
        }
    }

    async fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::Connect(id, caller, outgoing) => {
                let scope = caller.workspace.scope();
                let connection = Connection {
                    caller: *caller,
                    scope,
                    outgoing,
                    peer: None,
                    cursor: 0,
                    reset: true,
                    behind: true,
                    congested: false,
                    follows: HashSet::new(),
                };
                // Its workspace may be younger than this start.
                self.rows_of(&connection.scope);
                self.connections.insert(id, connection);
            }
            Frame::Event(id, Event::Message(bytes, _share)) => match cbor::decode::<ToRelay>(&bytes) {
                Ok(message) => self.receive(id, message).await,
                Err(error) => self.refuse(id, &error.to_string()),
            },
            Frame::Event(id, Event::Drained) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.congested = false;
                    self.unsent.insert(connection.scope.clone());
                }
            }
            Frame::Event(id, Event::Gone) => {
                if let Some(connection) = self.connections.remove(&id) {
                    self.withdraw_offer(id, &connection.scope);
                }
            }
        }
    }

    async fn receive(&mut self, id: ConnectionId, message: ToRelay) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match message {
            ToRelay::Hello { version, peer, cursor } if connection.peer.is_none() => {
                if version != VERSION {
                    return self
                        .refuse(id, &format!("this relay speaks version {VERSION} of the catalog, not {version}"));
                }
                if peer.as_str().len() > MAX_PEER {
                    return self.refuse(id, "its peer id is too long");
                }
                self.hello(id, peer, cursor);
            }
            ToRelay::Hello { .. } => self.refuse(id, "a second hello"),
            _ if connection.peer.is_none() => self.refuse(id, "the first message must be hello"),
            ToRelay::Follow { document } => self.follow(id, document).await,
            ToRelay::Unfollow { document } => _ = connection.follows.remove(&document),
            ToRelay::Read { marks } => self.read(id, marks),
            ToRelay::Purge { session } => self.purge(id, session),
            ToRelay::Offer(offer) => self.offer(id, offer),
            ToRelay::Claim { ask, session, actor, epoch } => self.claim(id, ask, session, actor, epoch),
            ToRelay::Begin { ask, session, epoch, change } => self.begin(id, ask, session, epoch, change),
            ToRelay::Renew { ask, session, epoch, activity, usage, cost_micros } => {
                let live = skein_engine::wire::catalog::Live { epoch, activity, usage, cost_micros };
                self.renew(id, ask, session, live);
            }
            ToRelay::Fire { ask, firing, change } => self.fire(id, ask, firing, change),
            ToRelay::Firings { ask } => self.firings(id, ask),
            ToRelay::Release { session, epoch } => self.release(id, session, epoch),
        }
    }

    fn hello(&mut self, id: ConnectionId, peer: PeerId, cursor: Option<u64>) {
        let Some(connection) = self.connections.get(&id) else { return };
        let members = self.names(&connection.caller.workspace.id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Caller { workspace, member, kind, .. } = &connection.caller;
        let welcome = Welcome {
            version: VERSION,
            workspace: workspace.id.clone(),
            workspace_document: workspace.document,
            profile: connection.caller.profile().map(|(profile, _)| profile),
            member: member.id.clone(),
            member_name: member.name.clone(),
            role: connection.caller.role(),
            kind: *kind,
            members,
            now: clock::now(),
        };
        connection.peer = Some(peer);
        let scope = connection.scope.clone();
        if let Some(cursor) = cursor
            && self.rows.get(&scope).is_some_and(|rows| rows.knows(cursor))
        {
            connection.cursor = cursor;
            connection.reset = false;
        }
        self.send(id, &FromRelay::Welcome(welcome));
        let offers = self.offers.get(&scope).map(|offers| offers.values().cloned().collect()).unwrap_or_default();
        self.send(id, &FromRelay::Workers { offers });
        self.unsent.insert(scope);
    }

    /// Everyone who may stand under a message, also who has left.
    fn names(&self, workspace: &str) -> Vec<Member> {
        let everyone = self.accounts.everyone(workspace).into_iter();
        everyone.map(|member| Member { id: member.id, name: member.name }).collect()
    }

    fn tell_members(&mut self, scope: &Scope) {
        let here = |connection: &&mut Connection| connection.scope == *scope && connection.peer.is_some();
        let Some(workspace) = self.connections.values_mut().find(here).map(|of| of.caller.workspace.id.clone()) else {
            return;
        };
        let message = Bytes::from(cbor::encode(&FromRelay::Members { members: self.names(&workspace) }));
        self.connections.values_mut().filter(here).for_each(|connection| connection.push(message.clone()));
    }

    async fn follow(&mut self, id: ConnectionId, document: DocumentId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.follows.len() >= MAX_FOLLOWED {
            return self.refuse(id, "it follows too many documents");
        }
        connection.follows.insert(document);
        let ledger = self.ledger.clone();
        let key = (connection.scope_of(document), document);
        let writers = blocking(move || ledger.writers(&key)).await;
        match writers {
            Ok(writers) => {
                let rows = writers.into_iter().map(|(actor, writer)| WriterRow { actor, writer }).collect();
                self.send(id, &FromRelay::Writers { document, rows });
            }
            Err(error) => self.refuse(id, &error.to_string()),
        }
    }

    fn offer(&mut self, id: ConnectionId, offer: Offer) {
        let Some(connection) = self.connections.get(&id) else { return };
        if connection.caller.kind != WriterKind::Worker || connection.caller.read_only() {
            return self.refuse(id, "only a worker's token may offer to work, and its member may not be a viewer");
        }
        let scope = connection.scope.clone();
        let first = self.offers.entry(scope.clone()).or_default().insert(id, offer).is_none();
        self.tell_offers(&scope);
        if first {
            self.triggers(id, scope);
        }
    }

    fn withdraw_offer(&mut self, id: ConnectionId, scope: &Scope) {
        if self.offers.get_mut(scope).and_then(|offers| offers.remove(&id)).is_some() {
            self.tell_offers(scope);
        }
    }

    fn tell_offers(&mut self, scope: &Scope) {
        let offers: Vec<Offer> =
            self.offers.get(scope).map(|offers| offers.values().cloned().collect()).unwrap_or_default();
        self.projector.workers(scope.clone(), u32::try_from(offers.len()).unwrap_or(u32::MAX));
        // "No worker is connected" is part of a summary.
        let waiting = self.rows.get(scope).into_iter().flat_map(Rows::iter);
        let waiting = waiting.filter(|row| row.summary.as_ref().is_some_and(|summary| summary.queued.count > 0));
        for row in waiting {
            self.projector.again((scope.clone(), row.document), 0);
        }
        let message = Bytes::from(cbor::encode(&FromRelay::Workers { offers }));
        for connection in self.connections.values_mut().filter(|connection| connection.scope == *scope) {
            if connection.peer.is_some() {
                connection.push(message.clone());
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Projected(projected) => self.project(*projected),
            Ask::Writers(writers) => self.tell_writers(writers),
            Ask::Sought { claim, named, highest } => self.sought(claim, named, highest),
            Ask::Recorded { claim, epoch, outcome } => self.recorded(claim, epoch, outcome),
            Ask::Begun { key, epoch, connection, ask, outcome } => self.begun(&key, epoch, connection, ask, outcome),
            Ask::Members(scope) => self.tell_members(&scope),
            Ask::Marked { marks, outcome } => self.marked(marks, outcome),
            Ask::Buried { key, outcome } => self.buried(key, outcome),
            Ask::List { caller, query, answer } => {
                // Whoever asked may have gone.
                let _ = answer.send(self.listed(&caller, &query));
            }
            Ask::Say { connection, frame } => self.send(connection, &frame),
            Ask::Triggered(scope) => self.tell_triggers(&scope),
            Ask::Stop => {}
        }
    }

    fn project(&mut self, projected: Projected) {
        let (key, group) = (projected.key.clone(), projected.group);
        // Profiles have no rows.
        if !key.0.is_workspace() {
            return;
        }
        let known = self.rows_of(&key.0).get(&key.1);
        if known.is_some_and(|row| row.tombstone.is_some()) {
            return;
        }
        let saved = saved::derived(projected, known);
        let live = self.leases.get(&key).map(|lease| lease.live.clone());
        let (cursor, news) = self.rows_of(&key.0).put(Row { live, ..saved.clone() });
        if news {
            self.unsent.insert(key.0.clone());
        }
        // Saved also if it says the same: it covers more changes now.
        SavedRow { cursor, row: saved }.save(&self.log, &key, group);
    }

    fn rows_of(&mut self, scope: &Scope) -> &mut Rows {
        self.rows.entry(scope.clone()).or_insert_with(|| Rows::new(clock::now(), Vec::new()))
    }

    fn tell_writers(&mut self, writers: NewWriters) {
        let mut by_document: BTreeMap<Key, Vec<WriterRow>> = BTreeMap::new();
        for (key, actor, writer) in writers {
            by_document.entry(key).or_default().push(WriterRow { actor, writer });
        }
        for (key, rows) in by_document {
            let message = Bytes::from(cbor::encode(&FromRelay::Writers { document: key.1, rows }));
            for connection in self.connections.values_mut() {
                if connection.follows.contains(&key.1) && connection.scope_of(key.1) == key.0 {
                    connection.push(message.clone());
                }
            }
        }
    }

    /// Sends each connection of a scope the rows, and the marks of its member, that it lacks. Those in step share the
    /// encoded rows.
    fn send_rows(&mut self, scope: &Scope) {
        let Some(rows) = self.rows.get(scope) else { return };
        let mut encoded: HashMap<u64, Encoded> = HashMap::new();
        for connection in self.connections.values_mut() {
            if connection.scope != *scope || connection.peer.is_none() {
                continue;
            }
            if std::mem::take(&mut connection.reset) {
                let forget = FromRelay::Rows { cursor: 0, reset: true, rows: Vec::new(), complete: false };
                connection.push(cbor::encode(&forget).into());
            }
            let marks = self.marks.get(&connection.caller.member.scope());
            while !connection.congested {
                let page = encoded.entry(connection.cursor).or_insert_with(|| {
                    let Page { cursor, rows, complete } = rows.after(connection.cursor, PAGE);
                    let empty = rows.is_empty();
                    let message = cbor::encode(&FromRelay::Rows { cursor, reset: false, rows, complete }).into();
                    Encoded { message, cursor, complete, empty }
                });
                // A connection that is up to date hears nothing, but one that has just come hears that it is.
                let tells = !page.empty || connection.behind;
                // Marks first: with the page's cursor the client has both.
                let marks = marks.map(|marks| marks.between(connection.cursor, page.cursor)).unwrap_or_default();
                for (index, some) in marks.chunks(MAX_MARKS).enumerate() {
                    let last = (index + 1) * MAX_MARKS >= marks.len();
                    let cursor = (last && !tells).then_some(page.cursor);
                    connection.push(cbor::encode(&FromRelay::Read { marks: some.to_vec(), cursor }).into());
                }
                if tells {
                    connection.push(page.message.clone());
                }
                connection.cursor = page.cursor;
                connection.behind = !page.complete;
                if page.complete {
                    break;
                }
            }
        }
    }

    fn send(&mut self, id: ConnectionId, message: &FromRelay) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.push(cbor::encode(message).into());
        }
    }

    /// Says why, and ends the connection.
    fn refuse(&mut self, id: ConnectionId, why: &str) {
        self.send(id, &FromRelay::Error { message: why.to_owned() });
        if let Some(connection) = self.connections.get(&id) {
            connection.outgoing.close(why);
        }
    }
}

/// A page of rows as it is sent.
struct Encoded {
    message: Bytes,
    cursor: u64,
    complete: bool,
    empty: bool,
}

impl Connection {
    fn push(&mut self, message: Bytes) {
        self.congested |= self.outgoing.push(message) == Pushed::Congested;
    }

    /// Where a document that it names belongs.
    fn scope_of(&self, document: DocumentId) -> Scope {
        self.caller.scope_of(document)
    }
}

/// Runs what waits for the disk where that holds up nobody.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(call).await.unwrap_or(Err(StoreError::Closed))
}
