//! IndexedDB, as little of it as the store needs: named object stores of bytes under keys, read whole or by range, and
//! written in one transaction that is durable when the call returns.

use js_sys::{Array, Function, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{IdbDatabase, IdbFactory, IdbKeyRange, IdbObjectStore, IdbOpenDbRequest, IdbRequest, IdbTransaction};

use crate::browser::text_of;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(thread_local_v2, js_name = indexedDB)]
    static INDEXED_DB: Option<IdbFactory>;

    /// `IDBDatabase` with the third argument of `transaction`, which web-sys calls unstable.
    #[wasm_bindgen(extends = IdbDatabase)]
    type DurableDatabase;

    #[wasm_bindgen(method, catch, js_name = transaction)]
    fn transaction_with_options(
        this: &DurableDatabase,
        stores: &JsValue,
        mode: &str,
        options: &Object,
    ) -> Result<IdbTransaction, JsValue>;
}

/// Why the browser's storage could not do it, in its own words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct DatabaseError(pub String);

impl From<JsValue> for DatabaseError {
    fn from(error: JsValue) -> Self {
        Self(text_of(&error))
    }
}

/// What a power cut may take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: written through to the disk.
    Strict,
    /// The last moments, which the relay has.
    Relaxed,
}

/// One write of a transaction.
pub enum Write {
    /// Replaces what is there.
    Put {
        /// In which object store.
        store: &'static str,
        /// Under which key.
        key: JsValue,
        /// What.
        value: Vec<u8>,
    },
    /// Leaves what is there.
    Add {
        /// In which object store.
        store: &'static str,
        /// Under which key.
        key: JsValue,
        /// What.
        value: Vec<u8>,
    },
    /// Removes it.
    Delete {
        /// From which object store.
        store: &'static str,
        /// Under which key.
        key: JsValue,
    },
}

/// An open database.
pub struct Database {
    inner: IdbDatabase,
    /// Keeps an `add` of what is there already from ending its transaction.
    forgive: Closure<dyn FnMut(web_sys::Event)>,
    /// Lets a newer build, or a deletion, have the database.
    _yield: Closure<dyn FnMut()>,
}

impl Database {
    /// Opens a database with these object stores. `version` grows with every one that is added.
    pub async fn open(name: &str, version: u32, stores: &'static [&'static str]) -> Result<Self, DatabaseError> {
        let request = factory()?.open_with_u32(name, version)?;
        let target = request.clone();
        let upgrade = Closure::once(move || {
            if let Ok(database) = target.result().map(IdbDatabase::unchecked_from_js) {
                for store in stores {
                    // It can only fail if the store is there, and then there is nothing to do.
                    let _ = database.create_object_store(store);
                }
            }
        });
        request.set_onupgradeneeded(Some(upgrade.as_ref().unchecked_ref()));
        let inner: IdbDatabase = opened(&request).await?.unchecked_into();
        let closing = inner.clone();
        let yielding = Closure::<dyn FnMut()>::new(move || closing.close());
        inner.set_onversionchange(Some(yielding.as_ref().unchecked_ref()));
        let forgive = Closure::new(|event: web_sys::Event| {
            event.prevent_default();
            event.stop_propagation();
        });
        Ok(Self { inner, forgive, _yield: yielding })
    }

    /// Deletes a whole database.
    pub async fn delete(name: &str) -> Result<(), DatabaseError> {
        opened(&factory()?.delete_database(name)?).await.map(drop)
    }

    /// The value under a key.
    pub async fn get(&self, store: &'static str, key: &JsValue) -> Result<Option<Vec<u8>>, DatabaseError> {
        let value = settled(&self.reading(store)?.get(key)?).await?;
        Ok((!value.is_undefined()).then(|| bytes(&value)))
    }

    /// The values under all keys of the range, in the order of the keys.
    pub async fn all(&self, store: &'static str, range: Option<&IdbKeyRange>) -> Result<Vec<Vec<u8>>, DatabaseError> {
        let store = self.reading(store)?;
        let request = match range {
            Some(range) => store.get_all_with_key(range)?,
            None => store.get_all()?,
        };
        Ok(Array::from(&settled(&request).await?).iter().map(|value| bytes(&value)).collect())
    }

    /// All keys that are texts.
    pub async fn keys(&self, store: &'static str) -> Result<Vec<String>, DatabaseError> {
        let keys = settled(&self.reading(store)?.get_all_keys()?).await?;
        Ok(Array::from(&keys).iter().filter_map(|key| key.as_string()).collect())
    }

    /// Writes all of it or nothing. Durable on return, as `durability` says.
    pub async fn write(&self, writes: Vec<Write>, durability: Durability) -> Result<(), DatabaseError> {
        let names = Array::new();
        for write in &writes {
            let (Write::Put { store, .. } | Write::Add { store, .. } | Write::Delete { store, .. }) = write;
            let name = JsValue::from_str(store);
            if !names.includes(&name, 0) {
                names.push(&name);
            }
        }
        if names.length() == 0 {
            return Ok(());
        }
        let options = Object::new();
        let word = if durability == Durability::Strict { "strict" } else { "relaxed" };
        Reflect::set(&options, &"durability".into(), &word.into())?;
        let transaction =
            self.inner.unchecked_ref::<DurableDatabase>().transaction_with_options(&names, "readwrite", &options)?;
        for write in writes {
            match write {
                Write::Put { store, key, value } => {
                    transaction.object_store(store)?.put_with_key(&Uint8Array::from(value.as_slice()), &key)?;
                }
                Write::Add { store, key, value } => {
                    let add =
                        transaction.object_store(store)?.add_with_key(&Uint8Array::from(value.as_slice()), &key)?;
                    add.set_onerror(Some(self.forgive.as_ref().unchecked_ref()));
                }
                Write::Delete { store, key } => {
                    transaction.object_store(store)?.delete(&key)?;
                }
            }
        }
        committed(&transaction).await
    }

    fn reading(&self, store: &str) -> Result<IdbObjectStore, DatabaseError> {
        Ok(self.inner.transaction_with_str(store)?.object_store(store)?)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.inner.set_onversionchange(None);
        self.inner.close();
    }
}

/// All keys that begin with this one, of two parts.
pub fn under(first: &str) -> Result<IdbKeyRange, DatabaseError> {
    // In the order of keys an array stands after every text.
    let low = Array::of1(&first.into());
    let high = Array::of2(&first.into(), &Array::new());
    Ok(IdbKeyRange::bound(&low, &high)?)
}

fn factory() -> Result<IdbFactory, DatabaseError> {
    INDEXED_DB.with(Clone::clone).ok_or_else(|| DatabaseError("this browser has no IndexedDB".to_owned()))
}

fn bytes(value: &JsValue) -> Vec<u8> {
    value.dyn_ref::<Uint8Array>().map(Uint8Array::to_vec).unwrap_or_default()
}

/// A promise whose ends are given to `bind`.
async fn promised(bind: impl Fn(&Function, &Function)) -> Result<(), JsValue> {
    JsFuture::from(Promise::new(&mut |resolve, reject| bind(&resolve, &reject))).await.map(drop)
}

async fn settled(request: &IdbRequest) -> Result<JsValue, DatabaseError> {
    let outcome = promised(|resolve, reject| {
        request.set_onsuccess(Some(resolve));
        request.set_onerror(Some(reject));
    });
    match outcome.await {
        Ok(()) => Ok(request.result()?),
        Err(_) => Err(request.error().ok().flatten().map_or_else(unknown, |error| JsValue::from(error).into())),
    }
}

async fn opened(request: &IdbOpenDbRequest) -> Result<JsValue, DatabaseError> {
    settled(request).await
}

async fn committed(transaction: &IdbTransaction) -> Result<(), DatabaseError> {
    let outcome = promised(|resolve, reject| {
        transaction.set_oncomplete(Some(resolve));
        transaction.set_onabort(Some(reject));
    });
    outcome.await.map_err(|_| transaction.error().map_or_else(unknown, |error| JsValue::from(error).into()))
}

fn unknown() -> DatabaseError {
    DatabaseError("the browser gave no reason".to_owned())
}
