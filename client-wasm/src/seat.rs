//! A signed-in device: the engine's [`Device`], its store and its link, and what pages have been given of it.
//!
//! In: events of the link, answers of the store, what pages ask. Out: what the device says to send and to store, and
//! patches, at most [`FLUSH_AFTER_MS`] after what caused them. A command is answered when its changes are durable; its
//! effect shows before.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::{Rc, Weak};

use js_sys::{Function, Promise};
use skein_engine::device::{Device, DeviceConfig, DeviceError, Effects, Notice};
use skein_engine::ids::{DocumentId, PeerId, Timestamp, random_id};
use skein_engine::session::Command;
use skein_engine::session::command::{Done, NewSession};
use skein_engine::storage::Record;
use skein_engine::wire::catalog::{Row, Welcome};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::{JsFuture, spawn_local};

use crate::account::Account;
use crate::browser::{Timeout, now, sleep};
use crate::link::{Link, LinkEvent, Path};
use crate::patch::{Absence, AgentRow, Fault, Grew, Identity, Patch, SyncRow, SyncWord, WorkspaceRow};
use crate::screen::{Growth, Screen};
use crate::store::{CatalogWrites, Store, changed_rows};

const FLUSH_AFTER_MS: u64 = 4;
const KEEP_CATALOG_AFTER_MS: u64 = 1_500;
const STORE_AGAIN_AFTER_MS: u64 = 3_000;
/// How long a command waits for a session that is being read or fetched.
const OPEN_WITHIN_MS: u64 = 15_000;

/// Gives patches to whoever hands them on to pages.
pub type Publish = Rc<dyn Fn(Vec<Patch>)>;

/// See the module.
pub struct Seat {
    account: Account,
    device: RefCell<Device>,
    store: Option<Store>,
    link: RefCell<Option<Link>>,
    screen: Rc<RefCell<Screen>>,
    publish: Publish,
    /// A newer seat, or none, has taken its place.
    left: Cell<bool>,
    dirty: RefCell<Dirty>,
    flush: RefCell<Option<Timeout>>,
    wake: RefCell<Option<(Timestamp, Timeout)>>,
    writing: RefCell<Writing>,
    loading: RefCell<Loading>,
    kept: RefCell<Kept>,
    keep: RefCell<Option<Timeout>>,
    /// Calls that wait for a document.
    waiting: RefCell<Vec<(DocumentId, Function)>>,
    last_contact: Cell<Option<Timestamp>>,
    catalog_closed: RefCell<Option<String>>,
}

/// What pages have to be told at the next flush.
#[derive(Default)]
struct Dirty {
    rows: BTreeSet<DocumentId>,
    sessions: BTreeSet<DocumentId>,
    grown: Vec<Grew>,
    activities: BTreeMap<DocumentId, Patch>,
    workspace: bool,
    sync: bool,
    faults: Vec<Fault>,
}

/// Changes on their way into the store: one group is being written, the next one gathers.
#[derive(Default)]
struct Writing {
    queue: Vec<Record>,
    /// Called when everything queued so far is durable.
    waiting: Vec<Function>,
    busy: bool,
}

/// Documents on their way out of the store, one after the other.
#[derive(Default)]
struct Loading {
    queue: VecDeque<DocumentId>,
    busy: bool,
}

/// What the store has of the catalog.
#[derive(Default)]
struct Kept {
    rows: BTreeMap<DocumentId, Row>,
    /// How many writers of each document: rows are only ever added.
    writers: BTreeMap<DocumentId, usize>,
    identity: Option<Welcome>,
    unsent: BTreeSet<DocumentId>,
}

impl Seat {
    /// Takes a seat: what the store has left is on the screen when this returns; the link is tried afterwards.
    pub async fn take(
        account: Account,
        known: Option<Welcome>,
        screen: Rc<RefCell<Screen>>,
        publish: Publish,
    ) -> Rc<Self> {
        let (store, mut faults) = match Store::open(account.workspace).await {
            Ok(store) => (Some(store), Vec::new()),
            Err(error) => (None, vec![Fault::from(error)]),
        };
        let mut left = crate::store::Left::default();
        let mut identity = known;
        if let Some(store) = &store {
            match store.left().await {
                Ok(found) => left = found,
                Err(error) => faults.push(error.into()),
            }
            if identity.is_none() {
                identity = store.identity().await.unwrap_or_default();
            }
        }
        let config = DeviceConfig { peer: PeerId::from(random_id()), identity: identity.clone(), prefetch: true };
        let seat = Rc::new(Self {
            account,
            device: RefCell::new(Device::new(config)),
            store,
            link: RefCell::default(),
            screen,
            publish,
            left: Cell::new(false),
            dirty: RefCell::new(Dirty { workspace: true, sync: true, faults, ..Dirty::default() }),
            flush: RefCell::default(),
            wake: RefCell::default(),
            writing: RefCell::default(),
            loading: RefCell::default(),
            kept: RefCell::new(Kept {
                rows: left.rows.iter().map(|row| (row.document, row.clone())).collect(),
                writers: left.writers.iter().map(|(id, rows)| (*id, rows.len())).collect(),
                identity: None,
                unsent: left.to_open.clone(),
            }),
            keep: RefCell::default(),
            waiting: RefCell::default(),
            last_contact: Cell::new(left.last_contact),
            catalog_closed: RefCell::default(),
        });
        seat.begin(left);
        seat
    }

    /// Puts everything that the store has left before the device.
    fn begin(self: &Rc<Self>, left: crate::store::Left) {
        self.act(|device, now| {
            let mut effects = device.restore_catalog(left.rows, left.cursor);
            for (document, rows) in left.writers {
                device.restore_writers(document, rows);
            }
            // What the relay may not have goes out as soon as there is a link, and shows in the list before.
            for document in left.to_open {
                effects += device.open(now, document);
            }
            effects
        });
        let watched = self.screen.borrow().watched();
        for session in watched {
            self.act(|device, now| device.open(now, session));
            self.dirty.borrow_mut().sessions.insert(session);
        }
        let rows = self.device.borrow_mut().summaries(now());
        self.dirty.borrow_mut().rows.extend(rows.iter().map(|row| row.id));
        self.show();
        self.keep_soon();

        let weak = Rc::downgrade(self);
        let link = Link::new(self.account.clone(), move |event| {
            if let Some(seat) = weak.upgrade() {
                seat.linked(event);
            }
        });
        link.connect();
        *self.link.borrow_mut() = Some(link);
    }

    /// Leaves the seat: nothing more comes of it. What is queued for the store is still written.
    pub fn leave(&self) {
        self.left.set(true);
        self.link.take();
        self.flush.take();
        self.wake.take();
        self.keep.take();
    }

    /// Where it sits.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Who sits here.
    pub fn identity(&self) -> Option<Identity> {
        self.device.borrow().identity().map(|welcome| Identity::new(&self.account.relay, welcome))
    }

    /// Tries to reach the relay now.
    pub fn retry(&self) {
        if let Some(link) = &*self.link.borrow() {
            link.connect();
        }
    }

    // --- What pages ask ------------------------------------------------------------------------------------------

    /// A page looks at a session: all of it, or why it isn't here.
    pub fn watch(self: &Rc<Self>, session: DocumentId) -> Vec<Patch> {
        self.show();
        self.screen.borrow_mut().watch(session);
        self.act(|device, now| device.open(now, session));
        let mut loading = self.loading.borrow_mut();
        if let Some(at) = loading.queue.iter().position(|queued| *queued == session) {
            loading.queue.remove(at);
            loading.queue.push_front(session);
        }
        drop(loading);
        self.look(session).into_iter().collect()
    }

    /// Creates a session. Durable on return.
    pub async fn create(self: &Rc<Self>, new: NewSession) -> Result<DocumentId, Fault> {
        let (id, effects) = self.device.borrow_mut().create(now(), &new)?;
        self.carry_out(effects);
        self.durable().await;
        Ok(id)
    }

    /// Does what a person asks of a session. Durable on return.
    pub async fn command(self: &Rc<Self>, session: DocumentId, command: Command) -> Result<Done, Fault> {
        self.act(|device, now| device.open(now, session));
        let asked = now();
        let (done, effects) = loop {
            let outcome = self.device.borrow_mut().command(now(), session, &command);
            match outcome {
                Err(DeviceError::Opening(_)) if now().ms_since(asked) < OPEN_WITHIN_MS && !self.left.get() => {
                    self.document_comes(session).await;
                }
                outcome => break outcome?,
            }
        };
        self.carry_out(effects);
        self.durable().await;
        Ok(done)
    }

    /// Ends when there is news of this document, and after a while in any case.
    async fn document_comes(&self, document: DocumentId) {
        let timer = RefCell::new(None);
        let promise = Promise::new(&mut |resolve, _| {
            let late = resolve.clone();
            *timer.borrow_mut() = Some(Timeout::new(OPEN_WITHIN_MS, move || call(&late)));
            self.waiting.borrow_mut().push((document, resolve));
        });
        // It is never rejected.
        let _ = JsFuture::from(promise).await;
    }

    /// Ends when everything that the device has said to store is durable, and pages have been told what it changed.
    async fn durable(self: &Rc<Self>) {
        let queued = !self.writing.borrow().queue.is_empty() || self.writing.borrow().busy;
        if self.store.is_some() && queued {
            let promise = Promise::new(&mut |resolve, _| self.writing.borrow_mut().waiting.push(resolve));
            // It is never rejected: a store that is full is tried again, and the person told.
            let _ = JsFuture::from(promise).await;
        }
        self.show();
    }

    // --- The device ----------------------------------------------------------------------------------------------

    fn act(self: &Rc<Self>, step: impl FnOnce(&mut Device, Timestamp) -> Effects) {
        if self.left.get() {
            return;
        }
        let effects = step(&mut self.device.borrow_mut(), now());
        self.carry_out(effects);
    }

    fn carry_out(self: &Rc<Self>, effects: Effects) {
        let Effects { sync, catalog, store, load, notices, wake, close_sync, close_catalog } = effects;
        if let Some(link) = &*self.link.borrow() {
            sync.iter().for_each(|message| link.send(Path::Sync, message));
            catalog.iter().for_each(|message| link.send(Path::Catalog, message));
        }
        if !store.is_empty() && self.store.is_some() {
            self.writing.borrow_mut().queue.extend(store);
            self.write();
        }
        if !load.is_empty() {
            self.loading.borrow_mut().queue.extend(load);
            self.load();
        }
        if let Some(at) = wake {
            self.wake_at(at);
        }
        if !notices.is_empty() {
            self.note(notices);
        }
        if let Some(why) = close_sync {
            self.later(move |seat| {
                if let Some(link) = &*seat.link.borrow() {
                    link.fail(&why);
                }
            });
        }
        if let Some(why) = close_catalog {
            *self.catalog_closed.borrow_mut() = Some(why.clone());
            self.later(move |seat| {
                if let Some(link) = &*seat.link.borrow() {
                    link.end(&why);
                }
            });
        }
    }

    /// Runs `step` when whoever calls us now has returned.
    fn later(self: &Rc<Self>, step: impl FnOnce(&Rc<Self>) + 'static) {
        let weak = Rc::downgrade(self);
        spawn_local(async move {
            if let Some(seat) = weak.upgrade() {
                step(&seat);
            }
        });
    }

    fn linked(self: &Rc<Self>, event: LinkEvent) {
        if matches!(event, LinkEvent::Received(..)) {
            self.last_contact.set(Some(now()));
        }
        match event {
            LinkEvent::Opened(Path::Sync) => self.act(Device::sync_opened),
            LinkEvent::Opened(Path::Catalog) => self.act(Device::catalog_opened),
            LinkEvent::Closed(Path::Sync) => self.act(Device::sync_closed),
            LinkEvent::Closed(Path::Catalog) => self.act(Device::catalog_closed),
            LinkEvent::Received(Path::Sync, bytes) => self.act(|device, now| device.sync_received(now, &bytes)),
            LinkEvent::Received(Path::Catalog, bytes) => {
                self.act(|device, now| device.catalog_received(now, &bytes));
                self.keep_soon();
            }
            LinkEvent::Changed => {
                self.dirty.borrow_mut().sync = true;
                // What isn't here reads "offline" or "opening", as the link stands.
                let watched = self.screen.borrow().watched();
                self.dirty.borrow_mut().sessions.extend(watched);
                self.show_soon();
            }
        }
    }

    fn wake_at(self: &Rc<Self>, at: Timestamp) {
        let mut wake = self.wake.borrow_mut();
        if wake.as_ref().is_some_and(|(due, _)| *due <= at) {
            return;
        }
        let weak = Rc::downgrade(self);
        let timer = Timeout::new(at.ms_since(now()), move || {
            if let Some(seat) = weak.upgrade() {
                seat.wake.take();
                seat.act(Device::wake);
            }
        });
        *wake = Some((at, timer));
    }

    fn note(self: &Rc<Self>, notices: Vec<Notice>) {
        let mut dirty = self.dirty.borrow_mut();
        let screen = self.screen.borrow();
        for notice in notices {
            match notice {
                Notice::Document(document) | Notice::Unavailable(document) => {
                    if screen.watches(document) {
                        dirty.sessions.insert(document);
                    }
                    self.waiting.borrow_mut().retain(|(awaited, resolve)| {
                        let comes = *awaited == document;
                        if comes {
                            call(resolve);
                        }
                        !comes
                    });
                }
                Notice::Summary(document) => {
                    dirty.rows.insert(document);
                }
                Notice::Grew { session, message, part, kind, offset, text } => {
                    if screen.watches(session) {
                        dirty.grown.push(Grew { session, message, part, kind, offset, text });
                    }
                }
                Notice::Activity { session, state, tool } => {
                    if screen.watches(session) {
                        dirty.activities.insert(session, Patch::Activity { session, state, tool });
                    }
                }
                Notice::Sync => dirty.sync = true,
                Notice::Workspace => dirty.workspace = true,
                Notice::Refused { message, .. } => dirty.faults.push(Fault::new("refused", message)),
                // For workers.
                Notice::Ephemeral { .. } | Notice::Lease(_) => {}
            }
        }
        drop(dirty);
        drop(screen);
        self.show_soon();
    }

    // --- The screen ----------------------------------------------------------------------------------------------

    fn show_soon(self: &Rc<Self>) {
        let mut flush = self.flush.borrow_mut();
        if flush.is_none() && !self.left.get() {
            let weak = Rc::downgrade(self);
            *flush = Some(Timeout::new(FLUSH_AFTER_MS, move || {
                if let Some(seat) = weak.upgrade() {
                    seat.show();
                }
            }));
        }
    }

    /// Gives out everything that has changed.
    fn show(self: &Rc<Self>) {
        self.flush.take();
        if self.left.get() {
            return;
        }
        let patches = self.patches();
        if !patches.is_empty() {
            (self.publish)(patches);
        }
    }

    fn patches(&self) -> Vec<Patch> {
        let Dirty { rows, mut sessions, grown, activities, workspace, sync, faults } = self.dirty.take();
        let mut patches = Vec::new();
        if workspace {
            let identity = self.identity();
            patches.extend(self.screen.borrow_mut().identity(identity));
            let row = self.workspace();
            patches.extend(self.screen.borrow_mut().workspace(row));
        }
        if !rows.is_empty() {
            let now = now();
            let rows: Vec<_> = rows.into_iter().map(|id| (id, self.device.borrow_mut().summary(now, id))).collect();
            patches.extend(self.screen.borrow_mut().rows(rows));
        }
        for session in &sessions {
            patches.extend(self.look(*session));
        }
        for grew in grown {
            let session = grew.session;
            // A conversation that was just read holds it already.
            if sessions.contains(&session) {
                continue;
            }
            let growth = self.screen.borrow_mut().grew(grew);
            match growth {
                Growth::Joined(patch) => patches.push(patch),
                Growth::Known => {}
                Growth::Gap => {
                    sessions.insert(session);
                    patches.extend(self.look(session));
                }
            }
        }
        patches.extend(activities.into_values());
        if sync {
            let row = self.sync();
            patches.extend(self.screen.borrow_mut().sync(row));
        }
        patches.extend(faults.into_iter().map(|fault| Patch::Fault { fault }));
        patches
    }

    /// A watched session as it is now.
    fn look(&self, session: DocumentId) -> Option<Patch> {
        let found = self.device.borrow_mut().conversation(now(), session);
        let mut screen = self.screen.borrow_mut();
        match found {
            Ok(conversation) => screen.conversation(session, conversation),
            Err(DeviceError::Opening(_)) => screen.absent(session, Absence::Opening),
            Err(DeviceError::Broken { .. }) => screen.absent(session, Absence::Unknown),
            Err(_) if self.is_open() => screen.absent(session, Absence::Unknown),
            Err(_) => screen.absent(session, Absence::Offline),
        }
    }

    fn is_open(&self) -> bool {
        self.link.borrow().as_ref().is_some_and(|link| link.state().open)
    }

    fn workspace(&self) -> WorkspaceRow {
        let device = self.device.borrow();
        let workspace = device.workspace();
        let mut models: Vec<String> = Vec::new();
        for model in device.offers().iter().flat_map(|offer| &offer.models) {
            if !models.contains(model) {
                models.push(model.clone());
            }
        }
        WorkspaceRow {
            name: workspace.name,
            default_agent: workspace.default_agent,
            agents: workspace
                .agents
                .into_iter()
                .map(|(id, agent)| AgentRow { id, name: agent.name, model: agent.model, thread: agent.thread })
                .collect(),
            models,
            workers: device.offers().len(),
        }
    }

    fn sync(&self) -> SyncRow {
        let sync = self.device.borrow().sync_state();
        let link = self.link.borrow().as_ref().map(Link::state).unwrap_or_default();
        let turned_away = self.catalog_closed.borrow().clone();
        let not_wanted = link.fault.as_ref().is_some_and(|fault| fault.code != "unreachable");
        let (state, changes) = if turned_away.is_some() || (!link.open && not_wanted) {
            (SyncWord::Refused, sync.pending)
        } else if !link.open && !link.fresh && link.fault.is_some() {
            (SyncWord::Offline, sync.pending)
        } else if !sync.connected || !sync.caught_up {
            (SyncWord::Connecting, sync.pending)
        } else if sync.refused > 0 {
            (SyncWord::Refused, sync.refused)
        } else if sync.pending > 0 {
            (SyncWord::Sending, sync.pending)
        } else {
            (SyncWord::UpToDate, 0)
        };
        let reason = turned_away.or_else(|| link.fault.map(|fault| fault.detail));
        SyncRow { state, changes, last_contact: self.last_contact.get(), reason }
    }

    // --- The store -----------------------------------------------------------------------------------------------

    /// Writes what is queued, group after group, unless that is under way.
    fn write(self: &Rc<Self>) {
        if std::mem::replace(&mut self.writing.borrow_mut().busy, true) {
            return;
        }
        let seat = self.clone();
        spawn_local(async move {
            let mut told = false;
            loop {
                let (group, waiting) = {
                    let mut writing = seat.writing.borrow_mut();
                    if writing.queue.is_empty() {
                        writing.busy = false;
                        writing.waiting.drain(..).for_each(|resolve| call(&resolve));
                        break;
                    }
                    (std::mem::take(&mut writing.queue), std::mem::take(&mut writing.waiting))
                };
                let Some(store) = &seat.store else { break };
                // The relay has everything else.
                let member = seat.device.borrow().identity().map(|identity| identity.member.clone());
                let own: BTreeSet<DocumentId> = group
                    .iter()
                    .filter(|record| Some(record.received_from.as_str()) == member.as_deref())
                    .map(|record| record.document)
                    .collect();
                match store.append(&group, &own).await {
                    Ok(()) => {
                        waiting.iter().for_each(call);
                        if !own.is_empty() {
                            seat.kept.borrow_mut().unsent.extend(own);
                            seat.keep_soon();
                        }
                        told = false;
                    }
                    Err(error) => {
                        seat.device.borrow_mut().store_failed();
                        {
                            let mut writing = seat.writing.borrow_mut();
                            writing.queue.splice(..0, group);
                            writing.waiting.splice(..0, waiting);
                        }
                        if !std::mem::replace(&mut told, true) {
                            seat.dirty.borrow_mut().faults.push(error.into());
                            seat.show_soon();
                        }
                        sleep(STORE_AGAIN_AFTER_MS).await;
                    }
                }
            }
        });
    }

    /// Reads what is wanted, one document after the other, unless that is under way.
    fn load(self: &Rc<Self>) {
        if std::mem::replace(&mut self.loading.borrow_mut().busy, true) {
            return;
        }
        let seat = self.clone();
        spawn_local(async move {
            loop {
                let next = {
                    let mut loading = seat.loading.borrow_mut();
                    let next = if seat.left.get() { None } else { loading.queue.pop_front() };
                    loading.busy = next.is_some();
                    next
                };
                let Some(document) = next else { break };
                let records = match &seat.store {
                    Some(store) => store.scan(document).await,
                    None => Ok(Vec::new()),
                };
                let records = records.unwrap_or_else(|error| {
                    seat.dirty.borrow_mut().faults.push(error.into());
                    Vec::new()
                });
                seat.act(|device, now| device.loaded(now, document, records));
                // It is here, or it isn't: whoever looks at it learns which.
                seat.note(vec![Notice::Document(document), Notice::Summary(document)]);
            }
        });
    }

    fn keep_soon(self: &Rc<Self>) {
        let mut keep = self.keep.borrow_mut();
        if keep.is_none() && !self.left.get() && self.store.is_some() {
            let weak: Weak<Self> = Rc::downgrade(self);
            *keep = Some(Timeout::new(KEEP_CATALOG_AFTER_MS, move || {
                if let Some(seat) = weak.upgrade() {
                    seat.keep.take();
                    spawn_local(async move { seat.keep_catalog().await });
                }
            }));
        }
    }

    /// Keeps what has changed of the catalog since the last time.
    async fn keep_catalog(self: &Rc<Self>) {
        let Some(store) = &self.store else { return };
        let writes = {
            let device = self.device.borrow();
            let mut kept = self.kept.borrow_mut();
            let (rows, cursor) = device.catalog_rows();
            let (rows, removed) = changed_rows(&mut kept.rows, rows);
            let mut writers = device.writer_rows();
            writers.retain(|(id, rows)| kept.writers.insert(*id, rows.len()) != Some(rows.len()));
            let identity = device.identity().filter(|identity| kept.identity.as_ref() != Some(identity)).cloned();
            if identity.is_some() {
                kept.identity.clone_from(&identity);
            }
            let sent: Vec<DocumentId> = kept.unsent.iter().filter(|id| device.acknowledged(**id)).copied().collect();
            for id in &sent {
                kept.unsent.remove(id);
            }
            CatalogWrites { rows, removed, cursor, writers, identity, last_contact: self.last_contact.get(), sent }
        };
        if let Err(error) = store.keep(writes).await {
            // What wasn't kept counts as changed the next time.
            let mut kept = self.kept.borrow_mut();
            *kept = Kept { unsent: std::mem::take(&mut kept.unsent), ..Kept::default() };
            drop(kept);
            self.dirty.borrow_mut().faults.push(error.into());
            self.show_soon();
        }
    }
}

/// Settles a promise.
fn call(resolve: &Function) {
    // A promise's own function doesn't throw.
    let _ = resolve.call0(&JsValue::NULL);
}
