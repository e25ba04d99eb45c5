//! The two sockets to the relay: opened with one-use tickets, reopened with back-off and jitter when either closes.
//!
//! In: `connect`, `send`. Out: [`LinkEvent`]s. It knows nothing of what passes through it. Both sockets stand and fall
//! together, so that a device is either connected or not.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};

use crate::account::{Account, ticket};
use crate::browser::{Timeout, now, text_of};
use crate::patch::Fault;

/// Which socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Documents.
    Sync,
    /// Rows, writers, leases.
    Catalog,
}

/// What happens on the link.
pub enum LinkEvent {
    /// A socket is open.
    Opened(Path),
    /// A binary message has come.
    Received(Path, Vec<u8>),
    /// A socket that was open is closed.
    Closed(Path),
    /// [`Link::state`] has changed.
    Changed,
}

/// Why there is no link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Both sockets are open.
    pub open: bool,
    /// A first try hasn't ended yet.
    pub fresh: bool,
    /// Why the last try failed.
    pub fault: Option<Fault>,
}

/// A link; dropping it closes both sockets.
pub struct Link(Rc<Inner>);

struct Inner {
    account: Account,
    tell: Box<dyn Fn(LinkEvent)>,
    state: RefCell<LinkState>,
    /// Counts tries: whatever still comes of an older one is not heard.
    attempt: Cell<u64>,
    failures: Cell<u32>,
    opened_at: Cell<u64>,
    sync: RefCell<Option<Socket>>,
    catalog: RefCell<Option<Socket>>,
    /// The next try.
    pause: RefCell<Option<Timeout>>,
    /// The end of this one.
    deadline: RefCell<Option<Timeout>>,
    /// The relay serves another workspace or version: trying again is of no use.
    ended: Cell<bool>,
}

const FIRST_PAUSE_MS: f64 = 400.0;
const LONGEST_PAUSE_MS: f64 = 15_000.0;
const ANSWER_WITHIN_MS: u64 = 15_000;
/// A link that stood this long has earned a quick retry.
const SETTLED_MS: u64 = 5_000;

impl Link {
    /// A link that isn't opened yet.
    pub fn new(account: Account, tell: impl Fn(LinkEvent) + 'static) -> Self {
        Self(Rc::new(Inner {
            account,
            tell: Box::new(tell),
            state: RefCell::new(LinkState { fresh: true, ..LinkState::default() }),
            attempt: Cell::new(0),
            failures: Cell::new(0),
            opened_at: Cell::new(0),
            sync: RefCell::default(),
            catalog: RefCell::default(),
            pause: RefCell::default(),
            deadline: RefCell::default(),
            ended: Cell::new(false),
        }))
    }

    /// Tries now, unless the link stands or a try is under way.
    pub fn connect(&self) {
        let trying = self.0.pause.borrow().is_none() && self.0.attempt.get() > 0;
        if !self.0.state.borrow().open && !trying && !self.0.ended.get() {
            self.0.connect();
        }
    }

    /// The network is another one: the sockets may be dead without knowing it. Both are opened anew, at once.
    pub fn renew(&self) {
        if self.0.state.borrow().open {
            self.0.lost(self.0.attempt.get(), Fault::new("unreachable", "the network has changed"));
        }
        self.connect();
    }

    /// Sends a binary message; one for a socket that isn't open is lost, as it would be on the way.
    pub fn send(&self, path: Path, message: &[u8]) {
        if let Some(socket) = &*self.0.socket(path).borrow()
            && socket.inner.ready_state() == WebSocket::OPEN
        {
            // It fails only when the socket is closing, which is told soon.
            let _ = socket.inner.send_with_u8_array(message);
        }
    }

    /// Closes both sockets because of what came through them, and tries again later.
    pub fn fail(&self, reason: &str) {
        self.0.lost(self.0.attempt.get(), Fault::new("refused", reason));
    }

    /// Closes both sockets for good.
    pub fn end(&self, reason: &str) {
        self.0.ended.set(true);
        self.fail(reason);
    }

    /// How it stands.
    pub fn state(&self) -> LinkState {
        self.0.state.borrow().clone()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.0.ended.set(true);
        self.0.attempt.set(self.0.attempt.get() + 1);
        self.0.pause.take();
        self.0.deadline.take();
        self.0.sync.take();
        self.0.catalog.take();
    }
}

impl Inner {
    fn socket(&self, path: Path) -> &RefCell<Option<Socket>> {
        match path {
            Path::Sync => &self.sync,
            Path::Catalog => &self.catalog,
        }
    }

    fn connect(self: &Rc<Self>) {
        let attempt = self.attempt.get() + 1;
        self.attempt.set(attempt);
        self.pause.take();
        let this = self.clone();
        spawn_local(async move {
            let tickets = match ticket(&this.account).await {
                Ok(sync) => ticket(&this.account).await.map(|catalog| [(Path::Sync, sync), (Path::Catalog, catalog)]),
                Err(fault) => Err(fault),
            };
            if this.attempt.get() != attempt {
                return;
            }
            match tickets {
                Ok(tickets) => this.open(attempt, tickets),
                Err(fault) => this.lost(attempt, fault),
            }
        });
    }

    fn open(self: &Rc<Self>, attempt: u64, tickets: [(Path, String); 2]) {
        for (path, ticket) in tickets {
            match Socket::open(self, attempt, path, &ticket) {
                Ok(socket) => *self.socket(path).borrow_mut() = Some(socket),
                Err(fault) => return self.lost(attempt, fault),
            }
        }
        let this = Rc::downgrade(self);
        *self.deadline.borrow_mut() = Some(Timeout::new(ANSWER_WITHIN_MS, move || {
            if let Some(this) = this.upgrade() {
                this.lost(attempt, Fault::new("unreachable", "the relay does not answer"));
            }
        }));
    }

    fn opened(&self, attempt: u64, path: Path) {
        if self.attempt.get() != attempt {
            return;
        }
        (self.tell)(LinkEvent::Opened(path));
        let open = |socket: &RefCell<Option<Socket>>| {
            socket.borrow().as_ref().is_some_and(|socket| socket.inner.ready_state() == WebSocket::OPEN)
        };
        if open(&self.sync) && open(&self.catalog) {
            self.deadline.take();
            self.opened_at.set(now().0);
            *self.state.borrow_mut() = LinkState { open: true, fresh: false, fault: None };
            (self.tell)(LinkEvent::Changed);
        }
    }

    fn received(&self, attempt: u64, path: Path, message: Vec<u8>) {
        if self.attempt.get() == attempt {
            (self.tell)(LinkEvent::Received(path, message));
        }
    }

    /// The try or the link has ended: the next one is due after a while.
    fn lost(self: &Rc<Self>, attempt: u64, fault: Fault) {
        if self.attempt.get() != attempt {
            return;
        }
        self.attempt.set(attempt + 1);
        self.deadline.take();
        let was_open = [(Path::Sync, self.sync.take()), (Path::Catalog, self.catalog.take())];
        let settled = self.state.borrow().open && now().0.saturating_sub(self.opened_at.get()) >= SETTLED_MS;
        let failures = if settled { 0 } else { self.failures.get() };
        self.failures.set(failures + 1);
        *self.state.borrow_mut() = LinkState { open: false, fresh: false, fault: Some(fault) };
        for (path, socket) in was_open {
            if socket.is_some_and(|socket| socket.opened.get()) {
                (self.tell)(LinkEvent::Closed(path));
            }
        }
        if !self.ended.get() {
            let longest = (FIRST_PAUSE_MS * f64::from(1 << failures.min(10))).min(LONGEST_PAUSE_MS);
            // Many devices that lost the same relay don't come back in step.
            let pause = longest * (0.5 + js_sys::Math::random() / 2.0);
            let this = Rc::downgrade(self);
            *self.pause.borrow_mut() = Some(Timeout::new(pause as u64, move || {
                if let Some(this) = this.upgrade() {
                    this.connect();
                }
            }));
        }
        (self.tell)(LinkEvent::Changed);
    }
}

/// One WebSocket with its listeners; dropping it closes it unheard.
struct Socket {
    inner: WebSocket,
    opened: Rc<Cell<bool>>,
    _open: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _close: Closure<dyn FnMut(CloseEvent)>,
}

impl Socket {
    fn open(link: &Rc<Inner>, attempt: u64, path: Path, ticket: &str) -> Result<Self, Fault> {
        let place = match path {
            Path::Sync => "/sync?ticket=",
            Path::Catalog => "/catalog?ticket=",
        };
        let url = [&link.account.websocket_address(), place, ticket].concat();
        let inner = WebSocket::new(&url).map_err(|error| Fault::new("unreachable", text_of(&error)))?;
        inner.set_binary_type(BinaryType::Arraybuffer);
        let opened = Rc::new(Cell::new(false));

        let (weak, flag) = (Rc::downgrade(link), opened.clone());
        let open = Closure::<dyn FnMut()>::new(move || {
            flag.set(true);
            if let Some(link) = weak.upgrade() {
                link.opened(attempt, path);
            }
        });
        let weak = Rc::downgrade(link);
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            // The relay sends no text; whatever else comes is not for us.
            if let (Some(link), Ok(buffer)) = (weak.upgrade(), event.data().dyn_into::<ArrayBuffer>()) {
                link.received(attempt, path, Uint8Array::new(&buffer).to_vec());
            }
        });
        let weak = Rc::downgrade(link);
        let close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            if let Some(link) = weak.upgrade() {
                let said = event.reason();
                let reason = if said.is_empty() { "the connection was closed".to_owned() } else { said };
                link.lost(attempt, Fault::new("unreachable", reason));
            }
        });
        inner.set_onopen(Some(open.as_ref().unchecked_ref()));
        inner.set_onmessage(Some(message.as_ref().unchecked_ref()));
        inner.set_onclose(Some(close.as_ref().unchecked_ref()));
        Ok(Self { inner, opened, _open: open, _message: message, _close: close })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.inner.set_onopen(None);
        self.inner.set_onmessage(None);
        self.inner.set_onclose(None);
        // It may be closed already.
        let _ = self.inner.close();
    }
}
