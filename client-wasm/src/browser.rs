//! The few globals that exist alike in a page, a worker and a shared worker: clock, timers, `fetch`.

use std::cell::RefCell;

use js_sys::{Array, Function, Object, Promise, Reflect, Uint8Array};
use skein_engine::ids::Timestamp;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::Response;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = fetch)]
    fn js_fetch(url: &str, options: &Object) -> Promise;

    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(run: &Function, ms: f64) -> JsValue;

    #[wasm_bindgen(js_name = clearTimeout)]
    fn clear_timeout(timer: &JsValue);

    #[wasm_bindgen(js_name = addEventListener)]
    fn add_event_listener(event: &str, run: &Function);

    #[wasm_bindgen(js_namespace = AbortSignal, js_name = timeout)]
    fn abort_after(ms: f64) -> JsValue;
}

/// This device's clock.
pub fn now() -> Timestamp {
    Timestamp(js_sys::Date::now() as u64)
}

/// A call that is due later, unless this is dropped before.
pub struct Timeout {
    id: JsValue,
    _run: Closure<dyn FnMut()>,
}

impl Timeout {
    /// Calls `run` in `ms` milliseconds.
    pub fn new(ms: u64, run: impl FnOnce() + 'static) -> Self {
        let run = Closure::once(run);
        // Above 2^31 ms a browser calls at once.
        let id = set_timeout(run.as_ref().unchecked_ref(), ms.min(86_400_000) as f64);
        Self { id, _run: run }
    }
}

impl Drop for Timeout {
    fn drop(&mut self) {
        clear_timeout(&self.id);
    }
}

/// Ends `ms` milliseconds from now.
pub async fn sleep(ms: u64) {
    let timer = RefCell::new(None);
    let promise = Promise::new(&mut |resolve, _| {
        *timer.borrow_mut() = Some(Timeout::new(ms, move || {
            let _ = resolve.call0(&JsValue::NULL);
        }));
    });
    let _ = JsFuture::from(promise).await;
}

/// Calls `run` whenever the global scope hears of `event`, for as long as it lives.
pub fn on_global(event: &str, run: impl FnMut() + 'static) {
    let run = Closure::<dyn FnMut()>::new(run).into_js_value();
    add_event_listener(event, run.unchecked_ref());
}

/// What a server answered.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body; `undefined` if it is none.
    pub body: JsValue,
}

/// Asks over HTTP, without cookies and cache. The error is what the browser says when nobody answers within 10 s.
pub async fn fetch(method: &str, url: &str, token: Option<&str>, body: Option<&str>) -> Result<Answer, String> {
    let options = Object::new();
    let set = |key: &str, value: &JsValue| {
        Reflect::set(&options, &JsValue::from_str(key), value).expect("a fresh object takes every key");
    };
    set("method", &method.into());
    set("cache", &"no-store".into());
    set("credentials", &"omit".into());
    set("signal", &abort_after(10_000.0));
    let headers = Array::new();
    let header = |name: &str, value: &str| {
        headers.push(&Array::of2(&name.into(), &value.into()));
    };
    if let Some(token) = token {
        header("Authorization", &["Bearer ", token].concat());
    }
    if let Some(body) = body {
        header("Content-Type", "application/json");
        set("body", &body.into());
    }
    set("headers", &headers);

    let response: Response =
        JsFuture::from(js_fetch(url, &options)).await.map_err(|error| text_of(&error))?.unchecked_into();
    let body = match response.json() {
        Ok(json) => JsFuture::from(json).await.unwrap_or(JsValue::UNDEFINED),
        Err(_) => JsValue::UNDEFINED,
    };
    Ok(Answer { status: response.status(), body })
}

/// What a server answered to a request of bytes.
pub struct Bytes {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Asks for bytes, or gives some. The error is what the browser says when nobody answers in a time that leaves a second
/// for each 64 KiB.
pub async fn fetch_bytes(method: &str, url: &str, token: &str, body: Option<&[u8]>) -> Result<Bytes, String> {
    const ANSWER_MS: f64 = 20_000.0;
    const LARGEST_MS: f64 = 1_024_000.0;
    let options = Object::new();
    let set = |key: &str, value: &JsValue| {
        Reflect::set(&options, &JsValue::from_str(key), value).expect("a fresh object takes every key");
    };
    let bytes_ms = match (method, body) {
        ("GET", _) => LARGEST_MS,
        (_, body) => body.map_or(0, <[u8]>::len) as f64 / 64.0,
    };
    set("method", &method.into());
    set("credentials", &"omit".into());
    set("signal", &abort_after(ANSWER_MS + bytes_ms));
    set("headers", &Array::of1(&Array::of2(&"Authorization".into(), &["Bearer ", token].concat().into())));
    if let Some(body) = body {
        set("body", &Uint8Array::from(body));
    }
    let failed = |error: JsValue| text_of(&error);
    let response: Response = JsFuture::from(js_fetch(url, &options)).await.map_err(failed)?.unchecked_into();
    let body = JsFuture::from(response.array_buffer().map_err(failed)?).await.map_err(failed)?;
    Ok(Bytes { status: response.status(), body: Uint8Array::new(&body).to_vec() })
}

/// JSON text of a flat object of strings.
pub fn json(fields: &[(&str, &str)]) -> String {
    let object = Object::new();
    for (key, value) in fields {
        Reflect::set(&object, &JsValue::from_str(key), &JsValue::from_str(value))
            .expect("a fresh object takes every key");
    }
    js_sys::JSON::stringify(&object).map(String::from).unwrap_or_default()
}

/// What an exception says of itself.
pub fn text_of(error: &JsValue) -> String {
    let part = |key: &str| Reflect::get(error, &key.into()).ok().and_then(|value| value.as_string());
    match (part("name"), part("message")) {
        (Some(name), Some(message)) => [name, message].join(": "),
        _ => error.as_string().unwrap_or_else(|| "unknown error".to_owned()),
    }
}
