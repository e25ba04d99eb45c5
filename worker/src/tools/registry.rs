//! What this worker has: what it offers to the relay, and the tools that a run of an agent gets.

use std::collections::BTreeMap;

use skein_engine::ids::DocumentId;
use skein_engine::wire::catalog::OfferedIntegration;
use skein_engine::workspace::{Agent, Workspace};

use super::core::Core;
use super::{Toolbox, demo};
use crate::config::{Model, Settings};
use crate::integrations::Integrations;
use crate::providers::Kind;

/// See the module. Shared by all sessions.
#[derive(Debug, Default)]
pub struct Registry {
    /// Whether the demo model is the default.
    demo: bool,
    /// Tools of this machine.
    core: Core,
    /// Tools of MCP servers.
    integrations: Integrations,
}

/// For whom a toolbox is.
#[derive(Clone, Copy, Debug)]
pub struct For<'a> {
    /// Where.
    pub session: DocumentId,
    /// Whose instructions are followed.
    pub agent: &'a Agent,
    /// What members have said of integrations.
    pub workspace: &'a Workspace,
    /// The workspace's document, once it is known.
    pub workspace_id: Option<DocumentId>,
    /// Which model will call them.
    pub model: &'a Model,
}

impl Registry {
    /// What the operator allows.
    pub fn new(settings: &Settings) -> Self {
        Self {
            demo: settings.is_demo(&settings.worker.model),
            core: Core::new(settings),
            integrations: Integrations::new(&settings.integration),
        }
    }

    /// Core tools that are on in a workspace, by name.
    pub fn offered_tools(&self, workspace: &Workspace, id: Option<DocumentId>) -> Vec<String> {
        let demo = if self.demo { demo::toolbox().definitions() } else { Vec::new() };
        demo.into_iter().map(|tool| tool.name).chain(self.core.on(workspace, id).map(str::to_owned)).collect()
    }

    /// Integrations, by the operator's name.
    pub fn offered_integrations(&self) -> BTreeMap<String, OfferedIntegration> {
        self.integrations.offered()
    }

    /// Starts the integrations, in the background.
    pub fn start(&self) {
        self.integrations.start();
    }

    /// Waits a moment for integrations of an agent that are being started.
    pub async fn ready(&self, agent: &Agent, workspace: &Workspace) {
        self.integrations.ready(agent, workspace).await;
    }

    /// Removes what tools have kept of sessions that were purged.
    pub fn sweep(&self, is_purged: impl Fn(DocumentId) -> bool) {
        self.core.folders().sweep(is_purged);
    }

    /// The tools of a run: those that the agent lists and the operator allows.
    pub fn toolbox(&self, run: For<'_>) -> Toolbox {
        if run.model.endpoint.kind == Kind::Demo {
            return demo::toolbox();
        }
        let mut tools = Toolbox::default();
        self.core.add_to(&mut tools, &run);
        self.integrations.add_to(&mut tools, run.agent, run.workspace);
        tools
    }
}
