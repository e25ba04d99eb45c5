//! The figures of the session model: what is measured, and on which sessions. One source for both builds: natively it is
//! called by `cargo xtask bench model`, in a browser by a module of `client-wasm` that isn't shipped.
//!
//! In order of reading: [`figures`] (what is measured, and how), [`sessions`] (the sessions it is measured on), [`prose`]
//! (what they say).

pub mod figures;
pub mod prose;
pub mod sessions;

pub use figures::{Figure, Platform, measure};
