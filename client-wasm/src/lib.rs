//! The engine of Skein in the browser, inside a worker: two WebSockets to the relay, IndexedDB, and patches for pages.
//!
//! In order of reading: [`Engine`] (what the worker calls), [`seat`] (a signed-in device), [`screen`] and [`patch`]
//! (what crosses to the page), [`link`] (the sockets), [`account`] (signing in), [`store`] on [`database`] (IndexedDB),
//! [`browser`] (the few globals).
//!
//! Invariant: it never touches the DOM, and what it gives out are plain rows: no page ever holds a document.

pub mod account;
#[cfg(feature = "bench")]
pub mod bench;
pub mod browser;
pub mod database;
pub mod link;
pub mod patch;
pub mod screen;
pub mod seat;
pub mod store;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Array, Function, Promise, Uint8Array};
use serde::{Deserialize, Serialize};
use skein_engine::blob::BlobId;
use skein_engine::ids::DocumentId;
use skein_engine::session::Command;
use skein_engine::session::command::NewSession;
use skein_engine::wire::catalog::Welcome;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

use crate::account::{Account, Accounts, sign_in};
use crate::browser::on_global;
use crate::patch::{Fault, Patch, SignIn};
use crate::screen::Screen;
use crate::seat::{Publish, Seat};
use crate::store::Store;

/// The one engine of a worker.
#[wasm_bindgen]
pub struct Engine(Rc<Inner>);

struct Inner {
    screen: Rc<RefCell<Screen>>,
    publish: Publish,
    accounts: Option<Accounts>,
    seat: RefCell<Option<Rc<Seat>>>,
    /// Signing in takes a while: only the last one counts.
    signing: Cell<u32>,
}

#[derive(Deserialize)]
struct SignOut {
    forget: bool,
}

#[derive(Deserialize)]
struct Do {
    session: DocumentId,
    command: Command,
}

#[derive(Deserialize)]
struct OfSession {
    session: DocumentId,
}

#[derive(Deserialize)]
struct LetGo {
    id: String,
}

#[derive(Serialize, Deserialize)]
struct Blob {
    id: BlobId,
}

#[derive(Serialize)]
struct Created {
    id: DocumentId,
}

#[wasm_bindgen]
impl Engine {
    /// Starts: reads who is signed in, and everything that lists need, from IndexedDB; the network comes afterwards.
    /// `publish` is called with arrays of patches, `broken` with a text when the module has panicked and is of no use
    /// any more.
    pub async fn start(publish: Function, broken: Function) -> Engine {
        std::panic::set_hook(Box::new(move |info| {
            // There is nobody left to tell of an exception.
            let _ = broken.call1(&JsValue::NULL, &info.to_string().into());
        }));
        let screen = Rc::new(RefCell::new(Screen::default()));
        let publish: Publish = Rc::new(move |patches: Vec<Patch>| {
            // What the worker does with them is its own business: an exception there is reported there.
            let _ = publish.call1(&JsValue::NULL, &to_js(&patches));
        });
        let mut faults = Vec::new();
        let accounts = Accounts::open().await.map_err(|error| faults.push(Fault::from(error))).ok();
        let account = match &accounts {
            Some(accounts) => accounts.read().await.unwrap_or_else(|error| {
                faults.push(error.into());
                None
            }),
            None => None,
        };
        let inner = Rc::new(Inner { screen, publish, accounts, seat: RefCell::default(), signing: Cell::new(0) });
        if let Some(account) = account {
            inner.sit(account, None).await;
        }
        if !faults.is_empty() {
            (inner.publish)(faults.into_iter().map(|fault| Patch::Fault { fault }).collect());
        }
        let weak = Rc::downgrade(&inner);
        on_global("online", move || {
            if let Some(seat) = weak.upgrade().and_then(|inner| inner.seat.borrow().clone()) {
                seat.renew();
            }
        });
        Self(inner)
    }

    /// The document during whose reading the module died: to be set aside. It may be asked even then.
    #[wasm_bindgen(js_name = atWork)]
    pub fn at_work() -> Option<String> {
        seat::at_work().map(|document| document.to_string())
    }

    /// What a page starts from.
    pub fn opening(&self) -> JsValue {
        to_js(&self.0.screen.borrow().opening())
    }

    /// A page looks at a session: the patches that show all of it. Patches of it are published from now on.
    pub fn watch(&self, session: &str) -> JsValue {
        let Ok(session) = session.parse::<DocumentId>() else { return Array::new().into() };
        let seat = self.0.seat.borrow().clone();
        match seat {
            Some(seat) => to_js(&seat.watch(session)),
            None => {
                self.0.screen.borrow_mut().watch(session);
                Array::new().into()
            }
        }
    }

    /// No page looks at it any longer.
    pub fn unwatch(&self, session: &str) {
        if let Ok(session) = session.parse() {
            self.0.screen.borrow_mut().unwatch(session);
        }
    }

    /// Everything else that a page can ask: a promise of the result, rejected with a fault.
    pub fn call(&self, name: String, args: JsValue) -> Promise {
        let inner = self.0.clone();
        future_to_promise(async move { inner.call(&name, args).await.map_err(|fault| to_js(&fault)) })
    }
}

impl Inner {
    async fn call(self: &Rc<Self>, name: &str, args: JsValue) -> Result<JsValue, Fault> {
        match name {
            "identity" => Ok(to_js(&self.seat.borrow().as_ref().and_then(|seat| seat.identity()))),
            "sign-in" => self.sign_in(from_js(args)?).await,
            "sign-out" => self.sign_out(from_js(args)?).await,
            "session.create" => {
                let id = self.seat()?.create(from_js::<NewSession>(args)?).await?;
                Ok(to_js(&Created { id }))
            }
            "session.do" => {
                let Do { session, command } = from_js(args)?;
                Ok(to_js(&self.seat()?.command(session, command).await?))
            }
            "session.copy" => {
                let OfSession { session } = from_js(args)?;
                let id = self.seat()?.save_as_copy(session).await?;
                Ok(to_js(&Created { id }))
            }
            "session.discard" => {
                let OfSession { session } = from_js(args)?;
                self.seat()?.discard_refused(session).await?;
                Ok(JsValue::NULL)
            }
            "session.let-go" => {
                let LetGo { id } = from_js(args)?;
                self.seat()?.let_go(&id).await;
                Ok(JsValue::NULL)
            }
            "blob.put" => {
                let bytes = args.dyn_into::<Uint8Array>();
                let bytes = bytes.map_err(|_| Fault::new("bad-command", "a file is given as its bytes"))?;
                let id = self.seat()?.put_blob(bytes.to_vec()).await?;
                Ok(to_js(&Blob { id }))
            }
            "blob.get" => {
                let Blob { id } = from_js(args)?;
                let bytes = self.seat()?.get_blob(id).await?;
                Ok(bytes.map_or(JsValue::NULL, |bytes| Uint8Array::from(&*bytes).into()))
            }
            "sync.retry" => {
                if let Some(seat) = &*self.seat.borrow() {
                    seat.retry();
                }
                Ok(JsValue::NULL)
            }
            _ => Err(Fault::new("version", ["there is no command ", name].concat())),
        }
    }

    fn seat(&self) -> Result<Rc<Seat>, Fault> {
        self.seat.borrow().clone().ok_or_else(|| Fault::new("wrong-token", "this device is not signed in"))
    }

    async fn sign_in(self: &Rc<Self>, args: SignIn) -> Result<JsValue, Fault> {
        let turn = self.signing.get() + 1;
        self.signing.set(turn);
        let (account, welcome) = sign_in(args).await?;
        if self.signing.get() != turn {
            return Err(Fault::new("refused", "another sign-in was begun after this one"));
        }
        if let Some(accounts) = &self.accounts {
            accounts.write(Some(&account)).await?;
        }
        self.rise();
        let seat = self.sit(account, Some(welcome)).await;
        Ok(to_js(&seat.identity()))
    }

    async fn sign_out(self: &Rc<Self>, SignOut { forget }: SignOut) -> Result<JsValue, Fault> {
        self.signing.set(self.signing.get() + 1);
        let workspace = self.seat.borrow().as_ref().map(|seat| seat.account().workspace);
        if let Some(accounts) = &self.accounts {
            accounts.write(None).await?;
        }
        self.rise();
        if let Some(workspace) = workspace.filter(|_| forget) {
            Store::delete(workspace).await?;
        }
        Ok(JsValue::NULL)
    }

    async fn sit(self: &Rc<Self>, account: Account, welcome: Option<Welcome>) -> Rc<Seat> {
        let aside = match &self.accounts {
            Some(accounts) => accounts.aside().await.unwrap_or_default(),
            None => Vec::new(),
        };
        let seat = Seat::take(account, welcome, aside, self.screen.clone(), self.publish.clone()).await;
        *self.seat.borrow_mut() = Some(seat.clone());
        seat
    }

    /// Leaves the seat, if one is taken; pages are told.
    fn rise(&self) {
        if let Some(seat) = self.seat.take() {
            seat.leave();
        }
        let patches = self.screen.borrow_mut().reset();
        (self.publish)(patches);
    }
}

/// Rows as plain objects: maps as objects, `None` as `null`, numbers as numbers.
fn to_js<T: Serialize>(value: &T) -> JsValue {
    value.serialize(&serde_wasm_bindgen::Serializer::json_compatible()).expect("plain rows always serialise")
}

fn from_js<T: for<'de> Deserialize<'de>>(value: JsValue) -> Result<T, Fault> {
    serde_wasm_bindgen::from_value(value).map_err(|error| Fault::new("bad-command", error.to_string()))
}
