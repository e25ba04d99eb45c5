//! The agent worker of Skein: a replica that claims turns, calls models and tools, and appends what streams back.
//!
//! In order of reading: [`providers`] (models, as pure functions and one transport), [`config`] and [`price`] (what the
//! operator says), [`tools`], [`overlap`] and [`title`].
//!
//! Invariant: a worker holds nothing that a crash would lose; what it knows stands in the document or is asked again.

pub mod config;
pub mod overlap;
pub mod price;
pub mod providers;
pub mod title;
pub mod tools;
