//! The figures of the session model, measured in this very module: what `cargo xtask bench model` runs in a browser.
//! Behind the feature `bench`; what ships hasn't got it.

use js_sys::Function;
use serde::Serialize;
use skein_model_bench::{Platform, measure};
use wasm_bindgen::prelude::*;

#[derive(Serialize)]
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    low: Option<f64>,
    high: Option<f64>,
    target: Option<f64>,
}

/// Measures everything. `clock` gives milliseconds. Rows as plain objects.
#[wasm_bindgen(js_name = measureModel)]
pub fn measure_model(clock: &Function) -> JsValue {
    let clock = || clock.call0(&JsValue::NULL).ok().and_then(|time| time.as_f64()).unwrap_or_default();
    let rows: Vec<Row> = measure(Platform::Wasm, &clock)
        .into_iter()
        .map(|figure| Row {
            name: figure.name,
            value: figure.value,
            unit: figure.unit,
            low: figure.spread.map(|(low, _)| low),
            high: figure.spread.map(|(_, high)| high),
            target: figure.target,
        })
        .collect();
    crate::to_js(&rows)
}
