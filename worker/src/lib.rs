//! The agent worker of Skein: a replica that claims turns, calls models and tools, and appends what streams back.
//!
//! In order of reading: [`node`] (follows the catalog), [`attend`] (one session: work, claim, begin), [`turn`] (asks the
//! model, runs its calls) with [`page`] (what it writes), [`signals`] (what ends it), [`lease`], [`spending`] and [`limit`],
//! [`naming`]; [`history`] (conversation → prompt, with its [`files`]) after a [`preamble`] and [`providers`] (models, as pure functions and one transport);
//! [`config`] and [`prices`] (what the operator says), [`tools`], [`large`], [`overlap`], [`integrations`] (tools of MCP servers), [`title`], [`tasks`] (what fires them), and [`link`] (the relay).
//!
//! Invariant: a worker holds nothing that a crash would lose; what it knows stands in the document or is asked again.

pub mod attend;
pub mod config;
pub mod day;
pub mod files;
pub mod history;
pub mod integrations;
pub mod large;
pub mod lease;
pub mod limit;
pub mod link;
pub mod naming;
pub mod node;
pub mod overlap;
pub mod page;
pub mod preamble;
pub mod prices;
pub mod providers;
pub mod signals;
pub mod spending;
pub mod tasks;
pub mod title;
pub mod tools;
pub mod turn;

pub use config::Settings;
pub use node::{WorkerConfig, WorkerError, run};
