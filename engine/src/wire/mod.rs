//! What goes over the wire: [`frame`] (automerge-repo's protocol, path `/sync`), [`ephemeral`] (the payloads that
//! viewers and workers pass through it), [`catalog`] (path `/catalog`), all in CBOR through [`cbor`], the one place
//! that bounds what is decoded; [`packed`] compresses.

pub mod catalog;
pub mod cbor;
mod columns;
pub mod ephemeral;
pub mod frame;
pub mod packed;
