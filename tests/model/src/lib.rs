//! The figures of the session model: what is measured, and on which sessions. One source for both builds: natively it
//! is called by `cargo xtask bench model`, in a browser by a module of `client-wasm` that isn't shipped.

pub mod prose;
pub mod sessions;
