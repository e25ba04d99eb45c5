//! Integrations: tools of MCP servers that the operator's `skein.toml` names, through the official SDK.
//!
//! In order of reading: [`config`] (what the operator writes), [`names`] (a server's tool ↔ a name that every provider
//! takes), [`server`] (one connection, kept up), [`call`] (one call), [`result`] (what it gave). Here: all of them, and
//! what of them a run gets.
//!
//! Invariant: documents know an integration by its name only; address, program and secrets stay here, and so does the
//! floor of what may run without asking.

pub mod call;
pub mod config;
pub mod names;
mod result;
pub mod server;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skein_engine::wire::catalog::{Health, OfferedIntegration};
use skein_engine::workspace::integration::Policy;
use skein_engine::workspace::{Agent, Workspace};
use tokio::task::AbortHandle;

use self::call::McpTool;
use self::config::Integration;
use self::server::Server;
use crate::tools::Toolbox;

/// How long a run waits for a server that is being started.
const STARTING: Duration = Duration::from_secs(8);

/// All of this worker. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Integrations(Arc<All>);

#[derive(Debug, Default)]
struct All {
    servers: BTreeMap<String, Arc<Server>>,
    /// What keeps them up.
    kept: Mutex<Vec<AbortHandle>>,
}

impl Drop for All {
    fn drop(&mut self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(AbortHandle::abort);
    }
}

impl Integrations {
    /// Those that the operator names. Nothing is started yet.
    pub fn new(configured: &[Integration]) -> Self {
        let servers = configured.iter().map(|one| (one.name.clone(), Arc::new(Server::new(one.clone())))).collect();
        Self(Arc::new(All { servers, kept: Mutex::default() }))
    }

    /// Starts them all, in the background, and keeps them up until the worker ends.
    pub fn start(&self) {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).extend(self.0.servers.values().map(Server::start));
    }

    /// As the relay is told.
    pub fn offered(&self) -> BTreeMap<String, OfferedIntegration> {
        let offered = self.0.servers.iter().map(|(name, server)| {
            let state = server.state();
            let policy = server.config().tools.iter().map(|(tool, policy)| (tool.clone(), policy.word().to_owned()));
            let tools = state.tools.iter().map(|tool| tool.name.clone()).collect();
            (name.clone(), OfferedIntegration { tools, policy: policy.collect(), health: state.health })
        });
        offered.collect()
    }

    /// Waits for the servers of an agent that are being started.
    pub async fn ready(&self, agent: &Agent, workspace: &Workspace) {
        let starting = self.of(agent, workspace).map(|(_, server)| async move {
            let mut states = server.watch();
            let up = states.wait_for(|state| state.health != Health::Starting);
            // One that takes longer is offered in a later run.
            let _ = tokio::time::timeout(STARTING, up).await;
        });
        futures_util::future::join_all(starting).await;
    }

    /// Adds the tools of an agent's integrations, each with the workspace's policy. What a server had when it went down
    /// stays offered, and says so when it is called: a model's request holds still meanwhile.
    pub fn add_to(&self, tools: &mut Toolbox, agent: &Agent, workspace: &Workspace) {
        for (name, server) in self.of(agent, workspace) {
            let said = workspace.integrations.get(name);
            for tool in &server.state().tools {
                let policy = said.and_then(|said| said.policy_of(&tool.name));
                let floor = server.config().policy_of(&tool.name);
                // What is never allowed needs no place in a request.
                if floor.max(policy.unwrap_or(Policy::Allow)) != Policy::Deny {
                    tools.add(Arc::new(McpTool::new(server.clone(), tool.clone(), floor)), policy);
                }
            }
        }
    }

    /// Those that an agent lists and the workspace hasn't switched off.
    fn of<'a>(
        &'a self,
        agent: &'a Agent,
        workspace: &'a Workspace,
    ) -> impl Iterator<Item = (&'a String, &'a Arc<Server>)> {
        self.0.servers.iter().filter(|(name, _)| {
            let listed = agent.integrations.iter().any(|listed| listed == *name || listed == "*");
            listed && workspace.integrations.get(*name).is_none_or(|said| said.enabled)
        })
    }
}
