//! A signed-in device: the engine's [`Device`], its store and its link, and what pages have been given of it.
//!
//! In: events of the link, answers of the store, what pages ask. Out: what the device says to send and to store, and
//! patches, at most [`FLUSH_AFTER_MS`] after what caused them. A command is answered when its changes are durable; its
//! effect shows before.
//!
//! In order of reading: this file (what happens and what pages ask), [`show`] (what pages are told), [`keep`] (the
//! store), [`blobs`] (files).

mod blobs;
mod keep;
mod show;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use js_sys::{Function, Promise};
use skein_engine::blob::BlobId;
use skein_engine::device::{Device, DeviceConfig, DeviceError, Effects, Keeps};
use skein_engine::ids::{DocumentId, PeerId, Timestamp, random_id};
use skein_engine::session::Command;
use skein_engine::session::command::{Done, NewSession};
use skein_engine::wire::catalog::Welcome;
use skein_engine::wire::frame::{Frame, SyncFrame};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::{JsFuture, spawn_local};

use crate::account::Account;
use crate::browser::{Timeout, now};
use crate::link::{Link, LinkEvent, Path};
use crate::patch::{Fault, Identity, Patch};
use crate::screen::Screen;
use crate::store::{Left, Store};
use keep::{EVICT_FIRST_MS, Kept, Loading, Writing};
use show::Dirty;

thread_local! {
    /// The document that is being applied or read at this moment: if the module dies of it, the worker sets it aside.
    static AT_WORK: Cell<Option<DocumentId>> = const { Cell::new(None) };
}

/// The document during whose reading the module has died, if it has.
pub fn at_work() -> Option<DocumentId> {
    AT_WORK.get()
}

/// Runs `step`, during which this document is to blame.
fn on<T>(document: Option<DocumentId>, step: impl FnOnce() -> T) -> T {
    let before = AT_WORK.replace(document);
    let result = step();
    AT_WORK.set(before);
    result
}

const FLUSH_AFTER_MS: u64 = 4;
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
    evict: RefCell<Option<Timeout>>,
    uploading: Cell<bool>,
    /// Blobs that the relay has refused.
    refused_blobs: RefCell<BTreeSet<BlobId>>,
    /// Calls that wait for a document.
    waiting: RefCell<Vec<(DocumentId, Function)>>,
    last_contact: Cell<Option<Timestamp>>,
    catalog_closed: RefCell<Option<String>>,
    /// Documents that an engine has died of.
    aside: BTreeSet<DocumentId>,
}

impl Seat {
    /// Takes a seat: what the store has left is on the screen when this returns; the link is tried afterwards.
    pub async fn take(
        account: Account,
        known: Option<Welcome>,
        aside: Vec<DocumentId>,
        screen: Rc<RefCell<Screen>>,
        publish: Publish,
    ) -> Rc<Self> {
        let (store, mut faults) = match Store::open(account.workspace).await {
            Ok(store) => (Some(store), Vec::new()),
            Err(error) => (None, vec![Fault::from(error)]),
        };
        faults.extend(aside.iter().map(|document| {
            Fault::new("engine", format!("reading session {document} ended the engine, so it is left closed"))
        }));
        let mut left = Left::default();
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
        let config =
            DeviceConfig { peer: PeerId::from(random_id()), identity: identity.clone(), keeps: Keeps::default() };
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
                marks: left.marks.clone(),
                identity: None,
                unsent: left.to_open.clone(),
                documents: left.kept.iter().map(|kept| (kept.document, kept.clone())).collect(),
            }),
            keep: RefCell::default(),
            evict: RefCell::default(),
            uploading: Cell::new(false),
            refused_blobs: RefCell::default(),
            waiting: RefCell::default(),
            last_contact: Cell::new(left.last_contact),
            catalog_closed: RefCell::default(),
            aside: aside.into_iter().collect(),
        });
        seat.begin(left);
        seat
    }

    /// Puts everything that the store has left before the device.
    fn begin(self: &Rc<Self>, left: Left) {
        self.act(|device, now| {
            let mut effects = Effects::default();
            // Before any document is read: what names one of them is not sent before it.
            left.outbox.into_iter().for_each(|blob| effects += device.blob_waits(blob));
            device.restore_kept(left.kept);
            effects += device.restore_catalog(left.rows, left.cursor);
            for (document, rows) in left.writers {
                device.restore_writers(document, rows);
            }
            device.restore_marks(left.marks);
            // What the relay may not have goes out as soon as there is a link, and shows in the list before.
            for document in left.to_open {
                effects += device.open(now, document);
            }
            effects += device.restore_queue(left.queue);
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
        self.evict_later(EVICT_FIRST_MS);

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
        self.evict.take();
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

    /// The network has changed.
    pub fn renew(&self) {
        if let Some(link) = &*self.link.borrow() {
            link.renew();
        }
    }

    // --- What pages ask ------------------------------------------------------------------------------------------

    /// A page looks at a session: all of it, or why it isn't here.
    pub fn watch(self: &Rc<Self>, session: DocumentId) -> Vec<Patch> {
        self.show();
        self.screen.borrow_mut().watch(session);
        self.paint(session);
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
            let outcome = {
                let mut device = self.device.borrow_mut();
                // Never before what was given before it.
                match device.waiting_commands(session).iter().any(|entry| entry.failed.is_none()) {
                    true => device.command_later(now(), session, &command),
                    false => device.command(now(), session, &command),
                }
            };
            match outcome {
                Err(DeviceError::Opening(_)) if now().ms_since(asked) < OPEN_WITHIN_MS && !self.left.get() => {
                    self.document_comes(session).await;
                }
                // What is only listed here waits for its document.
                Err(DeviceError::Opening(_) | DeviceError::NotHere(_)) => {
                    break self.device.borrow_mut().command_later(now(), session, &command)?;
                }
                outcome => break outcome?,
            }
        };
        self.carry_out(effects);
        self.durable().await;
        Ok(done)
    }

    /// Saves a session as it is here as a new one: its id. Durable on return.
    pub async fn save_as_copy(self: &Rc<Self>, session: DocumentId) -> Result<DocumentId, Fault> {
        let (copy, effects) = self.device.borrow_mut().save_as_copy(now(), session)?;
        self.carry_out(effects);
        self.durable().await;
        Ok(copy)
    }

    /// Lets go of what the relay refused of a session. Durable on return.
    pub async fn discard_refused(self: &Rc<Self>, session: DocumentId) -> Result<(), Fault> {
        let (_, effects) = self.device.borrow_mut().discard_refused(session)?;
        self.carry_out(effects);
        self.durable().await;
        Ok(())
    }

    /// Lets go a command that waits for its document, or could not be done. Durable on return.
    pub async fn let_go(self: &Rc<Self>, id: &str) {
        self.act(|device, _| device.drop_waiting(id));
        self.durable().await;
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
        let queued = {
            let writing = self.writing.borrow();
            !writing.queue.is_empty() || !writing.commands.is_empty() || !writing.discard.is_empty() || writing.busy
        };
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
        let Effects {
            sync,
            catalog,
            store,
            discard,
            load,
            notices,
            wake,
            close_sync,
            close_catalog,
            queue,
            arrived,
            drop,
        } = effects;
        if let Some(link) = &*self.link.borrow() {
            sync.iter().for_each(|message| link.send(Path::Sync, message));
            catalog.iter().for_each(|message| link.send(Path::Catalog, message));
        }
        if self.store.is_some() && !(store.is_empty() && queue.is_empty() && discard.is_empty()) {
            let mut writing = self.writing.borrow_mut();
            writing.queue.extend(store);
            writing.commands.extend(queue);
            writing.discard.extend(discard);
            std::mem::drop(writing);
            self.write();
        }
        if !drop.is_empty() {
            self.drop_documents(drop);
        }
        for session in arrived {
            // No other engine has this store: what the device knows of is all that there is.
            let queued = self.device.borrow().all_waiting_commands().map(|entry| entry.id.clone()).collect();
            on(Some(session), || self.act(|device, now| device.do_waiting(now, session, &queued)));
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
            LinkEvent::Received(Path::Sync, bytes) => {
                on(document_of(&bytes), || self.act(|device, now| device.sync_received(now, &bytes)));
            }
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
                self.upload();
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
}

/// Which document a message of `/sync` is about.
fn document_of(message: &[u8]) -> Option<DocumentId> {
    match Frame::decode(message).ok()? {
        Frame::Sync(SyncFrame { document, .. }) | Frame::Ephemeral { document, .. } => Some(document),
        _ => None,
    }
}

/// Settles a promise.
fn call(resolve: &Function) {
    // A promise's own function doesn't throw.
    let _ = resolve.call0(&JsValue::NULL);
}
