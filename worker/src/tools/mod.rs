//! Tools that a model may call: what one is, and the set that a run may use.
//!
//! In order of reading: [`Tool`] and [`Toolbox`] below, [`output`] (what a call under way has given so far), [`registry`]
//! (what this worker has, and what of it a run gets), [`demo`] (tools of the demo model, which do nothing).
//!
//! Invariant: a tool is run only after the document says that it runs; it stops when its future is dropped, with
//! everything that it started.

pub mod address;
pub mod core;
pub mod demo;
pub mod fetch;
pub mod files;
pub mod folder;
pub mod html;
pub mod input;
pub mod list;
pub mod output;
pub mod plan;
pub mod read;
pub mod registry;
#[cfg(target_os = "linux")]
pub mod run;
#[cfg(target_os = "linux")]
pub mod sandbox;
pub mod search;
pub mod write;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use skein_engine::workspace::integration::Policy;

pub use self::output::Output;
use crate::providers::prompt::{Image, ToolDefinition};

/// What a call gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What the model reads. May be empty.
    pub content: String,
    /// A failure.
    pub is_error: bool,
    /// Pictures among what it gave.
    pub images: Vec<Image>,
}

impl Outcome {
    /// A success, in words for the model.
    pub fn ok(content: impl Into<String>) -> Self {
        Self { content: content.into(), ..Self::default() }
    }

    /// A failure, in words for the model.
    pub fn error(content: impl Into<String>) -> Self {
        Self { content: content.into(), is_error: true, ..Self::default() }
    }
}

/// A call under way. Dropping it stops it, with everything that it started.
pub type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// Something that a model may call.
pub trait Tool: Send + Sync {
    /// Its name, what it does, and the schema of its input.
    fn definition(&self) -> ToolDefinition;

    /// The operator's floor: documents may only tighten it.
    fn policy(&self) -> Policy;

    /// The floor for this very input, where it depends on that.
    fn policy_for(&self, _input: &str) -> Policy {
        self.policy()
    }

    /// Whether it changes nothing anywhere, so that calls of one answer may run side by side.
    fn is_read_only(&self) -> bool {
        false
    }

    /// Runs it. `input` is JSON text as the model wrote it, not checked against the schema. What it says to `output`
    /// while it runs is shown, and kept if it is stopped.
    fn run<'a>(&'a self, input: &'a str, output: &'a Output) -> Running<'a>;
}

/// A set of tools, in the order in which they are offered, each with what the workspace says of it for this run.
#[derive(Clone, Default)]
pub struct Toolbox(Vec<(Arc<dyn Tool>, Option<Policy>)>);

impl std::fmt::Debug for Toolbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(tool, policy)| (tool.definition().name, policy))).finish()
    }
}

impl Toolbox {
    /// Adds a tool. What is stricter counts: its own policy, or this one. Of two with one name the first stays.
    pub fn add(&mut self, tool: Arc<dyn Tool>, policy: Option<Policy>) {
        if self.get(&tool.definition().name).is_none() {
            self.0.push((tool, policy));
        }
    }

    /// As models see them.
    pub fn definitions(&self) -> Vec<ToolDefinition> {
        self.0.iter().map(|(tool, _)| tool.definition()).collect()
    }

    /// The tool of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.0.iter().map(|(tool, _)| tool).find(|tool| tool.definition().name == name)
    }

    /// Whether a call of it with this input runs, asks or is refused. `None`: there is no such tool.
    pub fn policy(&self, name: &str, input: &str) -> Option<Policy> {
        let (tool, policy) = self.0.iter().find(|(tool, _)| tool.definition().name == name)?;
        let floor = tool.policy_for(input);
        Some(policy.map_or(floor, |policy| policy.max(floor)))
    }
}
