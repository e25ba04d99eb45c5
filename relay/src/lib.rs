//! The relay: where devices and workers meet. It keeps every change of its workspaces, passes it on, lists their
//! documents, grants workers their leases, and serves the web client. It never calls a model, and but for one module it
//! never reads a document.
//!
//! In order of reading: [`relay`] starts and stops it all; [`server`] accepts, with [`tls`] if so configured, [`http`]
//! routes behind [`guard`];
//! [`socket`] turns a WebSocket into a [`connection`] of one of two tasks, [`hub`] (`/sync`) or [`catalog`]
//! (`/catalog`, with the rules of [`lease`]); [`commit`] makes durable what the hub wants stored, in [`store`]; the
//! [`projector`] derives the catalog's rows. Beside them: [`admin`], [`accounts`], [`blobs`], [`sessions`], [`web`].
//!
//! ```text
//! socket ─▶ connection ─▶ hub ──▶ commit ──▶ store
//!    ▲          ▲          ▲        │ durable
//!    └ outgoing ┴──────────┴────────┼─▶ projector ─▶ catalog ─▶ outgoing
//! ```
//!
//! Invariant: outside the projector nothing looks into a change beyond its header, and nothing is acknowledged, listed
//! or forwarded before it is durable.

mod accounts;
pub mod admin;
mod archive;
mod blobs;
mod bucket;
mod catalog;
mod clock;
mod commit;
mod config;
mod connection;
mod durable;
mod founding;
mod guard;
mod http;
mod hub;
mod lease;
mod outgoing;
mod projector;
pub mod queries;
mod relay;
mod server;
mod sessions;
mod socket;
mod store;
mod tls;
mod web;

pub use config::{RelayConfig, RelayError, TlsFiles};
pub use lease::TTL_MS as LEASE_MS;
pub use relay::{Relay, start};
pub use store::StoreError;
